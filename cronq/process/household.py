"""The watchdogs of this process, and what falls to it when one of them dies.

Descendants of a watchdog become children of this process only when that watchdog is dead. So a child of this process
that is in another session, was not here before, and is no watchdog itself, belongs to a dead one. Of which of them does
not matter: all of it is to be killed, by whichever thread sees it first.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from cronq.clock import boot_s
from cronq.process.system import adopt_orphans, is_in_own_session, kill, own_children

#: Between two looks for orphans, which arrive generation by generation.
_STEP_S = 0.001


class Household:
    """Who is spared when orphans are killed. A process has one, `HOUSEHOLD`, for all of its threads."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with nobody."""
        self._lock = threading.Lock()
        self._living: set[int] = set()
        self._unburied = 0

    def admit(self, fork: Callable[[], int]) -> int:
        """Call *fork*, which makes a watchdog or the nursery and returns its pid; from now on orphans fall to us.

        Nobody looks for orphans meanwhile: one who did would take the new process for one.
        """
        with self._lock:
            adopt_orphans(True)
            try:
                pid = fork()
            except BaseException:  # also out of a signal handler
                adopt_orphans(self._unburied > 0)
                raise
            self._living.add(pid)
            self._unburied += 1
            return pid

    def is_alive(self, pid: int) -> bool:
        """Whether *pid*, which was admitted, still runs. Its number may be another's once this has said no."""
        with self._lock:
            if pid not in self._living:
                return False
            try:
                has_ended = os.waitpid(pid, os.WNOHANG)[0] != 0
            except ChildProcessError:  # somebody else waited for it
                has_ended = True
            if has_ended:
                self._living.discard(pid)
            return not has_ended

    def bury(self, pid: int) -> None:
        """*pid* is dead, or given up, and what it left behind too. After the last one orphans fall to us no more."""
        with self._lock:
            self._living.discard(pid)
            self._unburied -= 1
            if not self._unburied:
                adopt_orphans(False)

    def kill_orphans(self, kin: set[int], until_boot_s: float) -> set[int]:
        """Kill what dead watchdogs left, except *kin*, children from before. Returns whom SIGKILL did not end.

        A watchdog begins a session of its own, and nobody can join a session from outside: a child in our session was
        never a watchdog's. That spares what this process itself started, except a session that it began since.
        """
        while True:
            with self._lock:
                found = own_children() - self._living - kin
                orphans = {pid for pid in found if not is_in_own_session(pid)}
                for pid in orphans:
                    kill(pid, signal.SIGKILL)
                    try:
                        os.waitpid(pid, os.WNOHANG)
                    except ChildProcessError:  # somebody else waited for it
                        pass
            if not orphans or boot_s() >= until_boot_s:
                return orphans
            time.sleep(_STEP_S)


HOUSEHOLD = Household()
# A fork has none of its parent's watchdogs, and the thread that held the lock is not there.
os.register_at_fork(after_in_child=HOUSEHOLD.forget)
