"""Two days of the ledger held against each other, job by job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from cronq.errors import ScheduleError
from cronq.runs.diff import Difference, day_differences
from cronq.runs.history import Wanted, newest_rows
from cronq.runs.store import Period, RunStore
from cronq.schedule.zone import find_zone


@dataclass(frozen=True)
class Days:
    """Two days, of which the first is what one expects and the second what is looked at, in the zone *tz*."""

    before: date
    after: date
    tz: str = "UTC"

    def periods(self, now_s: float) -> tuple[Period, Period]:
        """From when to when they are; of a day that is not over only as much as has passed, on both days.

        Raises ScheduleError for an unknown zone or a day without an end, and when the second has not begun.
        """
        length = passed_of(self.after, self.tz, now_s)
        zone = ZoneInfo(self.tz)
        return part_of(self.before, length, zone), part_of(self.after, length, zone)


def passed_of(day: date, tz: str, now_s: float) -> timedelta:
    """How much of *day* has passed in the zone *tz*, by its clocks. Raises ScheduleError: unknown zone, not begun."""
    find_zone(tz)
    so_far = datetime.fromtimestamp(now_s, ZoneInfo(tz)).replace(tzinfo=None) - datetime.combine(
        day, datetime.min.time()
    )
    if so_far < timedelta(0):
        raise ScheduleError(f"{day} has not begun yet in {tz}", field="day")
    return min(so_far, timedelta(days=1))


def part_of(day: date, length: timedelta, zone: ZoneInfo) -> Period:
    """The first part of *day*, so long by its clocks. Raises ScheduleError for one without an end."""
    begin = datetime.combine(day, datetime.min.time())
    try:
        first, last = (moment.replace(tzinfo=zone).timestamp() for moment in (begin, begin + length))
    except (OverflowError, ValueError):
        raise ScheduleError(f"{day} is out of the years that can be compared", field="day") from None
    return Period(first, last - 0.001)  # midnight belongs to the day that it begins


def differences(runs: RunStore, names: Iterable[str], days: Days, now_s: float) -> list[Difference]:
    """What is different in each of these jobs; four round trips a job for up to 500 ticks a day.

    Raises ScheduleError.
    """
    before, after = days.periods(now_s)
    zone = ZoneInfo(days.tz)

    def time_of_day(tick: int) -> str:
        return f"{datetime.fromtimestamp(tick, zone):%H:%M:%S}".removesuffix(":00")

    found: list[Difference] = []
    for name in names:
        was, now = (newest_rows(runs, [name], Wanted(period=period)) for period in (before, after))
        found += day_differences(name, was, now, time_of_day)
    return found
