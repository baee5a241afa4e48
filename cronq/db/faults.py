"""Trouble with Redis, said in one line each way and waited out."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable

from redis import Redis
from redis import exceptions as redis_errors
from redis.exceptions import RedisError, ResponseError

from cronq.clock import boot_s, rest
from cronq.db.client import leave_replica, refusal_code
from cronq.errors import KeyBroken
from cronq.timetext import format_duration

#: Pauses between tries, the first and the longest.
BACKOFF_S = (0.1, 2.0)
_GENERAL = (
    redis_errors.OutOfMemoryError, redis_errors.ReadOnlyError, redis_errors.NoPermissionError,
    redis_errors.ClusterDownError,
)  # fmt: skip
#: The same as words, also where a server reports them from within a script.
_GENERAL_CODES = ("OOM", "READONLY", "NOPERM", "CLUSTERDOWN", "MISCONF", "BUSY", "NOREPLICAS")


class Outage:
    """Whether Redis answers, as one process sees it; *meanwhile* is what the first line of trouble ends with.

    When the server turns out to be a replica, *client* connects anew: it may be one that does not do so by itself.
    """

    def __init__(self, log: logging.Logger, client: Redis | None = None, meanwhile: str = "going on trying") -> None:
        self._log = log
        self._client = client
        self._meanwhile = meanwhile
        self._kinds: set[str] = set()
        self._since = 0.0

    def noticed(self, error: Exception) -> None:
        """Redis did not answer, or refused; each kind of trouble is logged once until it is `over`."""
        if self._client is not None:
            leave_replica(self._client, error)
        what, kind = f"{type(error).__name__}: {error}", _kind_of(error)
        if not self._kinds:
            self._since = boot_s()
            self._log.error("TROUBLE Redis: %s; %s", what, self._meanwhile)
        elif kind not in self._kinds:
            self._log.error("TROUBLE Redis: %s", what)
        self._kinds.add(kind)

    def over(self) -> None:
        """Redis answered; logged when it had not."""
        if self._kinds:
            self._log.warning("RECOVERED Redis answers again after %s", format_duration(boot_s() - self._since))
            self._kinds.clear()

    def ride_out(self, work: Callable[[], object], stop: threading.Event) -> None:
        """Do *work* as soon as Redis lets it, unless *stop* is set meanwhile."""
        pause_s = BACKOFF_S[0]
        while not stop.is_set():
            try:
                work()
                self.over()
                return
            except (RedisError, OSError) as error:
                self.noticed(error)
                rest(pause_s, stop)
                pause_s = min(pause_s * 2, BACKOFF_S[1])


#: How our scripts name a key of a wrong type, and the type it should have.
_WRONG_TYPE = re.compile(r"WRONGTYPE (\S+) is not an? (\w+)")


def broken_key(error: Exception) -> KeyBroken | None:
    """The key that a script refused because of its type; None for any other trouble."""
    found = _WRONG_TYPE.match(str(error)) if isinstance(error, ResponseError) else None
    return None if found is None else KeyBroken(found[1], found[2])


def is_general(error: Exception) -> bool:
    """Whether Redis would refuse anything just now: not the fault of one command."""
    if not isinstance(error, ResponseError):
        return True
    return isinstance(error, _GENERAL) or refusal_code(error) in _GENERAL_CODES


def refuses_all(error: Exception) -> bool:
    """Return True if the primary is there and takes no write of anybody: it is full, or cannot save.

    READONLY, BUSY and NOREPLICAS are none of it: elsewhere there may be a new primary by now.
    """
    return isinstance(error, redis_errors.OutOfMemoryError) or refusal_code(error) in ("OOM", "MISCONF")


def _kind_of(error: Exception) -> str:
    """What kind of trouble it is: a Redis that is away shows in many ways, a closed connection, a time-out…"""
    is_away = isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError | OSError)
    if is_away and not isinstance(error, redis_errors.AuthenticationError):
        return "away"
    if type(error) is not ResponseError:
        return type(error).__name__  # the same trouble, though a pipeline puts its command before the words
    return f"{type(error).__name__} {str(error).split(' ', 1)[0]}"
