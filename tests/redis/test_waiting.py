"""A run that waits is woken, whatever becomes of the lists that say who waits for what."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.beat import open_runs, waiting
from cronq.beat.sweep import Sweep
from cronq.jobs.spec import JobSpec
from cronq.runs.timing import Timing
from cronq.timetext import utc

Store = Callable[..., JobSpec]
Walk = Callable[[float], object]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400


@pytest.fixture
def walk(app: Cronq) -> Walk:
    """What a beat does of it in one pass."""
    return next(chore.work for chore in app.beat().chores if chore.name == "waiting")


@pytest.fixture
def parked(app: Cronq, redis: Redis, store: Store) -> str:
    """A run of `b` that waits for the lock `a`, which somebody holds."""
    store("a", mark=T, exclusive=True)
    store("b", mark=T, exclusive=True, lock="a")
    redis.set("lock:cronq:a", "somebody", ex=60)
    return park(app, "b", "a")


def park(app: Cronq, job: str, lock: str) -> str:
    run_id = app.enqueue(job)
    app.client.lmove("rq:queue:default", "rq:queue:default:intermediate")
    assert app.runs.park(app.runs.get(run_id), lock, app.now_s())
    return run_id


def sweep(app: Cronq) -> None:
    Sweep(app.client, app.keys, app.runs, by="beat box.1", timing=Timing(30.0)).once()


def forget_list(app: Cronq, redis: Redis) -> None:
    redis.delete("cronq:job:a:waiting")


def forget_locks(app: Cronq, redis: Redis) -> None:
    redis.delete("cronq:waiting")


def forget_both(app: Cronq, redis: Redis) -> None:
    redis.delete("cronq:job:a:waiting", "cronq:waiting")


def overwrite_list(app: Cronq, redis: Redis) -> None:
    redis.delete("cronq:job:a:waiting")
    redis.set("cronq:job:a:waiting", "junk")


def overwrite_locks(app: Cronq, redis: Redis) -> None:
    redis.delete("cronq:waiting")
    redis.set("cronq:waiting", "junk")


def remove_the_job_of_that_name(app: Cronq, redis: Redis) -> None:
    app.remove("a")


@pytest.mark.parametrize(
    "lose",
    [forget_list, forget_locks, forget_both, overwrite_list, overwrite_locks, remove_the_job_of_that_name],
    ids=lambda lose: lose.__name__,
)
def test_a_run_is_woken_when_its_lock_is_free_whatever_list_was_lost(
    app: Cronq, redis: Redis, walk: Walk, parked: str, lose: Callable[[Cronq, Redis], None]
) -> None:
    lose(app, redis)
    redis.delete("lock:cronq:a")

    walk(T)
    walk(T)
    sweep(app)

    assert redis.lrange("rq:queue:default", 0, -1) == [parked.encode()]
    assert app.runs.get(parked).state == "queued"


def test_a_run_whose_lock_is_held_goes_on_waiting(app: Cronq, redis: Redis, walk: Walk, parked: str) -> None:
    forget_both(app, redis)

    walk(T)
    sweep(app)

    assert redis.llen("rq:queue:default") == 0
    assert app.runs.get(parked).state == "waiting"
    assert redis.smembers("cronq:waiting") == {b"a"}


def test_those_that_are_where_they_belong_keep_their_turn(
    app: Cronq, redis: Redis, walk: Walk, parked: str, caplog: pytest.LogCaptureFixture
) -> None:
    second = park(app, "b", "a")
    before = redis.zrange("cronq:job:a:waiting", 0, -1, withscores=True)

    walk(T)

    assert redis.zrange("cronq:job:a:waiting", 0, -1, withscores=True) == before
    assert [run_id.decode() for run_id, _ in before] == [parked, second]
    assert not caplog.records


def test_a_run_that_was_woken_meanwhile_is_not_listed_again(app: Cronq, redis: Redis, walk: Walk, parked: str) -> None:
    app.runs.wake_waiter("a")
    redis.hset("cronq:job:b:active", parked, "waiting")  # as the walk read it a moment before

    walk(T)

    assert not redis.exists("cronq:job:a:waiting")


def test_a_delayed_run_is_looked_after_again_when_the_list_of_those_was_lost(
    app: Cronq, redis: Redis, store: Store, walk: Walk
) -> None:
    store("a", mark=T)
    due_s = int(app.now_s()) + 600
    kept, lost = (app.enqueue_at(utc(due_s), "a") for _ in range(2))
    redis.delete("cronq:delayed")
    redis.zrem("rq:scheduler:scheduled_jobs", lost)

    walk(T)

    assert redis.zrange("cronq:delayed", 0, -1, withscores=True) == [(lost.encode(), T), (kept.encode(), due_s)]
    assert {run.state for run in app.runs.rows([kept, lost])} == {"waiting"}


def test_all_that_wait_are_found_however_many_a_job_has(
    app: Cronq, redis: Redis, walk: Walk, parked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ids = [parked, *(park(app, "b", "a") for _ in range(40))]
    for module, name, value in ((open_runs, "_BATCH", 5), (open_runs, "_FEW_RUNS", 3), (waiting, "_MOST_BATCHES", 2)):
        monkeypatch.setattr(module, name, value)
    forget_both(app, redis)

    for _ in range(10):
        walk(T)

    assert {member.decode() for member in redis.zrange("cronq:job:a:waiting", 0, -1)} == set(run_ids)
