"""RQ jobs that depend on a run of cronq: they are queued when it has ended, as RQ's own worker does it."""

from __future__ import annotations

import resource
import zlib
from collections.abc import Callable

import pytest
from redis import Redis
from rq import Queue

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Settlement, Start


def theirs() -> None: ...


def begin(app: Cronq, run_id: str) -> None:
    run = app.runs.get(run_id)
    started = app.runs.start(run, Start(worker="w", host="h", pid=1, execution="e" * 32, lease_s=60, now_s=app.now_s()))
    assert started.code == "started"


@pytest.mark.parametrize(("outcome", "status"), [("succeeded", "queued"), ("failed", "deferred"), ("lost", "deferred")])
@pytest.mark.parametrize("own_connections", [False, True], ids=["of the sweep", "of a guardian"])
def test_a_job_that_depends_on_a_run_is_queued_when_the_run_succeeded(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec], outcome: str, status: str, own_connections: bool
) -> None:
    store("a", mark=0)
    run_id = app.enqueue("a")
    job = Queue("later", connection=redis).enqueue(theirs, depends_on=run_id, job_id="theirs")
    stubborn = Queue("later", connection=redis).enqueue(theirs, job_id="stubborn")
    assert job.get_status() == "deferred"
    begin(app, run_id)
    runs = app.runs_through(app.prompt_client()) if own_connections else app.runs

    assert runs.settle(app.runs.get(run_id), Ending(Settlement(outcome, "so"), by="w", now_s=app.now_s()))

    assert job.get_status() == status
    assert ("theirs" in Queue("later", connection=redis).job_ids) == (status == "queued")
    assert stubborn.id in Queue("later", connection=redis).job_ids


def test_a_run_is_settled_though_the_list_of_what_depends_on_it_is_damaged(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec], caplog: pytest.LogCaptureFixture
) -> None:
    store("a", mark=0)
    run_id = app.enqueue("a")
    begin(app, run_id)
    redis.set(f"rq:job:{run_id}:dependents", "junk")

    assert app.runs.settle(app.runs.get(run_id), Ending(Settlement("succeeded", "so"), by="w", now_s=app.now_s()))

    assert app.runs.get(run_id).outcome == "succeeded"
    (said,) = [record.message for record in caplog.records if "DEFERRED" in record.message]
    assert run_id in said


def test_a_call_that_would_unpack_to_gigabytes_is_queued_as_it_came(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec]
) -> None:
    store("a", mark=0)
    run_id = app.enqueue("a")
    begin(app, run_id)
    Queue("later", connection=redis).enqueue(theirs, depends_on=run_id, job_id="bomb")
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(200)) + packer.flush()
    redis.hset("rq:job:bomb", "data", bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert app.runs.settle(app.runs.get(run_id), Ending(Settlement("succeeded", "so"), by="w", now_s=app.now_s()))

    assert redis.lrange("rq:queue:later", 0, -1) == [b"bomb"]
    assert redis.hget("rq:job:bomb", "data") == bomb
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
