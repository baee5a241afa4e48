"""Which times of which days: sets of local times, and the next and the previous one in them.

A *local time* is naive: the seconds since 1970-01-01 00:00 on some wall clock, as an int. Zones and their
clock changes are the business of `zone.py` and `schedule.py`.

cronsim judges which days match. Its stepping is not used: it walks hour by hour (30 µs from one
`0 7 * * 1-5` to the next) and keeps its position in itself, so that threads could not share it. Finding
the next hour, minute and second in known sets takes two binary searches.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime
from typing import Protocol

from cronsim import CronSim

from cronq.timetext import DAY_S

_EPOCH_DAY = date(1970, 1, 1).toordinal()
#: Every kind of year (leap or not, beginning on each weekday) comes back within 40 years.
_YEARS = 41
#: Years of matching days kept per set of days; a listing over a century should not stay in memory.
_YEARS_KEPT = 64


def parse_fields(expression: str) -> CronSim:
    """The fields of an expression, as cronsim reads them. Raises CronSimError."""
    # A CronSim also has a position in time; nothing here uses or moves it.
    return CronSim(expression, datetime(1970, 1, 1, tzinfo=UTC))


class Days(Protocol):
    """A set of days, counted from 1970-01-01."""

    def first(self, day: int) -> int | None:
        """The first day of the set at or after *day*; None: there is none."""
        ...

    def last(self, day: int) -> int | None:
        """The last day of the set at or before *day*; None: there is none."""
        ...

    def count(self, begin: int, end: int) -> int:
        """How many days of the set are in `begin <= day < end`."""
        ...


class CronDays:
    """The days that the fields day of month, month and day of week match, as cronsim judges them."""

    __slots__ = ("_every_day", "_sim", "_years")

    def __init__(self, fields: str) -> None:
        self._sim = parse_fields(f"0 0 {fields}")
        self._every_day = fields == "* * *"
        self._years: dict[int, array[int]] = {}

    def first(self, day: int) -> int | None:
        if self._every_day:
            return day
        begin = date.fromordinal(day + _EPOCH_DAY).year
        for year in range(begin, min(begin + _YEARS, MAXYEAR)):
            days = self._years.get(year)
            if days is None:
                days = self._remember(year)
            index = bisect_left(days, day)
            if index < len(days):
                return days[index]
        return None

    def last(self, day: int) -> int | None:
        if self._every_day:
            return day
        begin = date.fromordinal(day + _EPOCH_DAY).year
        for year in range(begin, max(begin - _YEARS, 0), -1):
            days = self._years.get(year)
            if days is None:
                days = self._remember(year)
            index = bisect_right(days, day)
            if index:
                return days[index - 1]
        return None

    def count(self, begin: int, end: int) -> int:
        if self._every_day:
            return end - begin
        found = 0
        for year in range(date.fromordinal(begin + _EPOCH_DAY).year, date.fromordinal(end + _EPOCH_DAY).year + 1):
            days = self._years.get(year)
            if days is None:
                days = self._remember(year)
            found += bisect_left(days, end) - bisect_left(days, begin)
        return found

    def any(self) -> bool:
        """Return True if there is such a day at all."""
        return self._every_day or any(self._in_year(year) for year in range(1970, 1970 + _YEARS))

    def _remember(self, year: int) -> array[int]:
        if len(self._years) >= _YEARS_KEPT:
            self._years.clear()
        days = self._years[year] = self._in_year(year)
        return days

    def _in_year(self, year: int) -> array[int]:
        days = array("i")
        for month in sorted(self._sim.months):
            first = date(year, month, 1).toordinal()
            for ordinal in range(first, first + monthrange(year, month)[1]):
                if self._sim.match_day(date.fromordinal(ordinal)):
                    days.append(ordinal - _EPOCH_DAY)
        return days


@dataclass(frozen=True, slots=True)
class EveryNthDay:
    """Each *step*-th day, counted from the day *origin*; a day is its number since 1970-01-01."""

    step: int
    origin: int = 0

    def first(self, day: int) -> int:
        return -((self.origin - day) // self.step) * self.step + self.origin

    def last(self, day: int) -> int:
        return (day - self.origin) // self.step * self.step + self.origin

    def count(self, begin: int, end: int) -> int:
        return (end - 1 - self.origin) // self.step - (begin - 1 - self.origin) // self.step


class Times:
    """The times of day that hour, minute and second match, in seconds since local midnight."""

    __slots__ = ("_minutes", "_seconds", "earliest", "latest")

    def __init__(self, hours: Iterable[int], minutes: Iterable[int], seconds: Iterable[int]) -> None:
        in_hour = sorted(minutes)
        self._minutes = array("H", (hour * 60 + minute for hour in sorted(hours) for minute in in_hour))
        self._seconds = tuple(sorted(seconds))
        self.earliest = self._minutes[0] * 60 + self._seconds[0]
        self.latest = self._minutes[-1] * 60 + self._seconds[-1]

    def count(self, end: int | None = None) -> int:
        """How many matching times of a day are before its second *end*; None: how many there are."""
        if end is None:
            return len(self._minutes) * len(self._seconds)
        minute, second = divmod(end, 60)
        index = bisect_left(self._minutes, minute)
        is_in = index < len(self._minutes) and self._minutes[index] == minute
        return index * len(self._seconds) + (bisect_left(self._seconds, second) if is_in else 0)

    def of_day(self) -> list[int]:
        """All matching times of a day, in order."""
        return [minute * 60 + second for minute in self._minutes for second in self._seconds]

    def first(self, second: int) -> int | None:
        """The first matching time at or after *second*, on the same day."""
        minutes = self._minutes
        minute, second = divmod(second, 60)
        index = bisect_left(minutes, minute)
        if index < len(minutes) and minutes[index] == minute:
            if second <= self._seconds[-1]:
                return minute * 60 + self._seconds[bisect_left(self._seconds, second)]
            index += 1
        return minutes[index] * 60 + self._seconds[0] if index < len(minutes) else None

    def last(self, second: int) -> int | None:
        """The last matching time at or before *second*, on the same day."""
        minutes = self._minutes
        minute, second = divmod(second, 60)
        index = bisect_right(minutes, minute)
        if index and minutes[index - 1] == minute:
            if second >= self._seconds[0]:
                return minute * 60 + self._seconds[bisect_right(self._seconds, second) - 1]
            index -= 1
        return minutes[index - 1] * 60 + self._seconds[-1] if index else None


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A set of local times: some times of day on some days. Immutable, shared by equal schedules."""

    days: Days
    times: Times
    #: True if the minute or the hour field begins with `*`: so Debian's cron tells jobs that simply follow the
    #: clock from jobs at fixed times.
    wildcard: bool

    def first(self, local_s: int) -> int | None:
        """The first matching local time at or after *local_s*; None: there is none."""
        today, second = divmod(local_s, DAY_S)
        day = self.days.first(today)
        if day == today:
            found = self.times.first(second)
            if found is not None:
                return today * DAY_S + found
            day = self.days.first(today + 1)
        return None if day is None else day * DAY_S + self.times.earliest

    def last(self, local_s: int) -> int | None:
        """The last matching local time at or before *local_s*; None: there is none."""
        today, second = divmod(local_s, DAY_S)
        day = self.days.last(today)
        if day == today:
            found = self.times.last(second)
            if found is not None:
                return today * DAY_S + found
            day = self.days.last(today - 1)
        return None if day is None else day * DAY_S + self.times.latest

    def count(self, begin_s: int, end_s: int) -> int:
        """How many matching local times are in `begin_s <= t < end_s`; takes time with the years, not the number."""
        days, times = self.days, self.times
        (first_day, before), (last_day, until) = divmod(begin_s, DAY_S), divmod(end_s, DAY_S)
        found = days.count(first_day, last_day) * times.count()
        if days.first(first_day) == first_day:
            found -= times.count(before)
        if days.first(last_day) == last_day:
            found += times.count(until)
        return found

    def between(self, begin_s: int, end_s: int, offset_s: int) -> list[int]:
        """All matching local times in `begin_s <= t < end_s`, in order, each less *offset_s*."""
        found: list[int] = []
        times = self.times.of_day()
        day = self.days.first(begin_s // DAY_S)
        while day is not None and day * DAY_S < end_s:
            midnight_s = day * DAY_S - offset_s
            found += [midnight_s + time for time in times]
            day = self.days.first(day + 1)
        return found[bisect_left(found, begin_s - offset_s) : bisect_left(found, end_s - offset_s)]

    def some_between(self, begin_s: int, end_s: int, limit: int) -> list[int]:
        """The first *limit* matching local times in `begin_s <= t < end_s`."""
        found: list[int] = []
        local_s = self.first(begin_s)
        while local_s is not None and local_s < end_s and len(found) < limit:
            found.append(local_s)
            local_s = self.first(local_s + 1)
        return found
