"""The JSON that scripts rely on: exactly these keys, times in UTC with `Z`, durations in seconds, absent is null."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cronq import Cronq
from cronq.config import Config
from cronq.hosts.heartbeats import Heartbeat
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Settlement, Start
from cronq.timetext import parse_instant
from tests.faces.conftest import Answer, pass_at

Cli = Callable[..., Answer]
LIST_KEYS = {
    "name", "schedule", "timezone", "description", "queue", "status", "paused", "next", "last", "streak",
    "runs", "run_as", "excluded", "slow", "held", "depends_on", "after",
    "waits_for", "waiting_ticks",
}  # fmt: skip
SHOW_KEYS = LIST_KEYS | {
    "timezone_from",
    "spec", "source", "parents", "children", "previous_success", "origin", "version", "active", "meaning", "ticks",
    "skips",
    "first_run", "ongoing_since", "failures", "last_error",
    "changes",
    "stats",
}  # fmt: skip
HISTORY_KEYS = {
    "job", "run_id", "tick", "state", "outcome", "reason", "decided_by", "trigger", "attempt", "host", "pid",
    "queued_at", "started_at", "ended_at", "lateness_s", "duration_s", "exit_code", "error",
    "result", "attempts",
    "signal", "max_rss_kib", "user_s", "system_s", "crashes",
    "retry_at",
    "beat_delay_s", "queue_wait_s", "start_delay_s", "replaced",
    "cause", "other",
}  # fmt: skip
PROCESS_KEYS = {"id", "host", "pid", "started_at", "heartbeat_age_s", "clock_offset_s", "doing"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


@pytest.fixture
def answer(cronq: Cli) -> Callable[..., Any]:
    """The document that `cronq WORDS --json` prints."""

    def call(*words: str, code: int = 0) -> Any:
        said = cronq(*words, "--json")
        assert said.code == code, said.err
        return json.loads(said.out)

    return call


def assert_times(document: dict[str, Any], *keys: str) -> None:
    for key in keys:
        assert document[key] is None or TIME.fullmatch(document[key]), key


def test_nothing_is_an_empty_list(here: Path, answer: Callable[..., Any]) -> None:
    for verb in ("list", "next", "beats", "workers"):
        assert answer(verb) == []


def test_list_of_a_job_that_never_ran(answer: Callable[..., Any], app: Cronq) -> None:
    app.add("invoices", command=["true"], cron="0 7 * * *", tz="Asia/Tokyo")
    app.add("by-hand", command=["true"], description="When asked")

    by_hand, invoices = answer("list")

    assert set(by_hand) == set(invoices) == LIST_KEYS
    assert by_hand == {
        "name": "by-hand", "schedule": None, "timezone": "UTC", "description": "When asked", "queue": "default",
        "status": "never", "paused": None, "next": None, "last": None, "streak": 0, "runs": "true", "run_as": None,
        "excluded": None, "slow": None, "held": None, "depends_on": [], "after": [],
        "waits_for": None, "waiting_ticks": 0,
    }  # fmt: skip
    assert invoices["schedule"] == "0 7 * * *"
    assert invoices["timezone"] == "Asia/Tokyo"
    assert invoices["description"] is None
    assert invoices["next"].endswith("T22:00:00Z")


def test_a_pause_stands_in_list_and_show(answer: Callable[..., Any], app: Cronq) -> None:
    app.add("tidy", command=["true"], every="1h")
    app.pause("tidy", note="move", until_s=app.now_s() + 3600)

    (listed,) = answer("list")
    shown = answer("show", "tidy")

    assert listed["status"] == "paused"
    assert set(listed["paused"]) == {"since", "by", "note", "until"}
    assert listed["paused"]["note"] == "move"
    assert_times(listed["paused"], "since", "until")
    assert {key: shown[key] for key in LIST_KEYS} == listed, "show has what list has"


def test_show_has_how_the_job_does_from_its_first_run_to_its_last_error(
    answer: Callable[..., Any], app: Cronq, cronq: Callable[..., Any]
) -> None:
    app.add("tidy", command=["true"])
    fresh = answer("show", "tidy")
    ids = [app.enqueue("tidy") for _ in range(3)]
    began_s = parse_instant("2026-01-05T07:00:00Z")
    for number, run_id in enumerate(ids):
        start = Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=began_s + 60 * number)
        assert app.runs.start(app.runs.get(run_id), start).code == "started"
    for number, run_id in enumerate(ids[:2]):
        failed = Settlement("failed", "exit code 3", exit_code=3, error="Traceback\nOSError: disk \x1b[1mfull")
        assert app.runs.settle(app.runs.get(run_id), Ending(failed, "w", began_s + 60 * number + 5))

    shown, text = answer("show", "tidy"), cronq("show", "tidy", "--utc").out

    assert [fresh[key] for key in ("first_run", "ongoing_since", "failures", "last_error")] == [None, None, 0, None]
    assert shown["first_run"] == "2026-01-05T07:00:00Z"
    assert shown["ongoing_since"] == "2026-01-05T07:02:00Z"
    assert shown["failures"] == 2
    assert shown["last_error"] == {
        "run_id": ids[1], "outcome": "failed", "reason": "exit code 3",
        "error": "Traceback\nOSError: disk \x1b[1mfull", "ended_at": "2026-01-05T07:01:05Z",
    }  # fmt: skip
    for label, words in {
        "first run": "07:00", "ongoing since": "07:02", "failures": "2 in a row",
        "last error": "exit code 3: OSError: disk",
    }.items():  # fmt: skip
        assert any(line.startswith(label) and words in line for line in text.splitlines()), label
    assert "\x1b" not in text


def test_show_has_the_whole_spec_and_where_it_came_from(answer: Callable[..., Any], app: Cronq) -> None:
    app.add("tidy", command=["find", "/tmp"], every="1h", tags=["files"])

    shown = answer("show", "tidy")

    assert set(shown) == SHOW_KEYS
    assert set(shown["spec"]) == {item.name for item in fields(JobSpec)}, "options at their default as well"
    assert shown["spec"]["command"] == ["find", "/tmp"]
    assert shown["spec"]["every"] == shown["spec"]["timeout"] == 3600
    assert shown["spec"]["tags"] == ["files"]
    assert shown["source"] == f"added by {app.who}"
    assert shown["origin"] == "cli"
    assert shown["parents"] == shown["children"] == []
    assert shown["previous_success"] is None
    assert shown["active"] == {}


def test_show_has_file_and_line_of_a_job_that_code_defines(here: Path, shell: Cli, answer: Callable[..., Any]) -> None:
    (here / "jobs.py").write_text("from cronq import job\n\n@job('@daily', kwargs={'n': 1})\ndef tidy(n): ...\n")
    assert shell("sync", "jobs").code == 0

    shown = answer("show", "tidy")

    assert shown["source"] == "jobs.py:3"
    assert shown["origin"] == "jobs"
    assert shown["spec"]["function"] == "jobs:tidy"
    assert shown["spec"]["kwargs"] == {"n": 1}
    assert shown["meaning"] == "At 00:00 every day"


def test_history_is_newest_first_and_null_while_open(answer: Callable[..., Any], app: Cronq) -> None:
    app.add("tidy", command=["true"], every="10s")
    now_s = int(app.now_s())
    app.quarantine.restore_mark("tidy", now_s - 45, now_s - 45)
    pass_at(app, now_s)
    by_hand = app.enqueue("tidy")

    rows = answer("history", "tidy")

    assert all(set(row) == HISTORY_KEYS for row in rows)
    assert [row["outcome"] for row in rows[:3]] == [None, None, "coalesced"]
    assert rows[0]["run_id"] == by_hand
    assert rows[0]["trigger"] == "manual"
    assert rows[0]["tick"] is None
    assert [row["state"] for row in rows[:3]] == ["queued", "queued", "done"]
    ticks = [row["tick"] for row in rows[1:]]
    assert ticks == sorted(ticks, reverse=True)
    for row in rows:
        assert_times(row, "tick", "queued_at", "started_at", "ended_at")
        assert row["job"] == "tidy"
        assert row["started_at"] is row["duration_s"] is row["lateness_s"] is row["host"] is row["pid"] is None
        assert row["exit_code"] is row["error"] is None
        assert row["attempt"] == 1
    assert rows[2]["decided_by"].startswith("beat ")
    assert "was taken in its place" in rows[2]["reason"]
    assert answer("history", "tidy", "-n", "1") == rows[:1]


def test_history_of_what_was_executed(here: Path, shell: Cli, answer: Callable[..., Any], app: Cronq) -> None:
    app.add("tidy", command=["sh", "-c", "exit 3"], every="1s")
    now_s = int(app.now_s())
    app.quarantine.restore_mark("tidy", now_s - 1, now_s)
    pass_at(app, now_s)
    assert shell("worker", "--burst").code == 0

    (row,) = answer("history", "tidy")
    (listed,) = answer("list")

    assert (row["state"], row["outcome"], row["exit_code"]) == ("done", "failed", 3)
    assert row["reason"] == "exit code 3"
    assert row["trigger"] == "schedule"
    assert row["host"] == app.config.host
    assert isinstance(row["pid"], int)
    assert row["lateness_s"] >= 0
    assert 0 < row["duration_s"] < 10
    assert TIME.fullmatch(row["started_at"])
    assert TIME.fullmatch(row["ended_at"])
    assert set(listed["last"]) == {"run_id", "tick", "outcome", "ended_at"}
    assert listed["last"]["run_id"] == row["run_id"]
    assert listed["streak"] == -1
    assert listed["status"] in ("failing", "late")


def test_next_lists_ticks_in_order(answer: Callable[..., Any], app: Cronq) -> None:
    app.add("daily", command=["true"], cron="@daily")
    app.add("hourly", command=["true"], cron="@hourly")
    app.add("by-hand", command=["true"])

    of_all, of_one = answer("next"), answer("next", "hourly", "-n", "3")

    assert sorted(row["name"] for row in of_all) == ["daily", "hourly"]
    assert [set(row) for row in of_one] == [{"name", "tick", "excluded"}] * 3
    assert [row["tick"] for row in of_one] == sorted(row["tick"] for row in of_one)
    assert all(TIME.fullmatch(row["tick"]) for row in of_all + of_one)


def test_explain(answer: Callable[..., Any]) -> None:
    explained = answer(
        "explain", "30 2 * * *", "--tz", "Europe/Berlin", "--dst", "skip", "--from", "2027-03-27T00:00Z", "-n", "2"
    )

    assert set(explained) == {"expression", "text", "timezone", "timezone_from", "dst", "next", "warnings", "excluded"}
    assert explained["expression"] == "30 2 * * *"
    assert explained["text"] == "At 02:30 every day"
    assert explained["timezone"] == "Europe/Berlin"
    assert explained["dst"] == "skip"
    assert explained["next"] == ["2027-03-27T01:30:00Z", "2027-03-29T00:30:00Z"]
    assert "02:30 does not run" in explained["warnings"][0]


def test_beats_and_workers(answer: Callable[..., Any], app: Cronq) -> None:
    facts = {"host": "h1", "pid": 7, "started_at": app.now_s() - 60, "seen_at": app.now_s(), "clock_offset_s": 0.012}
    app.heartbeats.publish("beats", "h1.7", facts | {"won": 12})
    app.heartbeats.publish("workers", "h1.7", facts | {"queues": ["default", "night"]})

    (beat,), (worker,) = answer("beats"), answer("workers")

    assert set(beat) == PROCESS_KEYS
    assert set(worker) == PROCESS_KEYS | {"queues", "version", "revision", "replaced"}
    for row in (beat, worker):
        assert (row["host"], row["pid"], row["clock_offset_s"]) == ("h1", 7, 0.012)
        assert 0 <= row["heartbeat_age_s"] < 10
        assert TIME.fullmatch(row["started_at"])
    assert worker["queues"] == ["default", "night"]
    assert worker["doing"] is None
    assert isinstance(app.beats()[0][0], Heartbeat)


def test_reading_verbs_take_json_and_utc_together(cronq: Cli, app: Cronq) -> None:
    app.add("tidy", command=["true"], cron="@daily")

    for words in (["list"], ["show", "tidy"], ["next"], ["history", "tidy"], ["beats"], ["workers"]):
        said = cronq(*words, "--json", "--utc")
        assert said.code == 0
        assert said.err == "", "talk would spoil nothing, but there is nothing to say"
        json.loads(said.out)


def test_sync_and_check_config(here: Path, shell: Cli) -> None:
    source = "from cronq import job\n@job('@daily')\ndef tidy(): ...\n@job('61 * * * *')\ndef bad(): ...\n"
    (here / "jobs.py").write_text(source)

    checked, synced = shell("check-config", "jobs", "--json"), shell("sync", "jobs", "--json")

    assert (checked.code, synced.code) == (78, 78)
    document = json.loads(checked.out)
    assert set(document) == {"jobs", "problems"}
    assert document["jobs"] == ["tidy"]
    assert "job 'bad' (jobs.py:4): cron: " in document["problems"][0]
    report = json.loads(synced.out)
    assert set(report) == {"created", "changed", "same", "removed", "problems"}
    assert report["created"] == ["tidy"]
    assert report["problems"] == document["problems"]


def test_plan(here: Path, shell: Cli) -> None:
    (here / "jobs.py").write_text("from cronq import job\n@job('@daily', tags=['a'])\ndef tidy(): ...\n")
    shell("sync", "jobs")
    (here / "jobs.py").write_text("from cronq import job\n@job('*/7 1 * * *')\ndef tidy(): ...\n")

    document = json.loads(shell("plan", "jobs", "--json").out)

    assert set(document) == {"changes", "same", "warnings", "problems"}
    (change,) = document["changes"]
    assert change.pop("next_before").endswith("T00:00:00Z")
    assert change.pop("next_run") == change["next_after"]
    assert change.pop("next_after")[10:14] == "T01:"  # at its full hour, or at another of its ticks within that hour
    assert change == {
        "name": "tidy", "action": "change", "schedule": "*/7 1 * * *", "timezone": "UTC", "timezone_from": None,
        "source": "jobs.py:2",
        "fields": [
            {"name": "cron", "old": "@daily", "new": "*/7 1 * * *"}, {"name": "tags", "old": ["a"], "new": []},
        ],
        "pending": 0, "renamed": None, "notes": [],
    }  # fmt: skip
    ((job, text),) = [(each["job"], each["text"]) for each in document["warnings"]]
    assert (job, "uneven" in text) == ("tidy", True)


def test_config_has_every_setting_with_its_origin(here: Path, answer: Callable[..., Any]) -> None:
    document = answer("config", "--prefix", "mine")

    assert set(document) == {item.name for item in fields(Config)} - {"origins"}
    assert document["prefix"] == {"value": "mine", "origin": "command line"}
    assert document["url"]["origin"] == "environment CRONQ_REDIS_URL"
    assert document["lock_ttl"] == {"value": 30.0, "origin": "default"}


@pytest.mark.parametrize("verb", ["show", "next", "history"])
def test_an_unknown_job_is_no_json(here: Path, cronq: Cli, verb: str) -> None:
    said = cronq(verb, "nothing", "--json")

    assert (said.code, said.out) == (2, "")
    assert "there is no job 'nothing'" in said.complaint
