"""Jobs without a schedule, which run by hand or by `after`: what needs a schedule is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cronq.errors import DefinitionError
from cronq.jobs.options import CALENDARS, DEFAULTS, DURATIONS, MOMENTS
from cronq.timetext import format_duration, iso

_OF_SCHEDULES = ("tz", "dst", "anchor", "start", "end", "repeat", "jitter", "backfill", *CALENDARS, "depends_on")
#: What is done with ticks that were missed: of those of a trigger none is.
_OF_MISSED_TICKS = ("catchup", "window", "max_catchup")


def check_unscheduled(values: Mapping[str, Any]) -> None:
    """Refuse what needs a schedule. *values* are all options, by name, of a job without one. Raises DefinitionError."""
    is_triggered = bool(values["after"])
    for key in (*_OF_SCHEDULES, *_OF_MISSED_TICKS) if is_triggered else _OF_SCHEDULES:
        if values[key] == DEFAULTS[key]:
            continue
        if not is_triggered:
            remedy = "without a schedule; give cron or every"
        elif key == "depends_on":
            remedy = "with after, which waits for success anyway; name it there"
        else:
            remedy = "with after, which takes the place of a schedule; leave it out"
        raise DefinitionError(f"{_told(key, values[key])} means nothing {remedy}", field=key)


def _told(key: str, value: Any) -> str:
    if key in MOMENTS:
        return str(iso(value))
    if isinstance(value, tuple):
        return ", ".join(value)
    return format_duration(value) if key in DURATIONS else repr(value)
