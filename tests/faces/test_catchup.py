"""`cronq catchup`, and what `list`, `show` and `why` tell of late runs that the catch-up rate holds."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cronq import Cronq
from cronq.config import Config
from cronq.jobs.spec import make_spec
from cronq.timetext import iso
from tests.faces.conftest import Answer
from tests.faces.test_calendar import on_terminal

Cli = Callable[..., Answer]
HOUR, DAY = 3600, 86400


def store(app: Cronq, name: str, mark: int, **options: object) -> None:
    """A job that no beat has looked at since *mark*."""
    spec = make_spec(name, command=["true"], **options)
    assert spec.schedule is not None
    next_tick = spec.schedule.next_after(mark)
    app.jobs.save(spec, source="here:1", origin="test", expected="", mark=mark, next_tick=next_tick)


@pytest.fixture
def noon(app: Cronq) -> int:
    """Late runs, of which a first beat has let one through: `each` of every hour for 3 h, `urgent` and `low` of a day.

    Returns the last full hour, when all of them were due last.
    """
    noon = (int(app.now_s()) - 120) // HOUR * HOUR
    store(app, "first", noon - 1, every="1h", priority=9)
    store(app, "each", noon - 2 * HOUR - 1, every="1h", catchup="all", overlap="allow")
    store(app, "urgent", noon - 1, every="1h", priority=5)
    store(app, "low", noon - 1, every="1h", priority=-5)
    slow = Cronq(config=Config(host_id="box", catchup_rate=0.01), client=app.client)
    slow.beat().pass_once()
    return noon


def test_the_line_is_told_by_job_with_the_turn_of_each(app: Cronq, cronq: Cli, noon: int) -> None:
    said = cronq("catchup")

    words = [line.split() for line in said.out.splitlines()]
    assert words[0] == ["ABOUT", "NAME", "PRIORITY", "RUNS", "TICK", "LAST", "TICK"]
    assert [(row[2], row[3], row[4]) for row in words[1:]] == [
        ("urgent", "5", "1"), ("each", "0", "3"), ("low", "-5", "1")
    ]  # fmt: skip
    assert words[1][0] == "in"
    assert said.complaint == "cronq: no beat is alive, and nothing is let through: start one with `cronq beat`"
    assert [line.split()[2] for line in cronq("catchup", "low").out.splitlines()[1:]] == ["low"]


def test_as_json_each_run_is_told(app: Cronq, cronq: Cli, noon: int) -> None:
    document = json.loads(cronq("catchup", "--json").out)

    due = [run.pop("due_in_s") for run in document["runs"]]
    assert document["runs"] == [
        {"job": "urgent", "tick": iso(noon), "priority": 5, "place": 1},
        {"job": "each", "tick": iso(noon - 2 * HOUR), "priority": 0, "place": 2},
        {"job": "each", "tick": iso(noon - HOUR), "priority": 0, "place": 3},
        {"job": "each", "tick": iso(noon), "priority": 0, "place": 4},
        {"job": "low", "tick": iso(noon), "priority": -5, "place": 5},
    ]
    assert [round(each - due[0]) for each in due] == [0, 100, 200, 300, 400]
    assert 60 < due[0] <= 100
    assert document["rate"] == 0.01
    assert document["done_in_s"] == due[-1]
    assert json.loads(cronq("catchup", "--json", "low").out)["runs"][0]["place"] == 5


def test_list_show_and_why_tell_of_a_held_run(app: Cronq, cronq: Cli, noon: int) -> None:
    (row,) = [row for row in json.loads(cronq("list", "--json").out) if row["name"] == "low"]
    assert row["status"] == "late"
    assert row["held"].pop("due_in_s") > 400
    assert row["held"] == {"tick": iso(noon), "place": 5}
    assert row["next"] == iso(noon + HOUR)
    assert "late; no. 5 in line, held by the catch-up rate" in cronq("list").out
    shown = cronq("show", "low").out
    assert "held              the tick at " in shown
    assert ", about no. 5 in line: in about 8m" in shown
    (other,) = [row for row in json.loads(cronq("list", "--json").out) if row["name"] == "first"]
    assert (other["held"], other["status"]) == (None, "waiting")

    why = json.loads(cronq("why", "low", "--json").out)
    assert (why["cause"], why["tick"]) == ("held", iso(noon))
    assert why["text"].startswith(f"the tick of low at {iso(noon)} is ")
    assert why["text"].endswith(
        "late, and held by the catch-up rate: it is about number 5 in line, but no beat is alive to let it through. "
        "Next: cronq beat"
    )
    assert json.loads(cronq("why", "each", "--at", str(iso(noon - HOUR)), "--json").out)["cause"] == "held"


def test_dropped_runs_are_missed_by_whom_and_why_and_the_job_goes_on(app: Cronq, cronq: Cli, noon: int) -> None:
    said = cronq("catchup", "--drop", "each", "low", "--note", "too late")

    assert said.code == 0
    assert said.out == ""
    assert [line.split(" at ")[0].split(",")[0] for line in said.err.splitlines()] == [
        "cronq: each does not run 3 ticks", "cronq: low does not run the tick",
    ]  # fmt: skip
    for name, ticks in (("each", [noon, noon - HOUR, noon - 2 * HOUR]), ("low", [noon])):
        runs = app.history(name)
        assert [(run.tick, run.outcome, run.decided_by) for run in runs] == [(t, "missed", app.who) for t in ticks]
        assert {run.reason for run in runs} == {f"held by the catch-up rate, and dropped by {app.who}: too late"}
        assert app.read_job(name).next_tick == noon + HOUR
    told = [fields for _, fields in app.client.xrange("cronq:events") if fields[b"type"] == b"missed"]
    assert [(fields[b"job"], fields[b"by"].decode()) for fields in told] == [(b"each", app.who)] * 3 + [
        (b"low", app.who)
    ]
    assert [run.job for run in app.catchup().runs] == ["urgent"]
    assert cronq("catchup", "--drop", "low").complaint == "cronq: no late run of low is held"
    assert json.loads(cronq("catchup", "--drop", "--all", "--json").out) == [
        {"job": "urgent", "ticks": 1, "first": iso(noon), "last": iso(noon)}
    ]
    assert cronq("catchup").complaint == "cronq: no late run is held"
    assert app.client.exists("cronq:catchup") == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--all"], "belong to --drop"),
        (["--note", "x"], "belong to --drop"),
        (["--drop"], "name the jobs, or say --all"),
        (["--drop", "--all", "low"], "name the jobs, or say --all"),
        (["lowe"], "did you mean 'low'?"),
        (["--drop", "lowe"], "did you mean 'low'?"),
        (["--drop", "low", "--note", "x" * 1001], "1,000 are allowed"),
    ],
)
def test_a_slip_is_a_line(app: Cronq, cronq: Cli, noon: int, words: list[str], problem: str) -> None:
    said = cronq("catchup", *words)

    assert said.code in (2, 78)
    assert problem in said.complaint
    assert len(app.catchup().runs) == 5


def test_the_line_fits_a_terminal(app: Cronq, noon: int) -> None:
    shown = on_terminal("catchup", columns=80)

    assert len(shown) == 4
    assert max(map(len, shown)) <= 80


def test_run_due_goes_on_until_the_last_held_run_is_let_through(
    app: Cronq, cronq: Cli, noon: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_CATCHUP_RATE", "4")

    assert cronq("run-due").code == 0

    assert app.catchup().runs == []
    assert {name: len(app.history(name)) for name in ("each", "urgent", "low")} == {"each": 3, "urgent": 1, "low": 1}
