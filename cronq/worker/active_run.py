"""The run that a guardian executes: its child and deadlines, and how others ask the guardian to end it."""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from dataclasses import dataclass, replace

from cronq.clock import boot_s
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import JobState
from cronq.process.watchdog import Child
from cronq.runs.exchange import Renewed
from cronq.runs.retry import Retry, next_retry, next_snooze
from cronq.runs.run import Ending, Run, Settlement, record_life_s
from cronq.runs.timing import MARGIN_S, Timing
from cronq.timetext import format_duration
from cronq.worker.run_lock import RunLock

log = logging.getLogger("cronq.worker")

#: Most time from TERM to KILL when the worker is leaving.
_LEAVE_GRACE_S = 5.0
#: How often KILL is sent to what does not die of it.
_KILL_EVERY_S = 1.0


class StopRequest:
    """How any thread asks the guardian to end the run at work; the first who asks decides the outcome."""

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id  #: None: it is an RQ job that is not cronq's
        self._lock = threading.RLock()  # a signal handler may ask while its own thread is asking
        self.outcome: str | None = None
        self.reason = ""
        self.by = ""
        self.is_leaving = False  #: it ends because its worker leaves, in good order
        self.leave_at: float | None = None  #: by when its worker leaves, on the boot clock
        self.signum: int = signal.SIGTERM  #: what its work is told first to end by
        self.passing: deque[int] = deque()  #: signals to be passed on to its work, which decide nothing
        self.child: Child | None = None  #: the child to wake, so that the guardian looks at once

    def ask(self, outcome: str, reason: str, by: str) -> None:
        """End the run with *outcome*, and wake its guardian."""
        with self._lock:
            if self.outcome is None:
                self.outcome, self.reason, self.by = outcome, reason, by
        self._wake()

    def pass_on(self, signum: int) -> None:
        """Have *signum* sent to the process group of the work; also from a signal handler."""
        self.passing.append(signum)
        self._wake()

    def leave(self, reason: str) -> None:
        """End the run because its worker leaves: it is rerun if its job asks for that, else it counts as lost."""
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
        """Let the run go on until this moment of the boot clock, when its worker leaves at the latest."""
        self.leave_at = moment_boot_s
        self._wake()

    def _wake(self) -> None:
        if self.child is not None:
            self.child.wake()


class Termination:
    """The end of a child in two steps: a signal, then KILL after the grace, again each second until it is dead."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.kill_at: float | None = None  #: boot clock; None before it has begun

    def begin(self, now: float, grace_s: float, signum: int) -> None:
        """Send *signum*. Call it once."""
        self.kill_at = now + grace_s
        self.child.signal(signum)

    def go_on(self, now: float) -> None:
        """Send KILL to all that is left, when it is time to."""
        if self.kill_at is not None and now >= self.kill_at:
            self.child.kill_all()
            self.kill_at = now + _KILL_EVERY_S


@dataclass
class ActiveRun:
    """One run, from when its guardian took it to its settlement."""

    run: Run
    spec: JobSpec
    stop: StopRequest
    worker: str
    execution: str
    state: JobState | None  #: of its job when it was started: what the run is told of those before it
    timing: Timing | None = None  #: None: nobody runs it again when it is lost, so the child need not end before
    lock: RunLock | None = None
    group: str | None = None  #: it may be at work only while this host is in that group
    child: Child | None = None
    started_boot: float = 0.0  #: the moment that its row has as its start
    begun_boot: float = 0.0  #: when its work began
    heard_boot: float = 0.0  #: when the last renewal that Redis answered was sent, or what began it
    look_boot: float = 0.0  #: when it is to be renewed next
    stopping: bool = False  #: the child was told to end; until then a stop request decides nothing
    is_slow: bool = False  #: it takes longer than its `warn_after`, and the log says so
    is_told_slow: bool = False  #: and so does the event stream
    unheard: str = ""  #: why the last renewal failed, in words; empty when it did not

    @property
    def fence(self) -> int | None:
        """The fencing token of its lock, None without one."""
        return self.lock.fence if self.lock is not None else None

    @property
    def deadline_boot_s(self) -> float | None:
        """By when the child must be dead unless lock and run are renewed: from then on others may have them."""
        ends = []
        if self.lock is not None:
            ends.append(self.lock.deadline_boot_s - MARGIN_S)
        if self.timing is not None:
            ends.append(self.heard_boot + self.timing.dead_s)
        return min(ends) if ends else None

    @property
    def alone_boot_s(self) -> float | None:
        """When the child is told to end because Redis did not answer for too long; None: never."""
        return None if self.timing is None else self.heard_boot + self.timing.alone_s

    @property
    def timeout_boot_s(self) -> float:
        """When its work has run as long as its job allows."""
        return self.begun_boot + self.spec.timeout

    def start_ms(self, begun_boot_s: float | None) -> int | None:
        """How long after its start its child took up the work, at *begun_boot_s*; None when that tells nothing."""
        if begun_boot_s is None or not self.started_boot <= begun_boot_s <= boot_s():  # the child's memory is the job's
            return None
        return round((begun_boot_s - self.started_boot) * 1000)

    def becomes_slow(self, now: float) -> bool:
        """Return True at the first look after its `warn_after` is over at *now*, boot clock."""
        warn_after = self.spec.warn_after
        if self.is_slow or warn_after is None or now < self.begun_boot + warn_after:
            return False
        self.is_slow = True
        return True

    @property
    def max_crashes(self) -> int | None:
        """How many vanished workers end the run; None: the first one."""
        return self.spec.max_crashes if self.spec.on_lost == "rerun" else None

    @property
    def told(self) -> tuple[str, str] | None:
        """The outcome and reason for which the guardian has told the child to end; None when it has not."""
        stop = self.stop
        return (stop.outcome, stop.reason) if self.stopping and stop.outcome is not None else None

    @property
    def end_boot_s(self) -> float:
        """When it is to be told to end, for whatever is over first."""
        ends = [self.timeout_boot_s]
        if self.stop.leave_at is not None:
            ends.append(self.stop.leave_at)
        if self.lock is not None:
            ends.append(self.lock.doubt_boot_s)
        return min(ends)

    def hear_of_lock(self, renewed: Renewed, sent_boot: float) -> None:
        """Note what was answered to the renewal of its lock, sent at *sent_boot*."""
        if renewed.lock is None or self.lock is None:
            return
        why = self.lock.hear(renewed.lock, sent_boot)
        if why is not None and renewed.released_by is not None:
            why = f"{renewed.released_by} released it by force"
        if why is not None:
            self.lose_lock(why)
        else:
            self.extend()

    def note_heard(self, sent_boot: float) -> None:
        """Redis has heard of the run at *sent_boot* or later."""
        self.heard_boot = sent_boot
        if self.timing is not None:
            self.extend()

    def extend(self) -> None:
        """Tell the watchdog the new deadline of the child, after lock or run were renewed."""
        if self.child is not None:
            self.child.extend(self.deadline_boot_s)

    def lose_lock(self, why: str) -> None:
        """Ask for the end of the run because its lock is, or may be, another's."""
        if self.lock is None or self.lock.is_lost:
            return
        self.lock.is_lost = True
        log.warning("LOST lock %r of %s: %s", self.lock.name, self.run.run_id, why)
        self.stop.ask("lost", f"its lock {self.lock.name!r} was lost: {why}", f"guardian {self.worker}")

    def ask_what_is_due(self, now: float) -> None:
        """Ask for the end of the run if something is over at *now*.

        Its timeout, its worker's stay, its time without Redis, or the time for which its lock is surely its own.
        """
        stop, alone, lock = self.stop, self.alone_boot_s, self.lock
        if stop.outcome is not None:
            return
        if now >= self.timeout_boot_s:
            reason = f"it ran longer than its timeout of {format_duration(self.spec.timeout)}"
            stop.ask("timed_out", reason, f"guardian {self.worker}")
        elif stop.leave_at is not None and now >= stop.leave_at:
            stop.leave("its worker was told to leave, and the time it had for that was over")
        elif alone is not None and now >= alone:
            stop.ask("lost", self._why_alone(), f"guardian {self.worker}")
        elif lock is not None and now >= lock.doubt_boot_s:
            self.lose_lock(lock.why_in_doubt(now))

    def grace_s(self, now: float) -> float:
        """Seconds from TERM to KILL: the job's grace, less if the worker leaves or others may have the lock before."""
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
        name = self.lock.name if self.lock is not None else ""
        return f"its lock {name!r} was lost: it could not be renewed in time"

    def ending(self, settlement: Settlement, now_s: float) -> Ending:
        """The end of this attempt for the ledger: who decided it, and whether it counts as a crash."""
        stop = self.stop
        settlement, retry = self._followed_by(settlement, now_s)
        is_asked = settlement.outcome == stop.outcome
        return Ending(
            settlement,
            stop.by if is_asked and stop.by else f"worker {self.worker}",
            now_s,
            attempt=self.run.attempt,
            execution=self.execution,
            is_crash=not (is_asked and stop.is_leaving),
            retry=retry,
            record_life_s=record_life_s(settlement.outcome, self.spec, self.run.tick),
        )

    def _followed_by(self, settlement: Settlement, now_s: float) -> tuple[Settlement, Retry | None]:
        """*settlement* and the attempt that follows it, if any; a snooze that may not be is a failure."""
        run, spec = self.run, self.spec
        if settlement.snooze_s is None:
            return settlement, next_retry(spec, settlement.outcome, run.retried, run_id=run.run_id, attempt=run.attempt)
        snoozed_s = 0.0 if run.snoozed_since is None else now_s - run.snoozed_since
        found = next_snooze(spec, settlement.snooze_s, run.retried, attempt=run.attempt, snoozed_s=snoozed_s)
        if isinstance(found, Retry):
            return settlement, found
        return replace(settlement, outcome="failed", reason=f"{settlement.reason}, and {found}"), None

    def _why_alone(self) -> str:
        span = format_duration(self.timing.lost_after_s if self.timing is not None else 0)
        return f"Redis could not be told of it for {span}, so it was ended before somebody else may run it again"
