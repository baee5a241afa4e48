"""What our scripts write under `rq:*` is what RQ writes for the same call, field by field."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job

from cronq.app.app import Cronq
from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.spec import JobSpec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision

T = 1767596400
Store = Callable[..., JobSpec]
#: Fields that hold a moment; their form is compared, not their value.
MOMENTS = {b"created_at", b"enqueued_at"}


def dump(redis: Redis) -> dict[str, Any]:
    """All of `rq:*`, without the ids."""
    found: dict[str, Any] = {}
    for key in redis.scan_iter("rq:*"):
        kind = redis.type(key)
        value: Any = {
            b"hash": redis.hgetall,
            b"set": redis.smembers,
            b"list": lambda key: redis.lrange(key, 0, -1),
        }[kind](key)
        found[key.decode()] = (value, redis.ttl(key))
    return found


def enqueue_with_rq(redis: Redis, spec: JobSpec, run_id: str, description: str, args_json: str) -> dict[str, Any]:
    """What RQ itself leaves for the call that the run stands for."""
    Queue(spec.queue, connection=redis).enqueue_call(
        "cronq.perform",
        args=(spec.name, args_json),
        timeout=int(spec.timeout),
        result_ttl=result_life_s(spec),
        failure_ttl=failure_life_s(spec),
        description=description,
        job_id=run_id,
        meta={"cronq_job": spec.name, "schedule": str(spec.schedule), "timezone": spec.tz},
    )
    return dump(redis)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for key, (value, life) in theirs.items():
        mine, my_life = ours[key]
        assert my_life == life, key
        if not isinstance(value, dict):
            assert mine == value, key
            continue
        assert set(mine) == set(value), key
        for field in value:
            if field in MOMENTS:
                assert len(mine[field]) == len(value[field])
                assert mine[field].endswith(b"Z")
            else:
                assert mine[field] == value[field], field


def test_a_claimed_tick_equals_what_rq_enqueues(app: Cronq, store: Store, redis: Redis) -> None:
    spec = store("invoices", mark=T - 1, kwargs={"month": "2026-01"}, timeout="90s", queue="nightly")
    version = app.jobs.version_of("invoices")
    app.claimer("beat").claim_due([TickClaim(spec, version, Decision(T, None, "", "schedule", None))], "t", T + 0.25)
    ours = dump(redis)

    redis.flushall()
    theirs = enqueue_with_rq(
        redis, spec, "invoices-20260105T070000Z", "invoices @ 2026-01-05 07:00 UTC", spec.args_json
    )

    assert_same(ours, theirs)


def test_a_run_by_hand_equals_what_rq_enqueues(app: Cronq, store: Store, redis: Redis) -> None:
    spec = store("invoices", mark=T - 1)
    run_id = app.enqueue("invoices", (1,), {"b": [2]})
    ours = dump(redis)
    description = redis.hget(f"rq:job:{run_id}", "description")
    assert description is not None

    redis.flushall()
    theirs = enqueue_with_rq(redis, spec, run_id, description.decode(), '[[1],{"b":[2]}]')

    assert_same(ours, theirs)


def test_rq_reads_a_claimed_run_as_its_own(app: Cronq, store: Store, redis: Redis) -> None:
    spec = store("invoices", mark=T - 1, kwargs={"a": 1})
    version = app.jobs.version_of("invoices")
    app.claimer("beat").claim_due([TickClaim(spec, version, Decision(T, None, "", "schedule", None))], "t", T + 0.25)

    rq_job = Job.fetch("invoices-20260105T070000Z", connection=redis)

    assert rq_job.func_name == "cronq.perform"
    assert rq_job.args == ("invoices", '[[],{"a":1}]')
    assert rq_job.get_status() == "queued"
    assert rq_job.timeout == 3600
    assert rq_job.enqueued_at is not None
    assert rq_job.enqueued_at.timestamp() == T + 0.25
    assert Queue("default", connection=redis).job_ids == ["invoices-20260105T070000Z"]


def test_the_payload_names_no_class_so_it_can_be_read_without_importing_any(app: Cronq, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    run_id = app.enqueue(spec.name)
    rq_job = Job.fetch(run_id, connection=app.client)

    class Strict(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            raise AssertionError(f"{module}.{name}")

    import io

    assert Strict(io.BytesIO(rq_job.data)).load()[0] == "cronq.perform"
