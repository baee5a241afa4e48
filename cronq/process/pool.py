"""Several workers under one process: starts them, starts anew what died, passes signals on, waits for all.

    pool ─┬─ worker ── watchdog ── child
          └─ worker ── watchdog ── child

No supervisor of a host: something else starts the pool and starts it again. The pool has no thread, no connection and
no handler of its own: it waits for signals, and forks from a process that has imported the job modules.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from cronq.clock import boot_s
from cronq.process.system import die_with_parent, flush_standard_streams
from cronq.timetext import format_duration

log = logging.getLogger("cronq.worker")

#: Pauses before a member is started anew, the first and the longest; the first again once one lived for `_STEADY_S`.
_PAUSE_S = (0.5, 30.0)
_STEADY_S = 60.0
#: Longest wait for a signal when nothing is due.
_WAIT_S = 60.0
#: Signals that it passes on; SIGHUP only where nobody ignores it, as nohup does.
_TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class _Place:
    """One of the pool's places, and the member that holds it or held it last."""

    number: int
    pid: int | None = None
    code: int = 0  #: how the last member ended: exit code, or -n for signal n
    begun: float = 0.0
    start_at: float | None = 0.0  #: when the next member is due; None while one lives, or when there will be none
    pause_s: float = _PAUSE_S[0]


class Pool:
    """Keeps *count* processes that each do *serve*, which answers its exit code.

    *serve* runs in a fork of this process, in a session of its own, with the handlers for SIGTERM, SIGINT and SIGHUP
    that this process has. A member whose pool died is sent SIGTERM. Without *restarts* a member that ended stays ended.
    """

    def __init__(self, count: int, serve: Callable[[], int], *, restarts: bool = True) -> None:
        self._serve = serve
        self._restarts = restarts
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._mask: set[signal.Signals] = set()
        self._is_leaving = False
        self.told: set[int] = set()  #: the signals that came

    def run(self, stop: threading.Event) -> int:
        """Until all members have ended: 0 when the last one in each place ended with 0, else 1.

        *stop* is what a signal before this moment has set. Call it in the main thread.
        """
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate()[1:])
            log.warning("THREADS %s: started when the job modules were imported; the workers will not have them", names)
        # One that is ignored would not be thrown away while it is blocked.
        heeded = [number for number in _TOLD if signal.getsignal(number) != signal.SIG_IGN]
        waited_for = [*heeded, signal.SIGCHLD]
        self._mask = {*map(signal.Signals, signal.pthread_sigmask(signal.SIG_BLOCK, waited_for))}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as some launchers leave it, nobody could be waited for
        gc.collect()
        gc.freeze()  # no member's collection touches, and thereby copies, the pages that all share
        self._is_leaving = stop.is_set()
        try:
            while (wait_s := self._start_who_is_due()) is not None:
                told = signal.sigtimedwait(waited_for, wait_s)
                if told is not None and told.si_signo in heeded:
                    self._pass_on(told.si_signo)
                self._reap()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return int(any(place.code for place in self._places))

    def _start_who_is_due(self) -> float | None:
        """Seconds to wait for what comes next, None when nothing can come any more."""
        now = boot_s()
        waits = []
        for place in self._places:
            if self._is_leaving:
                place.start_at = None
            if place.start_at is not None and now >= place.start_at:
                self._start(place, now)
            if place.start_at is not None:
                waits.append(place.start_at - now)
            elif place.pid is not None:
                waits.append(_WAIT_S)
        return min(waits, default=None)

    def _start(self, place: _Place, now: float) -> None:
        flush_standard_streams()  # else each member would print again what is still buffered here
        pool = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            place.start_at = now + place.pause_s
            log.error("UNSTARTED worker %d of the pool: %s; trying again", place.number, error.strerror)
            return
        if pid == 0:
            self._be_member(pool)
        place.pid, place.begun, place.start_at = pid, now, None

    def _be_member(self, pool: int) -> NoReturn:
        """In the fork. Of what its parent had open or buffered nothing may be closed or written twice: `os._exit`."""
        code = 1
        try:
            os.setsid()  # a terminal's Ctrl-C reaches the pool alone: passed on, it would be the second one
            die_with_parent(pool, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            code = self._serve()
        except BaseException as error:
            log.error(
                "FAILED worker %d: %s: %s", os.getpid(), type(error).__name__, error,
                exc_info=log.isEnabledFor(logging.DEBUG),
            )  # fmt: skip
        finally:
            flush_standard_streams()
            os._exit(code)

    def _pass_on(self, number: int) -> None:
        """Send a signal to all members: they know what a second one means."""
        self.told.add(number)
        if not self._is_leaving:
            log.info("LEAVING when the present runs of all workers have ended; a second signal ends them")
        self._is_leaving = True
        for place in self._places:
            if place.pid is not None:  # not reaped, so the number still is its own
                os.kill(place.pid, number)

    def _reap(self) -> None:
        """Collect the dead: members, and in a container whatever fell to its first process."""
        living = {place.pid: place for place in self._places if place.pid is not None}
        while living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in living:
                self._ended(living.pop(pid), os.waitstatus_to_exitcode(status))

    def _ended(self, place: _Place, code: int) -> None:
        now = boot_s()
        age_s = now - place.begun
        place.code = code
        how = f"with code {code}" if code >= 0 else f"by signal {-code}"
        said = f"worker {place.number} of the pool (pid {place.pid}) {how} after {format_duration(round(age_s, 1))}"
        place.pid = None
        if self._is_leaving or not self._restarts:
            log.log(logging.WARNING if code else logging.INFO, "ENDED %s", said)
            return
        if age_s >= _STEADY_S:
            place.pause_s = _PAUSE_S[0]
        log.warning("RESTART %s; a new one starts in %s", said, format_duration(place.pause_s))
        place.start_at = now + place.pause_s
        place.pause_s = min(place.pause_s * 2, _PAUSE_S[1])
