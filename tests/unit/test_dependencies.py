"""Which tick of a parent a tick waits for."""

from __future__ import annotations

from cronq.jobs.calendar import NO_CALENDARS, Calendars, make_calendar
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.dependencies import Need, latest_tick, needs_of, with_last_tick
from cronq.timetext import parse_instant


def at(words: str) -> int:
    return int(parse_instant(words))


def spec(name: str, **options: object) -> JobSpec:
    return make_spec(name, function="m:f", **options)


def test_it_is_the_latest_at_or_before_by_the_parents_own_zone() -> None:
    parent = spec("parent", cron="0 2 * * *", tz="Europe/Amsterdam")
    assert latest_tick(parent, at("2026-07-01T00:00:00Z"), NO_CALENDARS) == at("2026-07-01T00:00:00Z")
    assert latest_tick(parent, at("2026-06-30T23:59:59Z"), NO_CALENDARS) == at("2026-06-30T00:00:00Z")


def test_excluded_ticks_are_passed_over() -> None:
    calendars = Calendars({"off": make_calendar("off", ["2026-01-03..2026-01-05"])})
    parent = spec("parent", cron="0 2 * * *", except_="off")
    assert latest_tick(parent, at("2026-01-05T12:00:00Z"), calendars) == at("2026-01-02T02:00:00Z")


def test_of_a_parent_of_each_minute_a_whole_weekend_is_passed_over() -> None:
    calendars = Calendars({
        "weekend": make_calendar("weekend", weekly=["sat,sun"]),
        "lunch": make_calendar("lunch", weekly=["mon-fri 12:00-13:00"], tz="UTC"),
    })  # fmt: skip
    parent = spec("parent", cron="* * * * *", tz="Europe/Amsterdam", except_=["weekend", "lunch"])
    sunday, friday = at("2026-03-29T21:59:00Z"), at("2026-03-27T22:59:00Z")  # and the clocks were changed
    assert latest_tick(parent, sunday, calendars) == friday
    seconds = spec("seconds", every="1s", except_=["weekend", "lunch"])
    assert latest_tick(seconds, at("2026-03-27T12:59:59Z"), calendars) == at("2026-03-27T11:59:59Z")


def test_of_a_parent_with_repeat_the_last_of_its_ticks_is_the_latest() -> None:
    parent = spec("parent", every="1m", repeat=5)
    mark = at("2026-01-05T07:00:00Z")
    now = mark + 600
    assert latest_tick(with_last_tick(parent, mark, 5, now), now, NO_CALENDARS) == mark
    assert latest_tick(with_last_tick(parent, mark, 3, now), now, NO_CALENDARS) == mark + 120
    assert latest_tick(with_last_tick(parent, mark, 3, mark + 60), mark + 60, NO_CALENDARS) == mark + 60


def test_a_parent_that_has_had_no_tick_is_waited_for() -> None:
    parent = spec("parent", cron="0 2 * * *", start="2026-02-01T00:00")
    child = spec("child", cron="0 3 * * *", depends_on="parent")
    needs = needs_of(child, at("2026-01-05T03:00:00Z"), {"parent": parent}, NO_CALENDARS)
    assert needs == (Need("parent", 0, ", which has had no tick yet", ""),)


def test_without_a_schedule_it_is_since_the_tick_before() -> None:
    child = spec("child", cron="0 3 * * *", depends_on=["parent", "nobody"])
    tick = at("2026-01-05T03:00:00Z")
    since = at("2026-01-04T03:00:00Z") + 1
    assert needs_of(child, tick, {"parent": spec("parent")}, NO_CALENDARS) == (
        Need("parent", since, ", since 2026-01-04T03:00:00Z", ""),
        Need("nobody", since, ", since 2026-01-04T03:00:00Z, which is no job", ""),
    )
