"""The ticks to come, of one job or of several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from cronq.schedule.bounds import first_ticks

if TYPE_CHECKING:
    from cronq.jobs.stored import StoredJob
    from cronq.schedule.schedule import Schedule


class UpcomingTick(NamedTuple):
    """One tick to come (epoch seconds UTC) and its job."""

    tick: int
    job: StoredJob

    @property
    def is_paused(self) -> bool:
        """Return True if it will only be recorded, unless the job is resumed before."""
        pause = self.job.state.pause
        return pause is not None and pause.covers(self.tick)


def _next_ticks(job: StoredJob, schedule: Schedule, now_s: float, count: int) -> list[int]:
    mark = job.state.mark or 0
    after = max(int(now_s), mark)
    if job.spec.repeat is not None:
        left = max(0, job.spec.repeat - job.state.ticks)
        _, due = first_ticks(schedule, mark, left, after)
        count = min(count, left - due)
    return schedule.next_ticks(after, count)


def upcoming_ticks(jobs: Iterable[StoredJob], now_s: float, count: int = 1) -> list[UpcomingTick]:
    """The next *count* ticks of each of these jobs, the earliest first; those that are due already are left out."""
    found = [
        UpcomingTick(tick, job)
        for job in jobs
        if job.spec.schedule is not None
        for tick in _next_ticks(job, job.spec.schedule, now_s, count)
    ]
    return sorted(found, key=lambda each: (each.tick, each.job.spec.name))
