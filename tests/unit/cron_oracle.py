"""What a cron daemon would do, found by watching a wall clock minute by minute: the judge of `cronq.schedule.schedule`.

Slow and plain on purpose. Of the code it judges it uses nothing, of cronsim only the parser of one field; the
calendar is decided by looking at neighbouring days, the zone by asking zoneinfo for every minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim.cronsim import CronSim, Field

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Minute:
    """One minute of real time, and what a clock on the wall shows in it."""

    at_s: int
    shown: datetime
    shown_before: bool  #: the same local minute has been shown already
    left_out: tuple[datetime, ...]  #: local minutes that were passed over just before this one


@lru_cache(maxsize=256)
def watch(tz: str, begin_s: int, end_s: int) -> tuple[Minute, ...]:
    """The minutes of [begin_s, end_s), after two days of watching, so that the first of them are judged well."""
    zone = ZoneInfo(tz)
    minutes: list[Minute] = []
    seen: set[datetime] = set()
    last: datetime | None = None
    for at_s in range(begin_s // 60 * 60 - 2 * 86400, end_s, 60):
        shown = datetime.fromtimestamp(at_s, zone).replace(tzinfo=None, fold=0)
        assert shown.second == 0, "offsets of whole minutes only"
        left_out = []
        if last is not None:
            while last + MINUTE < shown:
                last += MINUTE
                left_out.append(last)
        minutes.append(Minute(at_s, shown, shown in seen, tuple(left_out)))
        seen.add(shown)
        last = shown
    return tuple(minute for minute in minutes if minute.at_s >= begin_s // 60 * 60)


class Expression:
    """Six fields, matched by looking."""

    def __init__(self, text: str) -> None:
        self.fields = text.upper().split()
        if len(self.fields) == 5:
            self.fields.insert(0, "0")
        self.sets = [Field(index).parse(value) for index, value in enumerate(self.fields)]
        self.wildcard = self.fields[1][0] == "*" or self.fields[2][0] == "*"
        self.seconds = sorted(second for second in self.sets[0] if isinstance(second, int))

    def matches(self, shown: datetime) -> bool:
        return shown.minute in self.sets[1] and shown.hour in self.sets[2] and self.matches_day(shown.date())

    def matches_day(self, day: date) -> bool:
        if day.month not in self.sets[4]:
            return False
        if self.fields[3][0] == "*" or self.fields[5][0] == "*":
            return self._by_month(day) and self._by_week(day)
        return self._by_month(day) or self._by_week(day)

    def _by_month(self, day: date) -> bool:
        later = [day + n * DAY for n in range(1, 8) if (day + n * DAY).month == day.month]
        if CronSim.LAST in self.sets[3] and not later:
            return True
        if CronSim.LAST_WEEKDAY in self.sets[3] and day.weekday() < 5 and all(d.weekday() > 4 for d in later):
            return True
        return day.day in self.sets[3]

    def _by_week(self, day: date) -> bool:
        is_last = (day + 7 * DAY).month != day.month
        nth = len([n for n in range(0, 36, 7) if (day - n * DAY).month == day.month and n < day.day])
        for number in {day.isoweekday(), day.isoweekday() % 7}:
            if number in self.sets[5] or (number, nth) in self.sets[5]:
                return True
            if is_last and (number, CronSim.LAST) in self.sets[5]:
                return True
        return False


def ticks(text: str, tz: str, dst: str, begin_s: int, end_s: int) -> list[int]:
    """The ticks in [begin_s, end_s) of a cron expression."""
    expression = Expression(text)
    return judge(
        watch(tz, begin_s, end_s), expression.matches, expression.seconds, expression.wildcard, dst, begin_s, end_s
    )


def daily_ticks(days: int, hour: int, minute: int, tz: str, dst: str, begin_s: int, end_s: int) -> list[int]:
    """The ticks in [begin_s, end_s) of a time on every nth local day since 1970-01-01."""

    def matches(shown: datetime) -> bool:
        number = (shown.date() - date(1970, 1, 1)).days
        return (shown.hour, shown.minute) == (hour, minute) and number % days == 0

    return judge(watch(tz, begin_s, end_s), matches, [0], False, dst, begin_s, end_s)


def judge(
    minutes: tuple[Minute, ...],
    matches: Callable[[datetime], bool],
    seconds: list[int],
    wildcard: bool,
    dst: str,
    begin_s: int,
    end_s: int,
) -> list[int]:
    """The dst rules in the plainest words."""
    found = set()
    makes_up = not wildcard and dst in ("debian", "both")
    repeats = dst == "both" or (dst == "debian" and wildcard)
    for minute in minutes:
        if makes_up and len(minute.left_out) <= 180 and any(matches(shown) for shown in minute.left_out):
            found.add(minute.at_s)
        if minute.shown_before and not repeats:
            continue
        if matches(minute.shown):
            found.update(minute.at_s + second for second in seconds)
    return sorted(tick for tick in found if begin_s <= tick < end_s)


@lru_cache(maxsize=64)
def changes(tz: str, first_year: int = 1970, last_year: int = 2037) -> tuple[int, ...]:
    """The minutes in which a zone has a new offset."""
    zone = ZoneInfo(tz)
    found = []
    at_s = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp())
    end_s = int(datetime(last_year + 1, 1, 1, tzinfo=UTC).timestamp())
    offset = _offset(at_s, zone)
    while at_s < end_s:
        after = _offset(at_s + 21600, zone)
        if after != offset:
            found.append(next(s for s in range(at_s, at_s + 21601, 60) if _offset(s, zone) != offset))
        at_s, offset = at_s + 21600, after
    return tuple(found)


def _offset(at_s: int, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(at_s, zone).utcoffset()
