"""The work of the child that runs an RQ job which is not cronq's (see `rq_jobs`). Only here are its pickles opened.

Only functions of modules that were allowed are called. Arguments may name data and what those modules define.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any, BinaryIO

from redis import Redis
from rq.defaults import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD
from rq.job import Job, JobStatus, Retry
from rq.serializers import DefaultSerializer
from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty

from cronq.errors import RunRefused
from cronq.interop.pickles import ANY, is_defined_within, is_within, load_within
from cronq.interop.sealed import open_job
from cronq.interop.webhooks import send_all
from cronq.process.longlived import leave_after_this
from cronq.process.once import once_per_child
from cronq.safetext import storable

log = logging.getLogger("cronq.worker")

#: More of a result or an error than this is not kept.
MOST_RESULT = 64 * 1024 * 1024
MOST_ERROR = 100_000


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


class RQJobWork:
    """The work of RQ jobs that call what the modules *allowed* (or `*`) define; *on_failure* hears of each error."""

    def __init__(
        self,
        client: Redis,
        allowed: Collection[str],
        on_failure: Callable[[Job, BaseException], None],
        *,
        allow_private: bool = False,
    ) -> None:
        self.client = client
        self.allow_private = allow_private  #: webhooks may lead to addresses of private networks
        self.allowed = tuple(allowed)
        self.on_failure = on_failure
        self.connect = once_per_child(client.ping)  #: the connection stays for the next RQ job of this child

    def load_modules(self) -> None:
        """Import the modules *allowed*, once, before children are forked. One that cannot be imported is logged."""
        for module in self.allowed:
            if module == ANY:
                continue
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:
                log.error("ALLOW %s cannot be imported: %s: %s", module, type(error).__name__, error)

    def send_webhooks(self, order: Mapping[str, Any], result_file: BinaryIO) -> int:
        """Send the webhooks of an RQ job that has ended; the exit code. See `webhooks.send_all`."""
        return send_all(order, result_file, allow_private=self.allow_private)

    def perform(self, order: Mapping[str, Any], result_file: BinaryIO) -> int:
        """Do the work of one RQ job. Returns the exit code.

        Leaves `{"value"}` (a pickle in base64), `{"retry"}` or `{"error"}` in the result file.
        """
        left: dict[str, Any]
        code, failure = 1, None
        job: Job | None = None
        serializer = OpenSerializer(self.allowed)
        try:
            self.connect()
            job = open_job(order["rq_job"], self.client, serializer)
            self._check(job)
            limit: Any = UnixSignalDeathPenalty
            with limit(int(order["timeout"]), JobTimeoutException, job_id=job.id):
                value = job.perform()
            if isinstance(value, Retry):
                leave_after_this("retried")
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
        result_file.write(raw if len(raw) <= MOST_RESULT else json.dumps({"value": ""}).encode())
        result_file.flush()  # before the handlers: what they do, or how long they take, changes nothing of it
        if job is not None and failure is not None:
            self._call_handlers(job, failure)
        return code

    def _call_handlers(self, job: Job, error: BaseException) -> None:
        """Call the worker's exception handlers as RQ does, here in the child, within the job's time."""
        try:
            self.on_failure(job, error)
        except Exception as trouble:
            log.error("HANDLER of exceptions failed for %s: %s", job.id, _told(trouble))

    def _tell_failure(self, job: Job, error: BaseException, left: dict[str, Any]) -> dict[str, Any]:
        """Call the failure callback, as RQ does. Returns what is to be recorded: its own error, or *left*."""
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
        return storable("".join(traceback.format_exception(error)), MOST_ERROR)
    except Exception:  # what the exception refers to may be anything too
        return storable(type(error).__name__, MOST_ERROR)
