"""A run from queued to settled, and back: what each script moves, and what it refuses to touch."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry

from cronq.app import Cronq
from cronq.claim import TickClaim
from cronq.due import Decision
from cronq.job import JobSpec
from cronq.run import Attempt, Run
from cronq.run_store import Settlement, Started
from cronq.sweep import Sweep

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
RUN = "invoices-20260105T070000Z"
QUEUE = "rq:queue:default"
POPPED = "rq:queue:default:intermediate"


@pytest.fixture
def queued(app: Cronq, store: Store) -> Run:
    """The run of one tick, on its queue."""
    spec = store("invoices", mark=T - 1, exclusive=True)
    claim = TickClaim(spec, app.jobs.version_of("invoices"), Decision(T, None, "due", "schedule", T + 60))
    app.claimer("beat").claim_due([claim], "token", T + 0.5)
    return app.runs.get(RUN)


@pytest.fixture
def sweep(app: Cronq) -> Sweep:
    """A sweep that has seen Redis answer for long enough."""
    sweep = Sweep(app.client, app.keys, app.runs, by="beat box.1", lost_after_s=0.0)
    sweep.once(T)
    return sweep


def pop(app: Cronq) -> None:
    app.client.lmove(QUEUE, POPPED, "LEFT", "RIGHT")


def start(app: Cronq, run_id: str = RUN, now_s: float = T + 1, execution: str = "e") -> Started:
    return app.runs.start(
        app.runs.get(run_id), worker="w", host="box", pid=1, execution=execution, lease_s=90, now_s=now_s
    )


def settle(app: Cronq, outcome: str, **options: object) -> bool:
    options = {"attempt": 1, "execution": "e"} | options
    return app.runs.settle(app.runs.get(RUN), Settlement(outcome, "why"), by="w", now_s=T + 9, **options)  # type: ignore[arg-type]


def renew(app: Cronq, now_s: float, attempt: int = 1) -> str:
    return app.runs.renew(app.runs.get(RUN), attempt=attempt, execution="e", lease_s=90, now_s=now_s)


def put_back_by_a_person(app: Cronq) -> None:
    """What `rq requeue` and RQ's dashboards do."""
    FailedJobRegistry("default", connection=app.client).requeue(RUN)


# Starting


def test_a_run_that_starts_leaves_its_queue_and_counts_as_heard_of(app: Cronq, queued: Run) -> None:
    pop(app)

    assert start(app) == Started("started", 1)

    assert app.client.llen(POPPED) == 0
    assert app.client.zscore(app.keys.running, RUN) == T + 1
    run = app.runs.get(RUN)
    assert (run.state, run.host, run.pid, run.worker, run.started_at) == ("running", "box", 1, "w", T + 1)
    assert app.runs.active(["invoices"]) == {"invoices": {RUN: "running"}}


def test_a_run_does_not_start_twice(app: Cronq, queued: Run) -> None:
    start(app)
    app.client.rpush(POPPED, RUN)

    assert start(app, execution="another").code == "running"
    assert app.client.llen(POPPED) == 0


def test_a_start_that_is_sent_again_because_its_reply_was_lost_is_the_same_start(app: Cronq, queued: Run) -> None:
    assert [start(app), start(app)] == [Started("started", 1)] * 2


def test_a_settled_run_does_not_start_again_unless_a_person_put_it_back(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")

    assert start(app).code == "settled"

    put_back_by_a_person(app)
    assert start(app) == Started("started", 2)


def test_a_second_attempt_begins_with_a_clean_row(app: Cronq, queued: Run) -> None:
    start(app)
    app.runs.settle(app.runs.get(RUN), Settlement("failed", "why", exit_code=3, error="E"), by="w", now_s=T + 9)
    put_back_by_a_person(app)

    start(app, now_s=T + 20)

    run = app.runs.get(RUN)
    assert (run.attempt, run.outcome, run.reason, run.ended_at, run.exit_code, run.error) == (2, *[None] * 5)


def test_what_became_of_the_attempt_before_is_kept(app: Cronq, queued: Run) -> None:
    start(app)
    app.runs.settle(app.runs.get(RUN), Settlement("failed", "why", exit_code=3, error="E"), by="w1", now_s=T + 9)
    put_back_by_a_person(app)

    start(app, now_s=T + 20)
    settle(app, "succeeded", attempt=2)

    run = app.runs.get(RUN)
    assert (run.outcome, run.attempt, run.exit_code) == ("succeeded", 2, None)
    assert run.attempts == (Attempt(1, "failed", "why", "w1", "box", 1, T + 1.0, T + 9.0, 3, "E"),)
    assert app.history("invoices")[0].as_json()["attempts"][0]["outcome"] == "failed"


def test_the_attempt_before_one_that_waits_for_its_lock_is_kept_too(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    put_back_by_a_person(app)
    pop(app)

    app.runs.park(app.runs.get(RUN), "invoices", T + 10)
    waiting = app.runs.get(RUN)
    app.runs.put_back("invoices")
    start(app)

    assert [(each.attempt, each.outcome) for each in waiting.attempts] == [(1, "failed")]
    assert (waiting.started_at, waiting.host, waiting.decided_by) == (None, None, None)
    assert app.client.ttl(app.keys.run(RUN)) == -1, "an open run does not expire"
    assert app.runs.get(RUN).attempts == waiting.attempts


def test_the_last_twenty_attempts_are_kept_and_of_each_error_the_end(app: Cronq, queued: Run) -> None:
    for attempt in range(1, 24):
        assert start(app) == Started("started", attempt)
        error = f"{'x' * 9000} {attempt}"
        app.runs.settle(app.runs.get(RUN), Settlement("failed", "why", error=error), by="w", now_s=T + attempt)
        put_back_by_a_person(app)
    start(app)

    run = app.runs.get(RUN)
    assert [each.attempt for each in run.attempts] == list(range(4, 24))
    assert all(each.error is not None and each.error.endswith(f"x {each.attempt}") for each in run.attempts)
    assert len(app.client.hget(app.keys.run(RUN), "attempts") or b"") < 100_000


@pytest.mark.parametrize("junk", ["junk", "7", "[1e999]", '{"a": 1}', "[" * 5000, b'["\xff"]'])
def test_damage_to_what_was_kept_does_not_keep_a_run_from_starting(app: Cronq, queued: Run, junk: str) -> None:
    start(app)
    settle(app, "failed")
    put_back_by_a_person(app)
    app.client.hset(app.keys.run(RUN), "attempts", junk)

    assert start(app) == Started("started", 2)

    assert app.runs.get(RUN).as_json()["attempt"] == 2


def test_a_key_of_a_wrong_type_is_named_and_nothing_is_written(app: Cronq, queued: Run) -> None:
    app.client.set("rq:wip:default", "junk")

    started = start(app)

    assert (started.code, started.detail) == ("broken", "rq:wip:default is not a zset")
    assert app.runs.get(RUN).state == "queued"


# Renewing


def test_a_renewed_run_is_heard_of_again(app: Cronq, queued: Run) -> None:
    start(app)

    assert renew(app, T + 5) == ""

    assert app.client.zscore(app.keys.running, RUN) == T + 5
    assert app.client.zscore("rq:wip:default", f"{RUN}:e") == T + 95
    assert app.client.zscore(f"rq:executions:{RUN}", "e") == T + 155


def test_a_renewal_does_not_revive_a_run_that_was_settled(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "lost")

    assert renew(app, T + 5) == "settled"
    assert app.client.zcard(app.keys.running) == 0


def test_an_earlier_attempt_is_told_that_the_run_is_no_longer_its_own(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "lost")
    put_back_by_a_person(app)
    start(app)

    assert renew(app, T + 5, attempt=1) == "settled"
    assert renew(app, T + 5, attempt=2) == ""


def test_a_run_whose_row_vanished_with_all_of_redis_goes_on(app: Cronq, queued: Run) -> None:
    start(app)
    app.client.flushall()

    assert app.runs.renew(queued, attempt=1, execution="e", lease_s=90, now_s=T + 5) == ""
    assert app.client.keys("*") == []


def test_a_stop_reaches_the_attempt_that_runs(app: Cronq, queued: Run) -> None:
    start(app)
    app.runs.ask_to_stop(RUN, "ann@box")

    assert renew(app, T + 5) == "stop ann@box"


def test_a_stop_that_came_too_late_does_not_end_the_next_attempt(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    app.runs.ask_to_stop(RUN, "ann@box")
    put_back_by_a_person(app)

    start(app)

    assert renew(app, T + 5, attempt=2) == ""


# Settling


def test_the_first_to_settle_a_run_decides_its_outcome(app: Cronq, queued: Run) -> None:
    start(app)

    assert settle(app, "succeeded") is True
    assert settle(app, "lost") is False

    assert app.runs.get(RUN).outcome == "succeeded"
    assert app.runs.active(["invoices"]) == {"invoices": {}}


def test_a_guardian_of_an_earlier_attempt_cannot_settle_the_next(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "lost")
    put_back_by_a_person(app)
    start(app)

    assert settle(app, "succeeded", attempt=1) is False
    assert app.runs.get(RUN).state == "running"


def test_streaks_count_what_was_executed(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    assert app.jobs.get("invoices").state.streak == -1

    put_back_by_a_person(app)
    start(app)
    settle(app, "succeeded", attempt=2)

    state = app.jobs.get("invoices").state
    assert (state.streak, state.last_outcome, state.success_tick) == (1, "succeeded", T)


@pytest.mark.parametrize("execution", ["e", None])
def test_nothing_of_an_execution_is_left_whoever_settles_and_however_late(
    app: Cronq, queued: Run, execution: str | None
) -> None:
    start(app)
    if execution is None:  # the sweep came so late that RQ's own record of the execution had expired
        app.client.delete(f"rq:executions:{RUN}", f"rq:execution:{RUN}:e")
    app.client.zadd("rq:wip:default", {f"{RUN}0:other": T + 90})

    settle(app, "lost", execution=execution)

    assert app.client.zrange("rq:wip:default", 0, -1) == [f"{RUN}0:other".encode()]
    assert list(app.client.scan_iter("rq:execution*")) == []


def test_an_outcome_replaces_the_earlier_one_in_rqs_registries_too(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "lost")
    put_back_by_a_person(app)
    start(app)
    app.client.zadd("rq:failed:default", {RUN: T + 90})  # a stock worker found it abandoned during an outage

    settle(app, "succeeded", attempt=2)

    assert app.client.zscore("rq:failed:default", RUN) is None
    assert app.client.zscore("rq:finished:default", RUN) is not None


# Waiting for a lock


def test_a_run_that_waits_is_on_no_queue_and_goes_back_to_its_own(app: Cronq, queued: Run) -> None:
    pop(app)

    app.runs.park(queued, "invoices", T + 1)
    assert (app.runs.get(RUN).state, app.client.llen(QUEUE), app.client.llen(POPPED)) == ("waiting", 0, 0)

    assert app.runs.put_back("invoices") is True
    assert (app.runs.get(RUN).state, app.client.lrange(QUEUE, 0, -1)) == ("queued", [RUN.encode()])
    assert app.runs.put_back("invoices") is False
    assert not list(app.client.scan_iter(f"{app.keys.prefix}:*waiting"))


def test_the_run_that_waited_longest_goes_first(app: Cronq, queued: Run) -> None:
    first, second = app.enqueue("invoices"), app.enqueue("invoices")
    app.runs.park(app.runs.get(second), "invoices", T + 1)
    app.runs.park(app.runs.get(first), "invoices", T + 2)
    app.client.delete(QUEUE)

    app.runs.put_back("invoices")

    assert app.client.lrange(QUEUE, 0, -1) == [second.encode()]


def test_a_run_put_back_by_a_person_waits_for_its_lock_and_is_then_the_next_attempt(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    put_back_by_a_person(app)
    pop(app)

    app.runs.park(app.runs.get(RUN), "invoices", T + 10)

    waiting = app.runs.get(RUN)
    assert (waiting.state, waiting.outcome, waiting.attempt) == ("waiting", None, 2)
    assert app.client.llen(POPPED) == 0
    app.runs.put_back("invoices")
    assert start(app) == Started("started", 2)


def test_a_settled_run_does_not_wait_for_anything(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    app.client.rpush(POPPED, RUN)

    app.runs.park(app.runs.get(RUN), "invoices", T + 10)

    assert app.runs.get(RUN).state == "done"
    assert app.client.llen(POPPED) == 0


# What vanished


def test_an_id_that_was_popped_and_never_started_goes_back_to_the_head_of_its_queue(
    app: Cronq, queued: Run, sweep: Sweep
) -> None:
    pop(app)
    app.enqueue("invoices")

    sweep.once(T + 2)

    assert app.client.lindex(QUEUE, 0) == RUN.encode()
    assert app.client.llen(POPPED) == 0


def test_a_run_that_a_person_put_back_is_not_lost_between_pop_and_start_either(
    app: Cronq, queued: Run, sweep: Sweep
) -> None:
    start(app)
    settle(app, "failed")
    put_back_by_a_person(app)
    pop(app)

    sweep.once(T + 20)

    assert app.client.lrange(QUEUE, 0, -1) == [RUN.encode()]


def test_one_key_of_a_wrong_type_does_not_stop_the_sweep(app: Cronq, queued: Run, store: Store, sweep: Sweep) -> None:
    pop(app)
    start(app)
    store("broken", mark=T - 1)
    broken = app.enqueue("broken")
    pop(app)
    app.client.delete(app.keys.run(broken))
    app.client.set(app.keys.run(broken), "junk")
    app.client.zadd(app.keys.running, {broken: 1})

    sweep.once(T + 100)

    assert app.runs.get(RUN).outcome == "lost"


def test_a_lost_run_is_settled_once_however_many_beats_sweep(app: Cronq, queued: Run, sweep: Sweep) -> None:
    start(app)
    other = Sweep(app.client, app.keys, app.runs, by="beat box.2", lost_after_s=0.0)
    other.once(T)

    sweep.once(T + 100)
    other.once(T + 100)

    run = app.runs.get(RUN)
    assert (run.outcome, run.decided_by) == ("lost", "beat box.1")
    assert run.reason == "worker w (pid 1 on box) was not heard of for 0s"
    lost = [entry for _, entry in app.client.xrange(app.keys.events) if entry[b"type"] == b"lost"]
    assert len(lost) == 1


def test_a_beat_that_has_just_met_redis_again_judges_nobody(app: Cronq, queued: Run) -> None:
    start(app)
    sweep = Sweep(app.client, app.keys, app.runs, by="beat", lost_after_s=30.0)

    sweep.once(T + 100)

    assert app.runs.get(RUN).state == "running"


def test_rqs_registries_do_not_grow_for_ever(app: Cronq, queued: Run, sweep: Sweep) -> None:
    start(app)
    settle(app, "succeeded", result_ttl_s=60)
    registries = ("rq:finished:default", "rq:failed:default", "rq:canceled:default")
    for registry in registries:
        app.client.zadd(registry, {"expired": T + 50, "kept": T + 900})
    app.client.hset("rq:job:cancelled-in-a-dashboard", "status", "canceled")  # RQ keeps these, with a score of then
    app.client.zadd("rq:canceled:default", {"cancelled-in-a-dashboard": T + 50})
    app.client.sadd("rq:workers", "rq:worker:dead")
    app.client.sadd("rq:workers:default", "rq:worker:dead")

    Sweep(app.client, app.keys, app.runs, by="beat", lost_after_s=30.0).once(T + 100)

    left = {name: set(app.client.zrange(name, 0, -1)) for name in registries}
    assert left == {
        "rq:finished:default": {b"kept"},
        "rq:failed:default": {b"kept"},
        "rq:canceled:default": {b"kept", b"cancelled-in-a-dashboard"},
    }
    assert app.client.exists("rq:workers", "rq:workers:default") == 0


# What RQ makes of it


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("succeeded", JobStatus.FINISHED),
        ("failed", JobStatus.FAILED),
        ("timed_out", JobStatus.FAILED),
        ("lost", JobStatus.FAILED),
        ("stopped", JobStatus.STOPPED),
    ],
)
def test_rq_shows_the_status_that_it_would_give_itself(
    app: Cronq, queued: Run, outcome: str, status: JobStatus
) -> None:
    start(app)
    settle(app, outcome)

    assert Job.fetch(RUN, connection=app.client).get_status() == status


@pytest.mark.parametrize("outcome", ["skipped", "expired", "stopped"])
def test_a_run_that_was_never_started_is_no_failure_to_rq(app: Cronq, queued: Run, outcome: str) -> None:
    settle(app, outcome, expect="queued", attempt=None, execution=None)

    assert Job.fetch(RUN, connection=app.client).get_status() == JobStatus.CANCELED
    assert app.client.zscore("rq:canceled:default", RUN) is not None
    assert app.client.exists("rq:failed:default") == 0
    assert Queue("default", connection=app.client).job_ids == []


def test_every_outcome_leaves_only_keys_with_a_life_or_permanent_ones(
    app: Cronq, redis: Redis, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    store("many", mark=T - 1)
    for outcome in ("succeeded", "failed", "timed_out", "stopped", "lost"):
        run_id = app.enqueue("many")
        start(app, run_id)
        app.runs.ask_to_stop(run_id, "ann")
        app.runs.settle(app.runs.get(run_id), Settlement(outcome, "why", error="E"), by="w", now_s=T + 9, execution="e")
    for outcome in ("skipped", "expired", "stopped"):
        run_id = app.enqueue("many")
        app.runs.settle(app.runs.get(run_id), Settlement(outcome, "why"), by="w", now_s=T + 9, expect="queued")
    with app.lock("many"):
        pass

    mortal = {key.decode() for key in redis.scan_iter("*") if redis.ttl(key) == -1}

    assert mortal - {
        "cronq:jobs", "cronq:agenda", "cronq:running", "cronq:events", "cronq:waiting", "cronq:epoch", "cronq:schema",
        "cronq:fence:many", "rq:queues", "rq:finished:default", "rq:failed:default", "rq:canceled:default",
    } == {f"cronq:job:many{part}" for part in ("", ":state", ":template", ":manual")}  # fmt: skip
