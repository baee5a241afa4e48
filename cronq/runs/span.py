"""The ticks of a job in a span of past time: arithmetic, no Redis and no clock."""

from __future__ import annotations

from typing import NamedTuple

from cronq.errors import SpanRefused
from cronq.jobs.calendar import Calendars
from cronq.jobs.spec import JobSpec
from cronq.timetext import iso

#: The ledger keeps no more rows of a job, so no more ticks can be told from those that were never run.
MOST_TICKS = 100_000


class Span(NamedTuple):
    """A stretch of time in epoch seconds, *start_s* within it and *end_s* not."""

    start_s: int
    end_s: int


class SpanTicks(NamedTuple):
    """The ticks of a job in a span, oldest first."""

    wanted: list[int]
    excluded: dict[int, str]  #: those that its calendars exclude, and why


def ticks_of_span(spec: JobSpec, span: Span, now_s: float, calendars: Calendars) -> SpanTicks:
    """The ticks of *spec* in *span*, by its schedule as it is now.

    Raises SpanRefused for a job without a schedule, for a span that is empty or has a tick after *now_s*, and for more
    than `MOST_TICKS`.
    """
    name, schedule = spec.name, spec.schedule
    if schedule is None:
        raise SpanRefused(f"job {name!r} has no schedule, and so no ticks; `cronq run {name}` queues a run")
    if span.end_s <= span.start_s:
        raise SpanRefused(f"job {name!r}: the span ends at {iso(span.end_s)}, not after its start {iso(span.start_s)}")
    ahead = schedule.next_after(max(span.start_s - 1, int(now_s)))
    if ahead is not None and ahead < span.end_s:
        problem = f"the tick {iso(ahead)} is still to come; let the span end at {iso(int(now_s))} or before"
        raise SpanRefused(f"job {name!r}: {problem}")
    count = schedule.count(span.start_s - 1, span.end_s - 1)
    if count > MOST_TICKS:
        raise SpanRefused(f"job {name!r}: the span has {count:,} ticks, and {MOST_TICKS:,} are allowed; narrow it")
    found = SpanTicks([], {})
    tick = schedule.next_after(span.start_s - 1)
    while tick is not None and tick < span.end_s:
        reason = calendars.exclusion(spec.only, spec.except_, tick, spec.tz) if spec.calendars else None
        if reason is None:
            found.wanted.append(tick)
        else:
            found.excluded[tick] = reason
        tick = schedule.next_after(tick)
    return found
