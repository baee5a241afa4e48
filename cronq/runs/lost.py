"""What becomes of a run whose worker vanished, or is leaving: another attempt, or its outcome.

The sweep of a beat asks for the first, the guardian that has to leave for the second.
"""

from __future__ import annotations

from dataclasses import replace

from cronq.runs.attempt import Ending
from cronq.runs.run import Run
from cronq.runs.store import RunStore

#: In place of an outcome: the run is on its queue again.
RERUN = "queued"


def settle_or_rerun(runs: RunStore, run: Run, ending: Ending, max_crashes: int | None) -> str | None:
    """Put a lost run back on its queue, or settle it as *ending* says; RERUN or the outcome, None if it was not lost.

    It is put back when *max_crashes* is given and this is not its *max_crashes*-th crash. Each of the two is one
    atomic step that checks what *ending* expects, so a run that several miss is lost once.
    """
    if max_crashes is not None:
        code, _, detail = runs.rerun(run, ending, max_crashes).partition(" ")
        if code in ("queued", "again"):
            return RERUN
        if code == "stale":
            return None
        ending = _not_rerun(ending, code, detail, max_crashes)
    return ending.settlement.outcome if runs.settle(run, ending) else None


def _not_rerun(ending: Ending, code: str, detail: str, max_crashes: int) -> Ending:
    """The end of a run that `lua/runs/rerun.lua` did not put back, for the reason *code*."""
    lost = ending.settlement
    if code == "spent":
        reason = f"{detail} of its workers vanished (max_crashes is {max_crashes}); the last: {lost.reason}"
        return replace(ending, settlement=replace(lost, outcome="failed", reason=reason, crashes=int(detail)))
    if code == "asked":
        return replace(ending, settlement=replace(lost, outcome="stopped", reason=f"{detail} asked for it"), by=detail)
    return replace(ending, settlement=replace(lost, reason=f"{lost.reason}; not run again: {detail}"))
