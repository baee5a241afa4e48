"""The guardian of a run: it holds the run's lock, and watches the child that does the work.

A run comes to it in one of two ways. Nearly always Redis has started it in the very call that took it (`carry_on`).
What needs a closer look was only taken (`execute`): check, start with the lock, or skip, park, refuse. Then both go the
same way: spawn a child, watch it, judge its end, hand that to the settler. With the next call Redis takes the end and
the lock, and gives the next run.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Any, Protocol, TypeVar

from redis.exceptions import RedisError, ResponseError

from cronq.clock import boot_s, rest
from cronq.db.faults import Backoff, broken_key, may_pass, refuses_all
from cronq.errors import CronqError, KeyBroken
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import JobState
from cronq.locks.renewal import LockTiming
from cronq.process.watchdog import Child, ChildExit, Watchdog, WatchdogDied
from cronq.run_context import CurrentRun
from cronq.runs.cause import write_cause
from cronq.runs.exchange import Begun, Renewed, Renewing
from cronq.runs.overlap import may_wait, read_wish
from cronq.runs.run import Run, Settlement, Start
from cronq.runs.store import RunStore, Started
from cronq.runs.timing import RQ_LEASE_S, Timing
from cronq.timetext import format_duration
from cronq.worker.active_run import ActiveRun, StopRequest, Termination
from cronq.worker.child import order_for, read_result
from cronq.worker.desk import Renewer
from cronq.worker.outcome import judge
from cronq.worker.run_lock import RunLock
from cronq.worker.settle import Settler

Answer = TypeVar("Answer")

log = logging.getLogger("cronq.worker")

#: Retry delay for the start script, which recognises its own execution id; doubled each time.
_START_AGAIN_S = 0.1
#: So long the end of a run waits for company: for that of the next one, with which another is taken.
_GATHER_S = 0.002


class Ahead(Protocol):
    """What a busy worker does for other runs while one is at work. Nothing of it takes long, or raises RedisError."""

    @property
    def is_busy(self) -> bool:
        """Return True if it is likely that another run is queued."""

    @property
    def is_behind(self) -> bool:
        """Return True if Redis has not heard yet how an earlier run ended."""

    def catch_up(self) -> None:
        """Tell Redis of that."""

    def look_ahead(self) -> None:
        """The work went well: while what it has left is looked at, take the next run, and tell of earlier ends."""


class Guardian:
    """Executes runs one at a time, each in a child of *watchdog*; *now_s* returns server time without asking Redis.

    *settler* takes over how they ended; at *desk* they are renewed. *ahead* is told when to think of other runs.
    *on_look* is called about every second of a run; it must be quick, and may raise RedisError. *on_broken* is called
    with a key of a lock that has a wrong type, to quarantine it.
    """

    def __init__(
        self,
        runs: RunStore,
        watchdog: Watchdog,
        desk: Renewer,
        settler: Settler,
        now_s: Callable[[], float],
        *,
        host: str,
        pid: int,
        timing: Timing,
        lock_ttl_s: float,
        ahead: Ahead | None = None,
        on_look: Callable[[], None] = lambda: None,
        on_broken: Callable[[KeyBroken], None] = lambda error: None,
        no_commands: bool = False,
        isolation: str = "run",
        min_hold_s: float = 0.0,
    ) -> None:
        self.runs = runs
        self.watchdog = watchdog
        self.desk = desk
        self.settler = settler
        self.now_s = now_s
        self.host = host
        self.pid = pid
        self.timing = timing
        self.lock_timing = LockTiming(lock_ttl_s)
        self.ahead = ahead
        self.on_look = on_look
        self.on_broken = on_broken
        self.no_commands = no_commands
        self.isolation = isolation  #: of jobs that say nothing of it
        self.min_hold_s = min_hold_s  #: so long a lock is kept from everybody, however soon its run ends

    def execute(
        self,
        run: Run,
        spec: JobSpec,
        stop: StopRequest,
        *,
        worker: str,
        args_json: str,
        state: JobState | None = None,
    ) -> None:
        """Take a run that was queued through all steps up to its end; it may not even start.

        The run may be ended through *stop* from any thread. *worker* is the worker's name, *state* that of the job.
        """
        active = ActiveRun(run, spec, stop, worker, secrets.token_hex(16), state, self._timing_of(spec))
        if (
            self._is_fresh(active)
            and self._may_run_here(active)
            and self._may_begin(active)
            and self._start(active)
        ):  # fmt: skip
            self._carry_out(active, args_json)

    def carry_on(self, begun: Begun, stop: StopRequest, *, worker: str, group: str | None = None) -> None:
        """Take a run that Redis has started for this worker through the other steps.

        With *group* it is stopped as soon as this host is no longer in that group.
        """
        run, spec = begun.run, begun.job.spec
        active = ActiveRun(run, spec, stop, worker, begun.execution, begun.job.state, self._timing_of(spec))
        active.group = group
        active.started_boot = active.heard_boot = begun.sent_boot_s
        if begun.lock is not None:
            keep_until = begun.sent_boot_s + self.min_hold_s
            active.lock = RunLock(begun.lock, self.lock_timing, begun.sent_boot_s, begun.fence, keep_until)
        self._say_started(active)
        self._carry_out(active, run.args or spec.args_json)

    def _timing_of(self, spec: JobSpec) -> Timing | None:
        return self.timing if spec.on_lost == "rerun" else None

    def _carry_out(self, active: ActiveRun, args_json: str) -> None:
        try:
            settlement = self._work(active, args_json)
        except Exception as error:  # a mistake of ours: what has started must have an end
            log.exception("the guardian of %s failed", active.run.run_id)
            settlement = Settlement("lost", f"its guardian failed: {error}")
        self.settler.add(active, settlement)

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

    def _start(self, active: ActiveRun) -> bool:
        """Move the run to `running`, with its lock. Return False if it may not start: then it has been dealt with."""
        run = active.run
        active.started_boot = active.heard_boot = boot_s()
        now = self.now_s()
        try:
            started = self._ask_until_answered(active, lambda: self._send_start(active, now))
        except KeyBroken as broken:
            self._fail_for_lock(active, broken)
            return False
        if started.code != "started":
            self._refuse_to_start(active, started)
            return False
        name = active.spec.lock_name
        if name is not None:
            active.lock = RunLock(name, self.lock_timing, active.heard_boot, started.fence)
        if run.state == "done":  # a person who requeues it begins anew
            run = replace(run, retried=0, snoozed_since=None)
        active.run = replace(run, state="running", started_at=now, worker=active.worker, attempt=started.attempt)
        self._say_started(active)
        return True

    def _say_started(self, active: ActiveRun) -> None:
        if log.isEnabledFor(logging.INFO):
            run = active.run
            attempt = f" attempt={run.attempt}" if run.attempt > 1 else ""
            log.info("START %s job=%s host=%s pid=%d%s", run.run_id, run.job, self.host, self.pid, attempt)

    def _refuse_to_start(self, active: ActiveRun, started: Started) -> None:
        """Settle, park, reject or drop a run that may not start; `lua/runs/start.lua` explains the codes."""
        code, run_id = started.code, active.run.run_id
        if code == "busy":
            self._skip_or_park(active, started.detail or None)
        elif code == "broken":
            reason = f"{started.detail}; see what has written there"
            self.settler.write_unstarted(active, Settlement("failed", reason))
        elif code == "removed":
            self.settler.write_unstarted(active, Settlement("stopped", "its job was removed"))
        elif code == "begun":
            self._refuse_to_begin_again(active)
        else:
            log.warning("DROPPED %s %s %s: a stray id in its queue", run_id, code, started.detail)

    def _fail_for_lock(self, active: ActiveRun, broken: KeyBroken) -> None:
        """Settle a run whose lock has a key of a wrong type, and quarantine that.

        Left as it is, the run would come round for ever, and with it each later run of its job.
        """
        self.on_broken(broken)
        self.settler.write_unstarted(active, Settlement("failed", str(broken)))

    def _skip_or_park(self, active: ActiveRun, other: str | None) -> None:
        """Skip a tick at its first attempt whose lock is busy, held by the run *other* if by one; let others wait."""
        run, name = active.run, active.spec.lock_name
        assert name is not None
        # A run that a person requeued counts as started by hand, whatever triggered it first; one whose worker vanished
        # has begun before. Neither is skipped, nor is a run of a job whose ticks wait for each other.
        is_first = run.state == "queued" and run.attempt == 1
        may_skip = not (may_wait(active.spec.overlap) or active.spec.backfill)
        if run.trigger == "schedule" and run.tick is not None and is_first and may_skip:
            reason = f"the lock {name!r} was held by {other or 'somebody else'}"
            cause = write_cause("lock_busy", other, name)
            self.settler.write_unstarted(active, Settlement("skipped", reason, cause=cause))
            return
        try:
            if self.runs.park(run, name, self.now_s()):
                log.info("WAITING %s for the lock %r", run.run_id, name)
        except ResponseError as error:
            broken = broken_key(error)
            if broken is None:
                raise
            self._fail_for_lock(active, broken)

    def _ask_until_answered(self, active: ActiveRun, ask: Callable[[], Answer]) -> Answer:
        """Ask Redis again while it does not answer, for as long as nobody else may take the run."""
        backoff = Backoff(_START_AGAIN_S, inf)
        while True:
            try:
                return ask()
            except (RedisError, OSError) as error:
                is_late = boot_s() - active.heard_boot >= self.timing.start_for_s
                if is_late or not may_pass(error) or rest(backoff.next_s(), self.settler.giving_up):
                    raise

    def _send_start(self, active: ActiveRun, now: float) -> Started:
        name = active.spec.lock_name
        start = Start(
            active.worker,
            self.host,
            self.pid,
            active.execution,
            RQ_LEASE_S,
            now,
            once=active.spec.at_most_once,
            max_crashes=active.max_crashes,
            lock=name,
            lock_ttl_ms=self.lock_timing.ttl_ms,
        )
        return self.runs.start(active.run, start)

    # The work

    def _work(self, active: ActiveRun, args_json: str) -> Settlement:
        """Have a child do the work, and return what became of it, whatever happens to child and watchdog."""
        active.begun_boot = boot_s()
        active.look_boot = active.heard_boot + self._renew_s(active)
        try:
            if active.begun_boot >= active.look_boot:  # so late that run or lock may be another's by now
                self._look(active)
                active.ask_what_is_due(boot_s())
            if active.stop.outcome is not None:
                return Settlement(active.stop.outcome, active.stop.reason)
            child = self._spawn(active, args_json)
        except Exception as error:
            if not isinstance(error, WatchdogDied | CronqError | OSError):
                log.exception("the guardian of %s failed before its work began", active.run.run_id)
            return Settlement("lost", f"its child could not be started: {error}")
        try:
            ended = self._watch(active, child)
        except WatchdogDied as error:  # the child died with it
            return _without_watchdog(active, error)
        except Exception as error:  # a mistake of ours: its lock may not be free while its child runs on
            child.end()
            log.exception("the guardian of %s failed; its child was ended", active.run.run_id)
            return Settlement("lost", f"its guardian failed: {error}; its work was ended")
        if ended.replaced is not None:
            log.log(logging.DEBUG, "REPLACED the child %d after %s: %s", child.pid, active.run.run_id, ended.replaced)
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
            **self._past_of(active),
        )
        is_clean = active.spec.shares_a_child(self.isolation)
        order = order_for(active.spec, current, args_json)
        # The next run may need a lock that this one holds. The end of one that would be done again is told at once.
        may_wait_for_it = active.lock is not None or active.max_crashes is not None
        notes = self.ahead is not None and not may_wait_for_it and self.ahead.is_busy
        child = self.spawn(order, active.deadline_boot_s, is_reusable=is_clean, notes=notes)
        active.child = active.stop.child = child
        return child

    def _past_of(self, active: ActiveRun) -> dict[str, Any]:
        """What a run is told of those before it; one of an earlier tick of no success that was later."""
        run, state = active.run, active.state
        if state is None:
            return {}
        success = self._ask_until_answered(active, lambda: self.runs.success_before(run, state.success_tick))
        return state.past | {"previous_success": success}

    def spawn(
        self,
        order: Mapping[str, Any],
        deadline_boot_s: float | None = None,
        *,
        is_reusable: bool = False,
        notes: bool = False,
    ) -> Child:
        """Start a watched child on *order*, by a new watchdog if the last one is gone. Raises WatchdogDied."""
        if not self.watchdog.alive:
            self.watchdog.close()
            self.watchdog.start()
        return self.watchdog.spawn(order, deadline_boot_s=deadline_boot_s, is_reusable=is_reusable, notes=notes)

    def _watch(self, active: ActiveRun, child: Child) -> ChildExit:
        """Wait for the child and renew its run meanwhile; TERM at its timeout or when asked, KILL after the grace."""
        stop = active.stop
        termination, ahead, catch_up_boot = Termination(child), self.ahead, inf
        if ahead is not None and ahead.is_behind:
            catch_up_boot = boot_s() + (_GATHER_S if child.notes else 0.0)
        while True:
            end_boot = active.end_boot_s if termination.kill_at is None else termination.kill_at
            until = min(active.look_boot, end_boot, catch_up_boot)
            ended = child.wait(max(0.0, until - boot_s()))
            if ended is not None:
                return ended
            if child.has_worked and ahead is not None and stop.outcome is None:
                ahead.look_ahead()
                ahead, catch_up_boot = None, inf
            while stop.passing:
                child.signal(stop.passing.popleft())
            now = boot_s()
            if ahead is not None and now >= catch_up_boot:
                ahead.catch_up()
                catch_up_boot = inf
            active.ask_what_is_due(now)
            if stop.outcome is not None and termination.kill_at is None:
                log.warning("STOPPING %s: %s", active.run.run_id, stop.reason)
                active.stopping = True
                termination.begin(now, active.grace_s(now), stop.signum)
            termination.go_on(now)
            if now >= active.look_boot:
                self._look(active)

    def _renew_s(self, active: ActiveRun) -> float:
        """How often the run is renewed."""
        return self.timing.renew_s if active.lock is None else min(self.timing.renew_s, self.lock_timing.renew_s)

    def _look(self, active: ActiveRun) -> None:
        """Renew run and lock, and hear whether it is to stop. Without Redis the child goes on until it may not."""
        sent_boot = boot_s()
        if active.becomes_slow(sent_boot):
            span = format_duration(active.spec.warn_after or 0)
            log.warning("SLOW %s: it has been running for more than %s, its warn_after", active.run.run_id, span)
        lock = active.lock
        lock_name = None if lock is None else lock.name
        slow = active.is_slow and not active.is_told_slow
        # At the same moments as the other runs of this process, so that all go in one call.
        every_s = self._renew_s(active)
        active.look_boot = sent_boot + every_s - sent_boot % every_s
        try:
            renewed = self.desk.renew(Renewing(active.run, active.execution, lock_name, slow, active.group))
            self._hear(active, renewed, sent_boot)
            self.on_look()
        except (RedisError, OSError) as error:
            self._note_unheard(active, sent_boot, error)
            if lock is not None and lock.sent_boot_s < sent_boot:
                lock.trouble = error
                active.look_boot = sent_boot + self.lock_timing.retry_s

    def _hear(self, active: ActiveRun, renewed: Renewed, sent_boot: float) -> None:
        """Act on the answer to a renewal. Raises RedisError: that of the run was refused, whatever of its lock."""
        active.hear_of_lock(renewed, sent_boot)
        word = renewed.word
        if isinstance(word, Exception):
            raise word
        active.is_told_slow = active.is_slow and word != "forgotten"
        if word == "forgotten" and self._send_start(active, self.now_s()).code != "started":
            word = "settled"  # somebody else was faster
        active.note_heard(sent_boot)
        if active.unheard:
            log.warning("HEARD %s: Redis answers again", active.run.run_id)
            active.unheard = ""
        if word.startswith("stop "):
            by, reason = read_wish(word[5:])
            active.stop.ask("stopped", reason, by)
        elif word == "left":
            active.stop.ask("stopped", f"this host left the group {active.group!r}", "the groups")
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


def _without_watchdog(active: ActiveRun, error: WatchdogDied) -> Settlement:
    """What became of a run whose watchdog died or did not answer: what the guardian had decided before still counts."""
    if active.told is not None:
        outcome, reason = active.told
        return Settlement(outcome, f"{reason}; its watchdog did not answer, and was ended with it")
    deadline, now = active.deadline_boot_s, boot_s()
    if deadline is not None and now >= deadline:
        return Settlement("lost", active.why_at_deadline(now))
    return Settlement("lost", f"{error}; its work was ended with it")  # how far it had come is not known
