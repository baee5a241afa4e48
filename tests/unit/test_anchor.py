"""An interval that is counted from another moment than 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronq.errors import DefinitionError
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.ranges import schedule_words
from cronq.schedule.schedule import parse_schedule

#: 2026-01-05 00:00:00 UTC, a Monday.
T = 1767571200
DAY = 86400
near = st.integers(T - 90 * DAY, T + 90 * DAY)


def at(text: str, tz: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)).timestamp())


def spec(**options: Any) -> JobSpec:
    return make_spec("payroll", function="jobs:payroll", **options)


@given(st.integers(1, 40 * DAY), near, near, near)
def test_an_interval_has_a_tick_at_its_anchor_and_at_each_step_from_it(
    every: int, anchor: int, after: int, until: int
) -> None:
    every = max(every, abs(until - after) // 500 + 1)
    schedule = parse_schedule(every=every, anchor=anchor)
    first, last = min(after, until) - 2 * every, max(after, until) + 2 * every
    ticks = [anchor + n * every for n in range((first - anchor) // every, (last - anchor) // every + 1)]

    assert schedule.next_after(anchor - 1) == anchor
    assert schedule.next_after(after) == min(tick for tick in ticks if tick > after)
    assert schedule.last_until(until) == max(tick for tick in ticks if tick <= until)
    between = [tick for tick in ticks if after < tick <= until]
    assert schedule.count(after, until) == len(between)
    assert schedule.between(after, until) == between


@given(st.integers(1, 40), near, near, near, st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland"]))
def test_with_a_time_of_day_the_day_of_the_anchor_counts(
    days: int, anchor: int, after: int, until: int, tz: str
) -> None:
    schedule = parse_schedule(every=days * DAY, at="10:00", anchor=anchor, tz=tz)
    zone = ZoneInfo(tz)
    day = datetime.fromtimestamp(anchor, zone).date()
    ticks = [
        int(datetime(*(day + timedelta(days=days * n)).timetuple()[:3], 10, tzinfo=zone).timestamp())
        for n in range(-400 // days - 2, 400 // days + 3)
    ]

    assert schedule.next_after(after) == min(tick for tick in ticks if tick > after)
    assert schedule.last_until(until) == max(tick for tick in ticks if tick <= until)
    between = [tick for tick in ticks if after < tick <= until]
    assert schedule.count(after, until) == len(between)
    assert schedule.between(after, until) == between


def test_each_second_monday_at_ten_in_berlin_stays_so_when_the_clocks_change() -> None:
    payroll = spec(every="14d", at="10:00", tz="Europe/Berlin", anchor="2026-01-05").schedule
    assert payroll is not None

    found = payroll.next_ticks(at("2026-01-05T00:00"), 9)

    assert [datetime.fromtimestamp(tick, ZoneInfo("Europe/Berlin")).strftime("%a %m-%d %H:%M") for tick in found] == [
        "Mon 01-05 10:00", "Mon 01-19 10:00", "Mon 02-02 10:00", "Mon 02-16 10:00", "Mon 03-02 10:00",
        "Mon 03-16 10:00", "Mon 03-30 10:00", "Mon 04-13 10:00", "Mon 04-27 10:00",
    ]  # fmt: skip
    assert str(payroll) == "every 14d at 10:00 from 2026-01-05"
    assert payroll.describe() == "At 10:00 every 14 days, counted from 2026-01-05"


def test_an_anchor_without_a_zone_is_of_that_of_the_job_and_stored_as_a_moment() -> None:
    poll = spec(every="90m", tz="Europe/Berlin", anchor="2026-01-05T00:20")

    assert poll.anchor == at("2026-01-04T23:20")
    assert JobSpec.from_json(poll.to_json(), name="payroll") == poll
    assert str(poll.schedule) == "every 1h30m from 2026-01-04T23:20:00Z"
    assert poll.schedule is not None
    assert poll.schedule.describe() == "Every 1 hour 30 minutes, counted from 2026-01-04 23:20 UTC"
    assert spec(every="1h", anchor=datetime(2026, 1, 5, 0, 20, tzinfo=UTC)).anchor == at("2026-01-05T00:20")


def test_a_range_of_missed_ticks_is_read_by_the_anchor_of_then() -> None:
    words = schedule_words(spec(every="90m", anchor="2026-01-05T00:20"))

    assert f'"anchor":{at("2026-01-05T00:20")}' in words.replace(" ", "")
    assert "anchor" not in schedule_words(spec(every="90m"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"cron": "0 7 * * *"}, "only an interval counts from it; give every, or leave it out"),
        ({"at": "10:00"}, "only an interval counts from it; give every, or leave it out"),
        ({"at": "2026-12-24T18:00"}, "is a single tick; leave one of them out"),
        ({}, "means nothing without a schedule; give cron or every"),
        ({"after": "other"}, "means nothing with after, which takes the place of a schedule; leave it out"),
    ],
)
def test_an_anchor_belongs_to_an_interval(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem) as refused:
        spec(anchor="2026-01-05", **options)
    assert refused.value.field == "anchor"


@pytest.mark.parametrize("anchor", ["Monday", "2026-01-32", "2026", "1969-12-31", "20260105", 7])
def test_what_is_no_moment_is_refused(anchor: Any) -> None:
    with pytest.raises(DefinitionError, match="job 'payroll': anchor: "):
        spec(every="14d", anchor=anchor)
