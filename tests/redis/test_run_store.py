"""A run from queued to settled, and back: what each script moves, and what it refuses to touch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Thread

import pytest
from redis import Redis
from redis.exceptions import ResponseError
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, StartedJobRegistry

from cronq.app.app import Cronq
from cronq.app.views import run_row
from cronq.beat.sweep import Sweep
from cronq.beat.tidy import Tidy
from cronq.jobs.spec import JobSpec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.exchange import Renewing
from cronq.runs.history import refused_rows
from cronq.runs.lost import RERUN, settle_or_rerun
from cronq.runs.run import Attempt, Ending, Run, Settlement, Start
from cronq.runs.store import Started
from cronq.runs.timing import Timing
from tests.redis.conftest import exchange_of, renewed

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
    sweep = Sweep(app.client, app.keys, app.runs, by="beat box.1", timing=Timing(0.0))
    sweep.once(T)
    return sweep


def pop(app: Cronq) -> None:
    app.client.lmove(QUEUE, POPPED, "LEFT", "RIGHT")


def start(app: Cronq, run_id: str = RUN, now_s: float = T + 1, execution: str = "e") -> Started:
    return app.runs.start(
        app.runs.get(run_id),
        Start(worker="w", host="box", pid=1, execution=execution, lease_s=90, now_s=now_s, seen_s=now_s),
    )


def settle(app: Cronq, outcome: str, **options: object) -> bool:
    options = {"attempt": 1, "execution": "e"} | options
    return app.runs.settle(app.runs.get(RUN), Ending(Settlement(outcome, "why"), by="w", now_s=T + 9, **options))  # type: ignore[arg-type]


def renew(app: Cronq, now_s: float, attempt: int = 1) -> str:
    return renewed(app, replace(app.runs.get(RUN), attempt=attempt), "e", now_s)


def requeued_by_a_person(app: Cronq) -> None:
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

    requeued_by_a_person(app)
    assert start(app) == Started("started", 2)


def test_a_second_attempt_begins_with_a_clean_row(app: Cronq, queued: Run) -> None:
    start(app)
    app.runs.settle(app.runs.get(RUN), Ending(Settlement("failed", "why", exit_code=3, error="E"), by="w", now_s=T + 9))
    requeued_by_a_person(app)

    start(app, now_s=T + 20)

    run = app.runs.get(RUN)
    assert (run.attempt, run.outcome, run.reason, run.ended_at, run.exit_code, run.error) == (2, *[None] * 5)


def test_what_became_of_the_attempt_before_is_kept(app: Cronq, queued: Run) -> None:
    start(app)
    app.runs.settle(
        app.runs.get(RUN), Ending(Settlement("failed", "why", exit_code=3, error="E"), by="w1", now_s=T + 9)
    )
    requeued_by_a_person(app)

    start(app, now_s=T + 20)
    settle(app, "succeeded", attempt=2)

    run = app.runs.get(RUN)
    assert (run.outcome, run.attempt, run.exit_code) == ("succeeded", 2, None)
    assert run.attempts == (Attempt(1, "failed", "why", "w1", "box", 1, T + 1.0, T + 9.0, 3, "E"),)
    assert run_row(app.history("invoices")[0])["attempts"][0]["outcome"] == "failed"


def test_the_attempt_before_one_that_waits_for_its_lock_is_kept_too(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    requeued_by_a_person(app)
    pop(app)

    app.runs.park(app.runs.get(RUN), "invoices", T + 10)
    waiting = app.runs.get(RUN)
    app.runs.wake_waiter("invoices")
    start(app)

    assert [(each.attempt, each.outcome) for each in waiting.attempts] == [(1, "failed")]
    assert (waiting.started_at, waiting.host, waiting.decided_by) == (None, None, None)
    assert app.client.ttl(app.keys.run(RUN)) == -1, "an open run does not expire"
    assert app.runs.get(RUN).attempts == waiting.attempts


def test_the_last_twenty_attempts_are_kept_and_of_each_error_the_end(app: Cronq, queued: Run) -> None:
    for attempt in range(1, 24):
        assert start(app) == Started("started", attempt)
        error = f"{'x' * 9000} {attempt}"
        app.runs.settle(app.runs.get(RUN), Ending(Settlement("failed", "why", error=error), by="w", now_s=T + attempt))
        requeued_by_a_person(app)
    start(app)

    run = app.runs.get(RUN)
    assert [each.attempt for each in run.attempts] == list(range(4, 24))
    assert all(each.error is not None and each.error.endswith(f"x {each.attempt}") for each in run.attempts)
    assert len(app.client.hget(app.keys.run(RUN), "attempts") or b"") < 100_000


@pytest.mark.parametrize("junk", ["junk", "7", "[1e999]", '{"a": 1}', "[" * 5000, b'["\xff"]'])
def test_damage_to_what_was_kept_does_not_keep_a_run_from_starting(app: Cronq, queued: Run, junk: str) -> None:
    start(app)
    settle(app, "failed")
    requeued_by_a_person(app)
    app.client.hset(app.keys.run(RUN), "attempts", junk)

    assert start(app) == Started("started", 2)

    assert run_row(app.runs.get(RUN))["attempt"] == 2


@pytest.mark.parametrize("key", ["rq:wip:default", f"rq:executions:{RUN}"])
def test_a_key_of_a_wrong_type_is_named_and_nothing_is_written(app: Cronq, queued: Run, key: str) -> None:
    app.client.set(key, "junk")

    started = start(app)

    assert (started.code, started.detail) == ("broken", f"{key} is not a zset")
    assert app.runs.get(RUN).state == "queued"
    assert not app.client.exists("cronq:running")


# Renewing


def test_a_renewed_run_is_heard_of_again(app: Cronq, queued: Run) -> None:
    start(app)

    assert renew(app, T + 5) == ""

    assert app.client.zscore(app.keys.running, RUN) == T + 5
    assert app.client.zscore("rq:wip:default", f"{RUN}:e") == T + 95
    assert app.client.zscore(f"rq:executions:{RUN}", "e") == T + 155


@pytest.mark.parametrize(
    "key", ["rq:wip:default", f"rq:executions:{RUN}", f"rq:execution:{RUN}:e", f"rq:job:{RUN}", f"cronq:stop:{RUN}"]
)
def test_a_renewal_is_heard_whatever_stands_where_rqs_own_records_were(app: Cronq, queued: Run, key: str) -> None:
    start(app)
    app.client.delete(key)
    app.client.rpush(key, "junk")

    assert renew(app, T + 5) == ""
    assert app.client.zscore(app.keys.running, RUN) == T + 5
    if not key.startswith("cronq:stop"):
        app.runs.ask_to_stop(RUN, "somebody")
        assert renew(app, T + 6) == "stop somebody"


def test_a_renewal_does_not_revive_a_run_that_was_settled(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "stopped")

    assert renew(app, T + 5) == "settled"
    assert app.client.zcard(app.keys.running) == 0


def test_an_earlier_attempt_is_told_that_the_run_is_no_longer_its_own(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "lost")
    requeued_by_a_person(app)
    start(app)

    assert renew(app, T + 5) == "settled"
    assert renew(app, T + 5, attempt=2) == ""


def test_a_run_whose_row_vanished_with_all_of_redis_goes_on(app: Cronq, queued: Run) -> None:
    start(app)
    app.client.flushall()

    assert renewed(app, queued, "e", T + 5) == ""
    assert app.client.keys("*") == []


def test_a_stop_reaches_the_attempt_that_runs(app: Cronq, queued: Run) -> None:
    start(app)
    app.runs.ask_to_stop(RUN, "ann@box")

    assert renew(app, T + 5) == "stop ann@box"


def test_a_stop_that_came_too_late_does_not_end_the_next_attempt(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    app.runs.ask_to_stop(RUN, "ann@box")
    requeued_by_a_person(app)

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
    requeued_by_a_person(app)
    start(app)

    assert settle(app, "succeeded", attempt=1) is False
    assert app.runs.get(RUN).state == "running"


def test_streaks_count_what_was_executed(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    assert app.jobs.get("invoices").state.streak == -1

    requeued_by_a_person(app)
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
    requeued_by_a_person(app)
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

    assert app.runs.wake_waiter("invoices") is True
    assert (app.runs.get(RUN).state, app.client.lrange(QUEUE, 0, -1)) == ("queued", [RUN.encode()])
    assert app.runs.wake_waiter("invoices") is False
    assert not list(app.client.scan_iter(f"{app.keys.prefix}:*waiting"))


def test_the_run_that_waited_longest_goes_first(app: Cronq, queued: Run) -> None:
    first, second = app.enqueue("invoices"), app.enqueue("invoices")
    app.runs.park(app.runs.get(second), "invoices", T + 1)
    app.runs.park(app.runs.get(first), "invoices", T + 2)
    app.client.delete(QUEUE)

    app.runs.wake_waiter("invoices")

    assert app.client.lrange(QUEUE, 0, -1) == [second.encode()]


def test_a_run_requeued_by_a_person_waits_for_its_lock_and_is_then_the_next_attempt(app: Cronq, queued: Run) -> None:
    start(app)
    settle(app, "failed")
    requeued_by_a_person(app)
    pop(app)

    app.runs.park(app.runs.get(RUN), "invoices", T + 10)

    waiting = app.runs.get(RUN)
    assert (waiting.state, waiting.outcome, waiting.attempt) == ("waiting", None, 2)
    assert app.client.llen(POPPED) == 0
    app.runs.wake_waiter("invoices")
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
    pop(app)
    start(app)
    settle(app, "failed")
    requeued_by_a_person(app)
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
    other = Sweep(app.client, app.keys, app.runs, by="beat box.2", timing=Timing(0.0))
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
    sweep = Sweep(app.client, app.keys, app.runs, by="beat", timing=Timing(30.0))

    sweep.once(T + 100)

    assert app.runs.get(RUN).state == "running"


def test_rqs_registries_do_not_grow_for_ever(app: Cronq, queued: Run, sweep: Sweep) -> None:
    start(app)
    settle(app, "succeeded", record_life_s=60)
    registries = ("rq:finished:default", "rq:failed:default", "rq:canceled:default")
    for registry in registries:
        app.client.zadd(registry, {"expired": T + 50, "kept": T + 900})
    app.client.hset("rq:job:cancelled-in-a-dashboard", "status", "canceled")  # RQ keeps these, with a score of then
    app.client.zadd("rq:canceled:default", {"cancelled-in-a-dashboard": T + 50})
    app.client.sadd("rq:workers", "rq:worker:dead")
    app.client.sadd("rq:workers:default", "rq:worker:dead")

    Tidy(app.client, app.heartbeats).once(["rq:queue:default"], T + 100)

    left = {name: set(app.client.zrange(name, 0, -1)) for name in registries}
    assert left == {
        "rq:finished:default": {b"kept"},
        "rq:failed:default": {b"kept"},
        "rq:canceled:default": {b"kept", b"cancelled-in-a-dashboard"},
    }
    assert app.client.exists("rq:workers", "rq:workers:default") == 0


def lost(app: Cronq, *, after: float = 100, by: str = "beat", attempt: int = 1, crash: bool = True) -> str | None:
    """What becomes of the run, whose job asked for a rerun, when it was not heard of for a while."""
    now_s = T + after
    gone = Settlement("lost", "gone")
    ending = Ending(gone, by, now_s, attempt=attempt, unseen_since=now_s - 30, is_crash=crash)
    return settle_or_rerun(app.runs, app.runs.get(RUN), ending, 3)


def start_again(app: Cronq, now_s: float) -> int:
    pop(app)
    started = app.runs.start(
        app.runs.get(RUN),
        Start(
            worker="w",
            host="box",
            pid=1,
            execution=f"e{now_s}",
            lease_s=90,
            now_s=now_s,
            seen_s=now_s,
            max_crashes=3,
        ),
    )
    assert started.code == "started"
    return started.attempt


def test_a_run_that_may_be_run_again_is_the_next_attempt_at_the_front_of_its_queue(app: Cronq, queued: Run) -> None:
    start_again(app, T + 1)
    app.enqueue("invoices")

    assert lost(app) == RERUN

    run = app.runs.get(RUN)
    assert (run.state, run.attempt, run.crashes, run.outcome) == ("queued", 2, 1, None)
    assert run.reason == "gone; run again"
    assert [(each.attempt, each.outcome, each.host) for each in run.attempts] == [(1, "lost", "box")]
    assert app.client.lindex(QUEUE, 0) == RUN.encode()
    assert app.client.zscore(app.keys.running, RUN) is None
    assert app.runs.active(["invoices"])["invoices"][RUN] == "queued"
    job = Job.fetch(RUN, connection=app.client)
    assert (job.get_status(), job.started_at, job.worker_name) == (JobStatus.QUEUED, None, None)
    assert app.client.exists("rq:wip:default", f"rq:executions:{RUN}", f"rq:execution:{RUN}:e{T + 1}") == 0
    assert start_again(app, T + 101) == 2


def test_a_loss_is_a_push_however_many_find_it(app: Cronq, queued: Run, sweep: Sweep) -> None:
    start_again(app, T + 1)
    sweeps = [Sweep(app.client, app.keys, app.runs, by=f"beat box.{n}", timing=Timing(0.0)) for n in range(8)]
    for each in sweeps:
        each.once(T)
    registry = StartedJobRegistry("default", connection=app.client)

    def observe() -> None:
        registry.get_job_ids(cleanup=False)

    threads = [Thread(target=each.once, args=(T + 100,)) for each in sweeps]
    threads += [Thread(target=observe) for _ in sweeps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert app.client.lrange(QUEUE, 0, -1) == [RUN.encode()]
    assert app.runs.get(RUN).crashes == 1


def test_the_third_crash_ends_a_run_with_its_reason_in_rqs_failed_registry(app: Cronq, queued: Run) -> None:
    outcomes = []
    for attempt in (1, 2, 3):
        assert start_again(app, T + 100 * attempt) == attempt
        outcomes.append(lost(app, after=100 * attempt + 50, attempt=attempt))

    run = app.runs.get(RUN)
    assert outcomes == [RERUN, RERUN, "failed"]
    assert (run.outcome, run.crashes, run.attempt) == ("failed", 3, 3)
    assert run.reason == "3 of its workers vanished (max_crashes is 3); the last: gone"
    assert app.client.zscore("rq:failed:default", RUN) is not None
    assert app.client.llen(QUEUE) == 0


def test_a_worker_that_leaves_in_good_order_is_no_crash(app: Cronq, queued: Run) -> None:
    for attempt in range(1, 6):
        start_again(app, T + 100 * attempt)
        assert lost(app, after=100 * attempt + 50, attempt=attempt, crash=False) == RERUN

    assert (app.runs.get(RUN).attempt, app.runs.get(RUN).crashes) == (6, 0)


def test_crashes_are_counted_anew_when_a_person_puts_the_run_back(app: Cronq, queued: Run) -> None:
    start_again(app, T + 1)
    lost(app)
    start_again(app, T + 101)
    settle(app, "failed", attempt=2, execution=f"e{T + 101}")
    requeued_by_a_person(app)

    start_again(app, T + 300)

    assert (app.runs.get(RUN).attempt, app.runs.get(RUN).crashes) == (3, 0)


def test_a_run_that_somebody_asked_to_stop_is_not_run_again(app: Cronq, queued: Run) -> None:
    start_again(app, T + 1)
    app.runs.ask_to_stop(RUN, "ann")

    assert lost(app) == "stopped"

    assert (app.runs.get(RUN).outcome, app.runs.get(RUN).decided_by) == ("stopped", "ann")


def test_a_run_that_is_heard_of_again_is_left_alone(app: Cronq, queued: Run) -> None:
    start_again(app, T + 1)
    renewed(app, app.runs.get(RUN), f"e{T + 1}", T + 99)

    assert lost(app) is None

    assert app.runs.get(RUN).state == "running"


def test_a_guardian_whose_run_was_put_back_can_neither_settle_nor_renew_it(app: Cronq, queued: Run) -> None:
    start_again(app, T + 1)
    old = app.runs.get(RUN)
    lost(app)
    start_again(app, T + 101)

    assert not app.runs.settle(old, Ending(Settlement("succeeded", "late"), by="w", now_s=T + 110, attempt=1))
    assert renewed(app, old, f"e{T + 1}", T + 110) == "settled"

    assert app.runs.get(RUN).state == "running"


def test_a_put_back_that_is_sent_again_because_its_reply_was_lost_is_the_same_one(app: Cronq, queued: Run) -> None:
    start_again(app, T + 1)
    left = Ending(Settlement("lost", "left"), "w", T + 5, attempt=1, execution=f"e{T + 1}", is_crash=False)

    assert settle_or_rerun(app.runs, app.runs.get(RUN), left, 3) == RERUN
    assert settle_or_rerun(app.runs, app.runs.get(RUN), left, 3) == RERUN

    assert app.client.lrange(QUEUE, 0, -1) == [RUN.encode()]


@pytest.mark.parametrize("key", ["rq:queue:default", "cronq:events", "cronq:stop:" + RUN, "rq:wip:default"])
def test_a_run_that_cannot_be_queued_again_is_settled_instead(app: Cronq, queued: Run, key: str) -> None:
    start_again(app, T + 1)
    app.client.delete(key)
    app.client.hset(key, "no", "such type")

    with suppress(ResponseError):  # settling meets it too, and the next sweep goes on with the others
        lost(app)

    assert app.runs.get(RUN).state in ("running", "done")
    assert app.runs.get(RUN).attempt == 1


def test_a_guardian_in_doubt_about_the_time_is_heard_of_now(app: Cronq, queued: Run) -> None:
    facts = {"execution": "e", "lease_s": 90, "now_s": T + 1.0}  # years ago
    before = app.exact_now_s()
    app.runs.start(app.runs.get(RUN), Start(worker="w", host="box", pid=1, **facts))  # type: ignore[arg-type]
    started = app.client.zscore(app.keys.running, RUN)
    exchange_of(app).renew([Renewing(app.runs.get(RUN), "e")], T + 1.0)
    heard = app.client.zscore(app.keys.running, RUN)

    assert started is not None
    assert heard is not None
    assert before <= float(started) < float(heard) <= app.exact_now_s()


def test_a_jump_of_the_servers_clock_makes_nobody_lost(
    app: Cronq, queued: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(app, now_s=T)
    moments = [1000.0]
    monkeypatch.setattr("cronq.beat.sweep.boot_s", lambda: moments[0])
    sweep = Sweep(app.client, app.keys, app.runs, by="beat", timing=Timing(3.0))
    for _ in range(5):  # within a moment of the server the boot clock goes on for seconds: its clock has jumped back
        sweep.once(T + 100)
        moments[0] += 1.8

    assert app.runs.get(RUN).state == "running"


def test_a_gap_in_which_redis_did_not_answer_makes_nobody_lost(
    app: Cronq, queued: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(app, now_s=T)
    moments = [1000.0]
    monkeypatch.setattr("cronq.beat.sweep.boot_s", lambda: moments[0])
    monkeypatch.setattr("cronq.beat.sweep._JUMP_S", 1000.0)
    sweep = Sweep(app.client, app.keys, app.runs, by="beat", timing=Timing(3.0))
    for pause_s in (1.0, 1.0, 4.0, 1.0, 1.0):
        sweep.once(T + 100)
        moments[0] += pause_s
    sweep.once(T + 100)
    assert app.runs.get(RUN).state == "running"

    moments[0] += 1.0
    sweep.once(T + 100)

    assert app.runs.get(RUN).outcome == "lost"


def test_a_guardian_that_is_back_goes_on_and_its_outcome_replaces_that_it_was_lost(
    app: Cronq, queued: Run, sweep: Sweep
) -> None:
    start(app)
    sweep.once(T + 100)
    assert app.runs.get(RUN).outcome == "lost"

    assert renew(app, T + 101) == "", "it may go on: nobody runs it again"
    assert settle(app, "succeeded")
    assert not settle(app, "succeeded"), "sent again, it changes nothing"

    run = app.runs.get(RUN)
    assert (run.state, run.outcome, run.attempt, run.decided_by) == ("done", "succeeded", 1, "w")
    assert app.client.zscore(app.keys.running, RUN) is None
    assert app.client.zscore("rq:failed:default", RUN) is None
    assert app.client.zscore("rq:finished:default", RUN) is not None
    assert app.jobs.get("invoices").state.streak == 1


@pytest.mark.parametrize("what", ["put back", "another attempt", "another execution", "stopped", "lost again"])
def test_what_was_decided_meanwhile_stays(app: Cronq, queued: Run, sweep: Sweep, what: str) -> None:
    start(app)
    if what == "stopped":
        settle(app, "stopped")
    sweep.once(T + 100)
    options: dict[str, object] = {}
    if what in ("put back", "another attempt"):
        requeued_by_a_person(app)
    if what == "another attempt":
        pop(app)
        assert start(app, now_s=T + 120, execution="f").attempt == 2
    if what == "another execution":
        options["execution"] = "f"

    assert not settle(app, "lost" if what == "lost again" else "succeeded", **options)
    if what == "another attempt":
        assert renew(app, T + 121) == "settled"


# At most once


def test_a_run_that_may_be_started_once_is_not_started_again_whoever_puts_it_back(app: Cronq, queued: Run) -> None:
    def start_once(execution: str) -> str:
        run = app.runs.get(RUN)
        facts = {"worker": "w", "host": "box", "pid": 1, "lease_s": 90, "now_s": T + 1, "once": True}
        return app.runs.start(run, Start(execution=execution, **facts)).code  # type: ignore[arg-type]

    pop(app)
    assert start_once("e") == "started"
    assert start_once("e") == "started", "a start that is sent again is the same start"
    settle(app, "failed")
    requeued_by_a_person(app)
    pop(app)

    assert start_once("other") == "begun"

    app.runs.reject(RUN.encode(), "default", "it was started before", by="w", now_s=T + 20)
    assert app.runs.get(RUN).outcome == "failed"
    assert Job.fetch(RUN, connection=app.client).get_status() == JobStatus.FAILED
    assert app.client.llen(POPPED) == 0


# What is set aside


def test_an_id_without_anything_behind_it_is_remembered_with_its_reason(app: Cronq, queued: Run) -> None:
    app.client.rpush(POPPED, b"\xffno-hash")

    app.runs.reject(b"\xffno-hash", "default", "there is nothing of that id", by="worker w", now_s=T + 1)
    app.runs.reject(b"\xffno-hash", "default", "seen by another", by="worker v", now_s=T + 1)

    (row,) = refused_rows(app.runs, 10)
    assert (row.outcome, row.reason, row.decided_by, row.queue) == (
        "failed", "there is nothing of that id", "worker w", "default",
    )  # fmt: skip
    assert row.ended_at == T + 1
    assert app.client.llen(POPPED) == 0


def test_an_id_that_a_dead_worker_had_popped_is_set_aside_when_there_is_nothing_of_it(app: Cronq, sweep: Sweep) -> None:
    app.client.sadd("rq:queues", QUEUE)
    foreign = Queue("default", connection=app.client).enqueue(print, job_id="foreign")
    pop(app)
    app.client.rpush(POPPED, "nothing")

    sweep.once(T + 2)

    assert app.client.lrange(QUEUE, 0, -1) == [foreign.id.encode()]
    assert app.client.llen(POPPED) == 0
    assert [row.run_id for row in refused_rows(app.runs, 10)] == ["nothing"]


def test_a_stray_id_of_a_run_at_work_is_removed_from_where_a_dead_worker_left_it(
    app: Cronq, queued: Run, sweep: Sweep
) -> None:
    pop(app)
    start(app)
    app.client.rpush(POPPED, RUN)

    sweep.once(T + 2)

    assert app.client.llen(POPPED) == app.client.llen(QUEUE) == 0


# Under a stock worker


@pytest.mark.parametrize(("status", "outcome"), [("stopped", "stopped"), ("failed", "failed"), ("started", None)])
def test_what_a_stock_worker_ended_without_a_word_to_the_ledger_is_settled(
    app: Cronq, queued: Run, sweep: Sweep, status: str, outcome: str | None
) -> None:
    facts = {"worker": "stock", "host": "box", "pid": 1, "execution": "e", "lease_s": 3660, "now_s": T + 1}
    app.runs.start(app.runs.get(RUN), Start(stock=True, **facts))  # type: ignore[arg-type]
    app.client.hset(f"rq:job:{RUN}", "status", status)

    sweep.once(T + 2)

    assert app.runs.get(RUN).outcome == outcome


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
        pop(app)
        start(app, run_id)
        app.runs.ask_to_stop(run_id, "ann")
        app.runs.settle(
            app.runs.get(run_id), Ending(Settlement(outcome, "why", error="E"), by="w", now_s=T + 9, execution="e")
        )
    for outcome in ("skipped", "expired", "stopped"):
        run_id = app.enqueue("many")
        app.runs.settle(app.runs.get(run_id), Ending(Settlement(outcome, "why"), by="w", now_s=T + 9, expect="queued"))
    with app.lock("many"):
        pass

    mortal = {key.decode() for key in redis.scan_iter("*") if redis.ttl(key) == -1}

    assert mortal - {
        "cronq:jobs", "cronq:agenda", "cronq:running", "cronq:events", "cronq:waiting", "cronq:epoch", "cronq:schema",
        "cronq:fence:many", "rq:queues", "rq:finished:default", "rq:failed:default", "rq:canceled:default",
    } == {f"cronq:job:many{part}" for part in ("", ":state", ":template", ":manual")}  # fmt: skip


# A long queue


def test_a_run_that_ends_does_not_look_through_its_queue(app: Cronq, queued: Run, redis: Redis) -> None:
    pop(app)
    start(app)
    redis.rpush(QUEUE, *(f"other-{number}" for number in range(20_000)))
    redis.config_resetstat()

    app.runs.settle(app.runs.get(RUN), Ending(Settlement("succeeded", "ok"), by="w", now_s=T + 2, execution="e"))

    looked = redis.info("commandstats").get("cmdstat_lrem", {"usec": 0})
    assert looked["usec"] < 200  # through 20,000 entries takes longer
    assert redis.llen(QUEUE) == 20_000


def test_a_run_stopped_in_a_very_long_queue_is_dropped_when_its_turn_comes(
    app: Cronq, queued: Run, redis: Redis
) -> None:
    redis.rpush(QUEUE, *(f"other-{number}" for number in range(100_001)))

    assert app.stop(RUN) == [RUN]

    assert app.runs.get(RUN).outcome == "stopped"
    assert not redis.exists(f"rq:job:{RUN}")
    pop(app)
    assert start(app).code == "settled"
    assert redis.llen(POPPED) == 0
