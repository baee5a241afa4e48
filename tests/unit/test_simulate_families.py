"""Jobs that wait for others, simulated; `tests/redis/test_rehearsal.py` holds what is drawn against the scripts."""

from __future__ import annotations

from typing import Any

import pytest

from cronq.jobs.calendar import Calendars, make_calendar
from cronq.jobs.pause import Pause
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.recorded import Past
from cronq.runs.rehearse import rehearse
from cronq.runs.run import Run
from cronq.runs.scene import Outage, RunByHand, Scene, Work
from cronq.runs.simulate import Simulation, simulate
from cronq.timetext import iso, parse_instant

DAY = int(parse_instant("2026-11-21"))
HOUR = 3600


def job(name: str, **options: Any) -> JobSpec:
    return make_spec(name, command=["true"], **options)


def simulated(*specs: JobSpec, hours: float = 24, ancestors: list[JobSpec] | None = None, **options: Any) -> Simulation:
    scene = Scene(DAY, DAY + int(hours * HOUR), **({"duration_s": 0.0, "explains": True} | options))
    return simulate(specs, scene, ancestors or [])


def rows(found: Simulation, name: str) -> list[tuple[str, str, float | None]]:
    """Of the ticks of a job the time of day, the outcome, and how many seconds after it the run began."""
    (ledger,) = (each for each in found.ledgers if each.job == name)
    return [
        (
            str(iso(tick))[11:19],
            ledger.outcome(place),
            None if (begun := ledger.times(place)[0]) is None else begun - tick,
        )
        for place, tick in enumerate(ledger.ticks)
    ]


def reasons(found: Simulation, name: str) -> list[str]:
    (ledger,) = (each for each in found.ledgers if each.job == name)
    return [ledger.reasons.get(place, "") for place in range(len(ledger.ticks))]


EXPORT = job("export", cron="0 2 * * *")
REPORT = job("report", cron="30 2 * * *", depends_on=["export"])


def test_a_gate_opens_when_its_parent_has_succeeded_whenever_that_is() -> None:
    assert rows(simulated(EXPORT, REPORT), "report") == [("02:30:00", "succeeded", 0.0)]
    late = simulated(EXPORT, REPORT, durations={"export": 2700})
    assert rows(late, "report") == [("02:30:00", "succeeded", 900.0)]
    assert reasons(late, "report") == ["waited for its parent export of 2026-11-21T02:00:00Z"]


def test_a_job_of_another_module_is_waited_for_and_not_told_of() -> None:
    found = simulated(REPORT, ancestors=[EXPORT], durations={"export": 2700})

    assert [ledger.job for ledger in found.ledgers] == ["report"]
    assert rows(found, "report") == [("02:30:00", "succeeded", 900.0)]
    assert rows(simulated(REPORT), "report") == [("02:30:00", "waiting", None)]
    assert reasons(simulated(REPORT, job("next", cron="0 4 * * *", depends_on=["report"])), "next") == [
        "waited for its parent report of 2026-11-21T02:30:00Z"
    ]


def test_the_next_tick_of_the_child_ends_the_waiting() -> None:
    child = job("child", cron="0 * * * *", depends_on=["parent"])
    failing = {"parent": {DAY: Work(60, "failed")}}

    found = simulated(job("parent", cron="0 */2 * * *"), child, hours=4, works=failing)

    assert rows(found, "child") == [
        ("00:00:00", "blocked", None), ("01:00:00", "blocked", None),
        ("02:00:00", "succeeded", 0.0), ("03:00:00", "succeeded", 0.0),
    ]  # fmt: skip
    assert reasons(found, "child")[0] == (
        "it waited for its parent parent of 2026-11-21T00:00:00Z until its next tick fell due"
    )


def test_what_was_before_the_simulation_has_succeeded_and_excluded_ticks_are_not_waited_for() -> None:
    weekly = job("weekly", cron="0 0 * * MON")  # the 21st is a Saturday
    assert rows(simulated(weekly, job("a", cron="0 1 * * *", depends_on="weekly")), "a") == [
        ("01:00:00", "succeeded", 0.0)
    ]
    off = Calendars({"off": make_calendar("off", weekly=["sat"])})
    daily = job("daily", cron="0 0 * * *", except_=["off"])
    found = simulated(daily, job("a", cron="0 1 * * *", depends_on="daily"), calendars=off)
    assert rows(found, "daily") == [("00:00:00", "skipped", None)]
    assert rows(found, "a") == [("01:00:00", "succeeded", 0.0)]


def test_a_paused_parent_holds_its_child_back() -> None:
    child = job("child", cron="30 * * * *", depends_on=["export"])

    found = simulated(EXPORT, child, hours=5, pauses={"export": [Pause(DAY + 60.0)]})

    assert [outcome for _, outcome, _ in rows(found, "child")] == ["succeeded"] * 2 + ["blocked"] * 2 + ["waiting"]


def test_a_job_runs_after_all_its_parents_have_succeeded_since_its_last_start() -> None:
    parents = [job("a", cron="0 * * * *"), job("b", cron="30 */2 * * *")]
    child = job("child", after=["a", "b"])

    found = simulated(*parents, child, hours=6, durations={"a": 10.5, "b": 20.5})

    assert rows(found, "child") == [
        ("00:30:20", "succeeded", 0.5), ("02:30:20", "succeeded", 0.5), ("04:30:20", "succeeded", 0.5),
    ]  # fmt: skip


def test_starts_of_one_second_have_ticks_of_their_own() -> None:
    parents = [job("a", cron="0 * * * *"), job("b", cron="0 * * * *")]
    once, twice = job("once", after=["a", "b"]), job("chain", after=["once"])

    found = simulated(*parents, once, twice, hours=2)
    assert rows(found, "once") == [("00:00:00", "succeeded", 0.0), ("01:00:00", "succeeded", 0.0)]
    assert rows(found, "chain") == [("00:00:00", "succeeded", 0.0), ("01:00:00", "succeeded", 0.0)]

    often = job("often", cron="* * * * * *", overlap="latest")
    child = job("child", after=["often"])
    found = simulated(often, child, hours=0.001, durations={"often": 0.25})
    assert [time for time, _, _ in rows(found, "child")] == ["00:00:00", "00:00:01", "00:00:02"]


def test_a_parent_that_failed_starts_its_child_only_where_that_says_so() -> None:
    works = {"export": {DAY + 2 * HOUR: Work(60, "failed")}}
    waits, runs = job("waits", after=["export"]), job("runs", after=["export"], on_parent_failure="run")

    found = simulated(EXPORT, waits, runs, works=works)

    assert rows(found, "waits") == []
    assert rows(found, "runs") == [("02:01:00", "succeeded", 0.0)]


@pytest.mark.parametrize(
    ("overlap", "words"),
    [
        ("skip", "succeeded skipped skipped succeeded skipped"), ("queue", "succeeded " * 5),
        ("latest", "succeeded coalesced succeeded coalesced succeeded"), ("replace", "stopped " * 4 + "succeeded"),
    ],
)  # fmt: skip
def test_overlap_holds_for_starts_as_for_ticks(overlap: str, words: str) -> None:
    found = simulated(
        job("parent", cron="*/10 * * * *"), job("child", after=["parent"], overlap=overlap), hours=5 / 6,
        durations={"child": 1500},
    )  # fmt: skip

    assert [outcome for _, outcome, _ in rows(found, "child")] == words.split()


def test_a_run_by_hand_counts_for_those_that_wait() -> None:
    by_hand = {"export": [RunByHand(DAY + 2.7 * HOUR, DAY + 2.8 * HOUR, "succeeded")]}
    works = {"export": {DAY + 2 * HOUR: Work(60, "failed")}}

    found = simulated(EXPORT, REPORT, job("then", after=["export"]), works=works, by_hand=by_hand)

    assert rows(found, "report") == [("02:30:00", "succeeded", 0.3 * HOUR)]
    assert [time for time, _, _ in rows(found, "then")] == ["02:48:00"]


def test_a_parent_that_only_runs_by_hand_or_waits_for_its_child_never_lets_it_run() -> None:
    alone = job("alone", cron="0 * * * *", depends_on=["by-hand"])
    assert [outcome for _, outcome, _ in rows(simulated(alone, job("by-hand"), hours=3), "alone")][:2] == [
        "blocked"
    ] * 2
    one, two = job("one", cron="0 * * * *", depends_on=["two"]), job("two", cron="0 * * * *", depends_on=["one"])
    assert [outcome for _, outcome, _ in rows(simulated(one, two, hours=3), "one")][:2] == ["blocked"] * 2


def test_a_rehearsal_finds_what_a_slower_parent_would_have_done() -> None:
    def run(name: str, tick: int, took_s: float) -> Run:
        return Run(
            f"{name}-1", name, tick, "done", outcome="succeeded", queued_at=float(tick), started_at=float(tick),
            ended_at=tick + took_s,
        )  # fmt: skip

    pasts = {
        "export": Past([run("export", DAY + 2 * HOUR, 1200)]),
        "report": Past([run("report", DAY + 2 * HOUR + 1800, 5)]),
        "publish": Past([run("publish", DAY + 2 * HOUR + 1805, 5)]),
    }
    scene = Scene(DAY - 24 * HOUR, DAY + 24 * HOUR)
    publish = job("publish", after=["report"])

    same = rehearse([EXPORT, REPORT, publish], pasts, scene, DAY)
    assert same.jobs() == []
    short = rehearse([job("export", cron="0 2 * * *", timeout="10m"), REPORT, publish], pasts, scene, DAY)
    assert [(each.job, each.outcome) for each in short.ticks] == [
        ("export", "timed_out"), ("report", "waiting"), ("publish", None),
    ]  # fmt: skip


def test_with_backfill_a_tick_that_does_not_succeed_keeps_the_later_ones_waiting() -> None:
    works = {"etl": {DAY + 2 * HOUR: Work(60, "failed")}}

    found = simulated(job("etl", cron="0 * * * *", backfill=True), job("then", after=["etl"]), hours=4, works=works)

    assert [outcome for _, outcome, _ in rows(found, "etl")] == ["succeeded", "succeeded", "failed", "waiting"]
    assert reasons(found, "etl")[3] == "waits for the run of 2026-11-21T02:00:00Z, which has not succeeded"
    assert len(rows(found, "then")) == 2


def test_with_backfill_each_tick_waits_for_its_parent_and_for_the_tick_before() -> None:
    child = job("child", cron="30 * * * *", backfill=True, depends_on=["parent"])
    works = {"parent": {DAY + HOUR: Work(600, "failed"), DAY + 2 * HOUR: Work(3000)}}

    found = simulated(job("parent", cron="0 * * * *"), child, hours=4, works=works, durations={"child": 1800})

    assert rows(found, "child") == [
        ("00:30:00", "succeeded", 0.0), ("01:30:00", "succeeded", 4800.0), ("02:30:00", "succeeded", 3000.0),
        ("03:30:00", "succeeded", 1200.0),
    ]  # fmt: skip


def test_with_backfill_beats_must_be_there_for_each_tick() -> None:
    etl = job("etl", cron="0 * * * *", backfill=True, except_="off", repeat=5)
    off = Calendars({"off": make_calendar("off", weekly=["sat 01:00-02:00"])})
    outages = [Outage(DAY + HOUR, DAY + 5 * HOUR // 2)]

    found = simulated(etl, hours=8, calendars=off, outages=outages, durations={"etl": 2400})

    assert rows(found, "etl") == [
        ("00:00:00", "succeeded", 0.0), ("01:00:00", "skipped", None), ("02:00:00", "succeeded", 1800.0),
        ("03:00:00", "succeeded", 600.0), ("04:00:00", "succeeded", 0.0),
    ]  # fmt: skip
