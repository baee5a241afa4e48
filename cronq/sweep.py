"""Finds what vanished between two steps: runs whose guardian fell silent, ids popped and never started, runs that
wait for a lock which is free; and tidies RQ's registries. Any beat does it; the scripts let one win."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from rq import Queue
from rq.worker_registration import clean_worker_registry

from cronq import keys as rq_keys
from cronq import scripts
from cronq.clock import boot_s, format_duration
from cronq.foreign_watch import ForeignWatch
from cronq.keys import RQ_QUEUES, Keys
from cronq.replies import text
from cronq.run import Run
from cronq.run_store import RunStore, Settlement

log = logging.getLogger("cronq.sweep")
_MOST = 100
_TIDY_S = 60.0


class Sweep:
    """One pass looks at up to a hundred of each kind."""

    def __init__(self, client: Redis, keys: Keys, runs: RunStore, *, by: str, lost_after_s: float) -> None:
        self.client = client
        self.keys = keys
        self.runs = runs
        self.by = by
        self.lost_after_s = lost_after_s
        self._put_back = scripts.load(client, "put_back_run")
        self._steady_since: float | None = None
        self._last_pass = 0.0
        self._popped: dict[tuple[str, str], float] = {}
        self._tidied = -_TIDY_S
        self.foreign = ForeignWatch(client, keys, lost_after_s=lost_after_s)

    def once(self, now_s: float) -> None:
        """Settle and put back what is due; nothing before Redis has answered without a gap for `lost_after`.

        Without that wait an outage would make every healthy run look lost to the first beat that returns.
        """
        boot = boot_s()
        if self._steady_since is None or boot - self._last_pass > max(self.lost_after_s, 10):
            self._steady_since = boot
            self._popped.clear()
        self._last_pass = boot
        before = now_s - self.lost_after_s
        with self.client.pipeline(transaction=False) as pipe:
            pipe.smembers(self.keys.waiting_locks)
            pipe.smembers(RQ_QUEUES)
            pipe.zrangebyscore(self.keys.running, "-inf", before, start=0, num=_MOST)
            pipe.zrangebyscore(self.keys.foreign, "-inf", before, start=0, num=_MOST)
            *replies, silent = pipe.execute(raise_on_error=False)
        locks, queues, unseen = _sound(replies)
        self._wake_waiters(locks)
        self._look_at_popped(queues, boot)
        if boot - self._steady_since >= self.lost_after_s:
            self._settle_lost(unseen, before, now_s)
            if isinstance(silent, list):  # a list of strangers, of whatever type it is, keeps nobody waiting
                self.foreign.settle_silent(silent)
        if boot - self._tidied >= _TIDY_S:
            self._tidied = boot
            for queue in queues:
                self._tidy(text(queue).removeprefix(rq_keys.rq_queue("")), now_s)

    def outage(self) -> None:
        """Redis did not answer: what was unheard of meanwhile proves nothing."""
        self._steady_since = None

    def _settle_lost(self, unseen: Iterable[bytes], before: float, now_s: float) -> None:
        for run_id in map(text, unseen):
            run = self._find(run_id)
            if run is None or run.state != "running":
                self.runs.forget_running(run_id)
                continue
            where = f"worker {run.worker} (pid {run.pid} on {run.host})"
            reason = f"{where} was not heard of for {format_duration(self.lost_after_s)}"
            if self.runs.settle(
                run,
                Settlement("lost", reason),
                by=self.by,
                now_s=now_s,
                attempt=run.attempt,
                unseen_since=before,
            ):
                log.error("FINISH %s lost %s", run_id, reason)

    def _find(self, run_id: str) -> Run | None:
        try:
            return self.runs.find(run_id)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            log.error("DAMAGED the row of %s is not a hash; what became of it is not known", run_id)
            return None

    def _look_at_popped(self, queue_keys: Iterable[bytes], boot: float) -> None:
        """An id that stays in RQ's intermediate list was popped by a worker that died before it began."""
        queues = [text(key) for key in queue_keys]
        if not queues:
            return
        with self.client.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.lrange(f"{queue}:intermediate", 0, _MOST - 1)
            lists = pipe.execute(raise_on_error=False)
        seen: dict[tuple[str, str], float] = {}
        for queue, ids in zip(queues, lists, strict=True):
            for run_id in ids if isinstance(ids, list) else []:
                place = (queue, text(run_id))
                seen[place] = self._popped.get(place, boot)
                # Sooner than `lost_after`, for it was popped up to a pass before it was seen. Should its worker only
                # have been slow, one of the two starts is refused.
                if boot - seen[place] >= 0.8 * self.lost_after_s and self._return(queue, text(run_id)):
                    del seen[place]
        self._popped = seen

    def _return(self, queue: str, run_id: str) -> bool:
        keys = [f"{queue}:intermediate", queue, self.keys.run(run_id), rq_keys.rq_job(run_id)]
        done = bool(self._put_back(keys=keys, args=[run_id]))
        if done:
            log.warning("PUT BACK %s: popped by a worker that vanished before it began", run_id)
        return done

    def _wake_waiters(self, locks: Iterable[bytes]) -> None:
        """Give the next waiting run its turn where a lock is free: whoever held it may not have been a run."""
        for lock in map(text, locks):
            if not self.client.exists(self.keys.lock(lock)):
                self.runs.put_back(lock)

    def _tidy(self, queue: str, now_s: float) -> None:
        """Forget expired entries of RQ's registries, and workers that died without a word: our workers do not."""
        self.client.zremrangebyscore(rq_keys.rq_finished(queue), 0, now_s)
        self.client.zremrangebyscore(rq_keys.rq_failed(queue), 0, now_s)
        # RQ keeps what was cancelled, with the time of that as the score: only what has no body any more may go.
        canceled = rq_keys.rq_canceled(queue)
        past = [text(run_id) for run_id in self.client.zrangebyscore(canceled, 0, now_s, start=0, num=1000)]
        with self.client.pipeline(transaction=False) as pipe:
            for run_id in past:
                pipe.exists(rq_keys.rq_job(run_id))
            there = pipe.execute()
        gone = [run_id for run_id, is_there in zip(past, there, strict=True) if not is_there]
        if gone:
            self.client.zrem(canceled, *gone)
        clean_worker_registry(Queue(queue, connection=self.client))


def _sound(replies: list[Any]) -> list[Any]:
    """The replies to a pipeline, unless one is an error: then that is raised."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
