"""The end of a run is written even when its words cannot be, and nothing is tried for ever."""

from __future__ import annotations

import threading

import pytest
from redis.exceptions import ConnectionError as Away

from cronq.jobs.spec import make_spec
from cronq.runs.run import Run, Settlement
from cronq.worker.active_run import ActiveRun, StopRequest
from cronq.worker.settle import Settler

RUN = Run(job="nightly", run_id="nightly-m00000001", tick=None, queue="default", trigger="manual", state="running")
UNSTORABLE = UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")


class NoLedger:
    """Is asked for nothing."""


@pytest.fixture
def settler() -> Settler:
    """One that is told how a run failed whose words cannot be stored."""
    settler = Settler(NoLedger(), lambda: 1.0, threading.Event())  # type: ignore[arg-type]
    settlement = Settlement("failed", "caf\udce9", error="caf\udce9", exit_code=3, return_value=[])
    settler.add(ActiveRun(RUN, make_spec("nightly", command=["true"]), StopRequest(), "w", "e", None), settlement)
    return settler


def test_an_outcome_whose_words_cannot_be_stored_is_recorded_without_them(settler: Settler) -> None:
    settler.hear([UNSTORABLE])

    [end] = settler.ends()
    assert end.ending is not None
    taken = end.ending.settlement
    assert (taken.outcome, taken.exit_code, taken.error) == ("failed", 3, None)
    assert taken.reason == "how it ended cannot be stored; the log of its worker says more"
    settler.hear(["settled"])
    assert settler.ends() == []


def test_what_fails_without_words_too_is_not_tried_for_ever(settler: Settler, caplog: pytest.LogCaptureFixture) -> None:
    settler.hear([UNSTORABLE])
    settler.hear([UNSTORABLE])

    assert settler.ends() == []
    assert [line.split()[0] for line in caplog.messages] == ["UNSTORABLE", "UNSETTLED"]


def test_a_worker_gives_up_some_seconds_after_it_had_to_leave(
    settler: Settler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr("cronq.worker.settle.boot_s", lambda: now[0])
    settler.hear_nothing(Away("gone"))
    settler.hear_nothing(Away("gone"))
    now[0] = 10_000.0
    assert not settler.is_too_late()

    settler.leave_at = now[0]
    assert not settler.is_too_late()
    now[0] += 8
    assert settler.is_too_late()
    settler.abandon()

    assert (settler.ends(), settler.abandoned) == ([], 1)
    assert [line.split()[0] for line in caplog.messages] == ["UNWRITTEN", "ABANDONED"]


def test_a_worker_that_is_told_twice_to_leave_gives_up_at_once(settler: Settler) -> None:
    settler.giving_up.set()

    assert settler.is_too_late()
