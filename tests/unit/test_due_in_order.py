"""What becomes of the pending ticks of a job with `backfill`."""

from __future__ import annotations

from typing import Any

import pytest

from cronq.jobs.calendar import NO_CALENDARS, Calendars, make_calendar
from cronq.jobs.pause import Pause
from cronq.jobs.skip import Skip
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.due import Decision, decide, decide_closed

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR, DAY = 60, 3600, 86400


def daily(**options: Any) -> JobSpec:
    return make_spec("etl", function="m:f", **({"cron": "0 7 * * *", "backfill": True} | options))


def told(decisions: list[Decision]) -> list[tuple[int, str | None, int]]:
    """Day, outcome and how many ticks of each decision."""
    return [((each.tick - T) // DAY, each.outcome, each.ticks) for each in decisions]


def test_the_oldest_pending_tick_runs_however_old_it_is_and_the_others_wait() -> None:
    (decision,) = decide(daily(), T - HOUR, None, T + 400 * DAY)

    assert decision == Decision(T, None, "due", "schedule", T + DAY, in_order=True)


def test_nothing_is_due_before_the_next_tick() -> None:
    assert decide(daily(), T, None, T + DAY - 1.0) == []


def test_excluded_ticks_before_it_are_decided_with_it() -> None:
    calendars = Calendars({"closed": make_calendar("closed", dates=["2026-01-06..2026-01-07"])})

    decisions = decide(daily(except_="closed"), T, None, T + 9 * DAY, calendars)

    assert told(decisions) == [(1, "skipped", 1), (2, "skipped", 1), (3, None, 1)]
    assert [each.next_tick for each in decisions] == [T + 2 * DAY, T + 3 * DAY, T + 4 * DAY]
    assert all(each.in_order for each in decisions)


def test_many_excluded_ones_are_a_range() -> None:
    calendars = Calendars({"closed": make_calendar("closed", dates=["2026-01-06..2026-01-10"])})

    decisions = decide(daily(except_="closed"), T, None, T + 9 * DAY, calendars)

    assert told(decisions) == [(5, "skipped", 5), (6, None, 1)]
    assert decisions[0].next_tick == T + 6 * DAY


def test_skipped_and_paused_ticks_do_not_run() -> None:
    pause = Pause(since=T, by="ann", until=T + DAY + HOUR)
    skips = (Skip((T + 2 * DAY,), "ben", "no paper"),)

    decisions = decide(daily(), T, pause, T + 9 * DAY, NO_CALENDARS, skips=skips)

    assert told(decisions) == [(1, "paused", 1), (2, "skipped", 1), (3, None, 1)]


def test_all_ticks_of_an_endless_pause_are_recorded_and_none_runs() -> None:
    decisions = decide(daily(), T, Pause(since=T), T + 900 * DAY)

    assert told(decisions) == [(900, "paused", 900)]


@pytest.mark.parametrize("cron", ["* * * * *", "* * * * * *"])
def test_a_long_backlog_takes_no_longer_to_decide(cron: str) -> None:
    (decision,) = decide(daily(cron=cron), T, None, T + 300 * DAY)

    assert decision.outcome is None
    assert decision.tick - T == (MINUTE if cron == "* * * * *" else 1)


def test_a_tick_that_has_a_row_already_is_taken_out_of_a_range() -> None:
    decisions = decide(daily(), T, Pause(since=T), T + 9 * DAY, apart=T + 9 * DAY)

    assert told(decisions) == [(8, "paused", 8), (9, "paused", 1)]


def test_its_ticks_are_counted() -> None:
    spec = daily(repeat=3)

    (last,) = decide(spec, T, None, T + 9 * DAY, had=2)

    assert (last.tick, last.number) == (T + DAY, 3)
    assert decide(spec, T + DAY, None, T + 9 * DAY, had=3) == []


def test_with_jitter_it_is_queued_later_by_as_much() -> None:
    spec = daily(jitter="1h")
    due_s = spec.due_s(T)
    assert due_s is not None

    assert decide(spec, T - HOUR, None, due_s - 1.0) == []
    (decision,) = decide(spec, T - HOUR, None, due_s + 1.0)
    assert (decision.tick, decision.next_tick) == (T, spec.due_s(T + DAY))


def test_what_is_closed_is_closed_whatever_the_order() -> None:
    (decision,) = decide_closed(daily(), T, None, T + 9 * DAY, NO_CALENDARS, "the job was changed")

    assert (decision.outcome, decision.ticks, decision.in_order) == ("missed", 9, False)
