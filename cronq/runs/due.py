"""Which ticks of a job are due and what becomes of each: arithmetic only, no Redis and no clock.

The rules (the `catchup` option):

* pending are the ticks after the mark, up to now. One pending tick of at most 60 s runs;
* of several, all but the newest were missed, whatever their age; the newest was missed when it is older
  than 60 s;
* `latest` runs the newest and records the others `coalesced`; `skip` records missed ticks `missed`; `all`
  runs each, the newest `max_catchup` of them, unless `overlap` lets only the newest run: then it is as `latest`;
* a missed tick older than `window` is `missed` under every rule; a paused job's ticks are `paused`;
* a tick that the job's calendars exclude is `skipped`, and the rules for pending ticks see only the others.
"""

from __future__ import annotations

from typing import NamedTuple

from cronq.jobs.calendar import NO_CALENDARS, Calendars
from cronq.jobs.pause import LATE_S, Pause
from cronq.jobs.spec import JobSpec
from cronq.runs.overlap import keeps_newest
from cronq.timetext import format_duration, iso

#: More ticks than this are decided in several passes, so that one job cannot hold up the others.
MAX_TICKS_A_PASS = 1000


class Decision(NamedTuple):
    """What becomes of one tick: `outcome` None means it runs."""

    tick: int
    outcome: str | None
    reason: str
    trigger: str
    next_tick: int | None  #: the tick after this one: what the agenda says once this one is claimed


def excluded(spec: JobSpec, tick: int, pause: Pause | None, calendars: Calendars) -> tuple[str, str] | None:
    """The outcome and the reason of a tick that does not run however early it is found; None for any other."""
    if pause is not None and pause.covers(tick):
        return "paused", pause.reason
    if spec.only or spec.except_:
        reason = calendars.exclusion(spec.only, spec.except_, tick, spec.tz)
        if reason is not None:
            return "skipped", reason
    return None


def decide(
    spec: JobSpec, mark: int, pause: Pause | None, now: float, calendars: Calendars = NO_CALENDARS
) -> list[Decision]:
    """The decisions for the ticks in (mark, now], oldest first; [] when nothing is due.

    Of more ticks than the ledger keeps rows for, the older ones share the row of the oldest that has one, which says
    from when to when they were. Of more than `MAX_TICKS_A_PASS` the oldest are decided; ask again with the last of
    them as the mark for the others.
    Raises ScheduleError when the stored schedule cannot be read.
    """
    schedule = spec.schedule
    if schedule is None:
        return []
    until = int(now)
    first = schedule.next_after(mark)
    if first is None or first > until:
        return []
    second = schedule.next_after(first)
    if second is None or second > until:  # the everyday case: exactly one
        outcome = excluded(spec, first, pause, calendars)
        if outcome is not None:
            return [Decision(first, *outcome, "schedule", second)]
        return [_one(spec, first, second, now)]
    # A tick that runs is never left out, though the job be one of before, with room for fewer rows than it catches up.
    most = max(spec.keep, spec.max_catchup) if spec.catchup == "all" else spec.keep
    ticks, is_complete = schedule.last_ticks(mark, until, most)
    following = [*ticks[1:], schedule.next_after(ticks[-1])]
    outcomes = [excluded(spec, tick, pause, calendars) for tick in ticks]
    pending = [tick for tick, outcome in zip(ticks, outcomes, strict=True) if outcome is None]
    # A last part of a single tick would be decided as if it were the only one pending: two are left for it.
    part = MAX_TICKS_A_PASS - 1 if len(ticks) == MAX_TICKS_A_PASS + 1 else MAX_TICKS_A_PASS
    decisions = []
    newer = len(pending)  # pending ticks that are newer than the one looked at
    for tick, after, outcome in zip(ticks[:part], following, outcomes, strict=False):
        if outcome is not None:
            decisions.append(Decision(tick, *outcome, "schedule", after))
            continue
        newer -= 1
        decisions.append(_of_several(spec, tick, after, pending[-1], newer, now))
    if not is_complete:
        decisions[0] = _with_those_before(decisions[0], first, schedule.last_until(ticks[0] - 1) or first, most)
    return decisions


def _with_those_before(oldest: Decision, first: int, last: int, most: int) -> Decision:
    """*oldest*, saying that the ticks from *first* to *last* had no beat either."""
    words = f"those from {iso(first)} to {iso(last)} were not taken either, and {most} rows have no room for them"
    return oldest._replace(reason=f"{oldest.reason}; {words}")


def _one(spec: JobSpec, tick: int, after: int | None, now: float) -> Decision:
    age = now - tick
    if age <= LATE_S:
        return Decision(tick, None, "due", "schedule", after)
    return _given_up(spec, tick, after, age) or _caught_up(tick, after, age)


def _given_up(spec: JobSpec, tick: int, after: int | None, age: float) -> Decision | None:
    """The decision for a missed tick that is too old, or of a job that catches none up; None for any other."""
    if age > spec.window:
        text = f"{_late(age)}, beyond the window of {format_duration(spec.window)}"
        return Decision(tick, "missed", text, "schedule", after)
    if spec.catchup == "skip":
        return Decision(tick, "missed", f"{_late(age)}; catchup is skip", "schedule", after)
    return None


def _caught_up(tick: int, after: int | None, age: float) -> Decision:
    return Decision(tick, None, f"caught up: {_late(age)}", "catchup", after)


def _late(age: float) -> str:
    return f"no beat took it in time; found {format_duration(age)} late"


def _of_several(spec: JobSpec, tick: int, after: int | None, newest: int, newer: int, now: float) -> Decision:
    """*newer* is how many pending ticks are newer than this one, up to *newest*."""
    if tick == newest:
        decision = _one(spec, tick, after, now)
        if spec.catchup == "all" and decision.outcome is None:
            # Even when it is on time: the ticks queued just before it must not push it out as an overlap.
            return decision._replace(trigger="catchup")
        return decision
    age = now - tick
    given_up = _given_up(spec, tick, after, age)
    if given_up is not None:
        return given_up
    if spec.catchup == "latest" or keeps_newest(spec.overlap):
        text = f"{_late(age)}; the newest, {iso(newest)}, was taken in its place"
        return Decision(tick, "coalesced", text, "schedule", after)
    if newer >= spec.max_catchup:
        text = f"{_late(age)}; more than max_catchup={spec.max_catchup} were pending"
        return Decision(tick, "missed", text, "schedule", after)
    return _caught_up(tick, after, age)
