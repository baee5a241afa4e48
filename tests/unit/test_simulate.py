"""A simulation gives what the rules say, whatever the schedules, zones, outages, beats and clocks."""

from __future__ import annotations

import math
import os
import random
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronq.errors import CronqError
from cronq.jobs.calendar import Calendars, make_calendar
from cronq.jobs.pause import Pause
from cronq.jobs.skip import Skip
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.due import decide
from cronq.runs.scene import Counted, Outage, Scene
from cronq.runs.simulate import Simulation, simulate
from cronq.timetext import parse_instant
from tests.unit import cron_oracle
from tests.unit.tick_oracle import Judge, found_at

#: The days around a clock change in Europe.
BEGIN = int(parse_instant("2026-03-28T00:00"))
DAY = 86400
ZONES = ["UTC", "Europe/Berlin", "Europe/London", "Asia/Kathmandu"]
LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
#: What a year of 200 jobs may take, in seconds of processor time.
MOST_FOR_A_YEAR_S = 60
CRONS = ["* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "7,37 1-4 * * *", "15 */3 * * *", "0 0 29 * *"]


def spec_of(name: str, **options: Any) -> JobSpec:
    return make_spec(name, command=["true"], **options)


def told(
    specs: list[JobSpec], begin_s: int = BEGIN, end_s: int = BEGIN + DAY, **options: Any
) -> list[tuple[str, int, str]]:
    found = simulate(specs, Scene(begin_s, end_s, **options)).ticks
    return [(each.job, each.tick, each.outcome) for each in found]


def outcomes(spec: JobSpec, **options: Any) -> list[str]:
    return [outcome for _, _, outcome in told([spec], **options)]


def drawn(chance: random.Random, name: str) -> tuple[dict[str, Any], float]:
    options = {
        "cron": chance.choice(CRONS),
        "tz": chance.choice(ZONES),
        "dst": chance.choice(["debian", "skip", "both"]),
        "catchup": chance.choice(["latest", "skip", "all"]),
        "window": chance.choice([60, 600, 7200, DAY]),
        "max_catchup": chance.choice([1, 3, 100]),
        "overlap": chance.choice(["skip", "queue", "latest", "replace", "allow"]),
        "ttl": chance.choice([None, None, 30, 300, 5000]),
    }
    return options, chance.choice([0.5, 1, 30, 60, 90, 301, 4000])


@pytest.mark.parametrize("seed", range(24))
def test_each_tick_ends_as_the_rules_say(seed: int) -> None:
    chance, end = random.Random(seed), BEGIN + 2 * DAY
    outages = []
    for _ in range(chance.randrange(4)):
        first = BEGIN + chance.randrange(2 * DAY)
        outages.append(Outage(first, first + chance.choice([1, 59, 60, 61, 600, 3600, 20_000, DAY])))
    last = max([end, *(outage.end_s for outage in outages)]) + DAY
    jobs = {f"job-{number}": drawn(chance, f"job-{number}") for number in range(3)}
    scene = Scene(
        BEGIN, end, beats=3, skew_s=40, outages=outages, seed=seed,
        durations={name: duration for name, (_, duration) in jobs.items()},
    )  # fmt: skip

    found = simulate([spec_of(name, **options) for name, (options, _) in jobs.items()], scene).ticks

    ticks = {
        name: cron_oracle.ticks(options["cron"], options["tz"], options["dst"], BEGIN, last)
        for name, (options, _) in jobs.items()
    }
    expected = []
    for name, (options, duration) in jobs.items():
        last_pass = max((found_at(tick, outages) for tick in ticks[name] if tick < end), default=0)
        taken = [tick for tick in ticks[name] if tick <= last_pass]
        ends = Judge(options, duration).outcomes(taken, outages)
        expected += [(tick, name, outcome) for tick, outcome in ends.items() if tick < end]
    assert [tuple(each) for each in found] == sorted(expected)


def mixed_jobs(count: int) -> dict[str, tuple[dict[str, Any], float]]:
    """Jobs as an installation has them: an eighth of them each minute, most once an hour or a day."""
    chance = random.Random(4)
    jobs = {}
    for number in range(count):
        minute, hour = chance.randrange(60), chance.randrange(24)
        options, duration = drawn(chance, "")
        options["cron"] = [
            "* * * * *", "*/5 * * * *", "*/15 6-20 * * 1-5", f"{minute} * * * *", f"{minute} {hour} * * *",
            f"{minute} {hour} * * MON-FRI", f"{minute} */3 * * *", f"{minute} {hour} 1 * *",
        ][number % 8]  # fmt: skip
        jobs[f"job-{number:03d}"] = (options, duration)
    return jobs


@pytest.mark.timing
@pytest.mark.parametrize(
    "days",
    [
        3,
        pytest.param(
            365,
            marks=[pytest.mark.skipif(not LONG, reason="CRONQ_LONG_TESTS=1 runs it"), pytest.mark.timeout(3600)],
        ),
    ],
)
def test_a_year_of_200_jobs_takes_less_than_a_minute_and_is_what_the_rules_say(days: int) -> None:
    end = BEGIN + days * DAY
    chance = random.Random(days)
    firsts = [BEGIN + chance.randrange(days * DAY) for _ in range(max(2, days // 10))]
    outages = [Outage(first, first + chance.choice([20, 90, 600, 7200, 20_000])) for first in firsts]
    jobs = mixed_jobs(200)
    specs = [spec_of(name, **options) for name, (options, _) in jobs.items()]
    scene = Scene(BEGIN, end, outages=outages, durations={name: took for name, (_, took) in jobs.items()})

    spent, most = math.inf, MOST_FOR_A_YEAR_S * days / 365
    for _ in range(1 if days > 30 else 10):  # what else the machine does costs processor time, too
        if spent < most:
            break
        began = time.process_time()
        found = simulate(specs, scene)
        counted = sum(1 for _ in found.rows())
        spent = min(spent, time.process_time() - began)

    assert spent < most
    assert counted == found.count
    last = max([end, *(outage.end_s for outage in outages)]) + DAY
    for ledger in found.ledgers:
        options, duration = jobs[ledger.job]
        ticks = cron_oracle.ticks(options["cron"], options["tz"], options["dst"], BEGIN, last)
        last_pass = max((found_at(tick, outages) for tick in ticks if tick < end), default=0)
        told = Judge(options, duration).outcomes([tick for tick in ticks if tick <= last_pass], outages)
        expected = sorted((tick, outcome) for tick, outcome in told.items() if tick < end)
        assert [(tick, ledger.outcome(place)) for place, tick in enumerate(ledger.ticks)] == expected, options


def pass_by_pass(spec: JobSpec, scene: Scene) -> list[tuple[int, str]]:
    """What a beat decides that passes each second of the scene but for its outages, a run being no matter of time."""
    assert spec.schedule is not None
    found, mark, had = [], scene.start_s - 1, 0
    for now in range(scene.start_s, scene.end_s + DAY):
        if any(start <= now < end for start, end in scene.outages):
            continue
        pauses = (each for each in scene.pauses.get(spec.name, ()) if each.since <= now and each.covers(mark + 1))
        while decisions := decide(
            spec, mark, next(pauses, None), now, scene.calendars, had=had, skips=scene.skips.get(spec.name, ())
        ):
            for each in decisions:
                for tick in spec.schedule.between((each.first or each.tick) - 1, each.tick):
                    found.append((tick, each.outcome or "succeeded"))
            mark, had = decisions[-1].tick, decisions[-1].number or had
        following = spec.next_after(mark, had)
        if following is None or following >= scene.end_s:
            break
    return [(tick, outcome) for tick, outcome in found if tick < scene.end_s]


@pytest.mark.parametrize("seed", range(12))
def test_taking_ticks_many_at_a_time_is_as_deciding_at_each_pass(seed: int) -> None:
    chance = random.Random(seed)
    end = BEGIN + DAY // 2
    options: dict[str, Any] = {
        "cron": chance.choice(["* * * * *", "*/7 * * * *", "10,12,50 * * * *", "*/20 * * * * *"]),
        "catchup": chance.choice(["latest", "skip", "all"]),
        "window": chance.choice([600, DAY]),
        "repeat": chance.choice([None, None, 5, 400]),
        "jitter": chance.choice([None, None, 5, 120]),
        "except_": chance.choice([[], [], ["lunch"]]),
        "overlap": "allow",
    }
    skipped = sorted(BEGIN + 60 * chance.randrange(720) for _ in range(5))
    paused = BEGIN + chance.randrange(DAY // 2)
    first = BEGIN + chance.randrange(DAY // 2)
    scene = Scene(
        BEGIN, end, duration_s=0,
        outages=[Outage(first, first + chance.choice([40, 130, 4000]))],
        calendars=Calendars({"lunch": make_calendar("lunch", weekly=["sat 03:00-05:30"])}),
        pauses={"a": [Pause(paused, until=paused + 3000)]} if chance.random() < 0.5 else {},
        skips={"a": (Skip(tuple(dict.fromkeys(skipped))),)} if chance.random() < 0.5 else {},
    )  # fmt: skip
    spec = spec_of("a", **{key: value for key, value in options.items() if value not in (None, [])})

    found = simulate([spec], scene).ticks

    assert [(each.tick, each.outcome) for each in found] == pass_by_pass(spec, scene)


@given(
    st.integers(1, 9), st.floats(0, 1000), st.integers(0, 2**63),
    st.lists(st.tuples(st.integers(-7200, DAY), st.integers(1, 9000)), max_size=4),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_same_scene_gives_the_same_answer_and_the_seed_only_draws_beats(
    beats: int, skew_s: float, seed: int, gaps: list[tuple[int, int]]
) -> None:
    specs = [spec_of("a", cron="*/2 * * * *", overlap="queue"), spec_of("b", every="7m", catchup="all")]
    outages = [Outage(BEGIN + first, BEGIN + first + span) for first, span in gaps]

    def told(seed: int) -> Simulation:
        scene = Scene(BEGIN, BEGIN + DAY, beats=beats, skew_s=skew_s, outages=outages, seed=seed, duration_s=100)
        return simulate(specs, scene)

    first, again, other = told(seed), told(seed), told(seed + 1)
    assert first == again
    assert first.ticks == other.ticks
    assert all(sum(beat.taken for beat in each.beats) == each.count for each in (first, other))
    assert all(abs(beat.clock_off_s) <= skew_s for beat in first.beats)


def test_rows_come_by_tick_and_then_by_job_however_many_there_are() -> None:
    found = simulate([spec_of("b", cron="* * * * * *"), spec_of("a", every="3s")], Scene(BEGIN, BEGIN + DAY))

    rows = list(found.rows())

    assert rows == sorted(rows)
    assert found.outcomes() == Counter(row.outcome for row in rows)


def test_more_ticks_than_fit_are_refused_by_number() -> None:
    with pytest.raises(CronqError, match=r"315,576,000 ticks are more than the 100,000,000 of one simulation"):
        simulate([spec_of("a", cron="* * * * * *")], Scene(BEGIN, BEGIN + 3652 * DAY + DAY // 2))


def test_a_run_that_would_outlast_its_timeout_is_timed_out_and_ends_then() -> None:
    spec = spec_of("a", every="1h", timeout="90m")

    assert outcomes(spec, end_s=BEGIN + 4 * 3600, duration_s=7200) == ["timed_out", "skipped"] * 2


def test_neither_beats_nor_their_clocks_nor_the_draw_change_an_outcome() -> None:
    specs = [spec_of("a", cron="* * * * *"), spec_of("b", every="7m", catchup="all")]
    outages = [Outage(BEGIN + 3600, BEGIN + 9000)]
    alone = told(specs, outages=outages)

    for beats, skew_s, seed in ((1, 0, 1), (2, 5, 2), (50, 86_400, 3)):
        assert told(specs, outages=outages, beats=beats, skew_s=skew_s, seed=seed) == alone


def test_the_same_seed_gives_the_same_and_each_tick_is_taken_by_one_beat() -> None:
    specs = [spec_of("a", cron="* * * * *"), spec_of("b", every="7m")]
    first, again = (simulate(specs, Scene(BEGIN, BEGIN + DAY, beats=4, skew_s=3.0, seed=7)) for _ in range(2))

    assert first == again
    assert sum(beat.taken for beat in first.beats) == len(first.ticks) == 1440 + 206
    assert min(beat.taken for beat in first.beats) > 0
    assert max(abs(beat.clock_off_s) for beat in first.beats) > 1


def test_the_first_moment_counts_and_the_last_does_not() -> None:
    assert told([spec_of("a", every="12h")]) == [("a", BEGIN, "succeeded"), ("a", BEGIN + DAY // 2, "succeeded")]


def test_a_run_that_outlives_its_interval_makes_the_next_one_skipped() -> None:
    spec = spec_of("slow", every="1m")

    assert outcomes(spec, end_s=BEGIN + 300, duration_s=60) == ["succeeded"] * 5
    assert outcomes(spec, end_s=BEGIN + 300, duration_s=90) == ["succeeded", "skipped"] * 2 + ["succeeded"]


@pytest.mark.parametrize(
    ("overlap", "words"),
    [
        ("queue", "succeeded succeeded succeeded succeeded"),
        ("latest", "succeeded coalesced succeeded succeeded"),
        ("replace", "stopped stopped stopped succeeded"),
        ("allow", "succeeded succeeded succeeded succeeded"),
    ],
)
def test_each_rule_of_overlap_for_runs_of_two_and_a_half_intervals(overlap: str, words: str) -> None:
    assert outcomes(spec_of("slow", every="1m", overlap=overlap), end_s=BEGIN + 240, duration_s=150) == words.split()


def test_calendars_repeat_and_jitter_are_heeded() -> None:
    holiday = make_calendar("holidays", ["2026-03-28"])
    calendars = Calendars({"holidays": holiday})
    spec = spec_of("a", every="12h", except_=["holidays"])
    assert outcomes(spec, end_s=BEGIN + 2 * DAY, calendars=calendars) == ["skipped"] * 2 + ["succeeded"] * 2
    assert len(told([spec_of("b", every="1h", repeat=5)])) == 5
    assert len(told([spec_of("c", every="1h", jitter="30m")])) == 24


def test_of_a_job_with_repeat_only_the_ticks_are_left_that_it_has_not_had() -> None:
    spec = spec_of("b", every="1h", repeat=5)

    def left(mark: int, ticks: int) -> int:
        return len(outcomes(spec, counted={"b": Counted(mark, ticks)}))

    assert left(BEGIN - 3600, 2) == 3
    assert left(BEGIN - 2 * 3600, 2) == 2, "it has one more before the simulation begins"
    assert left(BEGIN + 3600, 4) == 3, "two of those that it has had are looked at again"
    assert left(BEGIN - 9 * 3600, 0) == 0


def test_a_long_outage_is_told_tick_by_tick() -> None:
    found = outcomes(spec_of("a", cron="* * * * *"), outages=[Outage(BEGIN, BEGIN + 3600)])

    assert Counter(found) == {"coalesced": 60, "succeeded": 1380}


def test_an_idle_century_costs_nothing() -> None:
    began = time.process_time()

    assert len(told([spec_of("a", cron="0 0 29 2 *")], end_s=BEGIN + 36_525 * DAY)) == 24
    assert time.process_time() - began < 1


@pytest.mark.parametrize("duration_s", [1.0, 1.5 * 3600])
def test_each_tick_of_a_job_with_backfill_runs_whatever_the_outage_and_however_long_a_run_takes(
    duration_s: float,
) -> None:
    spec = spec_of("etl", cron="0 * * * *", backfill=True, timeout="3h")
    outage = Outage(BEGIN + 3600, BEGIN + 9 * 3600 + 1800)

    found = simulate([spec], Scene(BEGIN, BEGIN + DAY, outages=[outage], duration_s=duration_s, explains=True))

    assert [each.tick for each in found.ticks] == list(range(BEGIN, BEGIN + DAY, 3600))
    assert {each.outcome for each in found.ticks} == {"succeeded"}
