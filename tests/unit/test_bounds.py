"""Schedules that begin and end: nothing is before or after, and within they are what they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronq.errors import ScheduleError
from cronq.jobs.spec import make_spec
from cronq.jobs.stored import JobState, StoredJob
from cronq.runs.due import decide
from cronq.schedule.bounds import bounded, first_ticks, once
from cronq.schedule.moment import parse_moment_s
from cronq.schedule.schedule import parse_schedule
from cronq.schedule.zone import find_zone

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, DAY = 60, 86400
moments = st.integers(T - 3 * DAY, T + 3 * DAY)


@given(st.none() | moments, st.none() | moments, moments, moments, st.sampled_from(["7 * * * *", "*/5 3-9 * * *"]))
def test_a_bounded_schedule_has_just_the_ticks_between_its_bounds(
    start: int | None, end: int | None, after: int, until: int, cron: str
) -> None:
    whole = parse_schedule(cron=cron, tz="Europe/Berlin")
    part = bounded(whole, start, end)
    all_ticks = whole.next_ticks(T - 4 * DAY, 2500)
    ticks = [tick for tick in all_ticks if (start is None or tick >= start) and (end is None or tick <= end)]

    assert part.next_after(after) == next((tick for tick in ticks if tick > after), None)
    assert part.last_until(until) == next((tick for tick in reversed(ticks) if tick <= until), None)
    between = [tick for tick in ticks if after < tick <= until]
    assert part.last_ticks(after, until, 10) == (between[-10:], len(between) <= 10)
    assert part.count(after, until) == len(between)
    assert part.between(after, until) == between


@given(moments, st.integers(-1, 40), moments)
def test_of_a_schedule_only_the_first_ticks_are_left(after: int, count: int, until: int) -> None:
    whole = parse_schedule(cron="*/20 3-9 * * *")
    ticks = whole.next_ticks(after, max(count, 0))
    due = [tick for tick in ticks if tick <= until]

    part, found = first_ticks(whole, after, count, until)

    assert found == len(due)
    assert part.last_ticks(after, until, 100) == (due, True)
    newest = due[-1] if due else after
    assert (part.next_after(newest) is None) == (len(due) == max(count, 0))


def test_a_single_tick_is_there_once() -> None:
    schedule = once("2026-01-05T08:00", "Europe/Berlin", "debian")

    assert (schedule.next_after(T - 1), schedule.next_after(T)) == (T, None)
    assert (schedule.last_until(T), schedule.last_until(T - 1)) == (T, None)
    assert schedule.next_ticks(0, 5) == [T]
    assert [schedule.count(T - 1, T), schedule.count(T, T + 5), schedule.count(0, T - 1)] == [1, 0, 0]
    assert [schedule.between(T - 1, T), schedule.between(T, T + 5), schedule.between(0, T - 1)] == [[T], [], []]
    assert str(schedule) == "at 2026-01-05T07:00:00Z"
    assert schedule.describe() == "Once, at 2026-01-05T07:00:00Z"


def test_a_single_tick_that_is_none_is_refused() -> None:
    with pytest.raises(ScheduleError, match=r"at: .*does not exist in Europe/Berlin"):
        once("2026-03-29T02:30", "Europe/Berlin", "debian")


@pytest.mark.parametrize(
    ("told", "zone", "moment"),
    [
        ("2026-01-05T07:00", "UTC", T),
        ("2026-01-05 07:00:30", "UTC", T + 30),
        ("2026-01-05T08:00", "Europe/Berlin", T),
        ("2026-01-05T08:00:00.75", "Europe/Berlin", T),
        ("2026-01-05T07:00Z", "Europe/Berlin", T),
        ("2026-01-05T02:00-05:00", "Europe/Berlin", T),
        (datetime(2026, 1, 5, 8, tzinfo=timezone(timedelta(hours=1))), "Asia/Tokyo", T),
        (datetime(2026, 1, 5, 7).replace(tzinfo=None), "UTC", T),
        ("2026-10-25T02:30", "Europe/Berlin", int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp())),
        ("2026-03-29T03:00", "Europe/Berlin", int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp())),
        ("2011-12-31T00:00", "Pacific/Apia", int(datetime(2011, 12, 30, 10, tzinfo=UTC).timestamp())),
    ],
)
def test_a_moment_without_an_offset_is_of_the_zone(told: str | datetime, zone: str, moment: int) -> None:
    assert parse_moment_s(told, find_zone(zone)) == moment


@pytest.mark.parametrize("told", ["2026-03-29T02:30", "2026-03-29T02:00", "2026-03-29T02:59:59"])
def test_a_moment_that_the_clocks_leave_out_is_refused(told: str) -> None:
    with pytest.raises(ValueError, match="does not exist in Europe/Berlin"):
        parse_moment_s(told, find_zone("Europe/Berlin"))


def test_ticks_outside_the_bounds_are_not_even_missed() -> None:
    spec = make_spec("a", command=["true"], cron="* * * * *", catchup="all", start="2026-01-05T07:01:00",
                     end="2026-01-05T07:03:00")  # fmt: skip

    decided = decide(spec, T - 10 * MINUTE, None, T + 10 * MINUTE)

    assert [each.tick for each in decided] == [T + MINUTE, T + 2 * MINUTE, T + 3 * MINUTE]
    assert decided[-1].next_tick is None


def test_moments_are_stored_as_seconds_and_need_processes_that_know_them() -> None:
    spec = make_spec("a", command=["true"], cron="@daily", tz="Europe/Berlin", start="2026-01-05T08:00")

    assert (spec.start, spec.layout) == (T, 2)
    assert make_spec("a", command=["true"], at="2026-01-05T08:00").layout == 2
    assert make_spec("a", command=["true"], at="08:00").layout == 1
    assert make_spec("a", command=["true"], at=datetime(2026, 1, 5, 7, tzinfo=UTC)).schedule == once(
        "2026-01-05T07:00:00+00:00", "UTC", "debian"
    )


@pytest.mark.parametrize(
    ("mark", "following", "active", "status"),
    [
        (T, None, {}, "finished"),
        (T, None, {"r": "queued"}, "waiting"),
        (T, None, {"r": "running"}, "running"),
        (T - 1, T, {}, "failing"),
        (T - 1, None, {}, "failing"),  # it has lost its place on the agenda: it is not over
    ],
)
def test_a_job_is_finished_when_its_last_tick_was_taken(
    mark: int, following: int | None, active: dict[str, str], status: str
) -> None:
    spec = make_spec("a", command=["true"], at="2026-01-05T07:00")
    state = JobState(mark=mark, pause=None, streak=-1 if status in ("failing", "finished") else 0)

    assert StoredJob(spec, "v", "here", "test", state, following).status(active, T + 2) == status
