"""Past ticks that are run again: which, how often, and what the ledger says of each afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.backfilling import Backfilling, BackfillTick
from cronq.errors import CronqError
from cronq.jobs.spec import JobSpec
from cronq.runs.backfill import PastRuns
from cronq.runs.run import Run
from tests.redis.queue_worker import Worker
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60


def at(minute: int) -> datetime:
    return datetime.fromtimestamp(T + minute * MINUTE, UTC)


def queued(redis: Redis) -> list[str]:
    return [run_id.decode() for run_id in redis.lrange("rq:queue:default", 0, -1)]


def rows_of(redis: Redis, name: str = "etl") -> list[str]:
    return [run_id.decode() for run_id in redis.zrange(f"cronq:job:{name}:runs", 0, -1)]


def ledger(app: Cronq, name: str = "etl") -> dict[int, str]:
    """What became of each tick, by its minute, oldest first; every tick once."""
    runs = [run for run in app.history(name, 10_000) if run.tick is not None]
    found = {(run.tick - T) // MINUTE: run.outcome or run.state for run in reversed(runs) if run.tick is not None}
    assert len(found) == len(runs)
    assert list(found) == sorted(found)
    return found


@pytest.fixture
def worker(app: Cronq) -> Worker:
    return Worker(app)


def fill(filling: Backfilling, worker: Worker, parallel: int = 1) -> list[str]:
    """Do a backfill with a worker beside it: what was queued and what is over, in order."""
    seen = []
    for tick in filling.steps(parallel):
        seen.append(f"{(tick.tick - T) // MINUTE} {tick.outcome or tick.is_now}")
        if tick.is_now == "open":
            worker.work()
    return seen


# Which ticks run


def test_each_tick_of_a_span_before_the_job_was_made_runs_once_with_its_own_tick_oldest_first(
    app: Cronq, store: Store, worker: Worker, redis: Redis
) -> None:
    store("etl", mark=T + 100 * MINUTE)

    seen = fill(app.plan_backfill("etl", at(0), at(3)), worker)

    assert seen == ["0 open", "0 succeeded", "1 open", "1 succeeded", "2 open", "2 succeeded"]
    assert worker.done == [run_id_of("etl", T + minute * MINUTE) for minute in range(3)]
    assert ledger(app) == {0: "succeeded", 1: "succeeded", 2: "succeeded"}
    run = app.runs.get(run_id_of("etl", T))
    assert (run.tick, run.trigger, run.attempt, run.lateness_s, run.beat_delay_s) == (T, "backfill", 1, None, None)
    assert redis.hget("cronq:job:etl:state", "mark") == str(T + 100 * MINUTE).encode()


def test_what_has_succeeded_is_not_run_again(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T + 100 * MINUTE)
    fill(app.plan_backfill("etl", at(0), at(2)), worker)

    seen = fill(app.plan_backfill("etl", at(0), at(4)), worker)

    assert seen == ["2 open", "2 succeeded", "3 open", "3 succeeded"]
    assert len(worker.done) == 4


def test_with_force_what_has_succeeded_is_the_next_attempt_and_the_one_before_is_kept(
    app: Cronq, store: Store, worker: Worker
) -> None:
    store("etl", mark=T + 100 * MINUTE)
    fill(app.plan_backfill("etl", at(0), at(2)), worker)
    worker.outcomes[run_id_of("etl", T)] = "failed"

    filling = app.plan_backfill("etl", at(0), at(2), force=True)
    seen = fill(filling, worker)

    assert seen == ["0 open", "0 failed"]
    run = app.runs.get(run_id_of("etl", T))
    assert (run.outcome, run.attempt, [each.outcome for each in run.attempts]) == ("failed", 2, ["succeeded"])
    assert [each.tick for each in filling.unfinished] == [T, T + MINUTE]


@pytest.mark.parametrize("outcome", ["failed", "timed_out", "lost", "stopped"])
def test_a_run_that_did_not_succeed_has_its_next_attempt(
    outcome: str, app: Cronq, store: Store, worker: Worker
) -> None:
    store("etl", mark=T)
    app.beat().pass_once(now_s=T + MINUTE + 0.5)
    worker.outcomes[run_id_of("etl", T + MINUTE)] = outcome
    worker.work()
    worker.outcomes.clear()

    assert fill(app.plan_backfill("etl", at(1), at(2)), worker) == ["1 open", "1 succeeded"]

    run = app.runs.get(run_id_of("etl", T + MINUTE))
    assert (run.attempt, run.trigger, [each.outcome for each in run.attempts]) == (2, "backfill", [outcome])


def test_a_tick_that_is_on_its_way_is_waited_for_and_not_queued_again(
    app: Cronq, store: Store, worker: Worker, redis: Redis
) -> None:
    store("etl", mark=T)
    app.beat().pass_once(now_s=T + MINUTE + 0.5)
    filling = app.plan_backfill("etl", at(1), at(2))

    assert [each.is_now for each in filling.ticks] == ["open"]
    assert fill(filling, worker) == ["1 open", "1 succeeded"]
    assert worker.done == [run_id_of("etl", T + MINUTE)]
    assert not filling.ticks[0].is_ours


def test_a_job_that_is_never_to_start_twice_is_left_alone(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T, at_most_once=True, catchup="skip")
    app.beat().pass_once(now_s=T + MINUTE + 0.5)
    worker.outcomes[run_id_of("etl", T + MINUTE)] = "failed"
    worker.work()
    app.beat().pass_once(now_s=T + 3 * MINUTE + 0.5)  # two missed: they never began
    worker.work()

    filling = app.plan_backfill("etl", at(1), at(3))
    assert fill(filling, worker) == ["2 open", "2 succeeded"]
    assert [each.is_now for each in filling.ticks] == ["once", "over"]


def test_ticks_that_a_calendar_excludes_are_left_out(app: Cronq, store: Store, worker: Worker) -> None:
    app.set_calendar("closed", weekly=["Mon 07:01-07:02"])
    store("etl", mark=T + 100 * MINUTE, except_="closed")

    filling = app.plan_backfill("etl", at(0), at(3))

    assert [each.is_now for each in filling.ticks] == ["left", "excluded", "left"]
    assert "closed" in str(filling.ticks[1].reason)
    fill(filling, worker)
    assert ledger(app) == {0: "succeeded", 2: "succeeded"}


# Failure


def test_after_the_first_failure_no_other_begins_and_the_next_backfill_begins_there(
    app: Cronq, store: Store, worker: Worker
) -> None:
    store("etl", mark=T + 100 * MINUTE)
    bad = run_id_of("etl", T + MINUTE)
    worker.outcomes[bad] = "failed"

    filling = app.plan_backfill("etl", at(0), at(4))
    assert fill(filling, worker) == ["0 open", "0 succeeded", "1 open", "1 failed"]
    assert filling.failed is not None
    assert (filling.failed.run_id, filling.failed.reason) == (bad, "it did so")
    assert [(each.tick - T) // MINUTE for each in filling.unfinished] == [1, 2, 3]
    assert ledger(app) == {0: "succeeded", 1: "failed"}

    worker.outcomes.clear()
    fill(app.plan_backfill("etl", at(0), at(4)), worker)
    assert worker.done.count(bad) == 2
    assert ledger(app) == dict.fromkeys(range(4), "succeeded")


def test_with_several_at_once_those_on_their_way_are_waited_for_after_a_failure(
    app: Cronq, store: Store, worker: Worker, redis: Redis
) -> None:
    store("etl", mark=T + 100 * MINUTE)
    worker.outcomes[run_id_of("etl", T + MINUTE)] = "failed"
    filling = app.plan_backfill("etl", at(0), at(9))

    most = 0
    for tick in filling.steps(3):
        most = max(most, len(queued(redis)))
        if tick.is_now == "open" and len(filling.those("open")) == 3:
            worker.work()

    assert most == 3
    assert not filling.those("open")
    assert {(each.tick - T) // MINUTE: each.outcome for each in filling.those("over")} == {
        0: "succeeded", 1: "failed", 2: "succeeded",
    }  # fmt: skip


def test_the_rate_spaces_the_runs(app: Cronq, store: Store, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    store("etl", mark=T + 100 * MINUTE)
    now, begun = [0.0], []
    monkeypatch.setattr("cronq.app.backfilling.boot_s", lambda: now[0])

    def rest(seconds: float, stop: threading.Event) -> None:
        now[0] += seconds

    monkeypatch.setattr("cronq.app.backfilling.rest", rest)
    for tick in app.plan_backfill("etl", at(0), at(4)).steps(4, rate=0.5):
        if tick.is_now == "open":
            begun.append(now[0])
            worker.work()

    assert [round(later - earlier, 3) for earlier, later in pairwise(begun)] == [2, 2, 2]


# Beside the schedule


@pytest.mark.parametrize("overlap", ["skip", "queue", "latest", "replace"])
def test_runs_of_a_backfill_are_in_no_ticks_way(overlap: str, app: Cronq, store: Store, redis: Redis) -> None:
    store("etl", mark=T, overlap=overlap)
    steps = app.plan_backfill("etl", at(-3), at(0)).steps(2)
    first, second = next(steps), next(steps)

    app.beat().pass_once(now_s=T + MINUTE + 0.5)

    assert queued(redis) == [first.run_id, second.run_id, run_id_of("etl", T + MINUTE)]
    assert app.runs.get(run_id_of("etl", T + MINUTE)).state == "queued"


def test_a_tick_that_no_beat_has_taken_yet_runs_once(app: Cronq, store: Store, worker: Worker, redis: Redis) -> None:
    store("etl", mark=T)
    fill(app.plan_backfill("etl", at(1), at(3)), worker)
    assert redis.hget("cronq:job:etl:state", "mark") == str(T).encode()

    app.beat().pass_once(now_s=T + 3 * MINUTE + 0.5)
    worker.work()

    assert worker.done == [run_id_of("etl", T + minute * MINUTE) for minute in (1, 2, 3)]
    assert ledger(app) == dict.fromkeys((1, 2, 3), "succeeded")
    assert redis.hget("cronq:job:etl:state", "mark") == str(T + 3 * MINUTE).encode()


def test_a_long_gap_that_a_beat_finds_after_a_backfill_of_a_part_of_it_keeps_what_ran(
    app: Cronq, store: Store, worker: Worker
) -> None:
    store("etl", mark=T)
    fill(app.plan_backfill("etl", at(4), at(6)), worker)

    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)

    expected = {**dict.fromkeys(range(1, 10), "coalesced"), 4: "succeeded", 5: "succeeded", 10: "queued"}
    assert ledger(app) == dict(sorted(expected.items()))


# Ticks of a range


@pytest.fixture
def gap(app: Cronq, store: Store, worker: Worker) -> None:
    """The ticks 1 to 9 share a row, coalesced; tick 10 ran."""
    store("etl", mark=T)
    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)
    worker.work()
    worker.done.clear()


@pytest.mark.parametrize(
    "order",
    [[1], [9], [5], [1, 2, 3], [7, 8, 9], [4, 5, 6], [9, 1], [5, 4, 6], [2, 8, 5], list(range(1, 10)),
     list(range(9, 0, -1)), [3, 7, 1, 9, 5, 2, 8, 4, 6]],
    ids=str,
)  # fmt: skip
def test_ticks_leave_a_range_in_any_order_and_each_tick_has_one_outcome(
    order: Sequence[int], gap: None, app: Cronq, worker: Worker, redis: Redis
) -> None:
    for done, minute in enumerate(order, 1):
        fill(app.plan_backfill("etl", at(minute), at(minute + 1)), worker)

        ran = set(order[:done]) | {10}
        assert ledger(app) == {n: "succeeded" if n in ran else "coalesced" for n in range(1, 11)}
        held = [run for run in app.runs.rows(rows_of(redis)) if run.tick is not None]
        assert sum(run.count or 1 for run in held) == 10  # each tick in one row
        for each in range(1, 11):
            run = app.runs.run_at("etl", T + each * MINUTE)
            assert run is not None
            assert run.run_id == run_id_of("etl", T + each * MINUTE)
            assert run.outcome == ("succeeded" if each in ran else "coalesced")
    assert worker.done == [run_id_of("etl", T + minute * MINUTE) for minute in order]


def test_what_became_of_a_tick_of_a_range_before_stays_as_its_first_attempt(
    gap: None, app: Cronq, worker: Worker
) -> None:
    before = app.runs.get(run_id_of("etl", T + 5 * MINUTE))
    fill(app.plan_backfill("etl", at(5), at(6)), worker)

    run = app.runs.get(before.run_id)
    (attempt,) = run.attempts
    assert (run.attempt, attempt.attempt) == (2, 1)
    assert (attempt.outcome, attempt.reason, attempt.decided_by) == ("coalesced", before.reason, before.decided_by)


def test_all_rows_of_a_range_that_was_parted_end_when_it_would_have(
    gap: None, app: Cronq, worker: Worker, redis: Redis
) -> None:
    redis.expire(f"cronq:run:{run_id_of('etl', T + 9 * MINUTE)}", 500)
    fill(app.plan_backfill("etl", at(5), at(6)), worker)

    for minute in (4, 9):
        assert 490 <= redis.ttl(f"cronq:run:{run_id_of('etl', T + minute * MINUTE)}") <= 501


def test_a_tick_that_was_marked_stays_what_it_is_when_its_range_is_parted(
    gap: None, app: Cronq, worker: Worker
) -> None:
    for minute in (4, 6, 9):
        app.mark_success("etl", T + minute * MINUTE)

    fill(app.plan_backfill("etl", at(5), at(6)), worker)

    assert worker.done == [run_id_of("etl", T + 5 * MINUTE)]
    assert ledger(app) == {n: "succeeded" if n in (4, 5, 6, 9, 10) else "coalesced" for n in range(1, 11)}
    fill(app.plan_backfill("etl", at(1), at(11)), worker)
    assert ledger(app) == dict.fromkeys(range(1, 11), "succeeded")


def test_a_tick_of_another_schedule_than_the_ranges_leaves_it_whole(
    gap: None, app: Cronq, store: Store, worker: Worker
) -> None:
    app.changes().save(JobSpec("etl", function="m:f", cron="30 * * * * *"), source="here", origin="test")
    middle = datetime.fromtimestamp(T + 5 * MINUTE + 30, UTC)

    filling = app.plan_backfill("etl", middle, at(6))
    assert [each.run_id for each in filling.ticks] == [run_id_of("etl", T + 5 * MINUTE + 30)]
    fill(filling, worker)

    rows = app.history("etl", since_s=T, until_s=T + 10 * MINUTE)
    outcomes = {run.tick: run.outcome for run in rows if run.tick is not None}
    assert outcomes[T + 5 * MINUTE + 30] == "succeeded"
    assert [outcomes[T + minute * MINUTE] for minute in range(1, 10)] == ["coalesced"] * 9


# Two at once, and one that is sent twice


def test_two_backfills_at_once_run_each_tick_once(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T + 100 * MINUTE)
    one, other = (app.plan_backfill("etl", at(0), at(6)) for _ in range(2))
    steps: list[Iterator[BackfillTick]] = [one.steps(2), other.steps(3)]

    while steps:
        for each in list(steps):
            if next(each, None) is None:
                steps.remove(each)
            worker.work(1)

    assert sorted(worker.done) == [run_id_of("etl", T + minute * MINUTE) for minute in range(6)]
    assert sum(each.is_ours for each in (*one.ticks, *other.ticks)) == 6
    assert not one.unfinished
    assert not other.unfinished


def test_two_that_force_the_same_tick_run_it_once_more(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T + 100 * MINUTE)
    fill(app.plan_backfill("etl", at(0), at(1)), worker)
    one, other = (app.plan_backfill("etl", at(0), at(1), force=True) for _ in range(2))

    fill(one, worker)
    fill(other, worker)

    assert len(worker.done) == 2
    assert [each.is_now for each in other.ticks] == ["before"]


def test_a_step_whose_answer_was_lost_and_is_sent_again_queues_once(
    app: Cronq, store: Store, redis: Redis, worker: Worker
) -> None:
    spec = store("etl", mark=T + 100 * MINUTE)
    past = PastRuns(app.client, app.keys, app.runs, by="ann@box")
    (tick,) = past.look("etl", [T])

    assert [past.queue(spec, tick, T + 1.5, force=False) for _ in range(2)] == ["queued", "queued"]
    assert queued(redis) == [run_id_of("etl", T)]
    assert past.queue(spec, tick, T + 2.5, force=False) == "open"


def test_threads_that_backfill_a_range_at_once_leave_each_tick_with_one_outcome(
    gap: None, app: Cronq, worker: Worker, redis: Redis
) -> None:
    spec = app.jobs.get("etl").spec
    ticks = [T + minute * MINUTE for minute in range(1, 10)]
    answers: list[str] = []

    def go(order: Sequence[int], by: str) -> None:
        past = PastRuns(app.client, app.keys, app.runs, by=by)
        seen = past.look("etl", ticks)
        answers.extend(past.queue(spec, seen[i], T + 5000.0, force=False) for i in order)

    orders = [range(9), range(8, -1, -1), [4, 3, 5, 2, 6, 1, 7, 0, 8]]
    threads = [threading.Thread(target=go, args=(order, f"p{n}")) for n, order in enumerate(orders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(answers) == ["open"] * 18 + ["queued"] * 9
    worker.work()
    assert len(worker.done) == 9
    assert ledger(app) == dict.fromkeys(range(1, 11), "succeeded")
    assert len(rows_of(redis)) == 10


# What is refused


def test_a_span_whose_rows_the_job_would_not_keep_is_refused_with_the_number(
    app: Cronq, store: Store, worker: Worker
) -> None:
    store("etl", mark=T + 100 * MINUTE, keep=10)
    with pytest.raises(CronqError, match="would need 21 rows, and keep=10 holds fewer"):
        app.plan_backfill("etl", at(0), at(20))

    fill(app.plan_backfill("etl", at(0), at(9)), worker)
    again = app.plan_backfill("etl", at(0), at(9))
    assert [each.is_now for each in again.ticks] == ["before"] * 9  # nothing of it was forgotten


@pytest.mark.parametrize(("parallel", "rate"), [(0, None), (1001, None), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_numbers_that_make_no_sense_are_refused(parallel: int, rate: float | None, app: Cronq, store: Store) -> None:
    store("etl", mark=T + 100 * MINUTE)

    with pytest.raises(CronqError, match="is not a number"):
        next(app.plan_backfill("etl", at(0), at(1)).steps(parallel, rate))


def test_a_job_that_is_removed_meanwhile_ends_it(app: Cronq, store: Store, worker: Worker) -> None:
    store("etl", mark=T + 100 * MINUTE)
    steps = app.plan_backfill("etl", at(0), at(3)).steps()
    next(steps)
    worker.work()
    app.remove("etl")

    with pytest.raises(CronqError, match="there is no job 'etl'"):
        list(steps)


@pytest.mark.parametrize("key", ["rq:queue:default", "cronq:events", "cronq:job:etl:active", "cronq:job:etl:runs",
                                 "rq:queues", "cronq:job:etl:template"])  # fmt: skip
def test_a_key_of_a_wrong_type_is_named_and_nothing_was_written(
    key: str, app: Cronq, store: Store, redis: Redis
) -> None:
    spec = store("etl", mark=T + 100 * MINUTE)
    past = PastRuns(app.client, app.keys, app.runs, by="ann@box")
    (tick,) = past.look("etl", [T])
    redis.delete(key)
    redis.set(key, "x")
    before = {each: redis.type(each) for each in redis.scan_iter("*")}

    with pytest.raises(CronqError, match=f"{key} is damaged"):
        past.queue(spec, tick, T + 1.5, force=False)

    assert {each: redis.type(each) for each in redis.scan_iter("*")} == before


# Who was before


def test_a_run_of_an_earlier_tick_is_told_of_the_success_before_it_and_not_of_later_ones(
    app: Cronq, store: Store, worker: Worker
) -> None:
    store("etl", mark=T + 20 * MINUTE)
    app.beat().pass_once(now_s=T + 21 * MINUTE + 0.5)
    worker.work()
    fill(app.plan_backfill("etl", at(3), at(5)), worker)
    newest = app.jobs.get("etl").state.success_tick
    assert newest == T + 21 * MINUTE

    def before(minute: int) -> int | None:
        run = Run(run_id_of("etl", T + minute * MINUTE), "etl", T + minute * MINUTE, "queued", trigger="backfill")
        return app.runs.success_before(run, newest)

    assert before(5) == T + 4 * MINUTE
    assert before(4) == T + 3 * MINUTE
    assert before(3) is None
    assert before(22) == T + 21 * MINUTE
