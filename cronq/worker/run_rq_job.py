"""RQ jobs that are not cronq's, in the worker's parent: watched in a child, recorded as a stock RQ worker records them.

The parent unpickles nothing and does nothing that a job names: it carries call, meta and result as the bytes they are.
What the child does is in `cronq.interop.perform`.
"""

from __future__ import annotations

import base64
import logging
import signal
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, Protocol

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.registry import StartedJobRegistry

from cronq.clock import boot_s
from cronq.db.decode import read_json, text
from cronq.db.faults import Backoff, is_general, is_wrong_type
from cronq.db.keys import UNPOPS, rq_intermediate
from cronq.errors import BadValue, CronqError, RunRefused
from cronq.interop.in_progress import InProgress
from cronq.interop.perform import MOST_ERROR, MOST_RESULT
from cronq.interop.pickles import is_within, read_function
from cronq.interop.sealed import Sealed, SealedJob, fetch_job, sealed_queue
from cronq.interop.webhooks import MOST_S, order_of
from cronq.process.watchdog import Child, ChildExit, WatchdogDied
from cronq.safetext import printable, storable
from cronq.timetext import utc
from cronq.worker.active_run import StopRequest, Termination

log = logging.getLogger("cronq.worker")

#: After RQ's own alarm in the child: TERM, and then KILL.
_TERM_AFTER_S, _KILL_AFTER_S = 5.0, 10.0
_LOOK_EVERY_S = 1.0
_HEARTBEAT_S = 10.0
_LONGEST_S = 10**9
_MOST_TROUBLES = 100_000
#: Outcomes of which RQ's webhooks may tell, and RQ's words for them.
_WEBHOOKS = {"succeeded": "finished", "failed": "failed"}


class ServingWorker(Protocol):
    """What the run of an RQ job asks of the worker that took it."""

    def refuse(self, queue: str, raw_id: Any, reason: str) -> None:
        """Reject the id, with the reason."""

    def begin_present(self) -> StopRequest:
        """A run begins: the stop request through which signals and RQ's commands can end it."""

    def end_present(self) -> None:
        """That run is over."""

    def look_around(self) -> None:
        """Do what is to be done each second while a run is at work, such as a heartbeat. Raises RedisError."""

    def spawn(
        self, order: Mapping[str, Any], deadline_boot_s: float | None = None, *, is_reusable: bool = False
    ) -> Child:
        """Start a watched child on *order*, which is dead by the deadline."""

    def rest_unless_giving_up(self, seconds: float) -> bool:
        """Wait; True at once when this worker was told a second time to leave."""


class RQRecords(Protocol):
    """What is used of RQ's own worker: its code that records in Redis how a job fares."""

    name: str
    pid: int | None
    connection: Redis
    execution: Execution | None
    log_job_description: bool
    _stopped_job_id: str | None

    def prepare_execution(self, job: Job) -> Any: ...
    def set_current_job_id(self, job_id: str | None = None, pipeline: Pipeline | None = None) -> Any: ...
    def set_current_job_working_time(
        self, current_job_working_time: float, pipeline: Pipeline | None = None
    ) -> Any: ...
    def maintain_heartbeats(self, job: Job) -> Any: ...
    def handle_job_success(self, job: Job, queue: Queue, started_job_registry: StartedJobRegistry) -> Any: ...
    def handle_job_retry(
        self, job: Job, queue: Queue, retry: Retry, started_job_registry: StartedJobRegistry, execution: Execution
    ) -> Any: ...
    def handle_job_failure(
        self, job: Job, queue: Queue, started_job_registry: Any = None, exc_string: str = ""
    ) -> Any: ...


class RQJobRuns:
    """Runs RQ jobs for *worker*, whose records at RQ are *records*; *allowed* are modules, or `*`."""

    def __init__(
        self, worker: ServingWorker, records: RQRecords, watch: InProgress, now_s: Callable[[], float],
        allowed: Collection[str], *, shares_a_child: bool = False,
    ) -> None:  # fmt: skip
        self.worker = worker
        self.records = records
        self.watch = watch
        self.now_s = now_s
        self.allowed = tuple(allowed)
        self.shares_a_child = shares_a_child  #: whether several run in one long-lived child, while it is clean

    def serve(self, queue_name: str, raw_id: Any) -> None:
        """Run the RQ job that was taken from its queue, or reject it with the reason."""
        try:
            job = self.fetch(text(raw_id))
        except RunRefused as refusal:
            self.worker.refuse(queue_name, raw_id, str(refusal))
            return
        try:
            self.execute(job, queue_name, self.worker.begin_present())
        finally:
            self.worker.end_present()

    def fetch(self, job_id: str) -> SealedJob:
        """The RQ job *job_id*, its pickles unopened. Raises RunRefused, whose text names the remedy."""
        if not self.allowed:
            raise RunRefused(
                f"{job_id} is not a run of cronq: this worker runs only registered jobs; start it with --allow MODULE, "
                "or let a stock `rq worker` serve its queue"
            )
        try:
            job = fetch_job(job_id, self.records.connection)
            function, is_method = read_function(job.stored_data)
        except Exception as error:  # whatever stands there
            if isinstance(error, RedisError) and not is_wrong_type(error):
                raise
            reason = str(error) or type(error).__name__
            raise RunRefused(f"{job_id[:100]} cannot be read as an RQ job: {reason}"[:500]) from None
        if not is_method and not is_within(function.rpartition(".")[0], self.allowed):
            raise RunRefused(
                f"{job_id} calls {function}, and this worker may run only {', '.join(self.allowed)}; "
                f"start it with --allow {function.rpartition('.')[0] or function}"
            )
        _check_spans(job)
        return job

    def execute(self, job: SealedJob, queue_name: str, stop: StopRequest) -> None:
        """Take one RQ job through its run and record how it ended, as a stock worker does."""
        job.origin = queue_name
        queue = sealed_queue(queue_name, self.records.connection)
        self._start(job, queue_name)
        execution = self._execution
        begun = boot_s()
        named = str(job.description).partition("(")[0]  # RQ's own text goes on with the arguments: secrets, maybe
        log.info(
            "START %s %s pid=%d", job.id, named if self.records.log_job_description else job.origin, self.records.pid
        )
        process: Child | None = None
        ended: ChildExit | None = None
        try:
            process = stop.child = self.worker.spawn(
                {"rq_job": job.id, "timeout": _timeout_s(job)}, is_reusable=self.shares_a_child
            )
            ended = self._watch(job, process, stop, begun)
            if ended.replaced is not None:
                log.log(logging.DEBUG, "REPLACED the child %d after %s: %s", process.pid, job.id, ended.replaced)
            left = _read(process.result)
        except Exception as error:  # also a mistake of ours: a child that nobody watches may not run on
            if process is not None:
                process.end()
            if not isinstance(error, WatchdogDied | CronqError | OSError):
                log.exception("the child of %s could not be watched", job.id)
            left = {"error": f"its child could not be watched: {error}"}
        left = _judged(ended, left, stop)
        outcome = self._record_for_sure(job, queue, left, execution)
        log.log(
            logging.INFO if outcome == "succeeded" else logging.WARNING,
            "FINISH %s %s %.2fs", job.id, outcome, boot_s() - begun,
        )  # fmt: skip
        if outcome in _WEBHOOKS:
            self._send_webhooks(job, _WEBHOOKS[outcome], str(left.get("error", "")), stop)

    def _start(self, job: Job, queue_name: str) -> None:
        records = self.records
        records.prepare_execution(job)
        with records.connection.pipeline() as pipe:
            records.set_current_job_id(job.id, pipeline=pipe)
            records.set_current_job_working_time(0, pipeline=pipe)
            job.prepare_for_execution(records.name, pipeline=pipe)
            pipe.lrem(rq_intermediate(queue_name), 1, job.id)
            pipe.hdel(job.key, UNPOPS)
            self.watch.begins(job, self._execution, self.now_s(), pipe)
            pipe.execute()

    @property
    def _execution(self) -> str:
        return self.records.execution.id if self.records.execution is not None else ""

    def _watch(self, job: Job, process: Child, stop: StopRequest, begun: float) -> ChildExit:
        timeout_s = _timeout_s(job)
        last_s = begun + timeout_s + _TERM_AFTER_S if timeout_s > 0 else float("inf")
        termination = Termination(process)
        renewed = begun
        while True:
            ended = process.wait(max(0.0, min(_LOOK_EVERY_S, (termination.kill_at or last_s) - boot_s())))
            if ended is not None:
                return ended
            now = boot_s()
            if now >= last_s:
                stop.ask("timed_out", f"it ran longer than its timeout of {timeout_s} s", "its worker")
            if stop.leave_at is not None and now >= stop.leave_at:
                stop.leave("its worker was told to leave, and the time it had for that was over")
            if stop.outcome is not None and termination.kill_at is None:
                log.warning("STOPPING %s: %s", job.id, stop.reason)
                termination.begin(now, _KILL_AFTER_S, signal.SIGTERM)
            termination.go_on(now)
            try:
                self.worker.look_around()
                self.watch.alive(job, self._execution, self.now_s())
                if now - renewed >= _HEARTBEAT_S:
                    renewed = now
                    self.records.set_current_job_working_time(now - begun)
                    self.records.maintain_heartbeats(job)
            except (RedisError, OSError) as error:
                log.debug("UNHEARD %s: %s", job.id, error)

    def _record_for_sure(self, job: Job, queue: Queue, left: Mapping[str, Any], execution: str) -> str:
        """Record the end for as long as it takes: what is done must not look undone for an outage's sake."""
        backoff = Backoff()
        while True:
            try:
                outcome = self._record(job, queue, left)
                self.watch.over(job, execution)
                return outcome
            except (RedisError, OSError) as error:
                if not is_general(error):  # it would be refused for ever; the beats settle what they can of it
                    log.error("UNRECORDED %s: Redis refused how it ended: %s", job.id, error)
                    return "unknown"
                log.warning("UNWRITTEN %s: %s; trying on", job.id, error)
                if self.worker.rest_unless_giving_up(backoff.next_s()):
                    log.error("ABANDONED %s: leaving without Redis", job.id)
                    return "unknown"

    def _record(self, job: Job, queue: Queue, left: Mapping[str, Any]) -> str:
        """Write what a stock worker's child writes, by the same code of RQ's."""
        records = self.records
        job.ended_at = utc(self.now_s())
        job.get_meta(refresh=True)  # the child may have saved it
        registry = queue.started_job_registry
        if "value" in left:
            raw = base64.b64decode(left["value"])
            job._result = Sealed(raw) if raw else None
            job._status = JobStatus.FINISHED
            records.handle_job_success(job=job, queue=queue, started_job_registry=registry)
            return "succeeded"
        if "retry" in left and records.execution is not None:
            wish = Retry(**left["retry"])
            records.handle_job_retry(
                job=job, queue=queue, retry=wish, started_job_registry=registry, execution=records.execution
            )
            return "retrying"
        was_stopped = records._stopped_job_id == job.id
        will_retry = job.should_retry and not was_stopped
        job._status = JobStatus.FAILED
        records.handle_job_failure(
            job=job, queue=queue, started_job_registry=registry, exc_string=storable(left["error"], MOST_ERROR)
        )
        return "stopped" if was_stopped else "retrying" if will_retry else "failed"

    def _send_webhooks(self, job: SealedJob, status: str, error: str, stop: StopRequest) -> None:
        """Have a child tell who wants to know of the end, now that it is recorded; what fails is only said."""
        order = order_of(job, status, error)
        if order is None:
            return
        process: Child | None = None
        try:
            process = stop.child = self.worker.spawn(order, boot_s() + MOST_S)
            while (ended := process.wait(_LOOK_EVERY_S)) is None:
                if self.worker.rest_unless_giving_up(0) or (stop.leave_at is not None and boot_s() >= stop.leave_at):
                    break
                with suppress(RedisError, OSError):
                    self.worker.look_around()
            process.end()
            troubles = _read_lines(process.result)
            if ended is None or ended.status < 0:
                troubles.append(f"it took longer than {MOST_S:g} s, or its worker was told to leave")
        except (WatchdogDied, CronqError, OSError) as trouble:
            troubles = [str(trouble)]
        finally:
            stop.child = None
        for each in troubles:
            log.warning("WEBHOOK of %s failed: %s", job.id, each)


def _check_spans(job: Job) -> None:
    """Refuse times that Redis or the system would refuse, at the end of a run or in the midst. Raises RunRefused."""
    spans = {
        "timeout": job.timeout,
        "result_ttl": job.result_ttl,
        "failure_ttl": job.failure_ttl,
        "ttl": job.ttl,
        "success_callback_timeout": job._success_callback_timeout,
        "failure_callback_timeout": job._failure_callback_timeout,
    }
    for name, span in spans.items():
        if span is not None and abs(int(span)) > _LONGEST_S:
            raise RunRefused(f"{job.id} cannot be run: its {name} is out of bounds, more than {_LONGEST_S:,} s")


def _timeout_s(job: Job) -> int:
    return int(job.timeout) if job.timeout else Queue.DEFAULT_TIMEOUT


def _read(result: BinaryIO) -> dict[str, Any]:
    result.seek(0)
    try:
        left = read_json(result.read(MOST_RESULT + 1), most=MOST_RESULT)
    except BadValue:
        return {}
    return left if isinstance(left, dict) else {}


def _read_lines(result: BinaryIO) -> list[str]:
    result.seek(0)
    return [printable(each) for each in text(result.read(_MOST_TROUBLES)).splitlines()]


def _judged(ended: ChildExit | None, left: dict[str, Any], stop: StopRequest) -> dict[str, Any]:
    """What is to be recorded: what the child left, else how it ended."""
    if stop.outcome is not None and "value" not in left:
        return {"error": stop.reason if "error" not in left else f"{stop.reason}\n{left['error']}"}
    if left or ended is None:
        return left
    return {"error": f"Work-horse terminated unexpectedly; its child ended with {ended.status}"}
