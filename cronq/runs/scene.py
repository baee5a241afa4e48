"""What a simulation assumes: the span it looks at, its beats, when none of them passes, and what each run does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cronq.jobs.calendar import NO_CALENDARS, Calendars
from cronq.jobs.pause import Pause
from cronq.jobs.skip import Skips


class Outage(NamedTuple):
    """A time in which no beat passes: from `start_s`, until one does at `end_s` (epoch seconds)."""

    start_s: int
    end_s: int


class Work(NamedTuple):
    """What one run does, as far as nothing ends it before."""

    duration_s: float  #: of its last attempt, the only one that a timeout of now can end
    outcome: str = "succeeded"
    before_s: float = 0.0  #: from the start of its first attempt to that of its last
    wait_s: float = 0.0  #: from its queue to its start


class Counted(NamedTuple):
    """How many ticks a job with `repeat` has had up to its mark (epoch seconds)."""

    mark: int
    ticks: int


class RunByHand(NamedTuple):
    """A run without a tick; those that wait for its job look at it (epoch seconds)."""

    begun_s: float
    ended_s: float
    outcome: str


@dataclass(frozen=True)
class Scene:
    """What a simulation assumes. Ticks from `start_s` on and before `end_s` are looked at (epoch seconds)."""

    start_s: int
    end_s: int
    since: Mapping[str, int] = field(default_factory=dict)  #: by job a later first moment
    beats: int = 1
    skew_s: float = 0.0  #: the clock of each beat's host is wrong by up to so much
    outages: Sequence[Outage] = ()
    seed: int = 0  #: decides how wrong each clock is, and which beat is first at each tick
    duration_s: float = 1.0  #: how long a run takes
    durations: Mapping[str, float] = field(default_factory=dict)  #: the same of single jobs, by name
    works: Mapping[str, Mapping[int, Work]] = field(default_factory=dict)  #: what single runs do, by job and tick
    by_hand: Mapping[str, Sequence[RunByHand]] = field(default_factory=dict)  #: by job
    known_ticks: Mapping[str, Sequence[int]] = field(default_factory=dict)  #: by job that runs after others, in order
    passed: Mapping[str, Collection[int]] = field(default_factory=dict)  #: by job ticks whose failure halts nothing
    calendars: Calendars = NO_CALENDARS
    pauses: Mapping[str, Sequence[Pause]] = field(default_factory=dict)  #: by job; each covers ticks from `since` on
    skips: Mapping[str, Skips] = field(default_factory=dict)  #: by job
    counted: Mapping[str, Counted] = field(default_factory=dict)  #: by job with `repeat`; others have had no tick
    explains: bool = False  #: each tick tells why it ended so, and when its run began and ended


def merged(outages: Iterable[Outage]) -> list[Outage]:
    """*outages* in order, those that touch made one."""
    found: list[Outage] = []
    for start_s, end_s in sorted(outages):
        if found and start_s <= found[-1].end_s:
            found[-1] = Outage(found[-1].start_s, max(end_s, found[-1].end_s))
        else:
            found.append(Outage(start_s, end_s))
    return found
