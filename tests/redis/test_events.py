"""What changes a run or a job appends one entry to the stream of events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from redis import Redis
from rq_scheduler import Scheduler

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.timetext import utc

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400


def told(app: Cronq, run_id: str) -> list[str]:
    """What the stream says of a run, in order."""
    entries = [fields for _, fields in app.client.xrange(app.keys.events)]
    return [fields[b"type"].decode() for fields in entries if fields.get(b"run") == run_id.encode()]


def park(app: Cronq, run_id: str) -> None:
    app.client.lmove("rq:queue:default", "rq:queue:default:intermediate")
    assert app.runs.park(app.runs.get(run_id), "a", app.now_s())


@pytest.fixture
def run_id(app: Cronq, store: Store) -> str:
    """A queued run of `a`."""
    store("a", mark=T)
    return app.enqueue("a")


def test_a_run_that_waits_for_its_lock_is_parked_and_woken(app: Cronq, run_id: str) -> None:
    park(app, run_id)
    assert app.runs.wake_waiter("a")

    assert told(app, run_id) == ["queued", "parked", "woken"]
    assert not app.runs.wake_waiter("a")
    assert told(app, run_id) == ["queued", "parked", "woken"]


def test_the_job_stands_beside_the_run(app: Cronq, run_id: str) -> None:
    park(app, run_id)
    app.runs.wake_waiter("a")

    entries = [fields for _, fields in app.client.xrange(app.keys.events) if b"run" in fields]
    assert [(fields[b"type"], fields[b"job"]) for fields in entries] == [
        (b"queued", b"a"), (b"parked", b"a"), (b"woken", b"a"),
    ]  # fmt: skip


def test_an_event_stream_of_a_wrong_type_keeps_no_run_from_being_parked_and_woken(
    app: Cronq, redis: Redis, run_id: str
) -> None:
    redis.delete("cronq:events")
    redis.set("cronq:events", "junk")

    park(app, run_id)
    assert app.runs.get(run_id).state == "waiting"
    assert app.runs.wake_waiter("a")

    assert app.runs.get(run_id).state == "queued"
    assert redis.lrange("rq:queue:default", 0, -1) == [run_id.encode()]


def test_a_delayed_run_that_is_moved_is_rescheduled(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    run_id = app.enqueue_in("5m", "a")

    app.reschedule(run_id, utc(app.now_s()) + timedelta(seconds=30))

    assert told(app, run_id) == ["delayed", "rescheduled"]


def test_an_entry_of_somebody_else_in_rq_schedulers_store_is_no_run(app: Cronq, redis: Redis) -> None:
    Scheduler(connection=redis).enqueue_in(timedelta(minutes=5), print, job_id="theirs")

    app.reschedule("theirs", utc(app.now_s()) + timedelta(seconds=30))

    assert told(app, "theirs") == []


def test_a_delayed_run_that_a_stock_scheduler_served_is_queued(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T)
    run_id = app.enqueue_at(utc(app.now_s() - 5), "a")
    Scheduler(connection=redis).enqueue_jobs()

    app.scheduled_stores("beat test").once(app.now_s() + 1)

    assert told(app, run_id) == ["delayed", "queued"]
