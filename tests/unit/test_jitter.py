"""Jitter: each tick is queued a little later, always the same little, and otherwise nothing changes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronq.jobs.spec import JobSpec, make_spec
from cronq.jobs.stored import JobState, StoredJob
from cronq.runs.due import decide
from cronq.schedule.jitter import delay_s

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR = 60, 3600


def a_job(**options: object) -> JobSpec:
    return make_spec("a", command=["true"], **({"cron": "0 * * * *", "jitter": "50m"} | options))


def delay_of(spec: JobSpec, tick: int) -> int:
    due = spec.due_s(tick)
    assert due is not None
    return due - tick


@given(st.text(max_size=8), st.integers(0, 10**10), st.none() | st.integers(1, 10**6), st.floats(1, 86400))
def test_a_delay_is_less_than_the_jitter_and_ends_before_the_next_tick(
    name: str, tick: int, gap: int | None, most: float
) -> None:
    delay = delay_s(name, tick, None if gap is None else tick + gap, most)

    assert 0 <= delay < most
    assert gap is None or delay < gap


def test_delays_are_spread_over_jobs_and_ticks() -> None:
    by_job = [delay_s(f"job-{number}", T, None, 600) for number in range(2000)]
    by_tick = [delay_s("a", T + number * HOUR, None, 600) for number in range(2000)]

    for delays in (by_job, by_tick):
        assert all(130 < sum(low <= each < low + 60 for each in delays) < 270 for low in range(0, 600, 60))
    assert delay_s("invoices", T, None, 600) == 154, "a process of another release would queue it at another time"


@pytest.mark.parametrize("late", [0.0, 0.5, 59.9])
def test_a_tick_is_decided_when_its_delay_is_over_and_not_before(late: float) -> None:
    spec = a_job()
    due = T + delay_of(spec, T)

    assert decide(spec, T - HOUR, None, due - 0.1) == []
    (decision,) = decide(spec, T - HOUR, None, due + late)
    assert (decision.tick, decision.outcome, decision.reason, decision.trigger) == (T, None, "due", "schedule")
    assert decision.next_tick == T + HOUR + delay_of(spec, T + HOUR)


@pytest.mark.parametrize(
    ("catchup", "outcome", "trigger"), [("latest", None, "catchup"), ("skip", "missed", "schedule")]
)
def test_it_is_missed_a_minute_after_its_delay(catchup: str, outcome: str | None, trigger: str) -> None:
    spec = a_job(catchup=catchup)

    (decision,) = decide(spec, T - HOUR, None, T + delay_of(spec, T) + 60.5)

    assert (decision.tick, decision.outcome, decision.trigger) == (T, outcome, trigger)


def test_a_beat_that_comes_just_after_the_next_tick_has_not_missed_the_one_before() -> None:
    spec = make_spec("a", command=["true"], every="1h", jitter="59m59s", catchup="skip")
    tick = next(tick for tick in range(T, T + 10**7, HOUR) if delay_of(spec, tick) > HOUR - 40)
    assert delay_of(spec, tick + HOUR) > 20

    (decision,) = decide(spec, tick - HOUR, None, tick + HOUR + 10.0)

    assert (decision.tick, decision.outcome) == (tick, None)


@pytest.mark.parametrize("seed", range(20))
def test_whenever_beats_look_each_tick_is_decided_once_at_its_time_or_later(seed: int) -> None:
    dice = random.Random(seed)
    spec = a_job(cron=dice.choice(["*/5 * * * *", "7 * * * *", "0,1,30 * * * *"]), jitter=dice.choice(["2m", "45m"]),
                 catchup="all", repeat=dice.choice([None, 20]))  # fmt: skip
    assert spec.schedule is not None
    mark, now, had, seen = T, float(T), 0, []
    while now < T + 12 * HOUR:
        for decision in decide(spec, mark, None, now, had=had):
            tick = decision.tick
            assert tick + delay_of(spec, tick) <= now
            mark, had = tick, decision.number or 0
            seen.append(tick)
        following = spec.due_after(mark, had)
        assert following is None or following > now
        now += dice.choice([0.7, 11.0, 59.0, 1800.0, 4000.0])

    ticks = [tick for tick in spec.schedule.next_ticks(T, 200) if tick <= mark]
    assert seen == ticks[: spec.repeat]
    assert spec.repeat is None or len(seen) <= spec.repeat


def test_a_job_is_late_a_minute_after_the_delay_of_its_next_tick() -> None:
    spec = a_job()
    job = StoredJob(spec, "v", "here", "test", JobState(mark=T - HOUR, pause=None), T)
    due = T + delay_of(spec, T)

    assert job.status({}, due + 59) == "never"
    assert job.status({}, due + 61) == "late"


def test_jitter_is_an_edit_of_when_it_runs_and_the_schedule_stays() -> None:
    spec = a_job()

    assert replace(spec, jitter=60.0).when != spec.when
    assert str(spec.schedule) == "0 * * * *"
    assert all(spec.tick_due(tick + delay_of(spec, tick)) == tick for tick in range(T, T + 100 * HOUR, HOUR))


@pytest.mark.parametrize("catchup", ["latest", "skip"])
def test_what_is_late_stays_late_while_the_delay_of_the_next_tick_lasts(catchup: str) -> None:
    spec = a_job(cron="* * * * *", jitter="59s", catchup=catchup)
    tick = next(t for t in range(T, T + HOUR, MINUTE) if delay_of(spec, t + MINUTE) > delay_of(spec, t) + 1)
    now = tick + delay_of(spec, tick) + 61.0
    assert now < tick + MINUTE + delay_of(spec, tick + MINUTE), "the next is not due"

    (decision,) = decide(spec, tick - MINUTE, None, now)

    late = "no beat took it in time; found 1m1s late"
    expected = ("missed", f"{late}; catchup is skip") if catchup == "skip" else (None, f"caught up: {late}")
    assert (decision.outcome, decision.reason) == expected
