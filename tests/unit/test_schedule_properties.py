"""Schedules against the oracle, over random expressions, zones, rules and moments."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cronq.errors import ScheduleError
from cronq.schedule.schedule import DST_RULES, Schedule, parse_schedule
from cronq.schedule.surprises import warnings
from tests.unit import cron_oracle

ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Europe/Amsterdam",
    "Pacific/Apia",
    "UTC",
)
EARLIEST = int(datetime(1970, 1, 1, tzinfo=UTC).timestamp())
LATEST = int(datetime(2037, 12, 1, tzinfo=UTC).timestamp())
APIA_2011 = int(datetime(2011, 12, 30, 6, tzinfo=UTC).timestamp())

thorough = settings(
    derandomize=True, deadline=None, max_examples=400, suppress_health_check=[HealthCheck.filter_too_much]
)


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A term of plain numbers: one, a range, steps."""
    one = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda p: f"{min(p)}-{max(p)}")
    steps = st.integers(1, high).map(str)
    stepped = st.tuples(st.one_of(st.just("*"), one, span), steps).map("/".join)
    return st.one_of(one, one, span, stepped)


def fields(low: int, high: int, *special: str) -> st.SearchStrategy[str]:
    term = numbers(low, high)
    if special:
        term = st.one_of(term, st.sampled_from(special))
    return st.one_of(st.just("*"), term, term, st.lists(term, min_size=2, max_size=3).map(",".join))


# Clocks change at night, and mostly from Saturday to Sunday: hours and days are drawn where it hurts.
minutes = st.one_of(fields(0, 59), st.sampled_from(["0", "30", "*/15", "*/7", "0-29", "59"]))
hours = st.one_of(fields(0, 23), numbers(0, 4), st.sampled_from(["*", "*/2", "0-3", "1,2,3", "23", "0,23"]))
days = st.one_of(st.just("*"), st.just("*"), fields(1, 31, "L", "LW"))
months = st.one_of(st.just("*"), st.just("*"), fields(1, 12, "MAR", "OCT-NOV"))
weekdays = st.one_of(
    st.just("*"), st.just("*"), fields(0, 7, "SUN", "MON-FRI", "sat,sun", "5L", "0L", "SUN#2", "SUN#1", "4#5")
)
five_fields = st.tuples(minutes, hours, days, months, weekdays).map(" ".join)
six_fields = st.tuples(st.one_of(numbers(0, 59), fields(0, 59)), five_fields).map(" ".join)


@st.composite
def aimed(draw: st.DrawFn, tz: str, change_s: int) -> str:
    """An expression that matches around one clock change, and seldom otherwise."""
    zone = ZoneInfo(tz)
    near = [datetime.fromtimestamp(change_s + s, zone) for s in (-86400, -3600, -60, 0, 3600, 7200)]
    hour = st.sampled_from(near).map(lambda shown: str(shown.hour))
    day = st.sampled_from(near).map(lambda shown: str(shown.day))
    weekday = st.sampled_from(near).map(lambda shown: str(shown.isoweekday()))
    month = st.sampled_from(near).map(lambda shown: str(shown.month))
    some_hours = st.one_of(hour, st.lists(hour, min_size=2, max_size=3).map(",".join), hours)
    dates = st.one_of(
        st.just("* * *"),
        st.tuples(day, month, st.just("*")).map(" ".join),
        weekday.map(lambda number: f"* * {number}"),
        weekday.map(lambda number: f"* * {number}L,{number}#1"),
        st.tuples(days, st.just("*"), weekday).map(" ".join),
    )
    return f"{draw(minutes)} {draw(some_hours)} {draw(dates)}"


@st.composite
def moments(draw: st.DrawFn, tz: str) -> int:
    """An instant, in two of three cases shortly before or after a clock change of the zone."""
    changes = cron_oracle.changes(tz)
    if len(changes) > 0 and draw(st.integers(0, 2)):
        return draw(st.sampled_from(changes)) + draw(st.integers(-36 * 3600, 12 * 3600))
    return draw(st.integers(EARLIEST, LATEST))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str, str, int]:
    """Expression, zone, rule and the begin of the window to look at."""
    tz = draw(st.sampled_from(ZONES))
    dst = draw(st.sampled_from(DST_RULES))
    changes = cron_oracle.changes(tz)
    if len(changes) > 0 and draw(st.booleans()):
        change_s = draw(st.sampled_from(changes))
        return draw(aimed(tz, change_s)), tz, dst, change_s + draw(st.integers(-30 * 3600, 3600))
    return draw(st.one_of(five_fields, five_fields, six_fields)), tz, dst, draw(moments(tz))


def parse(expression: str, tz: str, dst: str) -> Schedule:
    """The schedule; a case with an impossible date is dropped."""
    try:
        return parse_schedule(cron=expression, tz=tz, dst=dst)
    except ScheduleError:
        assume(False)
        raise


def window_end(expression: str, begin_s: int) -> int:
    """Two days and a half; less for expressions that may tick every second."""
    return begin_s + (60 if len(expression.split()) == 5 else 10) * 3600


def listing(schedule: Schedule, after_s: int, until_s: int) -> list[int]:
    """All ticks in (after_s, until_s], stepping from each to the next."""
    found = []
    tick = schedule.next_after(after_s)
    while tick is not None and tick <= until_s:
        assert tick > after_s
        found.append(tick)
        after_s = tick
        tick = schedule.next_after(tick)
    return found


def last_by_oracle(ticks: list[int], limit: int) -> tuple[list[int], bool]:
    return ticks[len(ticks) - limit :] if limit < len(ticks) else ticks, limit >= len(ticks)


@given(cases())
@example(("30 2 * * *", "Europe/Amsterdam", "debian", 1774656000))
@example(("0 12 30 12 *", "Pacific/Apia", "debian", APIA_2011 - 86400))
@example(("*/10 0,2 * * 0", "Asia/Beirut", "debian", 1774648800))
@example(("30 1 * * SUN", "America/New_York", "both", 1793404034))
@thorough
def test_each_tick_is_where_a_watched_wall_clock_has_it(case: tuple[str, str, str, int]) -> None:
    expression, tz, dst, begin_s = case
    end_s = window_end(expression, begin_s)
    schedule = parse(expression, tz, dst)

    whole = cron_oracle.ticks(expression, tz, dst, begin_s, end_s)
    assert listing(schedule, begin_s - 1, end_s - 1) == whole
    assert schedule.count(begin_s - 1, end_s - 1) == len(whole)
    assert schedule.between(begin_s - 1, end_s - 1) == whole
    for middle_s in (*whole[:2], *(tick - 1 for tick in whole[-2:])):
        assert schedule.between(middle_s, end_s - 1) == [tick for tick in whole if tick > middle_s]
        assert schedule.between(begin_s - 1, middle_s) == [tick for tick in whole if tick <= middle_s]
        assert schedule.count(middle_s, end_s - 1) == sum(tick > middle_s for tick in whole)
        assert schedule.count(begin_s - 1, middle_s) == sum(tick <= middle_s for tick in whole)


@given(cases(), st.lists(st.integers(0, 36000), min_size=1, max_size=8))
@thorough
def test_the_next_tick_is_the_same_from_any_instant_before_it(
    case: tuple[str, str, str, int], offsets: list[int]
) -> None:
    expression, tz, dst, begin_s = case
    schedule = parse(expression, tz, dst)
    whole = listing(schedule, begin_s, window_end(expression, begin_s))

    for offset in offsets:
        position = bisect_right(whole, begin_s + offset)
        if position < len(whole):
            assert schedule.next_after(begin_s + offset) == whole[position]


@given(cases(), st.integers(0, 40))
@thorough
def test_the_last_ticks_are_the_end_of_the_listing(case: tuple[str, str, str, int], limit: int) -> None:
    expression, tz, dst, begin_s = case
    until_s = window_end(expression, begin_s)
    schedule = parse(expression, tz, dst)
    whole = listing(schedule, begin_s, until_s)

    assert schedule.last_ticks(begin_s, until_s, limit) == last_by_oracle(whole, limit)
    assert schedule.last_ticks(begin_s, until_s, len(whole)) == (whole, True)
    if whole:
        assert schedule.last_until(until_s) == whole[-1]


@given(st.data(), st.sampled_from(ZONES), st.sampled_from(DST_RULES), st.integers(1, 5))
@thorough
def test_a_time_on_every_nth_day_is_where_a_watched_wall_clock_has_it(
    data: st.DataObject, tz: str, dst: str, days: int
) -> None:
    hour, minute = data.draw(st.sampled_from([0, 1, 2, 3, 12, 23])), data.draw(st.integers(0, 59))
    begin_s = data.draw(moments(tz))
    end_s = begin_s + 60 * 3600
    schedule = parse_schedule(every=f"{days}d", at=f"{hour}:{minute:02d}", tz=tz, dst=dst)
    whole = cron_oracle.daily_ticks(days, hour, minute, tz, dst, begin_s, end_s)

    assert listing(schedule, begin_s - 1, end_s - 1) == whole
    assert schedule.last_ticks(begin_s - 1, end_s - 1, 9) == (whole, True)
    assert schedule.count(begin_s - 1, end_s - 1) == len(whole)
    assert schedule.between(begin_s - 1, end_s - 1) == whole


@given(five_fields, st.integers(EARLIEST, LATEST))
@settings(thorough, max_examples=150)
def test_without_a_zone_the_calendar_is_that_of_cronsim(expression: str, after_s: int) -> None:
    schedule = parse(expression, "UTC", "debian")
    start = datetime(1970, 1, 1) + timedelta(seconds=after_s)
    reference = CronSim(expression, start)
    backwards = CronSim(expression, start, reverse=True)

    tick: int | None = after_s
    for _ in range(4):
        assert tick is not None
        tick = schedule.next_after(tick)
        assert tick == (next(reference) - datetime(1970, 1, 1)).total_seconds()
    tick = after_s
    for _ in range(4):
        assert tick is not None
        tick = schedule.last_until(tick - 1)
        assert tick == (next(backwards) - datetime(1970, 1, 1)).total_seconds()


@given(st.integers(1, 10**7), st.integers(EARLIEST, LATEST), st.integers(0, 20))
@settings(thorough, max_examples=100)
def test_an_interval_ticks_at_the_multiples_of_itself(every: int, after_s: int, limit: int) -> None:
    schedule = parse_schedule(every=every)
    until_s = after_s + 7 * every
    whole = [number * every for number in range(after_s // every + 1, until_s // every + 1)]

    assert listing(schedule, after_s, until_s) == whole
    assert schedule.count(after_s, until_s) == len(whole)
    assert schedule.between(after_s, until_s) == whole
    assert schedule.last_ticks(after_s, until_s, limit) == last_by_oracle(whole, limit)


@given(cases())
@settings(thorough, max_examples=100)
def test_every_valid_expression_can_be_described_in_words(case: tuple[str, str, str, int]) -> None:
    schedule = parse(*case[:3])

    assert schedule.describe()
    assert str(schedule) == case[0]


@given(st.text(alphabet="0123456789*/,-#LWHSUNMOJA()? @", max_size=30))
@settings(thorough, max_examples=300)
def test_any_text_is_a_schedule_or_a_schedule_error(text: str) -> None:
    for cron in (text, f"{text} * * * *", f"* * {text} * *", f"* * * * {text}"):
        try:
            schedule = parse_schedule(cron=cron)
        except ScheduleError:
            continue
        assert schedule.next_after(0) is not None
        assert schedule.describe()
        warnings(schedule, 0)
