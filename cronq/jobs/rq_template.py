"""The RQ job that carries a run. Its hash is written by RQ's own code, never spelled here.

`fields_of` lets `rq.Queue.enqueue_call` write into a pipeline that is never executed, and takes what it would
have sent. So an RQ release that adds a field is followed without a change, and one that sends another command
is refused by name instead of being half-imitated.
"""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.job import Job as RQJob

from cronq.db.keys import RQ_QUEUES, rq_job, rq_queue
from cronq.errors import CronqError
from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.spec import JobSpec

#: What RQ runs: the function finds its run by RQ's current job id and the callable in the registry.
FUNCTION = "cronq.perform"


def fields_of(client: Redis, spec: JobSpec, run_id: str, description: str, args_json: str) -> dict[bytes, bytes]:
    """The hash `rq.Queue.enqueue` writes for this run, as bytes, ready for HSET.

    One round trip (RQ asks for the server's version). Raises CronqError when RQ sends anything unexpected.
    """
    with client.pipeline() as pipeline:
        Queue(spec.queue, connection=client).enqueue_call(
            FUNCTION,
            args=(spec.name, args_json),
            timeout=int(spec.timeout),
            result_ttl=result_life_s(spec),
            failure_ttl=failure_life_s(spec),
            description=description,
            job_id=run_id,
            meta=meta_of(spec),
            pipeline=pipeline,
        )
        return _captured(pipeline, run_id, spec.queue)


def data_of(client: Redis, spec: JobSpec, args_json: str) -> bytes:
    """What RQ writes as the call itself, for a run with these arguments."""
    return as_bytes(RQJob.create(FUNCTION, args=(spec.name, args_json), connection=client).to_dict()["data"])


def meta_of(spec: JobSpec) -> dict[str, str]:
    """The `meta` of the RQ job. RQ's tools show it and not all of them escape it, so no text in it needs that."""
    schedule = {"schedule": str(spec.schedule), "timezone": spec.tz} if spec.schedule is not None else {}
    return {"cronq_job": spec.name} | schedule


def _captured(pipeline: Pipeline, run_id: str, queue: str) -> dict[bytes, bytes]:
    """What the commands on *pipeline* would leave in the job's hash; the pipeline is not executed."""
    expected = {("SADD", RQ_QUEUES, rq_queue(queue)), ("RPUSH", rq_queue(queue), run_id)}
    found: dict[bytes, bytes] = {}
    for words, _options in pipeline.command_stack:
        if words[0] == "HSET" and words[1] == rq_job(run_id):
            values = words[2:]
            for name, value in zip(values[::2], values[1::2], strict=True):
                found[as_bytes(name)] = as_bytes(value)
        elif tuple(words) in expected:
            expected.discard(tuple(words))
        else:
            raise CronqError(f"this RQ enqueues with {words[0]} {words[1]}, which cronq does not know; pin rq")
    if expected:
        raise CronqError(f"this release of RQ enqueues without {sorted(expected)[0]}, which cronq relies on; pin rq")
    return found


def as_bytes(value: Any) -> bytes:
    """A value as redis-py would send it."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return repr(value).encode() if isinstance(value, float) else str(value).encode()
