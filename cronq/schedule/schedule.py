"""Schedules: which instants a job is due at, by cron expression or interval, in a zone, across clock changes.

A tick is a whole second UTC. A schedule is a value: it has no position, and asking it changes nothing, so one
object serves all threads, and stepping from any tick gives what one long listing gives.

**What happens when clocks change** is the `dst` rule. Cron expressions are of two kinds, as in Debian's
cron: *wildcard* when the minute or the hour field begins with `*` (`*/15 * * * *`, `0 * * * *`,
`*/10 2 * * *`), else *fixed* (`30 2 * * *`, `0 9-17 * * 1-5`, `0/15 2 * * *`, every `at`). `H` counts as
what it becomes: `H * * * *` is wildcard by its hour, `H/15 2 * * *` is fixed. A *gap* is the local time that a
clock set forward leaves out; *repeated* is the local time that a clock set back shows twice.

=========  ========  ====================================================  ==========================
`dst`      kind      ticks whose local time falls into a gap               ticks at repeated times
=========  ========  ====================================================  ==========================
`debian`   fixed     run once, together, at the instant the gap ends       run once, the first time
`debian`   wildcard  do not run                                            run both times
`skip`     either    do not run                                            run once, the first time
`both`     fixed     run once, together, at the instant the gap ends       run both times
`both`     wildcard  do not run                                            run both times
=========  ========  ====================================================  ==========================

Several ticks in one gap are one run, and so is a tick of the gap together with one exactly at its end. A gap of
more than three hours (a zone that crosses the date line loses a whole day) is a correction and not a daylight
saving change: under every rule its ticks do not run. Seconds make no difference to any of this.

An interval without `at` counts from its anchor, else from 1970-01-01 00:00 UTC, and knows no zone and no clock change.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from cronq.errors import ScheduleError
from cronq.schedule.cron import compile_pattern, expand, explain
from cronq.schedule.pattern import EveryNthDay, Pattern, Times
from cronq.schedule.zone import Zone, find_zone
from cronq.timetext import DAY_S, iso, parse_duration_s, utc

DST_RULES = ("debian", "skip", "both")

#: Debian: changes of up to three hours are daylight saving, larger ones are corrections of the clock. (The
#: alternative, a run at the first instant after a missing day, would run a daily job twice on the day after,
#: once of them for a date that nobody there ever had.)
LARGEST_GAP_S = 3 * 3600
#: More than any zone's offset plus any change of it: from an instant so long before a local time, everything
#: that local time can mean lies ahead.
_MARGIN_S = 2 * DAY_S
#: Nothing ticks outside the years 1801 to 9899: zones and calendars are known a little further.
_FIRST_S = -5_333_126_400
_LAST_S = 250_246_540_800

_AT = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?", re.ASCII)


class Rule(NamedTuple):
    """What becomes of ticks when the clocks change."""

    makes_up: bool  #: ticks of a gap run at its end
    repeats: bool  #: ticks at repeated local times run both times


# By the dst rule and whether the pattern is a wildcard: the table above.
_RULES = {
    ("debian", False): Rule(makes_up=True, repeats=False),
    ("debian", True): Rule(makes_up=False, repeats=True),
    ("skip", False): Rule(makes_up=False, repeats=False),
    ("skip", True): Rule(makes_up=False, repeats=False),
    ("both", False): Rule(makes_up=True, repeats=True),
    ("both", True): Rule(makes_up=False, repeats=True),
}


class _Part(NamedTuple):
    """Part of a span of time: the local times `begin_s <= t < end_s` of one offset; or a single tick, *made_up*."""

    begin_s: int
    end_s: int
    offset_s: int
    made_up: int | None = None  #: at the end of a gap, for ticks in it


@dataclass(frozen=True, slots=True)
class Schedule(ABC):
    """When a job is due. Immutable; equal when written alike with the same zone and rule."""

    tz: str
    dst: str

    @abstractmethod
    def next_after(self, after_s: int) -> int | None:
        """The first tick strictly after *after_s* (both epoch seconds UTC); None: there is none any more."""

    @abstractmethod
    def last_until(self, until_s: int) -> int | None:
        """The newest tick at or before *until_s* (both epoch seconds UTC); None: there was none yet."""

    @abstractmethod
    def count(self, after_s: int, until_s: int) -> int:
        """How many ticks there are in (after_s, until_s]; a million of them are counted as quickly as ten."""

    @abstractmethod
    def between(self, after_s: int, until_s: int) -> list[int]:
        """All ticks in (after_s, until_s], in order: what `next_after` finds one by one, twenty times as fast."""

    @abstractmethod
    def __str__(self) -> str:
        """As people write it: `*/5 * * * *`, `every 5m`, `every 1d at 10:00`."""

    @abstractmethod
    def describe(self) -> str:
        """In English, with a 24 h clock: `At 07:00 on Monday through Friday`."""

    def next_ticks(self, after_s: int, count: int) -> list[int]:
        """The first *count* ticks after *after_s*, oldest first; fewer when there are no more."""
        ticks: list[int] = []
        while len(ticks) < count:
            found = self.next_after(ticks[-1] if ticks else after_s)
            if found is None:
                break
            ticks.append(found)
        return ticks

    def last_ticks(self, after_s: int, until_s: int, limit: int) -> tuple[list[int], bool]:
        """The newest *limit* ticks in (after_s, until_s], oldest first, and whether that is all of them.

        Takes time in proportion to *limit*, however many ticks there were.
        """
        ticks: list[int] = []
        tick = self.last_until(until_s)
        while tick is not None and tick > after_s:
            if len(ticks) >= limit:
                return ticks[::-1], False
            ticks.append(tick)
            tick = self.last_until(tick - 1)
        return ticks[::-1], True


@dataclass(frozen=True, slots=True)
class IntervalSchedule(Schedule):
    """Every so many seconds, counted from a moment that stands in the job, so that no restart or deploy shifts it."""

    every_s: int
    anchor_s: int = 0  #: one of its ticks, epoch seconds; there are as many before it as after it

    def next_after(self, after_s: int) -> int:
        return self.last_until(after_s) + self.every_s

    def last_until(self, until_s: int) -> int:
        return until_s - (until_s - self.anchor_s) % self.every_s

    def count(self, after_s: int, until_s: int) -> int:
        return max(0, (self.last_until(until_s) - self.last_until(after_s)) // self.every_s)

    def between(self, after_s: int, until_s: int) -> list[int]:
        return list(range(self.next_after(after_s), until_s + 1, self.every_s))

    def __str__(self) -> str:
        return f"every {_short(self.every_s)}" + (f" from {iso(self.anchor_s)}" if self.anchor_s else "")

    def describe(self) -> str:
        seconds = ":%S" if self.anchor_s % 60 else ""
        return f"Every {_long(self.every_s)}, counted from {utc(self.anchor_s):%Y-%m-%d %H:%M{seconds}} UTC"


@dataclass(frozen=True, slots=True)
class WallSchedule(Schedule):
    """A pattern of local times in a zone; steps over the stretches of constant offset by the dst rule."""

    pattern: Pattern = field(compare=False, repr=False)
    zone: Zone = field(compare=False, repr=False)
    rule: Rule = field(compare=False, repr=False)
    #: What was found last, in one value because of other threads: a moment, and the two ticks that follow it. A beat
    #: asks each time for the tick after the one it has found, for all equal schedules.
    _found: list[tuple[int, int, int]] = field(
        default_factory=lambda: [(0, 0, 0)], init=False, compare=False, repr=False
    )

    def next_after(self, after_s: int) -> int | None:
        begin_s, first_s, second_s = self._found[0]
        if begin_s <= after_s < first_s:
            return first_s
        if first_s <= after_s < second_s:
            return second_s
        following = self._next_after(after_s)
        if following is not None:
            if after_s != second_s:
                begin_s, first_s = after_s, following
            elif first_s != second_s:
                begin_s, first_s = first_s, second_s
            self._found[0] = begin_s, first_s, following
        return following

    def _next_after(self, after_s: int) -> int | None:
        pattern, stretch_at = self.pattern, self.zone.stretch_at
        makes_up, repeats = self.rule
        at_s = max(after_s + 1, _FIRST_S)
        while at_s < _LAST_S:
            start_s, end_s, offset_s, previous_s = stretch_at(at_s)
            local_s = at_s + offset_s
            if offset_s != previous_s:
                if at_s == start_s and makes_up and self._falls_into_gap(start_s, offset_s, previous_s):
                    return start_s
                if not repeats:  # the first local time that the stretch before did not show
                    local_s = max(local_s, start_s + previous_s)
            found_s = pattern.first(local_s)
            if found_s is None:
                return None
            if found_s - offset_s < end_s:
                return found_s - offset_s
            # A yearly job need not look at each stretch of the year. Stretches to come may begin with local
            # times that this one has shown already, though by less than a day.
            found_s = pattern.first(end_s + offset_s - DAY_S)
            at_s = end_s if found_s is None else max(end_s, found_s - _MARGIN_S)
        return None

    def last_until(self, until_s: int) -> int | None:
        pattern, stretch_at = self.pattern, self.zone.stretch_at
        makes_up, repeats = self.rule
        at_s = min(until_s, _LAST_S)
        while at_s >= _FIRST_S:
            start_s, _, offset_s, previous_s = stretch_at(at_s)
            begin_s = start_s + (offset_s if repeats else max(offset_s, previous_s))
            found_s = pattern.last(at_s + offset_s)
            if found_s is not None and found_s >= begin_s:
                return found_s - offset_s
            if makes_up and self._falls_into_gap(start_s, offset_s, previous_s):
                return start_s
            # Local times before a change may be later than those after it, hence the larger offset.
            found_s = pattern.last(start_s + max(offset_s, previous_s))
            if found_s is None:
                return None
            at_s = min(start_s - 1, found_s + _MARGIN_S)
        return None

    def count(self, after_s: int, until_s: int) -> int:
        found = 0
        for part in self._parts(after_s, until_s):
            if part.made_up is not None:
                found += 1
            elif part.begin_s < part.end_s:
                found += self.pattern.count(part.begin_s, part.end_s)
        return found

    def between(self, after_s: int, until_s: int) -> list[int]:
        found: list[int] = []
        for part in self._parts(after_s, until_s):
            if part.made_up is not None:
                found.append(part.made_up)
            elif part.begin_s < part.end_s:
                found += self.pattern.between(part.begin_s, part.end_s, part.offset_s)
        return found

    def _parts(self, after_s: int, until_s: int) -> Iterator[_Part]:
        """What there is of (after_s, until_s], in order."""
        stretch_at = self.zone.stretch_at
        makes_up, repeats = self.rule
        at_s, end_s = max(after_s + 1, _FIRST_S), min(until_s + 1, _LAST_S)
        while at_s < end_s:
            start_s, stop_s, offset_s, previous_s = stretch_at(at_s)
            local_s = at_s + offset_s
            if offset_s != previous_s:
                if at_s == start_s and makes_up and self._falls_into_gap(start_s, offset_s, previous_s):
                    yield _Part(0, 0, offset_s, start_s)
                    local_s += 1  # a tick exactly there is the same one
                if not repeats:
                    local_s = max(local_s, start_s + previous_s)
            yield _Part(local_s, min(stop_s, end_s) + offset_s, offset_s)
            at_s = stop_s

    def _falls_into_gap(self, start_s: int, offset_s: int, previous_s: int) -> bool:
        """Return True if a local time that was left out at *start_s* matches, and the gap is one to make up for."""
        if not 0 < offset_s - previous_s <= LARGEST_GAP_S:
            return False
        found_s = self.pattern.first(start_s + previous_s)
        return found_s is not None and found_s < start_s + offset_s


@dataclass(frozen=True, slots=True)
class CronSchedule(WallSchedule):
    """A cron expression in a zone."""

    text: str
    expression: str  #: six fields, without `H` and macros

    def __str__(self) -> str:
        return self.text

    def describe(self) -> str:
        return explain(self.expression)


@dataclass(frozen=True, slots=True)
class DailySchedule(WallSchedule):
    """A time of day on every nth day, counted in local days."""

    days: int
    at: str  #: HH:MM or HH:MM:SS
    origin: int = 0  #: one of these days, by its number since 1970-01-01

    def __str__(self) -> str:
        return f"every {self.days}d at {self.at}" + (f" from {_date(self.origin)}" if self.origin else "")

    def describe(self) -> str:
        if self.days == 1:
            return f"At {self.at} every day"
        return f"At {self.at} every {self.days} days, counted from {_date(self.origin)}"


def parse_schedule(
    *,
    cron: str | None = None,
    every: float | str | timedelta | None = None,
    at: str | None = None,
    anchor: int | None = None,
    tz: str = "UTC",
    dst: str = "debian",
    seed: str = "",
) -> Schedule:
    """A schedule from what a user wrote: `cron`, or `every` (whole seconds), or `at` on every (nth) day.

    *anchor*, in epoch seconds, is what `every` counts from, with `at` the day of it in the zone. *seed* is the job's
    name: an `H` in a cron field becomes a value hashed from it. Equal schedules may be one object. Raises
    ScheduleError, whose field is `cron`, `every`, `at`, `anchor`, `tz` or `dst`.
    """
    zone = _zone(tz)
    if dst not in DST_RULES:
        close = difflib.get_close_matches(str(dst), DST_RULES, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise ScheduleError(f"{dst!r} is not a rule; {meant}use one of {', '.join(DST_RULES)}", field="dst")
    if anchor is not None and every is None:
        raise ScheduleError(
            f"{iso(anchor)}: only an interval counts from it; give every, or leave it out", field="anchor"
        )
    if cron is not None:
        if every is not None:
            raise ScheduleError("cron and every are both given; a schedule has one of them", field="cron")
        if at is not None:
            raise ScheduleError("at goes with whole days; put the time into the cron expression", field="at")
        return _cron(cron, zone, dst, seed)
    if every is None and at is None:
        raise ScheduleError("nothing says when; give cron, every or at", field="cron")
    every_s = DAY_S if every is None else _interval_s(every)
    if at is None:
        return IntervalSchedule(tz, dst, every_s, anchor or 0)
    second = _time_of_day_s(at)
    if every_s % DAY_S:
        problem = f"at={at!r} needs whole days, and every is {_short(every_s)}; use 1d, 2d … or leave at out"
        raise ScheduleError(problem, field="at")
    origin = 0 if anchor is None else (anchor + zone.stretch_at(anchor)[2]) // DAY_S
    return _daily(every_s // DAY_S, second, origin, zone, dst)


def _zone(tz: str) -> Zone:
    # A list or dict cannot be looked up in a cache.
    return find_zone(tz if isinstance(tz, str) else repr(tz))


def _cron(text: str, zone: Zone, dst: str, seed: str) -> CronSchedule:
    expression = expand(text, seed)
    text = " ".join(text.split())
    try:
        return _share_cron(text, expression, zone, dst)
    except ScheduleError as error:
        raise ScheduleError(f"{error.problem} (in {text!r})", field=error.field) from None


@lru_cache(maxsize=16384)
def _share_cron(text: str, expression: str, zone: Zone, dst: str) -> CronSchedule:
    pattern = compile_pattern(expression)
    return CronSchedule(zone.name, dst, pattern, zone, _RULES[dst, pattern.wildcard], text, expression)


@lru_cache(maxsize=16384)
def _daily(days: int, second: int, origin: int, zone: Zone, dst: str) -> DailySchedule:
    minutes, seconds = divmod(second, 60)
    hours, minutes = divmod(minutes, 60)
    pattern = Pattern(EveryNthDay(days, origin), Times((hours,), (minutes,), (seconds,)), wildcard=False)
    at = f"{hours:02d}:{minutes:02d}" + (f":{seconds:02d}" if seconds else "")
    return DailySchedule(zone.name, dst, pattern, zone, _RULES[dst, False], days, at, origin)


def _interval_s(every: float | str | timedelta) -> int:
    try:
        exact_s = parse_duration_s(every)
    except ValueError as error:
        raise ScheduleError(str(error), field="every") from None
    every_s = round(exact_s)
    if abs(exact_s - every_s) > 1e-6 or every_s < 1:  # 1.1h is 3960.0000000000005 s
        raise ScheduleError(f"{every!r} is {exact_s:g} s; use whole seconds, at least 1", field="every")
    return every_s


def _time_of_day_s(at: str) -> int:
    match = _AT.fullmatch(at.strip()) if isinstance(at, str) else None
    if match is None:
        raise ScheduleError(f"{at!r} is not a time of day; write HH:MM or HH:MM:SS", field="at")
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    for name, value, high in ("hour", hour, 23), ("minute", minute, 59), ("second", second, 59):
        if value > high:
            raise ScheduleError(f"{name} {value} in {at!r} is outside 0-{high}", field="at")
    return hour * 3600 + minute * 60 + second


def _date(day: int) -> str:
    return f"{utc(day * DAY_S):%Y-%m-%d}"


def _split(seconds: int) -> list[tuple[int, str]]:
    parts = []
    for unit, size in ("day", DAY_S), ("hour", 3600), ("minute", 60), ("second", 1):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append((count, unit))
    return parts


def _short(seconds: int) -> str:
    """`1d2h3m4s`: unlike a duration for display, nothing is left out."""
    return "".join(f"{count}{unit[0]}" for count, unit in _split(seconds))


def _long(seconds: int) -> str:
    """`5 minutes`, `1 hour 30 minutes`, and `day` rather than `1 day`."""
    parts = _split(seconds)
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]
    return " ".join(f"{count} {unit}{'s' if count > 1 else ''}" for count, unit in parts)
