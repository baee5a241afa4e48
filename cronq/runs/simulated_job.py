"""One job of a simulation, as its ticks go by: which of them run, and which do not.

While beats pass, each tick is found alone and in its second; then `due.excluded` is all that can keep it from
running, and so ticks are taken many at a time. What was missed is decided by `due.decide`. A job that runs after
others has a tick each time that these have succeeded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from cronq.jobs.in_order import HALTING
from cronq.jobs.pause import LATE_S, Pause
from cronq.jobs.spec import JobSpec
from cronq.runs.due import Decision, decide, excluded
from cronq.runs.scene import Outage, Scene
from cronq.runs.simulated_ledger import SimulatedLedger
from cronq.runs.simulated_parents import Parents
from cronq.runs.simulated_runs import SimulatedRuns
from cronq.timetext import DAY_S

#: Ticks that are listed at once are of so long a span at most.
_LISTED_S = 30 * DAY_S
#: What keeps the later ticks of a job with `backfill` waiting.
_HALTING = HALTING | {"waiting"}
#: A start so near to a tick that is known is that one.
_SAME_START_S = 2

#: Told for each tick that is taken the moment of that pass (epoch seconds).
Takes = Callable[[Sequence[int]], None]


class SimulatedJob:
    """One job of a scene. *outages* are in order, and none touches another; *parents* are None when it has none.

    *is_timed* says that somebody wants to know when its runs end.
    """

    def __init__(
        self,
        spec: JobSpec,
        scene: Scene,
        outages: Sequence[Outage],
        takes: Takes,
        parents: Parents | None = None,
        *,
        is_timed: bool = False,
    ) -> None:
        self.spec = spec
        self.scene = scene
        self.outages = outages
        self.takes = takes
        self.parents = parents
        self.ledger = SimulatedLedger(spec.name, is_timed or scene.explains, scene.explains)
        self.runs = SimulatedRuns(spec, scene, self.ledger)
        self.pauses = scene.pauses.get(spec.name, ())
        self.skips = scene.skips.get(spec.name, ())
        self.mark = max(scene.start_s, scene.since.get(spec.name, scene.start_s)) - 1
        self.had = self._had_by_then()
        self._outage = 0  #: the place of the first outage that is not over yet

    def _had_by_then(self) -> int:
        """How many ticks it has had up to the mark, of those that `repeat` allows."""
        counted, schedule = self.scene.counted.get(self.spec.name), self.spec.schedule
        if counted is None or schedule is None or self.spec.repeat is None:
            return 0
        since, before = schedule.count(counted.mark, self.mark), schedule.count(self.mark, counted.mark)
        return max(0, counted.ticks + since - before)

    def go_through(self) -> SimulatedLedger:
        """Take each tick of the scene."""
        if self.spec.after:
            self._follow_parents()
        elif self.spec.backfill:
            self._follow_in_order()
        else:
            self._follow_schedule()
        self.runs.end()
        self.ledger.cut(self.scene.end_s)
        return self.ledger

    # By its schedule

    def _follow_schedule(self) -> None:
        tick = self.spec.next_after(self.mark, self.had)
        while tick is not None and tick < self.scene.end_s:
            now = self._when_found(tick)
            if now == tick:
                self._take_in_time(tick)
            else:
                self._take_found(now)
            tick = self.spec.next_after(self.mark, self.had)

    def _when_found(self, tick: int) -> int:
        """When a beat passes that finds *tick* due; asked for ever later ones."""
        return int(self._when_up(self.spec.due_s(tick) or tick))

    def _when_up(self, moment: float) -> float:
        """When a beat passes from *moment* on; asked for ever later ones."""
        outages = self.outages
        while self._outage < len(outages) and outages[self._outage].end_s <= moment:
            self._outage += 1
        if self._outage < len(outages) and outages[self._outage].start_s <= moment:
            return outages[self._outage].end_s
        return moment

    def _take_in_time(self, first: int) -> None:
        """Take *first*, which a beat finds in its second, and those after it up to the next outage."""
        spec = self.spec
        ticks = [first]
        if spec.schedule is not None and spec.jitter is None:  # else each of the others is late by itself
            stop = min(self.scene.end_s, first + _LISTED_S)
            if self._outage < len(self.outages):
                stop = min(stop, self.outages[self._outage].start_s)
            ticks = spec.schedule.between(first - 1, stop - 1)
        if spec.repeat is not None:
            ticks = ticks[: spec.repeat - self.had]
            self.had += len(ticks)
        self.mark = ticks[-1]
        self.takes(ticks)
        may_be_excluded = bool(self.pauses or self.skips or spec.calendars)
        if not may_be_excluded and self.parents is None and self.runs.run_all(ticks):
            return
        for tick in ticks:
            if not (may_be_excluded and self._is_excluded(tick)):
                self._open(tick, tick, "schedule")

    def _is_excluded(self, tick: int) -> bool:
        found = excluded(self.spec, tick, self._pause_at(tick), self.scene.calendars, self.skips)
        if found is not None:
            self.runs.pass_over(tick, tick, found.outcome, found.reason)
        return found is not None

    def _pause_at(self, tick: int) -> Pause | None:
        return next((each for each in self.pauses if each.since <= tick and each.covers(tick)), None)

    def _take_found(self, now: int) -> None:
        """Decide what becomes of each tick up to *now*, by the rules for missed ones."""
        while decisions := self._decisions(now):
            before = len(self.ledger.ticks)
            for decision in decisions:
                if decision.outcome is None:
                    late = decision.reason if now > decision.tick + LATE_S else ""
                    self._open(decision.tick, now, decision.trigger, late)
                else:
                    self._pass_over(decision, decision.outcome, now)
            shown = bisect_left(self.ledger.ticks, self.scene.end_s) - before
            self.takes([now] * max(0, shown))
            self.mark, self.had = decisions[-1].tick, decisions[-1].number or self.had

    def _decisions(self, now: int) -> list[Decision]:
        covering = (pause for pause in self.pauses if pause.since <= now and pause.covers(self.mark + 1))
        calendars, had, skips = self.scene.calendars, self.had, self.skips
        return decide(self.spec, self.mark, next(covering, None), now, calendars, had=had, skips=skips)

    def _pass_over(self, decision: Decision, outcome: str, now: int) -> None:
        ticks = [decision.tick]
        if decision.first is not None and self.spec.schedule is not None:
            ticks = self.spec.schedule.between(decision.first - 1, decision.tick)
        for tick in ticks:
            self.runs.pass_over(tick, now, outcome, decision.reason)

    def _open(self, tick: int, now: float, trigger: str, reason: str = "") -> None:
        gate = self.parents.gate(tick, now) if self.parents is not None else None
        self.runs.open(tick, now, trigger, reason, gate)

    # One at a time

    def _follow_in_order(self) -> None:
        """Take each tick when the one before it has succeeded, by the rule of `backfill`."""
        spec = self.spec
        tick = spec.next_after(self.mark, self.had)
        while tick is not None and tick < self.scene.end_s:
            now = self._when_up(max(spec.due_s(tick) or tick, self.runs.busy_until))
            found = excluded(spec, tick, self._pause_at(tick), self.scene.calendars, self.skips)
            if found is not None:
                self.runs.pass_over(tick, now, found.outcome, found.reason)
            else:
                self._open(tick, now, "schedule")
                self.runs.end()
            self.takes([int(now)])
            self.mark, self.had = tick, self.had + (spec.repeat is not None)
            tick = spec.next_after(tick, self.had)
            if self.ledger.outcome(-1) in _HALTING and self.mark not in self.scene.passed.get(spec.name, ()):
                break
        self._leave_waiting()

    def _leave_waiting(self) -> None:
        """The ticks after one that halts the job: they stay due until that is mended."""
        before, tick = len(self.ledger.ticks) - 1, self.spec.next_after(self.mark, self.had)
        while tick is not None and tick < self.scene.end_s:
            place = self.ledger.add(tick, "waiting")
            self.ledger.tell(place, "waits for {}, which has not succeeded", before)
            self.had += self.spec.repeat is not None
            tick = self.spec.next_after(tick, self.had)

    # After its parents

    def _follow_parents(self) -> None:
        known = self.scene.known_ticks.get(self.spec.name, ())
        first = self.mark + 1
        if first in known:  # what had happened by then does not count any more
            self.mark = first
            if first in self.runs.works:
                self.runs.open(first, first, "after")
        for now in self.parents.starts(self.mark + 1) if self.parents is not None else ():
            tick = self._tick_of_start(now, known)
            if tick >= self.scene.end_s:
                return
            self.mark = tick
            pause = self._pause_at(tick)
            if pause is not None:
                self.runs.pass_over(tick, now, "paused", pause.reason)
            else:
                self.runs.open(tick, now, "after")

    def _tick_of_start(self, now: float, known: Sequence[int]) -> int:
        """The second of a start at *now*, or one more than the last tick; or the tick that it was, if it is *known*."""
        tick = max(int(now), self.mark + 1)
        place = bisect_left(known, max(tick - _SAME_START_S, self.mark + 1))
        return known[place] if place < len(known) and known[place] <= tick + _SAME_START_S else tick
