"""What becomes of each tick: the catch-up rules against examples, and against an oracle that tries every second."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronq.errors import ScheduleError
from cronq.jobs.calendar import NO_CALENDARS, Calendars, make_calendar
from cronq.jobs.pause import LATE_S, Pause
from cronq.jobs.skip import Skip, ticks_of
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.due import MAX_TICKS_A_PASS, Decision, decide, decide_closed

NOON = 1795262400  # 2026-11-21T12:00:00Z
MINUTE, HOUR, DAY = 60, 3600, 86400
bounded = settings(derandomize=True, deadline=None, max_examples=300)


def a_job(**options: Any) -> JobSpec:
    if not {"cron", "every"} & set(options):
        options["cron"] = "0 * * * *"
    return make_spec("nightly", function="jobs:nightly", **options)


def what_became(decisions: list[Decision], when: dict[str, Any] | None = None) -> dict[int, str]:
    """By tick: its outcome, or the trigger of its run; the ticks of ranges are found by looking at every second."""
    found: dict[int, str] = {}
    for each in decisions:
        ticks = [each.tick]
        if each.first is not None:
            ticks = [second for second in range(each.first, each.tick + 1) if matches(when or {}, second)]
            assert len(ticks) == each.ticks
        assert not found.keys() & set(ticks)
        found |= dict.fromkeys(ticks, each.outcome or f"run ({each.trigger})")
    return found


def hours_ago(*hours: int) -> list[int]:
    return [NOON - hour * HOUR for hour in hours]


# One tick


def test_nothing_is_due_before_the_next_tick() -> None:
    assert decide(a_job(), NOON, None, NOON + HOUR - 0.001) == []


def test_a_tick_is_due_from_its_very_second() -> None:
    assert decide(a_job(), NOON - HOUR, None, NOON) == [Decision(NOON, None, "due", "schedule", NOON + HOUR)]


def test_the_tick_at_the_mark_was_taken_already() -> None:
    assert decide(a_job(), NOON, None, NOON + 5) == []


@pytest.mark.parametrize("mark", [NOON + 1, NOON + 10 * DAY])
def test_a_mark_ahead_of_the_time_lets_nothing_run(mark: int) -> None:
    assert decide(a_job(), mark, None, NOON) == []


def test_a_job_without_a_schedule_is_never_due() -> None:
    assert decide(make_spec("by-hand", function="jobs:nightly"), 0, None, NOON) == []


@pytest.mark.parametrize("catchup", ["latest", "skip", "all"])
@pytest.mark.parametrize(("late", "on_time"), [(0, True), (59, True), (60, True), (60.01, False), (61, False)])
def test_one_late_tick_was_missed_only_after_a_minute(late: float, on_time: bool, catchup: str) -> None:
    [decision] = decide(a_job(catchup=catchup), NOON - HOUR, None, NOON + late)

    expected = "run (schedule)" if on_time else "missed" if catchup == "skip" else "run (catchup)"
    assert what_became([decision]) == {NOON: expected}


def test_a_tick_that_is_at_most_a_minute_late_runs_whatever_the_window() -> None:
    decisions = decide(a_job(window="10s"), NOON - HOUR, None, NOON + 59)

    assert what_became(decisions) == {NOON: "run (schedule)"}


@pytest.mark.parametrize("catchup", ["latest", "skip", "all"])
@pytest.mark.parametrize(("age", "inside"), [(2 * HOUR, True), (2 * HOUR + 1, False)])
def test_a_missed_tick_beyond_the_window_stays_missed(age: int, inside: bool, catchup: str) -> None:
    [decision] = decide(a_job(cron="0 12 * * *", window="2h", catchup=catchup), NOON - 1, None, NOON + age)

    assert decision.outcome == (None if inside and catchup != "skip" else "missed")
    if not inside:
        assert "window of 2h" in decision.reason


# Several ticks, by rule. The newest is late: found half an hour after its time.


def test_latest_runs_the_newest_and_coalesces_the_others() -> None:
    decisions = decide(a_job(), NOON - 4 * HOUR, None, NOON + 30 * MINUTE)

    assert what_became(decisions) == {
        **dict.fromkeys(hours_ago(3, 2, 1), "coalesced"), NOON: "run (catchup)"
    }  # fmt: skip
    assert "the newest, 2026-11-21T12:00:00Z, was taken in its place" in decisions[0].reason


def test_skip_records_all_of_them_missed() -> None:
    decisions = decide(a_job(catchup="skip"), NOON - 4 * HOUR, None, NOON + 30 * MINUTE)

    assert what_became(decisions, {"every": HOUR}) == dict.fromkeys(hours_ago(3, 2, 1, 0), "missed")
    assert all("catchup is skip" in each.reason for each in decisions)


def test_all_runs_each_oldest_first() -> None:
    decisions = decide(a_job(catchup="all"), NOON - 4 * HOUR, None, NOON + 30 * MINUTE)

    assert [each.tick for each in decisions] == hours_ago(3, 2, 1, 0)
    assert {each.outcome for each in decisions} == {None}
    assert {each.trigger for each in decisions} == {"catchup"}


def test_all_runs_no_more_than_the_newest_max_catchup() -> None:
    decisions = decide(a_job(catchup="all", max_catchup=2), NOON - 5 * HOUR, None, NOON + 30 * MINUTE)

    assert what_became(decisions) == {
        **dict.fromkeys(hours_ago(4, 3, 2), "missed"), **dict.fromkeys(hours_ago(1, 0), "run (catchup)")
    }  # fmt: skip
    assert "max_catchup=2" in decisions[0].reason


@pytest.mark.parametrize(("catchup", "older"), [("latest", "coalesced"), ("skip", "missed"), ("all", "run (catchup)")])
def test_of_several_the_newest_may_be_on_time_and_the_others_were_missed_all_the_same(catchup: str, older: str) -> None:
    decisions = decide(a_job(every="10s", catchup=catchup), NOON - 30, None, NOON + 1)

    # The oldest is 21 s old, less than a minute, yet not the newest.
    newest = "run (catchup)" if catchup == "all" else "run (schedule)"  # so that the others do not push it out
    assert what_became(decisions) == {NOON - 20: older, NOON - 10: older, NOON: newest}


def test_a_tick_of_this_very_second_is_the_newest() -> None:
    decisions = decide(a_job(every="10s"), NOON - 20, None, NOON)

    assert what_became(decisions) == {NOON - 10: "coalesced", NOON: "run (schedule)"}


@pytest.mark.parametrize(("catchup", "caught_up"), [("latest", "coalesced"), ("all", "run (catchup)")])
def test_only_what_lies_in_the_window_is_caught_up(catchup: str, caught_up: str) -> None:
    decisions = decide(a_job(catchup=catchup, window="150m"), NOON - 5 * HOUR, None, NOON + 30 * MINUTE)

    assert what_became(decisions) == {
        **dict.fromkeys(hours_ago(4, 3), "missed"), **dict.fromkeys(hours_ago(2, 1), caught_up), NOON: "run (catchup)"
    }  # fmt: skip


def test_an_outage_longer_than_the_window_runs_nothing() -> None:
    decisions = decide(a_job(window="10m"), NOON - 4 * HOUR, None, NOON + 30 * MINUTE)

    assert what_became(decisions, {"every": HOUR}) == dict.fromkeys(hours_ago(3, 2, 1, 0), "missed")


def test_every_decision_says_why_in_words_a_person_reads() -> None:
    decisions = decide(a_job(catchup="skip"), NOON - 2 * HOUR, None, NOON + 90)

    assert [each.reason for each in decisions] == [
        "no beat took it in time; found 1h1m late; catchup is skip",
        "no beat took it in time; found 1m30s late; catchup is skip",
    ]


# Pauses


def test_the_ticks_of_a_paused_job_are_recorded_paused_with_who_and_why() -> None:
    pause = Pause(since=NOON - 90 * MINUTE, by="ann@box", note="moving house")

    decisions = decide(a_job(catchup="all"), NOON - 2 * HOUR, pause, NOON + 5)

    assert what_became(decisions) == dict.fromkeys(hours_ago(1, 0), "paused")
    assert {each.reason for each in decisions} == {"paused since 2026-11-21T10:30:00Z by ann@box: moving house"}


@pytest.mark.parametrize("now", [NOON, NOON + 59, NOON + 61, NOON + 90 * DAY])
def test_a_paused_tick_is_paused_however_late_it_is_found(now: float) -> None:
    decisions = decide(a_job(cron="0 12 21 11 *"), NOON - 1, Pause(since=NOON - 5), now)

    assert what_became(decisions) == {NOON: "paused"}


@pytest.mark.parametrize(
    ("until", "expected"), [(NOON + 1, "paused"), (NOON, "run (schedule)"), (NOON - 1, "run (schedule)")]
)
def test_a_pause_ends_by_itself_and_the_tick_at_its_end_runs(until: float, expected: str) -> None:
    decisions = decide(a_job(), NOON - 1, Pause(since=NOON - DAY, until=until), NOON + 2)

    assert what_became(decisions) == {NOON: expected}


@pytest.mark.parametrize(
    ("catchup", "after_it", "newest"),
    [
        ("latest", "coalesced", "run (catchup)"),
        ("skip", "missed", "missed"),
        ("all", "run (catchup)", "run (catchup)"),
    ],
)
def test_ticks_after_the_end_of_a_pause_are_caught_up_and_those_in_it_are_not(
    catchup: str, after_it: str, newest: str
) -> None:
    pause = Pause(since=NOON - DAY, until=NOON - 90 * MINUTE)

    decisions = decide(a_job(catchup=catchup), NOON - 4 * HOUR, pause, NOON + 30 * MINUTE)

    assert what_became(decisions) == {
        **dict.fromkeys(hours_ago(3, 2), "paused"), NOON - HOUR: after_it, NOON: newest
    }  # fmt: skip


# Calendars


def over(*hours: str) -> Calendars:
    """The calendar `off`, with these hours of each day in UTC."""
    return Calendars({"off": make_calendar("off", weekly=[f"mon-sun {each}" for each in hours])})


@pytest.mark.parametrize("late", [0, 1, 90, 30 * MINUTE, 30 * HOUR])
@pytest.mark.parametrize("catchup", ["latest", "skip", "all"])
def test_a_tick_that_a_calendar_excludes_is_skipped_however_late_it_is_found(catchup: str, late: float) -> None:
    spec = a_job(cron="0 12 21 11 *", catchup=catchup, except_="off")

    [decision] = decide(spec, NOON - 1, None, NOON + late, over("11:00-13:00"))

    assert (decision.outcome, decision.trigger) == ("skipped", "schedule")
    assert decision.reason == "Sat 2026-11-21 12:00 is in the calendar off (mon-sun 11:00-13:00)"


@pytest.mark.parametrize(
    ("catchup", "older", "newest"),
    [("latest", "coalesced", "run (catchup)"), ("skip", "missed", "missed"), ("all", "run (catchup)", "run (catchup)")],
)
def test_the_newest_tick_that_no_calendar_excludes_is_the_one_that_is_caught_up(
    catchup: str, older: str, newest: str
) -> None:
    spec, off = a_job(catchup=catchup, except_="off"), over("09:00-09:30", "11:00-13:00")

    decisions = decide(spec, NOON - 5 * HOUR, None, NOON + 30 * MINUTE, off)

    assert what_became(decisions) == {
        NOON - 4 * HOUR: older, NOON - 3 * HOUR: "skipped", NOON - 2 * HOUR: newest, NOON - HOUR: "skipped",
        NOON: "skipped",
    }  # fmt: skip


def test_excluded_ticks_do_not_count_for_how_many_are_caught_up() -> None:
    spec = a_job(catchup="all", max_catchup=2, except_="off")

    decisions = decide(spec, NOON - 5 * HOUR, None, NOON + 30 * MINUTE, over("10:30-11:30"))

    assert [each.outcome for each in decisions] == ["missed", "missed", None, "skipped", None]


def test_a_tick_of_a_paused_job_is_paused_whatever_its_calendars_say() -> None:
    [decision] = decide(a_job(except_="off"), NOON - 1, Pause(since=NOON - DAY), NOON + 5, over("11:00-13:00"))

    assert decision.outcome == "paused"


def test_a_job_whose_only_calendar_is_missing_runs_no_tick_and_says_why() -> None:
    [decision] = decide(a_job(only="work"), NOON - 1, None, NOON + 5)

    assert (decision.outcome, decision.reason) == ("skipped", "there is no calendar work, and it runs only on its days")


# The chain of next ticks


def test_each_decision_names_the_tick_after_it() -> None:
    decisions = decide(a_job(), NOON - 4 * HOUR, None, NOON + 5)

    assert [each.next_tick for each in decisions] == [*hours_ago(2, 1, 0), NOON + HOUR]


def test_the_next_tick_before_a_range_is_its_oldest() -> None:
    decisions = decide(a_job(window="2h", catchup="all"), NOON - 7 * HOUR, None, NOON + 30 * MINUTE)

    assert [(each.tick, each.ticks) for each in decisions] == [(NOON - 2 * HOUR, 5), (NOON - HOUR, 1), (NOON, 1)]
    assert [each.next_tick for each in decisions] == [*hours_ago(1, 0), NOON + HOUR]


def test_a_schedule_that_cannot_be_read_is_an_error_of_its_job_alone() -> None:
    with pytest.raises(ScheduleError):
        decide(JobSpec("planted", function="a:b", cron="nonsense"), NOON - HOUR, None, NOON)


# Long outages


@pytest.mark.timing
@pytest.mark.parametrize("catchup", ["latest", "skip", "all"])
@pytest.mark.parametrize("when", [{"every": "1s"}, {"cron": "* * * * * *", "tz": "Europe/Amsterdam"}], ids=str)
def test_a_month_without_a_beat_is_decided_at_once_for_a_job_of_every_second(
    when: dict[str, str], catchup: str
) -> None:
    spec = a_job(catchup=catchup, **when)
    began = time.perf_counter()

    decisions = decide(spec, NOON - 30 * DAY, None, NOON + 0.5)

    assert time.perf_counter() - began < 0.5
    assert sum(each.ticks for each in decisions) == 30 * DAY
    assert sum(each.ticks > 1 for each in decisions) == 2  # beyond the window, and within
    runs = [each for each in decisions if each.outcome is None]
    assert len(runs) == (spec.max_catchup if catchup == "all" else 1)
    assert runs[-1].tick == NOON


def test_more_runs_than_one_pass_takes_are_decided_in_several_and_none_is_left_out() -> None:
    spec = a_job(every="1s", catchup="all", keep=5000, max_catchup=1200)
    start, now = NOON - 3500, NOON + 0.5
    mark = start
    passes: list[list[Decision]] = []

    while decisions := decide(spec, mark, None, now):
        passes.append(decisions)
        mark = decisions[-1].tick

    every = [each for decisions in passes for each in decisions]
    assert list(what_became(every, {"every": 1})) == list(range(start + 1, NOON + 1))
    assert [len(decisions) for decisions in passes] == [MAX_TICKS_A_PASS, 201]
    assert [each.next_tick for each in every] == [*(each.first or each.tick for each in every[1:]), NOON + 1]
    assert sum(each.outcome is None for each in every) == 1200


def test_the_last_part_of_many_ticks_is_never_one_that_looks_like_the_only_one_pending() -> None:
    spec = a_job(every="1s", catchup="all", keep=5000, max_catchup=5000)
    first = decide(spec, NOON - 1001, None, NOON + 0.5)

    second = decide(spec, first[-1].tick, None, NOON + 0.5)

    assert len(first) + len(second) == 1001
    assert {each.trigger for each in second} == {"catchup"}  # `schedule` would be skipped: earlier ones are queued


# Ranges


def ranges_of(decisions: list[Decision]) -> list[tuple[int | None, int, int]]:
    return [(each.first, each.tick, each.ticks) for each in decisions]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_from_four_on_ticks_of_one_kind_are_one_decision(count: int) -> None:
    decisions = decide(a_job(), NOON - (count + 1) * HOUR, None, NOON + 5)

    older = hours_ago(*range(count, 0, -1))
    expected = [(None, tick, 1) for tick in older] if count < 4 else [(older[0], older[-1], count)]
    assert ranges_of(decisions) == [*expected, (None, NOON, 1)]


def test_a_range_says_how_many_there_were_and_what_its_mark_must_be() -> None:
    old, run = decide(a_job(every="1m", window="4d"), NOON - 3 * DAY + 7, None, NOON + 5)

    assert (old.first, old.tick, old.ticks) == (NOON - 3 * DAY + 60, NOON - 60, 4319)
    assert (old.after, old.outcome) == (NOON - 3 * DAY + 7, "coalesced")
    assert run.outcome is None


def test_ticks_of_two_reasons_are_two_ranges_though_their_outcome_is_the_same() -> None:
    decisions = decide(a_job(every="1m", catchup="skip", window="1h"), NOON - DAY, None, NOON + 0.5)

    beyond, within, run = decisions
    assert (beyond.outcome, within.outcome, run.outcome) == ("missed", "missed", None)
    assert beyond.reason == "no beat took it in time, as 1,380 ticks in a row, beyond the window of 1h"
    assert within.reason == "no beat took it in time, as 59 ticks in a row; catchup is skip"
    assert (beyond.after, within.after) == (NOON - DAY, beyond.tick)


def test_the_newest_tick_is_part_of_a_range_when_the_same_became_of_it() -> None:
    decisions = decide(a_job(every="1m"), NOON - DAY, Pause(since=NOON - 2 * DAY, by="ann"), NOON + 5)

    assert ranges_of(decisions) == [(NOON - DAY + MINUTE, NOON, 1440)]
    assert decisions[0].reason == "paused since 2026-11-19T12:00:00Z by ann"


def test_a_tick_apart_is_in_no_range() -> None:
    decisions = decide(a_job(every="1m"), NOON - 600, None, NOON + 5, NO_CALENDARS, NOON - 240)

    assert ranges_of(decisions) == [
        (NOON - 540, NOON - 300, 5), (None, NOON - 240, 1),
        (None, NOON - 180, 1), (None, NOON - 120, 1), (None, NOON - 60, 1), (None, NOON, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("paused", [False, True])
def test_a_job_that_ends_runs_nothing_more(paused: bool) -> None:
    pause = Pause(since=NOON - DAY, until=NOON - 2 * HOUR) if paused else None

    decisions = decide_closed(a_job(catchup="all"), NOON - 8 * HOUR, pause, NOON, NO_CALENDARS, "it was removed")

    assert what_became(decisions, {"every": HOUR}) == {
        **dict.fromkeys(hours_ago(7, 6, 5, 4, 3), "paused" if paused else "missed"),
        **dict.fromkeys(hours_ago(2, 1, 0), "missed"),
    }
    assert decisions[-1].reason == "it was removed"
    assert decide_closed(a_job(), NOON, None, NOON + 5, NO_CALENDARS, "it was removed") == []


def test_no_tick_that_runs_is_left_out_for_want_of_rows() -> None:
    stored_before = JobSpec("nightly", function="a:b", every=60, catchup="all", keep=10, max_catchup=50)

    decisions = decide(stored_before, NOON - 50 * MINUTE, None, NOON + 5)

    assert [each.tick for each in decisions] == [NOON - back * MINUTE for back in range(49, -1, -1)]
    assert {each.outcome for each in decisions} == {None}


# Against an oracle that looks at every second


schedules = st.one_of(
    st.sampled_from([1, 7, 60, 90, 300, 3600]).map(lambda every: {"every": every}),
    st.sampled_from([1, 2, 7, 15, 30]).map(lambda step: {"cron": f"*/{step} * * * *"}),
    st.lists(st.integers(0, 59), min_size=1, max_size=4, unique=True).map(
        lambda minutes: {"cron": f"{','.join(map(str, minutes))} * * * *"}
    ),
)
policies = st.fixed_dictionaries(
    {
        "catchup": st.sampled_from(["latest", "skip", "all"]),
        "window": st.sampled_from([0, 30, 60, 61, 600, 3600, 86400]),
        "max_catchup": st.sampled_from([1, 2, 10, 100]),
        "keep": st.sampled_from([10, 25, 2000]),
    }
).filter(lambda policy: policy["catchup"] != "all" or policy["keep"] >= policy["max_catchup"])
pauses = st.none() | st.builds(
    Pause,
    since=st.integers(NOON - 2 * HOUR, NOON).map(float),
    until=st.none() | st.integers(NOON - 2 * HOUR, NOON + HOUR).map(float),
)
#: From minute to minute of the day, around noon; none when the first is not before the second.
minutes_off = st.tuples(st.integers(640, 730), st.integers(640, 730))
skipped = st.lists(st.integers(1, 12), unique=True, max_size=10)
spans = st.integers(0, 5000)
fractions = st.sampled_from([0.0, 0.4, 0.999])


def matches(when: dict[str, Any], second: int) -> bool:
    """Whether *second* is a tick, by the definition of the schedule and nothing else."""
    if "every" in when:
        return second % int(when["every"]) == 0
    moment = datetime.fromtimestamp(second, UTC)
    minutes = str(when["cron"]).split()[0]
    if moment.second:
        return False
    if minutes.startswith("*/"):
        return moment.minute % int(minutes[2:]) == 0
    return moment.minute in map(int, minutes.split(","))


def expected_of(
    pending: list[int], spec: JobSpec, pause: Pause | None, now: float, off: tuple[int, int], by_hand: set[int]
) -> list[str]:
    """What becomes of each of *pending*, rule by rule as the design states them; minutes *off* are excluded."""
    answers = []
    free = {tick for tick in pending if not off[0] <= tick % DAY // MINUTE < off[1] and tick not in by_hand}
    last, newer = max(free, default=None), len(free)
    for tick in pending:
        newest = tick == last
        newer -= tick in free
        if pause is not None and (pause.until is None or tick < pause.until):
            answers.append("paused")
        elif tick not in free:
            answers.append("skipped")
        elif newest and now - tick <= 60:
            answers.append("run (catchup)" if spec.catchup == "all" and len(pending) > 1 else "run (schedule)")
        elif now - tick > spec.window or spec.catchup == "skip":
            answers.append("missed")
        elif spec.catchup == "latest":
            answers.append("run (catchup)" if newest else "coalesced")
        else:
            answers.append("run (catchup)" if newer < spec.max_catchup else "missed")
    return answers


@bounded
@given(schedules, policies, pauses, minutes_off, skipped, spans, st.integers(0, 200), fractions)
def test_every_pending_tick_gets_exactly_what_the_rules_say(
    when: dict[str, Any],
    policy: dict[str, Any],
    pause: Pause | None,
    off: tuple[int, int],
    skip: list[int],
    span: int,
    late: int,
    fraction: float,
) -> None:
    spec = a_job(**when, **policy, except_="off" if off[0] < off[1] else ())
    clock = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in off]
    calendars = over("-".join(clock)) if spec.except_ else NO_CALENDARS
    now = NOON + late + fraction
    mark = NOON + late - span
    pending = [second for second in range(mark + 1, int(now) + 1) if matches(when, second)]
    # Of the ticks, by their number from the newest on, and one instant that is none: nothing comes of that.
    skips = (Skip(tuple(sorted(pending[-number] for number in skip if number <= len(pending))), "ann"),)
    skips += (Skip((NOON + DAY, mark - 1)),)

    decisions: list[Decision] = []
    reached = mark
    while decided := decide(spec, reached, pause, now, calendars, skips=skips):
        decisions += decided
        reached = decided[-1].tick

    became = what_became(decisions, when)
    assert list(became) == pending
    assert list(became.values()) == expected_of(pending, spec, pause, now, off, set(ticks_of(skips)))
    assert all(earlier.next_tick == (later.first or later.tick) for earlier, later in pairwise(decisions))
    assert all(later.after == earlier.tick for earlier, later in pairwise(decisions) if later.ticks > 1)
    if decisions:
        following = decisions[-1].next_tick
        assert following is not None
        assert not any(matches(when, second) for second in range(decisions[-1].tick + 1, following))
        assert matches(when, following)
        assert following > now


@bounded
@given(schedules, policies, spans, st.integers(0, 200))
def test_the_number_of_runs_follows_from_the_rule(
    when: dict[str, Any], policy: dict[str, Any], span: int, late: int
) -> None:
    spec = a_job(**when, **policy | {"keep": 10_000, "window": DAY})
    now = float(NOON + late)
    pending = [second for second in range(NOON + late - span + 1, NOON + late + 1) if matches(when, second)]

    decisions: list[Decision] = []
    reached = NOON + late - span
    while decided := decide(spec, reached, None, now):
        decisions += decided
        reached = decided[-1].tick

    runs = sum(each.outcome is None for each in decisions)
    on_time = bool(pending) and now - pending[-1] <= LATE_S
    if spec.catchup == "skip":
        assert runs == int(on_time)
    elif spec.catchup == "latest":
        assert runs == int(bool(pending))
    else:
        assert runs == min(len(pending), spec.max_catchup)


@bounded
@given(schedules, policies, spans)
def test_a_beat_that_never_sleeps_runs_each_tick_on_time(
    when: dict[str, Any], policy: dict[str, Any], span: int
) -> None:
    spec = a_job(**when, **policy)
    start = NOON - min(span, 1500)
    mark, ran = start, []

    for second in range(start + 1, NOON + 1):
        for each in decide(spec, mark, None, second + 0.3):
            ran.append(each)
            mark = each.tick

    assert [each.tick for each in ran] == [second for second in range(start + 1, NOON + 1) if matches(when, second)]
    assert {(each.outcome, each.trigger) for each in ran} <= {(None, "schedule")}
