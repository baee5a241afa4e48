"""What somebody damaged in Redis keeps back the run that it is about, and no other of the same call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.exchange import Begun, Renewed, Renewing, Taken
from tests.redis.test_exchange import POPPED, QUEUE, Process, T, W, claim, contents

Store = Callable[..., JobSpec]
RUN, OTHER = "a-20260105T070100Z", "b-20260105T070100Z"
#: Keys that a step may touch when they are there, and that may not be.
MORE_KEYS = [
    "cronq:behind", "cronq:events", "cronq:gated", "cronq:holds", "cronq:job:a:active", "cronq:job:a:behind",
    "cronq:job:a:children", "cronq:job:a:gated", "cronq:job:a:given", "cronq:job:a:runs", "cronq:job:a:state",
    "cronq:job:a:waiting", "cronq:fence:a", "cronq:removed:a:active", "cronq:retries", "cronq:running",
    "cronq:untriggered", "cronq:waiting", f"cronq:stop:{RUN}", "lock:cronq:a", "lock-signal:cronq:a",
    f"rq:execution:{RUN}:e1", f"rq:executions:{RUN}", f"rq:job:{RUN}:dependents", f"rq:results:{RUN}",
    "rq:failed:default", "rq:finished:default", "rq:wip:default", f"rq:worker:{W}",
]  # fmt: skip
#: Without these nobody can be told anything, or be at work, or has been popped.
OF_ALL = {"cronq:events", "cronq:running", "rq:wip:default", QUEUE, POPPED}


@pytest.fixture
def stage(app: Cronq, redis: Redis, store: Store) -> Iterator[Callable[[], Process]]:
    """A process and two queued runs, of `a`, which needs its lock, and of `b`."""

    def make() -> Process:
        redis.flushdb()
        claim(app, store("a", mark=T, exclusive=True), T + 60)
        claim(app, store("b", mark=T), T + 60)
        return Process(app)

    yield make
    redis.flushdb()


def damage(redis: Redis, key: str) -> None:
    kind = redis.type(key)
    redis.delete(key)
    redis.set(key, "junk") if kind in (b"hash", b"none") else redis.hset(key, "junk", "junk")


def keys_of(redis: Redis, *, but_for: str) -> list[str]:
    there = {key.decode() for key in redis.scan_iter() if but_for not in key.decode()}
    return sorted(there | set(MORE_KEYS))


def differ(before: tuple[Any, int] | None, after: tuple[Any, int] | None) -> bool:
    """Whether a key is another than it was; its life has become shorter meanwhile."""
    if before is None or after is None:
        return before is not after
    return before[0] != after[0] or not 0 <= before[1] - after[1] <= 5


def test_a_start_that_is_stopped_has_written_nothing_and_the_next_run_begins(
    stage: Callable[[], Process], redis: Redis
) -> None:
    stage()
    found: dict[str, Any] = {}
    for key in keys_of(redis, but_for="b"):
        process = stage()
        damage(redis, key)
        before = contents(redis)

        answer = process.call(offers=2)

        first, second = answer.starts
        if not isinstance(first, Begun):
            after = contents(redis)
            touched = {each for each in before | after if differ(before.get(each), after.get(each))}
            # The id itself is popped, and the other run begins.
            if wrong := sorted(each for each in touched if each.endswith(":a") or ":a:" in each or RUN in each):
                found[key] = wrong
            if isinstance(first, Taken) and redis.type(POPPED) == b"list":
                assert first.raw_id in redis.lrange(POPPED, 0, -1), key
        if key not in OF_ALL and not isinstance(second, Begun):
            found.setdefault(key, []).append("the next did not begin")

    assert found == {}


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_an_end_goes_as_far_as_it_can_and_the_other_is_settled(
    stage: Callable[[], Process], redis: Redis, outcome: str
) -> None:
    process = stage()
    process.call(offers=2)
    found: dict[str, Any] = {}
    for key in keys_of(redis, but_for="b"):
        process = stage()
        one, two = process.call(offers=2).starts
        assert isinstance(one, Begun)
        assert isinstance(two, Begun)
        damage(redis, key)

        answer = process.call(process.end(one, outcome), process.end(two, outcome), offers=0)

        if answer.ends[1] != "settled" or process.app.runs.get(OTHER).outcome != outcome:
            found[key] = answer.ends
        if key != f"cronq:run:{RUN}" and answer.ends[0] != "settled":
            found[key] = answer.ends
        if redis.type("cronq:job:a:active") == b"hash" and redis.hget("cronq:job:a:active", RUN):
            found[key] = "it is listed as open"
        if key not in ("lock:cronq:a", "lock-signal:cronq:a") and redis.exists("lock:cronq:a"):
            found[key] = "its lock is not free"

    assert found == {}


def test_a_renewal_goes_as_far_as_it_can_and_the_other_is_renewed(stage: Callable[[], Process], redis: Redis) -> None:
    process = stage()
    process.call(offers=2)
    found: dict[str, Any] = {}
    for key in keys_of(redis, but_for="b"):
        process = stage()
        begun = [start for start in process.call(offers=2).starts if isinstance(start, Begun)]
        redis.zadd("cronq:running", {OTHER: 1})
        damage(redis, key)

        one, two = process.exchange.renew([Renewing(each.run, each.execution, each.lock) for each in begun], T + 3.0)

        if key != "cronq:running" and (two != Renewed("", None) or (redis.zscore("cronq:running", OTHER) or 0) < T):
            found[key] = two
        apart = (
            "cronq:running",
            f"cronq:run:{RUN}",
            "lock:cronq:a",
            f"cronq:stop:{RUN}",
        )  # whose "junk" asks it to stop
        if key not in apart and one != Renewed("", 1):
            found[key] = one

    assert found == {}


@pytest.mark.parametrize(
    "field",
    [{"attempt": "nan"}, {"attempt": "1e400"}, {"tick": "nan"}, {"job": "b:state"}, {"job": "\xff"},
     {"attempt": "9" * 20}, {"state": "queued "}, {"queue": "x" * 10_000}, {"started_at": "nan"},
     {"attempts": "[" * 100_000}],
    ids=lambda field: next(iter(field)),
)  # fmt: skip
def test_a_planted_field_of_a_row_harms_no_other_run(
    stage: Callable[[], Process], redis: Redis, field: dict[str, str]
) -> None:
    process = stage()
    redis.hset(f"cronq:run:{RUN}", mapping=field)

    first, second = process.call(offers=2).starts

    assert isinstance(first, Begun | Taken)
    assert isinstance(second, Begun)
    assert second.run.run_id == OTHER


@pytest.mark.parametrize(
    "spec",
    ['{"a":' * 100_000, "[" * 200_000, "{", "null", '"x"', '{"name":"a","ttl":"x"}', '{"name":"a","ttl":1e999}',
     '{"name":"a","exclusive":true,"lock":"a b"}', '{"name":"a","exclusive":1}', '{"name":"b"}', b"\xff"],
    ids=lambda spec: str(spec[:30]),
)  # fmt: skip
def test_a_planted_spec_is_left_to_the_steps_and_harms_no_other_run(
    stage: Callable[[], Process], redis: Redis, spec: Any
) -> None:
    process = stage()
    redis.hset("cronq:job:a", "spec", spec)

    first, second = process.call(offers=2).starts

    assert isinstance(first, Taken)
    assert first.raw_id == RUN.encode()
    assert process.app.runs.get(RUN).state == "queued"
    assert redis.exists("lock:cronq:a") == redis.zcard("rq:wip:default") - 1 == 0
    assert isinstance(second, Begun)


def test_planted_figures_of_a_worker_are_begun_anew(stage: Callable[[], Process], redis: Redis) -> None:
    process = stage()
    redis.hset(
        f"rq:worker:{W}",
        mapping={
            "total_working_time": "x",
            "successful_job_count": "1e999",
            "current_job": b"\xff",
            "cronq_offer": "?",
        },
    )
    begun = process.begun()

    assert process.call(process.end(begun), offers=0).ends == ["settled"]

    assert process.record()[b"total_working_time"] == b"0.5"
    assert process.record()[b"successful_job_count"] == b"1"
    assert b"current_job" not in process.record()
