"""The only module that reads a clock.

Two clocks matter. *Server time* (Redis `TIME`) decides what is due and what is written, so that hosts
with wrong clocks agree. `boot_s` (CLOCK_BOOTTIME) measures spans on this host, suspended time included.
"""

from __future__ import annotations

import threading
import time

from cronq.timetext import format_duration

#: CLOCK_BOOTTIME goes on counting while the machine sleeps; elsewhere the monotonic clock has to do.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_s() -> float:
    """Seconds since boot, suspended time included; only differences mean anything."""
    return time.clock_gettime(_BOOT_CLOCK)


def wall_s() -> float:
    """This host's own idea of the time, epoch seconds: for the eye, and to publish the difference, never to decide."""
    return time.time()


class Stop(threading.Event):
    """An event that a signal handler may set, also one that interrupts another in doing so.

    The lock inside of an ordinary event would then be waited for by the thread that holds it, for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition(threading.RLock())


#: The longest that `rest` takes to notice that its event was set.
NOTICE_S = 0.2


def rest(seconds: float, stop: threading.Event) -> bool:
    """Sleep for *seconds*, or until *stop* is set. Returns True if it is.

    Not by `stop.wait()`: a signal handler that sets *stop* would wait for ever for the lock inside of it when the
    thread it interrupts, this one, holds that just then.
    """
    end = boot_s() + seconds
    while not stop.is_set() and (left := end - boot_s()) > 0:
        time.sleep(min(left, NOTICE_S))
    return stop.is_set()


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
    Any thread may read or observe it.
    """

    def __init__(self) -> None:
        self._observing = threading.Lock()
        self._base: tuple[float, float] | None = None  # (server, boot) that now_s counts from
        self._doubt: tuple[float, float] | None = None  # the first reading after a jump
        self._agreeing = 0
        self.offset_s: float | None = None  #: this host's wall clock minus the server's

    def observe(self, server_s: float, boot: float | None = None, wall: float | None = None) -> str | None:
        """Take in one reading of the server's clock. Returns a line for the log when it jumped, or is steady again."""
        with self._observing:
            return self._observe(server_s, boot, wall)

    def _observe(self, server_s: float, boot: float | None, wall: float | None) -> str | None:
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
        """True while nothing may fire, because the server's clock has jumped and is not known to be steady."""
        return self._doubt is not None

    def now_s(self) -> float:
        """Server time, epoch seconds. Raises LookupError before the first reading."""
        if self._base is None:
            raise LookupError("no reading of the server's clock yet")
        server, boot = self._base
        return server + boot_s() - boot
