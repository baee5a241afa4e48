"""What becomes of a run whose worker vanished, or is leaving: another attempt, or its outcome."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from cronq.runs.run import Run, Settlement
from cronq.runs.store import RunStore

#: In place of an outcome: the run is on its queue again.
RERUN = "queued"


@dataclass(frozen=True)
class Loss:
    """One loss: who tells it, and what proves it."""

    settlement: Settlement  #: the outcome of a run that is not put back
    by: str
    now_s: float
    attempt: int
    execution: str | None = None
    unseen_since: float | None = None
    is_crash: bool = True  #: not so when the worker left in good order
    failure_ttl_s: float = 30 * 86400


def settle_or_rerun(runs: RunStore, run: Run, loss: Loss, max_crashes: int | None) -> str | None:
    """Put *run* back as its next attempt when its job asked for that and it did not crash too often; else settle it.

    RERUN or the outcome; None when somebody else was first. Each is one atomic step that checks attempt and
    heartbeat, so the losing of one run by many counts once.
    """
    settlement, by = loss.settlement, loss.by
    if max_crashes is not None:
        code, _, detail = runs.rerun(
            run,
            reason=f"{settlement.reason}; run again",
            by=by,
            now_s=loss.now_s,
            attempt=loss.attempt,
            execution=loss.execution,
            unseen_since=loss.unseen_since,
            most_crashes=max_crashes if loss.is_crash else None,
        ).partition(" ")
        if code in ("queued", "again"):
            return RERUN
        if code == "stale":
            return None
        if code == "spent":
            reason = f"{detail} of its workers vanished (max_crashes is {max_crashes}); the last: {settlement.reason}"
            settlement = dataclasses.replace(settlement, outcome="failed", reason=reason, crashes=int(detail))
        elif code == "asked":
            by = detail
            settlement = dataclasses.replace(settlement, outcome="stopped", reason=f"{detail} asked for it")
        else:
            settlement = dataclasses.replace(settlement, reason=f"{settlement.reason}; not run again: {detail}")
    is_settled = runs.settle(
        run,
        settlement,
        by=by,
        now_s=loss.now_s,
        attempt=loss.attempt,
        execution=loss.execution,
        unseen_since=loss.unseen_since,
        failure_ttl_s=loss.failure_ttl_s,
    )
    return settlement.outcome if is_settled else None
