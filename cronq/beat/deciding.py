"""Decides what becomes of the due jobs of one reading, and makes batches of claims of it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from cronq.beat.holding import Holding
from cronq.beat.repair import BrokenJobs
from cronq.errors import CronqError, SpecTooNew
from cronq.jobs.calendar import NO_CALENDARS, Calendars
from cronq.jobs.calendars import KnownCalendars
from cronq.jobs.quarantine import MARK_AHEAD_S
from cronq.jobs.spec import JobSpec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import DueJob, DueReading, StoredJob
from cronq.runs.claim import TickClaim
from cronq.runs.dependencies import needs_of, with_last_tick
from cronq.runs.due import decide

log = logging.getLogger("cronq.beat")

_CACHED_SPECS = 20_000
#: Ticks decided in one pass, more or less: after a long outage the heartbeat has to go out in between.
_MOST_TICKS = 20_000


class Batch(NamedTuple):
    """Claims to be sent together, and what was found out about the jobs looked at for them."""

    claims: Sequence[TickClaim]  #: none when the jobs that were left had none
    next_due_s: float | None  #: the earliest tick that follows; 0.0: more is due at once; None: no job has a next
    newer: int  #: jobs that a newer cronq stored: they are left to its beats


class SpecCache:
    """The specs of jobs by version: only those that changed since they were last read come from Redis."""

    def __init__(self, jobs: JobStore) -> None:
        self.jobs = jobs
        self._known: OrderedDict[str, tuple[str, JobSpec | SpecTooNew]] = OrderedDict()
        self._is_plain = True  #: no job that was ever read has parents or a priority

    def of(self, due: Sequence[DueJob]) -> dict[str, JobSpec | SpecTooNew]:
        """The specs of these jobs by name; without those that are missing or cannot be read."""
        found: dict[str, JobSpec | SpecTooNew] = {}
        spec: JobSpec | SpecTooNew
        wanted: dict[str, str] = {}
        for job in due:
            cached = self._known.get(job.name)
            if cached is not None and cached[0] == job.version:
                found[job.name] = cached[1]
            elif not job.damaged:
                wanted[job.name] = job.version
        if wanted:
            for name, raw in self.jobs.specs(wanted).items():
                try:
                    spec = JobSpec.from_json(raw, name=name)
                except SpecTooNew as error:
                    spec = error
                except Exception as error:  # whatever stands there: that job is mended, the others go on
                    log.debug("job %s: %s", name, error)
                    continue
                found[name] = spec
                self._known[name] = (wanted[name], spec)
                if isinstance(spec, JobSpec) and (spec.depends_on or spec.priority):
                    self._is_plain = False
            while len(self._known) > _CACHED_SPECS:
                self._known.popitem(last=False)
        return found

    def parents_of(self, specs: Iterable[JobSpec | SpecTooNew], now_s: float) -> dict[str, JobSpec]:
        """The specs of all jobs that *specs* depend on, as they stand now; without those that cannot be read.

        One with `repeat` that has had the last of its ticks by now ends with it.
        """
        if self._is_plain:
            return {}
        names = {name for spec in specs if isinstance(spec, JobSpec) for name in spec.depends_on}
        found: dict[str, JobSpec] = {}
        for name, raw in self.jobs.specs(sorted(names)).items() if names else ():
            try:
                found[name] = _parsed(raw, name)
            except Exception as error:  # its own mending tells of it; its children wait
                log.debug("job %s: %s", name, error)
        counted = [name for name, spec in found.items() if spec.repeat is not None]
        for name, stored in self.jobs.find(counted).items() if counted else ():
            if isinstance(stored, StoredJob):
                found[name] = with_last_tick(found[name], stored.state.mark, stored.state.ticks, now_s)
        return found

    def by_priority(self, due: Sequence[DueJob], specs: Mapping[str, JobSpec | SpecTooNew]) -> Sequence[DueJob]:
        """The same jobs, those of a higher priority first; of one priority the most overdue first, as they came."""
        if self._is_plain:
            return due
        known = {name: spec.priority for name, spec in specs.items() if isinstance(spec, JobSpec) and spec.priority}
        return sorted(due, key=lambda job: -known.get(job.name, 0)) if known else due

    def forget(self, name: str) -> None:
        """Read the spec of this job anew when it is due next."""
        self._known.pop(name, None)


@lru_cache(maxsize=1000)
def _parsed(raw: str, name: str) -> JobSpec:
    return JobSpec.from_json(raw, name=name)


class Deciding:
    """Decides by `due.decide`, and by *holding* what is to be claimed now; what cannot be decided goes to *broken*."""

    def __init__(self, jobs: JobStore, broken: BrokenJobs, calendars: KnownCalendars, holding: Holding) -> None:
        self.jobs = jobs
        self.broken = broken
        self.calendars = calendars
        self.holding = holding
        self.specs = SpecCache(jobs)
        self._parents: dict[str, JobSpec] = {}  #: of the due jobs, by name
        self._apart: dict[str, int] = {}  #: by job the tick that the next decision takes out of its range

    def take_apart(self, name: str, tick: int) -> None:
        """Let the next decision for a job have *tick* in no range: it has a row of its own."""
        self._apart[name] = tick

    def batches(self, reading: DueReading, most: int) -> Iterator[Batch]:
        """The claims of all due jobs of *reading*, up to *most* in a batch. Raises RedisError for an outage."""
        specs = self.specs.of(reading.due)
        self._parents = self.specs.parents_of(specs.values(), reading.now_s)
        self.holding.begin()
        claims: list[TickClaim] = []
        nexts: list[float] = []
        made = newer = 0
        for due in self.specs.by_priority(reading.due, specs):
            if made + self.holding.found >= _MOST_TICKS:
                nexts.append(0.0)  # the rest follows at once, after the chores
                break
            spec = specs.get(due.name)
            if isinstance(spec, SpecTooNew):
                newer += 1
                continue
            decided = self._decided_or_not(due, spec, reading)
            made += len(decided)
            claims += decided
            following = self.holding.next_s(due.name, decided[-1].decision if decided else None)
            if following is not None:
                nexts.append(following)
            while len(claims) >= most:
                yield Batch(claims[:most], min(nexts, default=None), newer)
                claims, nexts, newer = claims[most:], [], 0
        yield Batch(claims, min(nexts, default=None), newer)

    def mend(self, name: str, reason: str, now_s: float, key: str = "", kind: str = "") -> None:
        """Have a job mended that could not be read, decided or claimed; see `BrokenJobs.mend`."""
        self.specs.forget(name)
        self.broken.mend(name, reason, now_s, key, kind)

    def _decided_or_not(self, due: DueJob, spec: JobSpec | None, reading: DueReading) -> list[TickClaim]:
        try:
            decided = self._decided(due, spec, reading)
        except Exception as error:
            self.specs.forget(due.name)
            self.broken.postpone(due.name, error, reading.now_s)
            return []
        if decided:
            self.broken.decided(due.name)
        return decided

    def _decided(self, due: DueJob, spec: JobSpec | None, reading: DueReading) -> list[TickClaim]:
        now_s = reading.now_s
        if spec is None or due.damaged or due.mark is None:
            self.mend(due.name, "its definition or state is missing or cannot be read", now_s)
            return []
        if due.mark > now_s + MARK_AHEAD_S:
            self.mend(due.name, "its mark is in the future", now_s)
            return []
        try:
            calendars = NO_CALENDARS
            if spec.only or spec.except_:
                calendars = self.calendars.at(reading.calendars)
                self.calendars.say_missing(due.name, spec.calendars)
            apart = self._apart.pop(due.name, None) if self._apart else None
            decisions = decide(spec, due.mark, due.pause, now_s, calendars, apart, due.ticks, due.skips, due.held)
            to_claim = self.holding.to_claim(due, spec, decisions, now_s) if decisions else []
        except CronqError as error:
            self.mend(due.name, str(error), now_s)
            return []
        if not decisions:
            self.jobs.reschedule(due.name, spec.due_after(due.mark, due.ticks))
        if not spec.depends_on:
            return [TickClaim(spec, due.version, decision) for decision in to_claim]
        known = self._known_calendars(spec, reading)
        return [
            TickClaim(spec, due.version, each, () if each.outcome else needs_of(spec, each.tick, self._parents, known))
            for each in to_claim
        ]

    def _known_calendars(self, spec: JobSpec, reading: DueReading) -> Calendars:
        parents = (self._parents[name] for name in spec.depends_on if name in self._parents)
        return self.calendars.at(reading.calendars) if any(each.calendars for each in parents) else NO_CALENDARS


def earliest(*moments: float | None) -> float | None:
    """The first of these moments; None when none of them is known."""
    return min((moment for moment in moments if moment is not None), default=None)
