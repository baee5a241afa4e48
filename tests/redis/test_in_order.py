"""Jobs with `backfill=True`: each tick runs, one at a time, when the one before has succeeded."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.beat.audit import Audit
from cronq.beat.beat import Beat
from cronq.beat.repair import Repair
from cronq.db.scripts import source
from cronq.jobs.in_order import HALTING
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Settlement
from tests.redis.queue_worker import Worker
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
DAY = 86400
MON, TUE, WED, THU, FRI = range(5)


def tick(day: int) -> int:
    return T + day * DAY


def run_of(day: int) -> str:
    return run_id_of("etl", tick(day))


def queued(redis: Redis) -> list[str]:
    return [run_id.decode() for run_id in redis.lrange("rq:queue:default", 0, -1)]


def ledger(app: Cronq) -> dict[int, str]:
    """What became of each tick, by its day, oldest first."""
    return {(run.tick - T) // DAY: run.outcome or run.state for run in reversed(app.history("etl", 100)) if run.tick}


class Beats:
    """Any number of beats, one of which passes at a moment of a day."""

    def __init__(self, app: Cronq) -> None:
        self.app = app
        self.beats = [app.beat() for _ in range(2)]
        self.passes = 0

    def look(self, now_s: float) -> None:
        """Pass until nothing more is due at once."""
        for _ in range(10):
            self.passes += 1
            if self._beat.pass_once(now_s=now_s).wait_s > 0.1:
                return
        raise AssertionError("beats pass without a rest")

    @property
    def _beat(self) -> Beat:
        return self.beats[self.passes % 2]


@pytest.fixture
def worker(app: Cronq) -> Worker:
    return Worker(app)


@pytest.fixture
def beats(app: Cronq) -> Beats:
    return Beats(app)


@pytest.fixture
def daily(store: Store) -> Callable[..., JobSpec]:
    """A daily job with `backfill`, made on Sunday."""

    def _daily(**options: Any) -> JobSpec:
        return store("etl", mark=tick(MON) - 3600, cron="0 7 * * *", backfill=True, **options)

    return _daily


def due_again(redis: Redis) -> float:
    """When beats look at the job next."""
    score = redis.zscore("cronq:agenda", "etl")
    assert score is not None
    return float(score)


def go_through(app: Cronq, beats: Beats, worker: Worker, now_s: float, most: int = 20) -> None:
    """Let beats and a worker take turns until nothing happens any more."""
    for _ in range(most):
        before = len(worker.done)
        # Whatever lets a job go on puts it on the agenda by the clock of the server, which is not that of these beats.
        app.client.zadd("cronq:agenda", {"etl": now_s}, xx=True)
        beats.look(now_s)
        worker.work()
        if len(worker.done) == before:
            return


def test_after_four_days_it_runs_four_times_each_with_its_own_tick_whatever_the_window(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    daily()

    go_through(app, beats, worker, tick(THU) + 1800)

    assert worker.done == [run_of(day) for day in (MON, TUE, WED, THU)]
    assert ledger(app) == dict.fromkeys((MON, TUE, WED, THU), "succeeded")


def test_only_one_run_is_open_at_a_time_and_a_slow_one_costs_no_tick(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily()
    beats.look(tick(MON) + 0.5)
    assert queued(redis) == [run_of(MON)]

    for day in (TUE, WED):
        beats.look(tick(day) + 0.5)
        beats.look(tick(day) + 11.5)
    assert queued(redis) == [run_of(MON)]
    assert ledger(app) == {MON: "queued"}
    job = app.jobs.get("etl")
    assert (job.waits_for, job.waiting_ticks(tick(WED) + 1)) == (run_of(MON), 2)
    assert (job.next_tick, job.status({run_of(MON): "queued"}, tick(WED) + 100)) == (tick(TUE), "waiting")

    worker.work()
    go_through(app, beats, worker, tick(WED) + 30)
    assert worker.done == [run_of(day) for day in (MON, TUE, WED)]


def test_the_end_of_a_run_lets_the_next_tick_go_at_once(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily()
    beats.look(tick(TUE) + 0.5)
    assert due_again(redis) == pytest.approx(tick(TUE) + 10.5)
    redis.zadd("cronq:agenda", {"etl": app.now_s() + 10})  # the clock of the server is not that of these beats

    worker.work()

    assert due_again(redis) <= app.now_s()


@pytest.mark.parametrize("outcome", ["failed", "timed_out", "lost", "stopped"])
def test_a_tick_that_does_not_succeed_halts_the_later_ones_and_says_so(
    outcome: str, app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    daily()
    worker.outcomes[run_of(WED)] = outcome

    go_through(app, beats, worker, tick(FRI) + 1800)
    for minute in range(1, 4):
        beats.look(tick(FRI) + 1800 + minute * 61)

    assert worker.done == [run_of(day) for day in (MON, TUE, WED)]
    assert ledger(app) == {MON: "succeeded", TUE: "succeeded", WED: outcome}
    assert redis.hget("cronq:job:etl:state", "mark") == str(tick(WED)).encode()
    job = app.jobs.get("etl")
    assert (job.waits_for, job.waiting_ticks(tick(FRI) + 2000)) == (run_of(WED), 2)
    assert job.status({}, tick(FRI) + 2000) == "failing"
    said = [record.getMessage() for record in caplog.records if "HALTED" in record.getMessage()]
    assert 1 <= len(said) <= 2  # each beat once
    assert f"job=etl: {run_of(WED)} {outcome}" in said[0]
    # It is waited for, however long that takes: each look gives it that life anew.
    assert redis.ttl(f"cronq:run:{run_of(WED)}") > 365 * DAY


def _requeue(app: Cronq, worker: Worker) -> None:
    app.client.hset(f"rq:job:{run_of(WED)}", "status", "queued")
    app.client.rpush("rq:queue:default", run_of(WED))
    assert app.requeued.reopen([run_of(WED)], app.now_s()) == [run_of(WED)]
    worker.work()


def _backfill(app: Cronq, worker: Worker) -> None:
    for each in app.plan_backfill_of("etl", "2026-01-07T07:00").steps():
        if each.is_now == "open":
            worker.work()


def _mark_success(app: Cronq, worker: Worker) -> None:
    app.mark_success("etl")


def _reset(app: Cronq, worker: Worker) -> None:
    assert app.reset("etl")


@pytest.mark.parametrize("mend", [_requeue, _backfill, _mark_success, _reset])
def test_whatever_mends_the_failing_tick_lets_the_job_go_on_there_without_a_further_command(
    mend: Callable[[Cronq, Worker], None], app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker,
    redis: Redis,
) -> None:  # fmt: skip
    daily()
    worker.outcomes[run_of(WED)] = "failed"
    go_through(app, beats, worker, tick(FRI) + 1800)
    worker.outcomes.clear()
    assert due_again(redis) == pytest.approx(tick(FRI) + 1860)
    redis.zadd("cronq:agenda", {"etl": app.now_s() + 60})  # the clock of the server is not that of these beats

    mend(app, worker)

    assert due_again(redis) <= app.now_s()
    go_through(app, beats, worker, tick(FRI) + 1900)
    assert worker.done[-2:] == [run_of(THU), run_of(FRI)]
    assert worker.done.count(run_of(WED)) == (2 if mend in (_requeue, _backfill) else 1)
    assert ledger(app) == {
        day: "failed" if day == WED and mend is _reset else "succeeded" for day in (MON, TUE, WED, THU, FRI)
    }


def test_a_reset_before_the_next_tick_is_due_lets_that_run_in_its_time(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    daily()
    worker.outcomes[run_of(MON)] = "failed"
    go_through(app, beats, worker, tick(MON) + 1)

    assert app.reset("etl")
    assert not app.reset("etl")

    beats.look(tick(TUE) + 0.5)
    worker.work()
    assert worker.done == [run_of(MON), run_of(TUE)]


def test_a_retry_belongs_to_its_tick(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily(retries=1)
    beats.look(tick(MON) + 0.5)
    redis.lpop("rq:queue:default")
    redis.hset(f"cronq:run:{run_of(MON)}", "state", "retrying")

    beats.look(tick(TUE) + 0.5)

    assert queued(redis) == []
    assert app.jobs.get("etl").waits_for == run_of(MON)


def test_a_new_job_has_no_ticks_from_before_and_all_from_then_on(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    daily()
    worker.outcomes = {run_of(MON): "failed"}
    go_through(app, beats, worker, tick(MON) + 1)
    go_through(app, beats, worker, tick(TUE) + 1)
    worker.outcomes.clear()
    _backfill_monday(app, worker)
    go_through(app, beats, worker, tick(WED) + 1)

    assert worker.done == [run_of(MON), run_of(MON), run_of(TUE), run_of(WED)]


def _backfill_monday(app: Cronq, worker: Worker) -> None:
    for each in app.plan_backfill_of("etl", "2026-01-05T07:00").steps():
        if each.is_now == "open":
            worker.work()


# What does not run


def test_excluded_ticks_are_rows_in_their_place_and_halt_nothing(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    app.set_calendar("closed", dates=["2026-01-06", "2026-01-08"])
    daily(except_="closed")

    go_through(app, beats, worker, tick(FRI) + 1)

    assert ledger(app) == {MON: "succeeded", TUE: "skipped", WED: "succeeded", THU: "skipped", FRI: "succeeded"}


def test_an_excluded_tick_behind_a_failing_one_does_not_let_the_job_go_on(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    app.set_calendar("closed", dates=["2026-01-06"])
    daily(except_="closed")
    worker.outcomes[run_of(MON)] = "failed"

    go_through(app, beats, worker, tick(WED) + 1)

    assert ledger(app) == {MON: "failed"}
    assert worker.done == [run_of(MON)]


def test_many_excluded_ticks_are_one_row(app: Cronq, store: Store, beats: Beats, worker: Worker, redis: Redis) -> None:
    app.set_calendar("closed", dates=["2026-01-05"])
    store("etl", mark=T, cron="* * * * *", backfill=True, except_="closed")

    midnight = T + 17 * 3600
    beats.look(midnight + 90)
    worker.work()

    assert worker.done == [run_id_of("etl", midnight)]
    assert redis.zcard("cronq:job:etl:runs") == 2
    assert len(app.history("etl", 2000)) == 17 * 60


def test_ticks_of_a_pause_do_not_run_later(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    daily()
    go_through(app, beats, worker, tick(MON) + 1)
    app.changes().pause("etl", by="ann")  # by the server's clock, long after these days
    history = app.history("etl", 1)
    assert history[0].outcome == "missed"
    assert history[0].reason == "the job was paused before a beat took it"

    app.resume("etl")
    beats.look(app.now_s())
    worker.work()
    assert worker.done == [run_of(MON)]


def test_a_tick_ahead_that_a_person_ran_is_not_run_again_and_skips_none_before_it(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    daily()
    worker.outcomes[run_of(MON)] = "failed"
    go_through(app, beats, worker, tick(THU) + 1)
    for each in app.plan_backfill_of("etl", "2026-01-06T07:00").steps():
        if each.is_now == "open":
            worker.work()
    go_through(app, beats, worker, tick(THU) + 100)
    assert worker.done == [run_of(MON), run_of(TUE)]  # Monday still halts it

    app.mark_success("etl", tick(MON))
    go_through(app, beats, worker, tick(THU) + 200)
    assert worker.done == [run_of(day) for day in (MON, TUE, WED, THU)]


# Beside other things


def test_a_backfill_of_other_ticks_halts_nothing(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, redis: Redis
) -> None:
    daily()
    next(app.plan_backfill_of("etl", "2025-12-24T07:00").steps())

    beats.look(tick(MON) + 0.5)

    assert queued(redis)[1:] == [run_of(MON)]


def test_runs_by_hand_halt_nothing(app: Cronq, daily: Callable[..., JobSpec], beats: Beats, redis: Redis) -> None:
    daily()
    app.enqueue("etl")

    beats.look(tick(MON) + 0.5)

    assert queued(redis)[1:] == [run_of(MON)]


def test_beats_do_not_ask_all_the_time_and_an_audit_leaves_a_halted_job_where_it_stands(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    daily()
    worker.outcomes[run_of(MON)] = "failed"
    go_through(app, beats, worker, tick(THU) + 1)
    stands_at = due_again(redis)

    beats.look(tick(THU) + 2)
    assert due_again(redis) == stands_at
    definitions = app.definitions("beat")
    repair = Repair(app.jobs, app.quarantine, definitions.changes, definitions.known)
    Audit(app.quarantine, repair).once(tick(THU) + 3.0)

    assert due_again(redis) == stands_at
    assert "MEND" not in caplog.text


def test_an_agenda_that_was_lost_comes_back_for_a_halted_job_too(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily()
    worker.outcomes[run_of(MON)] = "failed"
    go_through(app, beats, worker, tick(THU) + 1)
    redis.delete("cronq:agenda")

    definitions = app.definitions("beat")
    repair = Repair(app.jobs, app.quarantine, definitions.changes, definitions.known)
    Audit(app.quarantine, repair).once(tick(THU) + 3.0)

    assert due_again(redis) <= tick(THU) + 63


def test_a_run_that_was_settled_by_an_older_process_lets_the_next_go_within_ten_seconds(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily()
    beats.look(tick(TUE) + 0.5)
    worker.work()
    redis.zadd("cronq:agenda", {"etl": tick(TUE) + 10.5})  # as if nothing had put it there

    beats.look(tick(TUE) + 11)

    assert queued(redis) == [run_of(TUE)]


def test_it_counts_its_ticks_and_ends(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily(repeat=3)

    go_through(app, beats, worker, tick(FRI) + 1)

    assert worker.done == [run_of(day) for day in (MON, TUE, WED)]
    assert redis.zscore("cronq:agenda", "etl") is None
    assert app.jobs.get("etl").status({}, tick(FRI) + 2) == "finished"


def test_a_run_whose_lock_is_busy_is_open_and_costs_no_tick(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily(exclusive=True)
    beats.look(tick(MON) + 0.5)
    redis.lpop("rq:queue:default")
    assert app.runs.park(app.runs.get(run_of(MON)), "etl", tick(MON) + 1.0)

    beats.look(tick(TUE) + 0.5)

    assert queued(redis) == []
    assert ledger(app) == {MON: "waiting"}


def test_the_option_that_comes_later_leaves_what_was_pending_behind(
    app: Cronq, store: Store, beats: Beats, worker: Worker, redis: Redis
) -> None:
    store("etl", mark=tick(MON) - 3600, cron="0 7 * * *")
    spec = JobSpec("etl", function="m:f", cron="0 7 * * *", backfill=True)

    app.changes().save(spec, source="here", origin="test")

    assert queued(redis) == []
    assert {run.outcome for run in app.history("etl", 500)} == {"missed"}


def test_two_beats_at_once_claim_a_tick_once(
    app: Cronq, daily: Callable[..., JobSpec], worker: Worker, redis: Redis
) -> None:
    daily()
    for day in (MON, TUE, WED):
        for beat in (app.beat(), app.beat(), app.beat()):
            beat.pass_once(now_s=tick(day) + 0.5)
        assert queued(redis) == [run_of(day)]
        worker.work()
    assert worker.done == [run_of(day) for day in (MON, TUE, WED)]


def test_a_run_of_the_mark_that_is_gone_from_the_ledger_halts_nothing(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily()
    worker.outcomes[run_of(MON)] = "failed"
    go_through(app, beats, worker, tick(MON) + 1)
    redis.delete(f"cronq:run:{run_of(MON)}")

    beats.look(tick(TUE) + 0.5)

    assert queued(redis) == [run_of(TUE)]


def test_a_tick_that_was_stopped_before_it_began_halts_the_job(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily()
    beats.look(tick(MON) + 0.5)
    run = app.runs.get(run_of(MON))
    assert app.runs.settle(run, Ending(Settlement("stopped", "ann"), "ann", tick(MON) + 1.0, expect="queued"))

    beats.look(tick(TUE) + 0.5)

    assert queued(redis) == []
    assert app.jobs.get("etl").waits_for == run_of(MON)


def test_both_sides_mean_the_same_by_a_run_that_halts() -> None:
    text = source("runs/claim").partition("local HALTS = {")[2].partition("}")[0]

    assert set(re.findall(r"(\w+) = true", text)) == HALTING


def test_a_child_gets_the_ticks_of_its_parent_after_that_was_mended(
    app: Cronq, store: Store, worker: Worker, redis: Redis
) -> None:
    for name, more in (("etl", {}), ("report", {"depends_on": "etl"})):
        store(name, mark=tick(MON) - 3600, cron="0 7 * * *", backfill=True, **more)
    worker.outcomes[run_of(MON)] = "failed"
    beats = [app.beat(), app.beat()]

    def go(now_s: float) -> None:
        for n in range(12):
            for name in ("etl", "report"):
                redis.zadd("cronq:agenda", {name: now_s}, xx=True)
            beats[n % 2].pass_once(now_s=now_s)
            worker.work()

    go(tick(WED) + 1)
    assert worker.done == [run_of(MON)]
    assert [run.state for run in app.history("report", 10)] == ["waiting"]

    worker.outcomes.clear()
    _backfill_monday(app, worker)
    go(tick(WED) + 60)

    reports = [run_id for run_id in worker.done if run_id.startswith("report")]
    assert reports == [run_id_of("report", tick(day)) for day in (MON, TUE, WED)]
    assert [run_id for run_id in worker.done if run_id.startswith("etl")] == [
        run_of(day) for day in (MON, MON, TUE, WED)
    ]
    assert {run.outcome for run in app.history("report", 10)} == {"succeeded"}


def test_a_tick_that_waits_for_its_parent_goes_on_waiting_when_the_job_is_paused(
    app: Cronq, store: Store, worker: Worker
) -> None:
    for name, more in (("etl", {}), ("report", {"depends_on": "etl"})):
        store(name, mark=tick(MON) - 3600, cron="0 7 * * *", backfill=True, **more)
    app.beat().pass_once(now_s=tick(MON) + 1)
    changes = app.changes()
    changes.now_s = lambda: tick(WED) + 10.0

    changes.pause("report", by="ann")
    assert [run.outcome or run.state for run in app.history("report")] == ["missed", "missed", "waiting"]
    worker.work()
    worker.work()

    assert worker.done == [run_of(MON), run_id_of("report", tick(MON))]


def test_after_a_pause_a_tick_that_failed_before_halts_nothing(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker
) -> None:
    daily()
    worker.outcomes[run_of(MON)] = "failed"
    go_through(app, beats, worker, tick(TUE) + 1)
    assert app.jobs.get("etl").waits_for == run_of(MON)

    app.pause("etl")
    app.resume("etl")

    job = app.jobs.get("etl")
    assert job.waits_for is None
    assert job.next_tick is not None
    assert job.next_tick > app.now_s()


def test_the_row_of_a_tick_that_halted_a_job_does_not_outlive_the_job_for_ever(
    app: Cronq, daily: Callable[..., JobSpec], beats: Beats, worker: Worker, redis: Redis
) -> None:
    daily()
    worker.outcomes[run_of(MON)] = "failed"
    beats.look(tick(MON))
    worker.work()
    beats.look(tick(TUE))
    assert redis.ttl(f"cronq:run:{run_of(MON)}") > 365 * DAY
    app.remove("etl")
    assert [key for key in redis.scan_iter("cronq:*etl*") if redis.ttl(key) == -1] == []
