"""Brings the jobs that this process's code defines to Redis, and finds ghosts: stored jobs that no code defines now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cronq.definitions.changes import Changes
from cronq.definitions.keyed import KeyedSchedules
from cronq.errors import CronqError, DefinitionError, UnknownJob
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
        """Each job that code defines, but for what `problems` refuses."""
        return self._resolved()[0]

    def problems(self) -> list[CronqError]:
        """What was refused: where it is defined, or because the zone of those that name none does not fit."""
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
        return found, problems

    def sync(self, modules: Sequence[str], *, remove: bool, by: str) -> SyncReport:
        """Store what is defined; with *remove*, remove the stored jobs that *modules* defined and no longer do."""
        self.jobs.open_epoch()
        report = SyncReport(problems=self.problems())
        saved: set[str] = set()
        for name, job in self.known().items():
            try:
                getattr(report, self.save(job)).append(name)
                saved.add(name)
            except DefinitionError as problem:
                report.problems.append(problem.at(job=name, place=job.source))
            except CronqError as problem:
                report.problems.append(problem)
        specs = {name: job.spec for name, job in self.known().items() if name in saved}
        report.changed += KeyedSchedules(self.jobs, self.changes).follow(specs)
        if remove:
            report.removed = [name for name in self.ghosts(modules) if self._remove(name, by)]
        return report

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
        except UnknownJob:
            return False
