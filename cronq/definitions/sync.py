"""Brings the jobs that this process's code defines to Redis, and finds ghosts: stored jobs that no code defines now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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


class Definitions:
    """The jobs of *registry*, as Redis should have them."""

    def __init__(self, registry: Registry, jobs: JobStore, changes: Changes) -> None:
        self.registry = registry
        self.jobs = jobs
        self.changes = changes

    def known(self) -> Mapping[str, tuple[JobSpec, str, str]]:
        """Spec, place and module of each job that code defines."""
        return {
            name: (definition.spec, definition.place, definition.module)
            for name, definition in self.registry.definitions.items()
        }

    def sync(self, modules: Sequence[str], *, remove: bool, by: str) -> SyncReport:
        """Store what is defined; with *remove*, remove the stored jobs that *modules* defined and no longer do."""
        self.jobs.open_epoch()
        report = SyncReport(problems=list(self.registry.problems))
        saved: set[str] = set()
        for name, (spec, place, module) in self.known().items():
            try:
                getattr(report, self.changes.save(spec, source=place, origin=module)).append(name)
                saved.add(name)
            except DefinitionError as problem:
                report.problems.append(problem.at(job=name, place=place))
            except CronqError as problem:
                report.problems.append(problem)
        specs = {name: spec for name, (spec, _, _) in self.known().items() if name in saved}
        report.changed += KeyedSchedules(self.jobs, self.changes).follow(specs)
        if remove:
            report.removed = [name for name in self.ghosts(modules) if self._remove(name, by)]
        return report

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
