"""One run on its way through its guardian's hands: what belongs to it, and by when its child must be dead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cronq.jobs.spec import JobSpec
from cronq.process.watchdog import Child
from cronq.runs.attempt import Ending, RecordLife, Settlement
from cronq.runs.run import Run
from cronq.runs.timing import MARGIN_S, Timing
from cronq.timetext import format_duration

#: Most time from TERM to KILL when the worker is leaving.
_LEAVE_GRACE_S = 5.0


class StopRequest:
    """Asks the guardian of the present run to end it: from any thread; the first who asks decides the outcome."""

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


class RunLock(Protocol):
    """What the guardian needs of a lock; see `cronq.locks.lock.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def holding_run(self) -> str | None: ...
    @property
    def token(self) -> int: ...
    @property
    def deadline_boot_s(self) -> float: ...


#: Makes the lock of a run: name, who holds it, what to call on loss and on renewal.
LockFactory = Callable[[str, dict[str, Any], Callable[[str], None], Callable[[float], None]], RunLock]


@dataclass
class ActiveRun:
    """One run on its way through the steps."""

    run: Run
    spec: JobSpec
    stop: StopRequest
    worker: str
    execution: str
    previous_success: int | None
    timing: Timing | None = None  #: of a run that others may run again once it counts as lost
    lock: RunLock | None = None
    child: Child | None = None
    begun_boot: float = 0.0  #: when its work began
    heard_boot: float = 0.0  #: just before the last word about this run that Redis has taken was sent
    stopping: bool = False  #: the child was told to end; before that, a wish to stop decides nothing
    unheard: str = ""  #: why Redis could not be told of it last, in words; empty once it was

    @property
    def fence(self) -> int | None:
        """The fencing token of its lock, None without one."""
        return self.lock.token if self.lock is not None else None

    @property
    def deadline_boot_s(self) -> float | None:
        """By when the child must be dead unless more is heard: its lock, or the run itself, may be somebody else's."""
        ends = []
        if self.lock is not None:
            ends.append(self.lock.deadline_boot_s - MARGIN_S)
        if self.timing is not None:
            ends.append(self.heard_boot + self.timing.dead_s)
        return min(ends) if ends else None

    @property
    def alone_boot_s(self) -> float | None:
        """When the child is told to end because nothing was heard from Redis for too long."""
        return None if self.timing is None else self.heard_boot + self.timing.alone_s

    @property
    def timeout_boot_s(self) -> float:
        """When its work has run as long as its job allows."""
        return self.begun_boot + self.spec.timeout

    @property
    def max_crashes(self) -> int | None:
        """How many vanished workers end the run; None: the first one."""
        return self.spec.max_crashes if self.spec.on_lost == "rerun" else None

    @property
    def told(self) -> tuple[str, str] | None:
        """The outcome and reason for which the child was told to end; None when it was not."""
        stop = self.stop
        return (stop.outcome, stop.reason) if self.stopping and stop.outcome is not None else None

    def extend(self) -> None:
        """The lock was renewed, or the run was heard of: so is the child's life."""
        if self.child is not None:
            self.child.extend(self.deadline_boot_s)

    def ask_what_is_due(self, now: float) -> None:
        """Ask for the end of a run whose time is over, in one of three senses; *now* of the boot clock."""
        stop, alone = self.stop, self.alone_boot_s
        if stop.outcome is not None:
            return
        if now >= self.timeout_boot_s:
            reason = f"it ran longer than its timeout of {format_duration(self.spec.timeout)}"
            stop.ask("timed_out", reason, f"guardian {self.worker}")
        elif stop.leave_at is not None and now >= stop.leave_at:
            stop.leave("its worker was told to leave, and the time it had for that was over")
        elif alone is not None and now >= alone:
            stop.ask("lost", self._why_alone(), f"guardian {self.worker}")

    def grace_s(self, now: float) -> float:
        """The job's grace; of a run whose lock is lost, only what is left of it; less when the worker leaves."""
        grace_s, deadline = self.spec.grace, self.deadline_boot_s
        if self.stop.is_leaving:
            return min(grace_s, _LEAVE_GRACE_S)
        if self.stop.outcome == "lost" and deadline is not None:
            return max(0.0, min(grace_s, deadline - now))
        return grace_s

    def why_at_deadline(self, now: float) -> str:
        """Why the watchdog ended the child."""
        alone = self.alone_boot_s
        if alone is not None and now >= alone:
            return self._why_alone()
        return "its lock could not be renewed in time, so it was ended"

    def ending(self, settlement: Settlement, now_s: float) -> Ending:
        """The end of this attempt, as the ledger is to be told of it."""
        stop = self.stop
        is_asked = settlement.outcome == stop.outcome
        return Ending(
            settlement,
            stop.by if is_asked and stop.by else f"worker {self.worker}",
            now_s,
            attempt=self.run.attempt,
            execution=self.execution,
            is_crash=not (is_asked and stop.is_leaving),
            life=RecordLife.of(self.spec, self.run.tick),
        )

    def _why_alone(self) -> str:
        span = format_duration(self.timing.lost_after_s if self.timing is not None else 0)
        return f"Redis could not be told of it for {span}, so it was ended before somebody else may run it again"
