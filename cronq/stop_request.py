"""A wish that a run end, and who has it."""

from __future__ import annotations

import threading

from cronq.watchdog import Child


class StopRequest:
    """A wish that the present run end, from any thread; the first one counts."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may ask while its own thread is asking
        self.outcome: str | None = None
        self.reason = ""
        self.by = ""
        self.child: Child | None = None

    def ask(self, outcome: str, reason: str, by: str) -> None:
        """End the run with *outcome*; wakes its guardian."""
        with self._lock:
            if self.outcome is None:
                self.outcome, self.reason, self.by = outcome, reason, by
        if self.child is not None:
            self.child.wake()
