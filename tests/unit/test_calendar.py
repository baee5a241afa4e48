"""Which ticks a calendar holds: dates, ranges and weekly hours, in odd zones and when clocks change."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronq.errors import DefinitionError
from cronq.jobs.calendar import NO_CALENDARS, Calendar, Calendars, make_calendar, read_calendar
from cronq.timetext import parse_instant


def at(text: str) -> int:
    return int(parse_instant(text))


def calendars(**made: Calendar) -> Calendars:
    return Calendars(made)


# Days


def test_a_date_holds_its_local_day_and_says_which_calendar_it_is() -> None:
    holidays = make_calendar("holidays", ["2026-12-25"])

    assert holidays.covers(at("2026-12-25T12:00"), "UTC") == "2026-12-25 is in the calendar holidays"
    assert holidays.covers(at("2026-12-24T23:59:59"), "UTC") is None
    assert holidays.covers(at("2026-12-26T00:00"), "UTC") is None


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("Pacific/Kiritimati", "2026-12-24T10:00:00", "2026-12-25T09:59:59"),  # +14
        ("Pacific/Niue", "2026-12-25T11:00:00", "2026-12-26T10:59:59"),  # -11
        ("Asia/Kathmandu", "2026-12-24T18:15:00", "2026-12-25T18:14:59"),  # +05:45
        ("Pacific/Chatham", "2026-12-24T10:15:00", "2026-12-25T10:14:59"),  # +13:45, daylight saving
    ],
)
def test_the_day_is_that_of_the_zone_of_the_job(zone: str, first: str, last: str) -> None:
    holidays = make_calendar("holidays", ["2026-12-25"])

    assert [holidays.covers(at(each), zone) is not None for each in (first, last)] == [True, True]
    assert holidays.covers(at(first) - 1, zone) is None
    assert holidays.covers(at(last) + 1, zone) is None


def test_a_calendar_with_a_zone_uses_its_own_whatever_the_zone_of_the_job() -> None:
    holidays = make_calendar("holidays", ["2026-12-25"], tz="America/New_York")

    for zone in ("UTC", "Asia/Tokyo"):
        assert holidays.covers(at("2026-12-25T05:00"), zone) is not None
        assert holidays.covers(at("2026-12-25T04:59:59"), zone) is None


def test_a_range_holds_its_first_day_its_last_day_and_all_between() -> None:
    freeze = make_calendar("freeze", ["2026-12-26..2027-01-02", "2026-12-30..2026-12-31", "2025-01-01"])

    held = [day for day in range(20, 40) if freeze.covers(at("2026-12-01") + 86400 * (day - 1), "UTC")]
    assert held == list(range(26, 34))
    assert [str(each) for each in freeze.dates] == ["2025-01-01", "2026-12-26..2027-01-02"]


# Weekly hours


def test_days_of_the_week_hold_whole_local_days() -> None:
    weekend = make_calendar("weekend", weekly=["sat,sun"])

    assert weekend.covers(at("2026-12-26T23:59:59"), "UTC") == "Sat 2026-12-26 is in the calendar weekend (sat,sun)"
    assert weekend.covers(at("2026-12-28T00:00"), "UTC") is None
    assert weekend.covers(at("2026-12-25T15:00"), "Asia/Tokyo") is not None  # it is Saturday there


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    night = make_calendar("night", weekly=["mon-fri 22:00-06:00"])

    assert night.covers(at("2026-12-25T22:00"), "UTC") == (
        "Fri 2026-12-25 22:00 is in the calendar night (mon-fri 22:00-06:00)"
    )
    assert night.covers(at("2026-12-26T05:59:59"), "UTC") is not None  # the end of Friday's
    assert night.covers(at("2026-12-26T06:00"), "UTC") is None
    assert night.covers(at("2026-12-26T22:00"), "UTC") is None  # Saturday has none
    assert night.covers(at("2026-12-28T05:00"), "UTC") is None  # nor does Sunday
    assert night.covers(at("2026-12-28T21:59:59"), "UTC") is None


@pytest.mark.parametrize(("words", "held"), [("fri-mon", {4, 5, 6, 0}), ("Sunday, WED", {6, 2}), ("tue", {1})])
def test_days_may_wrap_around_the_week_and_be_written_in_full(words: str, held: set[int]) -> None:
    calendar = make_calendar("some", weekly=[words])

    assert {day for day in range(7) if calendar.covers(at("2026-12-21T12:00") + 86400 * day, "UTC")} == held


def test_hours_are_those_of_the_clock_on_the_wall_when_clocks_change() -> None:
    quiet = make_calendar("quiet", weekly=["sat,sun 22:00-03:00"])
    zone = "Europe/Berlin"

    # 2026-03-29: the clock goes from 02:00 to 03:00, so the window ends an hour early.
    assert quiet.covers(at("2026-03-29T00:59:59"), zone) is not None  # 01:59:59
    assert quiet.covers(at("2026-03-29T01:00"), zone) is None  # 03:00
    # 2026-10-25: 02:00 to 03:00 comes twice, and both are part of it.
    assert quiet.covers(at("2026-10-25T00:30"), zone) is not None  # 02:30, the first time
    assert quiet.covers(at("2026-10-25T01:30"), zone) is not None  # 02:30, the second time
    assert quiet.covers(at("2026-10-25T02:00"), zone) is None  # 03:00


def test_a_day_that_a_zone_never_had_holds_nothing() -> None:
    gone = make_calendar("gone", ["2011-12-30"])  # Samoa went from the 29th to the 31st

    assert not any(gone.covers(at("2011-12-29T00:00") + 600 * step, "Pacific/Apia") for step in range(400))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.integers(0, 2_000_000_000),
    st.sampled_from(["UTC", "Europe/Dublin", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"]),
    st.sets(st.integers(0, 6), min_size=1),
    st.tuples(st.integers(0, 1439), st.integers(0, 1439)).filter(lambda pair: pair[0] != pair[1]),
)
def test_a_window_holds_what_walking_back_to_its_start_finds(
    tick: int, zone: str, days: set[int], hours: tuple[int, int]
) -> None:
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    start, end = hours
    text = f"{','.join(names[day] for day in days)} {start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"
    there = datetime.fromtimestamp(tick, ZoneInfo(zone)).replace(tzinfo=None)
    length = timedelta(minutes=(end - start) % 1440)
    begun = there.replace(hour=start // 60, minute=start % 60, second=0)
    begun -= timedelta(days=1) if begun > there else timedelta(0)

    expected = begun.weekday() in days and there < begun + length
    assert (make_calendar("w", weekly=[text]).covers(tick, zone) is not None) == expected


# Only and except


WORK = make_calendar("work", weekly=["mon-fri"])
HOLIDAYS = make_calendar("holidays", ["2026-12-25", "2026-12-28"])
SOME = calendars(work=WORK, holidays=HOLIDAYS)
FRIDAY, SATURDAY, MONDAY, TUESDAY = (at(f"2026-12-{day}T07:00") for day in (25, 26, 28, 29))


@pytest.mark.parametrize(
    ("only", "except_", "tick", "reason"),
    [
        ((), ("holidays",), FRIDAY, "2026-12-25 is in the calendar holidays"),
        ((), ("holidays",), SATURDAY, None),
        (("work",), (), FRIDAY, None),
        (("work",), (), SATURDAY, "Sat 2026-12-26 is not in the calendar work"),
        (("work", "holidays"), (), SATURDAY, "Sat 2026-12-26 is not in the calendar work nor in holidays"),
        (("work",), ("holidays",), MONDAY, "2026-12-28 is in the calendar holidays"),
        (("work",), ("holidays",), TUESDAY, None),
        (("work", "holidays"), (), FRIDAY, None),
        ((), ("gone",), FRIDAY, None),
        ((), ("gone", "holidays"), FRIDAY, "2026-12-25 is in the calendar holidays"),
        (("gone",), (), FRIDAY, "there is no calendar gone, and it runs only on its days"),
        (("gone", "work"), (), FRIDAY, None),
        (("gone", "work"), (), SATURDAY, "there is no calendar gone, and it runs only on its days"),
    ],
)
def test_a_tick_runs_when_one_of_only_and_none_of_except_holds_it(
    only: tuple[str, ...], except_: tuple[str, ...], tick: int, reason: str | None
) -> None:
    assert SOME.exclusion(only, except_, tick, "UTC") == reason


def test_a_job_without_calendars_is_never_excluded() -> None:
    assert NO_CALENDARS.exclusion((), (), FRIDAY, "UTC") is None


# What is written and what is stored


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dates": ["2026-13-01"]}, "'2026-13-01' is no date; write 2026-12-25"),
    ({"dates": ["2026-W52-5"]}, "is no date"),
    ({"dates": ["2026-12-25.."]}, "is no date"),
    ({"dates": ["2026-12-26..2026-12-25"]}, "ends before it begins"),
    ({"weekly": ["caturday"]}, "'caturday' is no day; write sat,sun or mon-fri"),
    ({"weekly": ["sat,"]}, "'' is no day"),
    ({"weekly": ["sat 9-17"]}, "'9-17' are no hours; write 09:00-17:00"),
    ({"weekly": ["sat 22:00-25:00"]}, "are no hours"),
    ({"weekly": ["sat 22:60-23:00"]}, "are no hours"),
    ({"weekly": ["sat 22:00-22:00"]}, "is empty; leave the hours out"),
    ({"weekly": ["mon," * 40 + "mon"]}, "too long"),
    ({}, "it would hold no day"),
    ({"weekly": ["sat"], "tz": "Mars/Base"}, "'Mars/Base' is not a time zone"),
    ({"weekly": ["sat"], "note": "x" * 1001}, "1,000 are allowed"),
    ({"dates": [f"{year}-01-01" for year in range(2000, 9999)]}, "5,000 are allowed; use ranges"),
]


@pytest.mark.parametrize(("given_", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_refusal_is_one_line_with_the_calendar_the_value_and_the_remedy(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make_calendar("odd", **given_)

    assert str(refused.value).startswith("calendar 'odd': ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", ":version", "x" * 101, "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="cannot name a calendar"):
        make_calendar(name, ["2026-12-25"])


def test_what_is_stored_is_read_back_as_it_was() -> None:
    weekly = ["sat,sun", "fri 22:00-06:00"]
    made = make_calendar("odd", ["2026-12-25", "2026-12-27..2027-01-02"], weekly, "Asia/Tokyo", "note")

    assert read_calendar("odd", json.dumps(made.stored())) == made


@pytest.mark.parametrize(
    "raw",
    [
        "", "[]", "null", "{", '{"dates": []}', '{"dates": 5, "weekly": [], "tz": null, "note": "", "by": "", "at": 0}',
        '{"dates": ["x"], "weekly": [], "tz": null, "note": "", "by": "", "at": 0}',
        '{"dates": [5], "weekly": [], "tz": null, "note": "", "by": "", "at": 0}',
        '{"dates": ["2026-12-25"], "weekly": [], "tz": 5, "note": "", "by": "", "at": 0}',
        '{"dates": ["2026-12-25"], "weekly": [], "tz": null, "note": "", "by": "", "at": "soon"}',
        b"\xff\xfe",
    ],
)  # fmt: skip
def test_a_damaged_one_is_none_and_raises_nothing(raw: str | bytes) -> None:
    assert read_calendar("odd", raw) is None


def test_a_moment_of_setting_that_no_calendar_holds_harms_nothing() -> None:
    stored = make_calendar("odd", ["2026-12-25"]).stored() | {"at": 1e300}

    found = read_calendar("odd", json.dumps(stored))

    assert found is not None
    assert found.at_s == 0.0
    assert found.covers(int(datetime(2026, 12, 25, tzinfo=UTC).timestamp()), "UTC")
