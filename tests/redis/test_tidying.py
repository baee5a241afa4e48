"""What the sweep and the tidying put in order: they pass by what stays, and reading changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.beat.sweep import Sweep
from cronq.beat.tidy import Tidy
from cronq.db.decode import text
from cronq.runs.timing import Timing
from tests.system.processes import until


@pytest.fixture
def sweep(app: Cronq, redis: Redis) -> Sweep:
    return Sweep(redis, app.keys, app.runs, by="beat b", timing=Timing(6.0))


@pytest.fixture
def tidy(app: Cronq, redis: Redis) -> Callable[[], None]:
    """Does what the beat's chore does."""
    chore = Tidy(redis, app.heartbeats)
    return lambda: chore.once([text(key) for key in redis.smembers("rq:queues")], app.exact_now_s())


def heartbeat(seen_at: float) -> str:
    return json.dumps({"host": "h", "pid": 1, "started_at": 1, "seen_at": seen_at})


def test_processes_that_vanished_an_hour_ago_are_forgotten_and_no_others(
    app: Cronq, redis: Redis, tidy: Callable[[], None]
) -> None:
    now_s = float(redis.time()[0])
    for kind in ("cronq:beats", "cronq:workers"):
        redis.hset(kind, mapping={f"dead{n}": heartbeat(now_s - 3700) for n in range(1200)})
        redis.hset(kind, mapping={"quiet": heartbeat(now_s - 3000), "alive": heartbeat(now_s), "junk": "{"})

    tidy()

    assert set(redis.hkeys("cronq:beats")) == set(redis.hkeys("cronq:workers")) == {b"quiet", b"alive"}


def test_reading_heartbeats_changes_nothing(app: Cronq, redis: Redis) -> None:
    redis.hset("cronq:beats", mapping={"dead": heartbeat(1.0), "junk": "["})

    assert app.beats()[0] == []
    assert redis.hlen("cronq:beats") == 2


def test_jobs_that_people_cancelled_do_not_hide_what_may_go(app: Cronq, redis: Redis, tidy: Callable[[], None]) -> None:
    past = float(redis.time()[0]) - 5000
    with redis.pipeline() as pipe:
        pipe.sadd("rq:queues", "rq:queue:default")
        for number in range(1500):
            pipe.hset(f"rq:job:theirs-{number}", "status", "canceled")
        pipe.zadd("rq:canceled:default", {f"theirs-{number}": past + number / 1000 for number in range(1500)})
        pipe.zadd("rq:canceled:default", {f"a-{number}": past + 100 for number in range(6000)})
        pipe.zadd("rq:canceled:default", {"a-later": past + 9000})
        pipe.execute()

    tidy()

    left = {member.decode() for member in redis.zrange("rq:canceled:default", 0, -1)}
    assert left == {f"theirs-{number}" for number in range(1500)} | {"a-later"}


def test_thousands_of_waiting_runs_cost_a_pass_a_few_round_trips(
    app: Cronq, redis: Redis, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.pipeline() as pipe:
        for number in range(4500):
            run_id = f"job{number}-m0000000a"
            pipe.sadd("cronq:waiting", f"job{number}")
            pipe.zadd(f"cronq:job:job{number}:waiting", {run_id: 1})
            pipe.hset(f"cronq:run:{run_id}", mapping={"job": f"job{number}", "state": "waiting", "queue": "default"})
            if number != 4321:
                pipe.set(f"lock:cronq:job{number}", "x", ex=600)
        pipe.execute()
    before = redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]

    sweep.once()

    calls = redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert redis.lrange("rq:queue:default", 0, -1) == [b"job4321-m0000000a"]
    assert calls < 12


def test_who_held_a_lock_is_known_for_a_month_and_tokens_grow_beyond_it(app: Cronq, redis: Redis) -> None:
    with app.lock("once", ttl=2.0) as held:
        first = held.token
        redis.persist("cronq:fence:once")
        until(lambda: redis.ttl("cronq:fence:once") > 0, 10, "a renewal")
        assert 29 * 86400 < redis.ttl("cronq:fence:once") <= 30 * 86400
    redis.delete("cronq:fence:once")

    with app.lock("once") as held:
        assert held.token > first
    assert 29 * 86400 < redis.ttl("cronq:fence:once") <= 30 * 86400
