"""The verbs of an application that run past ticks of a job."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from cronq.app.backfilling import Backfilling, BackfillTick
from cronq.app.parts import Parts
from cronq.errors import SpanRefused
from cronq.jobs.calendar import NO_CALENDARS
from cronq.jobs.spec import JobSpec
from cronq.runs.span import Span, ticks_of_span
from cronq.schedule.moment import parse_moment_s
from cronq.schedule.zone import find_zone
from cronq.timetext import format_duration, iso

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def _moment_s(value: str | datetime, tz: str) -> int:
    """A moment of the zone *tz* in epoch seconds; a date alone is its midnight. Raises ValueError."""
    is_date = isinstance(value, str) and _DATE.fullmatch(value.strip()) is not None
    return parse_moment_s(f"{value}T00:00" if is_date else value, find_zone(tz))


class BackfillVerbs(Parts):
    """Backfills."""

    def plan_backfill(
        self,
        name: str,
        start: str | datetime,
        end: str | datetime | None = None,
        *,
        force: bool = False,
    ) -> Backfilling:
        """What `backfill` of the same span would do; begins nothing."""
        spec = self.jobs.get(name).spec
        end_s = int(self.exact_now_s()) + 1 if end is None else _moment_s(end, spec.tz)
        return self._filling(spec, Span(_moment_s(start, spec.tz), end_s), force)

    def plan_backfill_of(self, name: str, tick: str | datetime, *, force: bool = False) -> Backfilling:
        """The same of a single tick. Raises SpanRefused when the job has none then, or it is still to come."""
        spec = self.jobs.get(name).spec
        tick_s = _moment_s(tick, spec.tz)
        if spec.schedule is not None and spec.schedule.last_until(tick_s) != tick_s:
            before, after = spec.schedule.last_until(tick_s), spec.schedule.next_after(tick_s)
            around = f"the tick before is {iso(before)}, the one after {iso(after)}"
            raise SpanRefused(f"job {name!r} has no tick at {iso(tick_s)}: {around}")
        if spec.schedule is not None and tick_s > (now_s := self.exact_now_s()):
            ahead = f"is due in {format_duration(tick_s - now_s)} and runs then"
            raise SpanRefused(f"job {name!r}: the tick {iso(tick_s)} {ahead}; `cronq run {name}` runs the job now")
        return self._filling(spec, Span(tick_s, tick_s + 1), force)

    def _filling(self, spec: JobSpec, span: Span, force: bool) -> Backfilling:
        calendars = self.calendars.read_sound() if spec.calendars else NO_CALENDARS
        found = ticks_of_span(spec, span, self.exact_now_s(), calendars)
        return Backfilling(self.past_runs(self.who), self.now_s, spec, found, force=force)

    def backfill(
        self,
        name: str,
        start: str | datetime,
        end: str | datetime | None = None,
        *,
        parallel: int = 1,
        rate: float | None = None,
        force: bool = False,
        on_step: Callable[[BackfillTick], None] = lambda tick: None,
    ) -> Backfilling:
        """Run the ticks of a job from *start* on and before *end* (default: now), oldest first, and wait for them.

        A tick that has succeeded is not run again, unless *force*; a moment without an offset is of the job's zone, a
        date its midnight. At most *parallel* runs are open at once, and *rate* begin in a second. After the first one
        that does not succeed no other begins. *on_step* is called whenever a run was queued or is over. Raises
        UnknownJob, ValueError for what is no moment, SpanRefused for ticks to come and for what the job's `keep` cannot
        hold.
        """
        filling = self.plan_backfill(name, start, end, force=force)
        for tick in filling.steps(parallel, rate):
            on_step(tick)
        return filling
