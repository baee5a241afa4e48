"""Lets held runs through at the catch-up rate, and says in the log how long that will take."""

from __future__ import annotations

import logging

from cronq.clock import boot_s
from cronq.jobs.catchup_line import CatchupLine, CatchupRate
from cronq.timetext import format_duration

log = logging.getLogger("cronq.beat")

#: How often the log tells how many are left.
_TELL_EVERY_S = 30.0
#: While more is due than one pass looks at, late runs may still have to find their place in the line; but no longer.
_PATIENCE_S = 1.0


class Brake:
    """What lets the head of *line* through at *rate*, which all beats share."""

    def __init__(self, line: CatchupLine, rate: CatchupRate) -> None:
        self.line = line
        self.rate = rate
        self.next_in_s: float | None = None  #: from `let_through` to when the next run may follow; None: none is left
        self._cut_boot: float | None = None  #: since when more was due than one pass looks at; None: it is not
        self._told_boot: float | None = None  #: when the log last told how many are held; None: of none

    def let_through(self, is_cut: bool, now_s: float | None = None) -> int:
        """Let as many through as the rate allows now. Returns how many: their jobs are due again.

        *is_cut* says that more jobs are due than were looked at: then it is put off for a moment, so that the most
        urgent run is in the line before the first one leaves it. Raises RedisError.
        """
        if is_cut:
            self._cut_boot = self._cut_boot or boot_s()
            if boot_s() < self._cut_boot + _PATIENCE_S:
                return 0
        self._cut_boot = None
        through = self.line.let_through(self.rate, now_s)
        self.next_in_s = through.next_in_s if through.left else None
        self._tell(through.left)
        return through.runs

    def nothing_held(self) -> int:
        """Note that no run is held any more: another beat has let the last one through. Returns 0."""
        self.next_in_s = None
        self._tell(0)
        return 0

    def _tell(self, left: int) -> None:
        if not left:
            if self._told_boot is not None:
                log.info("CAUGHT-UP every late run that was held has been let through")
            self._told_boot = None
        elif self._told_boot is None or boot_s() >= self._told_boot + _TELL_EVERY_S:
            pace = f"{self.rate.per_s:g} a second are let through, all in about" if self.rate.per_s else "all go in"
            span_s = max(1.0, round(self.rate.span_s(left)))
            runs = "1 late run" if left == 1 else f"{left:,} late runs"
            log.warning("HELD %s; %s %s; see `cronq catchup`", runs, pace, format_duration(span_s))
            self._told_boot = boot_s()
