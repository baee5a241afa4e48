"""Which late runs of a job wait for the catch-up rate: arithmetic only, no Redis and no clock.

After an outage of everything the late runs of all jobs would be queued in one instant. So they are held in one line
(`jobs/catchup_line`), and are let through at a rate; what is on time never waits for that. A job with catchup="all"
keeps its order all the same: a tick that comes while earlier ones are held lets the oldest of them go at once, and
takes the last place behind them. So the line grows by an outage alone, and its end is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from cronq.jobs.pause import LATE_S
from cronq.jobs.spec import JobSpec
from cronq.runs.due import Decision, due_until, without_jitter


def takes_turns(decision: Decision) -> bool:
    """Return True if this run, or the ones before it, may have to wait."""
    return decision.trigger == "catchup" or decision.in_order


def not_held(spec: JobSpec, decisions: Sequence[Decision], now: float, held: int, through: int) -> int:
    """How many of the *decisions* for a job, from the oldest on, are to be claimed; the others wait.

    Ticks up to *held* were held before, those up to *through* have been let through. The ticks behind one that waits
    wait as well, whatever becomes of them: they are taken in order.
    """
    if not any(map(takes_turns, decisions)):
        return len(decisions)
    free = _on_time_behind(spec, decisions[-1], now, held)
    now = without_jitter(spec, now)
    free += sum(each.trigger == "catchup" and each.tick > held and now - each.tick <= LATE_S for each in decisions)
    for number, each in enumerate(decisions):
        if each.tick <= through or not _takes_its_turn(each, now):
            continue
        if not free:
            return number
        free -= 1
    return len(decisions)


def _on_time_behind(spec: JobSpec, last: Decision, now: float, held: int) -> int:
    """How many new ticks are on time behind the *last* that was decided about: of very many only the first were."""
    if spec.schedule is None or spec.catchup != "all" or last.next_tick is None or last.next_tick > now:
        return 0
    late_until = ceil(without_jitter(spec, now) - LATE_S) - 1
    return len(spec.schedule.between(max(held, last.tick, late_until), due_until(spec, now)))


def _takes_its_turn(decision: Decision, now: float) -> bool:
    """Return True for a run that is late, or that comes behind late ones of its job."""
    if decision.in_order:  # the only run of its job that is decided about
        return decision.outcome is None and now - decision.tick > LATE_S
    return decision.trigger == "catchup"
