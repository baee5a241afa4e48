"""RQ jobs whose pickles nobody opens: beats, and the parents of workers, carry call and result as the bytes they are.

Such bytes are called sealed here. RQ's own code does the reading and writing, with a serializer that opens nothing.
Only `open_job`, for the child that does the work, opens them. What jobs these are: see `rq_jobs`.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job, parse_job_id

from cronq.db.keys import rq_job
from cronq.interop.pickles import read_data

log = logging.getLogger("cronq.worker")


class Sealed:
    """Bytes of a pickle that nobody has opened."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


class SealedSerializer:
    """The serializer of RQ's own code in a process that opens no pickle."""

    @staticmethod
    def loads(raw: bytes) -> Any:
        """Keep the bytes."""
        return Sealed(raw)

    @staticmethod
    def dumps(value: Any) -> bytes:
        """The bytes as they came; of what RQ itself has made (a `Retry`) the pickle."""
        return value.raw if isinstance(value, Sealed) else pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


class SealedJob(Job):
    """An RQ job as RQ's own code reads and writes it in a process that opens nothing: its call stays as Redis has it.

    For few compressed bytes may stand for more than this machine has memory. Nor does that code send its webhooks.
    """

    stored_data: bytes = b""  #: the call, compressed by whoever queued it

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:
        super().__init__(id, connection=connection, serializer=serializer or SealedSerializer)

    def restore(self, raw_data: Any) -> None:
        """Take over what stands in Redis. Raises NoSuchJobError, and whatever RQ raises for damage."""
        fields = {key if isinstance(key, bytes) else key.encode(): value for key, value in raw_data.items()}
        if b"data" not in fields:
            raise NoSuchJobError(f"No such job: {self.id}")
        fields.pop(b"exc_info", None)  # compressed too, of an earlier attempt; nothing here asks for it
        super().restore({**fields, b"data": b""})
        self.stored_data = fields[b"data"]

    def to_dict(self, include_meta: bool = True, include_result: bool = True) -> dict[str, Any]:
        """What is saved; the call as it was read."""
        return {**super().to_dict(include_meta, include_result), "data": self.stored_data}

    def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
        """Send nothing: `webhooks` does, from a child."""

    @classmethod
    def fetch_many(cls, job_ids: Iterable[str], connection: Redis, serializer: Any = None) -> list[Job | None]:
        """The RQ jobs *job_ids*, None for each that is gone or damaged: one must not keep the others back."""
        found: list[Job | None] = []
        for job_id in job_ids:
            try:
                found.append(cls.fetch(job_id, connection=connection, serializer=serializer))
            except (RedisError, OSError):
                raise
            except Exception as error:  # damage raises whatever it likes
                if not isinstance(error, NoSuchJobError):
                    log.error("DAMAGED %s: %s", job_id, error)
                found.append(None)
        return found


def fetch_job(job_id: str, client: Redis) -> SealedJob:
    """The RQ job *job_id*, its pickles unopened. Raises whatever RQ raises for one that is gone or damaged."""
    job = SealedJob(parse_job_id(job_id), connection=client)
    job.restore(client.hgetall(rq_job(job.id)))
    return job


def open_job(job_id: str, client: Redis, serializer: Any) -> Job:
    """The RQ job *job_id* for the child that runs it: its pickles are read by *serializer*.

    Raises PickleRefused for a call that unpacks to more than 64 MiB, and whatever RQ raises.
    """
    fields: dict[Any, Any] = client.hgetall(rq_job(job_id))
    data = read_data(fields.get(b"data", b""))
    fields.pop(b"exc_info", None)
    job = Job(parse_job_id(job_id), connection=client, serializer=serializer)
    job.restore({**fields, b"data": b""})
    job.data = data
    return job


def sealed_queue(name: str, client: Redis) -> Queue:
    """RQ's queue *name*, for RQ's own code in a parent: it opens no pickle and unpacks no bomb."""
    return Queue(name, connection=client, job_class=SealedJob, serializer=SealedSerializer)


def release_dependents(client: Redis, queue: str, job_id: str) -> None:
    """Queue the RQ jobs that waited for *job_id* alone, as RQ's worker does after each job."""
    job = SealedJob(job_id, connection=client)
    sealed_queue(queue, client).enqueue_dependents(job)
