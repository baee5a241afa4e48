"""Removes what nobody needs any more: expired entries of RQ's registries, and processes that vanished long ago.

RQ's own workers do this for RQ; ours do not. Nothing here decides what becomes of a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis import Redis
from rq import Queue
from rq.worker_registration import clean_worker_registry

from cronq.beat.damage import Damage
from cronq.db.decode import text
from cronq.db.keys import queue_name, rq_canceled, rq_failed, rq_finished, rq_job
from cronq.hosts.heartbeats import Heartbeats

TIDY_EVERY_S = 60.0
#: Most cancelled jobs of a queue that one pass looks through: the rest has its turn in the next.
_JOBS_A_STEP, _MOST_STEPS = 1000, 20


class Tidy:
    """A chore of the beat. Several beats may tidy at once."""

    def __init__(self, client: Redis, heartbeats: Heartbeats) -> None:
        self.client = client
        self.heartbeats = heartbeats
        self._cursors: dict[str, int] = {}  #: how far the cancelled jobs of a queue were looked through
        self._damage = Damage("tidying")

    def once(self, queues: Iterable[str], now_s: float) -> None:
        """Tidy the registries of *queues* (keys), and the lists of beats and workers; *now_s* is server time."""
        for queue in queues:
            with self._damage.passed_over():
                self._tidy(queue_name(queue), now_s)
        for kind in ("beats", "workers"):
            with self._damage.passed_over():
                self.heartbeats.forget_vanished(kind, now_s)

    def _tidy(self, queue: str, now_s: float) -> None:
        self.client.zremrangebyscore(rq_finished(queue), 0, now_s)
        self.client.zremrangebyscore(rq_failed(queue), 0, now_s)
        self._tidy_canceled(queue, now_s)
        clean_worker_registry(Queue(queue, connection=self.client))

    def _tidy_canceled(self, queue: str, now_s: float) -> None:
        """Drop entries of cancelled jobs whose RQ job is gone.

        RQ keeps an entry for ever, and its score is only the time of the cancelling. So the set is walked, a part in
        each pass, going on where the last one stopped: entries that stay do not hide those that may go.
        """
        canceled, cursor = rq_canceled(queue), self._cursors.get(queue, 0)
        entries: Any
        for _ in range(_MOST_STEPS):
            cursor, entries = self.client.zscan(canceled, cursor, count=_JOBS_A_STEP)
            past = [job_id for job_id, score in entries if float(score) <= now_s]
            with self.client.pipeline(transaction=False) as pipe:
                for job_id in past:
                    pipe.exists(rq_job(text(job_id)))
                there = pipe.execute()
            gone = [job_id for job_id, is_there in zip(past, there, strict=True) if not is_there]
            if gone:
                self.client.zrem(canceled, *gone)
            if not cursor:
                break
        self._cursors[queue] = cursor
