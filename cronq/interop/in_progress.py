"""RQ jobs that are not cronq's and that workers of ours do just now. Those whose worker vanished are settled.

What such an RQ job is: see `rq_jobs`. RQ's own workers would look for lost ones too, but within minutes; that is off in
our workers. The key `foreign` belongs to this module: it lists them by their last heartbeat.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from redis import Redis
from redis.exceptions import WatchError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus

from cronq.db.decode import text
from cronq.db.faults import is_outage
from cronq.db.keys import Keys, rq_execution, rq_executions, rq_started
from cronq.interop.sealed import SealedJob, sealed_queue
from cronq.timetext import format_duration

log = logging.getLogger("cronq.beat")


class InProgress:
    """The list of RQ jobs in progress: workers say what they do, beats settle what fell silent."""

    def __init__(self, client: Redis, keys: Keys, *, lost_after_s: float) -> None:
        self.client = client
        self.keys = keys
        self.lost_after_s = lost_after_s

    # For workers

    def begins(self, job: Job, execution: str, now_s: float, pipe: Any) -> None:
        """Add to *pipe* that a worker begins *job* at *now_s*, server time."""
        pipe.zadd(self.keys.foreign, {_entry(job, execution): now_s})

    def alive(self, job: Job, execution: str, now_s: float) -> None:
        """Say that the worker still does *job*. Writes nothing when a beat has settled it: another may do it now."""
        self.client.zadd(self.keys.foreign, {_entry(job, execution): now_s}, xx=True)

    def over(self, job: Job, execution: str) -> None:
        """Say that the end of *job* is recorded."""
        self.client.zrem(self.keys.foreign, _entry(job, execution))

    # For beats

    def settle_silent(self, silent: Iterable[bytes]) -> None:
        """Settle the entries *silent*, of which nothing was heard for `lost_after`: a beat's sweep found them."""
        for entry in map(text, silent):
            try:
                self._settle(entry)
            except WatchError:
                continue  # another beat was faster, or its worker is back
            except Exception as error:  # whatever stands in that hash
                if is_outage(error):
                    raise
                log.error("DAMAGED %s: %s", entry, error)
                self.client.zrem(self.keys.foreign, entry)

    def _settle(self, entry: str) -> None:
        execution, job_id, queue_name = entry.split(":", 2)
        queue = sealed_queue(queue_name, self.client)
        reason = f"its worker was not heard of for {format_duration(self.lost_after_s)}"
        watching: Any = self.client.pipeline()
        with watching as pipe:
            try:
                job: Any = SealedJob(job_id, connection=self.client)
                pipe.watch(job.key)
                job.refresh()
            except NoSuchJobError:
                self.client.zrem(self.keys.foreign, entry)
                return
            is_open = job.get_status(refresh=False) == JobStatus.STARTED
            may_retry = is_open and job.should_retry
            pipe.multi()
            if may_retry:
                job.retry(queue, pipe)
            elif is_open:
                job.set_status(JobStatus.FAILED, pipeline=pipe)
                job._handle_failure(reason, pipe, worker_name=job.worker_name or "")
            pipe.zrem(rq_started(queue_name), f"{job_id}:{execution}")
            pipe.delete(rq_execution(job_id, execution))
            pipe.zrem(rq_executions(job_id), execution)
            pipe.zrem(self.keys.foreign, entry)
            pipe.execute()
        if is_open:
            log.error("FINISH %s %s %s", job_id, "retrying" if may_retry else "lost", reason)
            if not may_retry:
                queue.enqueue_dependents(job)


def _entry(job: Job, execution: str) -> str:
    return f"{execution}:{job.id}:{job.origin}"
