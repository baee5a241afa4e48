"""The schedules of rq-scheduler: what stands in the meta of its repeating jobs, and when such a job is due next.

Its cron strings have 5 fields, or a year as the 6th, or seconds first and a year last; both day fields must
match; and its local time is that of one zone, which the caller names. The calendar and the clock changes are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cronq.errors import DefinitionError, ScheduleError
from cronq.schedule.schedule import Schedule, parse_schedule
from cronq.schedule.zone import find_zone
from cronq.timetext import DAY_S

#: Days looked at until both day fields match: the thirteenth is a Friday within 14 months, 29 February within 40 years.
_MOST_STEPS = 20_000
_ANY_DAY = ("*", "?")
#: Larger repeat counts and intervals are damage.
_MOST = 10**10


@dataclass(frozen=True)
class Repetition:
    """How often rq-scheduler repeats an RQ job; all None: it is due once."""

    interval_s: int | None = None
    cron: str | None = None
    left: int | None = None  #: how many runs are left, None: no end

    def __str__(self) -> str:
        """As people read it: `every 60s, 3 left`, `30 2 * * *`, `once`."""
        if self.interval_s is None and self.cron is None:
            return "once"
        words = self.cron if self.interval_s is None else f"every {self.interval_s}s"
        return f"{words}, {self.left} left" if self.left is not None else str(words)

    def served(self) -> Repetition | None:
        """The repetition after one more run, counted as rq-scheduler does; None when that was the last run."""
        if self.interval_s is None and self.cron is None:
            return None
        left = self.left - 1 if self.left else self.left
        return None if left == 0 else Repetition(self.interval_s, self.cron, left)


def read_repetition(meta: Any) -> Repetition:
    """The repetition in the meta of an RQ job. Raises DefinitionError for what means nothing."""
    if not isinstance(meta, Mapping):
        return Repetition()
    interval, cron, left = meta.get("interval"), meta.get("cron_string"), meta.get("repeat")
    for name, value in (("interval", interval), ("repeat", left)):
        if value is not None and (type(value) is not int or abs(value) > _MOST):
            raise DefinitionError(f"{_shown(value)} is not a whole number", field=name)
    if interval is not None and interval < 0:
        raise DefinitionError(f"{interval} is negative", field="interval")
    if cron is not None and not isinstance(cron, str):
        raise DefinitionError(f"{_shown(cron)} is not text", field="cron_string")
    if interval:
        return Repetition(interval, None, left)
    return Repetition(None, cron, left) if cron else Repetition()


def _shown(value: Any) -> str:
    """A value of any size in a few words: of what holds others only its type is told."""
    is_short = isinstance(value, str | bytes | float | bool)
    return repr(str(value)[:40]) if is_short else f"a value of type {type(value).__name__}"


class RQSchedulerCron:
    """A cron string of rq-scheduler in one zone."""

    def __init__(self, text: str, tz: str) -> None:
        """Raises ScheduleError for what cannot be served the way rq-scheduler means it."""
        self.text = text
        self.tz = tz
        fields = _fields(text)
        day, weekday = fields[3], fields[5]
        self._both: Schedule | None = None
        if day not in _ANY_DAY and weekday not in _ANY_DAY:
            self._both = self._parse([*fields[:3], "*", *fields[4:]])
            fields = [*fields[:5], "*"]
        self.expression = " ".join(fields if fields[0] != "0" else fields[1:])
        self._schedule = self._parse(fields)
        self._naive = self._parse(fields, tz="UTC")

    def _parse(self, fields: list[str], tz: str | None = None) -> Schedule:
        return parse_schedule(cron=" ".join(fields), tz=tz or self.tz)

    @property
    def has_one_day_field(self) -> bool:
        """Return True if `expression` says all of it, so that a job of ours can have it."""
        return self._both is None

    def next_after(self, after_s: float) -> int | None:
        """The first tick after *after_s*; None when there is none any more."""
        found = self._schedule.next_after(int(after_s))
        for _ in range(_MOST_STEPS):
            if found is None or self._both is None or self._both.last_until(found) == found:
                return found
            found = self._schedule.next_after(found)
        return None

    def is_beside_a_clock_change(self, score_s: float) -> bool:
        """Return True if *score_s* is no tick, but what rq-scheduler makes of a tick near a change of the clocks.

        rq-scheduler reckons with local times that do not exist: it is early or late by as much as the clocks change.
        """
        at = int(score_s)
        if self._schedule.last_until(at) == at:
            return False
        zone = find_zone(self.tz)
        for change in zone.changes_after(at - 2 * DAY_S, 2):
            if abs(change.start_s - at) > 2 * DAY_S or not change.gap_s:
                continue
            for offset_s in (change.offset_s, change.previous_offset_s):
                local = at + offset_s
                if any(self._naive.last_until(each) == each for each in (local, local + change.gap_s)):
                    return True
        return False


def _fields(text: str) -> list[str]:
    """Six fields, seconds first, as ours are. Raises ScheduleError."""
    words = text.split()
    if len(words) == 1 and text.startswith("@"):
        words = list(_MACROS.get(text.strip(), words))
    if len(words) not in (5, 6, 7):
        raise ScheduleError(f"{text[:60]!r} has not 5, 6 or 7 fields", field="cron_string")
    if len(words) >= 6 and words[-1] != "*":
        raise ScheduleError(f"{text[:60]!r} names a year, which cronq cannot serve", field="cron_string")
    fields = ["0", *words] if len(words) == 5 else ["0", *words[:-1]] if len(words) == 6 else words[:-1]
    fields = ["*" if word == "?" else word for word in fields]
    if re.search(r"[lzLZ]", fields[3].replace("L", "", 1).replace("l", "", 1)) or re.match(r"[lL]\d", fields[5]):
        raise ScheduleError(f"{text[:60]!r} uses Z or L in a way that cronq does not know", field="cron_string")
    return [_upper_l(word) for word in fields]


def _upper_l(word: str) -> str:
    return "L" if word == "l" else word


_MACROS = {
    "@yearly": ("0", "0", "1", "1", "*"),
    "@annually": ("0", "0", "1", "1", "*"),
    "@monthly": ("0", "0", "1", "*", "*"),
    "@weekly": ("0", "0", "*", "*", "0"),
    "@daily": ("0", "0", "*", "*", "*"),
    "@hourly": ("0", "*", "*", "*", "*"),
}


def next_due(repetition: Repetition, score_s: float, now_s: float, tz: str) -> int | None:
    """When a job that was due at *score_s* and is served at *now_s* is due again; None: never.

    An interval keeps its step, where rq-scheduler drifts: that counts from the moment of serving. As there, several
    missed times are served once, and then the next one that is to come. Raises ScheduleError.
    """
    after = repetition.served()
    if after is None:
        return None
    if after.interval_s is not None:
        first = int(score_s) + after.interval_s
        missed = max(0, int(now_s) - first) // after.interval_s + 1 if first <= now_s else 0
        return first + missed * after.interval_s
    assert after.cron is not None
    return RQSchedulerCron(after.cron, tz).next_after(max(now_s, score_s))
