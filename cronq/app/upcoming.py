"""The ticks to come, of one job or of several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cronq.jobs.stored import StoredJob


class UpcomingTick(NamedTuple):
    """One tick to come (epoch seconds UTC) and its job."""

    tick: int
    job: StoredJob

    @property
    def is_paused(self) -> bool:
        """Return True if it will only be recorded, unless the job is resumed before."""
        pause = self.job.state.pause
        return pause is not None and pause.covers(self.tick)


def upcoming_ticks(jobs: Iterable[StoredJob], now_s: float, count: int = 1) -> list[UpcomingTick]:
    """The next *count* ticks of each of these jobs, the earliest first; those that are due already are left out."""
    found = [
        UpcomingTick(tick, job)
        for job in jobs
        if job.spec.schedule is not None
        for tick in job.spec.schedule.next_ticks(max(int(now_s), job.state.mark or 0), count)
    ]
    return sorted(found, key=lambda each: (each.tick, each.job.spec.name))
