"""Schedules of one job by key, as they are stored: made, found, and kept in step with their job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cronq.definitions.changes import Changes
from cronq.errors import DefinitionError
from cronq.jobs.keyed import following, follows, job_and_key, keyed_spec
from cronq.jobs.spec import JobSpec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob

#: Jobs that are read in one round trip.
_AT_ONCE = 500


class KeyedSchedules:
    """The schedules by key of all jobs."""

    def __init__(self, jobs: JobStore, changes: Changes) -> None:
        self.jobs = jobs
        self.changes = changes

    def set(self, job: JobSpec, key: str, options: Mapping[str, Any], *, by: str) -> str:
        """Store the schedule *key* of *job*, in place of one of that key. Returns `created`, `changed` or `same`.

        Raises DefinitionError, also when another job has its name; SpecTooNew.
        """
        spec = keyed_spec(job, key, options)
        known = self.jobs.find([spec.name]).get(spec.name)
        if isinstance(known, StoredJob) and known.spec.of != job.name:
            raise DefinitionError(f"the name {spec.name!r} is taken by the job at {known.source}; choose another key")
        return self.changes.save(spec, source=f"scheduled by {by}", origin=f"schedule of {job.name}")

    def of(self, name: str) -> dict[str, StoredJob]:
        """The schedules of the job *name* that can be read, by key, sorted."""
        keys = {full: found[1] for full in self.jobs.names() if (found := job_and_key(full)) and found[0] == name}
        return {keys[full]: job for full, job in self._read(sorted(keys)).items() if job.spec.of == name}

    def follow(self, jobs: Mapping[str, JobSpec]) -> list[str]:
        """Give the schedules of *jobs* the options that these have now. Returns the names of those that changed.

        One round trip when no job has any; else one for 500 of them, and those of a change for each that differs.
        """
        changed = []
        for job, spec in self.behind(jobs):
            if self.changes.save(spec, source=job.source, origin=job.origin) == "changed":
                changed.append(spec.name)
        return changed

    def behind(self, jobs: Mapping[str, JobSpec]) -> list[tuple[StoredJob, JobSpec]]:
        """The schedules of *jobs* that lack options which these have now, and as each should be."""
        names = {full: found[0] for full in self.jobs.names() if (found := job_and_key(full)) and found[0] in jobs}
        differing = [name for name, words in self._texts(list(names)) if not follows(jobs[names[name]], words)]
        stored = [(job, jobs.get(job.spec.of or "")) for job in self._read(differing).values()]
        wanted = [(job, following(of, job.spec)) for job, of in stored if of is not None]
        return [(job, spec) for job, spec in wanted if spec != job.spec]

    def _texts(self, names: list[str]) -> Iterator[tuple[str, str]]:
        for first in range(0, len(names), _AT_ONCE):
            yield from self.jobs.specs(names[first : first + _AT_ONCE]).items()

    def orphans(self) -> list[StoredJob]:
        """Schedules whose job is stored no more: no worker can run them until it is defined again."""
        names = set(self.jobs.names())
        lost = [full for full in sorted(names) if (found := job_and_key(full)) and found[0] not in names]
        return [job for job in self._read(lost).values() if job.spec.of is not None]

    def _read(self, names: list[str]) -> dict[str, StoredJob]:
        found: dict[str, StoredJob] = {}
        for first in range(0, len(names), _AT_ONCE):
            part = self.jobs.find(names[first : first + _AT_ONCE])
            found |= {name: job for name, job in part.items() if isinstance(job, StoredJob)}
        return found
