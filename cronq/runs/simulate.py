"""What becomes of each tick in a span of time: the decisions of beats under a clock of its own, no Redis.

The rules are those that beats and the claim script go by: `due` says what becomes of a tick when it is found,
`overlap` what becomes of it while an earlier run of its job is open, `dependencies` for which parents it waits. What is
assumed instead: there is a worker for each run at once, each run takes its time, and no lock is in its way.

So jobs meet only their parents, and each goes through the span by itself, after these. A span in which nothing is due
costs nothing.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from cronq.errors import CronqError
from cronq.jobs.graph import parents_first
from cronq.jobs.spec import JobSpec
from cronq.runs.scene import Scene, merged
from cronq.runs.simulated_job import SimulatedJob
from cronq.runs.simulated_ledger import WORDS, SimulatedLedger
from cronq.runs.simulated_parents import Parents

#: Each tick takes nine bytes.
MOST_TICKS = 100_000_000
#: Rows are put in order in parts of about so many.
_IN_ORDER_AT_ONCE = 50_000


class SimulatedTick(NamedTuple):
    """What became of one tick (epoch seconds)."""

    tick: int
    job: str
    outcome: str


@dataclass
class SimulatedBeat:
    """One beat: how wrong its host's clock is, and how many ticks it was the first to find due."""

    clock_off_s: float
    taken: int = 0


@dataclass(frozen=True)
class Simulation:
    """What became of each tick, by job; and which beat did how much."""

    ledgers: list[SimulatedLedger]  #: in the order of the jobs' names
    beats: list[SimulatedBeat]

    @property
    def count(self) -> int:
        """How many ticks there were."""
        return sum(len(ledger.ticks) for ledger in self.ledgers)

    @property
    def ticks(self) -> list[SimulatedTick]:
        """All of them, by tick and then by job."""
        return list(self.rows())

    def outcomes(self) -> Counter[str]:
        """How many ticks had which outcome."""
        found: Counter[str] = Counter()
        for code, word in enumerate(WORDS):
            found[word] = sum(ledger.outcomes.count(code) for ledger in self.ledgers)
        return +found

    def rows(self) -> Iterator[SimulatedTick]:
        """All ticks, by tick and then by job, as they are asked for: millions of them need not be held at once."""
        filled = [ledger for ledger in self.ledgers if ledger.ticks]
        if not filled:
            return
        first, last = min(ledger.ticks[0] for ledger in filled), max(ledger.ticks[-1] for ledger in filled)
        step = max(1, (last - first) * _IN_ORDER_AT_ONCE // self.count)
        for begin in range(first, last + 1, step):
            rows = [row for ledger in filled for row in _rows(ledger, begin, begin + step)]
            rows.sort(key=itemgetter(0))  # those of one tick stay in the order of their jobs
            yield from rows


def _rows(ledger: SimulatedLedger, begin: int, end: int) -> Iterator[SimulatedTick]:
    first, last = bisect_left(ledger.ticks, begin), bisect_left(ledger.ticks, end)
    job = ledger.job
    for tick, code in zip(ledger.ticks[first:last], ledger.outcomes[first:last], strict=True):
        yield SimulatedTick(tick, job, WORDS[code])


def simulate(specs: Iterable[JobSpec], scene: Scene, ancestors: Iterable[JobSpec] = ()) -> Simulation:
    """What becomes of each tick of *specs*. The same scene gives the same answer. Raises CronqError for too many.

    They may wait for *ancestors*, too, of which nothing is told. Any other parent never succeeds.
    """
    shown = {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}
    by_name = {**{spec.name: spec for spec in ancestors}, **shown}
    _refuse_too_many(by_name.values(), scene)
    chance = random.Random(scene.seed)
    beats = [SimulatedBeat(chance.uniform(-scene.skew_s, scene.skew_s)) for _ in range(scene.beats)]
    draw = _Draw(beats, chance.getrandbits(64))
    outages = merged(scene.outages)
    # The time of Redis decides: the clock of a beat's host has no part in it, however wrong it is.
    are_parents = {parent for spec in by_name.values() for parent in spec.parents}
    ledgers: dict[str, SimulatedLedger] = {}
    order, _ = parents_first(by_name, lambda name: [each for each in by_name[name].parents if each in by_name])
    for name in order:
        spec = by_name[name]
        parents = Parents(spec, by_name, ledgers, scene) if spec.parents else None
        job = SimulatedJob(spec, scene, outages, draw.takes, parents, is_timed=name in are_parents)
        ledgers[name] = job.go_through()
    return Simulation([ledgers[name] for name in shown], beats)


def _refuse_too_many(specs: Iterable[JobSpec], scene: Scene) -> None:
    schedules = [spec.schedule for spec in specs]
    count = sum(each.count(scene.start_s - 1, scene.end_s - 1) for each in schedules if each is not None)
    if count > MOST_TICKS:
        raise CronqError(f"{count:,} ticks are more than the {MOST_TICKS:,} of one simulation; give a shorter span")


class _Draw:
    """Which beat is the first at each pass: it takes all that is due then."""

    def __init__(self, beats: Sequence[SimulatedBeat], salt: int) -> None:
        self.beats = beats
        self.salt = salt

    def takes(self, passes: Sequence[int]) -> None:
        """Note for each tick that is taken the moment of its pass (epoch seconds)."""
        if len(self.beats) == 1:
            self.beats[0].taken += len(passes)
            return
        for now in passes:
            mixed = (now ^ self.salt) * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF
            mixed = (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 & 0xFFFF_FFFF_FFFF_FFFF
            self.beats[(mixed >> 32) * len(self.beats) >> 32].taken += 1
