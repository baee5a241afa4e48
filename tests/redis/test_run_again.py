"""A tick that somebody runs once more is the next attempt of its run, whatever became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.errors import Conflict, CronqError, SpanRefused, UnknownJob, UnknownRun
from cronq.jobs.spec import JobSpec
from tests.redis.queue_worker import Worker
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR = 60, 3600


@pytest.fixture
def worker(app: Cronq) -> Worker:
    return Worker(app)


def queued(redis: Redis) -> list[str]:
    return [run_id.decode() for run_id in redis.lrange("rq:queue:default", 0, -1)]


def test_the_newest_tick_runs_again_and_what_became_of_it_before_is_kept(
    app: Cronq, store: Store, worker: Worker, redis: Redis
) -> None:
    store("etl", mark=T - MINUTE)
    app.beat().pass_once(T)
    run_id = run_id_of("etl", T)
    worker.outcomes[run_id] = "failed"
    worker.work()
    worker.outcomes.clear()

    assert app.run_again("etl") == run_id
    again = app.runs.get(run_id)
    worker.work()

    assert (again.state, again.attempt, again.tick, again.decided_by) == ("queued", 2, T, app.who)
    assert again.reason == f"asked for by {app.who}, once more"
    done = app.runs.get(run_id)
    assert (done.outcome, done.attempt, [each.outcome for each in done.attempts]) == ("succeeded", 2, ["failed"])
    assert [run.tick for run in app.history("etl")] == [T]
    assert app.jobs.get("etl").state.mark == T
    (who,) = [
        fields[b"by"].decode() for _, fields in redis.xrange("cronq:events")
        if fields[b"type"] == b"queued" and b"by" in fields
    ]  # fmt: skip
    assert who == app.who


def test_a_tick_that_has_succeeded_runs_again_as_often_as_somebody_asks(
    app: Cronq, store: Store, worker: Worker
) -> None:
    store("etl", mark=T - MINUTE)
    app.beat().pass_once(T)
    worker.work()

    for _ in range(2):
        app.run_again("etl", T)
        worker.work()

    run = app.runs.get(run_id_of("etl", T))
    assert (run.attempt, run.outcome, len(run.attempts)) == (3, "succeeded", 2)


def test_neither_a_pause_nor_a_missed_tick_keeps_it_back(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T - 10 * MINUTE, catchup="skip", overlap="allow")
    app.beat().pass_once(T)
    app.pause("etl")
    missed = T - 5 * MINUTE

    run_id = app.run_again("etl", missed)
    worker.work()

    run = app.runs.get(run_id)
    assert (run.tick, run.outcome, run.attempt) == (missed, "succeeded", 2)
    assert [each.outcome for each in run.attempts] == ["missed"]
    others = [run.tick for run in app.history("etl", until_s=T - 1, since_s=T - HOUR) if run.outcome == "missed"]
    assert others[::-1] == [tick for tick in range(T - 9 * MINUTE, T, MINUTE) if tick != missed]


def test_a_tick_blocked_by_a_parent_runs_again_without_it(app: Cronq, store: Store, worker: Worker) -> None:
    store("load", mark=T - HOUR, cron="0 * * * *")
    store("report", mark=T - HOUR, cron="0 * * * *", depends_on=["load"])
    worker.outcomes[run_id_of("load", T)] = "failed"
    app.beat().pass_once(T)
    worker.work()
    app.beat().pass_once(T + HOUR)
    run_id = run_id_of("report", T)
    assert app.runs.get(run_id).outcome == "blocked"

    app.run_again("report", T)
    worker.work()

    assert app.runs.get(run_id).outcome == "succeeded"


def test_one_that_is_on_its_way_is_left_alone(app: Cronq, store: Store, redis: Redis) -> None:
    store("etl", mark=T - MINUTE)
    app.beat().pass_once(T)

    with pytest.raises(Conflict, match=r"etl-20260105T070000Z is on its way; wait for its end, or `cronq stop "):
        app.run_again("etl")

    assert len(queued(redis)) == 1


def test_of_many_that_ask_at_once_one_has_its_way(app: Cronq, store: Store, worker: Worker, redis: Redis) -> None:
    store("etl", mark=T - MINUTE)
    app.beat().pass_once(T)
    worker.work()
    refused: list[str] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        try:
            app.run_again("etl")
        except CronqError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(queued(redis)) == 1
    assert len(refused) <= 7
    assert app.runs.get(run_id_of("etl", T)).attempt == 2


def test_what_cannot_run_again_says_why(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T - MINUTE)
    store("once", mark=T - MINUTE, at_most_once=True)

    with pytest.raises(UnknownRun, match=r"has had no tick yet that could run again; `cronq run etl` runs it"):
        app.run_again("etl")
    app.beat().pass_once(T)
    worker.work()
    with pytest.raises(UnknownRun, match=r"no tick 2026-01-05T05:00:00Z in its history; `cronq backfill etl --tick "):
        app.run_again("etl", T - 2 * HOUR)
    with pytest.raises(SpanRefused, match=r"was begun, and its job asks for at_most_once"):
        app.run_again("once")
    with pytest.raises(UnknownJob):
        app.run_again("nothing")


def test_a_run_by_hand_is_no_tick(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T - MINUTE)
    app.beat().pass_once(T)
    app.enqueue("etl")
    worker.work()

    assert app.run_again("etl") == run_id_of("etl", T)
