"""Finds what vanished between two steps: runs whose guardian fell silent, ids popped and never started, runs that
wait for a lock which is free, runs whose stock RQ worker has ended them; and tidies RQ's registries. Any beat does it;
the scripts let one win."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from rq import Queue
from rq.worker_registration import clean_worker_registry

from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.faults import is_wrong_type
from cronq.db.keys import RQ_QUEUES, Keys, queue_name, rq_canceled, rq_failed, rq_finished, rq_intermediate, rq_job
from cronq.hosts.heartbeats import Heartbeats
from cronq.interop.in_progress import InProgress
from cronq.runs.attempt import Ending, Settlement
from cronq.runs.lost import RERUN, settle_or_rerun
from cronq.runs.run import Run
from cronq.runs.store import RunStore
from cronq.runs.timing import Timing
from cronq.timetext import format_duration

log = logging.getLogger("cronq.beat")
_MOST = 100
#: Popped ids are short, and each counts from the first time it was seen.
_MOST_POPPED = 2000
#: Longest that one pass settles vanished runs.
_BUSY_S = 0.3
_TIDY_S = 60.0
#: Most that one pass looks through of what may be long: the rest has its turn in the next.
_LOCKS_A_STEP, _MOST_LOCK_STEPS = 1000, 5
_TIDIED_A_STEP, _MOST_TIDY_STEPS = 1000, 20
#: The server's clock may run so much faster or slower than ours between two passes; more is a jump.
_JUMP_S = 1.0
#: An RQ job that is not ours is put back so often: the next time it is taken for what ends its workers.
_MOST_UNPOPS = 3
#: Runs of stock RQ workers count as heard of until their time-out is over: they are that far in the future.
_STOCK_S = 30.0
#: What RQ says of a job that its own worker has ended without the ledger knowing, and the outcome that is.
_ENDED_BY_RQ = {"stopped": "stopped", "canceled": "stopped", "failed": "failed", "finished": "lost"}


class Sweep:
    """One pass settles what vanished for up to `_BUSY_S`; what is left is the next pass's, at once."""

    def __init__(self, client: Redis, keys: Keys, runs: RunStore, *, by: str, timing: Timing) -> None:
        self.client = client
        self.keys = keys
        self.runs = runs
        self.by = by
        self.timing = timing
        self.heartbeats = Heartbeats(client, keys)
        self._unpop: Any = scripts.load(client, "queue/unpop")
        self._free_locks: Any = scripts.load(client, "locks/find_free")
        self._steady_since: float | None = None
        self._last_answer: float | None = None
        self._ahead_s: float | None = None
        self._popped: dict[tuple[str, bytes], float] = {}
        self.queues: list[str] = []  #: keys of RQ's queues, as of the last pass
        self._tidied: float | None = None  #: when, on the boot clock
        self._cursors: dict[str, int] = {}  #: how far the entries of a queue's cancelled jobs were looked through
        self._lock_cursor = "0"
        self._stock_at = 0  #: how far the runs of stock workers were looked through
        self._said: set[str] = set()
        self.foreign = InProgress(client, keys, lost_after_s=timing.lost_after_s)

    def once(self, now_s: float | None = None) -> bool:
        """Settle and put back what is due at *now_s*, by default the server's time; nothing before Redis has answered
        without a gap for `lost_after`. True when more is due than fits into a pass.

        Without that wait an outage, or a jump of the server's clock, would make every healthy run look lost to the
        first beat that sees it.
        """
        if now_s is None:
            now_s = self._server_now_s()
        before = now_s - self.timing.lost_after_s
        with self.client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.smembers(RQ_QUEUES)
            pipe.zrangebyscore(self.keys.running, "-inf", before, start=0, num=_MOST)
            pipe.zrangebyscore(self.keys.running, now_s + _STOCK_S, "+inf", start=self._stock_at, num=_MOST)
            pipe.zrangebyscore(self.keys.foreign, "-inf", before, start=0, num=_MOST)
            pipe.srandmember(self.keys.waiting_locks, 1)
            self._read_popped(pipe, self.queues)
            clock, *lists = pipe.execute(raise_on_error=False)
        if isinstance(clock, Exception):
            raise clock
        seconds, micros = clock
        queues, unseen, stock, silent, locks = map(self._entries, lists[:5])
        boot = boot_s()
        self._note_answer(boot, seconds + micros / 1e6)
        has_more = bool(locks) and self._wake_waiters()
        self._look_at_popped(dict(zip(self.queues, lists[5:], strict=True)), [*map(text, queues)], boot, now_s)
        if self._steady_since is not None and boot - self._steady_since >= self.timing.lost_after_s:
            is_done = self._settle_all_lost(unseen, before, now_s)
            self.foreign.settle_silent(silent)
            has_more = has_more or not is_done or len(silent) == _MOST
        self._look_at_stock(stock, now_s)
        self._stock_at = self._stock_at + _MOST if len(stock) == _MOST else 0
        if self._tidied is None or boot - self._tidied >= _TIDY_S:
            self._tidied = boot
            self._tidy_all([queue_name(text(queue)) for queue in queues], now_s)
        return has_more

    def _server_now_s(self) -> float:
        """The time of the server itself, as the scripts have it: a clock in doubt is nothing to judge by."""
        if self._ahead_s is not None:
            return self._ahead_s + boot_s()
        seconds, micros = self.client.time()
        return seconds + micros / 1e6

    def outage(self) -> None:
        """Redis did not answer: what was unheard of meanwhile proves nothing."""
        self._steady_since = None

    def _note_answer(self, boot: float, server_s: float) -> None:
        """Whether Redis has been there all the time, for the guardians too, and its clock has run like ours."""
        ahead_s = server_s - boot
        is_gap = self._last_answer is None or boot - self._last_answer > self.timing.silence_s
        is_jump = self._ahead_s is not None and abs(ahead_s - self._ahead_s) > _JUMP_S
        if self._steady_since is None or is_gap or is_jump:
            self._steady_since = boot
            self._popped.clear()
        self._last_answer, self._ahead_s = boot, ahead_s

    def _entries(self, reply: Any) -> Any:
        """What a list holds; one of a wrong type holds nothing, so that it keeps none of the others waiting."""
        with self._passing_over_damage():
            if isinstance(reply, Exception):
                raise reply
            return reply
        return []

    @contextmanager
    def _passing_over_damage(self) -> Iterator[None]:
        """Say once what a key of a wrong type has kept from being done, and go on."""
        try:
            yield
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            if str(error) not in self._said:
                self._said.add(str(error))
                log.error("DAMAGED a key that the sweep reads: %s", error)

    def _settle_all_lost(self, run_ids: Sequence[bytes], before: float, now_s: float) -> bool:
        """Settle what was last heard of before *before*, a hundred after the other; False when time ran out.

        A whole rack of workers may have gone at once. Ticks wait meanwhile, so a pass has its limit. Each hundred comes
        from another place: beats that do it together share the work, and do not do the same twice.
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
        """One damaged run must not keep the others from being settled."""
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
        """A stock RQ worker whose work-horse died, or was told to stop, tells RQ and not the ledger."""
        ids = [text(run_id) for run_id in run_ids]
        if not ids:
            return
        with self.client.pipeline(transaction=False) as pipe:
            for run_id in ids:
                pipe.hget(rq_job(run_id), "status")
            found: list[Any] = pipe.execute(raise_on_error=False)
        for run_id, raw in zip(ids, found, strict=True):
            outcome = _ENDED_BY_RQ.get(text(raw))
            if outcome is None:
                continue
            run = self.runs.find(run_id)
            if run is None or run.state != "running":
                self.runs.forget_running(run_id)
                continue
            who = self.client.get(self.keys.stop(run_id)) if outcome == "stopped" else None
            reason = f"RQ says it is {text(raw)}; its process under {run.worker} ended without a word"
            by = self.by
            if who is not None:
                by, reason = text(who), f"{text(who)} asked for it"
            ended = Ending(Settlement(outcome, reason), by, now_s, attempt=run.attempt, stock=True)
            if self.runs.settle(run, ended):
                log.error("FINISH %s %s %s", run_id, outcome, reason)

    def _read_popped(self, pipe: Any, queues: Iterable[str]) -> None:
        for queue in queues:
            pipe.lrange(rq_intermediate(queue_name(queue)), 0, _MOST_POPPED - 1)

    def _look_at_popped(self, popped: dict[str, Any], queues: list[str], boot: float, now_s: float) -> None:
        """An id that stays in RQ's intermediate list was popped by a worker that died before it began.

        *popped* are those of the queues that were known before; of a new one they are read now.
        """
        new = [queue for queue in queues if queue not in popped]
        if new:
            with self.client.pipeline(transaction=False) as pipe:
                self._read_popped(pipe, new)
                popped |= dict(zip(new, pipe.execute(raise_on_error=False), strict=True))
        self.queues = queues
        seen: dict[tuple[str, bytes], float] = {}
        for queue, ids in popped.items():
            for raw_id in ids if isinstance(ids, list) else []:
                place = (queue, raw_id)
                seen[place] = self._popped.get(place, boot)
                # Sooner than `lost_after`, for it was popped up to a pass before it was seen. Should its worker only
                # have been slow, one of the two starts is refused.
                if boot - seen[place] >= self.timing.missed_s and self._return(queue, raw_id, now_s):
                    del seen[place]
        self._popped = seen

    def _return(self, queue: str, raw_id: bytes, now_s: float) -> bool:
        run_id, name = text(raw_id), queue_name(queue)
        keys = [rq_intermediate(name), queue, self.keys.run(run_id), rq_job(run_id)]
        code = text(self._unpop(keys=keys, args=[raw_id, name, _MOST_UNPOPS, self.keys.prefix]))
        if code == "back":
            log.warning("PUT BACK %s: popped by a worker that vanished before it began", run_id)
        elif code == "empty":
            reason = f"{run_id} was queued in {name!r}, and there is neither a run nor an RQ job of that id"
            self.runs.reject(raw_id, name, reason, by=self.by, now_s=now_s)
            log.error("REFUSED %s", reason)
        elif code == "often":
            reason = f"{run_id} was popped {_MOST_UNPOPS + 1} times by workers that vanished before it began"
            self.runs.reject(raw_id, name, reason, by=self.by, now_s=now_s)
            log.error("REFUSED %s; look at it before you requeue it", reason)
        return code != "left"

    def _wake_waiters(self) -> bool:
        """Give the next waiting run its turn where a lock is free: whoever held it may not have been a run. Whether
        there was no time for all of them.

        Part of the locks in each pass, going on where the last one stopped, in one round trip for a thousand.
        """
        until = boot_s() + _BUSY_S
        with self._passing_over_damage():
            for _ in range(_MOST_LOCK_STEPS):
                args = [self.keys.lock(""), self._lock_cursor, _LOCKS_A_STEP]
                following, free = self._free_locks(keys=[self.keys.waiting_locks], args=args)
                for lock in map(text, free):
                    with self._passing_over_damage():
                        self.runs.wake_waiter(lock)
                    if boot_s() >= until:
                        return True  # what is left of this step is found again in the next pass
                self._lock_cursor = text(following)
                if self._lock_cursor == "0":
                    return False
        return False

    def _tidy_all(self, queues: Iterable[str], now_s: float) -> None:
        for queue in queues:
            with self._passing_over_damage():
                self._tidy(queue, now_s)
        for kind in ("beats", "workers"):
            with self._passing_over_damage():
                self.heartbeats.forget_vanished(kind, now_s)

    def _tidy(self, queue: str, now_s: float) -> None:
        """Forget expired entries of RQ's registries, and workers that died without a word: our workers do not."""
        self.client.zremrangebyscore(rq_finished(queue), 0, now_s)
        self.client.zremrangebyscore(rq_failed(queue), 0, now_s)
        self._tidy_canceled(queue, now_s)
        clean_worker_registry(Queue(queue, connection=self.client))

    def _tidy_canceled(self, queue: str, now_s: float) -> None:
        """Drop entries of cancelled jobs whose body is gone.

        The score tells nothing: RQ keeps what its tools cancelled for ever, under the time of that. So the set is
        walked, a part in each pass, going on where the last one stopped: what stays does not hide what may go.
        """
        canceled, cursor = rq_canceled(queue), self._cursors.get(queue, 0)
        entries: Any
        for _ in range(_MOST_TIDY_STEPS):
            cursor, entries = self.client.zscan(canceled, cursor, count=_TIDIED_A_STEP)
            past = [run_id for run_id, score in entries if float(score) <= now_s]
            with self.client.pipeline(transaction=False) as pipe:
                for run_id in past:
                    pipe.exists(rq_job(text(run_id)))
                there = pipe.execute()
            gone = [run_id for run_id, is_there in zip(past, there, strict=True) if not is_there]
            if gone:
                self.client.zrem(canceled, *gone)
            if not cursor:
                break
        self._cursors[queue] = cursor
