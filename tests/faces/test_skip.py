"""`cronq skip` and what `next`, `show` and `list` tell of ticks that will not run."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cronq import Cronq
from cronq.timetext import iso
from tests.faces.conftest import Answer
from tests.faces.test_calendar import on_terminal

Cli = Callable[..., Answer]


@pytest.fixture
def daily(app: Cronq) -> list[int]:
    """A daily job `report`; its next ticks."""
    app.add("report", command=["true"], cron="0 7 * * *", tz="Asia/Tokyo")
    schedule = app.read_job("report").spec.schedule
    assert schedule is not None
    return schedule.next_ticks(int(app.now_s()), 4)


def test_the_next_ticks_are_skipped_shown_and_taken_back(app: Cronq, cronq: Cli, daily: list[int]) -> None:
    said = cronq("skip", "report", "-n", "2", "--note", "no paper")
    assert (said.code, said.out) == (0, "")
    assert said.complaint.startswith("cronq: report skips 2 ticks, ")
    assert said.complaint.endswith("`cronq skip report --undo` takes it back")

    rows = cronq("next", "report", "-n", "3").out.splitlines()[1:]
    assert ["skipped by" in row and "no paper" in row for row in rows] == [True, True, False]
    shown = cronq("show", "report").out
    assert "skips             2 ticks, " in shown
    assert f", skipped by {app.who}: no paper" in shown
    assert f"; next: skipped by {app.who}: no paper" in cronq("list").out

    assert cronq("skip", "report", "--undo").complaint.startswith("cronq: report runs 2 ticks, ")
    assert cronq("skip", "report", "--undo").complaint == "cronq: report had nothing to skip"
    shown = cronq("next", "report").out + cronq("show", "report").out + cronq("list").out
    assert "skip" not in shown.replace("overlap=skip", "").replace("told to skip none", "")


def test_one_tick_is_named(app: Cronq, cronq: Cli, daily: list[int]) -> None:
    assert "report skips the tick at " in cronq("skip", "report").complaint
    assert "07:00 JST" in cronq("skip", "report").complaint
    assert cronq("skip", "report", "--undo").complaint.endswith("JST, again")


def test_as_json_each_tick_says_why_it_will_not_run(app: Cronq, cronq: Cli, daily: list[int]) -> None:
    app.skip("report", note="no paper")
    reason = f"skipped by {app.who}: no paper"

    assert json.loads(cronq("next", "report", "-n", "2", "--json").out) == [
        {"name": "report", "tick": iso(daily[0]), "excluded": reason},
        {"name": "report", "tick": iso(daily[1]), "excluded": None},
    ]
    (row,) = json.loads(cronq("list", "--json").out)
    assert row["excluded"] == reason
    shown = json.loads(cronq("show", "report", "--json").out)
    assert shown["excluded"] == reason
    (skip,) = shown["skips"]
    assert skip.pop("since").endswith("Z")
    assert skip == {"tick": iso(daily[0]), "by": app.who, "note": "no paper"}


def test_calendars_and_pauses_are_told_the_same_way(app: Cronq, cronq: Cli, daily: list[int]) -> None:
    app.set_calendar("all", weekly=["mon-sun"], note="for a test")
    app.add("excluded", command=["true"], cron="0 7 * * *", except_="all")
    app.pause("report", note="moving")

    by_name = {row["name"]: row["excluded"] for row in json.loads(cronq("next", "--json").out)}
    assert by_name["report"].startswith("paused since ")
    assert by_name["report"].endswith(": moving")
    assert by_name["excluded"].endswith(" is in the calendar all (mon-sun)")
    lines = cronq("next").out.splitlines()
    assert any(line.endswith("report    paused") for line in lines)
    assert any(line.endswith("is in the calendar all (mon-sun)") for line in lines)
    assert "is in the calendar all" in cronq("list").out
    assert "is in the calendar all" in cronq("show", "excluded").out


def test_the_tables_fit_a_terminal_of_80_columns(app: Cronq, daily: list[int]) -> None:
    app.skip("report", 3, note="a long story " * 40)

    for words in (["next", "report"], ["next"], ["list"], ["skip", "--help"]):
        shown = on_terminal(*words)
        assert shown
        assert all(len(line) <= 80 for line in shown), words


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["skip"], 2, "NAME"),
        (["skip", "reprt"], 2, "did you mean 'report'?"),
        (["skip", "report", "-n", "0"], 2, "0 is not in the range"),
        (["skip", "report", "--undo", "-n", "2"], 2, "--undo takes all back"),
        (["skip", "by-hand"], 78, "no tick to come would run"),
    ],
)
def test_a_faulty_call_is_told_in_one_line(
    app: Cronq, cronq: Cli, daily: list[int], words: list[str], code: int, told: str
) -> None:
    app.add("by-hand", command=["true"])

    said = cronq(*words)

    assert said.code == code
    assert told in said.err
    assert app.read_job("report").state.skips == ()
