"""`cronq stats`: how long runs take to begin and to end, as people and programs read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.client import Pipeline

from cronq import Cronq
from cronq.runs.run import Ending, Settlement, Start
from tests.faces.conftest import Answer

Cli = Callable[..., Answer]


def run_once(app: Cronq, name: str, waited_s: float, delay_ms: int, took_s: float) -> None:
    run_id = app.enqueue(name)
    begin = (app.runs.get(run_id).queued_at or 0) + waited_s
    start = Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=begin)
    assert app.runs.start(app.runs.get(run_id), start).code == "started"
    done = Settlement("succeeded", "it ran to its end", exit_code=0, start_ms=delay_ms)
    assert app.runs.settle(app.runs.get(run_id), Ending(done, "worker w", begin + took_s))


@pytest.fixture
def shop(here: Path, app: Cronq) -> Cronq:
    """Two jobs that have run, and one that never did."""
    for name in ("invoices", "tidy", "never"):
        app.add(name, command=["true"])
    for number in range(1, 101):
        run_once(app, "invoices", number / 100, 5, 10 * number)
    run_once(app, "tidy", 0.02, 8, 0.5)
    return app


def test_the_figures_of_one_job(shop: Cronq, cronq: Cli) -> None:
    (job,) = json.loads(cronq("stats", "invoices", "--json").out)["jobs"]

    assert job == {
        "job": "invoices",
        "runs": 100,
        "claim_to_first_line_s": {"p50": 0.505, "p99": 0.995, "max": 1.005, "runs": 100},
        "duration_s": {"p50": 500, "p99": 990, "max": 1000, "runs": 100},
    }


def test_the_figures_of_all_jobs_and_of_all_together(shop: Cronq, cronq: Cli) -> None:
    document = json.loads(cronq("stats", "--json").out)

    assert [(each["job"], each["runs"]) for each in document["jobs"]] == [("invoices", 20), ("never", 0), ("tidy", 1)]
    assert document["jobs"][1]["claim_to_first_line_s"] is None
    assert document["jobs"][1]["duration_s"] is None
    assert document["all"]["runs"] == 21
    assert document["all"]["duration_s"]["max"] == 1000
    assert json.loads(cronq("stats", "-n", "3", "--json").out)["all"]["runs"] == 4


def test_a_table_for_people(shop: Cronq, cronq: Cli) -> None:
    head, *lines = cronq("stats", "-n", "100").out.splitlines()

    assert head.split("  ")[0] == "NAME"
    assert [line.split() for line in lines] == [
        ["invoices", "100", "0.51s", "0.99s", "1.0s", "8m20s", "16m30s", "16m40s"],
        ["never", "0", "-", "-", "-", "-", "-", "-"],
        ["tidy", "1", "0.028s", "0.028s", "0.028s", "0.5s", "0.5s", "0.5s"],
        ["(all)", "101", "0.51s", "0.99s", "1.0s", "8m20s", "16m30s", "16m40s"],
    ]


def test_show_tells_them_of_its_job(shop: Cronq, cronq: Cli) -> None:
    shown = json.loads(cronq("show", "invoices", "--json").out)["stats"]
    text, silent = cronq("show", "invoices").out, cronq("show", "never").out

    assert shown["runs"] == 100
    assert shown["claim_to_first_line_s"] == {"p50": 0.505, "p99": 0.995, "max": 1.005, "runs": 100}
    assert "to first line     p50 0.51s, p99 0.99s, max 1.0s (100 runs)" in text
    assert "duration          p50 8m20s, p99 16m30s, max 16m40s (100 runs)" in text
    assert "first line" not in silent


def test_an_unknown_job_is_named(shop: Cronq, cronq: Cli) -> None:
    said = cronq("stats", "invoice")

    assert said.code == 2
    assert "invoices" in said.complaint


def test_no_jobs_are_said_to_be_none(here: Path, app: Cronq, cronq: Cli) -> None:
    assert cronq("stats").err == "cronq: no jobs\n"
    assert json.loads(cronq("stats", "--json").out)["jobs"] == []


def test_a_hundred_jobs_are_one_round_trip_for_their_ids_and_one_for_a_thousand_rows(
    here: Path, app: Cronq, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(250):
        app.add(f"job-{number:03}", command=["true"])
    for number in range(0, 250, 10):
        app.enqueue(f"job-{number:03}")
    trips: list[int] = []
    execute: Callable[..., Any] = Pipeline.execute

    def counted(pipe: Pipeline, *args: Any, **options: Any) -> Any:
        trips.append(len(pipe))
        return execute(pipe, *args, **options)

    monkeypatch.setattr(Pipeline, "execute", counted)

    assert len(app.stats().jobs) == 250
    assert trips == [200, 10, 200, 10, 100, 5]
