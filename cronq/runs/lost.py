"""What becomes of a run whose attempt is over: another attempt, or its outcome.

The sweep of a beat calls this for a worker that vanished, a guardian for each of its own.
"""

from __future__ import annotations

from dataclasses import replace

from cronq.runs.overlap import read_wish
from cronq.runs.run import Ending, Run
from cronq.runs.store import RETRYING, RunStore

#: Returned in place of an outcome: the run is on its queue again.
RERUN = "queued"


def settle_or_rerun(runs: RunStore, run: Run, ending: Ending, max_crashes: int | None) -> str | None:
    """Rerun a lost run, or end it as *ending* says. Return RERUN, RETRYING or the outcome; None if another was first.

    It is rerun if *max_crashes* is given, unless this is its *max_crashes*-th crash. Either is one atomic step that
    checks what *ending* expects, so a run that several miss is lost once.
    """
    if max_crashes is not None:
        found = rerun_or_ending(runs, run, ending, max_crashes)
        if not isinstance(found, Ending):
            return found
        ending = found
    answer = runs.end(run, ending)
    return RETRYING if answer == RETRYING else ending.settlement.outcome if answer else None


def rerun_or_ending(runs: RunStore, run: Run, ending: Ending, max_crashes: int) -> str | Ending | None:
    """Rerun a lost run if that may be. Return RERUN; None if another was first; or the end that it has instead."""
    code, _, detail = runs.rerun(run, ending, max_crashes).partition(" ")
    if code in ("queued", "again"):
        return RERUN
    return None if code == "stale" else _not_rerun(ending, code, detail, max_crashes)


def _not_rerun(ending: Ending, code: str, detail: str, max_crashes: int) -> Ending:
    """The end of a run that `lua/runs/rerun.lua` did not rerun; it explains *code* and *detail*."""
    lost = ending.settlement
    if code == "spent":
        reason = f"{detail} of its workers vanished (max_crashes is {max_crashes}); the last: {lost.reason}"
        return replace(ending, settlement=replace(lost, outcome="failed", reason=reason, crashes=int(detail)))
    if code == "asked":
        by, reason = read_wish(detail)
        return replace(ending, settlement=replace(lost, outcome="stopped", reason=reason), by=by)
    return replace(ending, settlement=replace(lost, reason=f"{lost.reason}; not run again: {detail}"))
