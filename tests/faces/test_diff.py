"""`cronq diff`: two days of the ledger, held against each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date

import pytest

from cronq import Cronq
from cronq.app.diff import Days
from cronq.jobs.spec import make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.run import Ending, Settlement, Start
from cronq.timetext import DAY_S
from cronq.timetext import parse_instant as utc_s
from tests.faces.conftest import Answer
from tests.faces.test_calendar import on_terminal

Cli = Callable[..., Answer]
MONDAY = int(utc_s("2026-01-05T00:00"))
TUESDAY = MONDAY + DAY_S


@pytest.fixture
def two_days(app: Cronq) -> None:
    """Each hour of two days `backup` was due; on the second it failed at 03:00 and did not run at 05:00."""
    spec = make_spec("backup", command=["true"], cron="0 * * * *")
    app.jobs.save(spec, source="test", origin="cli", expected="", mark=MONDAY - 1, next_tick=MONDAY)
    version, claimer = app.jobs.get("backup").version, app.claimer("beat")
    for hour in range(48):
        tick = MONDAY + 3600 * hour
        outcome = "missed" if hour == 24 + 5 else None
        decision = Decision(tick, outcome, "no beat took it in time", "schedule", tick + 3600)
        (answer,) = claimer.claim_due([TickClaim(spec, version, decision)], f"t{hour}", tick + 0.1)
        assert answer.code == "won"
        if outcome is None:
            _end(app, app.history("backup", 1)[0].run_id, "failed" if hour == 24 + 3 else "succeeded", tick)


def _end(app: Cronq, run_id: str, outcome: str, tick: float) -> None:
    began = Start(worker="w", host="db1", pid=1, execution=run_id, lease_s=90, now_s=tick + 1)
    started = app.runs.start(app.runs.get(run_id), began)
    told = {"by": "w", "now_s": tick + 3, "attempt": started.attempt, "execution": run_id}
    assert app.runs.settle(app.runs.get(run_id), Ending(Settlement(outcome, "exit code 7"), **told))


def test_it_says_what_went_otherwise_and_ends_with_1(cronq: Cli, two_days: None) -> None:
    answer = cronq("diff", "2026-01-05", "2026-01-06")

    assert answer.code == 1
    assert [line.split() for line in answer.out.splitlines()] == [
        ["JOB", "WHAT", "TICKS", "FIRST", "HOW"],
        [
            "backup",
            "NOT",
            "RUN",
            "1",
            "2026-01-06",
            "05:00",
            "UTC",
            "1",
            "missed:",
            "no",
            "beat",
            "took",
            "it",
            "in",
            "time",
        ],
        ["backup", "FAILED", "1", "2026-01-06", "03:00", "UTC", "failed:", "exit", "code", "7"],
    ]


def test_programs_get_the_same(cronq: Cli, two_days: None) -> None:
    rows = json.loads(cronq("diff", "2026-01-05", "2026-01-06", "--json").out)

    assert rows == [
        {
            "job": "backup",
            "kind": "not_run",
            "count": 1,
            "first": "2026-01-06T05:00:00Z",
            "text": "1 missed: no beat took it in time",
        },
        {
            "job": "backup",
            "kind": "failed",
            "count": 1,
            "first": "2026-01-06T03:00:00Z",
            "text": "failed: exit code 7",
        },
    ]


def test_a_day_like_the_other_ends_with_0(cronq: Cli, two_days: None) -> None:
    answer = cronq("diff", "2026-01-06", "2026-01-05")

    assert (answer.code, answer.out, answer.err) == (0, "", "cronq: nothing is worse\n")


def test_times_are_those_of_the_zone(cronq: Cli, two_days: None) -> None:
    lines = cronq("diff", "2026-01-05", "2026-01-06", "--tz", "Europe/Berlin").out.splitlines()

    assert ["06:00" in line for line in lines[1:]] == [True, False]
    assert ["04:00" in line for line in lines[1:]] == [False, True]


@pytest.mark.parametrize(
    ("day", "first", "last"),
    [
        (date(2026, 10, 25), "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours: clocks go back
        (date(2026, 3, 29), "2026-03-28T23:00", "2026-03-29T22:00"),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(day: date, first: str, last: str) -> None:
    _, period = Days(date(2026, 1, 1), day, "Europe/Berlin").periods(utc_s("2027-01-01T00:00"))

    moments = [utc_s(first) - 1, utc_s(first), utc_s(last) - 1, utc_s(last)]
    assert [period.covers(moment) for moment in moments] == [False, True, True, False]


def test_of_today_only_the_hours_that_have_passed_are_compared(
    cronq: Cli, app: Cronq, two_days: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cronq, "now_s", lambda self: TUESDAY + 4.5 * 3600)
    rows = json.loads(cronq("diff", "yesterday", "today", "--json").out)

    assert [row["kind"] for row in rows] == ["failed"]


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["monday", "today"], 2, "'monday' is not a day; write 2026-11-21, today or yesterday"),
        (["yesterday", "9998-01-01"], 78, "9998-01-01 has not begun yet in UTC"),
        (["yesterday", "today", "--tz", "Mars/Olympus"], 78, "Mars/Olympus"),
        (["0001-01-01", "2026-01-05", "--tz", "Asia/Tokyo"], 0, "nothing is worse"),
    ],
)
def test_a_day_that_is_none_is_a_slip(cronq: Cli, two_days: None, words: list[str], code: int, problem: str) -> None:
    answer = cronq("diff", *words)

    assert (answer.code, "Traceback" in answer.err) == (code, False)
    assert problem in answer.err


def test_on_a_narrow_terminal_the_reason_stands_below_its_row_and_nothing_is_cut(two_days: None, cronq: Cli) -> None:
    shown = on_terminal("history", "backup", "--outcome", "missed", columns=60)

    assert all(len(line) <= 60 for line in shown)
    assert shown[0].split() == ["TICK", "OUTCOME", "TOOK", "RUN"]
    assert shown[2:] == ["    no beat took it in time"]
    (row,) = cronq("history", "backup", "--outcome", "missed").out.splitlines()[1:]
    assert row.endswith("backup-20260106T050000Z  no beat took it in time"), "a pipe has it all in one line"
