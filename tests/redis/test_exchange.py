"""One call ends runs and gives others: it does what the steps one by one do, once, and harms nobody beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError
from rq import Worker

from cronq.app.app import Cronq
from cronq.db.faults import refuses_all
from cronq.jobs.spec import JobSpec, make_spec
from cronq.locks.renewal import GONE, RENEWED, TAKEN
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.exchange import Begun, End, Exchange, Exchanged, Offer, Renewed, Renewing, Taken
from cronq.runs.retry import Retry
from cronq.runs.run import Ending, Run, Settlement, Start

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
W = "box.1.ab"
QUEUE, POPPED = "rq:queue:default", "rq:queue:default:intermediate"


class Process:
    """A worker process named `W` whose clock stands at *now_s*, and what it asks of Redis."""

    def __init__(self, app: Cronq) -> None:
        self.app = app
        self.redis: Redis = app.client
        self.now_s = T + 2.0
        self.exchange = self.restarted()
        self.count = 0

    def restarted(self, **options: Any) -> Exchange:
        given: dict[str, Any] = {"no_commands": False, "lock_ttl_s": 30.0, "lease_s": 90} | options
        return Exchange(self.app.client, self.app.keys, self.app.runs, host="box", pid=1, **given)

    def call(self, *ends: End, offers: int = 1, queues: tuple[str, ...] = ("default",), **options: Any) -> Exchanged:
        made = []
        for number in range(offers):
            self.count += 1
            made.append(Offer(W if number == 0 else f"{W}{number}", f"e{self.count}"))
        options.setdefault("left_alone", ())
        return self.exchange.settle_and_take(ends, made, queues, now_s=self.now_s, **options)

    def begun(self, *ends: End, **options: Any) -> Begun:
        start = self.call(*ends, **options).starts[0]
        assert isinstance(start, Begun), start
        return start

    def end(self, begun: Begun, outcome: str = "succeeded", **facts: Any) -> End:
        settlement = Settlement(outcome, "it ran to its end" if outcome == "succeeded" else "it raised", exit_code=0)
        ending = Ending(
            settlement, f"worker {W}", self.now_s, attempt=begun.run.attempt, execution=begun.execution, **facts
        )
        return End(W, begun.run, ending, begun.execution, begun.lock, 0.5)

    def record(self) -> dict[bytes, bytes]:
        found: Any = self.redis.hgetall(f"rq:worker:{W}")
        return dict(found)


@pytest.fixture
def process(app: Cronq) -> Process:
    return Process(app)


def claim(app: Cronq, spec: JobSpec, tick: int) -> str:
    due = TickClaim(spec, app.jobs.version_of(spec.name), Decision(tick, None, "due", "schedule", tick + 60))
    answer = app.claimer("p").claim_due([due], f"t{tick}", tick + 1.0)[0]
    assert answer.code == "won", answer
    return next(run.run_id for run in app.history(spec.name) if run.tick == tick)


def contents(redis: Redis) -> dict[str, Any]:
    """All of Redis but for what differs by the server's own clock."""
    read: dict[bytes, Callable[[Any], Any]] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"set": redis.smembers,
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"zset": lambda key: redis.zrange(key, 0, -1, withscores=key != b"cronq:running"),
        b"stream": lambda key: [fields for _, fields in redis.xrange(key)],
    }
    found = {key.decode(): (read[redis.type(key)](key), redis.ttl(key)) for key in redis.scan_iter()}
    record = f"rq:worker:{W}"
    if redis.type(record) in (b"hash", b"none"):  # `cronq_offer` is ours
        fields = redis.hgetall(record)
        found[record] = ({name: value for name, value in fields.items() if name != b"cronq_offer"}, -1)
    return found


# A usual run


def test_a_queued_run_is_at_work_after_one_call(process: Process, store: Store) -> None:
    spec = store("a", mark=T)
    run_id = claim(process.app, spec, T + 60)

    begun = process.begun()

    assert (begun.run.run_id, begun.run.state, begun.run.attempt) == (run_id, "running", 1)
    assert (begun.run.started_at, begun.run.worker, begun.run.host, begun.run.pid) == (T + 2.0, W, "box", 1)
    assert (begun.job.spec, begun.execution, begun.fence, begun.lock) == (spec, "e1", None, None)
    assert process.app.runs.get(run_id) == begun.run
    assert process.redis.lrange(POPPED, 0, -1) == []
    assert process.record()[b"current_job"] == run_id.encode()
    assert process.record()[b"state"] == b"busy"


def test_the_end_of_one_run_and_the_start_of_the_next_are_one_call(process: Process, store: Store) -> None:
    spec = store("a", mark=T, overlap="allow")
    first, second = claim(process.app, spec, T + 60), claim(process.app, spec, T + 120)
    end = process.end(process.begun())

    answer = process.call(end)

    assert answer.ends == ["settled"]
    assert isinstance(answer.starts[0], Begun)
    assert answer.starts[0].run.run_id == second
    assert answer.starts[0].job.state.last_run == first
    assert answer.starts[0].job.state.past["previous_success"] == T + 60
    record = process.record()
    assert (record[b"current_job"], record[b"successful_job_count"]) == (second.encode(), b"1")
    assert float(record[b"total_working_time"]) == 0.5


@pytest.mark.parametrize(("keep", "most"), [(10, 10), (30, 32), (200, 209)])
def test_rows_beyond_keep_are_dropped_a_few_at_a_time(process: Process, store: Store, keep: int, most: int) -> None:
    spec = store("a", mark=T, keep=keep, overlap="allow")
    rows, tick = [], T
    for _ in range(keep + 40):
        tick += 60
        claim(process.app, spec, tick)
        process.call(process.end(process.begun()), offers=0)
        rows.append(process.redis.zcard(process.app.keys.runs("a")))

    assert max(rows) == most
    assert min(rows[keep:]) >= keep
    assert len(list(process.redis.scan_iter("cronq:run:a-*", count=1000))) == rows[-1]


def test_a_worker_that_looks_ahead_keeps_its_run_when_there_is_no_other(process: Process, store: Store) -> None:
    spec = store("a", mark=T, overlap="allow")
    first = claim(process.app, spec, T + 60)
    end = process.end(process.begun())

    def look_ahead(execution: str) -> Begun | Taken | None:
        return process.exchange.settle_and_take(
            [], [Offer(W, execution, is_ahead=True)], ["default"], left_alone=(), now_s=process.now_s
        ).starts[0]

    assert look_ahead("x1") is None
    assert process.record()[b"current_job"] == first.encode()
    second = claim(process.app, spec, T + 120)
    ahead = look_ahead("x2")
    assert isinstance(ahead, Begun)
    assert ahead.run.run_id == second
    assert process.record()[b"current_job"] == second.encode()
    assert process.call(end, offers=0).ends == ["settled"]

    assert process.record()[b"current_job"] == second.encode()
    assert process.record()[b"state"] == b"busy"
    assert process.record()[b"successful_job_count"] == b"1"


def test_an_idle_worker_has_no_current_run(process: Process, store: Store) -> None:
    claim(process.app, store("a", mark=T), T + 60)
    end = process.end(process.begun())

    answer = process.call(end)

    assert answer.starts == [None]
    assert process.record()[b"state"] == b"idle"
    assert b"current_job" not in process.record()


@pytest.mark.parametrize("exclusive", [False, True], ids=["free", "exclusive"])
@pytest.mark.parametrize("outcome", ["succeeded", "failed", "timed_out"])
@pytest.mark.parametrize("kind", ["tick", "given", "retried"])
def test_it_leaves_what_the_steps_one_by_one_leave(
    app: Cronq, redis: Redis, store: Store, outcome: str, exclusive: bool, kind: str
) -> None:
    """Also under RQ's names: its record of the worker, of the run, and its registries."""
    spec = store("a", mark=T, exclusive=exclusive, retries=3, on_lost="rerun")
    claim(app, spec, T + 60) if kind != "given" else app.claimer("p").give(spec, T + 1.0, run_id="a-m00000001")
    there = {key: (redis.dump(key), max(0, redis.pttl(key))) for key in redis.scan_iter()}
    found = []
    for walk in (by_one_call, step_by_step):
        redis.flushall()
        for key, (value, life_ms) in there.items():
            redis.restore(key, life_ms, value)
        found.append(walk(Process(app), spec, outcome, kind == "retried"))

    for here, wanted in zip(*found, strict=True):
        assert alike(here) == alike(wanted)


def alike(found: dict[str, Any]) -> dict[str, Any]:
    """*found* without what differs by the server's clock: fencing tokens, moments of locks."""
    fence = found.get("cronq:fence:a")
    if fence is not None:
        for name in (b"token", b"since"):
            assert fence[0].pop(name, b"1")
    for key, (value, life) in found.items():
        if isinstance(value, dict) and b"fence" in value:
            value[b"fence"] = b"a token"
        found[key] = (value, round(life / 100))
    return found


def by_one_call(process: Process, spec: JobSpec, outcome: str, is_retried: bool) -> list[dict[str, Any]]:
    begun = process.begun()
    at_work = contents(process.redis)
    end = process.end(begun, outcome)
    end = replace(end, ending=with_fence(end.ending, begun.fence, is_retried))
    answer = process.call(end, offers=0)
    assert answer.ends == ["retrying" if is_retried else "settled"]
    return [at_work, contents(process.redis)]


def with_fence(ending: Ending, fence: int | None, is_retried: bool) -> Ending:
    retry = Retry(60.0, 1, "retry 1 of 3") if is_retried else None
    return replace(ending, settlement=replace(ending.settlement, fence=fence), retry=retry)


def step_by_step(process: Process, spec: JobSpec, outcome: str, is_retried: bool) -> list[dict[str, Any]]:
    app = process.app
    assert app.client.lmove(QUEUE, POPPED, "LEFT", "RIGHT") is not None
    worker = Worker(["default"], name=W, connection=app.client)
    worker.set_state("busy")
    run = next(run for run in app.history("a"))
    worker.set_current_job_id(run.run_id)
    start = Start(
        worker=W, host="box", pid=1, execution="e1", lease_s=90, now_s=process.now_s,
        max_crashes=spec.max_crashes, lock=spec.lock_name, lock_ttl_ms=30_000,
    )  # fmt: skip
    started = app.runs.start(run, start)
    assert (started.code, started.fence is None) == ("started", not spec.exclusive)
    at_work = contents(process.redis)
    begun = Begun(app.runs.get(run.run_id), app.jobs.get("a"), "e1", started.fence, spec.lock_name, 0.0)
    ending = with_fence(process.end(begun, outcome).ending, started.fence, is_retried)
    assert app.runs.end(begun.run, ending)
    worker.set_current_job_id(None)
    worker.set_state("idle")
    with app.client.pipeline() as pipe:
        from datetime import timedelta

        worker.increment_total_working_time(timedelta(seconds=0.5), pipe)
        is_good = outcome == "succeeded" and not is_retried
        (worker.increment_successful_job_count if is_good else worker.increment_failed_job_count)(pipe)
        pipe.execute()
    if spec.exclusive:
        app.client.delete("lock:cronq:a")
        app.client.rpush("lock-signal:cronq:a", 1)
        app.client.pexpire("lock-signal:cronq:a", 1000)
    return [at_work, contents(process.redis)]


# Locks


def test_a_run_holds_its_lock_and_the_next_one_has_it_from_the_same_call(process: Process, store: Store) -> None:
    a, b = store("a", mark=T, exclusive=True, overlap="allow"), store("b", mark=T, exclusive=True, lock="a")
    claim(process.app, a, T + 60)
    other = process.app.claimer("p").give(b, T + 1.0, run_id="b-m00000001")
    begun = process.begun()
    assert process.redis.get("lock:cronq:a") == b"e1"
    parked = process.call(offers=1).starts[0]
    assert isinstance(parked, Taken)
    assert process.app.runs.park(process.app.runs.get(other), "a", T + 2.0)

    answer = process.call(process.end(begun))

    assert isinstance(answer.starts[0], Begun)
    assert answer.starts[0].run.run_id == other
    assert process.redis.get("lock:cronq:a") == answer.starts[0].execution.encode()
    assert begun.fence is not None
    assert (answer.starts[0].fence or 0) > begun.fence
    assert process.redis.exists("cronq:job:a:waiting") == 0


def test_a_lock_that_is_anothers_by_now_is_left_to_them(process: Process, store: Store) -> None:
    claim(process.app, store("a", mark=T, exclusive=True), T + 60)
    begun = process.begun()
    process.redis.set("lock:cronq:a", "somebody")

    process.call(process.end(begun), offers=0)

    assert process.redis.get("lock:cronq:a") == b"somebody"


def test_the_lock_of_a_run_that_is_rerun_is_given_back_alone(process: Process, redis: Redis, store: Store) -> None:
    claim(process.app, store("a", mark=T, exclusive=True), T + 60)
    begun = process.begun()
    process.exchange.give_back(begun.run, "another", "a")
    assert redis.get("lock:cronq:a") == b"e1"

    process.exchange.give_back(begun.run, begun.execution, "a")

    assert redis.exists("lock:cronq:a") == 0
    assert redis.lrange("lock-signal:cronq:a", 0, -1) == [b"1"]


# What is not plain


def exclusive_and_busy(app: Cronq, store: Store) -> str:
    run_id = claim(app, store("a", mark=T, exclusive=True), T + 60)
    app.client.set("lock:cronq:a", "somebody")
    return run_id


def too_late(app: Cronq, store: Store) -> str:
    return claim(app, store("a", mark=T - 3600, ttl="5m"), T - 1800)


def removed(app: Cronq, store: Store) -> str:
    run_id = claim(app, store("a", mark=T), T + 60)
    app.client.hset("cronq:removed:a:active", run_id, "queued")
    return run_id


def of_no_job(app: Cronq, store: Store) -> str:
    run_id = claim(app, store("a", mark=T), T + 60)
    app.client.delete("cronq:job:a")
    return run_id


def begun_before(app: Cronq, store: Store) -> str:
    run_id = claim(app, store("a", mark=T, at_most_once=True), T + 60)
    app.client.hset(f"cronq:run:{run_id}", "started_at", "1")
    return run_id


def requeued(app: Cronq, store: Store) -> str:
    run_id = claim(app, store("a", mark=T), T + 60)
    app.client.hset(f"cronq:run:{run_id}", mapping={"state": "done", "outcome": "failed"})
    return run_id


def deleted_in_rq(app: Cronq, store: Store) -> str:
    run_id = claim(app, store("a", mark=T), T + 60)
    app.client.delete(f"rq:job:{run_id}")
    return run_id


def damaged(app: Cronq, store: Store) -> str:
    run_id = claim(app, store("a", mark=T), T + 60)
    app.client.hset("cronq:job:a", "spec", "{")
    return run_id


def unreadable_here(app: Cronq, store: Store) -> str:
    """JSON that the script understands and this version does not."""
    run_id = claim(app, store("a", mark=T, exclusive=True), T + 60)
    spec = json.loads(app.client.hget("cronq:job:a", "spec"))
    app.client.hset("cronq:job:a", "spec", json.dumps(spec | {"of_the_future": 1}))
    return run_id


def foreign(app: Cronq, store: Store) -> str:
    app.client.rpush(QUEUE, "somebody's")
    return "somebody's"


def not_text(app: Cronq, store: Store) -> str:
    app.client.rpush(QUEUE, b"\xff\x00")
    return "\ufffd\x00"


@pytest.mark.parametrize(
    "make",
    [exclusive_and_busy, too_late, removed, of_no_job, begun_before, requeued, deleted_in_rq, damaged, unreadable_here,
     foreign, not_text],
)  # fmt: skip
def test_what_is_not_plain_is_popped_and_else_as_it_was(
    process: Process, redis: Redis, store: Store, make: Callable[[Cronq, Store], str]
) -> None:
    process.now_s = T + 120.0
    run_id = make(process.app, store)
    before = contents(redis)

    answer = process.call()

    assert isinstance(answer.starts[0], Taken)
    assert answer.starts[0].raw_id.decode("utf-8", "replace") == run_id
    after = contents(redis)
    for key in (QUEUE, POPPED, "rq:worker:" + W, "cronq:fence:a", "lock-signal:cronq:a", "cronq:events"):
        before.pop(key, None), after.pop(key, None)
    if make is unreadable_here:  # it was started for a moment
        for each in (before, after):
            each[f"cronq:run:{run_id}"][0].pop(b"attempt", None)
            for name in (b"started_at", b"worker_name", b"last_heartbeat"):
                each[f"rq:job:{run_id}"][0].pop(name, None)
    assert after == before
    assert b"current_job" not in process.record()
    assert redis.lrange(POPPED, 0, -1) == [answer.starts[0].raw_id]
    process.exchange = process.restarted()


def test_a_command_is_left_to_the_steps_where_none_is_run(process: Process, app: Cronq, store: Store) -> None:
    spec = make_spec("c", command=["true"], cron="* * * * *")
    app.jobs.save(spec, source="here:1", origin="test", expected="", mark=T, next_tick=T + 60)
    claim(app, spec, T + 60)

    process.exchange = process.restarted(no_commands=True)
    assert isinstance(process.call().starts[0], Taken)

    app.client.lmove(POPPED, QUEUE)
    process.exchange = process.restarted()
    assert isinstance(process.call().starts[0], Begun)


def test_what_a_newer_cronq_has_stored_is_left_in_its_queue(process: Process, redis: Redis, store: Store) -> None:
    claim(process.app, store("a", mark=T), T + 60)
    redis.hset("cronq:job:a", "layout", 99)
    assert process.call().starts == [None]
    redis.hset("cronq:job:a", "layout", 1)
    assert process.call(left_alone=["a"]).starts == [None]
    assert process.call().starts != [None]


def test_a_worker_that_is_held_takes_nothing_and_its_ends_are_told(
    process: Process, redis: Redis, store: Store
) -> None:
    spec = store("a", mark=T, overlap="allow")
    claim(process.app, spec, T + 60), claim(process.app, spec, T + 120)
    end = process.end(process.begun())
    redis.set("rq:suspended", 1)

    answer = process.call(end)

    assert (answer.ends, answer.starts) == (["settled"], [None])
    assert answer.held == "suspended until `rq resume`"
    redis.delete("rq:suspended")
    redis.hset("cronq:holds", f"worker:{W}1", json.dumps({"by": "me", "at": 1, "note": "n"}))
    answer = process.call(offers=2)
    assert isinstance(answer.starts[0], Begun)
    assert (answer.starts[1], answer.helds) == (None, [None, "drained"])


def test_a_run_that_went_through_the_steps_is_told_of_in_rqs_record_too(
    process: Process, redis: Redis, store: Store
) -> None:
    run_id = begun_before(process.app, store)
    redis.hset(f"rq:worker:{W}", "birth", "x")
    taken = process.call().starts[0]
    assert isinstance(taken, Taken)
    run, lock = process.app.runs.get(run_id), {"lock": "a", "lock_ttl_ms": 30_000}
    started = process.app.runs.start(run, Start(W, "box", 1, "e9", 90, T + 3.0, **lock))  # type: ignore[arg-type]
    assert started.code == "started"
    assert (process.record()[b"state"], process.record()[b"current_job"]) == (b"busy", run_id.encode())

    begun = Begun(process.app.runs.get(run_id), process.app.jobs.get("a"), "e9", started.fence, "a", 0.0)
    assert process.call(process.end(begun)).ends == ["settled"]

    assert process.record()[b"state"] == b"idle"
    assert b"current_job" not in process.record()
    assert redis.exists("lock:cronq:a") == 0


def test_whoever_offers_itself_has_no_current_run(process: Process, redis: Redis, store: Store) -> None:
    claim(process.app, store("a", mark=T, on_lost="rerun"), T + 60)
    begun = process.begun()
    gone = Ending(Settlement("lost", "its child died"), f"worker {W}", T + 3.0, attempt=1, execution=begun.execution)
    assert process.app.runs.rerun(begun.run, gone, 3) == "queued"
    redis.set("rq:suspended", 1)

    assert process.call().starts == [None]

    assert process.record()[b"state"] == b"idle"
    assert b"current_job" not in process.record()


# Sent again


def test_a_call_whose_answer_was_lost_starts_nothing_twice(process: Process, store: Store) -> None:
    spec = store("a", mark=T, exclusive=True, overlap="allow")
    claim(process.app, spec, T + 60)
    end = process.end(process.begun())
    claim(process.app, spec, T + 120)
    lost = process.exchange._settle_and_take
    process.exchange._settle_and_take = lambda args, client: [lost(args=args), 1 / 0]
    with pytest.raises(ZeroDivisionError):
        process.call(end)
    there = contents(process.redis)

    process.exchange._settle_and_take = lost
    answer = process.call(end)

    assert answer.ends == [""]
    assert isinstance(answer.starts[0], Begun)
    begun = answer.starts[0]
    assert (begun.run.tick, begun.run.attempt, begun.execution) == (T + 120, 1, "e2")
    assert begun.fence is not None
    assert contents(process.redis) == there
    assert process.call(process.end(begun)).ends == ["settled"]
    assert process.record()[b"successful_job_count"] == b"2"


@pytest.mark.parametrize("happens", ["lost", "rerun", "removed", "flushed", "locked"])
def test_what_became_of_a_run_whose_start_was_lost_is_found(
    process: Process, redis: Redis, store: Store, happens: str
) -> None:
    spec = store("a", mark=T, exclusive=True)
    run_id = claim(process.app, spec, T + 60)
    lost = process.exchange._settle_and_take
    process.exchange._settle_and_take = lambda args, client: [lost(args=args), 1 / 0]
    with pytest.raises(ZeroDivisionError):
        process.call()
    process.exchange._settle_and_take = lost
    run = process.app.runs.get(run_id)
    gone = Ending(Settlement("lost", "its worker vanished"), "beat", T + 40.0)
    if happens == "lost":
        assert process.app.runs.settle(run, gone)
    elif happens == "rerun":
        assert process.app.runs.rerun(run, gone, 3) == "queued"
        redis.delete("lock:cronq:a")
    elif happens == "removed":
        redis.delete("cronq:job:a")
    elif happens == "flushed":
        redis.flushall()
    else:
        redis.set("lock:cronq:a", "somebody")

    answer = process.call()
    start = answer.starts[0]
    assert answer.troubles == [None]

    if happens in ("lost", "flushed"):
        assert start is None
        return
    if happens == "rerun":
        assert isinstance(start, Begun)
        assert (start.run.run_id, start.run.attempt) == (run_id, 2)
        return
    assert isinstance(start, Taken)
    assert start.raw_id == run_id.encode()
    assert process.app.runs.get(run_id).state == "queued"
    assert redis.lrange(POPPED, 0, -1) == [run_id.encode()]
    assert redis.zcard("rq:wip:default") == redis.zcard("cronq:running") == 0


def test_a_call_that_comes_late_starts_nothing(process: Process, store: Store) -> None:
    spec = store("a", mark=T, overlap="allow")
    claim(process.app, spec, T + 60)
    sent = []
    ask = process.exchange._settle_and_take
    process.exchange._settle_and_take = lambda args, client: [sent.append(args), ask(args=args)][1]
    begun = process.begun()
    process.call(process.end(begun))
    claim(process.app, spec, T + 120)

    answer = ask(args=sent[0])

    assert json.loads(answer)[1] == [False]
    assert process.redis.llen(QUEUE) == 1
    assert isinstance(process.call().starts[0], Begun)


# What stands in one harms no other


def test_an_end_that_fails_keeps_no_other_back(process: Process, redis: Redis, store: Store) -> None:
    spec = store("a", mark=T, overlap="allow")
    for tick in (60, 120, 180):
        claim(process.app, spec, T + tick)
    first, second = process.begun(), process.begun()
    redis.delete(f"rq:executions:{first.run.run_id}")
    broken = replace(process.end(first), ending=replace(process.end(first).ending, record_life_s=10**30))
    unstorable = replace(first.run, run_id="x")
    settlement = Settlement("failed", "r", return_value=object())

    answer = process.call(
        broken,
        End(W, unstorable, Ending(settlement, "w", T + 3.0, attempt=1, execution="e"), "e", None, float("nan")),
        process.end(second),
    )

    assert isinstance(answer.ends[0], ResponseError)
    assert answer.ends[2] == "settled"
    assert isinstance(answer.starts[0], Begun)


def test_queues_of_a_wrong_type_are_said_once_nothing_else_is_queued(
    process: Process, redis: Redis, store: Store
) -> None:
    redis.set("rq:queue:broken", "x")
    claim(process.app, store("a", mark=T), T + 60)
    queues = ("broken", "default")

    assert isinstance(process.call(queues=queues).starts[0], Begun)
    answer = process.call(queues=queues)

    assert answer.starts == [None]
    assert "rq:queue:broken" in str(answer.troubles[0])


# Renewing


def test_many_runs_are_renewed_in_one_call_and_hear_each_its_own(process: Process, redis: Redis, store: Store) -> None:
    begun = []
    for name in ("a", "b", "c", "d", "e"):
        claim(process.app, store(name, mark=T, exclusive=True), T + 60)
        begun.append(process.begun())
    redis.zadd("cronq:running", {each.run.run_id: 1 for each in begun})
    redis.set("lock:cronq:b", "somebody")
    redis.delete("lock:cronq:c")
    process.app.runs.ask_to_stop(begun[2].run.run_id, "me")
    redis.delete(f"cronq:run:{begun[3].run.run_id}")
    redis.set(f"cronq:run:{begun[3].run.run_id}", "x")
    redis.pexpire("lock:cronq:a", 1000)

    answers = process.exchange.renew([Renewing(each.run, each.execution, each.lock) for each in begun], T + 3.0)

    assert answers[0] == Renewed("", RENEWED)
    assert redis.pttl("lock:cronq:a") > 20_000
    assert answers[1] == Renewed("", TAKEN)
    assert answers[2] == Renewed("stop me", GONE)
    assert isinstance(answers[3].word, ResponseError)
    assert answers[4] == Renewed("", RENEWED)
    assert redis.zscore("cronq:running", begun[0].run.run_id) > T
    assert redis.zscore("cronq:running", begun[3].run.run_id) == 1


def test_a_redis_without_memory_renews_a_lock_and_refuses_a_run_that_has_none(
    process: Process, redis: Redis, store: Store
) -> None:
    store("a", mark=T, exclusive=True)
    process.app.enqueue("a")
    begun = process.begun()
    redis.pexpire("lock:cronq:a", 5000)
    redis.config_set("maxmemory", 1)
    try:
        [bare] = process.exchange.renew([Renewing(begun.run, begun.execution)], T + 3.0)
        [renewed] = process.exchange.renew([Renewing(begun.run, begun.execution, begun.lock)], T + 3.0)
    finally:
        redis.config_set("maxmemory", 0)

    assert isinstance(bare.word, ResponseError)
    assert refuses_all(bare.word)
    assert renewed.lock == RENEWED
    assert redis.pttl("lock:cronq:a") > 25_000


def test_a_renewal_keeps_a_lock_though_the_run_is_settled(process: Process, redis: Redis, store: Store) -> None:
    claim(process.app, store("a", mark=T, exclusive=True), T + 60)
    begun = process.begun()
    gone = Ending(Settlement("lost", "its worker vanished"), "beat", T + 40.0)
    run: Run = begun.run
    assert process.app.runs.settle(run, replace(gone, settlement=Settlement("failed", "x")))

    assert process.exchange.renew([Renewing(run, begun.execution, begun.lock)], T + 3.0) == [
        Renewed("settled", RENEWED)
    ]
