"""Finds which late runs of one reading are to be held by the catch-up rate, and has them held."""

from __future__ import annotations

from cronq.jobs.catchup_line import CatchupLine, HeldJob
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import DueJob
from cronq.runs.brake import not_held, takes_turns
from cronq.runs.due import Decision, due_until


class Holding:
    """The late runs of the jobs that one pass decides about; with *is_on* False none is held."""

    def __init__(self, line: CatchupLine, *, is_on: bool) -> None:
        self.line = line
        self.is_on = is_on
        self.found = 0  #: how many runs are to be held
        self._held: dict[str, HeldJob] = {}
        self._decided: list[tuple[str, int]] = []  #: ticks (job, tick) that were held and are no longer pending

    def begin(self) -> None:
        """Forget what the last pass found."""
        self.found, self._held, self._decided = 0, {}, []

    def to_claim(self, due: DueJob, spec: JobSpec, decisions: list[Decision], now_s: float) -> list[Decision]:
        """The first of the *decisions*, those that are to be claimed now; the others wait, their runs in the line."""
        if not self.is_on or (len(decisions) == 1 and not due.held and not takes_turns(decisions[0])):
            return decisions  # as nearly always
        count = not_held(spec, decisions, now_s, due.held, due.through)
        mark = decisions[count - 1].tick if count else due.mark or 0
        if max(due.mark or 0, due.through) < due.held <= mark:
            self._decided.append((due.name, due.held))
        if count < len(decisions):
            ticks = [each.tick for each in decisions[count:] if each.outcome is None]
            self.found += len(ticks)
            newest, next_s = ticks[-1], decisions[-1].next_tick
            if spec.schedule is not None and next_s is not None and next_s <= now_s:  # not all that is pending
                until = due_until(spec, now_s)
                newest = max(newest, spec.schedule.last_until(until) or 0)
                next_s = spec.due_s(spec.schedule.next_after(until))
            self._held[due.name] = HeldJob(due.name, due.version, mark, ticks, newest, next_s, spec.priority)
        return decisions[:count]

    def next_s(self, name: str, claimed: Decision | None) -> int | None:
        """When the job is due next, the last of whose ticks to be claimed is *claimed*."""
        if name in self._held:
            return self._held[name].next_s
        return claimed.next_tick if claimed is not None else None

    def hold(self) -> int:
        """Give what waits its place in the line, once all before it was claimed. Returns how many are new there.

        Raises RedisError.
        """
        placed = self.line.hold(self._held.values())
        self.line.take_out(self._decided)
        return placed
