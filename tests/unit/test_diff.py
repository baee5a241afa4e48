"""What `cronq diff` finds between two days of a job."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cronq.runs.diff import Difference, day_differences
from cronq.runs.run import Run
from cronq.timetext import DAY_S

MONDAY = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())
TUESDAY = MONDAY + int(DAY_S)


def time_of_day(tick: int) -> str:
    return datetime.fromtimestamp(tick, UTC).strftime("%H:%M")


def run(day: int, hour: float, outcome: str | None = "succeeded", took_s: float = 1.0, host: str = "a") -> Run:
    tick = day + int(hour * 3600)
    is_run = outcome in ("succeeded", "failed", "timed_out", "lost")
    return Run(
        f"j-{tick}",
        "j",
        tick,
        "running" if outcome is None else "done",
        outcome=outcome,
        reason="because",
        host=host if is_run else None,
        started_at=tick + 2.0 if is_run else None,
        ended_at=tick + 2.0 + took_s if is_run else None,
    )


def found(before: list[Run], after: list[Run]) -> list[Difference]:
    return day_differences("j", before, after, time_of_day)


def test_two_days_alike_differ_in_nothing() -> None:
    assert found([run(MONDAY, h) for h in range(24)], [run(TUESDAY, h, took_s=2.9) for h in range(24)]) == []


@pytest.mark.parametrize("outcome", ["skipped", "missed", "paused", "expired", "blocked", "coalesced"])
def test_a_tick_that_ran_and_now_does_not(outcome: str) -> None:
    before = [run(MONDAY, h) for h in range(4)]
    after = [run(TUESDAY, h, outcome if h in (1, 2) else "succeeded") for h in range(4)]

    (one,) = found(before, after)

    assert one == Difference("j", "not_run", 2, TUESDAY + 3600, f"2 {outcome}: because")


def test_a_tick_that_is_no_more_is_told_by_its_time() -> None:
    (one,) = found([run(MONDAY, h) for h in (1, 2, 3)], [run(TUESDAY, h) for h in (1, 3)])

    assert one == Difference("j", "not_run", 1, None, "no tick at 02:00")


def test_a_job_that_vanished_altogether_is_told() -> None:
    (one,) = found([run(MONDAY, h) for h in range(5)], [])

    assert (one.kind, one.count, one.text) == ("not_run", 5, "no tick at 00:00, 01:00, 02:00 and 2 more")


def test_what_did_not_run_the_day_before_is_no_loss_and_a_failure_that_stays_is_not_new() -> None:
    before = [run(MONDAY, 1, "skipped"), run(MONDAY, 2, "failed")]

    assert found(before, [run(TUESDAY, 1, "missed"), run(TUESDAY, 2, "lost")]) == []


@pytest.mark.parametrize("outcome", ["failed", "timed_out", "lost"])
def test_a_new_failure(outcome: str) -> None:
    (one,) = found([run(MONDAY, 1), run(MONDAY, 2)], [run(TUESDAY, 1), run(TUESDAY, 2, outcome)])

    assert one == Difference("j", "failed", 1, TUESDAY + 7200, f"{outcome}: because")


@pytest.mark.parametrize(
    ("was_s", "is_s", "is_slower"), [(10, 30, True), (10, 29, False), (0.1, 1.0, False), (0.1, 1.2, True)]
)
def test_three_times_as_long_is_told_when_it_is_a_second_or_more(was_s: float, is_s: float, is_slower: bool) -> None:
    differences = found([run(MONDAY, 1, took_s=was_s)], [run(TUESDAY, 1, took_s=is_s)])

    assert [each.kind for each in differences] == (["slower"] if is_slower else [])


def test_a_host_counts_as_new_only_when_none_of_the_day_before_is_it() -> None:
    before = [run(MONDAY, 1, host="a"), run(MONDAY, 2, host="b")]

    assert found(before, [run(TUESDAY, 1, host="b"), run(TUESDAY, 2, host="a")]) == []
    (one,) = found(before, [run(TUESDAY, 1, host="b"), run(TUESDAY, 2, host="c")])
    assert one == Difference("j", "moved", 1, TUESDAY + 7200, "on c; was on a, b")


def test_runs_that_are_not_over_or_have_no_tick_are_left_out() -> None:
    by_hand = Run("j-m0", "j", None, "done", outcome="failed")

    assert found([run(MONDAY, 1), by_hand], [run(TUESDAY, 1), run(TUESDAY, 2, None), by_hand]) == []


def test_ticks_that_fall_elsewhere_each_day_are_compared_as_wholes() -> None:
    before = [run(MONDAY, i * 7 / 60) for i in range(205)]
    later = [run(TUESDAY, (i * 7 + 2) / 60) for i in range(205)]
    slow = [run(TUESDAY, (i * 7 + 2) / 60, took_s=9) for i in range(100)] + [run(TUESDAY, 23.99, "failed", took_s=9)]

    assert found(before, later) == []
    assert [(each.kind, each.text) for each in found(before, slow)] == [
        ("not_run", "205 runs, then 101"),
        ("failed", "0 failures, then 1; the last failed: because"),
        ("slower", "in the middle took 9s; was 1s"),
    ]


def test_an_hour_that_comes_twice_has_two_ticks_of_one_time() -> None:
    twice = [run(MONDAY, 1), run(MONDAY, 2)]

    assert day_differences("j", twice, [run(TUESDAY, 1)], lambda tick: "02:30")[0].text == "no tick at 02:30"
