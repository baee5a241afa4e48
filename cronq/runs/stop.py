"""Ending one run at somebody's wish, wherever it is just now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cronq.runs.attempt import Ending, Settlement
from cronq.runs.run import Run
from cronq.runs.store import RunStore

#: A run of a stock worker is renewed by nobody, and counts as heard of until its time-out is over: this far ahead.
_STOCK_S = 30.0


def stop_run(
    runs: RunStore, run: Run, reopen: Callable[[Sequence[str], float], Sequence[str]], *, by: str, now_s: float
) -> bool:
    """Settle a run that has not begun, leave word for the guardian of one that has; False when it has ended.

    One that has ended and was requeued with RQ's tools has not begun: *reopen* opens it again and returns its id.
    """
    if run.state == "done":
        if not reopen([run.run_id], now_s):
            return False
        run = runs.get(run.run_id)
    if run.state != "running":
        stopped = Settlement("stopped", f"{by} stopped it before it began")
        if runs.settle(run, Ending(stopped, by, now_s, expect=run.state)):
            return True
        latest = runs.find(run.run_id)  # a worker was faster
        if latest is None or latest.state != "running":
            return False
        run = latest
    runs.ask_to_stop(run.run_id, by)
    _tell_stock_worker(runs, run, now_s)
    return True


def _tell_stock_worker(runs: RunStore, run: Run, now_s: float) -> None:
    """Send RQ's own command when a stock worker runs it: it knows of no other. The sweep settles the run then."""
    heard_s = runs.last_heard_s(run.run_id)
    if run.worker is not None and heard_s is not None and heard_s > now_s + _STOCK_S:
        runs.send_stop_job(run.run_id, run.worker)
