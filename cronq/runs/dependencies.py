"""What a tick of a job with `depends_on` waits for: arithmetic on schedules, no Redis and no clock.

For each parent that is its latest tick at or before the child's, by the parent's schedule and calendars, whether a beat
has claimed it by then or not. The parent has come so far when that tick, a later one, or a run of it that has no tick
and began later has succeeded: a parent that was repaired lets its children run, however that was done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from cronq.jobs.calendar import Calendars
from cronq.jobs.spec import JobSpec
from cronq.runs.run import tick_run_id
from cronq.timetext import iso

#: Times of day in which the calendars of a parent exclude all of its ticks are passed over, so many at most.
_MOST_EXCLUDED = 3_000


class Need(NamedTuple):
    """What one parent must have done; as `lua/runs/claim.lua` takes it."""

    parent: str
    until: int  #: the moment (epoch seconds) up to which it must have succeeded
    words: str  #: the same, to follow the parent's name
    run_id: str  #: its run of that tick; "" when it has none


def needs_of(spec: JobSpec, tick: int, parents: Mapping[str, JobSpec], calendars: Calendars) -> tuple[Need, ...]:
    """What the tick *tick* of *spec* waits for. *parents* are those that can be read.

    A parent without a schedule, or of which nothing is known, must have succeeded since the tick of *spec* before
    this one.
    """
    return tuple(_need(spec, tick, name, parents.get(name), calendars) for name in spec.depends_on)


def _need(spec: JobSpec, tick: int, name: str, parent: JobSpec | None, calendars: Calendars) -> Need:
    if parent is None or parent.schedule is None:
        before = spec.tick_before(tick) or 0
        since = f", since {iso(before)}" if before else ""
        return Need(name, before + 1, since if parent is not None else f"{since}, which is no job", "")
    awaited = latest_tick(parent, tick, calendars)
    if awaited is None:
        return Need(name, 0, ", which has had no tick yet", "")
    return Need(name, awaited, f" of {iso(awaited)}", tick_run_id(name, awaited))


def with_last_tick(spec: JobSpec, mark: int | None, had: int, now_s: float) -> JobSpec:
    """*spec*, a job with `repeat`, with the last of its ticks as its end, when that is up to *now_s*.

    It has *had* so many up to its *mark*; the others are those that follow.
    """
    if spec.schedule is None or spec.repeat is None or mark is None:
        return spec
    left = max(0, spec.repeat - had)
    if left and spec.schedule.count(mark, int(now_s)) < left:
        return spec
    last = mark
    for _ in range(left):
        last = spec.schedule.next_after(last) or last
    return replace(spec, end=last if spec.end is None else min(last, spec.end))


def latest_tick(spec: JobSpec, until: int, calendars: Calendars) -> int | None:
    """The newest tick of *spec* up to *until* that its calendars do not exclude; None: it has none."""
    if spec.schedule is None:
        return None
    found = spec.schedule.last_until(until)
    if not spec.calendars:
        return found
    for _ in range(_MOST_EXCLUDED):
        if found is None or calendars.exclusion(spec.only, spec.except_, found, spec.tz) is None:
            return found
        found = spec.schedule.last_until(calendars.same_since(spec.calendars, found, spec.tz) - 1)
    return None
