"""`cronq why` as people and programs see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cronq import Cronq
from tests.faces.conftest import Answer

Cli = Callable[..., Answer]


def test_why_answers_in_a_line_and_as_json(cronq: Cli, app: Cronq) -> None:
    app.add("invoices", command=["true"], cron="0 0 1 1 *", tz="Europe/Berlin")

    said = cronq("why", "invoices", "--at", "2026-01-05T08:30")
    shown = json.loads(cronq("why", "invoices", "--at", "2026-01-05T08:30", "--json").out)

    assert said.code == 0
    assert said.out.strip() == shown["text"]
    assert shown.keys() == {"job", "tick", "due", "outcome", "reason", "cause", "text", "other", "next", "parents"}
    assert (shown["job"], shown["tick"], shown["due"], shown["cause"]) == ("invoices", None, False, "not_due")
    assert "was not due at 2026-01-05T07:30:00Z" in shown["text"]
    assert cronq("why", "invoices").out.startswith("invoices has had no tick yet")


def test_a_word_that_is_no_time_and_a_job_that_is_none_are_told_in_a_line(cronq: Cli, app: Cronq) -> None:
    app.add("invoices", command=["true"], cron="0 0 1 1 *")

    time, job = cronq("why", "invoices", "--at", "yesterday"), cronq("why", "invoice")

    assert (time.code, job.code) == (2, 2)
    assert "'yesterday' is not a date with a time" in time.complaint
    assert "did you mean 'invoices'?" in job.complaint


def test_a_failure_after_a_deploy_names_it(
    here: Path, shell: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deploy(revision: str, body: str) -> None:
        (here / "jobs.py").write_text(f"from cronq import job\n\n@job()\ndef pay():\n    {body}\n")
        monkeypatch.setenv("CRONQ_REVISION", revision)
        assert shell("run", "pay").code == 0
        shell("worker", "--burst", "-m", "jobs")

    (here / "jobs.py").write_text("from cronq import job\n\n@job()\ndef pay(): ...\n")
    assert shell("sync", "jobs").code == 0
    deploy("5d0e9b8", "pass")
    deploy("7f3a2c1", "raise KeyError('vat')")

    answer = json.loads(shell("why", "pay", "--json").out)

    assert (answer["cause"], answer["outcome"]) == ("deployed", "failed")
    assert "were started with revision 7f3a2c1 in place of 5d0e9b8 at " in answer["text"]

    monkeypatch.delenv("CRONQ_REVISION")  # without a name of it the hashes of the code are told apart
    deploy("", "pass")
    deploy("", "raise KeyError('vat')")
    answer = json.loads(shell("why", "pay", "--json").out)
    assert answer["cause"] == "deployed"
    assert "were started with code " in answer["text"]


@pytest.mark.parametrize(
    "words",
    [
        ["why", "invoices", "--at", "00:00"],
        ["mark-success", "invoices", "--tick", "00:00"],
        ["run", "invoices", "--force", "--tick", "00:00:00"],
        ["backfill", "invoices", "--tick", "00:00", "--dry-run"],
    ],
)
def test_a_tick_may_be_named_as_the_history_shows_it(cronq: Cli, app: Cronq, words: list[str]) -> None:
    app.add("invoices", command=["true"], cron="0 0 * * *", tz="Asia/Tokyo")
    midnight = datetime.fromtimestamp(app.now_s(), ZoneInfo("Asia/Tokyo")).replace(hour=0, minute=0, second=0)
    tick = f"{midnight.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

    said = cronq(*words)

    assert tick in said.out + said.err, "the last midnight in Tokyo, whatever became of it"


def test_a_time_of_day_that_is_none_is_told_as_it_was_written(cronq: Cli, app: Cronq) -> None:
    app.add("invoices", command=["true"], cron="0 0 * * *", tz="Asia/Tokyo")

    assert "'25:00' is not a date with a time" in cronq("why", "invoices", "--at", "25:00").complaint
    assert "'25:00' is not a time; write 02:30 or " in cronq("mark-success", "invoices", "--tick", "25:00").complaint
    assert "there is no job 'nope'" in cronq("mark-success", "nope", "--tick", "02:30").complaint
