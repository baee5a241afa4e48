"""The ticks to come, of one job or of several, and which of them will only be recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cronq.jobs.calendar import Calendars
from cronq.jobs.stored import StoredJob
from cronq.runs.due import due_until, excluded
from cronq.schedule.bounds import first_ticks
from cronq.schedule.schedule import Schedule


class UpcomingTick(NamedTuple):
    """One tick to come (epoch seconds UTC) and its job."""

    tick: int
    job: StoredJob
    excluded: str | None  #: why it will only be recorded, as things stand; None: it will run

    @property
    def is_paused(self) -> bool:
        """Return True if the reason is that its job is paused."""
        pause = self.job.state.pause
        return pause is not None and pause.covers(self.tick)


def _next_ticks(job: StoredJob, schedule: Schedule, now_s: float, count: int) -> list[int]:
    mark = job.state.mark or 0
    after = max(due_until(job.spec, now_s), mark)
    if job.spec.repeat is not None:
        left = max(0, job.spec.repeat - job.state.ticks)
        _, due = first_ticks(schedule, mark, left, after)
        count = min(count, left - due)
    return schedule.next_ticks(after, count)


def upcoming_tick(tick: int, job: StoredJob, calendars: Calendars) -> UpcomingTick:
    """*tick* of *job*, as its pause, its skips and *calendars* are now."""
    outcome = excluded(job.spec, tick, job.state.pause, calendars, job.state.skips)
    return UpcomingTick(tick, job, None if outcome is None else outcome.reason)


def upcoming_ticks(jobs: Iterable[StoredJob], now_s: float, count: int, calendars: Calendars) -> list[UpcomingTick]:
    """The next *count* ticks of each of these jobs, the earliest first; those that are due already are left out."""
    found = [
        upcoming_tick(tick, job, calendars)
        for job in jobs
        if job.spec.schedule is not None
        for tick in _next_ticks(job, job.spec.schedule, now_s, count)
    ]
    return sorted(found, key=lambda each: (each.tick, each.job.spec.name))
