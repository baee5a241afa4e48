"""What faces and job code ask about schedules by key."""

from __future__ import annotations

from typing import Any

from cronq.app.parts import Parts
from cronq.definitions.keyed import KeyedSchedules
from cronq.errors import UnknownJob
from cronq.jobs.keyed import keyed_name
from cronq.jobs.registry import checked_call_json
from cronq.jobs.stored import StoredJob


class KeyedVerbs(Parts):
    """Verbs of `Cronq` about schedules of one job by key."""

    def schedule(self, name: str, key: str, **options: Any) -> str:
        """Store the schedule *key* of the job *name*, in place of one of that key.

        *options* are those of `job`, with a time among them; all others are, and stay, those of the job. Returns
        `created`, `changed` or `same`. Raises UnknownJob, DefinitionError.
        """
        job = self.jobs.get(name).spec
        args, kwargs = options.get("args", job.args), options.get("kwargs", job.kwargs)
        if isinstance(args, list | tuple) and isinstance(kwargs, dict):  # else it is refused as what it is
            checked_call_json(self.registry.definitions.get(name), name, tuple(args), kwargs)
        return self.keyed.set(job, key, options, by=self.who)

    def unschedule(self, name: str, key: str) -> bool:
        """Remove the schedule *key* of the job *name*, with its runs that have not begun. Return True if there was one.

        Raises DefinitionError for what cannot be a key, JobInUse when another job names it as a parent.
        """
        full = keyed_name(name, key)
        known = self.jobs.find([full]).get(full)
        if isinstance(known, StoredJob) and known.spec.of != name:
            return False
        try:
            self.changes().remove(full, by=self.who)
        except UnknownJob:
            return False
        return True

    def schedules(self, name: str) -> dict[str, StoredJob]:
        """The schedules of the job *name* by key."""
        return self.keyed.of(name)

    @property
    def keyed(self) -> KeyedSchedules:
        """The schedules by key of all jobs."""
        return KeyedSchedules(self.jobs, self.changes())
