"""What becomes of each tick in a span of time: the decisions of beats under a clock of its own, no Redis.

The rules are those that beats and the claim script go by: `due.decide` says what becomes of a tick when it is found,
`overlap` what becomes of it while an earlier run of its job is open. What is assumed instead: there is a worker for
each run at once, each run takes its time and succeeds, and no lock is in its way.

Each pass jumps to the next tick that is due, so a span in which nothing is costs nothing.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cronq.jobs.calendar import NO_CALENDARS, Calendars
from cronq.jobs.spec import JobSpec
from cronq.runs.due import Decision, decide
from cronq.runs.overlap import rule_of_tick


class Outage(NamedTuple):
    """A time in which no beat passes: from `start_s`, until one does at `end_s` (epoch seconds)."""

    start_s: int
    end_s: int


@dataclass(frozen=True)
class Scene:
    """What a simulation assumes. Ticks from `start_s` on and before `end_s` are looked at (epoch seconds)."""

    start_s: int
    end_s: int
    beats: int = 1
    skew_s: float = 0.0  #: the clock of each beat's host is wrong by up to so much
    outages: Sequence[Outage] = ()
    seed: int = 0  #: decides how wrong each clock is, and which beat is first at each tick
    duration_s: float = 1.0  #: how long a run takes
    durations: Mapping[str, float] = field(default_factory=dict)  #: the same of single jobs, by name
    calendars: Calendars = NO_CALENDARS


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
    """What became of each tick, by tick and then by job; and which beat did how much."""

    ticks: list[SimulatedTick]
    beats: list[SimulatedBeat]


def simulate(specs: Iterable[JobSpec], scene: Scene) -> Simulation:
    """What becomes of each tick of *specs*. The same scene gives the same answer."""
    chance = random.Random(scene.seed)
    beats = [SimulatedBeat(chance.uniform(-scene.skew_s, scene.skew_s)) for _ in range(scene.beats)]
    jobs = [_Job(spec, scene) for spec in sorted(specs, key=lambda spec: spec.name)]
    agenda = [(job.next_tick, number) for number, job in enumerate(jobs) if job.next_tick is not None]
    heapq.heapify(agenda)
    outages = _merged(scene.outages)
    # A tick before the end may be queued after it, by its jitter.
    last_s = scene.end_s + max((job.spec.jitter or 0.0 for job in jobs), default=0.0)
    while agenda and agenda[0][0] < last_s:
        # The time of Redis: the clock of a beat's host has no part in it, however wrong it is.
        now = _when_up(agenda[0][0], outages)
        beat = beats[chance.randrange(len(beats))] if len(beats) > 1 else beats[0]
        while agenda and agenda[0][0] <= now:
            job = jobs[agenda[0][1]]
            beat.taken += job.take_due(now)
            if job.next_tick is None:
                heapq.heappop(agenda)
            else:
                heapq.heapreplace(agenda, (job.next_tick, agenda[0][1]))
    return Simulation(sorted(row for job in jobs for row in job.rows(scene.end_s)), beats)


def _merged(outages: Iterable[Outage]) -> list[Outage]:
    """The times without any beat, the last one first."""
    merged: list[Outage] = []
    for start_s, end_s in sorted(outages):
        if merged and start_s <= merged[-1].end_s:
            merged[-1] = Outage(merged[-1].start_s, max(end_s, merged[-1].end_s))
        else:
            merged.append(Outage(start_s, end_s))
    return merged[::-1]


def _when_up(due: int, outages: list[Outage]) -> int:
    """When a beat passes that finds *due*; *outages* that are over by then are taken off the end of the list."""
    while outages and outages[-1].end_s <= due:
        outages.pop()
    return outages[-1].end_s if outages and outages[-1].start_s <= due else due


class _Job:
    """One job as its ticks go by."""

    def __init__(self, spec: JobSpec, scene: Scene) -> None:
        self.spec = spec
        self.calendars = scene.calendars
        self.duration_s = scene.durations.get(spec.name, scene.duration_s)
        self.mark = scene.start_s - 1
        self.had = 0
        self.next_tick = spec.due_after(self.mark, 0)  #: when the next tick is to be queued
        self._ticks: list[int] = []
        self._outcomes: list[str] = []
        self._busy_until = -math.inf  #: when the last of its open runs ends
        self._working = 0  #: the place of the newest run that has begun
        self._waiting: int | None = None  #: the place of the one that waits behind it, with overlap="latest"

    def rows(self, end_s: int) -> Iterator[SimulatedTick]:
        """Its ticks before *end_s*."""
        self._go_on(math.inf)
        for tick, outcome in zip(self._ticks, self._outcomes, strict=True):
            if tick < end_s:
                yield SimulatedTick(tick, self.spec.name, outcome)

    def take_due(self, now: int) -> int:
        """Decide what becomes of each tick up to *now*. Returns how many there were."""
        before = len(self._ticks)
        while self.next_tick is not None and self.next_tick <= now:
            decisions = decide(self.spec, self.mark, None, now, self.calendars, had=self.had)
            if not decisions:
                self.next_tick = self.spec.due_after(self.mark, self.had)
                break
            for decision in decisions:
                self._record(decision, now)
            self.mark, self.next_tick = decisions[-1].tick, decisions[-1].next_tick
            self.had = decisions[-1].number or self.had
        return len(self._ticks) - before

    def _record(self, decision: Decision, now: int) -> None:
        if decision.outcome is None:
            outcome = self._started(decision, now)
            self._ticks.append(decision.tick)
            self._outcomes.append(outcome)
            return
        schedule, tick = self.spec.schedule, decision.first
        while schedule is not None and tick is not None and tick < decision.tick:  # a range, tick by tick
            self._ticks.append(tick)
            self._outcomes.append(decision.outcome)
            tick = schedule.next_after(tick)
        self._ticks.append(decision.tick)
        self._outcomes.append(decision.outcome)

    def _started(self, decision: Decision, now: int) -> str:
        """The outcome of a tick that is to run, as far as that is known at *now*."""
        place = len(self._ticks)
        self._go_on(now)
        starts: float = now
        if self._busy_until > now:
            rule = rule_of_tick(self.spec.overlap, decision.trigger, self.spec.catchup)
            if rule == "skip":
                return "skipped"
            if rule == "latest":
                if self._waiting is not None:
                    self._outcomes[self._waiting] = "coalesced"
                self._waiting = place
                return "succeeded"
            if rule == "queue":
                starts = self._busy_until
            if rule == "replace":
                self._outcomes[self._working] = "stopped"
                self._busy_until = now
        return self._run(place, decision.tick, starts)

    def _go_on(self, now: float) -> None:
        """Let the run that waits begin, if the one before it has ended by *now*."""
        if self._waiting is not None and self._busy_until <= now:
            place, self._waiting = self._waiting, None
            self._outcomes[place] = self._run(place, self._ticks[place], self._busy_until)

    def _run(self, place: int, tick: int, starts: float) -> str:
        if self.spec.ttl is not None and starts - tick > self.spec.ttl:
            return "expired"
        self._working = place
        self._busy_until = max(self._busy_until, starts + self.duration_s)
        return "succeeded"
