"""Notes every few seconds that this beat makes passes, so that a span without any can be told afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cronq.clock import ServerClock
from cronq.hosts.outages import CAUSES, Outages, Pass

log = logging.getLogger("cronq.beat")


class PassNotes:
    """A chore of the beat. *last_pass_s* says when this beat made its last completed pass, server time."""

    def __init__(
        self, outages: Outages, clock: ServerClock, last_pass_s: Callable[[], float | None], *, by: str
    ) -> None:
        self.outages = outages
        self.clock = clock
        self.last_pass_s = last_pass_s
        self.by = by
        self._first_s: float | None = None
        self._noted_s: float | None = None
        self._away_s: float | None = None
        self._held = False

    def once(self, now_s: float) -> None:
        """Note the last pass, if there was one since the last note. Raises RedisError."""
        self._held = self._held or self.clock.holding
        at_s = self.last_pass_s()
        if at_s is None or at_s == self._noted_s:
            return
        if self._first_s is None:
            self._first_s = at_s
        why = self.outages.note(Pass(at_s, self.by, self._first_s, self._away_s, self._held))
        self._noted_s, self._away_s, self._held = at_s, None, False
        if why:
            log.warning("OUTAGE no beat made a pass for a while: %s", CAUSES[why])

    def outage(self) -> None:
        """Remember since when Redis is away."""
        if self._away_s is None and self._noted_s is not None:
            self._away_s = self.clock.now_s()
