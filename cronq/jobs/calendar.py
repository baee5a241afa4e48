"""Calendars: named sets of local days and weekly hours, and which ticks of a job they let through. No Redis, no clock.

A calendar is a value of resolved dates: what it says of a tick never depends on a library or on a file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple

from cronq.db.decode import read_json, seconds
from cronq.errors import BadValue, DefinitionError
from cronq.jobs.arguments import short
from cronq.jobs.options import NAME
from cronq.jobs.pause import check_note
from cronq.schedule.zone import find_zone
from cronq.timetext import DAY_S

#: More entries than that would be read by each beat with each change of any calendar.
_MOST_ENTRIES = 5_000
_LONGEST_WINDOW = 100
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_NUMBERS = {name: number for names in (_DAYS, _LONG) for number, name in enumerate(names)}
_HOURS = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
#: 1970-01-01 was a Thursday; its number as `date` counts days.
_EPOCH = date(1970, 1, 1).toordinal()


class DateRange(NamedTuple):
    """The local days from *first* to *last*, both included; days are numbered as by `date.toordinal`."""

    first: int
    last: int

    def __str__(self) -> str:
        """`2026-12-25`, or `2026-12-26..2026-12-31`."""
        first, last = date.fromordinal(self.first), date.fromordinal(self.last)
        return str(first) if first == last else f"{first}..{last}"


class Window(NamedTuple):
    """The same hours of some days of each week, seconds of the local day.

    One that ends at or before its start goes on to that second of the next day. The end is not part of it.
    """

    days: frozenset[int]  #: on which it begins; 0 is Monday
    start_s: int
    end_s: int
    text: str  #: as somebody wrote it

    def holds(self, weekday: int, second: int) -> bool:
        """Return True if that local time is part of it."""
        if self.start_s < self.end_s:
            return weekday in self.days and self.start_s <= second < self.end_s
        if second >= self.start_s:
            return weekday in self.days
        return second < self.end_s and (weekday - 1) % 7 in self.days


@dataclass(frozen=True)
class Calendar:
    """A named set of days and hours; make one with `make_calendar`, which checks."""

    name: str
    dates: tuple[DateRange, ...] = ()  #: in order, none overlaps another
    weekly: tuple[Window, ...] = ()
    tz: str | None = None  #: its zone; None: that of the job that is looked at
    note: str = ""
    by: str = ""  #: who set it
    at_s: float = 0.0  #: when, epoch seconds

    @property
    def has_hours(self) -> bool:
        """Return True if some days are part of it only for some hours."""
        return any((window.start_s, window.end_s) != (0, DAY_S) for window in self.weekly)

    @cached_property
    def _firsts(self) -> list[int]:
        return [each.first for each in self.dates]

    def covers(self, tick: int, tz: str) -> str | None:
        """Why *tick* (epoch seconds) is part of it, in words; None when it is not. *tz* is the zone of the job."""
        day, second = _local(tick, self.tz or tz)
        at = bisect_right(self._firsts, day) - 1
        if at >= 0 and day <= self.dates[at].last:
            return f"{date.fromordinal(day)} is in the calendar {self.name}"
        weekday = date.fromordinal(day).weekday()
        for window in self.weekly:
            if window.holds(weekday, second):
                return f"{_shown(day, second, with_time=self.has_hours)} is in the calendar {self.name} ({window.text})"
        return None

    def same_since(self, tick: int, tz: str) -> int:
        """A moment since which `covers` says the same as of *tick*; it may have done so for longer."""
        stretch = find_zone(self.tz or tz).stretch_at(tick)
        second = (tick + stretch.offset_s) % DAY_S
        edges = {edge % DAY_S for window in self.weekly for edge in (window.start_s, window.end_s)}
        return max(stretch.start_s, tick - second + max((edge for edge in edges if edge <= second), default=0))

    def stored(self) -> dict[str, Any]:
        """As `read_calendar` takes it."""
        return {
            "dates": [str(each) for each in self.dates],
            "weekly": [each.text for each in self.weekly],
            "tz": self.tz,
            "note": self.note,
            "by": self.by,
            "at": self.at_s,
        }


def _local(tick: int, tz: str) -> tuple[int, int]:
    """The local day (as a `date` counts) and the second of it."""
    local_s = tick + find_zone(tz).stretch_at(tick).offset_s
    return _EPOCH + local_s // DAY_S, local_s % DAY_S


def _shown(day: int, second: int, *, with_time: bool) -> str:
    """`Sat 2026-12-26`, or with the time of day."""
    there = date.fromordinal(day)
    words = f"{_DAYS[there.weekday()].capitalize()} {there}"
    return f"{words} {second // 3600:02d}:{second // 60 % 60:02d}" if with_time else words


@dataclass(frozen=True)
class Calendars:
    """All calendars at one moment, by name; one whose stored form is damaged is None."""

    by_name: Mapping[str, Calendar | None] = field(default_factory=dict)

    def exclusion(self, only: Sequence[str], except_: Sequence[str], tick: int, tz: str) -> str | None:
        """Why a job with these calendars does not run at *tick* (epoch seconds), in words; None: it does."""
        found = self.excluding(only, except_, tick, tz)
        return None if found is None else found[1]

    def excluding(self, only: Sequence[str], except_: Sequence[str], tick: int, tz: str) -> tuple[str, str] | None:
        """Which calendars keep a job from running at *tick* (epoch seconds), and why, in words; None: it runs.

        *tz* is the zone of the job. A calendar that is missing lets through as one of *except_*, and does not as one
        of *only*: either way nothing runs that somebody may have excluded on purpose, but for `missing` ones, which
        the caller logs.
        """
        for name in except_:
            calendar = self.by_name.get(name)
            reason = calendar.covers(tick, tz) if calendar is not None else None
            if reason is not None:
                return name, reason
        if not only:
            return None
        known = [calendar for name in only if (calendar := self.by_name.get(name)) is not None]
        if any(calendar.covers(tick, tz) is not None for calendar in known):
            return None
        gone = self.missing(only)
        if gone:
            words = f"there is no calendar {' and no calendar '.join(gone)}, and it runs only on its days"
            return ",".join(gone), words
        day, second = _local(tick, known[0].tz or tz)
        words = _shown(day, second, with_time=any(calendar.has_hours for calendar in known))
        return ",".join(only), f"{words} is not in the calendar {' nor in '.join(only)}"

    def same_since(self, names: Iterable[str], tick: int, tz: str) -> int:
        """A moment since which those of *names* say the same as of *tick* (epoch seconds); never after it."""
        known = [calendar for name in names if (calendar := self.by_name.get(name)) is not None]
        return max((calendar.same_since(tick, tz) for calendar in known), default=tick)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of *names* for which there is no calendar that can be read."""
        return [name for name in names if self.by_name.get(name) is None]


NO_CALENDARS = Calendars()


def make_calendar(
    name: str, dates: Iterable[str] = (), weekly: Iterable[str] = (), tz: str | None = None, note: str = ""
) -> Calendar:
    """A checked calendar from what people write.

    *dates* are `2026-12-25` or `2026-12-26..2026-12-31`; *weekly* are days, with or without hours: `sat,sun`,
    `mon-fri 22:00-06:00`. Raises DefinitionError that names the calendar, the value and the remedy.
    """
    if not NAME.fullmatch(name):
        raise DefinitionError(f"{short(name)} cannot name a calendar; use 1 to 100 of the characters A-Z a-z 0-9 _ -")
    try:
        check_note(note)
        if tz is not None:
            find_zone(tz)
        ranges = _merged([_read_dates(words) for words in dates])
        windows = tuple(_read_window(words) for words in weekly)
    except DefinitionError as error:
        raise DefinitionError(f"calendar {name!r}: {error.problem}") from None
    if not ranges and not windows:
        raise DefinitionError(f"calendar {name!r}: it would hold no day; give dates or weekly hours")
    if len(ranges) + len(windows) > _MOST_ENTRIES:
        many = f"{len(ranges) + len(windows):,} dates and windows, and {_MOST_ENTRIES:,} are allowed; use ranges"
        raise DefinitionError(f"calendar {name!r}: {many}")
    return Calendar(name, ranges, windows, tz, note)


def read_calendar(name: str, raw: str | bytes) -> Calendar | None:
    """The calendar in a stored text; None for damage."""
    try:
        values = read_json(raw)
        made = make_calendar(name, values["dates"], values["weekly"], values["tz"], str(values["note"]))
        at_s = seconds(float(values["at"])) or 0.0
        return Calendar(name, made.dates, made.weekly, made.tz, made.note, str(values["by"]), at_s)
    except (BadValue, DefinitionError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _read_dates(words: str) -> DateRange:
    first, dots, last = words.strip().partition("..")
    try:
        found = DateRange(_read_date(first), _read_date(last if dots else first))
    except ValueError:
        remedy = "write 2026-12-25, or 2026-12-26..2026-12-31 for both and all between"
        raise DefinitionError(f"{short(words)} is no date; {remedy}") from None
    if found.last < found.first:
        raise DefinitionError(f"{short(words)} ends before it begins; turn it round")
    return found


def _read_date(words: str) -> int:
    if not _DATE.fullmatch(words.strip()):  # `date` also takes 2026-W52-5
        raise ValueError(words)
    return date.fromisoformat(words.strip()).toordinal()


def _merged(ranges: Iterable[DateRange]) -> tuple[DateRange, ...]:
    """In order, overlapping ones made one."""
    found: list[DateRange] = []
    for each in sorted(ranges):
        if found and each.first <= found[-1].last:
            found[-1] = DateRange(found[-1].first, max(found[-1].last, each.last))
        else:
            found.append(each)
    return tuple(found)


def _read_window(words: str) -> Window:
    text = " ".join(words.lower().split()).replace(", ", ",")
    if len(text) > _LONGEST_WINDOW:
        raise DefinitionError(f"{short(words)} is too long; give several of them")
    listed, _, hours = text.partition(" ")
    days = frozenset(day for part in listed.split(",") for day in _read_days(part, words))
    if not hours:
        return Window(days, 0, DAY_S, text)
    match = _HOURS.fullmatch(hours)
    start_s, end_s = (_second(match[1], match[2]), _second(match[3], match[4])) if match else (-1, -1)
    if not (0 <= start_s < DAY_S and 0 <= end_s <= DAY_S):
        problem = f"{short(words)}: {short(hours)} are no hours; write 09:00-17:00, or 22:00-06:00 into the next day"
        raise DefinitionError(problem)
    if start_s == end_s:
        raise DefinitionError(f"{short(words)} is empty; leave the hours out for whole days")
    return Window(days, start_s, end_s, text)


def _read_days(part: str, words: str) -> Iterable[int]:
    first, dash, last = part.partition("-")
    try:
        start, end = _DAY_NUMBERS[first], _DAY_NUMBERS[last if dash else first]
    except KeyError:
        problem = f"{short(words)}: {short(part)} is no day; write sat,sun or mon-fri, then hours if need be"
        raise DefinitionError(problem) from None
    return ((start + step) % 7 for step in range((end - start) % 7 + 1))


def _second(hours: str, minutes: str) -> int:
    return int(hours) * 3600 + int(minutes) * 60 if int(minutes) < 60 else -1
