"""Removing a job that has runs, and stopping all runs of one: however many, and whoever dies over it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, SimpleWorker

from cronq.app.app import Cronq
from cronq.definitions.changes import Changes
from cronq.errors import UnknownJob
from cronq.jobs.spec import JobSpec
from cronq.runs.bulk_stop import BulkStop
from cronq.runs.run import Ending, Settlement, Start
from cronq.runs.store import Started

Store = Callable[..., JobSpec]
QUEUE = "rq:queue:default"
#: 2026-01-05 07:00:00 UTC.
T = 1767596400
POPPED = "rq:queue:default:intermediate"
#: More than a step takes at once, and more than are stopped one by one.
MANY = 700


@pytest.fixture
def now(app: Cronq) -> float:
    return app.exact_now_s()


@pytest.fixture
def job(store: Store, now: float) -> JobSpec:
    return store("a", mark=int(now), cron="0 0 1 1 *")


def outcomes(app: Cronq, run_ids: list[str]) -> set[str | None]:
    return {run.outcome for run in app.runs.rows(run_ids)}


def start(app: Cronq, run_id: str, now_s: float) -> Started:
    app.client.lrem(QUEUE, 1, run_id)
    app.client.rpush(POPPED, run_id)
    run = app.runs.get(run_id)
    return app.runs.start(run, Start(worker="w", host="box", pid=1, execution=run_id, lease_s=90, now_s=now_s))


def die_half_way(app: Cronq, monkeypatch: pytest.MonkeyPatch, name: str, steps: int) -> None:
    """Remove a job, and lose Redis after so many steps of stopping its runs."""
    made = BulkStop._step
    left = [steps]

    def step(self: BulkStop, *args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RedisConnectionError("gone")
        return made(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(BulkStop, "_step", step)
        with pytest.raises(RedisConnectionError):
            app.remove(name)


def lose_first_reply(app: Cronq, monkeypatch: pytest.MonkeyPatch, script: str, owner: object) -> None:
    """Let the first call of *script* be done and then fail, as when its reply comes after the time-out."""
    send = getattr(owner, script)
    calls: list[int] = []

    def lossy(**options: Any) -> Any:
        reply = send(**options)
        calls.append(1)
        if len(calls) == 1:
            raise RedisTimeoutError("Timeout reading from socket")
        return reply

    monkeypatch.setattr(owner, script, lossy)


# Many runs


def test_a_removed_job_stops_all_that_has_not_begun_and_looks_through_no_queue(
    app: Cronq, job: JobSpec, redis: Redis, now: float
) -> None:
    waiting = [app.enqueue_in("1h", "a") for _ in range(MANY)]
    queued = [app.enqueue("a") for _ in range(MANY)]
    redis.config_resetstat()

    assert app.remove("a") == 2 * MANY

    assert "cmdstat_lrem" not in redis.info("commandstats")
    assert outcomes(app, [*waiting, *queued]) == {"stopped"}
    assert {run.reason for run in app.runs.rows(queued)} == {"the job was removed"}
    left = {key.decode() for key in redis.scan_iter("*") if not key.startswith(b"cronq:run:")}
    ledger = {"cronq:job:a:manual", "cronq:job:a:changes", "cronq:job:a:state"}
    assert left <= {QUEUE, "rq:queues", "cronq:events", "cronq:epoch", "cronq:schema"} | ledger


def test_what_lies_in_the_queue_of_a_removed_job_is_passed_over_by_rqs_own_workers_and_tools(
    app: Cronq, job: JobSpec, redis: Redis
) -> None:
    for _ in range(3):
        app.enqueue("a")
    app.remove("a")
    queue = Queue("default", connection=redis)
    other = queue.enqueue("builtins.len", [1, 2])

    assert [each.id for each in queue.jobs] == [other.id]
    SimpleWorker([queue], connection=redis).work(burst=True, logging_level="ERROR")
    assert other.get_status(refresh=True) == "finished"
    assert redis.llen(QUEUE) == 0


def test_a_run_at_work_goes_on_and_still_stands_in_the_way_when_its_job_comes_back(
    app: Cronq, store: Store, now: float
) -> None:
    minute = int(now) // 60 * 60
    store("m", mark=minute - 180)
    beat = app.beat()
    beat.epoch, _ = app.jobs.open_epoch()
    beat.pass_once(minute - 120.0)
    (run_id,) = app.runs.active(["m"])["m"]
    start(app, run_id, now)

    changes = Changes(app.jobs, app.claimer("ann"), app.bulk_stop, app.calendars, lambda: minute - 119.0, 86400)
    assert changes.remove("m", by="ann") == 0
    store("m", mark=minute - 120)
    beat.pass_once(minute - 60.0)

    assert app.runs.get(run_id).state == "running"
    assert [run.outcome for run in app.history("m")] == ["skipped", None]
    assert app.runs.settle(
        app.runs.get(run_id), Ending(Settlement("succeeded", "ok"), by="w", now_s=now + 2, execution=run_id)
    )
    assert app.runs.active(["m"]) == {"m": {}}


def test_all_runs_of_a_job_are_stopped_without_looking_through_its_queue(
    app: Cronq, job: JobSpec, redis: Redis, now: float
) -> None:
    queued = [app.enqueue("a") for _ in range(MANY)]
    waiting = [app.enqueue_in("1h", "a") for _ in range(20)]
    running = app.enqueue("a")
    start(app, running, now)
    redis.config_resetstat()

    assert set(app.stop("a")) == {*queued, *waiting, running}

    assert "cmdstat_lrem" not in redis.info("commandstats")
    assert outcomes(app, [*queued, *waiting]) == {"stopped"}
    assert app.runs.active(["a"]) == {"a": {running: "running"}}
    assert redis.get(app.keys.stop(running)) is not None
    assert not redis.exists("cronq:delayed", "rq:scheduler:scheduled_jobs")
    assert start(app, queued[0], now + 1).code == "settled"


def test_an_rq_job_that_depends_on_a_run_is_not_forgotten_when_all_are_stopped(
    app: Cronq, job: JobSpec, redis: Redis
) -> None:
    queued = [app.enqueue("a") for _ in range(MANY)]
    redis.sadd(f"rq:job:{queued[7]}:dependents", "somebody")

    assert set(app.stop("a")) == set(queued)

    assert outcomes(app, queued) == {"stopped"}
    assert redis.hget(f"rq:job:{queued[7]}", "status") == b"canceled"


def test_a_removed_run_that_waits_for_a_lock_of_another_name_leaves_its_list(
    app: Cronq, store: Store, job: JobSpec, redis: Redis, now: float
) -> None:
    store("b", mark=int(now), exclusive=True, lock="shared")
    waiter = app.enqueue("b")
    redis.delete(QUEUE)
    app.runs.park(app.runs.get(waiter), "shared", now)

    assert app.remove("b") == 1

    assert app.runs.get(waiter).outcome == "stopped"
    assert not redis.exists(app.keys.waiting("shared"))


def test_a_stopped_run_that_waits_for_a_lock_of_another_name_leaves_its_list(
    app: Cronq, store: Store, redis: Redis, now: float
) -> None:
    store("b", mark=int(now), exclusive=True, lock="shared")
    waiter = app.enqueue("b")
    redis.delete(QUEUE)
    app.runs.park(app.runs.get(waiter), "shared", now)

    assert app.stop(waiter) == [waiter]

    assert not redis.exists(app.keys.waiting("shared"))


# Who dies over it


def test_what_a_remover_could_not_finish_the_next_one_does(
    app: Cronq, job: JobSpec, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = [app.enqueue("a") for _ in range(MANY)]
    die_half_way(app, monkeypatch, "a", steps=2)
    assert outcomes(app, queued) == {"stopped", None}

    assert 0 < app.remove("a") < MANY

    assert outcomes(app, queued) == {"stopped"}
    assert not redis.exists("cronq:removals")
    with pytest.raises(UnknownJob):
        app.remove("a")


def test_what_a_remover_could_not_finish_a_beat_does(
    app: Cronq, job: JobSpec, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    queued = [app.enqueue("a") for _ in range(MANY)]
    die_half_way(app, monkeypatch, "a", steps=2)
    (chore,) = [chore for chore in app.beat().chores if chore.name == "removals"]

    chore.work(app.now_s())
    assert None in outcomes(app, queued)  # its remover may still be at it
    chore.work(app.now_s() + 60)

    assert outcomes(app, queued) == {"stopped"}
    assert {run.decided_by for run in app.runs.rows(queued)} == {app.who}
    assert not redis.exists("cronq:removals")


def test_a_job_that_comes_back_at_once_runs_what_it_is_given_and_nothing_of_before(
    app: Cronq, store: Store, job: JobSpec, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [app.enqueue("a") for _ in range(MANY)]
    die_half_way(app, monkeypatch, "a", steps=0)

    store("a", mark=int(now), cron="0 0 1 1 *")
    new = app.enqueue("a")

    assert start(app, old[0], now + 1).code == "removed"
    assert app.runs.get(old[0]).state == "queued"  # nothing was written
    assert start(app, new, now + 1).code == "started"
    assert app.bulk_stop.finish_removal("a", now + 2) == MANY
    assert outcomes(app, old) == {"stopped"}
    assert app.runs.active(["a"]) == {"a": {new: "running"}}


def test_a_job_removed_again_before_its_first_removal_is_finished_leaves_nothing(
    app: Cronq, store: Store, job: JobSpec, redis: Redis, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [app.enqueue("a") for _ in range(MANY)]
    die_half_way(app, monkeypatch, "a", steps=0)
    store("a", mark=int(now), cron="0 0 1 1 *")
    new = [app.enqueue("a") for _ in range(5)]

    assert app.remove("a") == MANY + 5

    assert outcomes(app, [*old, *new]) == {"stopped"}
    assert not redis.exists("cronq:removals", "cronq:removed:a:given", "cronq:removed:a:active")


# Lost replies


def test_a_removal_whose_reply_was_lost_is_no_failure(
    app: Cronq, job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = [app.enqueue("a") for _ in range(3)]
    lose_first_reply(app, monkeypatch, "_remove", app.jobs)

    assert app.remove("a") == 3

    assert outcomes(app, queued) == {"stopped"}


def test_calls_that_are_sent_again_because_their_reply_was_lost_answer_as_the_first_time(
    app: Cronq, job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py sends a command again when its connection breaks."""
    for owner, script in ((app.jobs, "_save"), (app.jobs, "_set_pause"), (app.runs, "_settle")):
        send = getattr(owner, script)

        def twice(send: Any = send, **options: Any) -> Any:
            send(**options)
            return send(**options)

        monkeypatch.setattr(owner, script, twice)

    assert app.add("b", command=["true"]) == "created"
    assert app.add("b", command=["false"]) == "changed"
    assert app.add("b", command=["false"]) == "same"
    app.pause("b")
    assert app.resume("b") is True
    run_id = app.enqueue("b")
    assert app.stop(run_id) == [run_id]
    assert app.stop(run_id) == []


def test_a_job_that_comes_back_never_runs_again_what_it_had_before(app: Cronq, redis: Redis, store: Store) -> None:
    """Two versions of a program side by side: one removes the job, one whose clock is behind stores it again."""
    store("ticking", mark=T)
    app.beat().pass_once(now_s=T + 600.5)
    newest = app.jobs.mark_of("ticking")
    app.remove("ticking")
    removed_at = app.jobs.mark_of("ticking")
    assert newest is not None
    assert removed_at is not None
    assert removed_at > newest, "its last ticks were decided"
    assert 0 < redis.ttl(app.keys.state("ticking")) <= app.runs.row_ttl_s

    store("ticking", mark=T + 300)

    assert app.jobs.mark_of("ticking") == removed_at
    assert redis.ttl(app.keys.state("ticking")) == -1
    rows = len(app.history("ticking"))
    app.beat().pass_once(now_s=T + 600.9)
    assert len(app.history("ticking")) == rows, "no tick from before"
