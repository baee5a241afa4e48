"""What schedules do on the days when clocks change, case by case.

Times are local, as a clock on the wall shows them; `+` marks the second showing of a repeated time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from cronq.schedule import zone as zones
from cronq.schedule.schedule import DST_RULES, Schedule, parse_schedule
from cronq.schedule.surprises import warnings
from cronq.schedule.zone import find_zone
from tests.unit import cron_oracle

NEW_YORK, AMSTERDAM, LORD_HOWE = "America/New_York", "Europe/Amsterdam", "Australia/Lord_Howe"


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def ticks_of_day(schedule: Schedule, day: str) -> list[int]:
    """The ticks of one local day, as instants."""
    zone = ZoneInfo(schedule.tz)
    midnight = datetime.fromisoformat(day)
    begin_s = int(midnight.replace(tzinfo=zone).timestamp())
    end_s = int((midnight + timedelta(days=1)).replace(tzinfo=zone).timestamp())
    found = []
    tick = schedule.next_after(begin_s - 1)
    while tick is not None and tick < end_s:
        found.append(tick)
        tick = schedule.next_after(tick)
    assert schedule.last_ticks(begin_s - 1, end_s - 1, len(found)) == (found, True)
    return found


def day(tz: str, date: str, expression: str, dst: str) -> str:
    """The ticks of one local day, as a clock there shows them."""
    schedule = parse_schedule(cron=expression, tz=tz, dst=dst)
    shown = [datetime.fromtimestamp(tick, ZoneInfo(tz)) for tick in ticks_of_day(schedule, date)]
    return " ".join(f"{t:%H:%M:%S}".removesuffix(":00") + "+" * t.fold for t in shown)


# zone, date, expression, and the ticks under debian, skip and both
CLOCK_CHANGES = [
    # New York, 2026-03-08: 02:00 becomes 03:00
    (NEW_YORK, "2026-03-08", "30 2 * * *", "03:00", "", "03:00"),
    (NEW_YORK, "2026-03-08", "0 2,3 * * *", "03:00", "03:00", "03:00"),  # the gap's tick and 03:00 are one
    (NEW_YORK, "2026-03-08", "0,15,30 2 * * *", "03:00", "", "03:00"),  # three in one gap are one
    (NEW_YORK, "2026-03-08", "30 1-3 * * *", "01:30 03:00 03:30", "01:30 03:30", "01:30 03:00 03:30"),
    (NEW_YORK, "2026-03-08", "0/15 2 * * *", "03:00", "", "03:00"),  # begins with 0: fixed
    (NEW_YORK, "2026-03-08", "*/30 2 * * *", "", "", ""),  # begins with *: wildcard
    (NEW_YORK, "2026-03-08", "15 30 2 * * *", "03:00", "", "03:00"),  # seconds first, kept out of the gap's end
    (NEW_YORK, "2026-03-08", "* 59 2 * * *", "03:00", "", "03:00"),  # sixty in one gap are one
    (NEW_YORK, "2026-03-08", "30 2 1 * *", "", "", ""),  # no tick on that day, so none to make up for
    # New York, 2026-11-01: 02:00 becomes 01:00
    (NEW_YORK, "2026-11-01", "30 1 * * *", "01:30", "01:30", "01:30 01:30+"),
    (NEW_YORK, "2026-11-01", "0 1-3 * * *", "01:00 02:00 03:00", "01:00 02:00 03:00", "01:00 01:00+ 02:00 03:00"),
    (
        NEW_YORK, "2026-11-01", "30 1-3 * * *",
        "01:30 02:30 03:30", "01:30 02:30 03:30", "01:30 01:30+ 02:30 03:30",
    ),
    (
        NEW_YORK, "2026-11-01", "*/30 1 * * *",
        "01:00 01:30 01:00+ 01:30+", "01:00 01:30", "01:00 01:30 01:00+ 01:30+",
    ),
    (NEW_YORK, "2026-11-01", "15 30 1 * * *", "01:30:15", "01:30:15", "01:30:15 01:30:15+"),
    # Amsterdam, 2026-03-29: 02:00 becomes 03:00; 2026-10-25: 03:00 becomes 02:00
    (AMSTERDAM, "2026-03-29", "30 2 * * *", "03:00", "", "03:00"),
    (AMSTERDAM, "2026-10-25", "30 2 * * *", "02:30", "02:30", "02:30 02:30+"),
    (AMSTERDAM, "2026-10-25", "0 2 * * *", "02:00", "02:00", "02:00 02:00+"),
    (AMSTERDAM, "2026-10-25", "0 3 * * *", "03:00", "03:00", "03:00"),  # the instant of the change is 02:00+
    (AMSTERDAM, "2026-10-25", "30 2 * * SUN", "02:30", "02:30", "02:30 02:30+"),  # next match is a week away
    # Lord Howe, 2026-04-05: 02:00 becomes 01:30; 2026-10-04: 02:00 becomes 02:30
    (LORD_HOWE, "2026-04-05", "30 1 * * *", "01:30", "01:30", "01:30 01:30+"),
    (LORD_HOWE, "2026-04-05", "45 1 * * *", "01:45", "01:45", "01:45 01:45+"),
    (LORD_HOWE, "2026-04-05", "15 1 * * *", "01:15", "01:15", "01:15"),  # only half an hour is repeated
    (
        LORD_HOWE, "2026-04-05", "*/15 1 * * *",
        "01:00 01:15 01:30 01:45 01:30+ 01:45+", "01:00 01:15 01:30 01:45", "01:00 01:15 01:30 01:45 01:30+ 01:45+",
    ),
    (LORD_HOWE, "2026-10-04", "0 2 * * *", "02:30", "", "02:30"),
    (LORD_HOWE, "2026-10-04", "15 2 * * *", "02:30", "", "02:30"),
    (LORD_HOWE, "2026-10-04", "45 2 * * *", "02:45", "02:45", "02:45"),
    # midnight does not exist: Beirut 2026-03-29, Santiago 2026-09-06, Cairo 2026-04-24
    ("Asia/Beirut", "2026-03-29", "0 0 * * *", "01:00", "", "01:00"),
    ("Asia/Beirut", "2026-03-29", "*/20 0,2 * * 0", "02:00 02:20 02:40", "02:00 02:20 02:40", "02:00 02:20 02:40"),
    ("Asia/Beirut", "2026-03-29", "*/30 1 * * 0", "01:00 01:30", "01:00 01:30", "01:00 01:30"),
    ("America/Santiago", "2026-09-06", "0 0 * * *", "01:00", "", "01:00"),
    ("America/Santiago", "2026-04-04", "30 23 * * *", "23:30", "23:30", "23:30 23:30+"),  # 24:00 becomes 23:00
    ("Africa/Cairo", "2026-04-24", "0 0 * * *", "01:00", "", "01:00"),
    # the clock goes by two hours: Troll, 2026-03-29 01:00 to 03:00 and 2026-10-25 03:00 to 01:00
    ("Antarctica/Troll", "2026-03-29", "30 1,2 * * *", "03:00", "", "03:00"),
    ("Antarctica/Troll", "2026-10-25", "30 1,2 * * *", "01:30 02:30", "01:30 02:30", "01:30 02:30 01:30+ 02:30+"),
    # a gap of exactly three hours is made up for: Casey, 2009-10-18 02:00 to 05:00
    ("Antarctica/Casey", "2009-10-18", "0 3 * * *", "05:00", "", "05:00"),
    # a longer one is a correction: Vostok, 1994-11-01 00:00 to 07:00, and the same backwards
    ("Antarctica/Vostok", "1994-11-01", "0 3 * * *", "", "", ""),
    ("Antarctica/Vostok", "1994-01-31", "0 20 * * *", "20:00", "20:00", "20:00 20:00+"),
    # Morocco goes back for Ramadan and forward after it, both at night: 2026-02-15 and 2026-03-22
    ("Africa/Casablanca", "2026-02-15", "15 2 * * *", "02:15", "02:15", "02:15 02:15+"),
    ("Africa/Casablanca", "2026-03-22", "15 2 * * *", "03:00", "", "03:00"),
    # no change, nothing special
    ("Asia/Kolkata", "2026-03-29", "30 2 * * *", "02:30", "02:30", "02:30"),
    ("UTC", "2026-03-29", "30 2 * * *", "02:30", "02:30", "02:30"),
]  # fmt: skip


@pytest.mark.parametrize(("tz", "date", "expression", "debian", "skip", "both"), CLOCK_CHANGES)
def test_a_job_runs_as_its_rule_says_when_clocks_change(
    tz: str, date: str, expression: str, debian: str, skip: str, both: str
) -> None:
    assert day(tz, date, expression, "debian") == debian
    assert day(tz, date, expression, "skip") == skip
    assert day(tz, date, expression, "both") == both


# zone, date, expression, and how many ticks that day has under debian, skip and both
COUNTS = [
    (NEW_YORK, "2026-03-08", "0 * * * *", 23, 23, 23),
    (NEW_YORK, "2026-03-08", "*/15 * * * *", 92, 92, 92),
    (NEW_YORK, "2026-03-08", "15 */2 * * *", 11, 11, 11),  # 02:15 is not there, and 03:00 is no substitute
    (NEW_YORK, "2026-11-01", "*/15 * * * *", 100, 96, 100),
    (NEW_YORK, "2026-11-01", "0 */2 * * *", 12, 12, 12),  # 01:00 is repeated, no even hour is
    (NEW_YORK, "2026-11-01", "*/20 * * * * *", 4500, 4320, 4500),
    (AMSTERDAM, "2026-10-25", "0 * * * *", 25, 24, 25),
    (AMSTERDAM, "2026-10-25", "0 0-23 * * *", 24, 24, 25),  # the same hours, but written as fixed
    (LORD_HOWE, "2026-04-05", "15 */2 * * *", 12, 12, 12),
    (LORD_HOWE, "2026-04-05", "* 0,4 * * *", 120, 120, 120),
    (LORD_HOWE, "2026-10-04", "50 * * * *", 24, 24, 24),
    ("Asia/Beirut", "2026-03-29", "15 */2 * * *", 11, 11, 11),
    ("Asia/Beirut", "2026-03-29", "* 1 * * 0", 60, 60, 60),
]


@pytest.mark.parametrize(("tz", "date", "expression", "debian", "skip", "both"), COUNTS)
def test_a_frequent_job_loses_or_gains_what_its_rule_says_when_clocks_change(
    tz: str, date: str, expression: str, debian: int, skip: int, both: int
) -> None:
    counts = {dst: len(ticks_of_day(parse_schedule(cron=expression, tz=tz, dst=dst), date)) for dst in DST_RULES}

    assert counts == {"debian": debian, "skip": skip, "both": both}


def test_the_end_of_a_gap_is_the_instant_of_the_change() -> None:
    schedule = parse_schedule(cron="15 2 * * *", tz=LORD_HOWE)

    assert schedule.next_after(epoch("2026-10-03T00:00")) == epoch("2026-10-03T15:30")


@pytest.mark.parametrize("dst", DST_RULES)
def test_a_day_that_a_zone_leaves_out_has_no_tick(dst: str) -> None:
    yearly = parse_schedule(cron="0 12 30 12 *", tz="Pacific/Apia", dst=dst)
    daily = parse_schedule(cron="0 12 * * *", tz="Pacific/Apia", dst=dst)

    # Samoa had no 30 December 2011: at UTC-10 until the 29th, at UTC+14 from the 31st.
    assert yearly.next_after(epoch("2011-01-01T00:00")) == epoch("2012-12-29T22:00")
    assert daily.next_after(epoch("2011-12-29T20:00")) == epoch("2011-12-29T22:00")
    assert daily.next_after(epoch("2011-12-29T22:00")) == epoch("2011-12-30T22:00")
    assert daily.last_until(epoch("2011-12-30T21:59")) == epoch("2011-12-29T22:00")


def test_the_newest_tick_is_found_from_within_repeated_time() -> None:
    monthly = parse_schedule(cron="30 1 1 * *", tz=NEW_YORK)

    # 01:10 for the second time: 01:30 has been, 40 minutes ago.
    assert monthly.last_until(epoch("2026-11-01T06:10")) == epoch("2026-11-01T05:30")
    assert monthly.next_after(epoch("2026-11-01T06:10")) == epoch("2026-12-01T06:30")


def test_an_interval_takes_no_notice_of_clock_changes() -> None:
    schedule = parse_schedule(every="30m", tz=NEW_YORK, dst="skip")

    assert len(ticks_of_day(schedule, "2026-03-08")) == 46
    assert len(ticks_of_day(schedule, "2026-11-01")) == 50


def test_a_time_on_whole_days_stays_at_its_local_time() -> None:
    schedule = parse_schedule(every="1d", at="02:30", tz=AMSTERDAM)

    assert schedule.last_ticks(epoch("2026-03-27T12:00"), epoch("2026-03-30T12:00"), 9) == (
        [epoch("2026-03-28T01:30"), epoch("2026-03-29T01:00"), epoch("2026-03-30T00:30")],
        True,
    )


def test_every_third_day_is_counted_in_local_days() -> None:
    auckland = parse_schedule(every="3d", at="01:00", tz="Pacific/Auckland")

    # 1970-01-01 and every third day after it, on Auckland's calendar: 20454 is 3 times 6818.
    assert auckland.next_after(epoch("2025-12-31T00:00")) == epoch("2026-01-01T00:00") - 12 * 3600
    assert auckland.next_after(epoch("2026-01-01T00:00")) == epoch("2026-01-04T00:00") - 12 * 3600


@pytest.mark.parametrize("tz", ["Africa/Casablanca", "America/Noronha", LORD_HOWE, "Pacific/Apia", "Asia/Gaza"])
def test_a_zone_knows_every_change_of_its_offset(tz: str) -> None:
    # Noronha tried summer time for one week in 2000.
    zone = find_zone(tz)
    found = []
    at_s, last_s = 0, epoch("2038-01-01T00:00")
    while at_s < last_s:
        stretch = zone.stretch_at(at_s)
        if stretch.start_s == at_s and stretch.gap_s:
            found.append(at_s)
        at_s = stretch.end_s

    assert tuple(found) == cron_oracle.changes(tz)


def test_a_zone_is_the_same_whatever_the_pieces_it_is_kept_in(monkeypatch: pytest.MonkeyPatch) -> None:
    expressions = ("30 1 * * *", "*/7 * * * *", "30 2 8 3 *", "0 2 * * SUN")
    dates = ("2026-03-08", "2026-11-01")
    expected = [day(NEW_YORK, date, e, dst) for date in dates for e in expressions for dst in DST_RULES]

    find_zone.cache_clear()
    monkeypatch.setattr(zones, "_PIECE_BITS", 10)  # borders every 17 minutes, also within the repeated hour
    found = [day(NEW_YORK, date, e, dst) for date in dates for e in expressions for dst in DST_RULES]
    find_zone.cache_clear()

    assert found == expected


@pytest.mark.parametrize(
    ("expression", "tz", "dst", "from_", "expected"),
    [
        ("30 2 * * *", AMSTERDAM, "debian", "2026-01-01", [
            "2026-03-29 02:00 to 03:00 does not exist in Europe/Amsterdam: 02:30 runs once, at 03:00 (dst=debian)",
            "2026-10-25 02:00 to 03:00 happens twice in Europe/Amsterdam: "
            "02:30 runs once, the first time (dst=debian)",
        ]),
        ("0,30 2 * * *", AMSTERDAM, "both", "2026-01-01", [
            "2026-03-29 02:00 to 03:00 does not exist in Europe/Amsterdam: "
            "02:00, 02:30 run once, together, at 03:00 (dst=both)",
            "2026-10-25 02:00 to 03:00 happens twice in Europe/Amsterdam: 02:00, 02:30 run both times (dst=both)",
        ]),
        ("*/10 * * * *", LORD_HOWE, "skip", "2026-06-01", [
            "2026-10-04 02:00 to 02:30 does not exist in Australia/Lord_Howe: "
            "02:00, 02:10, 02:20 do not run (dst=skip)",
            "2027-04-04 01:30 to 02:00 happens twice in Australia/Lord_Howe: "
            "01:30, 01:40, 01:50 run once, the first time (dst=skip)",
        ]),
        ("0 12 * * *", NEW_YORK, "debian", "2026-06-01", [
            "2026-11-01 01:00 to 02:00 happens twice in America/New_York: no tick falls into it (dst=debian)",
            "2027-03-14 02:00 to 03:00 does not exist in America/New_York: no tick falls into it (dst=debian)",
        ]),
        ("0 12 * * *", "Pacific/Apia", "both", "2011-12-01", [
            "2011-12-30 00:00 to 2011-12-31 00:00 does not exist in Pacific/Apia: "
            "2011-12-30 12:00 does not run, because more than 3 hours are missing (dst=both)",
            "2012-04-01 03:00 to 04:00 happens twice in Pacific/Apia: no tick falls into it (dst=both)",
        ]),
        ("30 2 * * *", "Asia/Kolkata", "debian", "2026-01-01", []),
        ("30 2 * * *", "UTC", "debian", "2026-01-01", []),
    ],
)  # fmt: skip
def test_a_user_is_told_what_happens_at_the_next_two_clock_changes(
    expression: str, tz: str, dst: str, from_: str, expected: list[str]
) -> None:
    assert warnings(parse_schedule(cron=expression, tz=tz, dst=dst), epoch(from_)) == expected
