"""The guardian of one command that somebody starts from a shell, cron or systemd: `cronq exec`.

A run of it goes through these steps: it stands back when this host is busy (`GuardedCommand.run`), takes its lock and
is at work in the ledger from then on (`_begin`), is carried out by the worker's own guardian, watchdog and child
(`_carry_out`), and its end is told (`_tell`). Whatever keeps it from beginning leaves nothing behind.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from types import FrameType
from typing import Any, Protocol

from redis.exceptions import RedisError

from cronq.clock import ServerClock, Stop, boot_s, rest
from cronq.db.faults import Backoff, may_pass
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import JobState, StoredJob
from cronq.process.watchdog import Watchdog
from cronq.runs.exchange import Begun
from cronq.runs.guarded import Busy, Elsewhere, Guarded, GuardedStart
from cronq.runs.run import Ending, Settlement, manual_run_id
from cronq.runs.store import RunStore
from cronq.runs.timing import Timing
from cronq.timetext import format_duration
from cronq.worker.active_run import StopRequest
from cronq.worker.desk import Handing
from cronq.worker.guardian import Guardian
from cronq.worker.settle import Settler

log = logging.getLogger("cronq.exec")

TIMED_OUT, LOST = 124, 76
#: What ends the work when it is sent to `cronq exec`, and what is only passed on to it.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_PASSING = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
#: So long Redis may be away before a run begins; who waits for a lock waits for Redis, too.
_AWAY_S = 3.0
#: How often one that waits looks by itself: an expiry wakes nobody. A signal is heeded by then, too.
_LOOK_S = 0.5


@dataclass(frozen=True)
class Order:
    """What is to be executed, and how. All spans are seconds."""

    name: str
    words: tuple[str, ...]
    locks: tuple[str, ...] = ()  #: it needs one of these; none: whoever runs, it runs, too
    wait_s: float = 0.0  #: so long it waits for one
    group: str | None = None  #: it runs on hosts of that group alone
    min_hold_s: float = 0.0  #: so long that is kept from everybody, however soon the command ends
    timeout_s: float = inf
    grace_s: float = 10.0
    max_load: float | None = None  #: a host whose load is above that stands back
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    run_as: str | None = None

    @property
    def spec(self) -> JobSpec:
        """The same as a job has it."""
        return JobSpec(
            self.name, command=self.words, env=self.env, cwd=self.cwd, run_as=self.run_as,
            timeout=self.timeout_s, grace=self.grace_s,
        )  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """What became of it: *code* is what `cronq exec` exits with."""

    code: int
    settlement: Settlement | None = None  #: None: it did not begin
    run_id: str | None = None
    why_not: str = ""  #: why it did not begin
    is_busy: bool = False  #: a lock was busy, or this host: it was this host's turn


class Guards(Protocol):
    """What a guarded command asks of Redis before it begins, or of what stands in for it."""

    def begin(self, guarded: Guarded) -> GuardedStart | Busy | Elsewhere:
        """Begin the run if one of its locks is free. Raises RedisError, UnknownGroup."""
        ...

    def wait_for_release(self, locks: Sequence[str], most_s: float) -> None:
        """Wait until one of *locks* is given back, or for *most_s*. Raises RedisError."""
        ...


@dataclass(frozen=True)
class ExecParts:
    """What a guarded command works with; nothing has been sent to Redis, and there is one thread."""

    guards: Guards
    desk: Handing  #: where its run is renewed, and its end told
    runs: RunStore
    clock: ServerClock
    watchdog: Watchdog
    host: str
    by: str  #: who started it
    timing: Timing
    lock_ttl_s: float


class GuardedCommand:
    """Runs one command under guard. It belongs to the main thread, for it handles the signals of this process."""

    def __init__(self, order: Order, parts: ExecParts) -> None:
        self.order = order
        self.parts = parts
        self.giving_up = Stop()  #: a signal says that the end need not be told any more
        self.settler = Settler(parts.runs, parts.clock.now_s, self.giving_up)
        host, pid, run_id = parts.host, os.getpid(), manual_run_id(order.name)
        self.guarded = Guarded(
            run_id, order.name, secrets.token_hex(16), f"{host}.{pid}.exec", host, pid, parts.by, order.locks,
            order.group,
        )  # fmt: skip
        self.stop = StopRequest(run_id)
        self.signum: int | None = None  #: what this process was told to end by
        self._has_ended = False

    def run(self) -> Ended:
        """Take the command through all steps. Raises RedisError when it could not begin."""
        with self._signals():
            load = os.getloadavg()[0]
            if self.order.max_load is not None and load > self.order.max_load:
                why = f"the load of this host is {load:.1f}, above {self.order.max_load:g}"
                return Ended(0, why_not=why, is_busy=True)
            start = self._begin()
            if self.signum is not None and not isinstance(start, GuardedStart):
                return Ended(128 + self.signum, why_not=f"ended by {signal.Signals(self.signum).name} while it waited")
            if not isinstance(start, GuardedStart):
                return Ended(0, why_not=str(start), is_busy=isinstance(start, Busy))
            self.parts.clock.observe(start.now_s, start.sent_boot_s)
            self._settle_vanished(start)
            settlement = self._carry_out(start)
            self._tell()
            return Ended(self._exit_code(settlement), settlement, start.run.run_id)

    # Before the work

    def _begin(self) -> GuardedStart | Busy | Elsewhere:
        """Begin, waiting for the lock as long as that was asked for. Raises RedisError."""
        until = boot_s() + self.order.wait_s
        away_until, backoff, is_said = max(until, boot_s() + _AWAY_S), Backoff(0.1, 1.0), False
        while True:
            try:
                found = self.parts.guards.begin(self.guarded)
                left_s = until - boot_s()
                if not isinstance(found, Busy) or left_s <= 0 or self.signum is not None:
                    return found
                expires_s = _LOOK_S if found.left_s is None else found.left_s
                self.parts.guards.wait_for_release(self.order.locks, max(0.01, min(left_s, _LOOK_S, expires_s)))
                backoff = Backoff(0.1, 1.0)
            except (RedisError, OSError) as error:
                if boot_s() >= away_until or self.signum is not None or not may_pass(error):
                    raise
                if not is_said:
                    log.warning("AWAY %s: %s; trying again", self.order.name, error)
                is_said = True
                rest(backoff.next_s(), self.giving_up)

    def _settle_vanished(self, start: GuardedStart) -> None:
        """Give earlier runs of this name an outcome whose process is gone: there may be no beat that would."""
        if not start.vanished:
            return
        runs, silent_s = self.parts.runs, self.parts.timing.vanished_s
        try:
            for run in runs.rows(start.vanished):
                reason = f"cronq exec (pid {run.pid} on {run.host}) was not heard of for {format_duration(silent_s)}"
                lost = Ending(
                    Settlement("lost", reason), f"worker {self.guarded.worker}", start.now_s, attempt=run.attempt,
                    unseen_since=start.now_s - silent_s,
                )  # fmt: skip
                if runs.settle(run, lost):
                    log.warning("FINISH %s lost %s", run.run_id, reason)
        except (RedisError, OSError) as error:  # the next one, or a beat, does it
            log.warning("UNSETTLED %s: %s", ", ".join(start.vanished), error)

    # The work

    def _carry_out(self, start: GuardedStart) -> Settlement:
        job = StoredJob(self.order.spec, "", "cronq exec", "exec", JobState(None, None), None)
        begun = Begun(start.run, job, self.guarded.execution, start.fence, start.lock, start.sent_boot_s)
        parts = self.parts
        guardian = Guardian(
            parts.runs, parts.watchdog, parts.desk, self.settler, parts.clock.now_s, host=parts.host,
            pid=self.guarded.pid, timing=parts.timing, lock_ttl_s=parts.lock_ttl_s, min_hold_s=self.order.min_hold_s,
        )  # fmt: skip
        try:
            guardian.carry_on(begun, self.stop, worker=self.guarded.worker, group=self.order.group)
        finally:
            parts.watchdog.close()
            self._has_ended = True
        return self.settler.unsettled[-1].ending.settlement

    # After it

    def _tell(self) -> None:
        """Tell how it ended, again while Redis does not answer: for a while, or until a signal comes."""
        until, backoff = boot_s() + self.parts.timing.lost_after_s, Backoff(0.1, 1.0)
        while True:
            try:
                receipt = self.parts.desk.settle_and_take(self.settler.ends(), None, ())
                self.settler.hear(receipt.ends)
            except (RedisError, OSError) as error:
                self.settler.hear_nothing(error)
            if not self.settler.unsettled:
                return
            if boot_s() >= until or rest(backoff.next_s(), self.giving_up):
                self.settler.abandon()
                return

    def _exit_code(self, settlement: Settlement) -> int:
        """What the command exited with by itself, else why it was ended."""
        if settlement.outcome == "lost":
            return LOST
        if settlement.outcome == "timed_out":
            return TIMED_OUT
        if settlement.outcome == "stopped" and (settlement.exit_code is None or settlement.signal is not None):
            return 128 + (self.signum or signal.SIGTERM)
        return 1 if settlement.exit_code is None else settlement.exit_code

    # Signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        handled: dict[int, Any] = {}
        try:
            for signum in _ENDING:
                if signal.getsignal(signum) != signal.SIG_IGN:  # nohup
                    handled[signum] = signal.signal(signum, self._end)
            for signum in _PASSING:
                handled[signum] = signal.signal(signum, self._pass_on)
            yield
        finally:
            for number, handler in handled.items():
                signal.signal(number, handler)

    def _end(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            self.stop.signum = signum
            reason = f"cronq exec (pid {self.guarded.pid}) was told to end by {signal.Signals(signum).name}"
            self.stop.ask("stopped", reason, "")
        else:
            self.stop.pass_on(signum)
        if self._has_ended:
            self.giving_up.set()

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        self.stop.pass_on(signum)
