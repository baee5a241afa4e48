"""Schedules as people write them: what is accepted, what it means, what is refused and why."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from cronq.errors import ScheduleError
from cronq.schedule.schedule import parse_schedule
from cronq.schedule.surprises import warnings


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def following(from_: str, count: int = 3, **options: Any) -> list[str]:
    """The next ticks after an instant, in UTC."""
    schedule = parse_schedule(**options)
    found = []
    tick: int | None = epoch(from_)
    for _ in range(count):
        assert tick is not None
        tick = schedule.next_after(tick)
        assert tick is not None
        found.append(f"{datetime.fromtimestamp(tick, UTC):%Y-%m-%dT%H:%M:%S}".removesuffix(":00"))
    return found


def refusal(**options: Any) -> tuple[str | None, str]:
    """Field and text of the error."""
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(**options)
    return caught.value.field, caught.value.problem


# 2026-11-21 is a Saturday.
@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/5 * * * *", ["2026-11-21T07:05", "2026-11-21T07:10", "2026-11-21T07:15"]),
        ("0 9-17/4 * * *", ["2026-11-21T09:00", "2026-11-21T13:00", "2026-11-21T17:00"]),
        ("5/20 * * * *", ["2026-11-21T07:05", "2026-11-21T07:25", "2026-11-21T07:45"]),
        ("0 7 * * mon-fri", ["2026-11-23T07:00", "2026-11-24T07:00", "2026-11-25T07:00"]),
        ("0 0 * * 7", ["2026-11-22T00:00", "2026-11-29T00:00", "2026-12-06T00:00"]),
        ("0 0 * * 0", ["2026-11-22T00:00", "2026-11-29T00:00", "2026-12-06T00:00"]),
        ("0 0 1 jan,Jul *", ["2027-01-01T00:00", "2027-07-01T00:00", "2028-01-01T00:00"]),
        ("0 0 L * *", ["2026-11-30T00:00", "2026-12-31T00:00", "2027-01-31T00:00"]),
        ("0 0 LW * *", ["2026-11-30T00:00", "2026-12-31T00:00", "2027-01-29T00:00"]),
        ("0 0 * * 5L", ["2026-11-27T00:00", "2026-12-25T00:00", "2027-01-29T00:00"]),
        ("0 0 * * TUE#1", ["2026-12-01T00:00", "2027-01-05T00:00", "2027-02-02T00:00"]),
        ("0 0 13 * FRI", ["2026-11-27T00:00", "2026-12-04T00:00", "2026-12-11T00:00"]),  # or
        ("0 0 */13 * FRI", ["2026-11-27T00:00", "2027-01-01T00:00", "2027-05-14T00:00"]),  # and: 1st, 14th, 27th
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("0 0 * 2 MON#5", ["2044-02-29T00:00", "2072-02-29T00:00", "2112-02-29T00:00"]),
        ("30 */2 7 * * *", ["2026-11-21T07:00:30", "2026-11-21T07:02:30", "2026-11-21T07:04:30"]),
        ("*/30 * * * * *", ["2026-11-21T07:00:30", "2026-11-21T07:01", "2026-11-21T07:01:30"]),
        ("@hourly", ["2026-11-21T08:00", "2026-11-21T09:00", "2026-11-21T10:00"]),
        ("@daily", ["2026-11-22T00:00", "2026-11-23T00:00", "2026-11-24T00:00"]),
        ("@Midnight", ["2026-11-22T00:00", "2026-11-23T00:00", "2026-11-24T00:00"]),
        ("@weekly", ["2026-11-22T00:00", "2026-11-29T00:00", "2026-12-06T00:00"]),
        ("@monthly", ["2026-12-01T00:00", "2027-01-01T00:00", "2027-02-01T00:00"]),
        ("@yearly", ["2027-01-01T00:00", "2028-01-01T00:00", "2029-01-01T00:00"]),
        ("@annually", ["2027-01-01T00:00", "2028-01-01T00:00", "2029-01-01T00:00"]),
    ],
)
def test_an_expression_means_what_cron_users_expect(cron: str, expected: list[str]) -> None:
    assert following("2026-11-21T07:00", cron=cron) == expected


def test_a_tick_is_strictly_after_and_in_the_zone_of_the_job() -> None:
    schedule = parse_schedule(cron="0 7 * * *", tz="Europe/Amsterdam")

    assert schedule.next_after(epoch("2026-11-21T06:00") - 1) == epoch("2026-11-21T06:00")
    assert schedule.next_after(epoch("2026-11-21T06:00")) == epoch("2026-11-22T06:00")
    assert schedule.last_until(epoch("2026-11-21T06:00")) == epoch("2026-11-21T06:00")
    assert schedule.last_until(epoch("2026-11-21T06:00") - 1) == epoch("2026-11-20T06:00")


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("5m", ["2026-11-21T07:05", "2026-11-21T07:10"]),
        (300, ["2026-11-21T07:05", "2026-11-21T07:10"]),
        (timedelta(minutes=5), ["2026-11-21T07:05", "2026-11-21T07:10"]),
        (1, ["2026-11-21T07:00:01", "2026-11-21T07:00:02"]),
        ("1.1h", ["2026-11-21T07:30", "2026-11-21T08:36"]),  # 3960.0000000000005 as a float
        ("1d", ["2026-11-22T00:00", "2026-11-23T00:00"]),
        ("7d", ["2026-11-26T00:00", "2026-12-03T00:00"]),  # the epoch was a Thursday
    ],
)
def test_an_interval_is_aligned_to_the_epoch(every: Any, expected: list[str]) -> None:
    assert following("2026-11-21T07:00", 2, every=every) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"at": "10:00"}, ["2026-11-21T10:00", "2026-11-22T10:00"]),
        ({"at": "6:05"}, ["2026-11-22T06:05", "2026-11-23T06:05"]),
        ({"at": "07:00:30"}, ["2026-11-21T07:00:30", "2026-11-22T07:00:30"]),
        ({"every": "1d", "at": "10:00"}, ["2026-11-21T10:00", "2026-11-22T10:00"]),
        ({"every": 172800.0, "at": "10:00"}, ["2026-11-21T10:00", "2026-11-23T10:00"]),  # day 20778 is even
        ({"every": "1d", "at": "10:00", "tz": "Asia/Kolkata"}, ["2026-11-22T04:30", "2026-11-23T04:30"]),
    ],
)
def test_a_time_of_day_belongs_to_whole_days(options: dict[str, Any], expected: list[str]) -> None:
    assert following("2026-11-21T07:00", 2, **options) == expected


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("61 * * * *", "minute 61 is outside 0-59"),
        ("0-75 * * * *", "minute 75 is outside 0-59"),
        ("0,99,5 * * * *", "minute 99 is outside 0-59"),
        ("* 24 * * *", "hour 24 is outside 0-23"),
        ("* * 0 * *", "day of month 0 is outside 1-31"),
        ("* * 32 * *", "day of month 32 is outside 1-31"),
        ("* * * 13 *", "month 13 is outside 1-12"),
        ("* * * * 8", "day of week 8 is outside 0-7"),
        ("* * * * 9L", "day of week '9L' is not understood; allowed is 0-7 or SUN-SAT, MON#2, 5L"),
        ("* * * * 9#1", "day of week 9 is outside 0-7"),
        ("* * * * MON#6", "day of week MON#6: the number after # is outside 1-5"),
        ("60 * * * * *", "second 60 is outside 0-59"),
        ("* * * * * 61", "day of week 61 is outside 0-7"),
        ("*/0 * * * *", "minute step 0 in */0 is not a whole number of at least 1"),
        ("*/x * * * *", "minute step X in */X is not a whole number of at least 1"),
        ("5- * * * *", "minute '5-' is not understood; allowed is 0-59"),
        ("1-2-3 * * * *", "minute '1-2-3' is not understood"),
        ("five * * * *", "minute 'FIVE' is not understood; allowed is 0-59"),
        ("* * * foo *", "month 'FOO' is not understood; allowed is 1-12 or JAN-DEC"),
        ("* * 15W * *", "day of month '15W' is not understood; allowed is 1-31, L, LW"),
        ("* * ? * *", "day of month '?' is not supported; write *"),
        ("1,,2 * * * *", "minute has an empty item; allowed is 0-59"),
        (",1 * * * *", "minute has an empty item; allowed is 0-59"),
        ("* 22-6 * * *", "hour 22-6 runs backwards; write 22-23,0-6"),
        ("* 23-0 * * *", "hour 23-0 runs backwards; write 23,0"),
        ("* * * * fri-mon", "day of week FRI-MON runs backwards; write FRI-SAT,SUN-MON"),
        ("* * * * 5-1", "day of week 5-1 runs backwards; write 5-6,0-1"),
        ("* * * OCT-MAR *", "month OCT-MAR runs backwards; write OCT-DEC,JAN-MAR"),
        ("0 0 31 2 *", "day of month 31 is outside 1-29, the days of month 2"),
        ("0 0 30 2 *", "day of month 30 is outside 1-29, the days of month 2"),
        ("0 0 31 4,jun *", "day of month 31 is outside 1-30, the days of month 4,JUN"),
        ("0 0 */20 * 1L", "no day of month */20 in month * is a day of week 1L"),
        ("* * * *", "'* * * *' has 4 fields; cron has 5 (minute, hour, day of month, month, day of week), or 6"),
        ("* * * * * * *", "has 7 fields; cron has 5 (minute, hour, day of month, month, day of week), or 6"),
        ("", "'' has 0 fields"),
        ("5", "'5' has 1 field; cron has 5"),
        ("@reboot", "@reboot is not a time"),
        ("@every 5m", "'@every 5m' is not cron; give the interval as every='5m'"),
        ("@fortnightly", "'@fortnightly' is not known; use one of @hourly, @daily"),
        ("H(0-75) * * * *", "minute 75 in H(0-75) is outside 0-59"),
        ("H(9-5) * * * *", "minute H(9-5) runs backwards"),
        ("H/0 * * * *", "minute step 0 in H/0"),
        ("H-5 * * * *", "minute 'H-5' is not understood; write H, H/2, H(0-59) or H(0-59)/2"),
        ("* * H(1-31) * *", "day of month 31 in H(1-31) is outside 1-28, the range of H"),
        ("1 " * 600, "longer than 1000 characters"),
        (("9" * 900) + " * * * *", "is outside 0-59"),
        (5, "5 is not a cron expression; write it as a string"),
    ],
)
def test_a_bad_expression_is_refused_with_field_value_and_range(cron: Any, problem: str) -> None:
    field, text = refusal(cron=cron)

    assert field == "cron"
    assert problem in text


def test_a_refused_expression_is_quoted_as_it_was_written() -> None:
    assert refusal(cron="61  * * * mon") == ("cron", "minute 61 is outside 0-59 (in '61 * * * mon')")


def test_the_order_of_six_fields_is_stated() -> None:
    assert "or 6 with seconds first" in refusal(cron="* * * *")[1]


@pytest.mark.parametrize(
    ("options", "field", "problem"),
    [
        ({}, "cron", "nothing says when; give cron, every or at"),
        ({"cron": "* * * * *", "every": 5}, "cron", "cron and every are both given"),
        ({"cron": "* * * * *", "at": "10:00"}, "at", "put the time into the cron expression"),
        ({"every": "3h", "at": "23:59"}, "at", "at='23:59' needs whole days, and every is 3h"),
        ({"every": "3d4h", "at": "23:59"}, "at", "at='23:59' needs whole days, and every is 3d4h"),
        ({"every": 0}, "every", "0 is 0 s; use whole seconds, at least 1"),
        ({"every": 0.5}, "every", "0.5 is 0.5 s; use whole seconds, at least 1"),
        ({"every": "90.5s"}, "every", "'90.5s' is 90.5 s; use whole seconds"),
        ({"every": "250ms"}, "every", "'250ms' is 0.25 s; use whole seconds"),
        ({"every": "soon"}, "every", "'soon' is not a duration"),
        ({"every": -5}, "every", "-5 is not a duration"),
        ({"every": True}, "every", "True is not a duration"),
        ({"every": float("nan")}, "every", "nan is not a duration"),
        ({"at": "24:59"}, "at", "hour 24 in '24:59' is outside 0-23"),
        ({"at": "23:60"}, "at", "minute 60 in '23:60' is outside 0-59"),
        ({"at": "23:00:60"}, "at", "second 60 in '23:00:60' is outside 0-59"),
        ({"at": "noon"}, "at", "'noon' is not a time of day; write HH:MM or HH:MM:SS"),
        ({"at": 10}, "at", "10 is not a time of day"),
        ({"at": "10:00", "dst": "debain"}, "dst", "did you mean debian? use one of debian, skip, both"),
        ({"at": "10:00", "dst": None}, "dst", "None is not a rule; use one of debian, skip, both"),
    ],
)
def test_a_contradiction_is_refused_and_names_its_field(options: dict[str, Any], field: str, problem: str) -> None:
    found = refusal(**options)

    assert found[0] == field
    assert problem in found[1]


@pytest.mark.parametrize(
    ("tz", "meant"),
    [
        ("Europe/Amsterdm", "Europe/Amsterdam"),
        ("Amsterdam", "Europe/Amsterdam"),
        ("europe/amsterdam", "Europe/Amsterdam"),
        ("America/New York", "America/New_York"),
        ("Mars/Olympus_Mons_Base_3", None),
        ("", None),
        (None, None),
        (["UTC"], None),
    ],
)
def test_an_unknown_zone_is_refused_with_the_closest_name(tz: Any, meant: str | None) -> None:
    field, problem = refusal(cron="* * * * *", tz=tz)

    assert field == "tz"
    assert "is not a time zone" in problem
    assert "use an IANA name such as Europe/Amsterdam" in problem
    assert meant is None or f"did you mean {meant}?" in problem


@pytest.mark.parametrize(
    "tz",
    [
        "/etc/localtime", "/usr/share/zoneinfo/UTC", "../UTC", "Europe/../UTC", "Europe//Amsterdam", "./UTC", "Europe",
        "localtime", "posixrules", "Factory", "posix/Europe/Amsterdam", "right/Europe/Amsterdam", "tzdata.zi",
        "zone.tab", "leapseconds", "UTC\0", "UTC\n", " UTC",
    ],
)  # fmt: skip
def test_a_name_of_a_file_is_not_a_zone(tz: str) -> None:
    assert refusal(cron="* * * * *", tz=tz)[0] == "tz"


@pytest.mark.parametrize("tz", ["UTC", "Etc/GMT+5", "EST5EDT", "America/Argentina/Buenos_Aires", "GMT0"])
def test_every_other_iana_name_is_a_zone(tz: str) -> None:
    assert parse_schedule(cron="* * * * *", tz=tz).tz == tz


# These values may never change: they decide when the jobs of every installation run.
@pytest.mark.parametrize(
    ("cron", "seed", "same_as"),
    [
        ("H * * * *", "invoices", "10 * * * *"),
        ("H * * * *", "backup", "34 * * * *"),
        ("H H * * *", "invoices", "10 2 * * *"),
        ("H H H H *", "invoices", "10 2 26 7 *"),
        ("0 0 * * H", "invoices", "0 0 * * 6"),
        ("H H * * * *", "invoices", "25 10 * * * *"),
        ("h/15 * * * *", "backup", "4-59/15 * * * *"),
        ("H(0-29) * * * *", "backup", "4 * * * *"),
        ("H(0-29)/10 * * * *", "backup", "4-29/10 * * * *"),
        ("H(0-29),H(30-59) * * * *", "backup", "4,34 * * * *"),
        ("0 9 * * H(MON-FRI)", "invoices", "0 9 * * 1"),
    ],
)
def test_h_is_a_stable_value_for_each_job_and_field(cron: str, seed: str, same_as: str) -> None:
    hashed = following("2026-11-21T07:00", 9, cron=cron, seed=seed)

    assert hashed == following("2026-11-21T07:00", 9, cron=same_as)


@pytest.mark.parametrize("cron", ["H H H H H", "H H H H H H", "0 H/7 H(1-9)/4 H(1-10)/3 H/5 *", "H(55-59)/3 * * * *"])
def test_h_stays_within_its_field_for_every_name(cron: str) -> None:
    for number in range(300):
        schedule = parse_schedule(cron=cron, seed=f"job-{number}")
        tick = schedule.next_after(0)

        assert tick is not None
        assert "(55-59)" not in cron or 55 <= tick // 60 % 60 <= 59
        # At most the 28th: otherwise some months would go without the job.
        assert "H H H H" not in cron or datetime.fromtimestamp(tick, UTC).day <= 28


def test_h_spreads_jobs_over_the_hour() -> None:
    minutes = {parse_schedule(cron="H * * * *", seed=f"job-{number}").next_after(0) for number in range(600)}

    assert len(minutes) == 60


@pytest.mark.parametrize(
    ("options", "text", "description"),
    [
        ({"cron": "*/5  * * * *"}, "*/5 * * * *", "Every fifth minute of every hour"),
        ({"cron": "0 7 * * mon-fri"}, "0 7 * * mon-fri", "At 07:00 on Monday through Friday"),
        ({"cron": "@daily"}, "@daily", "At 00:00 every day"),
        ({"cron": "30 0 7 * * *"}, "30 0 7 * * *", "At 07:00:30 every day"),
        ({"cron": "H * * * *", "seed": "invoices"}, "H * * * *", "At minute 10 of every hour"),
        ({"every": "300s"}, "every 5m", "Every 5 minutes, counted from 1970-01-01 00:00 UTC"),
        ({"every": 3600}, "every 1h", "Every hour, counted from 1970-01-01 00:00 UTC"),
        ({"every": "1d2h3m4s"}, "every 1d2h3m4s",
         "Every 1 day 2 hours 3 minutes 4 seconds, counted from 1970-01-01 00:00 UTC"),
        ({"at": "9:05"}, "every 1d at 09:05", "At 09:05 every day"),
        ({"every": "3d", "at": "10:00:30"}, "every 3d at 10:00:30",
         "At 10:00:30 every 3 days, counted from 1970-01-01"),
    ],
)  # fmt: skip
def test_a_schedule_is_shown_as_written_and_in_words(options: dict[str, Any], text: str, description: str) -> None:
    schedule = parse_schedule(**options)

    assert str(schedule) == text
    assert schedule.describe() == description


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("*/7 * * * *", ["minute */7 is uneven: 7 does not divide 60, so after 56 comes 0, 4 later instead of 7"]),
        ("0 */5 * * *", ["hour */5 is uneven: 5 does not divide 24, so after 20 comes 0, 4 later instead of 5"]),
        ("3/25 * * * *", ["minute 3/25 is uneven: 25 does not divide 60, so after 53 comes 3, 10 later instead of 25"]),
        ("*/90 * * * *", ["minute */90 matches only 0: the step is as large as the field"]),
        ("0 0 1 */5 *", ["month */5 is uneven: 5 does not divide 12, so after 11 comes 1, 2 later instead of 5"]),
        ("0 0 */2 * *", ["day of month */2 starts again on the 1st of each month: the last step before it is shorter"]),
        ("0 0 * * */2", ["day of week */2 is uneven: 2 does not divide 7, so after 6 comes 0, 1 later instead of 2"]),
        ("*/5 * * * *", []),
        ("5/20 * * * *", []),
        ("0 9-17/3 * * *", []),  # a range on purpose
        ("0 0 1-7 * 0", [
            "day of month 1-7 and day of week 0 are both set: "
            "one that matches is enough (a field that begins with * would make it both)",
        ]),
        ("0 0 */10 * MON", [
            "day of month */10 starts again on the 1st of each month: the last step before it is shorter",
            "day of month */10 and day of week MON are both set: both must match, because one of them begins with *",
        ]),
        ("*/20 * * * * *", ["of 6 fields the first is seconds: this runs 3 times in each minute that matches"]),
        ("0 0 7 * * *", []),
        ("H * * * *", ["H is hashed from the job's name: here H * * * * means 38 * * * *"]),
        ("0 0 * MAR THU", []),
    ],
)  # fmt: skip
def test_a_user_is_warned_of_what_an_expression_hides(cron: str, expected: list[str]) -> None:
    assert warnings(parse_schedule(cron=cron), epoch("2026-11-21T07:00")) == expected


def test_a_user_is_warned_that_an_interval_has_no_zone() -> None:
    daily = parse_schedule(every="1d", tz="Europe/Amsterdam")
    often = parse_schedule(every="5m", tz="Europe/Amsterdam")

    assert warnings(daily, 0) == [
        "an interval counts in UTC: tz Europe/Amsterdam makes no difference; add at=HH:MM for a local time"
    ]
    assert warnings(often, 0) == ["an interval counts in UTC: tz Europe/Amsterdam makes no difference"]
    assert warnings(parse_schedule(every="5m"), 0) == []


def test_schedules_are_values() -> None:
    one = parse_schedule(cron="0 7 * * *", tz="Europe/Amsterdam")

    assert one == parse_schedule(cron=" 0 7  * * *", tz="Europe/Amsterdam", seed="other")
    assert hash(one) == hash(parse_schedule(cron="0 7 * * *", tz="Europe/Amsterdam"))
    assert parse_schedule(every="60m") == parse_schedule(every=timedelta(hours=1))
    assert parse_schedule(at="7:00") == parse_schedule(every="24h", at="07:00")
    different = {
        one,
        parse_schedule(cron="0 7 * * *", tz="Europe/Paris"),
        parse_schedule(cron="0 7 * * *", tz="Europe/Amsterdam", dst="skip"),
        parse_schedule(cron="0 8 * * *", tz="Europe/Amsterdam"),
        parse_schedule(at="07:00", tz="Europe/Amsterdam"),
        parse_schedule(cron="H * * * *", seed="a"),
        parse_schedule(cron="H * * * *", seed="b"),
    }
    assert len(different) == 7
    with pytest.raises(AttributeError):
        one.tz = "UTC"  # type: ignore[misc]


def test_the_last_ticks_of_a_long_outage_are_found_without_walking_through_it() -> None:
    every_second = parse_schedule(cron="* * * * * *", tz="America/New_York")
    until_s = epoch("2026-11-21T07:00")

    assert every_second.last_ticks(0, until_s, 3) == ([until_s - 2, until_s - 1, until_s], False)
    assert every_second.last_ticks(until_s - 3, until_s, 3) == ([until_s - 2, until_s - 1, until_s], True)
    assert every_second.last_ticks(until_s, until_s, 3) == ([], True)
    assert every_second.last_ticks(0, until_s, 0) == ([], False)


def test_instants_far_away_are_answered_rather_than_failing() -> None:
    for options in ({"cron": "0 0 29 2 *"}, {"cron": "* * * * *"}, {"at": "10:00"}):
        for tz in ("UTC", "America/New_York", "Africa/Casablanca"):
            schedule = parse_schedule(**options, tz=tz)

            assert schedule.next_after(10**15) is None
            assert schedule.last_until(-(10**15)) is None
            first, last = schedule.next_after(-(10**15)), schedule.last_until(10**15)
            assert first is not None
            assert last is not None
            assert first < 0 < last


def test_threads_may_share_a_schedule() -> None:
    schedule = parse_schedule(cron="*/7 1-5 * * MON", tz="Asia/Beirut")
    starts = range(epoch("1990-01-01"), epoch("1998-01-01"), 86400 * 3)
    expected = [schedule.next_after(start) for start in starts]
    fresh = parse_schedule(cron="*/7 1-5 * * 1", tz="Asia/Amman")
    results: list[list[int | None]] = []

    def ask() -> None:
        results.append([schedule.next_after(start) for start in starts])
        fresh.next_after(0)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [expected] * 4


def test_ticks_follow_each_other_over_a_century() -> None:
    schedule = parse_schedule(cron="30 2 L * *", tz="Europe/Amsterdam")
    ticks = [epoch("1970-01-01")]
    while ticks[-1] < epoch("2100-01-01"):
        tick = schedule.next_after(ticks[-1])
        assert tick is not None
        ticks.append(tick)

    assert len(ticks) == 130 * 12 + 2
    assert all(27 * 86400 < after - before < 32 * 86400 for before, after in pairwise(ticks[1:]))
