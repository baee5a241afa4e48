"""A simulation gives what the rules say, whatever the schedules, zones, outages, beats and clocks."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest

from cronq.jobs.calendar import Calendars, make_calendar
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.simulate import Outage, Scene, simulate
from cronq.timetext import parse_instant
from tests.unit import cron_oracle
from tests.unit.tick_oracle import Judge, found_at

#: The days around a clock change in Europe.
BEGIN = int(parse_instant("2026-03-28T00:00"))
DAY = 86400
ZONES = ["UTC", "Europe/Berlin", "Europe/London", "Asia/Kathmandu"]
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
    last_pass = max(found_at(tick, outages) for each in ticks.values() for tick in each if tick < end)
    expected = []
    for name, (options, duration) in jobs.items():
        taken = [tick for tick in ticks[name] if tick <= last_pass]
        ends = Judge(options, duration).outcomes(taken, outages)
        expected += [(tick, name, outcome) for tick, outcome in ends.items() if tick < end]
    assert [tuple(each) for each in found] == sorted(expected)


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


def test_a_long_outage_is_told_tick_by_tick() -> None:
    found = outcomes(spec_of("a", cron="* * * * *"), outages=[Outage(BEGIN, BEGIN + 3600)])

    assert Counter(found) == {"coalesced": 60, "succeeded": 1380}


def test_an_idle_century_costs_nothing() -> None:
    began = time.process_time()

    assert len(told([spec_of("a", cron="0 0 29 2 *")], end_s=BEGIN + 36_525 * DAY)) == 24
    assert time.process_time() - began < 1
