"""A wrong type, a missing or a foreign value at each key a claim touches.

The tick is wholly claimed or wholly not, the other ticks of the batch go through, and nothing stays silent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.beat.beat import Beat
from cronq.jobs.spec import JobSpec
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
Plant = Callable[[Redis, str], Any]

#: Each type that a key of another type can be replaced with.
WRONG: dict[str, Plant] = {
    "string": lambda redis, key: redis.set(key, "junk"),
    "list": lambda redis, key: redis.rpush(key, "junk"),
    "hash": lambda redis, key: redis.hset(key, "junk", "junk"),
    "set": lambda redis, key: redis.sadd(key, "junk"),
    "zset": lambda redis, key: redis.zadd(key, {"junk": 1}),
    "stream": lambda redis, key: redis.xadd(key, {"junk": "junk"}),
}
#: The keys of one claim, with their type; {tick} and {run} are of the victim's tick.
KEYS = {
    "cronq:dedup:victim:{tick}": "string",
    "cronq:jobs": "set",
    "cronq:job:victim": "hash",
    "cronq:job:victim:state": "hash",
    "cronq:job:victim:template": "hash",
    "cronq:job:victim:runs": "zset",
    "cronq:job:victim:active": "hash",
    "cronq:run:{run}": "hash",
    "cronq:agenda": "zset",
    "cronq:events": "stream",
    "cronq:epoch": "string",
    "rq:queue:default": "list",
    "rq:queues": "set",
    "rq:job:{run}": "hash",
}
#: Nothing else holds the definition of a job that was added by hand.
LOST_FOR_GOOD = "cronq:job:victim"


class Stage:
    """A beat, a victim and a bystander, and a clock that is moved by hand, always behind the server's."""

    def __init__(self, app: Cronq, store: Store) -> None:
        seconds, _ = app.client.time()
        self.tick = (seconds - 7200) // 60 * 60
        self.app = app
        self.redis = app.client
        for name in ("bystander", "victim"):
            store(name, mark=self.tick - 60, overlap="allow", queue="default" if name == "victim" else "other")
        self.beat: Beat = app.beat()
        self.beat.epoch, _ = app.jobs.open_epoch()

    def key(self, pattern: str) -> str:
        return pattern.format(tick=self.tick, run=self.run_id("victim", self.tick))

    def run_id(self, name: str, tick: int) -> str:
        return run_id_of(name, tick)

    def passes(self, minutes: int, each: int = 3) -> None:
        """A few passes and audits in each of the next *minutes*."""
        for minute in range(minutes):
            for turn in range(each):
                now = self.tick + 60 * minute + 1 + 10 * turn
                self.beat.pass_once(now_s=float(now))
                for chore in self.beat.chores:
                    if chore.name == "audit":
                        chore.work(float(now))

    def row(self, name: str, minute: int) -> Any:
        return self.app.runs.find(self.run_id(name, self.tick + 60 * minute))

    def queued(self, name: str, minute: int) -> int:
        """How often the run of that tick stands in its queue."""
        queue = "default" if name == "victim" else "other"
        if self.redis.type(f"rq:queue:{queue}") != b"list":
            return 0
        run_id = self.run_id(name, self.tick + 60 * minute).encode()
        return self.redis.lrange(f"rq:queue:{queue}", 0, -1).count(run_id)

    def assert_whole(self, minute: int = 0) -> None:
        """The victim's tick is wholly claimed, or wholly not."""
        row = self.row("victim", minute)
        queued = row is not None and row.state == "queued"
        assert self.queued("victim", minute) == int(queued)


@pytest.fixture
def stage(app: Cronq, store: Store) -> Stage:
    return Stage(app, store)


CASES = [(pattern, wrong) for pattern, right in KEYS.items() for wrong in WRONG if wrong != right]


@pytest.mark.parametrize(("pattern", "wrong"), CASES, ids=[f"{pattern}-{wrong}" for pattern, wrong in CASES])
def test_a_key_of_a_wrong_type_harms_no_other_job_and_silences_none(stage: Stage, pattern: str, wrong: str) -> None:
    key = stage.key(pattern)
    stage.redis.delete(key)
    WRONG[wrong](stage.redis, key)

    stage.beat.pass_once(now_s=stage.tick + 1.0)

    stage.assert_whole()
    if pattern not in ("cronq:agenda", "cronq:events", "cronq:epoch", "rq:queues"):  # keys that all jobs share
        assert stage.queued("bystander", 0) == 1
    if pattern in ("rq:queue:default", "rq:queues"):
        stage.redis.delete(key)  # RQ's keys are not ours to move aside: a person has to
    stage.passes(3)
    stage.assert_whole()
    for name in ("bystander",) if pattern == LOST_FOR_GOOD else ("bystander", "victim"):
        for minute in range(3):
            assert stage.row(name, minute) is not None, (name, minute)
            assert stage.queued(name, minute) <= 1
        assert stage.queued(name, 2) == 1, name


DAMAGED_TICKS = [(pattern, wrong) for pattern, wrong in CASES if "{" in pattern]


@pytest.mark.parametrize(("pattern", "wrong"), DAMAGED_TICKS, ids=[" ".join(case) for case in DAMAGED_TICKS])
def test_a_damaged_tick_is_not_passed_over_by_the_next_one(stage: Stage, pattern: str, wrong: str) -> None:
    WRONG[wrong](stage.redis, stage.key(pattern))

    for second in range(61, 81, 5):  # two ticks are pending in the first of these passes
        stage.beat.pass_once(now_s=float(stage.tick + second))

    assert stage.row("victim", 0).outcome == "coalesced"
    assert stage.row("victim", 1).state == "queued"
    assert stage.queued("victim", 1) == 1


@pytest.mark.parametrize("pattern", ["cronq:dedup:victim:{tick}", "cronq:run:{run}"])
def test_nor_when_the_next_one_travels_in_another_batch(stage: Stage, pattern: str) -> None:
    stage.redis.rpush(stage.key(pattern), "junk")
    stage.beat.claiming.batch = 1

    for second in range(61, 81, 5):
        stage.beat.pass_once(now_s=float(stage.tick + second))

    assert stage.row("victim", 0).outcome == "coalesced"
    assert stage.row("victim", 1).state == "queued"
    assert stage.queued("bystander", 1) == 1


@pytest.mark.parametrize("pattern", KEYS)
def test_a_missing_key_harms_no_other_job_and_silences_none(stage: Stage, pattern: str) -> None:
    stage.redis.delete(stage.key(pattern))

    stage.beat.pass_once(now_s=stage.tick + 1.0)
    stage.assert_whole()
    stage.passes(3)

    for name in ("bystander",) if pattern == LOST_FOR_GOOD else ("bystander", "victim"):
        for minute in range(3):
            assert stage.row(name, minute) is not None, (name, minute)
            assert stage.queued(name, minute) <= 1
        assert stage.queued(name, 2) == 1


FOREIGN: dict[str, Callable[[Stage], Any]] = {
    "a dedup key of nobody": lambda s: s.redis.set(s.key("cronq:dedup:victim:{tick}"), "somebody"),
    "no version": lambda s: s.redis.hdel("cronq:job:victim", "version"),
    "another version": lambda s: s.redis.hset("cronq:job:victim", "version", "zzz"),
    "a spec that is no JSON": lambda s: s.redis.hset("cronq:job:victim", "spec", "{"),
    "a spec of another job": lambda s: s.redis.hset("cronq:job:victim", "spec", '{"name":"other","function":"a:b"}'),
    "a mark that is no number": lambda s: s.redis.hset("cronq:job:victim:state", "mark", "junk"),
    "a mark in the future": lambda s: s.redis.hset("cronq:job:victim:state", "mark", s.tick + 10**9),
    "an infinite mark": lambda s: s.redis.hset("cronq:job:victim:state", "mark", "1e999"),
    "a pause that is no JSON": lambda s: s.redis.hset("cronq:job:victim:state", "pause", "{"),
    "a template without data": lambda s: s.redis.hdel("cronq:job:victim:template", "data"),
    "a template of another queue": lambda s: s.redis.hset("cronq:job:victim:template", "origin", "elsewhere"),
    "a row of something else": lambda s: s.redis.hset(s.key("cronq:run:{run}"), "junk", "junk"),
    "an open row that is not active": lambda s: s.redis.hset("cronq:job:victim:active", "ghost", "running"),
    "an agenda entry of nobody": lambda s: s.redis.zadd("cronq:agenda", {"nobody": s.tick - 999}),
    "an agenda entry far ahead": lambda s: s.redis.zadd("cronq:agenda", {"victim": s.tick + 10**9}),
    "an agenda entry long past": lambda s: s.redis.zadd("cronq:agenda", {"victim": 1}),
    "an infinite agenda entry": lambda s: s.redis.zadd("cronq:agenda", {"victim": float("inf")}),
    "a foreign RQ job": lambda s: s.redis.hset(s.key("rq:job:{run}"), mapping={"data": "x", "status": "finished"}),
    "another epoch": lambda s: s.redis.set("cronq:epoch", "other"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_value_harms_no_other_job_and_silences_none(stage: Stage, what: str) -> None:
    lost_for_good = what.startswith("a spec")  # a job added by hand has its spec nowhere else
    FOREIGN[what](stage)

    stage.beat.pass_once(now_s=stage.tick + 1.0)
    stage.assert_whole()
    assert stage.queued("bystander", 0) == 1
    stage.passes(3)

    if what == "a pause that is no JSON":
        assert stage.row("victim", 2).outcome == "paused"
        return
    for minute in range(3):
        assert stage.row("bystander", minute) is not None
    if not lost_for_good:
        assert stage.queued("victim", 2) == 1
        assert stage.row("victim", 1) is not None
    assert stage.redis.zscore("cronq:agenda", "nobody") is None


def test_a_damaged_job_that_code_defines_comes_back_from_the_code(stage: Stage) -> None:
    from cronq.jobs.registry import Definition

    spec = stage.app.jobs.get("victim").spec
    stage.app.registry.add(Definition(spec, "jobs.py:3", "jobs", None))
    stage.redis.delete("cronq:job:victim")

    stage.passes(2)
    now = float(stage.app.now_s())
    stage.beat.pass_once()

    job = stage.app.jobs.get("victim")
    assert job.spec == spec
    assert job.next_tick is not None
    assert job.next_tick > now


def test_many_broken_jobs_do_not_crowd_out_the_healthy_ones(app: Cronq, store: Store) -> None:
    seconds, _ = app.client.time()
    tick = (seconds - 3600) // 60 * 60
    for number in range(300):
        store(f"broken-{number}", mark=tick - 120)
        app.client.hset(app.keys.job(f"broken-{number}"), "spec", "{")
    store("healthy", mark=tick - 60)
    beat = app.beat()

    for turn in range(3):
        beat.pass_once(now_s=tick + 1.0 + turn)

    assert [run.state for run in app.history("healthy")] == ["queued"]
