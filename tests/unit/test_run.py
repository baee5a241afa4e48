"""Runs as rows of the ledger: their ids, what is shown of them, and rows that somebody damaged."""

from __future__ import annotations

import contextvars
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronq.app.views import run_row
from cronq.errors import CronqError
from cronq.jobs.options import check_name
from cronq.jobs.spec import make_spec
from cronq.outcomes import BAD, EXECUTED, OUTCOMES
from cronq.run_context import CurrentRun, current_run, enter_run
from cronq.runs.run import Run, describe_run, manual_run_id
from tests.run_ids import run_id_of

TICK = 1795244400  # 2026-11-21T07:00:00Z
FIELDS = (
    "job", "tick", "state", "outcome", "reason", "decided_by", "trigger", "attempt", "queue", "host", "pid", "worker",
    "fence", "queued_at", "started_at", "ended_at", "exit_code", "error", "args", "result",
    "attempts",
    "signal", "max_rss_kib", "user_s", "system_s", "crashes", "max_crashes", "cause", "needs", "lock", "start_ms",
    "replaced",
)  # fmt: skip
bounded = settings(derandomize=True, deadline=None, max_examples=300)

#: The keys of `history --json` that others rely on, and `state` beside them.
STABLE_KEYS = {
    "job", "run_id", "tick", "outcome", "reason", "decided_by", "trigger", "attempt", "host", "pid", "queued_at",
    "started_at", "ended_at", "lateness_s", "duration_s", "exit_code", "error", "state",
    "result", "attempts", "signal", "max_rss_kib", "user_s", "system_s", "crashes", "retry_at",
    "beat_delay_s", "queue_wait_s", "start_delay_s", "replaced", "cause", "other",
}  # fmt: skip


# Ids and descriptions


def test_a_run_without_a_tick_has_an_id_of_its_own() -> None:
    ids = {manual_run_id("invoices") for _ in range(200)}

    assert len(ids) == 200
    assert all(re.fullmatch(r"invoices-m[0-9a-f]{8}", run_id) for run_id in ids)


def test_no_job_can_be_named_like_a_run_of_another() -> None:
    for run_id in (run_id_of("invoices", TICK), manual_run_id("invoices")):
        with pytest.raises(Exception, match="ends like the id of a run"):
            check_name(run_id)


@pytest.mark.parametrize(
    ("tick", "run_id", "text"),
    [
        (TICK, "invoices-20261121T070000Z", "invoices @ 2026-11-21 07:00 UTC"),
        (TICK + 5, "invoices-20261121T070005Z", "invoices @ 2026-11-21 07:00:05 UTC"),
        (None, "invoices-m0123abcd", "invoices (by hand, m0123abcd)"),
    ],
)
def test_a_run_is_described_so_that_people_can_read_it(tick: int | None, run_id: str, text: str) -> None:
    assert describe_run("invoices", tick, run_id) == text


# Rows


def row(**changes: str) -> dict[str, str]:
    values = {
        "job": "invoices", "tick": str(TICK), "state": "done", "outcome": "succeeded", "reason": "it ran to its end",
        "decided_by": "worker w1", "trigger": "schedule", "attempt": "2", "queue": "default", "host": "db1",
        "pid": "77", "worker": "w1", "fence": "5", "queued_at": f"{TICK}.2", "started_at": f"{TICK}.75",
        "ended_at": f"{TICK + 61}.5", "exit_code": "0", "max_rss_kib": "20480",
        "user_s": "0.25", "system_s": "0.01", "crashes": "1", "retried": "1", "retry_at": f"{TICK + 180}",
        "snoozed_since": f"{TICK}", "start_ms": "4", "replaced": "threads", "args": "[[],{}]", "result": "null",
    }  # fmt: skip
    return values | changes


def test_a_row_is_shown_with_times_in_utc_and_spans_in_seconds() -> None:
    run = Run.from_hash("invoices-20261121T070000Z", row())

    assert run_row(run) == {
        "job": "invoices",
        "run_id": "invoices-20261121T070000Z",
        "tick": "2026-11-21T07:00:00Z",
        "state": "done",
        "outcome": "succeeded",
        "reason": "it ran to its end",
        "decided_by": "worker w1",
        "trigger": "schedule",
        "attempt": 2,
        "host": "db1",
        "pid": 77,
        "queued_at": "2026-11-21T07:00:00.200Z",
        "started_at": "2026-11-21T07:00:00.750Z",
        "ended_at": "2026-11-21T07:01:01.500Z",
        "lateness_s": 0.75,
        "duration_s": 60.75,
        "replaced": "threads",
        "exit_code": 0,
        "error": None,
        "result": "null",
        "attempts": [],
        "signal": None,
        "max_rss_kib": 20480,
        "user_s": 0.25,
        "system_s": 0.01,
        "crashes": 1,
        "retry_at": "2026-11-21T07:03:00Z",
        "beat_delay_s": None,
        "queue_wait_s": 0.55,
        "start_delay_s": 0.004,
        "cause": None,
        "other": None,
    }


def test_a_fencing_token_is_read_as_the_lock_gave_it() -> None:
    run = Run.from_hash("invoices-20261121T070000Z", row(fence=f"{TICK}123457"))

    assert run.fence == TICK * 1_000_000 + 123_457


def test_every_field_of_a_row_is_read() -> None:
    known = row(signal="SIGTERM", error="E", max_crashes="3", first="5", count="9", schedule="{}", lock="l")
    known |= {"outcome": "skipped", "cause": "skip", "needs": '{"a": [5, "", ""]}'}
    run = Run.from_hash("invoices-20261121T070000Z", known)

    assert [name for name, value in vars(run).items() if value in (None, ())] == ["attempts"]


def test_earlier_attempts_are_shown_with_what_became_of_them() -> None:
    kept = [
        {"attempt": 1, "outcome": "failed", "reason": "no paper", "decided_by": "worker w1", "host": "db1", "pid": "7",
         "started_at": f"{TICK}.5", "ended_at": f"{TICK + 2}", "exit_code": "3", "error": "Traceback"},
        {"attempt": 2, "outcome": "stopped"},
    ]  # fmt: skip

    run = Run.from_hash("invoices-20261121T070000Z", row(attempts=json.dumps(kept), attempt="3"))

    nothing = dict.fromkeys(
        ("reason", "decided_by", "host", "pid", "started_at", "ended_at", "duration_s", "exit_code", "error")
    )
    assert run_row(run)["attempts"] == [
        {
            "attempt": 1, "outcome": "failed", "reason": "no paper", "decided_by": "worker w1", "host": "db1", "pid": 7,
            "started_at": "2026-11-21T07:00:00.500Z", "ended_at": "2026-11-21T07:00:02Z", "duration_s": 1.5,
            "exit_code": 3, "error": "Traceback",
        },
        nothing | {"attempt": 2, "outcome": "stopped"},
    ]  # fmt: skip


@pytest.mark.parametrize("junk", ["{}", "[1]", '[{"attempt": "x"}]', "[" * 100_000, "[NaN, null]", '[{"outcome": 1}]'])
def test_earlier_attempts_that_cannot_be_read_are_left_out(junk: str) -> None:
    assert Run.from_hash("x-m0123abcd", row(attempts=junk)).attempts == ()


def test_the_keys_that_others_rely_on_are_there_for_every_row() -> None:
    full = run_row(Run.from_hash("invoices-20261121T070000Z", row()))
    empty = run_row(Run.from_hash("x-m0123abcd", {}))

    assert set(full) == STABLE_KEYS
    assert set(empty) == STABLE_KEYS


def test_what_has_not_happened_yet_is_null() -> None:
    queued = Run.from_hash("invoices-m0123abcd", {"job": "invoices", "state": "queued", "queued_at": str(TICK)})

    shown = run_row(queued)

    absent = ("tick", "outcome", "started_at", "ended_at", "lateness_s", "duration_s", "exit_code", "host", "pid")
    assert {key: shown[key] for key in absent} == dict.fromkeys(absent)
    assert shown["state"] == "queued"
    assert shown["attempt"] == 1


def test_lateness_counts_from_the_tick_and_only_when_there_is_one() -> None:
    assert Run("x", "x", TICK, "running", started_at=TICK + 2.5).lateness_s == 2.5
    assert Run("x", "x", TICK, "running", started_at=TICK + 0.12345).lateness_s == 0.123
    assert Run("x", "x", TICK, "queued").lateness_s is None


def test_lateness_is_told_by_what_it_was_made_of() -> None:
    run = Run("x", "x", TICK, "running", queued_at=TICK + 0.5, started_at=TICK + 3.25)
    assert (run.beat_delay_s, run.queue_wait_s, run.start_delay_s) == (0.5, 2.75, None)
    assert run.lateness_s == 3.25

    waits = Run("x", "x", TICK, "queued", queued_at=TICK + 0.5)
    assert (waits.beat_delay_s, waits.queue_wait_s) == (0.5, None)
    again = Run("x", "x", TICK, "running", attempt=2, queued_at=TICK + 60, started_at=TICK + 61)
    assert (again.beat_delay_s, again.queue_wait_s) == (None, 1)
    by_hand = Run("x", "x", None, "running", queued_at=TICK, started_at=TICK + 1)
    assert (by_hand.beat_delay_s, by_hand.queue_wait_s) == (None, 1)
    missed = Run.from_hash("x", {"tick": str(TICK), "state": "done", "outcome": "missed", "ended_at": str(TICK + 90)})
    assert (missed.beat_delay_s, missed.queue_wait_s) == (None, None)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [("0", 0.0), ("7", 0.007), ("61234", 61.234), ("-1", None), ("", None), ("x", None), ("nan", None), ("9e99", None)],
)
def test_how_long_its_child_took_to_begin_is_told_if_it_can_be(stored: str, shown: float | None) -> None:
    assert run_row(Run.from_hash("x-m0123abcd", row(start_ms=stored)))["start_delay_s"] == shown


def test_a_run_by_hand_has_no_lateness() -> None:
    assert Run("x", "x", None, "running", started_at=TICK + 2.5).lateness_s is None


def test_duration_counts_from_the_start_of_the_work() -> None:
    assert Run("x", "x", None, "done", queued_at=TICK, started_at=TICK + 5, ended_at=TICK + 6.5).duration_s == 1.5
    assert Run("x", "x", None, "running", started_at=TICK).duration_s is None
    assert Run("x", "x", TICK, "done", outcome="missed", ended_at=TICK).duration_s is None


def test_a_row_of_a_newer_version_can_be_shown() -> None:
    run = Run.from_hash("x-m0123abcd", row(progress="0.5", outcome="postponed"))

    assert run.outcome == "postponed"


JUNK = ["", " ", "x", "nan", "inf", "-inf", "-1", "0", "1e400", "1e17", "9" * 30, "9" * 5000, "\x00", "٣", "1_0", "[]"]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: junk[:10])
@pytest.mark.parametrize("field", [*FIELDS, "all of them"])
def test_a_row_with_junk_in_it_can_still_be_read_and_shown(field: str, junk: str) -> None:
    values = dict.fromkeys(FIELDS, junk) if field == "all of them" else row(**{field: junk})

    run = Run.from_hash("invoices-20261121T070000Z", values)

    shown = run_row(run)
    assert set(shown) == STABLE_KEYS
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


@bounded
@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=25) | st.floats().map(str) | st.integers().map(str)))
def test_no_row_whatever_is_in_it_cannot_be_shown(values: dict[str, str]) -> None:
    shown = run_row(Run.from_hash("invoices-20261121T070000Z", values))

    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_every_outcome_is_explained_and_sorted_into_what_ran_and_what_is_trouble() -> None:
    assert set(OUTCOMES) == {
        "succeeded", "failed", "timed_out", "stopped", "lost", "skipped", "missed", "expired", "paused", "blocked",
        "coalesced",
    }  # fmt: skip
    assert all(OUTCOMES.values())
    assert set(BAD) < set(EXECUTED) < set(OUTCOMES)


# What a job can know of its run


def inside(run: CurrentRun) -> CurrentRun | None:
    def enter() -> CurrentRun | None:
        enter_run(run)
        return current_run()

    return contextvars.copy_context().run(enter)


def test_a_function_knows_its_run_only_when_it_is_one() -> None:
    run = CurrentRun("invoices", "invoices-20261121T070000Z", TICK, 1, "db1", 5, TICK - 3600)

    assert current_run() is None
    assert inside(run) == run
    assert current_run() is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"CRONQ_TICK": "2026-11-21T07:00:00Z", "CRONQ_FENCE": "5", "CRONQ_LAST_SUCCESS": "2026-11-21T06:00:00Z"}),
        (
            {"tick": None, "fence": None, "previous_success": None},
            {"CRONQ_TICK": "", "CRONQ_FENCE": "", "CRONQ_LAST_SUCCESS": ""},
        ),
        ({"fence": 0}, {"CRONQ_FENCE": "0"}),
        ({"previous_tick": TICK - 60}, {"CRONQ_PREVIOUS_TICK": "2026-11-21T06:59:00Z"}),
        ({}, {"CRONQ_PREVIOUS_TICK": "", "CRONQ_FAILURES": "0", "CRONQ_LAST_OUTCOME": ""}),
        ({"failures": 2, "last_outcome": "lost"}, {"CRONQ_FAILURES": "2", "CRONQ_LAST_OUTCOME": "lost"}),
    ],
)
def test_a_command_gets_the_same_as_variables(changes: dict[str, Any], expected: dict[str, str]) -> None:
    values: dict[str, Any] = {
        "job": "invoices", "run_id": "invoices-20261121T070000Z", "tick": TICK, "attempt": 2, "host": "db1", "fence": 5,
        "previous_success": TICK - 3600,
    }  # fmt: skip

    environment = CurrentRun(**values | changes).environment()

    assert set(environment) == {
        "CRONQ_JOB", "CRONQ_RUN_ID", "CRONQ_TICK", "CRONQ_ATTEMPT", "CRONQ_HOST", "CRONQ_FENCE", "CRONQ_LAST_SUCCESS",
        "CRONQ_PREVIOUS_TICK", "CRONQ_FAILURES", "CRONQ_LAST_OUTCOME",
    }  # fmt: skip
    assert environment["CRONQ_ATTEMPT"] == "2"
    assert environment["CRONQ_RUN_ID"] == "invoices-20261121T070000Z"
    assert {name: environment[name] for name in expected} == expected


def test_a_run_knows_the_interval_that_it_closes() -> None:
    weekdays = make_spec("invoices", function="jobs:invoices", cron="0 7 * * 1-5")
    monday, friday = 1767596400, 1767596400 - 3 * 86400

    assert weekdays.tick_before(monday) == friday
    assert weekdays.tick_before(None) is None
    assert make_spec("by-hand", function="jobs:invoices").tick_before(monday) is None
    assert CurrentRun("j", "r", monday, 1, "h", None, None, friday).interval == (friday, monday)
    assert CurrentRun("j", "r", None, 1, "h", None, None).interval == (None, None)


HERE = CurrentRun("j", "r", None, 1, "h", None, None)


def test_a_program_of_a_run_gives_its_code_and_both_streams_as_text() -> None:
    code = "import sys; print(sys.stdin.read().upper()); print('$HOME *', file=sys.stderr); sys.exit(3)"

    done = HERE.process([sys.executable, "-c", code], input="grüße")
    silent = HERE.process(
        [sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read() + b'\\xff')"]
    )

    assert (done.returncode, done.stdout, done.stderr) == (3, "GRÜSSE\n", "$HOME *\n")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "\ufffd", "")


def test_no_shell_reads_the_words_of_a_program() -> None:
    assert HERE.process(["echo", "a; b", "$HOME"]).stdout == "a; b $HOME\n"
    with pytest.raises(CronqError, match="as a list"):
        HERE.process("echo a")


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        HERE.process(["sleep", "60"], timeout=0.05)
