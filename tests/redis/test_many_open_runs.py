"""Jobs with many open runs: what a claim looks at, what is kept of the ledger, and what the release before has left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.beat.beat import Beat
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Settlement, Start

Store = Callable[..., JobSpec]


@pytest.fixture
def beat(app: Cronq) -> Beat:
    beat = app.beat()
    beat.epoch, _ = app.jobs.open_epoch()
    return beat


def ticks(app: Cronq, name: str) -> list[str]:
    return [run.outcome or run.state for run in app.history(name, 1000) if run.tick is not None]


def start(app: Cronq, run_id: str, now_s: float) -> None:
    app.client.lmove("rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT")
    run = app.runs.get(run_id)
    app.runs.start(run, Start(worker="w", host="box", pid=1, execution=run_id, lease_s=90, now_s=now_s))


def settle(app: Cronq, run_id: str, now_s: float) -> None:
    done = Settlement("succeeded", "it ran to its end")
    assert app.runs.settle(app.runs.get(run_id), Ending(done, by="worker w", now_s=now_s, execution=run_id))


def move_to_active(app: Cronq, name: str) -> None:
    """Keep open runs where the release before kept all of them."""
    app.client.rename(app.keys.given(name), app.keys.active(name))


# Overlap


def test_only_runs_of_ticks_stand_in_the_way_of_a_tick(app: Cronq, store: Store, beat: Beat) -> None:
    now = app.exact_now_s()
    minute = int(now) // 60 * 60
    store("minutely", mark=minute - 180)
    by_hand = app.enqueue("minutely")
    start(app, by_hand, now)

    beat.pass_once(minute - 120.0)
    beat.pass_once(minute - 60.0)

    assert ticks(app, "minutely") == ["skipped", "queued"]
    assert app.runs.active(["minutely"])["minutely"][by_hand] == "running"


def test_runs_by_hand_of_the_release_before_neither_stand_in_the_way_nor_hide_the_run_that_does(
    app: Cronq, store: Store, beat: Beat, redis: Redis
) -> None:
    now = app.exact_now_s()
    minute = int(now) // 60 * 60
    store("minutely", mark=minute - 240)
    made = [app.enqueue_in("1h", "minutely") for _ in range(300)] + [app.enqueue("minutely")]
    move_to_active(app, "minutely")

    beat.pass_once(minute - 180.0)
    beat.pass_once(minute - 120.0)

    assert ticks(app, "minutely") == ["skipped", "queued"]
    assert redis.hlen("cronq:job:minutely:active") == 1
    assert set(app.runs.active(["minutely"])["minutely"]) >= set(made)


def test_a_run_by_hand_that_the_release_before_made_ends_in_both_places(app: Cronq, store: Store, redis: Redis) -> None:
    now = app.exact_now_s()
    store("a", mark=int(now))
    run_id = app.enqueue("a")
    redis.hset("cronq:job:a:active", run_id, "queued")

    start(app, run_id, now)
    settle(app, run_id, now + 1)

    assert app.runs.active(["a"]) == {"a": {}}


def test_a_settled_run_that_the_release_before_left_among_the_open_ones_is_dropped(
    app: Cronq, store: Store, redis: Redis
) -> None:
    now = app.exact_now_s()
    store("a", mark=int(now))
    run_id = app.enqueue("a")
    start(app, run_id, now)
    settle(app, run_id, now + 1)
    redis.hset("cronq:job:a:given", run_id, "queued")

    for chore in app.beat().chores:
        if chore.name == "compare":
            chore.work(now + 2)

    assert app.runs.active(["a"]) == {"a": {}}


# What is kept


def test_open_runs_by_hand_stay_in_the_history_however_many(app: Cronq, store: Store) -> None:
    store("k", mark=int(app.exact_now_s()), keep=10)

    made = [app.enqueue("k") for _ in range(25)] + [app.enqueue_in("1h", "k") for _ in range(25)]

    assert {run.run_id for run in app.history("k", 100)} == set(made)


@pytest.mark.parametrize("delay", [None, "0s"])
def test_settled_runs_without_a_tick_are_kept_as_many_as_asked_for_with_their_rows(
    app: Cronq, store: Store, redis: Redis, delay: str | None
) -> None:
    now = app.exact_now_s()
    store("k", mark=int(now), keep=10)
    serving = app.scheduled_stores("beat test")
    for _ in range(40):
        run_id = app.enqueue("k") if delay is None else app.enqueue_in(delay, "k")
        serving.once(now + 5)
        start(app, run_id, now + 5)
        settle(app, run_id, now + 6)

    rows = list(redis.scan_iter("cronq:run:*"))
    assert 10 <= len(rows) <= 12
    assert redis.zcard("cronq:job:k:manual") == len(rows)


def test_delayed_runs_that_were_made_at_once_do_not_stay_when_they_have_run(
    app: Cronq, store: Store, redis: Redis
) -> None:
    now = app.exact_now_s()
    store("k", mark=int(now), keep=10)
    for second in range(60):
        app.enqueue_in(60 + second, "k")

    serving = app.scheduled_stores("beat test")
    for second in range(62):  # no other is made meanwhile
        serving.once(now + 60 + second)
        for run_id, state in app.runs.active(["k"])["k"].items():
            if state == "queued":
                start(app, run_id, now + 60)
                settle(app, run_id, now + 61)

    assert app.runs.active(["k"]) == {"k": {}}
    assert redis.zcard("cronq:job:k:manual") <= 12


def test_open_runs_that_stand_first_do_not_keep_settled_ones_for_ever(app: Cronq, store: Store, redis: Redis) -> None:
    now = app.exact_now_s()
    store("k", mark=int(now), keep=10)
    opened = [app.enqueue("k") for _ in range(40)]
    redis.delete("rq:queue:default")

    for _ in range(150):
        run_id = app.enqueue("k")
        start(app, run_id, now)
        settle(app, run_id, now + 1)

    kept = {run.run_id for run in app.history("k", 1000)}
    assert set(opened) <= kept
    assert len(kept) < 150


def test_a_run_that_was_longer_at_work_than_all_that_is_kept_is_there_when_it_ends(app: Cronq, store: Store) -> None:
    now = app.exact_now_s()
    store("k", mark=int(now), keep=10)
    long = app.enqueue("k")
    start(app, long, now)
    for _ in range(30):
        run_id = app.enqueue("k")
        start(app, run_id, now)
        settle(app, run_id, now + 1)

    settle(app, long, now + 2)

    assert app.runs.get(long).outcome == "succeeded"
