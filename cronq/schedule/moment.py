"""Moments that people write, as epoch seconds UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from cronq.schedule.zone import Zone
from cronq.timetext import END_OF_TIME_S


def parse_moment_s(value: str | datetime, zone: Zone) -> int:
    """Epoch seconds of an ISO 8601 date with a time, or of a datetime; one without an offset is of *zone*.

    A local time that the clocks show twice is the first of both. Fractions of a second are cut off. Raises ValueError
    with what to write instead, also for a local time that the clocks leave out.
    """
    moment = value if isinstance(value, datetime) else _read(value)
    if moment.tzinfo is not None:
        found_s = moment.timestamp() // 1
    else:
        local_s = int(moment.replace(tzinfo=UTC, microsecond=0).timestamp())
        instant_s = zone.instant_of(local_s)
        if instant_s is None:
            problem = f"{_written(value)} does not exist in {zone.name}, where the clocks go forward then"
            raise ValueError(f"{problem}; give another time, or one with an offset")
        found_s = instant_s
    if not 0 <= found_s < END_OF_TIME_S:
        raise ValueError(f"{_written(value)} is not between the years 1970 and 9999; give another one")
    return int(found_s)


def is_date(text: str) -> bool:
    """Return True if *text* begins as a date does, and not as a time of day."""
    words = text.strip()
    return words[:4].isdecimal() and words[4:5] == "-"


def _read(text: str) -> datetime:
    try:
        if not isinstance(text, str) or not any(mark in text.strip() for mark in "T "):
            raise ValueError
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a date with a time; write 2026-12-24T18:00, or …T18:00+01:00") from None


def _written(value: str | datetime) -> str:
    return value.isoformat() if isinstance(value, datetime) else value
