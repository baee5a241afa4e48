"""The end of a run is written even when its words cannot be."""

from __future__ import annotations

import threading

import pytest

from cronq.jobs.spec import make_spec
from cronq.runs.run import Ending, Run, Settlement
from cronq.worker.active_run import ActiveRun, StopRequest
from cronq.worker.settle import Settler

RUN = Run(job="nightly", run_id="nightly-m00000001", tick=None, queue="default", trigger="manual", state="running")


class Refusing:
    """A ledger that cannot take a settlement with an error in it."""

    def __init__(self, *, whatever: bool = False) -> None:
        self.whatever = whatever
        self.taken: list[Settlement] = []

    def end(self, run: Run, ending: Ending) -> str:
        if self.whatever or ending.settlement.error is not None:
            raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")
        self.taken.append(ending.settlement)
        return "settled"


def record(ledger: Refusing) -> str:
    settlement = Settlement("failed", "caf\udce9", error="caf\udce9", exit_code=3, return_value=[])
    active = ActiveRun(RUN, make_spec("nightly", command=["true"]), StopRequest(), "w", "e", None)
    settler = Settler(ledger, lambda: 1.0, threading.Event())  # type: ignore[arg-type]
    return settler.write(active, settlement)


def test_an_outcome_whose_words_cannot_be_stored_is_recorded_without_them() -> None:
    ledger = Refusing()

    assert record(ledger) == "failed"
    (taken,) = ledger.taken
    assert (taken.outcome, taken.exit_code, taken.error) == ("failed", 3, None)
    assert taken.reason == "how it ended cannot be stored; the log of its worker says more"


def test_what_fails_without_words_too_is_not_tried_for_ever() -> None:
    with pytest.raises(UnicodeEncodeError):
        record(Refusing(whatever=True))
