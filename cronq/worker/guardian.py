"""The guardian of a run: holds its lock, watches its child, ends it if need be, and settles it, once.

A run is a chain of steps, each of which may end it: fresh, lock, start, watch, settle, release.
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

from redis.exceptions import RedisError, ResponseError

from cronq.clock import boot_s, rest
from cronq.current_run import CurrentRun
from cronq.db.client import may_pass
from cronq.db.faults import broken_key, refuses_all
from cronq.errors import CronqError, KeyBroken, LockLost
from cronq.jobs.retention import failure_life_s
from cronq.jobs.spec import JobSpec
from cronq.locks.lock import read_locks
from cronq.process.watchdog import Child, ChildExit, Watchdog, WatchdogDied
from cronq.runs.run import Run, Settlement
from cronq.runs.store import RunStore, Started
from cronq.timetext import format_duration
from cronq.worker.active_run import Guarded, LockFactory
from cronq.worker.child import order_for, read_result
from cronq.worker.outcome import judge
from cronq.worker.settle import Ending, Recorder
from cronq.worker.stop_request import StopRequest

log = logging.getLogger("cronq.worker")

#: How often the guardian says that its run lives, and looks whether it should stop.
_LOOK_EVERY_S = 1.0
#: A worker that is leaving tries so long after its grace to tell Redis how the run ended.
_LEAVE_WRITING_S = 7.0
#: Life of RQ's own records of a running job; renewed every second.
_RQ_LEASE_S = 90
#: Pause before the word that a run begins is sent again; it is known again if only its answer was lost. The word is
#: given up after this part of `lost_after`: soon the run will be put back.
_START_AGAIN_S, _START_FOR = 0.1, 0.5


class Guardian:
    """Executes runs one at a time, in children of *watchdog*; *now_s* answers server time.

    *on_look* is called every second of a run; it must be quick, and may raise RedisError. *on_broken* is told of a key
    of a lock that has a wrong type, to move it aside.
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
        lost_after_s: float,
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
        self.lost_after_s = lost_after_s
        self.on_look = on_look
        self.on_broken = on_broken
        self.no_commands = no_commands
        self.giving_up = threading.Event()  #: set when the process must leave although a result is unwritten
        self.recorder = Recorder(runs, now_s, self.giving_up)
        self._look_every_s = min(_LOOK_EVERY_S, lost_after_s / 6)

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
        lost_after_s = self.lost_after_s if spec.on_lost == "rerun" else None
        guarded = Guarded(run, spec, stop, worker, secrets.token_hex(16), previous_success, lost_after_s)
        if not self._is_fresh(guarded) or not self._may_run_here(guarded) or not self._may_begin(guarded):
            return None
        try:
            if not self._take_lock(guarded):
                return None
        except (KeyBroken, ResponseError) as error:
            broken = error if isinstance(error, KeyBroken) else broken_key(error)
            if broken is None:
                raise
            # It would come round for ever, and with it each later run of its job.
            self.on_broken(broken)
            self._settle_unstarted(guarded, Settlement("failed", str(broken)))
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
        if ttl_s is None or run.tick is None or run.state != "queued" or run.attempt > 1:
            return True
        age = self.now_s() - run.tick
        if age <= ttl_s:
            return True
        reason = (
            f"a worker could start it only {format_duration(age)} after its time; its ttl is {format_duration(ttl_s)}"
        )
        self._settle_unstarted(guarded, Settlement("expired", reason))
        return False

    def _may_run_here(self, guarded: Guarded) -> bool:
        """Whether this worker runs such work: a command is code that stands in Redis."""
        run = guarded.run
        if not self.no_commands or guarded.spec.command is None:
            return True
        reason = "it is a command, and this worker runs none (--no-commands); let another one serve its queue"
        if run.state == "queued":
            self._settle_unstarted(guarded, Settlement("failed", reason))
        else:  # put back by a person: its outcome stays
            self.runs.set_aside(run.run_id, run.queue, reason, by=f"worker {guarded.worker}", now_s=self.now_s())
        log.error("REFUSED %s: %s", run.run_id, reason)
        return False

    def _may_begin(self, guarded: Guarded) -> bool:
        """Whether it was not started before, for a job that asks for that; also said by the script that starts it."""
        run = guarded.run
        if not guarded.spec.at_most_once or run.started_at is None or run.state == "running":
            return True
        return self._refuse_to_begin_again(guarded)

    def _refuse_to_begin_again(self, guarded: Guarded) -> bool:
        reason = "it was started before, and its job asks for at_most_once"
        run = guarded.run
        self.runs.set_aside(run.run_id, run.queue, reason, by=f"worker {guarded.worker}", now_s=self.now_s())
        log.error("REFUSED %s: %s", guarded.run.run_id, reason)
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
            lambda deadline: guarded.extend(),
        )
        if lock.acquire(blocking=False):
            guarded.lock = lock
            return True
        # A settled run that comes again was put back by a person: that is by hand, whatever triggered it first.
        # One whose worker vanished has begun, and is not skipped either.
        is_first = run.state == "queued" and run.attempt == 1
        if run.trigger == "schedule" and run.tick is not None and is_first:
            whose = self._run_with(name) or "somebody else"
            self._settle_unstarted(guarded, Settlement("skipped", f"the lock {name!r} was held by {whose}"))
        elif self.runs.park(run, name, self.now_s()):
            log.info("WAITING %s for the lock %r", run.run_id, name)
        return False

    def _run_with(self, lock: str) -> str | None:
        """The run that holds *lock* at this moment."""
        return next((held.run_id for held in read_locks(self.runs.client, self.runs.keys, [lock])), None)

    def _start(self, guarded: Guarded) -> bool:
        run = guarded.run
        guarded.heard_boot = boot_s()
        now = self.now_s()
        started = self._say_that_it_starts(guarded, now)
        if started.code == "broken":
            self._settle_unstarted(guarded, Settlement("failed", f"{started.detail}; see what has written there"))
            return False
        if started.code == "removed":
            self._settle_unstarted(guarded, Settlement("stopped", "its job was removed"))
            return False
        if started.code == "begun":
            return self._refuse_to_begin_again(guarded)
        if started.code != "started":
            log.warning("DROPPED %s %s %s: a stray id in its queue", run.run_id, started.code, started.detail)
            return False
        guarded.attempt = started.attempt
        guarded.run = replace(run, state="running", started_at=now, worker=guarded.worker, attempt=started.attempt)
        attempt = f" attempt={started.attempt}" if started.attempt > 1 else ""
        log.info("START %s job=%s host=%s pid=%d%s", run.run_id, run.job, self.host, self.pid, attempt)
        return True

    def _say_that_it_starts(self, guarded: Guarded, now: float) -> Started:
        pause_s = _START_AGAIN_S
        while True:
            try:
                return self._start_once(guarded, now)
            except (RedisError, OSError) as error:
                is_late = boot_s() - guarded.heard_boot >= self.lost_after_s * _START_FOR
                if is_late or not may_pass(error) or rest(pause_s, self.giving_up):
                    raise
                pause_s *= 2

    def _start_once(self, guarded: Guarded, now: float) -> Started:
        spec = guarded.spec
        return self.runs.start(
            guarded.run,
            worker=guarded.worker,
            host=self.host,
            pid=self.pid,
            execution=guarded.execution,
            lease_s=_RQ_LEASE_S,
            now_s=now,
            once=spec.at_most_once,
            max_crashes=spec.max_crashes if spec.on_lost == "rerun" else None,
        )

    # The work

    def _run(self, guarded: Guarded, args_json: str) -> str | None:
        begun = boot_s()
        try:
            child = self._spawn(guarded, args_json)
        except (WatchdogDied, CronqError, OSError) as error:
            return self._settle(guarded, Settlement("lost", f"its child could not be started: {error}"), begun)
        try:
            ended = self._watch(guarded, child, begun)
        except WatchdogDied as error:  # the child died with it
            return self._settle(guarded, _without_watchdog(guarded, error), begun)
        except Exception as error:  # a mistake of ours: its lock may not be free while its child runs on
            child.end()
            log.exception("the guardian of %s failed; its child was ended", guarded.run.run_id)
            return self._settle(guarded, Settlement("lost", f"its guardian failed: {error}; its work was ended"), begun)
        lock = guarded.lock
        fence = lock.token if lock is not None else None
        at_deadline = guarded.why_at_deadline(boot_s())
        settlement = judge(ended, read_result(child.result), fence=fence, told=guarded.told, at_deadline=at_deadline)
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
        order = order_for(guarded.spec, current, args_json)
        child = self.watchdog.spawn(order, deadline_boot_s=guarded.deadline_boot_s)
        guarded.child = guarded.stop.child = child
        if lock is not None:  # a renewal may have fallen between reading the deadline and here
            guarded.extend()
        return child

    def _watch(self, guarded: Guarded, child: Child, begun: float) -> ChildExit:
        """Wait for the child, renewing its run; TERM at its timeout or when asked, KILL after the grace."""
        spec, stop = guarded.spec, guarded.stop
        next_look = begun + self._look_every_s
        kill_at: float | None = None
        while True:
            now = boot_s()
            ends = (begun + spec.timeout, stop.leave_at) if stop.outcome is None else (kill_at,)
            until = min(t for t in (next_look, *ends) if t is not None)
            ended = child.wait(max(0.0, until - now))
            if ended is not None:
                return ended
            now = boot_s()
            guarded.ask_what_is_due(now, begun)
            if stop.outcome is not None and kill_at is None:
                kill_at = now + guarded.grace_s(now)
                log.warning("STOPPING %s: %s", guarded.run.run_id, stop.reason)
                guarded.stopping = True
                child.signal(signal.SIGTERM)
            if kill_at is not None and now >= kill_at:
                child.kill_all()
                kill_at = now + 1.0
            if now >= next_look:
                next_look = now + self._look_every_s
                self._look(guarded)

    def _look(self, guarded: Guarded) -> None:
        """Renew the run; hear of a stop. Without Redis the child goes on, unless others may run it again meanwhile."""
        sent_boot = boot_s()
        try:
            word = self.runs.renew(
                guarded.run,
                attempt=guarded.attempt,
                execution=guarded.execution,
                lease_s=_RQ_LEASE_S,
                now_s=self.now_s(),
            )
            if word == "forgotten" and self._start_once(guarded, self.now_s()).code != "started":
                word = "settled"  # somebody else was faster
            guarded.heard_boot = sent_boot
            if guarded.lost_after_s is not None:
                guarded.extend()
            self.on_look()
        except (RedisError, OSError) as error:
            self._note_unheard(guarded, sent_boot, error)
            return
        if guarded.unheard:
            log.warning("HEARD %s: Redis answers again", guarded.run.run_id)
            guarded.unheard = ""
        if word.startswith("stop "):
            guarded.stop.ask("stopped", f"{word[5:]} asked for it", word[5:])
        elif word == "settled":
            guarded.stop.ask("lost", "it was settled by somebody else meanwhile", "the ledger")

    def _note_unheard(self, guarded: Guarded, sent_boot: float, error: Exception) -> None:
        """Say once why the run could not be renewed. Nobody else can take it from a Redis that takes no writes."""
        how = "does not answer"
        if refuses_all(error):
            how = "refuses"
            guarded.heard_boot = sent_boot
            if guarded.lost_after_s is not None:
                guarded.extend()
        if guarded.unheard != how:
            log.warning("UNHEARD %s: Redis %s (%s); its work goes on", guarded.run.run_id, how, error)
        guarded.unheard = how

    # After the work

    def _settle(self, guarded: Guarded, settlement: Settlement, begun: float) -> str:
        stop = guarded.stop
        by = stop.by if settlement.outcome == stop.outcome else ""
        is_crash = not (stop.is_leaving and settlement.outcome == stop.outcome)
        by = by or f"worker {guarded.worker}"
        ending = Ending(guarded.run, guarded.spec, settlement, by, guarded.execution, begun, is_crash)
        return self.recorder.write(ending, lambda: None if stop.leave_at is None else stop.leave_at + _LEAVE_WRITING_S)

    def _settle_unstarted(self, guarded: Guarded, settlement: Settlement) -> None:
        """Settle a run that does not begin. One that a person has requeued keeps its outcome, and is rejected."""
        run, by = guarded.run, f"worker {guarded.worker}"
        if run.state == "done":
            self.runs.set_aside(run.run_id, run.queue, settlement.reason, by=by, now_s=self.now_s())
            log.error("REFUSED %s cannot run again: %s", run.run_id, settlement.reason)
            return
        life_s = failure_life_s(guarded.spec, run.tick)
        is_settled = self.runs.settle(run, settlement, by=by, now_s=self.now_s(), expect="queued", failure_ttl_s=life_s)
        if is_settled:
            log.info("FINISH %s %s %s", run.run_id, settlement.outcome, settlement.reason)
        else:
            log.warning("DROPPED %s: somebody else has settled it, or taken it", run.run_id)

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


def _without_watchdog(guarded: Guarded, error: WatchdogDied) -> Settlement:
    """The settlement of a run whose watchdog died or did not answer: what was decided before still counts."""
    if guarded.told is not None:
        outcome, reason = guarded.told
        return Settlement(outcome, f"{reason}; its watchdog did not answer, and was ended with it")
    deadline, now = guarded.deadline_boot_s, boot_s()
    if deadline is not None and now >= deadline:
        return Settlement("lost", guarded.why_at_deadline(now))
    return Settlement("lost", f"{error}; its work was ended with it")  # how far it had come is not known
