"""Trouble with Redis: what an error means, told by one set of predicates; said in one line each way, and waited out."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable

from redis import Redis
from redis import exceptions as redis_errors
from redis.exceptions import RedisError, ResponseError

from cronq.clock import boot_s, rest
from cronq.errors import KeyBroken
from cronq.timetext import format_duration

#: Redis refuses any command with these, whatever it is.
_GENERAL = (
    redis_errors.OutOfMemoryError, redis_errors.ReadOnlyError, redis_errors.NoPermissionError,
    redis_errors.ClusterDownError,
)  # fmt: skip
#: The same as words, also where a server reports them from within a script.
_GENERAL_CODES = ("OOM", "READONLY", "NOPERM", "CLUSTERDOWN", "MISCONF", "BUSY", "NOREPLICAS")

_PASSING = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    redis_errors.MasterDownError,
)
_LASTING = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)
#: Answers of a server that is running a long script, or has lost its primary or its replicas, perhaps not for long.
_PASSING_CODES = ("BUSY", "NOREPLICAS")

#: How Redis before 7 reports what a command inside a script was refused for: to the client, and to the script itself.
_IN_SCRIPT = re.compile(r"(?:(?:ERR )?Error running script .*?|@user_script: ?\d+:) -([A-Z]+) ", re.DOTALL)
#: How our scripts name a key of a wrong type, and the type it should have.
_WRONG_TYPE = re.compile(r"WRONGTYPE (\S+) is not an? (\w+)")


# What an error means


def refusal_code(error: Exception) -> str:
    """The code with which Redis refused a command, or one in a script: `OOM`, `READONLY`, …; "" for other errors."""
    if not isinstance(error, ResponseError):
        return ""
    inner = _IN_SCRIPT.match(str(error))
    return inner[1] if inner else str(error).split(" ", 1)[0]


def is_general(error: Exception) -> bool:
    """Return True if Redis would refuse anything just now, or is away: it is not the fault of one command."""
    if not isinstance(error, ResponseError):
        return True
    return isinstance(error, _GENERAL) or refusal_code(error) in _GENERAL_CODES


def is_outage(error: Exception) -> bool:
    """Return True if *error* came from Redis or from the way to it, and would meet any other command as well."""
    return isinstance(error, RedisError | OSError) and is_general(error)


def may_pass(error: Exception) -> bool:
    """Return True if the same command may succeed a moment later: not without permission or on a wrong type."""
    if is_read_only(error) or refusal_code(error) in _PASSING_CODES:
        return True
    return isinstance(error, _PASSING) and not isinstance(error, _LASTING)


def did_not_arrive(error: Exception) -> bool:
    """Return True if Redis surely has done nothing: there was no connection, or it still loads its data."""
    if isinstance(error, redis_errors.BusyLoadingError):
        return True
    words = str(error)
    return isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError) and (
        words.startswith("Timeout connecting") or re.match(r"Error -?\d+ connecting to ", words) is not None
    )


def is_read_only(error: Exception) -> bool:
    """Return True if the server is a replica and takes no writes."""
    return isinstance(error, redis_errors.ReadOnlyError) or refusal_code(error) == "READONLY"


def refuses_all(error: Exception) -> bool:
    """Return True if the primary is there and takes no write of anybody: it is full, or cannot save.

    READONLY, BUSY and NOREPLICAS are none of it: elsewhere there may be a new primary by now.
    """
    return isinstance(error, redis_errors.OutOfMemoryError) or refusal_code(error) in ("OOM", "MISCONF")


def is_wrong_type(error: Exception) -> bool:
    """Return True if a command or a script met a key of a wrong type, whatever stands before that in the words."""
    return isinstance(error, RedisError) and "WRONGTYPE" in str(error)


def broken_key(error: Exception) -> KeyBroken | None:
    """The key that a script of ours refused because of its type; None for any other trouble."""
    found = _WRONG_TYPE.match(str(error)) if isinstance(error, ResponseError) else None
    return None if found is None else KeyBroken(found[1], found[2])


# Saying it, and waiting


class Backoff:
    """The pauses between tries: the first, then each twice as long as the one before, up to the longest."""

    def __init__(self, first_s: float = 0.1, longest_s: float = 2.0) -> None:
        self.first_s = first_s
        self.longest_s = longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """The pause before the next try, in seconds; the one after that is longer."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self.longest_s)
        return pause_s

    def reset(self) -> None:
        """Begin with the first pause again: a try succeeded."""
        self._next_s = self.first_s


class Outage:
    """Logs trouble with Redis in one line when it begins, and in one when it is over.

    *meanwhile* ends the first line: what the process does now. When the server turns out to be a replica, *client*
    connects anew: it may be one that does not do so by itself.
    """

    def __init__(self, log: logging.Logger, client: Redis | None = None, meanwhile: str = "going on trying") -> None:
        self._log = log
        self._client = client
        self._meanwhile = meanwhile
        self._kinds: set[str] = set()
        self._since = 0.0

    def noticed(self, error: Exception) -> None:
        """Log that Redis did not answer, or refused; each kind of trouble once until it is `over`."""
        if self._client is not None and is_read_only(error):
            self._client.connection_pool.disconnect(inuse_connections=False)
        what, kind = f"{type(error).__name__}: {error}", _kind_of(error)
        if not self._kinds:
            self._since = boot_s()
            self._log.error("TROUBLE Redis: %s; %s", what, self._meanwhile)
        elif kind not in self._kinds:
            self._log.error("TROUBLE Redis: %s", what)
        self._kinds.add(kind)

    def over(self) -> None:
        """Log that Redis answers, if it had not."""
        if self._kinds:
            self._log.warning("RECOVERED Redis answers again after %s", format_duration(boot_s() - self._since))
            self._kinds.clear()

    def ride_out(self, work: Callable[[], object], stop: threading.Event) -> None:
        """Do *work* as soon as Redis lets it, unless *stop* is set meanwhile."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                work()
                self.over()
                return
            except (RedisError, OSError) as error:
                self.noticed(error)
                rest(backoff.next_s(), stop)


def _kind_of(error: Exception) -> str:
    """The kind of trouble: of a Redis that is away always the same, though it shows as many different errors."""
    is_away = isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError | OSError)
    if is_away and not isinstance(error, redis_errors.AuthenticationError):
        return "away"
    if type(error) is not ResponseError:
        return type(error).__name__  # the same trouble, though a pipeline puts its command before the words
    return f"{type(error).__name__} {str(error).split(' ', 1)[0]}"
