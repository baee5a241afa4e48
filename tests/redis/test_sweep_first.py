"""The first look of a beat, and a run that cannot begin: nobody says what did not happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq.job import Job

from cronq.app.app import Cronq
from cronq.beat.sweep import Sweep
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Run, Settlement, Start
from cronq.runs.timing import Timing
from cronq.worker.active_run import StopRequest
from tests.redis.conftest import guardian_of


def begin(app: Cronq, run_id: str) -> Run:
    started = app.runs.start(
        app.runs.get(run_id), Start(worker="w", host="h", pid=1, execution="e" * 32, lease_s=60, now_s=app.now_s())
    )
    assert started.code == "started"
    return app.runs.get(run_id)


def test_the_first_sweep_leaves_a_run_alone_whose_guardian_lives_though_rq_cancelled_it(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec]
) -> None:
    store("a", mark=0)
    run_id = app.enqueue("a")
    begin(app, run_id)
    Job.fetch(run_id, connection=redis).cancel()

    Sweep(redis, app.keys, app.runs, by="beat", timing=Timing(6.0)).once()

    assert app.runs.get(run_id).state == "running"


def execute(app: Cronq, run: Run, spec: JobSpec, **options: Any) -> None:
    """Have a run executed that does not start."""
    guardian = guardian_of(app, **options)
    guardian.execute(run, spec, StopRequest(), worker="w", args_json="[[],{}]")
    assert guardian.settler.unsettled == []


def test_a_requeued_run_that_cannot_begin_keeps_its_outcome_and_does_not_come_round(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec], caplog: pytest.LogCaptureFixture
) -> None:
    spec = store("a", mark=0)
    run_id = app.enqueue("a")
    app.runs.settle(begin(app, run_id), Ending(Settlement("failed", "so"), by="w", now_s=app.now_s()))
    Job.fetch(run_id, connection=redis).requeue()
    redis.lmove("rq:queue:default", "rq:queue:default:intermediate")
    redis.delete("cronq:running")
    redis.set("cronq:running", "junk")

    execute(app, app.runs.get(run_id), spec)

    assert app.runs.get(run_id).reason == "so"
    assert redis.lrange("rq:queue:default:intermediate", 0, -1) == []
    said = [record.message for record in caplog.records]
    assert not [line for line in said if "FINISH" in line]
    (refused,) = [line for line in said if "REFUSED" in line]
    assert "cronq:running is not a zset" in refused


def test_a_run_that_was_settled_meanwhile_is_not_said_to_have_ended_again(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    spec = store("a", mark=0, ttl=1)
    run_id = app.enqueue("a")
    redis.hset(f"cronq:run:{run_id}", "tick", 60)  # older than its ttl
    run = app.runs.get(run_id)
    app.stop(run_id)

    execute(app, run, spec)

    assert app.runs.get(run_id).outcome == "stopped"
    assert not [record for record in caplog.records if record.message.startswith("FINISH")]


@pytest.mark.parametrize(
    ("key", "kind"), [("lock:cronq:a", "string"), ("cronq:fence:a", "hash"), ("cronq:job:a:waiting", "zset")]
)
def test_a_run_whose_lock_has_a_key_of_a_wrong_type_fails_and_the_key_is_moved_aside(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec], key: str, kind: str
) -> None:
    spec = store("a", mark=0, exclusive=True)
    if kind == "zset":
        redis.set("lock:cronq:a", "somebody", ex=60)  # so the run has to wait
    run_id = app.enqueue("a")
    redis.lmove("rq:queue:default", "rq:queue:default:intermediate")
    redis.rpush(key, "junk")
    broken = []

    execute(app, app.runs.get(run_id), spec, on_broken=broken.append)

    run = app.runs.get(run_id)
    assert run.outcome == "failed"
    assert f"the key {key} is not a {kind}" in (run.reason or "")
    assert redis.llen("rq:queue:default:intermediate") == 0
    assert [(each.key, each.kind) for each in broken] == [(key, kind)]


def test_a_whole_rack_of_workers_that_vanished_is_settled_in_one_go(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    store("a", mark=0)
    now_s = float(redis.time()[0])
    ids = [f"a-m{number:08x}" for number in range(350)]
    with redis.pipeline() as pipe:
        for run_id in ids:
            row = {"job": "a", "state": "running", "trigger": "manual", "started_at": now_s, "worker": "w"}
            pipe.hset(f"cronq:run:{run_id}", mapping=row)
            pipe.zadd("cronq:running", {run_id: now_s})
        pipe.execute()
    boot = [100.0]
    monkeypatch.setattr("cronq.beat.sweep.boot_s", lambda: boot[0])
    sweep = Sweep(redis, app.keys, app.runs, by="beat", timing=Timing(6.0))

    for _ in range(8):
        has_more = sweep.once(now_s + boot[0] - 100.0 + 0.5)
        boot[0] += 1.0

    assert not has_more
    assert {run.outcome for run in app.runs.rows(ids)} == {"lost"}
