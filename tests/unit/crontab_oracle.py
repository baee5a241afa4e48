"""When cron would start a command, found by trying every minute: the judge of imported crontabs.

Written from crontab(5) and uses nothing of the code it judges. A clock change is none of its business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_MACROS = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_MONTHS = ["-", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@dataclass(frozen=True)
class Times:
    """The five fields as sets, and whether each day field begins with a star."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    has_star: bool

    def match_day(self, day: datetime) -> bool:
        """The or-rule: with both day fields restricted one is enough."""
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (in_month and in_week if self.has_star else in_month or in_week)


def read(expression: str) -> Times:
    words = _MACROS.get(expression, expression).split()
    minutes, hours, days, months = (
        _field(word, low, high, names)
        for word, low, high, names in zip(words, (0, 0, 1, 1), (59, 23, 31, 12), ((), (), (), _MONTHS), strict=False)
    )
    weekdays = _field(words[4], 0, 7, _DAYS)
    weekdays = frozenset(0 if day == 7 else day for day in weekdays)
    return Times(minutes, hours, days, months, weekdays, words[2][0] == "*" or words[4][0] == "*")


def _field(word: str, low: int, high: int, names: object) -> frozenset[int]:
    known = {name: number for number, name in enumerate(names)} if isinstance(names, list) else {}

    def number(text: str) -> int:
        return known[text.lower()] if text.lower() in known else int(text)

    found: set[int] = set()
    for term in word.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (number(first), number(last or first))
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def starts(expression: str, tz: str, after: datetime, count: int) -> Iterator[int]:
    """The first *count* starts after *after* (UTC), as epoch seconds; every minute of a matching day is tried."""
    times, zone = read(expression), ZoneInfo(tz)
    day = after.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    while count:
        if times.match_day(day):
            for hour, minute in ((hour, minute) for hour in range(24) for minute in range(60)):
                if minute not in times.minutes or hour not in times.hours:
                    continue
                shown = day.replace(hour=hour, minute=minute)
                moment = shown.replace(tzinfo=zone).astimezone(UTC)
                if moment > after and count:
                    count -= 1
                    yield int(moment.timestamp())
        day += timedelta(days=1)
