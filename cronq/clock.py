"""The only module that reads a clock, and the words for spans of time.

Two clocks matter. *Server time* (Redis `TIME`) decides what is due and what is written, so that hosts
with wrong clocks agree. `boot_s` (CLOCK_BOOTTIME) measures spans on this host, suspended time included.
"""

from __future__ import annotations

import math
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

#: CLOCK_BOOTTIME goes on counting while the machine sleeps; elsewhere the monotonic clock has to do.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: Beyond it a span is a slip, and no calendar holds its end.
MOST_DURATION_S = 1e11
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


def boot_s() -> float:
    """Seconds since boot, suspended time included; only differences mean anything."""
    return time.clock_gettime(_BOOT_CLOCK)


def wall_s() -> float:
    """This host's own idea of the time; never used to decide anything, only to publish the difference."""
    return time.time()


#: How soon one who rests notices a signal.
NOTICE_S = 0.2


def rest(seconds: float, stop: threading.Event) -> bool:
    """Rest for *seconds*, unless *stop* is set; whether it is.

    Not by `stop.wait()`: a signal handler that sets *stop* would wait for ever for the lock inside of it when the
    thread it interrupts, this one, holds that just then.
    """
    end = boot_s() + seconds
    while not stop.is_set() and (left := end - boot_s()) > 0:
        time.sleep(min(left, NOTICE_S))
    return stop.is_set()


class Clock(Protocol):
    """What the beat and the worker ask for the time."""

    def now_s(self) -> float:
        """Epoch seconds, UTC."""
        ...

    def wait(self, seconds: float, wake: threading.Event) -> None:
        """Return after *seconds*, or as soon as *wake* is set."""
        ...


class SystemClock:
    """This host's clock: for local decisions without Redis, such as `cronq explain`."""

    def now_s(self) -> float:
        return time.time()

    def wait(self, seconds: float, wake: threading.Event) -> None:
        if seconds > 0:
            wake.wait(seconds)


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
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
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


def rq_stamp(epoch_s: float) -> str:
    """A moment as RQ writes times into its hashes: `2026-11-21T07:00:00.012345Z`."""
    return f"{utc(epoch_s):%Y-%m-%dT%H:%M:%S.%f}Z"


#: A step of the server's clock by more than this, against this host's boot clock, is not believed at once.
JUMP_S = 300.0
#: ... but after readings that agree for so long.
HOLD_S = 30.0
#: A host whose own clock differs by more than this is told so.
SKEW_WARN_S = 2.0


class ServerClock:
    """Server time, carried on by this host's boot clock between readings.

    Beats act on it and never on their host's wall clock, so that hosts at -1 h and +1 h agree. When the
    server's own clock steps by more than `JUMP_S`, `holding` is true until readings have agreed for
    `HOLD_S`: a step forwards would fire a burst and move marks into the future, where they silence jobs.
    """

    def __init__(self) -> None:
        self._base: tuple[float, float] | None = None  # (server, boot) that now_s counts from
        self._doubt: tuple[float, float] | None = None  # the first reading after a jump
        self._agreeing = 0
        self.offset_s: float | None = None  #: this host's wall clock minus the server's

    def observe(self, server_s: float, boot: float | None = None, wall: float | None = None) -> str | None:
        """Take in one reading; what happened, in words, when something did: for one log line."""
        boot = boot_s() if boot is None else boot
        self.offset_s = (wall_s() if wall is None else wall) - server_s
        if self._base is None:
            self._base = (server_s, boot)
            return None
        if self._doubt is None:
            step = server_s - (self._base[0] + boot - self._base[1])
            if abs(step) <= JUMP_S:
                self._base = (server_s, boot)
                return None
            self._doubt = (server_s, boot)
            self._agreeing = 1
            return f"the clock of the Redis server stepped by {format_duration(step)}; holding until it is steady"
        return self._judge(server_s, boot)

    def _judge(self, server_s: float, boot: float) -> str | None:
        assert self._doubt is not None
        assert self._base is not None
        if abs(server_s - (self._base[0] + boot - self._base[1])) <= SKEW_WARN_S:
            self._doubt = None
            self._base = (server_s, boot)
            return "the clock of the Redis server is back; going on"
        if abs(server_s - (self._doubt[0] + boot - self._doubt[1])) > SKEW_WARN_S:
            self._doubt = (server_s, boot)
            self._agreeing = 1
            return None
        self._agreeing += 1
        if self._agreeing < 3 or boot - self._doubt[1] < HOLD_S:
            return None
        self._doubt = None
        self._base = (server_s, boot)
        return "the clock of the Redis server is steady at its new time; going on"

    @property
    def holding(self) -> bool:
        """Whether the server's clock has jumped and nothing may fire yet."""
        return self._doubt is not None

    def now_s(self) -> float:
        """Server time, epoch seconds. Before the first reading there is none: LookupError."""
        if self._base is None:
            raise LookupError("no reading of the server's clock yet")
        server, boot = self._base
        return server + boot_s() - boot
