"""RQ's cron record of our jobs: read back by RQ's own code, by one beat at a time, and never in anybody's way."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from rq.cron import CronJob, CronScheduler

from cronq.app.app import Cronq
from cronq.app.beat_parts import make_rq_cron
from cronq.db.keys import Keys
from cronq.interop.rq_cron import RqCron
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec
from tests.redis.conftest import work
from tests.system.processes import until

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400


@pytest.fixture
def now() -> float:
    """The real time: RQ's own code takes a record for dead whose heartbeat is two minutes old."""
    return float(int(time.time()))


@pytest.fixture
def publisher(app: Cronq) -> RqCron:
    return make_rq_cron(app, "box.1")


@pytest.fixture
def read(redis: Redis, app: Cronq) -> Callable[[], dict[str, CronJob]]:
    """The jobs that RQ's own code finds in the only record, by name."""

    def _read() -> dict[str, CronJob]:
        (record,) = CronScheduler.all(connection=redis)
        return {job.name: job for job in record.get_jobs()}

    return _read


def test_rq_reads_the_record_as_its_own(app: Cronq, store: Store, redis: Redis, publisher: RqCron, now: float) -> None:
    store("invoices", mark=T - 1, cron="30 7 * * 1-5", tz="Asia/Tokyo", queue="nightly", timeout="90s")
    app.heartbeats.publish(
        "beats", "app-2.7", {"host": "app-2", "pid": 7, "started_at": now - 3000, "seen_at": now - 3}
    )
    app.heartbeats.publish("beats", "old.7", {"host": "old", "pid": 7, "started_at": now - 9999, "seen_at": now - 60})

    assert publisher.publish(now)

    record = CronScheduler.fetch("cronq", connection=redis)
    (job,) = record.get_jobs()
    assert (record.name, record.hostname, record.config_file) == ("cronq", "box", "cronq, beats on app-2, box")
    assert record.created_at == datetime.fromtimestamp(now - 3000, UTC)
    assert record.last_heartbeat == datetime.fromtimestamp(now, UTC)
    assert (job.name, job.func_name, job.queue_name) == ("invoices", f"{work.__module__}.work", "nightly")
    assert (job.cron, job.interval, job.args, job.kwargs) == ("30 7 * * 1-5", None, (), {})
    assert job.next_enqueue_time == datetime(2026, 1, 5, 22, 30, tzinfo=UTC)
    assert job.latest_enqueue_time is None
    assert job.job_options["meta"] == {"cronq_job": "invoices", "schedule": "30 7 * * 1-5", "timezone": "Asia/Tokyo"}
    assert redis.ttl("rq:cron_scheduler:cronq") == 120


def test_the_record_has_the_fields_that_rq_writes(
    app: Cronq, store: Store, redis: Redis, publisher: RqCron, now: float
) -> None:
    store("invoices", mark=T - 1)
    publisher.publish(now)
    ours = redis.hgetall("rq:cron_scheduler:cronq")
    theirs = CronScheduler(connection=redis, name="theirs")
    options: dict[str, Any] = {"job_timeout": 1, "result_ttl": 1, "failure_ttl": 1, "meta": {"a": 1}}
    theirs._cron_jobs = [CronJob("default", func_name="a.b", cron="* * * * *", name="j", **options)]
    theirs.register_birth()
    known = redis.hgetall(theirs.key)

    assert set(ours) == set(known)
    mine, other = json.loads(ours[b"cron_jobs"])[0], json.loads(known[b"cron_jobs"])[0]
    assert set(mine) == set(other)
    for name in ("next_enqueue_time",):
        assert len(mine[name]) == len(other[name])
    assert redis.type("rq:cron_schedulers") == b"zset"
    assert set(redis.zrange("rq:cron_schedulers", 0, -1)) == {b"cronq", b"theirs"}


@pytest.mark.parametrize(
    ("options", "cron", "interval"),
    [
        ({"cron": "@daily"}, "0 0 * * *", None),
        ({"cron": "10,40 * * * * *"}, "* * * * * 10,40", None),
        ({"cron": "0 0 L * *"}, "0 0 L * *", None),
        ({"cron": None, "every": "90s"}, None, 90),
        ({"cron": None, "every": "2d", "at": "10:00", "tz": "Europe/Berlin"}, None, 2 * 86400),
    ],
    ids=str,
)
def test_schedules_are_written_as_rq_writes_them(
    store: Store,
    publisher: RqCron,
    read: Callable[[], dict[str, CronJob]],
    options: dict[str, Any],
    cron: str | None,
    interval: int | None,
    now: float,
) -> None:
    spec = store("job", mark=T, **options)

    publisher.publish(now)

    job = read()["job"]
    assert (job.cron, job.interval) == (cron, interval)
    assert spec.schedule is not None
    assert job.next_enqueue_time == datetime.fromtimestamp(spec.schedule.next_after(T) or 0, UTC)


def test_a_hashed_schedule_is_published_as_what_it_became(
    store: Store, publisher: RqCron, read: Callable[[], dict[str, CronJob]], now: float
) -> None:
    store("job", mark=T, cron="H H * * *")

    publisher.publish(now)

    assert "H" not in (read()["job"].cron or "H")


def test_a_schedule_that_its_readers_cannot_parse_does_not_empty_their_page(
    app: Cronq, store: Store, publisher: RqCron, read: Callable[[], dict[str, CronJob]], now: float
) -> None:
    store("good", mark=T)
    store("last-weekday", mark=T, cron="0 0 LW * *")
    app.jobs.save(
        replace(store("by-hand", mark=T), cron=None), source="", origin="", expected=app.jobs.version_of("by-hand")
    )
    app.client.hset(app.keys.job("damaged"), "spec", "junk")
    app.client.zadd(app.keys.agenda, {"damaged": T, "ghost": T})

    publisher.publish(now)

    assert set(read()) <= {"good", "last-weekday"}
    assert "good" in read()


def test_the_latest_run_and_a_pause_are_told(
    app: Cronq, store: Store, publisher: RqCron, read: Callable[[], dict[str, CronJob]], now: float
) -> None:
    store("job", mark=T)
    app.client.hset(app.keys.state("job"), "last_tick", T - 60)
    app.pause("job", note="<b>move</b>")

    publisher.publish(now)

    job = read()["job"]
    assert job.latest_enqueue_time == datetime.fromtimestamp(T - 60, UTC)
    assert job.job_options["meta"]["paused_by"] == app.who


# Who publishes


def test_one_beat_publishes_until_it_falls_silent_and_then_another(
    app: Cronq, store: Store, redis: Redis, publisher: RqCron, now: float
) -> None:
    store("job", mark=T)
    other = make_rq_cron(app, "box.2")

    assert [publisher.publish(now), other.publish(now), publisher.publish(now + 30), other.publish(now + 30)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert redis.zscore("rq:cron_schedulers", "cronq") == now + 30
    assert 60 <= redis.ttl(app.keys.rq_cron) <= 70

    redis.delete(app.keys.rq_cron)  # its time has run out

    assert [other.publish(now + 120), publisher.publish(now + 120)] == [True, False]
    assert len(CronScheduler.all(connection=redis)) == 1


def test_installations_beside_each_other_have_a_record_each(
    app: Cronq, redis: Redis, publisher: RqCron, now: float
) -> None:
    theirs = Cronq(config=replace(app.config, prefix="other"), registry=Registry(), client=redis)

    publisher.publish(now)
    make_rq_cron(theirs, "box.2").publish(now)

    assert {each.name for each in CronScheduler.all(connection=redis, cleanup=False)} == {"cronq", "other"}


def test_beats_publish_unless_told_not_to(app: Cronq) -> None:
    quiet = Cronq(config=replace(app.config, publish_rq_cron=False), registry=Registry(), client=app.client)

    assert "rq-cron" in {chore.name for chore in app.beat().chores}
    assert "rq-cron" not in {chore.name for chore in quiet.beat().chores}


# Never in anybody's way


def wait_for(publisher: RqCron) -> None:
    assert publisher._thread is not None
    publisher._thread.join(10)
    assert not publisher._thread.is_alive()


def test_what_goes_wrong_is_said_once_until_it_is_well_again(
    app: Cronq, redis: Redis, publisher: RqCron, caplog: pytest.LogCaptureFixture, now: float
) -> None:
    caplog.set_level(logging.WARNING, "cronq.beat")
    redis.set("rq:cron_schedulers", "junk")
    for _ in range(3):
        publisher.once(now)
        wait_for(publisher)
    assert [record.getMessage()[:30] for record in caplog.records] == ["RQ-CRON the record for RQ's to"]
    assert redis.get("rq:cron_schedulers") == b"junk"

    redis.delete("rq:cron_schedulers")
    publisher.once(now)
    wait_for(publisher)

    assert redis.zscore("rq:cron_schedulers", "cronq") == now


def test_a_server_that_does_not_answer_holds_up_no_pass(
    redis_server: Any, store: Store, caplog: pytest.LogCaptureFixture, now: float
) -> None:
    with Redis.from_url(redis_server.url) as client:
        client.ping()
        stuck = RqCron(client, Keys(), None, beat_id="box.1", host="box", pid=1)  # type: ignore[arg-type]
        redis_server.pause()
        try:
            stuck.once(now)
            stuck.once(now)
            assert stuck._thread is not None
            assert stuck._thread.is_alive()
        finally:
            redis_server.resume()
        until(lambda: not stuck._thread.is_alive(), what="the end of its thread")  # type: ignore[union-attr]
