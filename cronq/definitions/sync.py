"""Brings the jobs that this process's code defines to Redis, and finds ghosts: stored jobs that no code defines now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cronq.definitions.changes import Changes
from cronq.definitions.family import Farewell, Judgement, judge, judge_alone, part_with
from cronq.definitions.keyed import KeyedSchedules
from cronq.errors import CronqError, DefinitionError, JobInUse, UnknownJob
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob


@dataclass
class SyncReport:
    """What `sync` did, by name of job."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[CronqError] = field(default_factory=list)


class Defined(NamedTuple):
    """A job that code defines, as it is to be stored."""

    spec: JobSpec
    source: str  #: file:line
    origin: str  #: its module
    tz_is_default: bool  #: CRONQ_TZ decided its zone


class Definitions:
    """The jobs of *registry*, as Redis should have them; *tz* is the zone of those that name none."""

    def __init__(self, registry: Registry, jobs: JobStore, changes: Changes, tz: str = "UTC") -> None:
        self.registry = registry
        self.tz = tz
        self.jobs = jobs
        self.changes = changes

    def known(self) -> Mapping[str, Defined]:
        """Each job that code defines, but for what `problems` refuses; parents come first."""
        return self._resolved()[0]

    def problems(self) -> list[CronqError]:
        """What was refused: where it is defined, for the zone of those that name none, or because it is in a cycle."""
        return [*self.registry.problems, *self._resolved()[1]]

    def _resolved(self) -> tuple[dict[str, Defined], list[DefinitionError]]:
        found: dict[str, Defined] = {}
        problems: list[DefinitionError] = []
        for name, definition in self.registry.definitions.items():
            try:
                spec, tz_is_default = definition.in_zone(self.tz)
            except DefinitionError as problem:
                problems.append(problem)
                continue
            found[name] = Defined(spec, definition.place, definition.module, tz_is_default)
        return _without_cycles(found, problems), problems

    def judge(self) -> Judgement:
        """Which of `known` may be stored, by the parents that they name and what is stored by now."""
        known = self.known()
        bad = {*self.registry.definitions, *(str(problem.job) for problem in self.registry.problems)} - known.keys()
        judgement = judge({name: job.spec for name, job in known.items()}, self.jobs, bad)
        for problem in judgement.problems:
            problem.at(place=known[str(problem.job)].source)
        return judgement

    def sync(self, modules: Sequence[str], *, remove: bool, by: str) -> SyncReport:
        """Store what is defined; with *remove*, remove the stored jobs that *modules* defined and no longer do."""
        self.jobs.open_epoch()
        known, judgement = self.known(), self.judge()
        report = SyncReport(problems=[*self.problems(), *judgement.problems])
        saved: list[str] = []
        for name in judgement.accepted:
            job = known[name]
            try:
                getattr(report, self.save(job)).append(name)
                saved.append(name)
            except DefinitionError as problem:
                report.problems.append(problem.at(job=name, place=job.source))
            except CronqError as problem:
                report.problems.append(problem)
        specs = {name: known[name].spec for name in saved}
        report.changed += KeyedSchedules(self.jobs, self.changes).follow(specs)
        if remove:
            farewell = self.farewell(modules, specs)
            report.removed = [name for name in farewell.going if self._remove(name, by)]
            report.problems += farewell.kept.values()
        return report

    def farewell(self, modules: Sequence[str], specs: Mapping[str, JobSpec]) -> Farewell:
        """What becomes of `ghosts` where *specs* are stored: one stays as long as it has a child that does."""
        farewell = part_with(self.ghosts(modules), specs, self.jobs)
        for problem in farewell.kept.values():
            definition = self.registry.definitions.get(str(problem.job))
            if definition is not None:
                problem.at(place=definition.place)
        return farewell

    def save(self, job: Defined) -> str:
        """Store *job*; see `Changes.save`."""
        spec, source, origin, tz_is_default = job
        return self.changes.save(spec, source=source, origin=origin, tz_is_default=tz_is_default)

    def ghosts(self, modules: Sequence[str]) -> list[str]:
        """Names of stored jobs that came from *modules* and that these no longer define.

        A module that cannot be imported keeps its jobs, and a job whose new definition is refused keeps its old one.
        """
        healthy = [module for module in modules if module not in self.registry.broken_modules]
        refused = {problem.job for problem in self.registry.problems}
        found = []
        for name, job in self.jobs.find(self.jobs.names()).items():
            if name in self.registry.definitions or name in refused or not isinstance(job, StoredJob):
                continue
            if any(job.origin == module or job.origin.startswith(f"{module}.") for module in healthy):
                found.append(name)
        return found

    def _remove(self, name: str, by: str) -> bool:
        try:
            self.changes.remove(name, by=by)
            return True
        except (UnknownJob, JobInUse):  # it was removed, or has become a parent, just now
            return False


def _without_cycles(found: dict[str, Defined], problems: list[DefinitionError]) -> dict[str, Defined]:
    """Those of *found* that are in no cycle, parents first; the others are added to *problems*."""
    judgement = judge_alone({name: job.spec for name, job in found.items()})
    problems += [problem.at(place=found[str(problem.job)].source) for problem in judgement.problems]
    return {name: found[name] for name in judgement.accepted}
