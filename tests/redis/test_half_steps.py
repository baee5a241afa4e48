"""A step that a key of a wrong type stops has written nothing: Redis does not roll a script back.

Each step is taken once with each key that it touches, or might, replaced by something of another type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from cronq.app.app import Cronq
from cronq.beat.popped import Popped
from cronq.errors import CronqError
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.exchange import Taken
from cronq.runs.guarded import Guarded, GuardedStart
from cronq.runs.retry import Retry
from cronq.runs.run import Ending, Run, Settlement, Start
from cronq.timetext import utc
from tests.redis.conftest import dequeue_of
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
RUN = "a-m00000001"
GUARDED = Guarded(RUN, "a", "x1", "box.1.exec", "box", 1, "ann", ("a",))
IN_A_GROUP = replace(GUARDED, group="all")
QUEUE, POPPED = "rq:queue:default", "rq:queue:default:intermediate"
#: Keys of the run, its job and its queue that a step may touch when they are there, and that may not be.
MORE_KEYS = [
    "cronq:behind", "cronq:delayed", "cronq:events", "cronq:job:a:active", "cronq:job:a:behind", "cronq:job:a:given",
    "cronq:job:a:manual", "cronq:job:a:waiting", "cronq:refused", "cronq:retries", "cronq:running", "cronq:waiting",
    f"cronq:stop:{RUN}", QUEUE, POPPED, "rq:failed:default", "rq:queues", "rq:scheduler:scheduled_jobs",
    "rq:wip:default", f"rq:execution:{RUN}:e1", f"rq:execution:{RUN}:e2", f"rq:executions:{RUN}", f"rq:results:{RUN}",
]  # fmt: skip


class Stage:
    """A run of the job `a`, brought into a state; *run* is its row as it was then."""

    def __init__(self, app: Cronq, redis: Redis, store: Store) -> None:
        self.app = app
        self.redis = redis
        self.store = store
        self.spec: JobSpec
        self.run: Run

    def defined(self) -> None:
        self.spec = self.store("a", mark=T, exclusive=True)

    def queued(self) -> None:
        self.defined()
        self.app.claimer("p").give(self.spec, T + 1.0, run_id=RUN)
        self.run = self.app.runs.get(RUN)

    def popped(self) -> None:
        self.queued()
        self.redis.lmove(QUEUE, POPPED)

    def running(self) -> None:
        self.popped()
        assert self.start("e1") == "started"
        self.run = self.app.runs.get(RUN)

    def grouped(self) -> None:
        self.defined()
        self.app.set_group("all", ["web"])
        self.app.set_group("web", ["box"])

    def guarded(self) -> None:
        self.defined()
        assert isinstance(self.app.guarded.begin(GUARDED), GuardedStart)

    def failed(self) -> None:
        """A tick that ran and failed."""
        self.defined()
        tick, run_id = T + 60, "a-20260105T070100Z"
        row = {
            "job": "a",
            "tick": tick,
            "state": "done",
            "outcome": "failed",
            "reason": "it raised",
            "started_at": T + 61,
        }
        self.redis.hset(f"cronq:run:{run_id}", mapping=row)
        self.redis.zadd("cronq:job:a:runs", {run_id: tick})
        self.redis.hset("cronq:job:a:state", mapping={"streak": -2, "last_outcome": "failed", "last_run": run_id})

    def requeued(self) -> None:
        """By a person, after it had failed; a worker has popped it."""
        self.running()
        assert self.app.runs.settle(self.run, self.ending("failed"))
        self.redis.hset(f"rq:job:{RUN}", "status", "queued")
        self.redis.rpush(POPPED, RUN)
        self.run = self.app.runs.get(RUN)

    def parked(self) -> None:
        self.popped()
        assert self.app.runs.park(self.run, "a", T + 1.0)

    def delayed(self) -> None:
        self.defined()
        self.run = self.app.runs.get(self.app.enqueue_in("5m", "a"))

    def due(self) -> None:
        """The run of an earlier tick is queued."""
        self.due_by("queue")

    def due_by(self, overlap: str) -> None:
        self.spec = self.store("a", mark=T, overlap=overlap)
        assert self.claim(1) == "queued"

    def to_be_replaced(self) -> None:
        self.due_by("replace")
        self.redis.lmove(QUEUE, POPPED)
        self.run = self.app.runs.get(run_id_of("a", T + 60))
        assert self.start("e1") == "started"

    def behind(self) -> None:
        """The second tick waits behind the first, whose row is gone."""
        self.due()
        assert self.claim(2) == "waiting"
        self.redis.delete(f"cronq:run:{run_id_of('a', T + 60)}")

    def claim(self, number: int) -> str:
        tick = T + 60 * number
        due = TickClaim(self.spec, self.app.jobs.version_of("a"), Decision(tick, None, "due", "schedule", tick + 60))
        answer = self.app.claimer("p").claim_due([due], f"t{number}", tick + 1.0)[0]
        return answer.detail if answer.code == "won" else ""

    def retrying(self) -> None:
        self.running()
        assert self.retry()
        self.run = self.app.runs.get(RUN)

    def retry(self) -> bool:
        ending = replace(self.ending("failed"), retry=Retry(60.0, 1, "retry 1 of 3"))
        return self.app.runs.end(self.run, ending) == "retrying"

    def queue_retry(self) -> bool:
        """What is behind others for a while, because it cannot be queued, is as it was."""
        self.app.retrying.once(T + 63.0)
        if self.redis.zscore("cronq:retries", RUN) == T + 93.0:
            self.redis.zadd("cronq:retries", {RUN: T + 63.0})
        return self.redis.type(QUEUE) == b"list" and self.redis.llen(QUEUE) == 1

    def start(self, execution: str) -> str:
        start = Start(worker="w", host="box", pid=1, execution=execution, lease_s=90, now_s=T + 2.0)
        return self.app.runs.start(self.run, start).code

    def ending(self, outcome: str) -> Ending:
        return Ending(Settlement(outcome, "because"), "w", T + 3.0, attempt=1, execution="e1")

    def with_parents(self) -> None:
        self.store("a", mark=T)
        self.store("b", mark=T)

    def save_child(self) -> str:
        spec = make_spec("child", command=["true"], after=["a", "b"])
        return self.app.jobs.save(spec, source="here:1", origin="test", expected="", mark=T)

    def unpop(self) -> bool:
        popped = Popped(self.redis, self.app.keys, self.app.runs, by="beat", missed_s=1.0)
        return popped.unpop(QUEUE, RUN.encode(), T + 60.0)

    def reschedule(self) -> None:
        self.app.reschedule(self.run.run_id, utc(self.app.now_s()) + timedelta(minutes=2))

    def contents(self) -> dict[str, Any]:
        return {key.decode(): self._content(key) for key in self.redis.scan_iter()}

    def _content(self, key: bytes) -> Any:
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"string": self.redis.get,
            b"hash": self.redis.hgetall,
            b"set": self.redis.smembers,
            b"list": lambda key: self.redis.lrange(key, 0, -1),
            b"zset": lambda key: self.redis.zrange(key, 0, -1, withscores=True),
            b"stream": self.redis.xrange,
        }
        return read[self.redis.type(key)](key), self.redis.ttl(key) > 0


#: What it begins with, and the step; it answers false, or with another word, when it was not taken.
STEPS: dict[str, tuple[Callable[[Stage], None], Callable[[Stage], Any]]] = {
    "enqueue": (Stage.defined, lambda s: s.app.claimer("p").give(s.spec, T + 1.0, run_id=RUN) == RUN),
    "enqueue if idle": (
        Stage.defined,
        lambda s: s.app.claimer("p").give_if_idle(s.spec, T + 1.0, args_json=None, reason="asked for").is_new,
    ),
    "enqueue many": (Stage.defined, lambda s: len(s.app.enqueue_many("a", [{}, {}])) == 2),
    "mark success": (Stage.failed, lambda s: s.app.mark_success("a") is not None),
    "reset": (Stage.failed, lambda s: s.app.reset("a")),
    "stop a queue": (Stage.queued, lambda s: s.app.stop_queue("default") == [RUN]),
    "delay": (Stage.defined, lambda s: s.app.enqueue_in("5m", "a") != ""),
    "save": (Stage.with_parents, lambda s: s.save_child() == "created"),
    "start": (Stage.popped, lambda s: s.start("e1") == "started"),
    "start again": (Stage.requeued, lambda s: s.start("e2") == "started"),
    "rerun": (Stage.running, lambda s: s.app.runs.rerun(s.run, s.ending("lost"), 3) == "queued"),
    "park": (Stage.popped, lambda s: s.app.runs.park(s.run, "a", T + 4.0)),
    "park again": (Stage.requeued, lambda s: s.app.runs.park(s.run, "a", T + 4.0)),
    "wake": (Stage.parked, lambda s: s.app.runs.wake_waiter("a")),
    "wait behind": (Stage.due, lambda s: s.claim(2)),
    "overtake": (lambda s: s.due_by("latest"), lambda s: s.claim(2)),
    "replace": (Stage.to_be_replaced, lambda s: s.claim(2)),
    "take turns": (Stage.behind, lambda s: s.app.runs.take_turns("0", 10, T + 4.0)[1]),
    "take": (Stage.queued, lambda s: dequeue_of(s.app).take(["default"], 0.0) is not None),
    "give back": (Stage.popped, lambda s: dequeue_of(s.app).give_back(Taken("default", RUN.encode())) is None),
    "unpop": (Stage.popped, Stage.unpop),
    "retry": (Stage.retrying, Stage.queue_retry),
    "reschedule": (Stage.delayed, lambda s: s.reschedule() is None),
    "begin": (Stage.defined, lambda s: isinstance(s.app.guarded.begin(GUARDED), GuardedStart)),
    "begin in a group": (Stage.grouped, lambda s: isinstance(s.app.guarded.begin(IN_A_GROUP), GuardedStart)),
    "release a lock": (Stage.guarded, lambda s: s.app.release_lock("a") == RUN),
    "set groups": (Stage.grouped, lambda s: s.app.set_group("all", ["box", "other"])),
}
#: What is no step that was stopped: without its row a waiter is none, and without its RQ job nobody has requeued a run.
DECIDED = {
    ("wake", f"cronq:run:{RUN}"),
    ("take turns", f"cronq:run:{run_id_of('a', T + 120)}"),
    ("park again", f"rq:job:{RUN}"),
    ("retry", f"cronq:run:{RUN}"),
    ("take", "rq:queue:default"),  # the worker is idle, and its record says so
    ("take", "rq:queue:default:intermediate"),
}


@pytest.fixture
def stages(app: Cronq, redis: Redis, store: Store) -> Iterator[Callable[[], Stage]]:
    """Makes a stage in an emptied Redis."""

    def make() -> Stage:
        redis.flushdb()
        return Stage(app, redis, store)

    return make


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_is_stopped_has_written_nothing(stages: Callable[[], Stage], name: str) -> None:
    prepare, step = STEPS[name]
    stage = stages()
    prepare(stage)
    there = set(stage.contents())
    assert step(stage)
    half_done = {}

    for key in sorted(there | set(stage.contents()) | set(MORE_KEYS)):
        stage = stages()
        prepare(stage)
        kind = stage.redis.type(key)
        stage.redis.delete(key)
        stage.redis.set(key, "junk") if kind == b"hash" else stage.redis.hset(key, "junk", "junk")
        before = stage.contents()
        try:
            is_taken = step(stage)
        except (ResponseError, CronqError):
            is_taken = False
        after = stage.contents()
        if not is_taken and after != before and (name, key) not in DECIDED:
            half_done[key] = sorted(each for each in before | after if before.get(each) != after.get(each))

    assert half_done == {}
