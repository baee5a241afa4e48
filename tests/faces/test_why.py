"""`cronq why` as people and programs see it."""

from __future__ import annotations

import json
from collections.abc import Callable

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
