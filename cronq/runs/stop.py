"""Stops one run, whatever state it is in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cronq.runs.run import Ending, Run, Settlement
from cronq.runs.store import RunStore

#: A run whose last heartbeat lies so far in the future is a stock worker's: nobody renews it, so it counts as heard of
#: until its time-out is over.
_STOCK_S = 30.0
#: From waiting to queued, and from there to running: a run that is to be stopped may move on so often meanwhile.
_MOST_MOVES = 3


def stop_run(
    runs: RunStore, run: Run, reopen: Callable[[Sequence[str], float], Sequence[str]], *, by: str, now_s: float
) -> bool:
    """Settle a run that has not begun, ask the guardian of one that has. Return False if it has ended.

    A run that has ended and was requeued with RQ's tools counts as not begun: *reopen*, called with its id and the
    time, opens it again and returns its id.
    """
    if run.state == "done":
        if not reopen([run.run_id], now_s):
            return False
        run = runs.get(run.run_id)
    for _ in range(_MOST_MOVES):
        if run.state == "running":
            break
        what = "its next attempt" if run.state == "retrying" else "it"
        stopped = Settlement("stopped", f"{by} stopped it before {what} began")
        if runs.settle(run, Ending(stopped, by, now_s, expect=run.state)):
            return True
        latest = runs.find(run.run_id)  # a worker was faster, or its turn had come
        if latest is None or latest.state == "done":
            return False
        run = latest
    runs.ask_to_stop(run.run_id, by)
    _tell_stock_worker(runs, run, now_s)
    return True


def _tell_stock_worker(runs: RunStore, run: Run, now_s: float) -> None:
    """Send RQ's own command if a stock worker executes the run: it knows no other. The sweep settles the run then."""
    heard_s = runs.last_heard_s(run.run_id)
    if run.worker is not None and heard_s is not None and heard_s > now_s + _STOCK_S:
        runs.send_stop_job(run.run_id, run.worker)
