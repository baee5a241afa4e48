"""What an id turns out to be that a worker took: a run that it can execute, an RQ job, or nothing that it may run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cronq.db.decode import text
from cronq.db.keys import rq_intermediate
from cronq.errors import CronqError, RunRefused, SpecTooNew, UnknownJob
from cronq.interop.requeued import Requeued
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob
from cronq.runs.run import REMOVED, Ending, Run, Settlement
from cronq.runs.store import RunStore
from cronq.worker.dequeue import Dequeue
from cronq.worker.run_rq_job import RQJobRuns

log = logging.getLogger("cronq.worker")


class TakenIds:
    """Deals with ids that stand in RQ's intermediate list for one worker, in its name *by*.

    RQ jobs that are not cronq's are run by *rq_jobs*. *now_s* returns server time.
    """

    def __init__(
        self, client: Redis, runs: RunStore, jobs: JobStore, requeued: Requeued, dequeue: Dequeue, rq_jobs: RQJobRuns,
        *, by: str, now_s: Callable[[], float],
    ) -> None:  # fmt: skip
        self.client = client
        self.runs = runs
        self.jobs = jobs
        self.requeued = requeued
        self.dequeue = dequeue
        self.rq_jobs = rq_jobs
        self.by = by
        self.now_s = now_s

    def open(self, queue: str, raw_id: Any) -> tuple[Run, StoredJob] | None:
        """The run of an id, and its job; None when it was none that can be executed: that has been dealt with."""
        run_id = text(raw_id)
        try:
            run, is_in_rq = self.runs.find_taken(run_id)
            if run is None:
                run = self._readmitted(queue, run_id)
        except ResponseError as error:
            self.refuse(queue, raw_id, f"the row of {run_id} in the ledger cannot be read: {error}")
            return None
        except RunRefused as refusal:
            self.refuse(queue, raw_id, str(refusal))
            return None
        if run is None:
            self.rq_jobs.serve(queue, raw_id)
        elif not is_in_rq:
            self._drop_deleted(queue, run)
        elif (job := self._job_of(queue, raw_id, run)) is not None:
            return replace(run, queue=queue), job
        return None

    def refuse(self, queue: str, raw_id: Any, reason: str, *, is_stray: bool = False) -> None:
        """Reject an id that this worker may not execute.

        A queued RQ job goes to RQ's failed registry with the reason, where people look and may requeue it. *is_stray*:
        the id is of a run whose outcome is known, and needs no note.
        """
        log.error("REFUSED %s", reason)
        self.runs.reject(raw_id, queue, reason, by=self.by, now_s=self.now_s(), is_stray=is_stray)

    def _readmitted(self, queue: str, run_id: str) -> Run | None:
        """The run that was requeued after its row had expired, None for an id that is not cronq's.

        Raises RunRefused when its job was removed.
        """
        is_ours = self.requeued.readmit(run_id, queue, by=self.by, now_s=self.now_s())
        return self.runs.find(run_id) if is_ours else None

    def _job_of(self, queue: str, raw_id: Any, run: Run) -> StoredJob | None:
        """The job of a run; None for one that this worker cannot execute: it is dropped, or left to a newer worker."""
        try:
            return self.jobs.get(run.job)
        except UnknownJob:
            self._drop(queue, run, "its job was removed")
        except SpecTooNew as error:
            log.warning("LEFT %s to a newer worker: %s", run.run_id, error)
            self.dequeue.leave_to_newer(queue, raw_id, run.job)
        except CronqError as error:
            self._drop(queue, run, str(error), outcome="failed")
        return None

    def _drop_deleted(self, queue: str, run: Run) -> None:
        """Drop a run whose RQ job somebody deleted."""
        if run.state == "done":  # one of many that were stopped at once: none of them is looked for in its queue
            self.client.lrem(rq_intermediate(queue), 0, run.run_id)
            log.info("DROPPED %s: it was %s while it waited", run.run_id, run.outcome)
        else:
            self._drop(queue, run, REMOVED.reason)

    def _drop(self, queue: str, run: Run, reason: str, outcome: str = "stopped") -> None:
        """Settle a queued or waiting run that cannot be executed; reject the stray id of any other run."""
        if run.state not in ("queued", "waiting"):
            self.refuse(queue, run.run_id, f"{run.run_id} cannot run again: {reason}", is_stray=True)
            return
        dropped = Settlement(outcome, reason)
        is_settled = self.runs.settle(run, Ending(dropped, self.by, self.now_s(), expect=run.state))
        self.client.lrem(rq_intermediate(queue), 0, run.run_id)
        if is_settled:
            log.warning("FINISH %s %s %s", run.run_id, outcome, reason)
        else:
            log.warning("DROPPED %s: somebody else has settled it, or taken it", run.run_id)
