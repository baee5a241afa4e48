"""`cronq simulate --rehearse DAY`: what people and programs see of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cronq import Cronq
from cronq.jobs.spec import make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.run import Ending, Settlement, Start
from cronq.timetext import parse_instant as utc_s
from tests.faces.conftest import Answer
from tests.faces.test_calendar import on_terminal

Cli = Callable[..., Answer]
MONDAY = int(utc_s("2026-01-05T00:00"))
HOUR = 3600


def ran(app: Cronq, name: str, cron: str, ticks: dict[int, float]) -> None:
    """A job of the module `jobs` whose *ticks* of that Monday took so many seconds."""
    spec = make_spec(name, function=f"jobs:{name}", cron=cron)
    app.jobs.save(spec, source="jobs.py:1", origin="jobs", expected="", mark=MONDAY - 1, next_tick=min(ticks))
    version, claimer = app.jobs.get(name).version, app.claimer("beat")
    for number, (tick, took) in enumerate(ticks.items()):
        decision = Decision(tick, None, "due", "schedule", None)
        (answer,) = claimer.claim_due([TickClaim(spec, version, decision)], f"{name}{number}", tick)
        assert answer.code == "won"
        run = app.history(name, 1)[0]
        began = Start(worker="w", host="db1", pid=1, execution=run.run_id, lease_s=90, now_s=tick + 1)
        app.runs.start(run, began)
        assert app.runs.settle(app.runs.get(run.run_id), Ending(Settlement("succeeded", ""), "w", tick + 1 + took))


@pytest.fixture
def monday(app: Cronq, here: Path) -> Path:
    """A day on which `load` ran each hour, `report` once, and `tidy` at noon; a module in which two are otherwise."""
    ran(app, "load", "0 * * * *", {MONDAY + HOUR * hour: 2000 if hour == 3 else 60 for hour in range(24)})
    ran(app, "report", "0 7 * * *", {MONDAY + 7 * HOUR: 720})
    ran(app, "tidy", "0 12 * * *", {MONDAY + 12 * HOUR: 5})
    (here / "jobs.py").write_text(
        "from cronq import job\n"
        "@job('*/30 * * * *')\ndef load(): ...\n"
        "@job('0 7 * * *', timeout='5m')\ndef report(): ...\n"
    )
    return here


def test_a_line_for_each_job_that_differs_or_collides_and_a_summary(shell: Cli, cronq: Cli, monday: Path) -> None:
    answer = shell("simulate", "jobs", "--rehearse", "2026-01-05")

    assert answer.code == 0
    assert [re.split(r"  +", line) for line in answer.out.splitlines()] == [
        ["JOB", "THAT DAY", "REHEARSED", "ODD", "FIRST", "HOW"],
        ["load", "24 succeeded", "47 succeeded, 1 skipped", "24", "03:30",
         "new; skipped: the run of 2026-01-05T03:00:00Z was still at work"],
        ["report", "1 succeeded", "1 timed_out", "1", "07:00", "was succeeded; timed_out: it took 12m; timeout is 5m"],
        ["tidy", "1 succeeded", "-", "1", "12:00", "no tick any more"],
    ]  # fmt: skip
    assert answer.err.splitlines() == [
        "cronq: 49 ticks: 47 succeeded, 1 skipped, 1 timed_out",
        "cronq: 1 otherwise than that day, 24 without a row of that day, 1 no tick any more",
        "cronq: outages of beats are kept for 30d, so those of that day are not known",
    ]
    same = cronq("simulate", "--rehearse", "2026-01-05")
    assert (same.code, same.out) == (0, "")
    assert same.err.startswith("cronq: 26 ticks: 26 succeeded\ncronq: all as that day\n")


def test_programs_get_each_tick_of_the_day(shell: Cli, monday: Path) -> None:
    rows = json.loads(shell("simulate", "jobs", "--rehearse", "2026-01-05", "--json").out)

    assert len(rows) == 24 * 2 + 2
    assert [row for row in rows if row["job"] != "load" or row["outcome"] == "skipped"] == [
        {"job": "load", "tick": "2026-01-05T03:30:00Z", "outcome": "skipped", "recorded": None,
         "reason": "the run of 2026-01-05T03:00:00Z was still at work",
         "lateness_s": None, "duration_s": None, "basis": None},
        {"job": "report", "tick": "2026-01-05T07:00:00Z", "outcome": "timed_out", "recorded": "succeeded",
         "reason": "it took 12m; timeout is 5m", "lateness_s": 1.0, "duration_s": 300.0, "basis": "run"},
        {"job": "tidy", "tick": "2026-01-05T12:00:00Z", "outcome": None, "recorded": "succeeded",
         "reason": "no tick by these definitions", "lateness_s": None, "duration_s": None, "basis": None},
    ]  # fmt: skip
    assert rows == sorted(rows, key=lambda row: (row["tick"], row["job"]))


def test_the_day_is_one_of_the_zone_and_times_are_those_of_it(shell: Cli, monday: Path) -> None:
    words = ("simulate", "jobs", "--rehearse", "2026-01-05", "--tz", "Asia/Tokyo")

    assert " 16:00  was succeeded; timed_out" in shell(*words).out
    assert " 07:00  was succeeded; timed_out" in shell(*words, "--utc").out
    assert json.loads(shell(*words, "--json").out)[0]["tick"] == "2026-01-04T15:00:00Z"


def test_an_outage_comes_on_top(shell: Cli, monday: Path) -> None:
    away = "2026-01-05T06:00/2026-01-05T08:00"

    rows = json.loads(shell("simulate", "jobs", "--rehearse", "2026-01-05", "--outage", away, "--json").out)

    found = {
        row["tick"][11:16]: (row["outcome"], row["reason"]) for row in rows if "06:00" <= row["tick"][11:16] < "08:00"
    }
    assert found["06:30"][0] == found["07:30"][0] == "coalesced"
    assert next(row["lateness_s"] for row in rows if row["job"] == "report") == HOUR + 1


def test_it_fits_on_a_terminal(monday: Path) -> None:
    lines = on_terminal("simulate", "jobs", "--rehearse", "2026-01-05", columns=80)

    assert max(map(len, lines)) <= 80
    assert any(line.startswith("report") and "timed_out" in line for line in lines)


def test_a_job_of_which_nothing_is_known_is_named(shell: Cli, here: Path, app: Cronq) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('0 * * * *')\ndef fresh(): ...\n")

    said = shell("simulate", "jobs", "--rehearse", "yesterday")

    assert "cronq: no run is known of fresh: each took no time" in said.err.splitlines()
    told = shell("simulate", "jobs", "--rehearse", "yesterday", "--duration", "2h")
    assert "cronq: no run is known of fresh: each took 2h" in told.err.splitlines()
    assert "24 ticks: 24 timed_out" in told.err, "after an hour, which is its timeout"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give --from and --to, or --rehearse DAY"),
        (["--from", "2026-01-05"], "give --from and --to, or --rehearse DAY"),
        (["--rehearse", "2026-01-05", "--to", "2026-01-06"], "leave --from and --to out"),
        (["--rehearse", "2026-01-05", "--beats", "2"], "--beats does not go with --rehearse; leave it out"),
        (["--from", "2026-01-05", "--to", "2026-01-06", "--tz", "UTC"], "--tz only goes with --rehearse; leave it out"),
        (["--rehearse", "Monday"], "'Monday' is not a day; write 2026-11-21, today or yesterday"),
        (["--rehearse", "9998-01-05"], "has not begun yet in UTC"),
        (["--rehearse", "2026-01-05", "--tz", "Mars"], "'Mars' is not a time zone"),
    ],
)
def test_what_makes_no_sense_is_refused(here: Path, cronq: Cli, words: list[str], told: str) -> None:
    answer = cronq("simulate", *words)

    assert answer.code in (2, 78)
    assert told in answer.err
