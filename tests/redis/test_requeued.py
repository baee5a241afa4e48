"""What people requeue with RQ's tools is an open run again: it can be stopped, stands in the way, goes with its job."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job

from cronq.app.app import Cronq
from cronq.errors import RunRefused, UnknownJob
from cronq.interop import requeued
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Settlement, Start

Store = Callable[..., JobSpec]
Walk = Callable[[], object]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
QUEUE = "rq:queue:default"


@pytest.fixture
def walk(app: Cronq) -> Walk:
    """What a beat does of it in one pass, after a sweep, which knows the queues."""
    chores = {chore.name: chore.work for chore in app.beat().chores}
    return lambda: (chores["sweep"](app.now_s()), chores["requeued"](app.now_s()))


def fail(app: Cronq, job: str) -> str:
    """A run of *job* that ran and failed."""
    run_id = app.enqueue(job)
    execution = "e" * 32
    started = app.runs.start(
        app.runs.get(run_id), Start(worker="w", host="h", pid=1, execution=execution, lease_s=90, now_s=app.now_s())
    )
    assert started.code == "started"
    app.client.lrem(QUEUE, 0, run_id)
    settlement = Settlement("failed", "disk full")
    assert app.runs.settle(app.runs.get(run_id), Ending(settlement, by="w", now_s=app.now_s(), execution=execution))
    return run_id


def requeue(redis: Redis, run_id: str) -> None:
    Job.fetch(run_id, connection=redis).requeue()


def forget_row(redis: Redis, run_id: str) -> None:
    """What the trimming of a ledger leaves of an old run: RQ's record alone."""
    redis.delete(f"cronq:run:{run_id}")
    redis.zrem("cronq:job:a:manual", run_id)


# Its row is there


def test_a_requeued_run_is_open_again_as_its_second_attempt(app: Cronq, redis: Redis, store: Store, walk: Walk) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")
    requeue(redis, run_id)

    walk()
    walk()

    run = app.runs.get(run_id)
    assert (run.state, run.outcome, run.attempt, run.started_at) == ("queued", None, 2, None)
    assert [(each.outcome, each.reason) for each in run.attempts] == [("failed", "disk full")]
    assert app.runs.active(["a"]) == {"a": {run_id: "queued"}}
    assert redis.lrange(QUEUE, 0, -1) == [run_id.encode()]


def test_what_nobody_requeued_stays_as_it_is(app: Cronq, redis: Redis, store: Store, walk: Walk) -> None:
    store("a", mark=T)
    settled, queued = fail(app, "a"), app.enqueue("a")
    redis.rpush(QUEUE, settled, "somebody-elses", b"\xff\xfe")  # a stray id of a run that has ended

    walk()

    assert app.runs.get(settled).outcome == "failed"
    assert app.runs.get(queued).attempt == 1


def test_a_requeued_run_can_be_stopped_at_once(app: Cronq, redis: Redis, store: Store) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")
    requeue(redis, run_id)

    assert app.stop(run_id) == [run_id]

    assert redis.lrange(QUEUE, 0, -1) == []
    assert app.runs.get(run_id).outcome == "stopped"
    assert Job.fetch(run_id, connection=redis).get_status() == "canceled"


def test_a_run_that_has_ended_is_not_stopped(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")

    assert app.stop(run_id) == []

    assert app.runs.get(run_id).outcome == "failed"


def test_a_requeued_run_is_stopped_with_its_job(app: Cronq, redis: Redis, store: Store, walk: Walk) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")
    requeue(redis, run_id)

    walk()
    app.remove("a")

    assert app.runs.get(run_id).outcome == "stopped"


def test_a_run_that_may_begin_once_keeps_its_outcome(app: Cronq, redis: Redis, store: Store, walk: Walk) -> None:
    store("a", mark=T, at_most_once=True)
    run_id = fail(app, "a")
    requeue(redis, run_id)

    walk()

    assert app.runs.get(run_id).outcome == "failed"


@pytest.mark.parametrize("queues", [1, 5])
def test_however_long_and_many_the_queues_every_requeued_run_is_found(
    app: Cronq, redis: Redis, store: Store, walk: Walk, monkeypatch: pytest.MonkeyPatch, queues: int
) -> None:
    for name, value in (("_BATCH", 4), ("_MOST_STEPS", 2), ("_MOST_QUEUES", 2)):
        monkeypatch.setattr(requeued, name, value)
    store("a", mark=T)
    run_ids = []
    for number in range(queues):
        run_id = fail(app, "a")
        requeue(redis, run_id)
        redis.lrem(QUEUE, 0, run_id)
        redis.rpush(
            f"rq:queue:q{number}", *(f"x-{each}" for each in range(9)), run_id, *(f"y-{each}" for each in range(9))
        )
        redis.sadd("rq:queues", f"rq:queue:q{number}")
        run_ids.append(run_id)

    for _ in range(12):
        walk()

    assert {run.attempt for run in app.runs.rows(run_ids)} == {2}


def test_a_queue_of_a_wrong_type_hides_no_other(app: Cronq, redis: Redis, store: Store, walk: Walk) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")
    requeue(redis, run_id)
    redis.set("rq:queue:broken", "junk")
    redis.sadd("rq:queues", "rq:queue:broken")

    walk()

    assert app.runs.get(run_id).attempt == 2


# Its row has ended


def test_a_requeued_run_whose_row_has_ended_gets_a_new_one(app: Cronq, redis: Redis, store: Store) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")
    forget_row(redis, run_id)
    requeue(redis, run_id)

    assert app.requeued.readmit(run_id, "default", by="worker w", now_s=app.now_s())

    run = app.runs.get(run_id)
    assert (run.job, run.state, run.trigger, run.tick, run.attempt) == ("a", "queued", "requeue", None, 1)
    assert json.loads(run.args or "") == [[], {}]
    assert [each.run_id for each in app.history("a")] == [run_id]
    assert app.stop("a") == [run_id]


def test_its_arguments_are_those_it_had(app: Cronq, redis: Redis, store: Store) -> None:
    store("a", mark=T)
    run_id = app.enqueue("a", (1,), {"b": "ü" * 100_000})
    forget_row(redis, run_id)

    app.requeued.readmit(run_id, "default", by="worker w", now_s=app.now_s())

    assert json.loads(app.runs.get(run_id).args or "") == [[1], {"b": "ü" * 100_000}]


def test_it_can_be_stopped_before_a_worker_has_seen_it(app: Cronq, redis: Redis, store: Store) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")
    forget_row(redis, run_id)
    requeue(redis, run_id)

    assert app.stop(run_id) == [run_id]

    assert redis.lrange(QUEUE, 0, -1) == []


def test_an_rq_job_that_is_not_ours_gets_no_row(app: Cronq, redis: Redis, store: Store) -> None:
    store("a", mark=T)
    foreign = Queue("default", connection=redis).enqueue("os.getpid", meta={"cronq_job": "a"}).id
    other = Queue("default", connection=redis).enqueue("cronq.perform", "b", "[[],{}]", meta={"cronq_job": "a"}).id
    redis.hset("rq:job:junk", mapping={"data": b"x\x9c", "meta": b"cronq_job", "status": "queued"})
    redis.set("rq:job:text", "cronq_job")

    assert [
        app.requeued.readmit(each, "default", by="w", now_s=app.now_s())
        for each in (foreign, other, "junk", "text", "-")
    ] == [False] * 5
    assert redis.keys("cronq:run:*") == []
    with pytest.raises(UnknownJob):
        app.stop(foreign)


def test_one_whose_job_was_removed_is_refused_with_the_reason(app: Cronq, redis: Redis, store: Store) -> None:
    store("a", mark=T)
    run_id = fail(app, "a")
    app.remove("a")
    forget_row(redis, run_id)
    requeue(redis, run_id)

    with pytest.raises(RunRefused, match=r"its job 'a' was removed"):
        app.requeued.readmit(run_id, "default", by="worker w", now_s=app.now_s())
