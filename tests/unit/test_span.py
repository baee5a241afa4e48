"""Which past ticks a span of time has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cronq.errors import CronqError
from cronq.jobs.calendar import NO_CALENDARS, Calendars, make_calendar
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.span import Span, ticks_of_span


def s(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def spec(**options: Any) -> JobSpec:
    return make_spec("etl", function="m:f", **({"cron": "0 7 * * *"} | options))


def wanted(job: JobSpec, start: str, end: str, now: str = "2026-12-31T00:00") -> list[str]:
    found = ticks_of_span(job, Span(s(start), s(end)), s(now), NO_CALENDARS)
    return [datetime.fromtimestamp(tick, UTC).isoformat()[:16] for tick in found.wanted]


def test_the_start_is_in_the_span_and_the_end_is_not() -> None:
    assert wanted(spec(), "2026-11-20T07:00", "2026-11-22T07:00") == ["2026-11-20T07:00", "2026-11-21T07:00"]


def test_a_span_between_two_ticks_has_none() -> None:
    assert wanted(spec(), "2026-11-20T07:01", "2026-11-21T07:00") == []


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        ("debian", ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]),
        ("skip", ["2026-03-28T01:30", "2026-03-30T00:30"]),
    ],
)
def test_ticks_follow_the_zone_and_its_clock_changes(dst: str, expected: list[str]) -> None:
    job = spec(cron="30 2 * * *", tz="Europe/Berlin", dst=dst)

    assert wanted(job, "2026-03-28T00:00", "2026-03-30T23:00") == expected


def test_what_the_schedule_begins_and_ends_with_bounds_the_span() -> None:
    job = spec(start="2026-11-21T00:00", end="2026-11-22T12:00")

    assert wanted(job, "2026-11-01T00:00", "2026-12-01T00:00") == ["2026-11-21T07:00", "2026-11-22T07:00"]


def test_what_a_calendar_excludes_stays_excluded_and_says_why() -> None:
    closed = make_calendar("closed", dates=["2026-11-21"])
    job = spec(except_="closed")

    found = ticks_of_span(job, Span(s("2026-11-20T00:00"), s("2026-11-23T00:00")), s("2026-12-01T00:00"),
                          Calendars({"closed": closed}))  # fmt: skip

    assert found.wanted == [s("2026-11-20T07:00"), s("2026-11-22T07:00")]
    assert list(found.excluded) == [s("2026-11-21T07:00")]
    assert "closed" in found.excluded[s("2026-11-21T07:00")]


def refusal(job: JobSpec, start: str, end: str, now: str = "2026-12-31T00:00") -> str:
    with pytest.raises(CronqError) as caught:
        ticks_of_span(job, Span(s(start), s(end)), s(now), NO_CALENDARS)
    return str(caught.value)


def test_a_tick_to_come_is_refused_and_named() -> None:
    words = refusal(spec(), "2026-11-20T00:00", "2026-11-23T00:00", now="2026-11-21T07:00")

    assert "2026-11-22T07:00:00Z is still to come" in words


def test_a_span_that_reaches_beyond_now_without_a_tick_there_is_fine() -> None:
    assert wanted(spec(), "2026-11-20T00:00", "2026-11-21T20:00", now="2026-11-21T12:00") == [
        "2026-11-20T07:00", "2026-11-21T07:00",
    ]  # fmt: skip


def test_a_job_without_a_schedule_has_no_ticks() -> None:
    assert "has no schedule" in refusal(spec(cron=None), "2026-11-20T00:00", "2026-11-21T00:00")


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    assert "not after its start" in refusal(spec(), "2026-11-21T00:00", "2026-11-20T00:00")


def test_more_ticks_than_any_ledger_keeps_are_refused_at_once() -> None:
    words = refusal(spec(cron="* * * * * *"), "2016-11-20T00:00", "2026-11-21T00:00")

    assert "and 100,000 are allowed" in words
