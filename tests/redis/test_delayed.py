"""Delayed runs: made, moved, stopped, served once, and what others may do to them in rq-scheduler's store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq_scheduler import Scheduler

from cronq.app.app import Cronq
from cronq.beat.beat import Beat
from cronq.config import Config
from cronq.errors import DefinitionError, UnknownJob, UnknownRun
from cronq.jobs.registry import Registry
from cronq.jobs.retention import result_life_s
from cronq.jobs.rq_template import meta_of
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Run
from tests.redis.test_rq_contract import assert_same, dump, enqueue_with_rq

Store = Callable[..., JobSpec]
STORE = "rq:scheduler:scheduled_jobs"
HOLDER = "cronq beats of cronq"


@pytest.fixture
def now(app: Cronq) -> float:
    return app.exact_now_s()


@pytest.fixture
def job(app: Cronq, store: Store, now: float) -> JobSpec:
    return store("mail", mark=int(now), cron="0 0 1 1 *", timeout="90s", queue="post")


def serve(app: Cronq, at_s: float) -> None:
    app.scheduled_stores("beat test").once(at_s)


def row(app: Cronq, run_id: str) -> Run:
    return app.runs.get(run_id)


def at(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)


def test_a_delayed_run_is_in_the_ledger_from_the_moment_it_is_made_and_runs_when_it_is_due(
    app: Cronq, job: JobSpec, redis: Redis, now: float
) -> None:
    run_id = app.enqueue_in("5m", "mail", (1,), {"b": 2})

    waiting = row(app, run_id)
    assert (waiting.state, waiting.trigger, waiting.tick, waiting.args) == ("waiting", "delayed", None, '[[1],{"b":2}]')
    assert waiting.reason is not None
    assert waiting.reason.startswith("delayed until 2")
    assert [each.run_id for each in app.history("mail")] == [run_id]
    serve(app, now + 298)
    assert row(app, run_id).state == "waiting"
    assert not redis.exists("rq:queue:post")

    serve(app, now + 303)

    assert row(app, run_id).state == "queued"
    assert redis.lrange("rq:queue:post", 0, -1) == [run_id.encode()]
    assert redis.hgetall("cronq:job:mail:given") == {run_id.encode(): b"queued"}
    assert not redis.exists(STORE, "cronq:delayed")
    serve(app, now + 400)
    assert redis.llen("rq:queue:post") == 1


def test_it_is_never_early_and_a_fraction_is_rounded_up(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_at(at(int(now) + 10.25), "mail")

    assert redis.zscore(STORE, run_id) == int(now) + 11


def test_a_time_that_has_passed_is_due_at_once(app: Cronq, job: JobSpec, now: float) -> None:
    run_id = app.enqueue_at(at(now - 1000), "mail")
    serve(app, now + 1)

    assert row(app, run_id).state == "queued"


def test_a_run_that_is_served_equals_what_rq_enqueues(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_at(at(now + 60), "mail", (1,), {"b": [2]})
    serve(app, now + 61.5)
    redis.delete("rq:scheduler_lock", "rq:scheduler-lock:post")
    ours = dump(redis)
    description = (redis.hget(f"rq:job:{run_id}", "description") or b"").decode()
    assert description.startswith("mail (delayed, m")

    redis.flushall()
    theirs = enqueue_with_rq(redis, job, run_id, description, '[[1],{"b":[2]}]')

    assert_same(ours, theirs)


def test_a_run_that_waits_equals_what_rq_scheduler_writes(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_at(at(int(now) + 60), "mail")
    mine = redis.hgetall(f"rq:job:{run_id}")
    due = redis.zscore(STORE, run_id)
    redis.delete(f"rq:job:{run_id}", STORE)

    Scheduler("post", connection=redis).enqueue_at(
        at(int(now) + 60).replace(tzinfo=None), "cronq.perform", "mail", job.args_json, timeout=90,
        job_result_ttl=result_life_s(job), job_id=run_id, job_description=mine[b"description"].decode(),
        meta=meta_of(job),
    )  # fmt: skip
    theirs = redis.hgetall(f"rq:job:{run_id}")

    assert {key: mine[key] for key in theirs if key != b"created_at"} == {
        key: value for key, value in theirs.items() if key != b"created_at"
    }
    assert set(mine) - set(theirs) == {b"failure_ttl"}
    assert due == redis.zscore(STORE, run_id)


@pytest.mark.parametrize("moment", [datetime(2030, 1, 1), "2030-01-01", 5])
def test_a_time_without_a_zone_is_refused(app: Cronq, job: JobSpec, redis: Redis, moment: Any) -> None:
    with pytest.raises(DefinitionError, match=r"mail.*moment"):
        app.enqueue_at(moment, "mail")

    assert not redis.exists(STORE)


@pytest.mark.parametrize("delay", ["soon", -1, "300w", True, float("nan")])
def test_a_delay_that_means_nothing_is_refused(app: Cronq, job: JobSpec, redis: Redis, delay: Any) -> None:
    with pytest.raises(DefinitionError, match=r"mail.*delay"):
        app.enqueue_in("6000w" if delay == "300w" else delay, "mail")

    assert not redis.exists(STORE)


def test_arguments_are_as_large_as_those_of_a_run_that_is_made_now(redis_url: str, job: JobSpec, redis: Redis) -> None:
    small = Cronq(config=Config(url=redis_url, max_args=1000), registry=Registry(), client=redis)
    before = redis.dbsize()

    for make in (
        lambda: small.enqueue(job.name, ("x" * 5000,)),
        lambda: small.enqueue_in("5m", job.name, ("x" * 5000,)),
        lambda: small.enqueue_at(datetime.now(UTC), job.name, ("x" * 5000,)),
    ):
        with pytest.raises(DefinitionError, match="CRONQ_MAX_ARGS"):
            make()
    assert redis.dbsize() == before


def test_a_job_that_does_not_exist_has_no_delayed_runs(app: Cronq, redis: Redis) -> None:
    with pytest.raises(UnknownJob):
        app.enqueue_in(5, "nobody")

    assert not redis.exists(STORE)


def test_a_delayed_run_does_not_stand_in_the_way_of_ticks(app: Cronq, store: Store, now: float) -> None:
    store("minutely", mark=int(now) // 60 * 60 - 60)
    app.enqueue_in("1h", "minutely")

    beat = app.beat()
    beat.epoch, _ = app.jobs.open_epoch()
    beat.pass_once(now)

    assert [each.state for each in app.history("minutely")] == ["waiting", "queued"]


# Stopping and moving


def test_stopping_it_takes_it_out_for_good(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_in("5m", "mail")

    assert app.stop(run_id) == [run_id]

    settled = row(app, run_id)
    assert (settled.outcome, settled.state) == ("stopped", "done")
    assert not redis.exists(STORE, "cronq:delayed", "cronq:job:mail:given")
    serve(app, now + 1000)
    assert not redis.exists("rq:queue:post")


def test_removing_its_job_stops_it(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_in("5m", "mail")

    assert app.remove("mail") == 1

    assert row(app, run_id).outcome == "stopped"
    assert not redis.exists(STORE, "cronq:delayed")


def test_it_can_be_moved(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_in("5m", "mail")

    app.reschedule(run_id, at(int(now) + 30))
    serve(app, now + 25)
    assert row(app, run_id).state == "waiting"
    serve(app, now + 31)

    assert row(app, run_id).state == "queued"
    with pytest.raises(UnknownRun):
        app.reschedule(run_id, at(int(now) + 60))
    assert not redis.exists(STORE)


def test_a_row_does_not_expire_before_its_run(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_in("60d", "mail")

    assert redis.ttl(f"cronq:run:{run_id}") == redis.ttl(f"rq:job:{run_id}") == -1
    app.stop(run_id)
    assert redis.ttl(f"cronq:run:{run_id}") > 0


# What others do


def test_rq_scheduler_reads_cancels_and_moves_it(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    scheduler = Scheduler(connection=redis)
    cancelled, moved = app.enqueue_in("5m", "mail"), app.enqueue_in("5m", "mail")
    assert {each.id for each in scheduler.get_jobs()} == {cancelled, moved}
    assert cancelled in scheduler

    scheduler.cancel(cancelled)
    [theirs] = scheduler.get_jobs()
    scheduler.change_execution_time(theirs, at(now + 30).replace(tzinfo=None))
    serve(app, now + 20)

    assert (row(app, cancelled).outcome, row(app, cancelled).state) == ("stopped", "done")
    assert "taken out of rq-scheduler" in str(row(app, cancelled).reason)
    assert row(app, moved).state == "waiting"
    serve(app, now + 31)
    assert row(app, moved).state == "queued"


def test_one_whose_rq_job_was_deleted_ends_stopped(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    run_id = app.enqueue_in("5m", "mail")
    redis.delete(f"rq:job:{run_id}")

    serve(app, now + 302)

    assert (row(app, run_id).outcome, row(app, run_id).reason) == ("stopped", "its RQ job was deleted")
    assert not redis.exists(STORE, "rq:queue:post")


def test_one_that_a_stock_scheduler_served_is_queued_not_stopped(
    app: Cronq, job: JobSpec, redis: Redis, now: float
) -> None:
    run_id = app.enqueue_at(at(now - 5), "mail")
    Scheduler(connection=redis).enqueue_jobs()
    assert Queue("post", connection=redis).job_ids == [run_id]

    serve(app, now + 1)

    assert row(app, run_id).state == "queued"
    assert not redis.exists("cronq:delayed")
    assert redis.llen("rq:queue:post") == 1


# The beat


def test_a_beat_wakes_for_it(app: Cronq, job: JobSpec, now: float) -> None:
    beat = app.beat()
    beat.epoch, _ = app.jobs.open_epoch()
    app.enqueue_at(at(int(now) + 2), "mail")

    assert 0 < beat.pass_once(int(now) + 1.75).wait_s <= 0.27
    assert beat.serving is not None
    beat.serving.due_boot = 1e12
    beat.pass_once(int(now) + 2.1)
    assert beat.serving.due_boot == 0.0


def test_one_beat_of_many_serves_it(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    for _ in range(50):
        app.enqueue_at(at(now - 5), "mail")
    beats = [app.scheduled_stores(f"beat {number}") for number in range(3)]
    readings = [beat._look(now + 1, {}) for beat in beats]
    assert [len(reading) for reading in readings] == [50, 50, 50]

    from cronq.interop.rq_scheduler import order_for

    codes = [
        code
        for beat, reading in zip(beats, readings, strict=True)
        for code, _ in beat.serve([order_for(entry, now + 1, "UTC") for entry in reading], now + 1)
    ]

    assert sorted(codes) == ["served"] * 50 + ["taken"] * 100
    assert redis.llen("rq:queue:post") == 50


WRONG = {
    "rq:queue:post": lambda redis, key: redis.set(key, "junk"),
    "rq:queues": lambda redis, key: redis.set(key, "junk"),
    "cronq:events": lambda redis, key: redis.set(key, "junk"),
    "cronq:job:mail:given": lambda redis, key: redis.set(key, "junk"),
    "rq:scheduler_lock": lambda redis, key: redis.hset(key, "a", "b"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_key_of_a_wrong_type_leaves_it_where_it_is(
    app: Cronq, job: JobSpec, redis: Redis, now: float, key: str
) -> None:
    run_id = app.enqueue_in(1, "mail")
    kept = redis.dump(key) if redis.exists(key) else None
    redis.delete(key)
    WRONG[key](redis, key)

    serve(app, now + 5)
    serve(app, now + 6)

    assert row(app, run_id).state == "waiting"
    assert redis.zscore(STORE, run_id) is not None
    redis.delete(key)
    if kept is not None:
        redis.restore(key, 0, kept)
    serve(app, now + 7)
    assert row(app, run_id).state == "queued"


@pytest.mark.parametrize("key", [STORE, "rq:scheduler_lock", "rq:scheduled:post", "cronq:delayed", "cronq:aside"])
def test_a_wrong_type_there_keeps_no_job_from_its_ticks(
    app: Cronq, store: Store, redis: Redis, now: float, key: str
) -> None:
    store("minutely", mark=int(now) // 60 * 60 - 60, queue="post")
    redis.sadd("rq:queues", "rq:queue:post")
    redis.set(key, "junk") if key != "rq:scheduler_lock" else redis.hset(key, "a", "b")
    beat = app.beat()
    beat.epoch, _ = app.jobs.open_epoch()

    assert beat.pass_once(now).codes == {"won": 1}
    beat.do_chores()

    assert redis.llen("rq:queue:post") == 1


def test_moving_the_list_of_delayed_runs_aside_is_said(
    app: Cronq, job: JobSpec, redis: Redis, now: float, caplog: pytest.LogCaptureFixture
) -> None:
    app.enqueue_in(60, "mail")
    redis.delete("cronq:delayed")
    redis.set("cronq:delayed", "junk")
    serving = app.scheduled_stores("beat")
    serving._ours = 1

    for second in (1, 20):
        serving.once(now + second)

    assert redis.type("cronq:delayed") in (b"none", b"zset")
    assert "MEND moved cronq:delayed aside for a week" in caplog.text


def test_without_permission_for_rq_schedulers_keys_ticks_are_claimed_all_the_same(
    app: Cronq, store: Store, redis: Redis, redis_url: str, now: float
) -> None:
    store("minutely", mark=int(now) // 60 * 60 - 60)
    redis.execute_command(
        "ACL", "SETUSER", "narrow", "on", ">x", "+@all", "~cronq:*", "~rq:queue*", "~rq:job:*", "&*", "~lock*"
    )
    try:
        with Redis.from_url(redis_url, username="narrow", password="x") as client:
            beat: Beat = Cronq(config=app.config, registry=app.registry, client=client).beat()
            beat.epoch = app.jobs.open_epoch()[0]
            assert beat.pass_once(now).codes == {"won": 1}
            beat.do_chores()
            assert beat.serving is not None
            assert not beat.serving.is_failing or beat.chores[1].due_boot > 0
    finally:
        redis.execute_command("ACL", "DELUSER", "narrow")


def test_delays_are_seconds_words_or_timedeltas(app: Cronq, job: JobSpec, redis: Redis, now: float) -> None:
    ids = [app.enqueue_in(delay, "mail") for delay in (60, "1m", timedelta(minutes=1))]

    scores = [redis.zscore(STORE, run_id) for run_id in ids]
    assert all(score is not None and now + 59 <= score <= now + 65 for score in scores)
