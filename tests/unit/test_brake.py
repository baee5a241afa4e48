"""Which late runs of a job wait for the catch-up rate."""

from __future__ import annotations

from typing import Any

import pytest

from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.brake import not_held
from cronq.runs.due import decide

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR, DAY = 60, 3600, 86400


def a_job(**options: Any) -> JobSpec:
    return make_spec("nightly", function="jobs:nightly", **options)


def claimed(spec: JobSpec, mark: int, now: float, held: int = 0, through: int = 0) -> tuple[list[int], list[int]]:
    """The ticks that are to be claimed now, and those that wait; a range by its newest."""
    decisions = decide(spec, mark, None, now, held=held)
    count = not_held(spec, decisions, now, held, through)
    ticks = [each.tick for each in decisions]
    return ticks[:count], ticks[count:]


def test_what_is_on_time_never_waits() -> None:
    assert claimed(a_job(cron="0 7 * * *"), T - 1, T + 60) == ([T], [])
    often = a_job(every="10s", catchup="all", overlap="allow")
    assert claimed(often, T - 50, T) == (list(range(T - 40, T + 1, 10)), [])


def test_the_newest_missed_tick_waits_and_what_is_recorded_before_it_does_not() -> None:
    hourly = a_job(every="1h")

    assert claimed(hourly, T - 3 * HOUR, T + 61) == ([T - 2 * HOUR, T - HOUR], [T])
    assert claimed(hourly, T - DAY, T + 61) == ([T - HOUR], [T])


def test_a_tick_whose_turn_has_come_does_not_wait() -> None:
    assert claimed(a_job(every="1h"), T - HOUR, T + 500, held=T, through=T) == ([T], [])


def test_a_new_tick_takes_the_place_of_the_one_that_was_held() -> None:
    assert claimed(a_job(every="1h"), T - 2 * HOUR, T + 1, held=T - HOUR) == ([T - HOUR, T], [])


@pytest.mark.parametrize(
    ("held", "through", "claimed_now"),
    [
        (0, 0, 1),  # found just now, and one of them on time: the oldest goes in its place
        (T - HOUR, 0, 1),  # a new one joins the line
        (T, 0, 0),  # it stands in the line itself
        (T, T - 2 * HOUR, 2),
        (T - HOUR, T - 2 * HOUR, 3),
        (T, T, 4),
    ],
)
def test_each_tick_of_a_job_that_runs_all_has_its_turn_in_order(held: int, through: int, claimed_now: int) -> None:
    spec = a_job(every="1h", catchup="all", overlap="allow")
    ticks = [T - 3 * HOUR, T - 2 * HOUR, T - HOUR, T]

    assert claimed(spec, T - 4 * HOUR, T + 1, held, through) == (ticks[:claimed_now], ticks[claimed_now:])


@pytest.mark.parametrize(("every", "jitter"), [("1m", None), ("1m", "20s"), ("7m", None)])
def test_a_new_tick_lets_the_oldest_go_also_when_it_stands_behind_more_than_one_pass_decides(
    every: str, jitter: str | None
) -> None:
    spec = a_job(every=every, jitter=jitter, catchup="all", overlap="allow", window="7d", max_catchup=1000)
    assert spec.schedule is not None
    before = spec.schedule.last_until(T - 1)
    now = spec.due_s(spec.schedule.next_after(T - 1))
    assert before is not None
    assert now is not None

    assert len(claimed(spec, T - 6 * DAY, now + 1, held=before)[0]) == 1
    assert claimed(spec, T - 6 * DAY, now + 1, held=T + MINUTE)[0] == []
    assert len(claimed(spec, T - 6 * DAY, now + 1, held=before - 7 * MINUTE)[0]) >= 1


def test_what_stands_between_held_runs_waits_with_them() -> None:
    spec = a_job(cron="0 * * * *", catchup="all", overlap="allow")

    assert claimed(spec, T - 3 * HOUR, T + 61, through=T - 2 * HOUR) == ([T - 2 * HOUR], [T - HOUR, T])


def test_of_a_job_whose_ticks_run_in_order_each_late_one_takes_its_turn() -> None:
    spec = a_job(every="1h", backfill=True)

    assert claimed(spec, T - 3 * HOUR, T + 1) == ([], [T - 2 * HOUR])
    assert claimed(spec, T - 3 * HOUR, T + 1, T, T - 2 * HOUR) == ([T - 2 * HOUR], [])
    assert claimed(spec, T - HOUR, T + 60, T) == ([T], [])


def test_lateness_counts_from_when_the_delay_of_a_tick_is_over() -> None:
    spec = a_job(every="1h", jitter="20m")
    due = spec.due_s(T)
    assert due is not None

    assert claimed(spec, T - HOUR, due + 30) == ([T], [])
    assert claimed(spec, T - HOUR, due + 90) == ([], [T])


def test_a_held_tick_is_not_too_old_and_not_one_too_many() -> None:
    spec = a_job(every="1h", catchup="all", overlap="allow", window="2h", max_catchup=2)

    found = decide(spec, T - 4 * HOUR, None, T + 61, held=T - 2 * HOUR)
    assert [(each.tick, each.outcome) for each in found] == [
        (T - 3 * HOUR, None), (T - 2 * HOUR, None), (T - HOUR, None), (T, None),
    ]  # fmt: skip
    unheld = decide(spec, T - 4 * HOUR, None, T + 61)
    assert [each.outcome for each in unheld] == ["missed", "missed", None, None]
