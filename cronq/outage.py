"""Trouble with Redis, said in one line each way and waited out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from cronq.clock import boot_s, format_duration, rest

#: Pauses between tries, the first and the longest.
BACKOFF_S = (0.1, 2.0)


class Outage:
    """Whether Redis answers, as one process sees it."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._since: float | None = None

    def noticed(self, error: Exception) -> None:
        """Redis did not answer; logged once until it is `over`."""
        if self._since is None:
            self._since = boot_s()
            self._log.error("TROUBLE Redis: %s: %s; going on trying", type(error).__name__, error)

    def over(self) -> None:
        """Redis answered; logged when it had not."""
        if self._since is not None:
            self._log.warning("RECOVERED Redis answers again after %s", format_duration(boot_s() - self._since))
            self._since = None

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
