"""Many at once: a rack of workers dies, hundreds of stock workers are at it, many workers wait for the same push."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.beat.chores import Chore
from cronq.beat.sweep import Sweep
from cronq.clock import boot_s
from cronq.jobs.spec import JobSpec
from cronq.runs.exchange import Taken
from cronq.runs.timing import Timing
from cronq.worker.waking import Waking
from tests.redis.conftest import dequeue_of
from tests.system.processes import until

T = 1_800_000_000.0


@pytest.fixture
def sweep(app: Cronq, redis: Redis) -> Sweep:
    """A sweep that has seen Redis answer for long enough."""
    sweep = Sweep(redis, app.keys, app.runs, by="beat box.1", timing=Timing(0.0))
    sweep.once(T)
    return sweep


def put_at_work(redis: Redis, count: int, heard_s: float, **row: str) -> list[str]:
    """Runs at work, last heard of at *heard_s*."""
    run_ids = [f"a-m{number:08x}" for number in range(count)]
    with redis.pipeline() as pipe:
        for number, run_id in enumerate(run_ids):
            known = {"job": "a", "state": "running", "queue": "default", "attempt": "1", "worker": "w"} | row
            pipe.hset(f"cronq:run:{run_id}", mapping=known)
            pipe.hset("cronq:job:a:active", run_id, "running")
            pipe.zadd("cronq:running", {run_id: heard_s + number / 1000})
        pipe.execute()
    return run_ids


def test_a_pass_goes_on_until_all_lost_runs_are_settled(app: Cronq, redis: Redis, sweep: Sweep) -> None:
    run_ids = put_at_work(redis, 600, T)

    while sweep.once(T + 100):  # it says that it has more to do, as a busy machine makes it
        pass

    assert {run.outcome for run in app.runs.rows(run_ids)} == {"lost"}
    assert redis.zcard("cronq:running") == 0
    assert redis.hlen("cronq:job:a:active") == 0


def test_a_pass_ends_when_its_time_is_over_and_says_that_it_has_more_to_do(
    app: Cronq, redis: Redis, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_at_work(redis, 350, T)
    monkeypatch.setattr("cronq.beat.sweep._BUSY_S", 0.0)
    left = []

    for _ in range(4):
        left.append((sweep.once(T + 100), redis.zcard("cronq:running")))

    assert left == [(True, 250), (True, 150), (True, 50), (False, 0)]


@pytest.mark.parametrize("busy_s", [0.3, 0.0])
def test_all_runs_are_woken_whose_locks_became_free_together(
    app: Cronq, redis: Redis, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, busy_s: float
) -> None:
    monkeypatch.setattr("cronq.beat.sweep._BUSY_S", busy_s)
    with redis.pipeline() as pipe:
        for number in range(250):
            run_id = f"job{number}-m0000000a"
            pipe.sadd("cronq:waiting", f"job{number}")
            pipe.zadd(f"cronq:job:job{number}:waiting", {run_id: 1})
            pipe.hset(f"cronq:run:{run_id}", mapping={"job": f"job{number}", "state": "waiting", "queue": "default"})
        pipe.execute()

    for _ in range(600):  # as long as it says that it has more to do
        if not sweep.once(T + 1):
            break

    assert redis.llen("rq:queue:default") == 250


def test_every_run_of_a_stock_worker_is_looked_at(app: Cronq, redis: Redis, sweep: Sweep) -> None:
    *others, ended = put_at_work(redis, 250, T + 3600)
    for run_id in others:
        redis.hset(f"rq:job:{run_id}", "status", "started")
    redis.hset(f"rq:job:{ended}", "status", "failed")

    for _ in range(10):  # on a busy machine a pass may not reach the end
        sweep.once(T + 1)

    assert app.runs.get(ended).outcome == "failed"
    assert {run.state for run in app.runs.rows(others)} == {"running"}


def test_a_chore_with_more_to_do_leaves_the_others_their_turn(app: Cronq, redis: Redis) -> None:
    done: list[str] = []

    def sweep(now_s: float) -> bool:
        done.append("sweep")
        return done.count("sweep") < 3

    beat = app.beat()
    beat.chores = [Chore("sweep", 60.0, sweep), Chore("heartbeat", 0.0, lambda _: done.append("heartbeat"))]
    stop = threading.Event()
    thread = threading.Thread(target=beat.run, args=[stop])
    begun = boot_s()
    thread.start()
    try:
        until(lambda: done.count("sweep") == 3, 10, "the end of the sweep")
    finally:
        stop.set()
        thread.join()

    assert done[:6] == ["sweep", "heartbeat"] * 3
    assert boot_s() - begun < 5  # not one more each minute


# Waking


@pytest.fixture
def waiting(app: Cronq, redis: Redis) -> Any:
    """A worker's dequeue that waits for the queue `idle`; what it took in the end."""
    dequeue = dequeue_of(app)
    took: list[Any] = []
    dequeue.take(["idle"], 0.0)  # teaches the server the script: from now on a look is one call
    thread = threading.Thread(target=lambda: took.append(dequeue.take(["idle"], 5.0)))
    calls = scripts_run(redis)
    thread.start()
    until(lambda: scripts_run(redis) > calls, 10, "the first look")
    yield dequeue, took
    dequeue.waking.hear("idle")
    redis.rpush("rq:queue:idle", "last")
    dequeue.waking.hear("idle")
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long woken workers waited before they looked; here they do not."""
    noted: list[float] = []
    monkeypatch.setattr("cronq.worker.waking.sleep", noted.append)
    return noted


def scripts_run(redis: Redis) -> int:
    stats = redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


def test_a_push_to_another_queue_makes_a_worker_ask_nothing(redis: Redis, waiting: Any) -> None:
    dequeue, took = waiting
    redis.config_resetstat()

    for _ in range(50):
        dequeue.waking.hear("busy")

    assert not dequeue.waking.woken.is_set()
    assert scripts_run(redis) == 0
    assert took == []


def test_a_worker_that_comes_too_late_counts_what_is_there_and_waits_on(redis: Redis, waiting: Any) -> None:
    dequeue, took = waiting
    dequeue.waking.count_rivals(2)
    redis.config_resetstat()

    dequeue.waking.hear("idle")
    until(lambda: redis.info("commandstats").get("cmdstat_llen"), 10, "its look at the queue")

    assert scripts_run(redis) == 0
    assert took == []


def test_a_worker_takes_what_it_hears_of(redis: Redis, waiting: Any) -> None:
    dequeue, took = waiting

    redis.rpush("rq:queue:idle", "a-1")
    dequeue.waking.hear("idle")

    until(lambda: took, 10, "what was queued")
    assert took == [Taken("idle", b"a-1")]


def test_a_worker_without_rivals_looks_at_once_and_counts_nothing(redis: Redis, waiting: Any, pauses: Any) -> None:
    dequeue, took = waiting
    redis.config_resetstat()

    redis.rpush("rq:queue:idle", "a-1")
    dequeue.waking.hear("idle")

    until(lambda: took, 10, "what was queued")
    assert pauses == []
    assert "cmdstat_llen" not in redis.info("commandstats")


def test_a_worker_that_was_too_late_has_a_rival_that_it_did_not_know_of(
    redis: Redis, waiting: Any, pauses: Any
) -> None:
    dequeue, took = waiting

    calls = scripts_run(redis)
    dequeue.waking.hear("idle")  # by then another one has taken it
    until(lambda: scripts_run(redis) > calls, 10, "its look")
    assert pauses == []
    dequeue.waking.hear("idle")

    until(lambda: redis.info("commandstats").get("cmdstat_llen"), 10, "its look at the queue")
    assert len(pauses) == 1
    assert took == []


@pytest.mark.parametrize(
    ("workers", "most_s"), [(0, None), (1, None), (2, 0.001), (5, 0.004), (33, 0.008), (900, 0.008)]
)
def test_the_more_workers_one_message_wakes_the_longer_they_scatter(
    redis: Redis, pauses: list[float], workers: int, most_s: float | None
) -> None:
    waking = Waking(redis)
    redis.rpush("rq:queue:idle", "a-1")
    waking.count_rivals(workers)
    for _ in range(200):
        waking.begin(["idle"])
        waking.hear("idle")
        assert waking.is_time(["idle"], boot_s() + 5)

    if most_s is None:
        assert pauses == []
    else:
        assert len(pauses) == 200
        assert max(pauses) <= most_s
        assert max(pauses) - min(pauses) > 0.9 * most_s


def test_a_worker_hears_only_of_its_own_queues(
    app: Cronq, redis: Redis, store: Callable[..., JobSpec], waiting: Any
) -> None:
    """The message that the scripts send names the queue."""
    store("a", mark=0, queue="busy")
    heard = redis.pubsub()
    heard.subscribe(app.keys.wake)
    until(lambda: heard.get_message(timeout=1), 10, "the subscription")

    app.enqueue("a")

    messages: list[Any] = []
    until(lambda: messages or messages.extend(filter(None, [heard.get_message(timeout=1)])), 10, "the message")
    assert messages[0]["data"] == b"busy"
    heard.close()
