"""A wish that a run end, and who has it."""

from __future__ import annotations

import threading

from cronq.process.watchdog import Child


class StopRequest:
    """A wish that the present run end, from any thread; the first one counts."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may ask while its own thread is asking
        self.outcome: str | None = None
        self.reason = ""
        self.by = ""
        self.is_leaving = False  #: it ends because its worker leaves, in good order
        self.leave_at: float | None = None  #: when that is, on the boot clock
        self.child: Child | None = None

    def ask(self, outcome: str, reason: str, by: str) -> None:
        """End the run with *outcome*; wakes its guardian."""
        with self._lock:
            if self.outcome is None:
                self.outcome, self.reason, self.by = outcome, reason, by
        self._wake()

    def leave(self, reason: str) -> None:
        """End the run because its worker leaves: it counts as lost, or is run again, as its job has it."""
        with self._lock:
            if self.outcome is None:
                self.is_leaving = True
                self.ask("lost", reason, "")

    def leave_now(self, by: str) -> None:
        """End the run at once because its worker was told twice to leave."""
        with self._lock:
            self.is_leaving = self.is_leaving or self.outcome is None
            self.ask("stopped", "the worker was told to leave at once", by)

    def leave_by(self, moment_boot_s: float) -> None:
        """The worker leaves at this moment at the latest; the run may go on until then."""
        self.leave_at = moment_boot_s
        self._wake()

    def _wake(self) -> None:
        if self.child is not None:
            self.child.wake()
