"""The guardian of a run: holds its lock, watches its child, ends it if need be, and settles it, once.

A run is a chain of steps, each of which may end it: fresh, lock, start, watch, settle, release.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from redis.exceptions import RedisError

from cronq.child import order_for, read_result
from cronq.clock import boot_s, format_duration, rest
from cronq.errors import CronqError, LockLost
from cronq.job import JobSpec
from cronq.run import CurrentRun, Run
from cronq.run_store import RunStore, Settlement, Started
from cronq.stop_request import StopRequest
from cronq.verdict import judge
from cronq.watchdog import Child, ChildExit, Watchdog, WatchdogDied

log = logging.getLogger("cronq.worker")

#: How often the guardian says that its run lives, and looks whether it should stop.
_LOOK_EVERY_S = 1.0
#: The child is dead this long before its lock can be somebody else's; the watchdog begins still earlier.
_LOCK_MARGIN_S = 0.1
#: Life of RQ's own records of a running job; renewed every second.
_RQ_LEASE_S = 90
#: Pauses before the word that a run begins is sent again; it is known again if only its answer was lost.
_START_AGAIN_S = (0.1, 0.5)


class HeldLock(Protocol):
    """What the guardian needs of a lock; see `cronq.lock.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    @property
    def token(self) -> int: ...
    @property
    def deadline_boot_s(self) -> float: ...


#: Makes the lock of a run: name, who holds it, what to call on loss and on renewal.
LockFactory = Callable[[str, dict[str, Any], Callable[[str], None], Callable[[float], None]], HeldLock]


@dataclass
class Guarded:
    """One run on its way through the steps."""

    run: Run
    spec: JobSpec
    stop: StopRequest
    worker: str
    execution: str
    previous_success: int | None
    attempt: int = 1
    lock: HeldLock | None = None
    child: Child | None = None
    stopping: bool = False  #: the child was told to end; before that, a wish to stop decides nothing
    unheard: bool = False


class Guardian:
    """Executes runs one at a time, in children of *watchdog*; *now_s* answers server time.

    *on_look* is called every second of a run; it must be quick, and may raise RedisError.
    """

    def __init__(
        self,
        runs: RunStore,
        watchdog: Watchdog,
        make_lock: LockFactory,
        now_s: Callable[[], float],
        *,
        host: str,
        pid: int,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self.runs = runs
        self.watchdog = watchdog
        self.make_lock = make_lock
        self.now_s = now_s
        self.host = host
        self.pid = pid
        self.on_look = on_look
        self.giving_up = threading.Event()  #: set when the process must leave although a result is unwritten

    def execute(
        self,
        run: Run,
        spec: JobSpec,
        stop: StopRequest,
        *,
        worker: str,
        args_json: str,
        previous_success: int | None = None,
    ) -> str | None:
        """Take one queued run through all steps; its outcome, None when it was not ours to run.

        *previous_success* is the newest tick before this run that succeeded.
        """
        guarded = Guarded(run, spec, stop, worker, secrets.token_hex(16), previous_success)
        if not self._is_fresh(guarded) or not self._take_lock(guarded):
            return None
        try:
            if not self._start(guarded):
                return None
            return self._run(guarded, args_json)
        finally:
            self._release(guarded)

    # Before the work

    def _is_fresh(self, guarded: Guarded) -> bool:
        run, ttl_s = guarded.run, guarded.spec.ttl
        if ttl_s is None or run.tick is None or run.state != "queued":
            return True
        age = self.now_s() - run.tick
        if age <= ttl_s:
            return True
        reason = (
            f"a worker could start it only {format_duration(age)} after its time; its ttl is {format_duration(ttl_s)}"
        )
        self._settle_unstarted(guarded, Settlement("expired", reason))
        return False

    def _take_lock(self, guarded: Guarded) -> bool:
        name = guarded.spec.lock_name
        if name is None:
            return True
        run = guarded.run
        holder = {"host": self.host, "pid": self.pid, "run_id": run.run_id}
        lock = self.make_lock(
            name,
            holder,
            lambda reason: guarded.stop.ask(
                "lost", f"its lock {name!r} was lost: {reason}", f"guardian {guarded.worker}"
            ),
            lambda deadline: self._extend(guarded, deadline),
        )
        if lock.acquire(blocking=False):
            guarded.lock = lock
            return True
        # A settled run that comes again was put back by a person: that is by hand, whatever triggered it first.
        if run.trigger == "schedule" and run.tick is not None and run.state == "queued":
            whose = self._running_run_of(run.job) or "somebody else"
            self._settle_unstarted(guarded, Settlement("skipped", f"the lock {name!r} was held by {whose}"))
        elif self.runs.park(run, name, self.now_s()):
            log.info("WAITING %s for the lock %r", run.run_id, name)
        return False

    def _running_run_of(self, job: str) -> str | None:
        """The run of *job* that is at work, and so holds its lock."""
        active = self.runs.active([job])[job]
        return next((run_id for run_id, state in active.items() if state == "running"), None)

    def _extend(self, guarded: Guarded, deadline: float) -> None:
        """The lock was renewed: so is the child's life."""
        if guarded.child is not None:
            guarded.child.extend(deadline - _LOCK_MARGIN_S)

    def _start(self, guarded: Guarded) -> bool:
        run = guarded.run
        now = self.now_s()
        started = self._say_that_it_starts(guarded, now)
        if started.code == "broken":
            self._settle_unstarted(guarded, Settlement("failed", f"{started.detail}; see what has written there"))
            return False
        if started.code != "started":
            log.warning("DROPPED %s %s %s: a stray id in its queue", run.run_id, started.code, started.detail)
            return False
        guarded.attempt = started.attempt
        guarded.run = replace(run, state="running", started_at=now, worker=guarded.worker, attempt=started.attempt)
        attempt = f" attempt={started.attempt}" if started.attempt > 1 else ""
        log.info("START %s job=%s host=%s pid=%d%s", run.run_id, run.job, self.host, self.pid, attempt)
        return True

    def _say_that_it_starts(self, guarded: Guarded, now: float) -> Started:
        for pause in (*_START_AGAIN_S, None):
            try:
                return self.runs.start(
                    guarded.run,
                    worker=guarded.worker,
                    host=self.host,
                    pid=self.pid,
                    execution=guarded.execution,
                    lease_s=_RQ_LEASE_S,
                    now_s=now,
                )
            except (RedisError, OSError):
                if pause is None:
                    raise
                rest(pause, self.giving_up)
        raise AssertionError("unreachable")

    # The work

    def _run(self, guarded: Guarded, args_json: str) -> str | None:
        begun = boot_s()
        try:
            child = self._spawn(guarded, args_json)
        except (WatchdogDied, CronqError, OSError) as error:
            return self._settle(guarded, Settlement("lost", f"its child could not be started: {error}"), begun)
        try:
            ended = self._watch(guarded, child, begun)
        except WatchdogDied as error:  # the child died with it; how far it had come is not known
            return self._settle(guarded, Settlement("lost", f"{error}; its work was ended with it"), begun)
        stop, lock = guarded.stop, guarded.lock
        told = (stop.outcome, stop.reason) if guarded.stopping and stop.outcome is not None else None
        fence = lock.token if lock is not None else None
        settlement = judge(ended, read_result(child.result), fence=fence, told=told)
        if ended.leftovers:
            log.warning("LEFT %s: %d processes outlived it and were ended", guarded.run.run_id, ended.leftovers)
        return self._settle(guarded, settlement, begun)

    def _spawn(self, guarded: Guarded, args_json: str) -> Child:
        run, lock = guarded.run, guarded.lock
        current = CurrentRun(
            job=run.job,
            run_id=run.run_id,
            tick=run.tick,
            attempt=guarded.attempt,
            host=self.host,
            fence=lock.token if lock is not None else None,
            previous_success=guarded.previous_success,
        )
        if not self.watchdog.alive:
            self.watchdog.close()
            self.watchdog.start()
        deadline = lock.deadline_boot_s - _LOCK_MARGIN_S if lock is not None else None
        child = self.watchdog.spawn(order_for(guarded.spec, current, args_json), deadline_boot_s=deadline)
        guarded.child = guarded.stop.child = child
        if lock is not None:  # a renewal may have fallen between reading the deadline and here
            child.extend(lock.deadline_boot_s - _LOCK_MARGIN_S)
        return child

    def _watch(self, guarded: Guarded, child: Child, begun: float) -> ChildExit:
        """Wait for the child, renewing its run; TERM at its timeout or when asked, KILL after the grace."""
        spec, stop = guarded.spec, guarded.stop
        next_look = begun + _LOOK_EVERY_S
        kill_at: float | None = None
        while True:
            now = boot_s()
            until = min(t for t in (next_look, begun + spec.timeout if stop.outcome is None else None, kill_at) if t)
            ended = child.wait(max(0.0, until - now))
            if ended is not None:
                return ended
            now = boot_s()
            if stop.outcome is None and now >= begun + spec.timeout:
                reason = f"it ran longer than its timeout of {format_duration(spec.timeout)}"
                stop.ask("timed_out", reason, f"guardian {guarded.worker}")
            if stop.outcome is not None and kill_at is None:
                kill_at = now + self._grace_s(guarded, now)
                log.warning("STOPPING %s: %s", guarded.run.run_id, stop.reason)
                guarded.stopping = True
                child.signal(signal.SIGTERM)
            if kill_at is not None and now >= kill_at:
                child.kill_all()
                kill_at = now + 1.0
            if now >= next_look:
                next_look = now + _LOOK_EVERY_S
                self._look(guarded)

    def _grace_s(self, guarded: Guarded, now: float) -> float:
        """The job's grace; of a run whose lock is lost, only what is left of the lock."""
        if guarded.stop.outcome == "lost" and guarded.lock is not None:
            return max(0.0, min(guarded.spec.grace, guarded.lock.deadline_boot_s - _LOCK_MARGIN_S - now))
        return guarded.spec.grace

    def _look(self, guarded: Guarded) -> None:
        """Renew the run; hear of a stop. Without Redis the child goes on: nobody else may settle it meanwhile."""
        try:
            word = self.runs.renew(
                guarded.run,
                attempt=guarded.attempt,
                execution=guarded.execution,
                lease_s=_RQ_LEASE_S,
                now_s=self.now_s(),
            )
            self.on_look()
        except (RedisError, OSError) as error:
            if not guarded.unheard:
                log.warning("UNHEARD %s: Redis does not answer (%s); its work goes on", guarded.run.run_id, error)
            guarded.unheard = True
            return
        if guarded.unheard:
            log.warning("HEARD %s: Redis answers again", guarded.run.run_id)
            guarded.unheard = False
        if word.startswith("stop "):
            guarded.stop.ask("stopped", f"{word[5:]} asked for it", word[5:])
        elif word == "settled":
            guarded.stop.ask("lost", "it was settled by somebody else meanwhile", "the ledger")

    # After the work

    def _settle(self, guarded: Guarded, settlement: Settlement, begun: float) -> str | None:
        """Write the outcome, for as long as it takes: a finished body must not run again for an outage's sake."""
        run = guarded.run
        pause = 0.1
        by = guarded.stop.by if settlement.outcome == guarded.stop.outcome else f"worker {guarded.worker}"
        while True:
            try:
                mine = self.runs.settle(
                    run,
                    settlement,
                    by=by or f"worker {guarded.worker}",
                    now_s=self.now_s(),
                    attempt=guarded.attempt,
                    execution=guarded.execution,
                    result_ttl_s=guarded.spec.result_ttl,
                    failure_ttl_s=guarded.spec.failure_ttl,
                )
                break
            except (RedisError, OSError) as error:
                if pause == 0.1:
                    log.warning("UNWRITTEN %s %s: %s; trying on", run.run_id, settlement.outcome, error)
                if rest(pause, self.giving_up):
                    log.error("ABANDONED %s %s: leaving without Redis", run.run_id, settlement.outcome)
                    return settlement.outcome
                pause = min(pause * 2, 2.0)
        outcome = self._written_as(run, settlement, mine)
        level = logging.INFO if outcome == "succeeded" else logging.WARNING
        words = "" if outcome == "succeeded" else f" {settlement.reason}"
        log.log(level, "FINISH %s %s %.2fs%s", run.run_id, outcome, boot_s() - begun, words)
        return outcome

    def _written_as(self, run: Run, settlement: Settlement, mine: bool) -> str:
        """What the ledger says: our word, unless somebody else was first (or our own first reply was lost)."""
        if mine:
            return settlement.outcome
        try:
            known = self.runs.find(run.run_id)
        except (RedisError, OSError):
            known = None
        if known is not None and known.outcome is not None:
            return known.outcome
        log.error("UNSETTLED %s: the ledger did not take %s", run.run_id, settlement.outcome)
        return settlement.outcome

    def _settle_unstarted(self, guarded: Guarded, settlement: Settlement) -> None:
        run = guarded.run
        self.runs.settle(
            run, settlement, by=f"worker {guarded.worker}", now_s=self.now_s(), expect="queued",
            failure_ttl_s=guarded.spec.failure_ttl,
        )  # fmt: skip
        log.info("FINISH %s %s %s", run.run_id, settlement.outcome, settlement.reason)

    def _release(self, guarded: Guarded) -> None:
        lock, name = guarded.lock, guarded.spec.lock_name
        if lock is None or name is None:
            return
        try:
            lock.release()
            self.runs.put_back(name)
        except LockLost:
            log.debug("the lock %r was lost before its release", name)
        except (RedisError, OSError, CronqError) as error:
            log.warning("UNRELEASED lock %r: %s; it ends by itself", name, error)
