"""The verbs of an application about late runs that the catch-up rate holds: which, how long, and to let them go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cronq.app.held_runs import CatchupReading, DroppedTicks, HeldRun
from cronq.app.parts import Parts
from cronq.jobs.catchup_line import CatchupRate
from cronq.jobs.stored import StoredJob


class CatchupVerbs(Parts):
    """Verbs of `Cronq` about the catch-up line."""

    def catchup(self, names: Iterable[str] = ()) -> CatchupReading:
        """The late runs that are held, of these jobs or of all. Raises UnknownJob."""
        wanted = set(names)
        for name in sorted(wanted):
            self.jobs.get(name)
        pace = self.catchup_line.pace(CatchupRate(self.config.catchup_rate), self.now_s())
        line = self.catchup_line.read()
        runs = [HeldRun(*place, pace.due_in_s(place.number)) for place in line if not wanted or place.job in wanted]
        return CatchupReading(runs, pace.per_s, pace.due_in_s(len(line)))

    def held_runs(self, jobs: Sequence[StoredJob]) -> dict[str, HeldRun]:
        """By name the next held run of each of *jobs* that has one; no round trip when none has."""
        held = [(job, tick) for job in jobs if (tick := job.held_tick) is not None]
        if not held:
            return {}
        pace = self.catchup_line.pace(CatchupRate(self.config.catchup_rate), self.now_s())
        numbers = self.catchup_line.numbers([(job.spec.name, tick) for job, tick in held])
        return {
            job.spec.name: HeldRun(job.spec.name, tick, job.spec.priority, number, pace.due_in_s(number))
            for (job, tick), number in zip(held, numbers, strict=True)
            if number is not None
        }

    def drop_catchup(self, names: Iterable[str] | None = None, *, note: str = "") -> list[DroppedTicks]:
        """Record the held runs of these jobs, None: of all, as `missed`; the jobs go on with their next ticks.

        Returns what was dropped, by job. Raises UnknownJob, and DefinitionError for a note that is too long.
        """
        line = self.catchup_line.read()
        if names is None:
            wanted = sorted({place.job for place in line})
        else:
            wanted = [self.jobs.get(name).spec.name for name in dict.fromkeys(names)]
        changes, dropped = self.changes(), []
        for name in wanted:
            found = changes.drop_held(name, by=self.who, note=note)
            if found:
                first, last = found[0], found[-1]
                ticks = sum(each.ticks for each in found)
                dropped.append(DroppedTicks(name, ticks, first.first or first.tick, last.tick))
        gone = {each.job for each in dropped}
        self.catchup_line.take_out((place.job, place.tick) for place in line if place.job in gone)
        return dropped
