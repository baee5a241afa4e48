"""Spans and moments as people, logs and RQ write them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

DAY_S = 86400
#: 9999-01-01 UTC: no calendar shows later moments in every zone, so a number beyond it is no moment, but damage.
END_OF_TIME_S = 253_370_764_800
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": DAY_S, "w": 7 * DAY_S}
#: Beyond it a span is a slip, and no calendar holds its end.
MOST_DURATION_S = 1e11
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


def parse_duration_s(value: str | int | float | timedelta) -> float:
    """Seconds of `90`, `"5m"`, `"1h30m"`, `"250ms"` or a timedelta.

    Raises ValueError for anything else, negative values included.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration; write seconds, '5m', '1h30m' or a timedelta")
    elif isinstance(value, int | float):
        seconds = float(value) if value < MOST_DURATION_S else math.inf  # a larger int may not fit into a float
    elif isinstance(value, str):
        text = value.strip()
        if text.replace(".", "", 1).isdecimal():
            seconds = float(text)
        else:
            parts = _DURATION.findall(text)
            if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
                raise ValueError(f"{value!r} is not a duration; write seconds, '5m', '1h30m' or a timedelta")
            seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    else:
        raise ValueError(f"{value!r} is not a duration; write seconds, '5m', '1h30m' or a timedelta")
    if not 0 <= seconds < MOST_DURATION_S:  # also refuses nan and inf
        raise ValueError(f"{value!r} is not a duration between 0 and 3,000 years")
    return seconds


def format_duration(seconds: float) -> str:
    """A span as people write it: `0.21s`, `42s`, `5m`, `1h30m`, `2d3h`."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 9.95 and round(seconds, 3) != int(seconds):
        return f"{seconds:.2g}s" if seconds < 1 else f"{seconds:.1f}s"
    whole = round(seconds)
    parts = []
    for unit, size in (("d", DAY_S), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def utc(epoch_s: float) -> datetime:
    """Epoch seconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(epoch_s, UTC)


def iso(epoch_s: float | None) -> str | None:
    """Epoch seconds as `2026-11-21T07:00:00Z` (with milliseconds where there are any); None stays None."""
    if epoch_s is None:
        return None
    millis = round(epoch_s * 1000)
    moment = datetime.fromtimestamp(millis // 1000, UTC)
    fraction = f".{millis % 1000:03d}" if millis % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def parse_instant(text: str) -> float:
    """Epoch seconds of an ISO 8601 time; without an offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    utc(found)  # ValueError: its offset takes it out of the years that can be shown
    return found


def tick_stamp(epoch_s: float) -> str:
    """`20261121T070000Z`: a moment for names and ids."""
    return f"{utc(int(epoch_s)):%Y%m%dT%H%M%SZ}"


def read_tick_stamp(words: str) -> int | None:
    """The moment that `tick_stamp` wrote; None for other words."""
    try:
        return int(datetime.strptime(words, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def rq_stamp(epoch_s: float) -> str:
    """A moment as RQ writes times into its hashes: `2026-11-21T07:00:00.012345Z`."""
    return utc(epoch_s).isoformat(timespec="microseconds").replace("+00:00", "Z")
