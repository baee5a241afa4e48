"""Settles runs that nobody does any more, and wakes runs that wait for a lock which is free, or for a run that is gone.

Found are: runs whose guardian fell silent, runs that their stock RQ worker has ended, ids popped and never begun, and
RQ jobs that are not cronq's whose worker vanished. Any beat sweeps; the scripts let one win.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from cronq.beat.damage import Damage
from cronq.beat.popped import Popped
from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.decode import text, time_s
from cronq.db.faults import is_wrong_type
from cronq.db.keys import RQ_QUEUES, Keys, rq_job
from cronq.interop.in_progress import InProgress
from cronq.runs.gates import Gates
from cronq.runs.lost import RERUN, settle_or_rerun
from cronq.runs.overlap import read_wish
from cronq.runs.run import Ending, Run, Settlement
from cronq.runs.store import RunStore
from cronq.runs.timing import Timing
from cronq.timetext import format_duration

log = logging.getLogger("cronq.beat")
#: Entries of one kind that are read in one pass.
_MOST = 100
#: Longest that one pass settles vanished runs, and that it wakes waiting ones.
_BUSY_S = 0.3
#: Locks that one pass asks for, in so many round trips: the others have their turn in the next.
_LOCKS_A_STEP, _MOST_LOCK_STEPS = 1000, 5
#: Jobs of which runs wait behind others that one step looks at.
_JOBS_A_STEP = 50
#: The server's clock may run so much faster or slower than ours between two passes; more is a jump.
_JUMP_S = 1.0
#: Runs of stock RQ workers count as heard of until their time-out is over: they are that far in the future.
_STOCK_S = 30.0
#: What RQ says of a job that its own worker has ended without the ledger knowing, and the outcome that is.
_ENDED_BY_RQ = {"stopped": "stopped", "canceled": "stopped", "failed": "failed", "finished": "lost"}


class _Found(NamedTuple):
    """What one look at Redis tells. A list of a wrong type is empty, so that it keeps none of the others waiting."""

    server_s: float  #: the server's time
    queues: list[str]  #: keys of RQ's queues
    unheard: list[bytes]  #: runs that were not heard of for `lost_after`
    stock: list[bytes]  #: runs that stock RQ workers do
    silent: list[bytes]  #: RQ jobs that are not cronq's and were not heard of for `lost_after`
    has_waiters: bool  #: runs wait for some lock
    has_turns: bool  #: runs wait behind others of their job
    has_gates: bool  #: runs wait for parents of their job
    has_untriggered: bool  #: jobs that run after others could not be started
    popped: Mapping[str, Any]  #: ids in RQ's intermediate lists, of the queues that were known before


class Sweep:
    """A chore of the beat. What does not fit into a pass is done in the next, at once."""

    def __init__(self, client: Redis, keys: Keys, runs: RunStore, *, by: str, timing: Timing) -> None:
        self.client = client
        self.keys = keys
        self.runs = runs
        self.by = by
        self.timing = timing
        self.queues: list[str] = []  #: keys of RQ's queues, as of the last pass
        # Sooner than `lost_after`: an id was popped up to a pass before it was seen.
        self.popped = Popped(client, keys, runs, by=by, missed_s=timing.missed_s)
        self.in_progress = InProgress(client, keys, lost_after_s=timing.lost_after_s)
        self._free_locks: Any = scripts.load(client, "locks/find_free")
        self._steady_since: float | None = None  #: Redis has answered without a gap since then (boot clock)
        self._last_answer: float | None = None  #: boot clock
        self._ahead_s: float | None = None  #: the server's time less our boot clock, at the last answer
        self._gates = Gates(client, keys, by=by, row_ttl_s=runs.row_ttl_s, keep_events=runs.keep_events)
        self._lock_cursor = self._turn_cursor = self._gate_cursor = self._trigger_cursor = "0"
        self._stock_at = 0  #: how far the runs of stock workers were looked through
        self._unstarted: set[str] = set()  #: jobs of which the log says that they cannot be started
        self._damage = Damage("sweep")

    def once(self, now_s: float | None = None) -> bool:
        """Settle and put back what is due at *now_s*, by default the server's time; True when there is more to do.

        Nothing is taken for lost before Redis has answered without a gap for `lost_after`: after an outage, or a jump
        of the server's clock, every healthy run would look lost to the first beat that sees it.
        """
        if now_s is None:
            now_s = self._server_now_s()
        before = now_s - self.timing.lost_after_s
        found = self._read(now_s, before)
        boot = boot_s()
        self._note_answer(boot, found.server_s)
        has_more = found.has_waiters and self._wake_waiters()
        has_more = (found.has_turns and self._take_turns(now_s)) or has_more
        has_more = (found.has_gates and self._open_gates(now_s)) or has_more
        if not found.has_untriggered:
            self._unstarted.clear()
        has_more = (found.has_untriggered and self._trigger(now_s)) or has_more
        self.queues = found.queues
        self.popped.look(found.popped, found.queues, boot, now_s)
        if self._steady_since is not None and boot - self._steady_since >= self.timing.lost_after_s:
            is_done = self._settle_all_lost(found.unheard, before, now_s)
            self.in_progress.settle_silent(found.silent)
            has_more = has_more or not is_done or len(found.silent) == _MOST
        self._look_at_stock(found.stock, now_s)
        self._stock_at = self._stock_at + _MOST if len(found.stock) == _MOST else 0
        return has_more

    def _read(self, now_s: float, before: float) -> _Found:
        """One round trip. Raises RedisError when Redis does not answer."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.smembers(RQ_QUEUES)
            pipe.zrangebyscore(self.keys.running, "-inf", before, start=0, num=_MOST)
            pipe.zrangebyscore(self.keys.running, now_s + _STOCK_S, "+inf", start=self._stock_at, num=_MOST)
            pipe.zrangebyscore(self.keys.foreign, "-inf", before, start=0, num=_MOST)
            pipe.srandmember(self.keys.waiting_locks, 1)
            pipe.srandmember(self.keys.jobs_behind, 1)
            pipe.srandmember(self.keys.gated_by, 1)
            pipe.srandmember(self.keys.untriggered, 1)
            self.popped.read(pipe, self.queues)
            clock, queues, unheard, stock, silent, locks, turns, gates, starts, *popped = pipe.execute(
                raise_on_error=False
            )
        if isinstance(clock, Exception):
            raise clock
        return _Found(
            server_s=time_s(clock),
            queues=[text(queue) for queue in self._entries(queues)],
            unheard=self._entries(unheard),
            stock=self._entries(stock),
            silent=self._entries(silent),
            has_waiters=bool(self._entries(locks)),
            has_turns=bool(self._entries(turns)),
            has_gates=bool(self._entries(gates)),
            has_untriggered=bool(self._entries(starts)),
            popped=dict(zip(self.queues, popped, strict=True)),
        )

    def _entries(self, reply: Any) -> Any:
        with self._damage.passed_over():
            if isinstance(reply, Exception):
                raise reply
            return reply
        return []

    def _server_now_s(self) -> float:
        """The time of the server itself, as the scripts have it: a clock in doubt is nothing to judge by."""
        if self._ahead_s is not None:
            return self._ahead_s + boot_s()
        return time_s(self.client.time())

    def outage(self) -> None:
        """Take nothing for lost that was not heard of until now: Redis did not answer."""
        self._steady_since = None

    def _note_answer(self, boot: float, server_s: float) -> None:
        """Note since when Redis has answered without a gap, and its clock has not jumped.

        In a gap no guardian could be heard of either, so whom nobody heard of may be alive.
        """
        ahead_s = server_s - boot
        is_gap = self._last_answer is None or boot - self._last_answer > self.timing.silence_s
        is_jump = self._ahead_s is not None and abs(ahead_s - self._ahead_s) > _JUMP_S
        if self._steady_since is None or is_gap or is_jump:
            self._steady_since = boot
            self.popped.forget()
        self._last_answer, self._ahead_s = boot, ahead_s

    def _settle_all_lost(self, run_ids: Sequence[bytes], before: float, now_s: float) -> bool:
        """Settle the runs that were last heard of before *before*, a hundred at a time; False when time ran out.

        A whole rack of workers may have gone at once, but ticks wait meanwhile: so the time is limited. After the first
        hundred each comes from a random place, so that beats that settle at once seldom meet.
        """
        until = boot_s() + _BUSY_S
        more: Any
        while run_ids:
            ids = [text(run_id) for run_id in run_ids]
            known = {run.run_id: run for run in self.runs.rows(ids)}
            for run_id in ids:
                self._settle_one(run_id, known.get(run_id), before, now_s)
            if len(run_ids) < _MOST:
                break
            if boot_s() >= until:
                return False
            start = random.randrange(max(1, self.client.zcount(self.keys.running, "-inf", before) - _MOST + 1))
            more = self.client.zrangebyscore(self.keys.running, "-inf", before, start=start, num=_MOST)
            run_ids = more
        return True

    def _settle_one(self, run_id: str, run: Run | None, before: float, now_s: float) -> None:
        """Settle one run. A damaged one is logged and forgotten: it must not keep the others from being settled."""
        try:
            if run is None or run.state != "running":
                log.warning("FORGOTTEN %s: the ledger has no running run of that id", run_id)
                self.runs.forget_running(run_id)
            else:
                self._settle_lost(run, before, now_s)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            log.error("DAMAGED a key of %s is of a wrong type; what became of it is not known", run_id)
            self.runs.forget_running(run_id)

    def _settle_lost(self, run: Run, before: float, now_s: float) -> None:
        run_id = run.run_id
        where = f"worker {run.worker} (pid {run.pid} on {run.host})"
        reason = f"{where} was not heard of for {format_duration(self.timing.lost_after_s)}"
        lost = Ending(Settlement("lost", reason), self.by, now_s, attempt=run.attempt, unseen_since=before)
        outcome = settle_or_rerun(self.runs, run, lost, run.max_crashes)
        if outcome == RERUN:
            log.error("PUT BACK %s: %s", run_id, reason)
        elif outcome is not None:
            log.error("FINISH %s %s %s", run_id, outcome, reason)

    def _look_at_stock(self, run_ids: Iterable[bytes], now_s: float) -> None:
        """Settle runs that their stock RQ worker has ended: when its child died or was stopped, it tells only RQ.

        One that is to stop is told by RQ's own command: it knows no wish.
        """
        ids = [text(run_id) for run_id in run_ids]
        if not ids:
            return
        with self.client.pipeline(transaction=False) as pipe:
            for run_id in ids:
                pipe.hget(rq_job(run_id), "status")
                pipe.get(self.keys.stop(run_id))
            found: list[Any] = pipe.execute(raise_on_error=False)
        for run_id, raw, wish in zip(ids, found[::2], found[1::2], strict=True):
            outcome = _ENDED_BY_RQ.get(text(raw))
            is_to_stop = isinstance(wish, bytes | str)
            if outcome is None and not is_to_stop:
                continue
            run = self.runs.find(run_id)
            if run is None or run.state != "running":
                self.runs.forget_running(run_id)
                continue
            if outcome is None:
                if run.worker is not None:
                    self.runs.send_stop_job(run_id, run.worker)
                continue
            reason = f"RQ says it is {text(raw)}; its process under {run.worker} ended without a word"
            by = self.by
            if outcome == "stopped" and is_to_stop:
                by, reason = read_wish(text(wish))
            ended = Ending(Settlement(outcome, reason), by, now_s, attempt=run.attempt, stock=True)
            if self.runs.settle(run, ended):
                log.error("FINISH %s %s %s", run_id, outcome, reason)

    def _wake_waiters(self) -> bool:
        """Wake the next waiting run where a lock is free: its last holder may not have been a run, and woke nobody.

        Looks at some thousand locks, beginning where the last pass stopped. Returns True if there was no time for more.
        """
        until = boot_s() + _BUSY_S
        with self._damage.passed_over():
            for _ in range(_MOST_LOCK_STEPS):
                args = [self.keys.lock(""), self._lock_cursor, _LOCKS_A_STEP]
                following, free = self._free_locks(keys=[self.keys.waiting_locks], args=args)
                for lock in map(text, free):
                    with self._damage.passed_over():
                        self.runs.wake_waiter(lock)
                    if boot_s() >= until:
                        return True  # what is left of this step is found again in the next pass
                self._lock_cursor = text(following)
                if self._lock_cursor == "0":
                    return False
        return False

    def _take_turns(self, now_s: float) -> bool:
        """Queue what waits behind a run that is gone: mostly whoever ends a run does that in the same step.

        Begins where the last pass stopped. Returns True if there was no time for more.
        """
        until = boot_s() + _BUSY_S
        with self._damage.passed_over():
            while True:
                self._turn_cursor, woken = self.runs.take_turns(self._turn_cursor, _JOBS_A_STEP, now_s)
                for run_id in woken:
                    log.warning("WOKEN %s: no run of its job is before it any more", run_id)
                if self._turn_cursor == "0":
                    return False
                if boot_s() >= until:
                    return True
        return False

    def _open_gates(self, now_s: float) -> bool:
        """Let runs go whose parents have succeeded: mostly whoever settles a parent does that in the same step."""
        until = boot_s() + _BUSY_S
        with self._damage.passed_over():
            while True:
                self._gate_cursor, woken = self._gates.open(self._gate_cursor, _JOBS_A_STEP, now_s)
                for run_id in woken:
                    log.warning("WOKEN %s: its parents have succeeded", run_id)
                if self._gate_cursor == "0":
                    return False
                if boot_s() >= until:
                    return True
        return False

    def _trigger(self, now_s: float) -> bool:
        """Start jobs whose parents have all ended; mostly that is done by what ends the last of them."""
        until = boot_s() + _BUSY_S
        with self._damage.passed_over():
            while True:
                self._trigger_cursor, broken = self._gates.trigger(self._trigger_cursor, _JOBS_A_STEP, now_s)
                for name in set(broken) - self._unstarted:
                    log.error("BROKEN job=%s its parents have ended, and it cannot be started by what is stored", name)
                self._unstarted.update(broken)
                if self._trigger_cursor == "0":
                    return False
                if boot_s() >= until:
                    return True
        return False
