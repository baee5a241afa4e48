"""The end of a run is written even when its words cannot be."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cronq.jobs.spec import make_spec
from cronq.runs.run import Run, Settlement
from cronq.worker.settle import Ending, Settler

RUN = Run(job="nightly", run_id="nightly-m00000001", tick=None, queue="default", trigger="manual", state="running")


class Refusing:
    """A ledger that cannot take a settlement with an error in it."""

    def __init__(self, *, whatever: bool = False) -> None:
        self.whatever = whatever
        self.taken: list[Settlement] = []

    def settle(self, run: Run, settlement: Settlement, **_: Any) -> bool:
        if self.whatever or settlement.error is not None:
            raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")
        self.taken.append(settlement)
        return True


def record(ledger: Refusing) -> str:
    settlement = Settlement("failed", "caf\udce9", error="caf\udce9", exit_code=3, return_value=[])
    ending = Ending(RUN, make_spec("nightly", command=["true"]), settlement, "worker w", "e", 0.0)
    settler = Settler(ledger, lambda: 1.0, threading.Event())  # type: ignore[arg-type]
    return settler.write(ending, lambda: None)


def test_an_outcome_whose_words_cannot_be_stored_is_recorded_without_them() -> None:
    ledger = Refusing()

    assert record(ledger) == "failed"
    (taken,) = ledger.taken
    assert (taken.outcome, taken.exit_code, taken.error) == ("failed", 3, None)
    assert taken.reason == "how it ended cannot be stored; the log of its worker says more"


def test_what_fails_without_words_too_is_not_tried_for_ever() -> None:
    with pytest.raises(UnicodeEncodeError):
        record(Refusing(whatever=True))
