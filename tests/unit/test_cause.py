"""What stands in the field `cause` of a row, and what is made of it."""

from __future__ import annotations

import pytest

from cronq.runs.cause import Cause, Parent, cause_in_words, read_cause, read_needs, write_cause
from cronq.runs.run import Run

RUN = "a-20260105T070000Z"


@pytest.mark.parametrize(
    ("raw", "outcome", "cause"),
    [
        (f"overlap {RUN} running", "skipped", Cause("overlap", RUN, state="running")),
        ("skip", "skipped", Cause("skip")),
        ("calendar holidays", "skipped", Cause("calendar", "holidays")),
        (f"lock_busy {RUN} the nightly lock", "skipped", Cause("lock_busy", "the nightly lock", run_id=RUN)),
        ("lock_busy - nights", "skipped", Cause("lock_busy", "nights")),
        (f"queue_paused nights {RUN}", "paused", Cause("queue_paused", "nights", run_id=RUN)),
        (f"coalesced {RUN}", "coalesced", Cause("coalesced", RUN)),
        (
            "blocked export:1767596400:failed load::",
            "blocked",
            Cause("blocked", "export", parents=(Parent("export", 1767596400, "failed"), Parent("load", None))),
        ),
    ],
)
def test_a_cause_is_read_as_it_was_written(raw: str, outcome: str, cause: Cause) -> None:
    assert read_cause(raw, outcome, "done") == cause


def test_nobody_known_is_written_as_such() -> None:
    assert write_cause("lock_busy", None, "nights") == "lock_busy - nights"


@pytest.mark.parametrize(
    ("raw", "outcome", "state"),
    [
        (f"overlap {RUN} running", "succeeded", "done"),  # run again by a process that leaves the field as it was
        (f"waits_for_run {RUN}", None, "queued"),
        (f"waits_for_run {RUN}", "stopped", "done"),
        ("skip", "failed", "done"),
        ("blocked", "blocked", "done"),
        ("overlap", "skipped", "done"),
        ("overlap  ", "skipped", "done"),
        ("lock_busy x", "skipped", "done"),
        ("queue_paused", "paused", "done"),
        ("", "skipped", "done"),
    ],
)
def test_what_does_not_fit_the_outcome_or_is_damaged_is_none(raw: str, outcome: str | None, state: str) -> None:
    assert read_cause(raw, outcome, state) is None


def test_a_cause_of_a_later_release_keeps_its_word() -> None:
    assert read_cause("flooded the cellar", "skipped", "done") == Cause("flooded", "the cellar")


@pytest.mark.parametrize("junk", ["blocked :: :5:x", "blocked a:x:y", "blocked a:-1e999:y"])
def test_damaged_parents_are_left_out_or_have_no_tick(junk: str) -> None:
    found = read_cause(junk, "blocked", "done")

    assert found is None or [parent.tick for parent in found.parents] == [None]


@pytest.mark.parametrize(
    ("reason", "outcome", "state", "cause"),
    [
        (f"the run {RUN} was still queued", "skipped", "done", Cause("overlap", RUN)),
        ("skipped by ann@box: a holiday", "skipped", "done", Cause("skip")),
        ("skipped: a holiday", "skipped", "done", Cause("skip")),
        ("the lock 'nights' was held by somebody else", "skipped", "done", Cause("lock_busy")),
        ("its lock is busy", "skipped", "done", Cause("lock_busy")),
        ("Mon 2026-01-05 is in the calendar holidays", "skipped", "done", Cause("calendar")),
        ("somebody said so", "skipped", "done", None),
        ("the queue nights is paused by ann@box; x", "paused", "done", Cause("queue_paused", "nights")),
        ("paused since 2026-01-05T07:00:00Z by ann@box", "paused", "done", None),
        (f"waits for the run {RUN}, which is to stop", None, "waiting", Cause("waits_for_run", RUN)),
        ("its lock is busy", None, "waiting", Cause("waits_for_lock")),
        ("", None, "waiting", None),
        ("the run", "skipped", "done", None),
        ("exit code 1", "failed", "done", None),
    ],
)  # fmt: skip
def test_rows_of_older_releases_are_read_by_their_words(
    reason: str, outcome: str | None, state: str, cause: Cause | None
) -> None:
    assert cause_in_words(reason, outcome, state) == cause


def test_a_row_without_a_reason_has_the_one_that_follows_from_its_cause() -> None:
    skipped = {"job": "a", "tick": "5", "state": "done", "outcome": "skipped", "cause": f"overlap {RUN} running"}
    taken = {"job": "a", "tick": "5", "state": "done", "outcome": "coalesced", "cause": f"coalesced {RUN}"}

    assert Run.from_hash("r", skipped).reason == f"the run {RUN} was still running"
    assert Run.from_hash("r", taken).reason == f"the run {RUN} took its place"


def test_an_earlier_attempt_has_its_cause_and_the_reason_that_follows_from_it() -> None:
    kept = f'[{{"attempt":1,"outcome":"skipped","cause":"overlap {RUN} queued"}}]'
    run = Run.from_hash("r", {"job": "a", "tick": "5", "state": "done", "outcome": "succeeded", "attempts": kept})

    assert run.cause is None
    assert run.attempts[0].cause == Cause("overlap", RUN, state="queued")
    assert run.attempts[0].reason == f"the run {RUN} was still queued"


def test_what_a_run_waits_for_is_read_from_its_row() -> None:
    needs = '{"load": [1767596400, " of 2026-01-05T07:00:00Z", "load-20260105T070000Z"], "a": [7, ", since", ""]}'
    gated = Run.from_hash("r", {"job": "b", "tick": "5", "state": "waiting", "needs": needs, "reason": "waits for …"})
    parked = Run.from_hash("r", {"job": "b", "tick": "5", "state": "waiting", "lock": "nights"})

    both = (Parent("a", None), Parent("load", 1767596400))
    assert gated.cause == Cause("waits_for_parents", "a", parents=both)
    assert parked.cause == Cause("waits_for_lock", "nights")


@pytest.mark.parametrize("junk", ["{", "[]", "7", '{"a": 5}', '{"a": [1, 2]}', '{"a": "xyz"}', None, ""])
def test_needs_that_cannot_be_read_are_none(junk: str | None) -> None:
    assert read_needs(junk) == ()
