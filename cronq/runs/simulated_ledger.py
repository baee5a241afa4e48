"""What became of the ticks of one simulated job: a column for each fact, for there may be millions."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from cronq.outcomes import OUTCOMES
from cronq.timetext import iso

#: How a tick can end, and `waiting`: when the simulation is over it waits still for parents that have not succeeded, or
#: with `backfill` for the tick before it.
WORDS = (*OUTCOMES, "waiting")
_CODES = {word: code for code, word in enumerate(WORDS)}


@dataclass
class SimulatedLedger:
    """The ticks of one job, oldest first. A *place* is that of a tick in the columns."""

    job: str
    is_timed: bool = False  #: when runs begin and end is kept
    explains: bool = False  #: why ticks end as they do is kept
    ticks: array[int] = field(default_factory=lambda: array("q"))
    outcomes: bytearray = field(default_factory=bytearray)  #: places in `WORDS`
    begun: array[float] = field(default_factory=lambda: array("d"))  #: `nan` for what has no run
    ended: array[float] = field(default_factory=lambda: array("d"))
    reasons: dict[int, str] = field(default_factory=dict)  #: by place
    met: set[int] = field(default_factory=set)  #: the places of ticks that were due while an earlier run was open
    opened: dict[int, float] = field(default_factory=dict)  #: by place when its parents let a run go that had to wait

    def outcome(self, place: int) -> str:
        """The word for the tick at *place*."""
        return WORDS[self.outcomes[place]]

    def times(self, place: int) -> tuple[float | None, float | None]:
        """When the run at *place* was begun and when it ended (epoch seconds), as far as that is kept."""
        if not self.is_timed or math.isnan(self.begun[place]):
            return None, None
        return self.begun[place], self.ended[place]

    def add(self, tick: int, outcome: str, reason: str = "") -> int:
        """A tick with what becomes of it, as far as is known by now. Returns its place."""
        place = len(self.ticks)
        self.ticks.append(tick)
        self.outcomes.append(_CODES[outcome])
        if self.is_timed:
            self.begun.append(math.nan)
            self.ended.append(math.nan)
        if reason and self.explains:
            self.reasons[place] = reason
        return place

    def add_all(self, ticks: Sequence[int], outcome: str, duration_s: float) -> int:
        """Ticks each of which runs at once for so long. Returns the place of the last."""
        self.ticks.extend(ticks)
        self.outcomes.extend(bytes([_CODES[outcome]]) * len(ticks))
        if self.is_timed:
            self.begun.extend(ticks)
            self.ended.extend([tick + duration_s for tick in ticks])
        return len(self.ticks) - 1

    def set(self, place: int, outcome: str, reason: str = "", other: int | None = None) -> None:
        """Another outcome for the tick at *place*, and why; see `tell`."""
        self.outcomes[place] = _CODES[outcome]
        self.tell(place, reason, other)

    def set_times(self, place: int, begun_s: float, ended_s: float) -> None:
        """When the run at *place* is at work, as things stand; `nan` when it is not."""
        if self.is_timed:
            self.begun[place], self.ended[place] = begun_s, ended_s

    def tell(self, place: int, words: str, other: int | None = None) -> None:
        """Say more of why the tick at *place* becomes what it does; `{}` in *words* is the run at the place *other*."""
        if not self.explains or not words:
            return
        if other is not None:
            words = words.format(f"the run of {iso(self.ticks[other])}")
        before = self.reasons.get(place)
        self.reasons[place] = f"{before}; {words}" if before else words

    def cut(self, end_s: int) -> None:
        """Leave out the ticks from *end_s* on: they were found together with earlier ones."""
        last = bisect_left(self.ticks, end_s)
        del self.ticks[last:], self.outcomes[last:], self.begun[last:], self.ended[last:]
