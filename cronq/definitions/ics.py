"""Reads an iCalendar file (.ics) into dates: what is stored of it never depends on a library again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cronq.errors import ConfigError, DefinitionError
from cronq.safetext import storable

#: How far ahead repeating events are resolved.
YEARS = 5
_MOST_DAYS = 5_000


def dates_of_ics(raw: bytes, now_s: float, tz: str | None = None) -> list[str]:
    """The days on which events of the file *raw* lie, from the day of *now_s* (epoch seconds) on, for five years.

    An event of some hours makes all of each day that it touches; times are looked at in *tz*, by default in their own
    zone. Raises DefinitionError for what is no calendar, ConfigError when the libraries that read it are not installed.
    """
    events = _events(raw, now_s)
    days: set[date] = set()
    try:
        for event in events:
            days.update(_days_of(event, None if tz is None else ZoneInfo(tz)))
            if len(days) > _MOST_DAYS:
                raise DefinitionError(f"it has events on more than {_MOST_DAYS:,} days; use --weekly for what repeats")
    except DefinitionError:
        raise
    except Exception as error:  # a library that meets what nobody should write
        raise DefinitionError(f"an event cannot be read ({storable(error, 200)}); mend the file") from None
    return [str(day) for day in sorted(days)]


def _events(raw: bytes, now_s: float) -> list[Any]:
    try:
        import icalendar
        import recurring_ical_events
    except ImportError:
        raise ConfigError("an .ics file needs more libraries; pip install 'cronq-rq[ics]'") from None
    first = datetime.fromtimestamp(now_s, UTC).date()
    try:
        read = icalendar.Calendar.from_ical(raw)
        return list(recurring_ical_events.of(read).between(first, first + timedelta(days=YEARS * 366)))
    except Exception as error:  # whatever these libraries make of it
        words = storable(f"{type(error).__name__}: {error}", 200)
        raise DefinitionError(f"it is no iCalendar file ({words})") from None


def _days_of(event: Any, zone: ZoneInfo | None) -> Iterator[date]:
    """Each day that an event touches; its end is not part of it."""
    start, end = event.start, event.end
    if isinstance(start, datetime):
        if zone is not None and start.tzinfo is not None:
            start, end = start.astimezone(zone), end.astimezone(zone)
        first, last = start.date(), max(start, end - timedelta(microseconds=1)).date()
    else:
        first, last = start, max(start, end - timedelta(days=1))
    for number in range(min((last - first).days, _MOST_DAYS) + 1):
        yield first + timedelta(days=number)
