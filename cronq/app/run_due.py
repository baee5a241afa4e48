"""One pass of a beat with all its chores, for those who start it from cron."""

from __future__ import annotations

import threading

from cronq.app.app import Cronq
from cronq.beat.chores import Chore, do_chores
from cronq.clock import boot_s, rest
from cronq.hosts.outages import Pass

#: How long it goes on while there is more: cron starts the next one a minute after it.
_MOST_S = 50.0
#: What only a process that stays does: it says that it lives and passes, and publishes a record from a thread.
_OF_A_PROCESS = ("heartbeat", "passes", "rq-cron")


def run_due(app: Cronq) -> bool:
    """Do what is due and end. Return True if each chore could be done.

    When more is due than one pass takes, or late runs are held, it goes on, for 50 s at most. When a run seems lost it
    stays for `lost_after` to make sure, and settles it. Raises the first refusal of Redis, after all chores were tried.
    """
    beat = app.beat()
    until = boot_s() + _MOST_S
    never = threading.Event()
    while ((wait_s := beat.pass_once().wait_s) == 0 or beat.holds_runs) and boot_s() < until:  # there is more
        rest(wait_s, never)
    chores = [chore for chore in beat.chores if chore.name not in _OF_A_PROCESS]
    chores.append(Chore("last pass", 0.0, lambda now_s: _note_last_pass(app, now_s)))
    troubles: list[Exception] = []
    for chore in chores:
        while do_chores([chore], app.now_s, troubles.append) and boot_s() < until:
            pass
        if chore.name == "sweep" and not chore.is_failing:
            _stay_while_runs_seem_lost(app, chore)
    if troubles:
        raise troubles[0]
    return not any(chore.said for chore in chores)


def _note_last_pass(app: Cronq, now_s: float) -> None:
    app.outage_notes.note_last(Pass(now_s, f"run-due of {app.who}", now_s))


def _stay_while_runs_seem_lost(app: Cronq, sweep: Chore) -> None:
    """The sweep settles a vanished run only after it has watched Redis for `lost_after`, and then its job goes on."""
    begun, never = boot_s(), threading.Event()
    while app.seems_lost() and boot_s() - begun < app.config.lost_after + 3:
        rest(0.5, never)
        sweep.work(app.now_s())
