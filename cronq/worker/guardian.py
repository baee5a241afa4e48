"""The guardian of a run: it holds the run's lock, watches the child that does the work, and settles the run once.

`Guardian.execute` is the chain of steps; each may end the run: check, take the lock, start, work, settle, release.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Any

from redis.exceptions import RedisError, ResponseError

from cronq.clock import Stop, boot_s, rest
from cronq.db.faults import Backoff, broken_key, may_pass, refuses_all
from cronq.errors import CronqError, KeyBroken, LockLost
from cronq.jobs.spec import JobSpec
from cronq.process.watchdog import Child, ChildExit, Watchdog, WatchdogDied
from cronq.run_context import CurrentRun
from cronq.runs.cause import write_cause
from cronq.runs.overlap import may_wait, read_wish
from cronq.runs.run import Run, Settlement, Start
from cronq.runs.store import RunStore, Started
from cronq.runs.timing import Timing
from cronq.timetext import format_duration
from cronq.worker.active_run import ActiveRun, LockFactory, RunLock, StopRequest, Termination
from cronq.worker.child import order_for, read_result
from cronq.worker.outcome import judge
from cronq.worker.settle import Settler

log = logging.getLogger("cronq.worker")

#: Life of RQ's own records of a running job, which each renewal makes anew.
_RQ_LEASE_S = 90
#: Retry delay for the start script, which recognises its own execution id; doubled each time.
_START_AGAIN_S = 0.1


class Guardian:
    """Executes runs one at a time, each in a child of *watchdog*; *now_s* returns server time without asking Redis.

    *on_look* is called about every second of a run; it must be quick, and may raise RedisError. *on_broken* is called
    with a key of a lock that has a wrong type, to quarantine it.
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
        timing: Timing,
        on_look: Callable[[], None] = lambda: None,
        on_broken: Callable[[KeyBroken], None] = lambda error: None,
        no_commands: bool = False,
    ) -> None:
        self.runs = runs
        self.watchdog = watchdog
        self.make_lock = make_lock
        self.now_s = now_s
        self.host = host
        self.pid = pid
        self.timing = timing
        self.on_look = on_look
        self.on_broken = on_broken
        self.no_commands = no_commands
        self.giving_up = Stop()  #: set when the process must leave although a result is unwritten
        self.settler = Settler(runs, now_s, self.giving_up)

    def execute(
        self,
        run: Run,
        spec: JobSpec,
        stop: StopRequest,
        *,
        worker: str,
        args_json: str,
        past: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Take one queued run through all steps. Return its outcome, or RERUN; None when it did not start here.

        The run may be ended through *stop* from any thread. *worker* is the name of the worker, *past* the fields of
        `CurrentRun` that tell of the runs before this one.
        """
        timing = self.timing if spec.on_lost == "rerun" else None
        active = ActiveRun(run, spec, stop, worker, secrets.token_hex(16), past or {}, timing)
        if not (self._is_fresh(active) and self._may_run_here(active) and self._may_begin(active)):
            return None
        try:
            if self._take_lock(active) and self._start(active):
                return self.settler.write(active, self._work(active, args_json))
            return None
        finally:
            self._release(active)

    # Before the work

    def _is_fresh(self, active: ActiveRun) -> bool:
        """Return True if the run may still start by its ttl; else it has expired. One of a backfill is late anyway."""
        run, ttl_s = active.run, active.spec.ttl
        if ttl_s is None or run.tick is None or run.state != "queued" or run.attempt > 1 or run.trigger == "backfill":
            return True
        age = self.now_s() - run.tick
        if age <= ttl_s:
            return True
        reason = (
            f"a worker could start it only {format_duration(age)} after its time; its ttl is {format_duration(ttl_s)}"
        )
        self.settler.write_unstarted(active, Settlement("expired", reason))
        return False

    def _may_run_here(self, active: ActiveRun) -> bool:
        """Return False for a command where this worker runs none: a command is code from Redis."""
        run = active.run
        if not self.no_commands or active.spec.command is None:
            return True
        reason = "it is a command, and this worker runs none (--no-commands); let another one serve its queue"
        if run.state == "queued":
            self.settler.write_unstarted(active, Settlement("failed", reason))
        else:  # a person requeued it: its outcome stays
            self.settler.reject(active, reason)
        log.error("REFUSED %s: %s", run.run_id, reason)
        return False

    def _may_begin(self, active: ActiveRun) -> bool:
        """Return False if it was started before and its job asks for at_most_once; the start script checks it again."""
        run = active.run
        if not active.spec.at_most_once or run.started_at is None or run.state == "running":
            return True
        return self._refuse_to_begin_again(active)

    def _refuse_to_begin_again(self, active: ActiveRun) -> bool:
        reason = "it was started before, and its job asks for at_most_once"
        self.settler.reject(active, reason)
        log.error("REFUSED %s: %s", active.run.run_id, reason)
        return False

    def _take_lock(self, active: ActiveRun) -> bool:
        """Take the lock that its job asks for. While it is busy a tick is skipped at its first attempt; others wait."""
        name = active.spec.lock_name
        if name is None:
            return True
        lock = self._lock_for(active, name)
        try:
            if lock.acquire(blocking=False):
                active.lock = lock
                return True
            self._skip_or_park(active, name, lock)
        except (KeyBroken, ResponseError) as error:
            broken = error if isinstance(error, KeyBroken) else broken_key(error)
            if broken is None:
                raise
            # Left as it is, this run would come round for ever, and with it each later run of its job.
            self.on_broken(broken)
            self.settler.write_unstarted(active, Settlement("failed", str(broken)))
        return False

    def _lock_for(self, active: ActiveRun, name: str) -> RunLock:
        holder = {"host": self.host, "pid": self.pid, "run_id": active.run.run_id}

        def on_lost(reason: str) -> None:
            active.stop.ask("lost", f"its lock {name!r} was lost: {reason}", f"guardian {active.worker}")

        return self.make_lock(name, holder, on_lost, lambda deadline: active.extend())

    def _skip_or_park(self, active: ActiveRun, name: str, lock: RunLock) -> None:
        run = active.run
        # A run that a person requeued counts as started by hand, whatever triggered it first; one whose worker vanished
        # has begun before. Neither is skipped, nor is a run of a job whose ticks wait for each other.
        is_first = run.state == "queued" and run.attempt == 1
        may_skip = not (may_wait(active.spec.overlap) or active.spec.backfill)
        if run.trigger == "schedule" and run.tick is not None and is_first and may_skip:
            other = lock.holding_run()
            reason = f"the lock {name!r} was held by {other or 'somebody else'}"
            cause = write_cause("lock_busy", other, name)
            self.settler.write_unstarted(active, Settlement("skipped", reason, cause=cause))
        elif self.runs.park(run, name, self.now_s()):
            log.info("WAITING %s for the lock %r", run.run_id, name)

    def _start(self, active: ActiveRun) -> bool:
        """Move the run to `running`. Return False if it may not start: then it is settled, rejected or dropped."""
        run = active.run
        active.started_boot = active.heard_boot = boot_s()
        now = self.now_s()
        started = self._send_start_until_answered(active, now)
        if started.code == "broken":
            self.settler.write_unstarted(active, Settlement("failed", f"{started.detail}; see what has written there"))
            return False
        if started.code == "removed":
            self.settler.write_unstarted(active, Settlement("stopped", "its job was removed"))
            return False
        if started.code == "begun":
            return self._refuse_to_begin_again(active)
        if started.code != "started":
            log.warning("DROPPED %s %s %s: a stray id in its queue", run.run_id, started.code, started.detail)
            return False
        if run.state == "done":  # a person who requeues it begins anew
            run = replace(run, retried=0, snoozed_since=None)
        active.run = replace(run, state="running", started_at=now, worker=active.worker, attempt=started.attempt)
        attempt = f" attempt={started.attempt}" if started.attempt > 1 else ""
        log.info("START %s job=%s host=%s pid=%d%s", run.run_id, run.job, self.host, self.pid, attempt)
        return True

    def _send_start_until_answered(self, active: ActiveRun, now: float) -> Started:
        backoff = Backoff(_START_AGAIN_S, inf)
        while True:
            try:
                return self._send_start(active, now)
            except (RedisError, OSError) as error:
                is_late = boot_s() - active.heard_boot >= self.timing.start_for_s
                if is_late or not may_pass(error) or rest(backoff.next_s(), self.giving_up):
                    raise

    def _send_start(self, active: ActiveRun, now: float) -> Started:
        start = Start(
            active.worker,
            self.host,
            self.pid,
            active.execution,
            _RQ_LEASE_S,
            now,
            once=active.spec.at_most_once,
            max_crashes=active.max_crashes,
        )
        return self.runs.start(active.run, start)

    # The work

    def _work(self, active: ActiveRun, args_json: str) -> Settlement:
        """Have a child do the work, and return what became of it, whatever happens to child and watchdog."""
        active.begun_boot = boot_s()
        try:
            child = self._spawn(active, args_json)
        except (WatchdogDied, CronqError, OSError) as error:
            return Settlement("lost", f"its child could not be started: {error}")
        try:
            ended = self._watch(active, child)
        except WatchdogDied as error:  # the child died with it
            return _without_watchdog(active, error)
        except Exception as error:  # a mistake of ours: its lock may not be free while its child runs on
            child.end()
            log.exception("the guardian of %s failed; its child was ended", active.run.run_id)
            return Settlement("lost", f"its guardian failed: {error}; its work was ended")
        if ended.leftovers:
            log.warning("LEFT %s: %d processes outlived it and were ended", active.run.run_id, ended.leftovers)
        return judge(
            ended,
            read_result(child.result),
            fence=active.fence,
            told=active.told,
            at_deadline=active.why_at_deadline(boot_s()),
            start_ms=active.start_ms(ended.begun_boot_s),
        )

    def _spawn(self, active: ActiveRun, args_json: str) -> Child:
        run = active.run
        current = CurrentRun(
            job=run.job,
            run_id=run.run_id,
            tick=run.tick,
            attempt=run.attempt,
            host=self.host,
            fence=active.fence,
            previous_tick=active.spec.tick_before(run.tick),
            **active.past,
        )
        child = self.spawn(order_for(active.spec, current, args_json), active.deadline_boot_s)
        active.child = active.stop.child = child
        if active.lock is not None:  # a renewal may have fallen between reading the deadline and here
            active.extend()
        return child

    def spawn(self, order: Mapping[str, Any], deadline_boot_s: float | None = None) -> Child:
        """Start a watched child on *order*, by a new watchdog if the last one is gone. Raises WatchdogDied."""
        if not self.watchdog.alive:
            self.watchdog.close()
            self.watchdog.start()
        return self.watchdog.spawn(order, deadline_boot_s=deadline_boot_s)

    def _watch(self, active: ActiveRun, child: Child) -> ChildExit:
        """Wait for the child and renew its run meanwhile; TERM at its timeout or when asked, KILL after the grace."""
        stop = active.stop
        next_look = active.begun_boot + self.timing.renew_s
        termination = Termination(child)
        while True:
            now = boot_s()
            ends = (active.timeout_boot_s, stop.leave_at) if stop.outcome is None else (termination.kill_at,)
            until = min(t for t in (next_look, *ends) if t is not None)
            ended = child.wait(max(0.0, until - now))
            if ended is not None:
                return ended
            now = boot_s()
            active.ask_what_is_due(now)
            if stop.outcome is not None and termination.kill_at is None:
                log.warning("STOPPING %s: %s", active.run.run_id, stop.reason)
                active.stopping = True
                termination.begin(now, active.grace_s(now))
            termination.go_on(now)
            if now >= next_look:
                next_look = now + self.timing.renew_s
                self._look(active)

    def _look(self, active: ActiveRun) -> None:
        """Renew the run, and hear whether it is to stop. Without Redis the child goes on until `alone_boot_s`."""
        sent_boot = boot_s()
        if active.becomes_slow(sent_boot):
            span = format_duration(active.spec.warn_after or 0)
            log.warning("SLOW %s: it has been running for more than %s, its warn_after", active.run.run_id, span)
        try:
            word = self.runs.renew(
                active.run,
                execution=active.execution,
                lease_s=_RQ_LEASE_S,
                now_s=self.now_s(),
                slow=active.is_slow and not active.is_told_slow,
            )
            active.is_told_slow = active.is_slow and word != "forgotten"
            if word == "forgotten" and self._send_start(active, self.now_s()).code != "started":
                word = "settled"  # somebody else was faster
            active.note_heard(sent_boot)
            self.on_look()
        except (RedisError, OSError) as error:
            self._note_unheard(active, sent_boot, error)
            return
        if active.unheard:
            log.warning("HEARD %s: Redis answers again", active.run.run_id)
            active.unheard = ""
        if word.startswith("stop "):
            by, reason = read_wish(word[5:])
            active.stop.ask("stopped", reason, by)
        elif word == "settled":
            active.stop.ask("lost", "it was settled by somebody else meanwhile", "the ledger")

    def _note_unheard(self, active: ActiveRun, sent_boot: float, error: Exception) -> None:
        """Log once why the run could not be renewed."""
        how = "does not answer"
        if refuses_all(error):  # nobody else can take the run from a Redis that takes no writes
            how = "refuses"
            active.note_heard(sent_boot)
        if active.unheard != how:
            log.warning("UNHEARD %s: Redis %s (%s); its work goes on", active.run.run_id, how, error)
        active.unheard = how

    # After the work

    def _release(self, active: ActiveRun) -> None:
        """Release the lock, if it holds one, and wake the run that has waited longest for it."""
        lock, name = active.lock, active.spec.lock_name
        if lock is None or name is None:
            return
        try:
            lock.release()
            self.runs.wake_waiter(name)
        except LockLost:
            log.debug("the lock %r was lost before its release", name)
        except (RedisError, OSError, CronqError) as error:
            log.warning("UNRELEASED lock %r: %s; it ends by itself", name, error)


def _without_watchdog(active: ActiveRun, error: WatchdogDied) -> Settlement:
    """What became of a run whose watchdog died or did not answer: what the guardian had decided before still counts."""
    if active.told is not None:
        outcome, reason = active.told
        return Settlement(outcome, f"{reason}; its watchdog did not answer, and was ended with it")
    deadline, now = active.deadline_boot_s, boot_s()
    if deadline is not None and now >= deadline:
        return Settlement("lost", active.why_at_deadline(now))
    return Settlement("lost", f"{error}; its work was ended with it")  # how far it had come is not known
