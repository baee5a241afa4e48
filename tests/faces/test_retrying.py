"""What people and programs see of a run that waits for its next attempt."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cronq.app.app import Cronq
from cronq.runs.retry import next_retry
from cronq.runs.run import Ending, Settlement, Start
from tests.faces.conftest import Answer

Cli = Callable[..., Answer]


@pytest.fixture
def retrying(app: Cronq) -> str:
    """A run of `fetch` whose first attempt has failed."""
    app.add("fetch", command=["true"], retries=3, retry_delay="10m")
    run_id = app.enqueue("fetch")
    now_s = app.now_s()
    app.runs.start(app.runs.get(run_id), Start("w", "box", 1, "e", 90, now_s))
    retry = next_retry(app.jobs.get("fetch").spec, "failed", 0, run_id=run_id, attempt=1)
    ending = Ending(Settlement("failed", "exit code 3"), "worker w", now_s, attempt=1, execution="e", retry=retry)
    assert app.runs.end(app.runs.get(run_id), ending) == "retrying"
    return run_id


def test_the_history_says_which_retry_comes_and_why(cronq: Cli, retrying: str) -> None:
    lines = cronq("history", "fetch").out.splitlines()

    assert "retrying" in lines[1]
    assert "retry 1 of 3 after 10m; the attempt before failed: exit code 3" in lines[1]
    assert lines[2].split()[:3] == ["attempt", "1", "failed"]


def test_programs_see_when_it_is_tried_again(cronq: Cli, app: Cronq, retrying: str) -> None:
    [row] = json.loads(cronq("history", "fetch", "--json").out)

    assert (row["state"], row["outcome"], row["attempt"]) == ("retrying", None, 2)
    assert row["retry_at"] > row["queued_at"]
    [job] = json.loads(cronq("list", "--json").out)
    assert job["status"] == "waiting"


def test_list_and_show_name_it(cronq: Cli, retrying: str) -> None:
    assert "waiting, retrying" in cronq("list").out
    assert f"retrying {retrying}" in cronq("show", "fetch").out


def test_stop_ends_it(cronq: Cli, app: Cronq, retrying: str) -> None:
    assert cronq("stop", retrying).code == 0

    assert app.runs.get(retrying).outcome == "stopped"
