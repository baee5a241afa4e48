"""RQ jobs that are not cronq's, under `cronq.Worker`: run in a watched child, recorded the way RQ records them.

Only functions of modules that were allowed are called, and the parent unpickles nothing: it carries meta and
results as the bytes they are. Arguments are read in the child, where they may name data and allowed modules only.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import signal
import traceback
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from redis.exceptions import RedisError
from rq import Queue
from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD
from rq.job import Job, JobStatus, Retry
from rq.serializers import DefaultSerializer
from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty

from cronq import child
from cronq.child import describe_error
from cronq.clock import boot_s, rest, utc
from cronq.errors import BadValue, CronqError, RunRefused
from cronq.foreign_job import Sealed, fetch_job, open_job, sealed_queue
from cronq.foreign_watch import ForeignWatch
from cronq.job import make_spec
from cronq.keys import PUT_BACKS, rq_intermediate
from cronq.outage import BACKOFF_S, is_general
from cronq.pickles import ANY, PickleRefused, find_within, is_defined_within, is_within, load_within, read_function
from cronq.registry import REGISTRY, Definition
from cronq.replies import read_json, text
from cronq.safetext import storable
from cronq.stop_request import StopRequest
from cronq.watchdog import Child, ChildExit, Watchdog, WatchdogDied

if TYPE_CHECKING:
    from cronq.worker import GuardedWorker as Worker

log = logging.getLogger("cronq.worker")

#: RQ's time-out for jobs that name none.
_RQ_TIMEOUT_S = 180
#: After RQ's own alarm in the child: TERM, and then KILL.
_TERM_AFTER_S, _KILL_AFTER_S = 5.0, 10.0
_LOOK_EVERY_S = 1.0
_HEARTBEAT_S = 10.0
_MOST_RESULT = 64 * 1024 * 1024
_MOST_ERROR = 100_000
_LONGEST_S = 10**9


class OpenSerializer:
    """Reads pickles that name only data and what the modules *allowed* define."""

    def __init__(self, allowed: Collection[str]) -> None:
        self.allowed = allowed

    def loads(self, raw: bytes) -> Any:
        """What *raw* holds. Raises PickleRefused."""
        return load_within(raw, self.allowed)

    @staticmethod
    def dumps(value: Any) -> bytes:
        """As RQ writes it."""
        return DefaultSerializer.dumps(value)


class ForeignRuns:
    """Runs of RQ jobs for *worker*; *allowed* are modules, or `*`."""

    def __init__(self, worker: Worker, allowed: Collection[str]) -> None:
        assert worker.app is not None
        self.worker = worker
        self.allowed = tuple(allowed)
        self.watch = ForeignWatch(worker.connection, worker.app.keys, lost_after_s=worker.app.config.lost_after)

    def load_modules(self) -> None:
        """Import what is allowed, once, before the children are forked; one that breaks is said and goes missing."""
        for module in self.allowed:
            if module == ANY:
                continue
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:
                log.error("ALLOW %s cannot be imported: %s: %s", module, type(error).__name__, error)

    # In the parent

    def serve(self, queue_name: str, raw_id: Any) -> None:
        """Run the RQ job that was taken from its queue, or set it aside with the reason."""
        worker = self.worker
        try:
            job = self.fetch(text(raw_id))
        except RunRefused as refusal:
            worker._refuse(queue_name, raw_id, str(refusal))
            return
        try:
            self.execute(job, queue_name, worker.begin_present())
        finally:
            worker._present = None

    def fetch(self, job_id: str) -> Job:
        """The RQ job *job_id*, its pickles unopened. Raises RunRefused, whose text names the remedy."""
        if not self.allowed:
            raise RunRefused(
                f"{job_id} is not a run of cronq: this worker runs only registered jobs; start it with --allow MODULE, "
                "or let a stock `rq worker` serve its queue"
            )
        try:
            job = fetch_job(job_id, self.worker.connection)
            function, is_method = read_function(job.stored_data)
        except Exception as error:  # whatever stands there
            if isinstance(error, RedisError) and "WRONGTYPE" not in str(error):
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

    def execute(self, job: Job, queue_name: str, stop: StopRequest) -> None:
        """Take one RQ job through its run and record how it ended, as a stock worker does."""
        job.origin = queue_name
        worker, queue = self.worker, sealed_queue(queue_name, self.worker.connection)
        self._start(job, queue_name)
        execution = self._execution
        begun = boot_s()
        named = str(job.description).partition("(")[0]  # RQ's own text goes on with the arguments: secrets, maybe
        log.info("START %s %s pid=%d", job.id, named if worker.log_job_description else job.origin, worker.pid)
        process: Child | None = None
        ended: ChildExit | None = None
        try:
            process = stop.child = self._spawn(job, worker.parts.watchdog)
            ended = self._watch(job, process, stop, begun)
            left = _read(process.result)
        except Exception as error:  # also a mistake of ours: a child that nobody watches may not run on
            if process is not None:
                process.end()
            if not isinstance(error, WatchdogDied | CronqError | OSError):
                log.exception("the child of %s could not be watched", job.id)
            left = {"error": f"its child could not be watched: {error}"}
        outcome = self._record_for_sure(job, queue, _judged(ended, left, stop), execution)
        log.log(
            logging.INFO if outcome == "succeeded" else logging.WARNING,
            "FINISH %s %s %.2fs", job.id, outcome, boot_s() - begun,
        )  # fmt: skip

    def _start(self, job: Job, queue_name: str) -> None:
        worker = self.worker
        worker.prepare_execution(job)
        with worker.connection.pipeline() as pipe:
            worker.set_current_job_id(job.id, pipeline=pipe)
            worker.set_current_job_working_time(0, pipeline=pipe)
            job.prepare_for_execution(worker.name, pipeline=pipe)
            pipe.lrem(rq_intermediate(queue_name), 1, job.id)
            pipe.hdel(job.key, PUT_BACKS)
            self.watch.begins(job, self._execution, self._now_s(), pipe)
            pipe.execute()

    @property
    def _execution(self) -> str:
        return self.worker.execution.id if self.worker.execution is not None else ""

    def _now_s(self) -> float:
        assert self.worker.app is not None
        return self.worker.app.clock.now_s()

    def _spawn(self, job: Job, watchdog: Watchdog) -> Child:
        if not watchdog.alive:
            watchdog.close()
            watchdog.start()
        return watchdog.spawn({"rq_job": job.id, "timeout": _timeout_s(job)})

    def _watch(self, job: Job, process: Child, stop: StopRequest, begun: float) -> ChildExit:
        timeout_s = _timeout_s(job)
        last_s = begun + timeout_s + _TERM_AFTER_S if timeout_s > 0 else float("inf")
        kill_at: float | None = None
        renewed = begun
        while True:
            ended = process.wait(max(0.0, min(_LOOK_EVERY_S, (kill_at or last_s) - boot_s())))
            if ended is not None:
                return ended
            now = boot_s()
            if now >= last_s:
                stop.ask("timed_out", f"it ran longer than its timeout of {timeout_s} s", "its worker")
            if stop.leave_at is not None and now >= stop.leave_at:
                stop.leave("its worker was told to leave, and the time it had for that was over")
            if stop.outcome is not None and kill_at is None:
                log.warning("STOPPING %s: %s", job.id, stop.reason)
                process.signal(signal.SIGTERM)
                kill_at = now + _KILL_AFTER_S
            if kill_at is not None and now >= kill_at:
                process.kill_all()
                kill_at = now + 1.0
            try:
                self.worker._beat_heart()
                self.watch.alive(job, self._execution, self._now_s())
                if now - renewed >= _HEARTBEAT_S:
                    renewed = now
                    self.worker.set_current_job_working_time(now - begun)
                    self.worker.maintain_heartbeats(job)
            except (RedisError, OSError) as error:
                log.debug("UNHEARD %s: %s", job.id, error)

    def _record_for_sure(self, job: Job, queue: Queue, left: Mapping[str, Any], execution: str) -> str:
        """Record the end for as long as it takes: what is done must not look undone for an outage's sake."""
        pause_s = BACKOFF_S[0]
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
                if rest(pause_s, self.worker.parts.guardian.giving_up):
                    log.error("ABANDONED %s: leaving without Redis", job.id)
                    return "unknown"
                pause_s = min(pause_s * 2, BACKOFF_S[1])

    def _record(self, job: Job, queue: Queue, left: Mapping[str, Any]) -> str:
        """Write what a stock worker's child writes, by the same code of RQ's."""
        worker = self.worker
        job.ended_at = utc(self._now_s())
        job.get_meta(refresh=True)  # the child may have saved it
        registry = queue.started_job_registry
        if "value" in left:
            raw = base64.b64decode(left["value"])
            job._result = Sealed(raw) if raw else None
            job._status = JobStatus.FINISHED
            worker.handle_job_success(job=job, queue=queue, started_job_registry=registry)
            job.send_webhooks(JobStatus.FINISHED)
            return "succeeded"
        if "retry" in left and worker.execution is not None:
            wish = Retry(**left["retry"])
            worker.handle_job_retry(
                job=job, queue=queue, retry=wish, started_job_registry=registry, execution=worker.execution
            )
            return "retrying"
        will_retry = job.should_retry and worker._stopped_job_id != job.id
        job._status = JobStatus.FAILED
        worker.handle_job_failure(
            job=job, queue=queue, started_job_registry=registry, exc_string=storable(left["error"], _MOST_ERROR)
        )
        return "retrying" if will_retry else "failed"

    # In the child

    def child_main(self, order: Mapping[str, Any], result_file: BinaryIO) -> int:
        """Do the work of one run, ours or not."""
        if "rq_job" in order:
            return self._perform(order, result_file)
        self._define_adopted(order)
        return child.child_main(order, result_file)

    def _define_adopted(self, order: Mapping[str, Any]) -> None:
        """Make the function of an adopted job known, which no decorator names, if its module is allowed."""
        name, path = order["job"], order.get("function")
        if not path or name in REGISTRY.definitions:
            return
        module, _, qualname = path.partition(":")
        if not self.allowed or not is_within(module, self.allowed):
            return
        try:
            function = find_within(module, qualname, self.allowed)
        except (ImportError, AttributeError, PickleRefused) as error:
            log.error("ALLOW %s cannot be found: %s", path, error)
            return
        REGISTRY.definitions[name] = Definition(make_spec(name, function=path), "adopted", module, function)

    def _perform(self, order: Mapping[str, Any], result_file: BinaryIO) -> int:
        left: dict[str, Any]
        code, failure = 1, None
        job: Job | None = None
        serializer = OpenSerializer(self.allowed)
        try:
            job = open_job(order["rq_job"], self.worker.connection, serializer)
            self._check(job)
            limit: Any = UnixSignalDeathPenalty
            with limit(int(order["timeout"]), JobTimeoutException, job_id=job.id):
                value = job.perform()
            if isinstance(value, Retry):
                left = {"retry": {"max": value.max, "interval": value.intervals}}
            else:
                left = {"value": base64.b64encode(_dumped(serializer, value)).decode()}
                job._status = JobStatus.FINISHED
                job.execute_success_callback(UnixSignalDeathPenalty, value)
            code = 0
        except BaseException as error:
            left = {"error": _told(error)}
            if job is not None and not isinstance(error, RunRefused):
                left = self._tell_failure(job, error, left)
                failure = error
        raw = json.dumps(left).encode()
        result_file.write(raw if len(raw) <= _MOST_RESULT else json.dumps({"value": ""}).encode())
        result_file.flush()  # before the handlers: what they do, or how long they take, changes nothing of it
        if job is not None and failure is not None:
            self._call_handlers(job, failure)
        return code

    def _call_handlers(self, job: Job, error: BaseException) -> None:
        """Call the worker's exception handlers as RQ does, here in the child, within the job's time."""
        if self.worker._exc_handlers:
            try:
                self.worker.handle_exception(job, type(error), error, error.__traceback__)
            except Exception as trouble:
                log.error("HANDLER of exceptions failed for %s: %s", job.id, _told(trouble))

    def _tell_failure(self, job: Job, error: BaseException, left: dict[str, Any]) -> dict[str, Any]:
        """Call the failure callback, as RQ does; an error in it is what is recorded then."""
        try:
            job._status = JobStatus.FAILED
            job.execute_failure_callback(UnixSignalDeathPenalty, type(error), error, error.__traceback__)
        except BaseException as second:
            return {"error": _told(second)}
        return left

    def _check(self, job: Job) -> None:
        """Refuse a function or callback that no module allowed defines. Raises RunRefused."""
        names = [job._success_callback_name, job._failure_callback_name, job._stopped_callback_name]
        for name in names:
            if isinstance(name, str) and name and not is_within(name.rpartition(".")[0], self.allowed):
                raise RunRefused(f"its callback {name} is in no module that this worker may run; add --allow")
        # RQ takes an instance that is false for none, and would import the module before anybody can look at it.
        if not job.instance and not is_within(str(job.func_name).rpartition(".")[0], self.allowed):
            raise RunRefused(f"{job.func_name} is in no module that this worker may run; add --allow")
        called = [job.func, job.success_callback, job.failure_callback]
        for function in called:
            if function is not None and not is_defined_within(function, self.allowed):
                raise RunRefused(f"{function!r} is not defined in a module that this worker may run; add --allow")


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


def _dumped(serializer: OpenSerializer, value: Any) -> bytes:
    if value is None:
        return b""
    try:
        return serializer.dumps(value)
    except Exception:  # RQ's own words for a result that it cannot keep
        return serializer.dumps(UNSERIALIZABLE_RETURN_VALUE_PAYLOAD)


def _told(error: BaseException) -> str:
    """The traceback, as RQ keeps it; whatever text the exception has."""
    try:
        return storable("".join(traceback.format_exception(error)), _MOST_ERROR)
    except Exception:  # what the exception refers to may be anything too
        return describe_error(error)["traceback"]


def _timeout_s(job: Job) -> int:
    return int(job.timeout) if job.timeout else _RQ_TIMEOUT_S


def _read(result: BinaryIO) -> dict[str, Any]:
    result.seek(0)
    try:
        left = read_json(result.read(_MOST_RESULT + 1), most=_MOST_RESULT)
    except BadValue:
        return {}
    return left if isinstance(left, dict) else {}


def _judged(ended: ChildExit | None, left: dict[str, Any], stop: StopRequest) -> dict[str, Any]:
    """What is to be recorded: what the child left, else how it ended."""
    if stop.outcome is not None and "value" not in left:
        return {"error": stop.reason if "error" not in left else f"{stop.reason}\n{left['error']}"}
    if left or ended is None:
        return left
    return {"error": f"Work-horse terminated unexpectedly; its child ended with {ended.status}"}
