"""Schedules that begin and end: a single tick, and the part of another schedule from one moment to another."""

from __future__ import annotations

from dataclasses import dataclass

from cronq.errors import ScheduleError
from cronq.schedule.moment import parse_moment_s
from cronq.schedule.schedule import Schedule
from cronq.schedule.zone import find_zone
from cronq.timetext import iso


@dataclass(frozen=True, slots=True)
class OnceSchedule(Schedule):
    """A single tick."""

    tick: int  #: epoch seconds UTC

    def next_after(self, after_s: int) -> int | None:
        return self.tick if after_s < self.tick else None

    def last_until(self, until_s: int) -> int | None:
        return self.tick if until_s >= self.tick else None

    def count(self, after_s: int, until_s: int) -> int:
        return int(after_s < self.tick <= until_s)

    def between(self, after_s: int, until_s: int) -> list[int]:
        return [self.tick] if after_s < self.tick <= until_s else []

    def __str__(self) -> str:
        return f"at {iso(self.tick)}"

    def describe(self) -> str:
        return f"Once, at {iso(self.tick)}"


@dataclass(frozen=True, slots=True)
class BoundedSchedule(Schedule):
    """The ticks of *whole* from *start_s* to *end_s*, both included; None: without that bound."""

    whole: Schedule
    start_s: int | None
    end_s: int | None

    def next_after(self, after_s: int) -> int | None:
        if self.start_s is not None:
            after_s = max(after_s, self.start_s - 1)
        found = self.whole.next_after(after_s)
        return None if found is None or (self.end_s is not None and found > self.end_s) else found

    def last_until(self, until_s: int) -> int | None:
        if self.end_s is not None:
            until_s = min(until_s, self.end_s)
        found = self.whole.last_until(until_s)
        return None if found is None or (self.start_s is not None and found < self.start_s) else found

    def count(self, after_s: int, until_s: int) -> int:
        if self.start_s is not None:
            after_s = max(after_s, self.start_s - 1)
        if self.end_s is not None:
            until_s = min(until_s, self.end_s)
        return self.whole.count(after_s, until_s) if after_s < until_s else 0

    def between(self, after_s: int, until_s: int) -> list[int]:
        first_s = after_s if self.start_s is None else max(after_s, self.start_s - 1)
        last_s = until_s if self.end_s is None else min(until_s, self.end_s)
        return self.whole.between(first_s, last_s) if first_s < last_s else []

    def __str__(self) -> str:
        return str(self.whole)

    def describe(self) -> str:
        begins = f", from {iso(self.start_s)} on" if self.start_s is not None else ""
        ends = f", until {iso(self.end_s)}" if self.end_s is not None else ""
        return f"{self.whole.describe()}{begins}{ends}"


def first_ticks(schedule: Schedule, after_s: int, count: int, until_s: int) -> tuple[Schedule, int]:
    """*schedule* without what follows its first *count* ticks after *after_s*; how many of those are up to *until_s*.

    It holds for ticks up to *until_s*, and for the question whether one follows: more are not looked at.
    """
    last = after_s
    for found in range(count):
        tick = schedule.next_after(last)
        if tick is None or tick > until_s:
            return schedule, found
        last = tick
    return bounded(schedule, None, last), max(count, 0)


def once(at: str, tz: str, dst: str) -> OnceSchedule:
    """The schedule of the single tick *at*, a date with a time; without an offset it is of the zone *tz*.

    Raises ScheduleError.
    """
    try:
        return OnceSchedule(tz, dst, parse_moment_s(at, find_zone(tz)))
    except ValueError as error:
        raise ScheduleError(str(error), field="at") from None


def bounded(schedule: Schedule, start_s: int | None, end_s: int | None) -> Schedule:
    """*schedule* between these moments; itself when there is no bound."""
    if start_s is None and end_s is None:
        return schedule
    return BoundedSchedule(schedule.tz, schedule.dst, schedule, start_s, end_s)
