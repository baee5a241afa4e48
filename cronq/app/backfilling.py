"""Runs the past ticks of a job in a span of time, oldest first, and waits for them.

Nothing of it is kept but the ledger: whoever begins the same backfill again, or a second one beside it, does what is
left. It can end at any moment, whatever is on its way goes on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cronq.clock import boot_s, rest
from cronq.errors import SpanRefused
from cronq.jobs.spec import JobSpec
from cronq.runs.backfill import BEGUN, DONE, TO_RUN, PastRuns
from cronq.runs.run import Run, tick_run_id
from cronq.runs.span import SpanTicks

#: Seconds between two looks at the runs that are waited for: at a few, and at many.
_LOOK_S, _LOOK_AT_MANY_S, _FEW = 0.1, 0.5, 20
#: After so many seconds without anything that happened somebody wonders why.
_SILENT_S = 30.0
#: Runs of one backfill that may be open at once.
MOST_AT_ONCE = 1_000

#: What a tick of a backfill is: left out by a calendar; succeeded before; not to start again, because its job asks for
#: at_most_once; to be run; on its way; over.
EXCLUDED, BEFORE, ONCE, LEFT, ON_ITS_WAY, OVER = "excluded", "before", "once", "left", "open", "over"
_OF_STAND = {DONE: BEFORE, BEGUN: ONCE, TO_RUN: LEFT}


@dataclass
class BackfillTick:
    """One tick (epoch seconds) of a backfill."""

    tick: int
    run_id: str
    is_now: str  #: `excluded`, `before`, `once`, `left`, `open` or `over`
    outcome: str | None = None  #: of `over` what it is; of the others what the ledger has, if any
    reason: str | None = None
    run: Run | None = None  #: its run, as it was last seen
    is_ours: bool = False  #: this backfill has queued it


class Backfilling:
    """A backfill of the ticks *found* of *spec*. Nothing is begun before `steps` is walked through.

    *now_s* returns server time. Raises SpanRefused for more rows than the job keeps.
    """

    def __init__(
        self, runs: PastRuns, now_s: Callable[[], float], spec: JobSpec, found: SpanTicks, *, force: bool
    ) -> None:
        self.spec = spec
        self._runs = runs
        self._now_s = now_s
        self._force = force
        self._past = {each.tick: each for each in runs.look(spec.name, found.wanted)}
        self.ticks = self._ticks(found)  #: all of the span, oldest first
        self._require_room()
        self.failed: BackfillTick | None = None  #: the first tick that did not succeed; none is begun after it

    def _ticks(self, found: SpanTicks) -> list[BackfillTick]:
        name = self.spec.name
        ticks = [
            BackfillTick(tick, tick_run_id(name, tick), EXCLUDED, reason=reason)
            for tick, reason in found.excluded.items()
        ]
        for tick, past in self._past.items():
            run = past.run
            outcome, reason = (run.outcome, run.reason) if run is not None else (None, None)
            is_now = _OF_STAND.get(past.stand(self.spec, force=self._force), ON_ITS_WAY)
            ticks.append(BackfillTick(tick, tick_run_id(name, tick), is_now, outcome, reason, run))
        return sorted(ticks, key=lambda each: each.tick)

    def _require_room(self) -> None:
        """Raise SpanRefused if rows would be trimmed as their runs end: begun again, they would run again."""
        past = [self._past[each.tick] for each in self.those(LEFT)]
        without_row = [each for each in past if not each.has_row]
        if not without_row:
            return
        ranges = {each.range.run_id for each in past if each.range is not None}
        have = self._runs.count_rows(self.spec.name, without_row[0].tick)
        needed = have + len(without_row) + len(ranges) + 1
        if needed > self.spec.keep:
            raise SpanRefused(
                f"job {self.spec.name!r}: its history would need {needed:,} rows, and keep={self.spec.keep} holds "
                "fewer: what ran would be forgotten, and run again the next time; "
                f"raise keep to {needed} or more, or narrow the span"
            )

    def those(self, *words: str) -> list[BackfillTick]:
        """The ticks that are now one of *words*."""
        return [each for each in self.ticks if each.is_now in words]

    @property
    def unfinished(self) -> list[BackfillTick]:
        """What is left to do, oldest first: ticks that were not begun, or are on their way, or did not succeed."""
        return [
            each
            for each in self.ticks
            if each.is_now in (LEFT, ON_ITS_WAY) or (each.is_now == OVER and each.outcome != "succeeded")
        ]

    def steps(
        self,
        parallel: int = 1,
        rate: float | None = None,
        on_silence: Callable[[BackfillTick], None] = lambda tick: None,
    ) -> Iterator[BackfillTick]:
        """Do it, and yield each tick whenever it was queued or is over.

        *on_silence* is called with the oldest tick on its way whenever nothing has happened for half a minute.

        At most *parallel* of its runs are open at once, and *rate* of them begin in a second. After the first one that
        does not succeed no other begins; those on their way are waited for. Raises UnknownJob, CronqError, and what
        Redis raises.
        """
        if not 1 <= parallel <= MOST_AT_ONCE:
            raise SpanRefused(f"parallel={parallel!r} is not a number from 1 to {MOST_AT_ONCE:,}")
        if rate is not None and not 0 < rate <= 10_000:
            raise SpanRefused(f"rate={rate!r} is not a number of runs in a second, above 0 and up to 10,000")
        todo = deque(self.those(LEFT, ON_ITS_WAY))
        open_now: dict[str, BackfillTick] = {}
        next_boot, silent_boot, never = 0.0, boot_s(), threading.Event()
        while True:
            while todo and self.failed is None and len(open_now) < parallel and boot_s() >= next_boot:
                tick = todo.popleft()
                self._begin(tick)
                if tick.is_now == ON_ITS_WAY:
                    open_now[tick.run_id] = tick
                if tick.is_ours and rate is not None:
                    next_boot = boot_s() + 1 / rate
                silent_boot = boot_s()
                yield tick
            if not open_now and (not todo or self.failed is not None):
                return
            for tick in self._ended(open_now):
                silent_boot = boot_s()
                yield tick
            if open_now and boot_s() - silent_boot >= _SILENT_S:
                silent_boot = boot_s()
                on_silence(next(iter(open_now.values())))
            wait_s = _LOOK_S if len(open_now) <= _FEW else _LOOK_AT_MANY_S
            if not open_now:
                wait_s = max(0.0, next_boot - boot_s())
            elif todo and self.failed is None and len(open_now) < parallel:
                wait_s = min(wait_s, max(0.0, next_boot - boot_s()))
            rest(wait_s, never)

    def _begin(self, tick: BackfillTick) -> None:
        """Queue the run of *tick*, unless it is on its way or need not run any more."""
        if tick.is_now == ON_ITS_WAY:
            return
        code = self._runs.queue(self.spec, self._past[tick.tick], self._now_s(), force=self._force)
        tick.is_ours = code == "queued"
        tick.is_now = _OF_STAND.get(code, ON_ITS_WAY)
        if tick.is_now in (BEFORE, ON_ITS_WAY):
            tick.outcome, tick.reason = "succeeded" if tick.is_now == BEFORE else None, None

    def _ended(self, open_now: dict[str, BackfillTick]) -> Iterator[BackfillTick]:
        """Those of *open_now* that are over; they are taken out of it."""
        known = {run.run_id: run for run in self._runs.rows(open_now)}
        for run_id, tick in list(open_now.items()):
            run = known.get(run_id)
            if run is not None:
                tick.run = run
                if run.outcome is None or run.state != "done":
                    continue
            del open_now[run_id]
            tick.is_now = OVER
            tick.outcome = run.outcome if run is not None else None
            tick.reason = run.reason if run is not None else "the ledger has lost its row"
            if tick.outcome != "succeeded" and self.failed is None:
                self.failed = tick
            yield tick
