"""One job of a simulation, as its ticks go by: which run, which do not, and when each run is at work.

While beats pass, each tick is found alone and in its second; then `due.excluded` is all that can keep it from
running, and so ticks are taken many at a time. What was missed is decided by `due.decide`.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import sub

from cronq.jobs.pause import LATE_S
from cronq.jobs.spec import JobSpec
from cronq.outcomes import OUTCOMES
from cronq.runs.due import Decision, decide, excluded
from cronq.runs.overlap import keeps_newest, rule_of_tick
from cronq.runs.scene import Outage, Scene, Work
from cronq.timetext import DAY_S, format_duration, iso

WORDS = tuple(OUTCOMES)
_CODES = {word: code for code, word in enumerate(WORDS)}
#: Ticks that are listed at once are of so long a span at most.
_LISTED_S = 30 * DAY_S

#: Told for each tick that is taken the moment of that pass (epoch seconds).
Takes = Callable[[Sequence[int]], None]


@dataclass
class SimulatedLedger:
    """What became of the ticks of one job, oldest first: a column each, for there may be millions."""

    job: str
    ticks: array[int] = field(default_factory=lambda: array("q"))
    outcomes: bytearray = field(default_factory=bytearray)  #: places in `WORDS`
    # The others are kept by a scene that explains.
    begun: dict[int, float] = field(default_factory=dict)  #: when runs began, by their place in the columns
    ended: dict[int, float] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    met: set[int] = field(default_factory=set)  #: the places of ticks that were due while an earlier run was open

    def outcome(self, place: int) -> str:
        """The word for the tick at *place*."""
        return WORDS[self.outcomes[place]]

    def cut(self, end_s: int) -> None:
        """Leave out the ticks from *end_s* on: they were found together with earlier ones."""
        last = bisect_left(self.ticks, end_s)
        del self.ticks[last:], self.outcomes[last:]

    def set(self, place: int, outcome: str) -> None:
        """Another outcome for the tick at *place*."""
        self.outcomes[place] = _CODES[outcome]


class SimulatedJob:
    """One job of a scene. *outages* are in order, and none touches another."""

    def __init__(self, spec: JobSpec, scene: Scene, outages: Sequence[Outage], takes: Takes) -> None:
        self.spec = spec
        self.scene = scene
        self.outages = outages
        self.takes = takes
        self.ledger = SimulatedLedger(spec.name)
        self.usual = Work(scene.durations.get(spec.name, scene.duration_s))
        self.works = scene.works.get(spec.name, {})
        self.pauses = scene.pauses.get(spec.name, ())
        self.skips = scene.skips.get(spec.name, ())
        self.mark = max(scene.start_s, scene.since.get(spec.name, scene.start_s)) - 1
        self.had = 0
        self._outage = 0  #: the place of the first outage that is not over yet
        self._busy_until = -math.inf  #: when the last of its open runs ends
        self._last = 0  #: the place of the run that ends then
        self._working = 0  #: the place of the newest run that does not wait for another
        self._begins = -math.inf  #: when a worker begins it
        self._waiting: int | None = None  #: the place of the one that waits behind it, with overlap="latest"

    def go_through(self) -> SimulatedLedger:
        """Take each tick of the scene."""
        tick = self.spec.next_after(self.mark, self.had)
        while tick is not None and tick < self.scene.end_s:
            now = self._when_found(tick)
            if now == tick:
                self._take_in_time(tick)
            else:
                self._take_found(now)
            tick = self.spec.next_after(self.mark, self.had)
        self._go_on(math.inf)
        self.ledger.cut(self.scene.end_s)
        return self.ledger

    def _when_found(self, tick: int) -> int:
        """When a beat passes that finds *tick* due; asked for ever later ones."""
        due_s = self.spec.due_s(tick) or tick
        outages = self.outages
        while self._outage < len(outages) and outages[self._outage].end_s <= due_s:
            self._outage += 1
        if self._outage < len(outages) and outages[self._outage].start_s <= due_s:
            return outages[self._outage].end_s
        return due_s

    # What a beat decides

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
        if not may_be_excluded and self._run_all(ticks):
            return
        for tick in ticks:
            if not (may_be_excluded and self._is_excluded(tick)):
                self._open(tick, tick)

    def _is_excluded(self, tick: int) -> bool:
        pause = next((each for each in self.pauses if each.since <= tick and each.covers(tick)), None)
        found = excluded(self.spec, tick, pause, self.scene.calendars, self.skips)
        if found is not None:
            self._add(tick, found.outcome, found.reason)
        return found is not None

    def _take_found(self, now: int) -> None:
        """Decide what becomes of each tick up to *now*, by the rules for missed ones."""
        while decisions := self._decisions(now):
            before = len(self.ledger.ticks)
            for decision in decisions:
                if decision.outcome is None:
                    self._open(decision.tick, now, decision)
                else:
                    self._add_range(decision)
            shown = bisect_left(self.ledger.ticks, self.scene.end_s) - before
            self.takes([now] * max(0, shown))
            self.mark, self.had = decisions[-1].tick, decisions[-1].number or self.had

    def _decisions(self, now: int) -> list[Decision]:
        covering = (pause for pause in self.pauses if pause.since <= now and pause.covers(self.mark + 1))
        calendars, had, skips = self.scene.calendars, self.had, self.skips
        return decide(self.spec, self.mark, next(covering, None), now, calendars, had=had, skips=skips)

    def _add_range(self, decision: Decision) -> None:
        assert decision.outcome is not None
        ticks = [decision.tick]
        if decision.first is not None and self.spec.schedule is not None:
            ticks = self.spec.schedule.between(decision.first - 1, decision.tick)
        for tick in ticks:
            self._add(tick, decision.outcome, decision.reason)

    # What becomes of its runs

    def _run_all(self, ticks: Sequence[int]) -> bool:
        """Let *ticks* run at once if no run meets another. Returns True if it did."""
        self._go_on(ticks[0])
        duration_s, outcome = self._end_of(self.usual)
        if self.scene.explains or self.works or self._busy_until > ticks[0]:
            return False
        if duration_s > min(map(sub, islice(ticks, 1, None), ticks), default=math.inf):
            return False
        self.ledger.ticks.extend(ticks)
        self.ledger.outcomes.extend(bytes([_CODES[outcome]]) * len(ticks))
        self._working = self._last = len(self.ledger.ticks) - 1
        self._begins = ticks[-1]
        self._busy_until = ticks[-1] + duration_s
        return True

    def _open(self, tick: int, now: int, decision: Decision | None = None) -> None:
        """Let *tick*, found at *now*, run beside what is open of its job as `overlap` says."""
        self._go_on(now)
        place, starts, trigger = len(self.ledger.ticks), float(now), decision.trigger if decision else "schedule"
        rule = rule_of_tick(self.spec.overlap, trigger, self.spec.catchup) if self._busy_until > now else "allow"
        rule = "queue" if self.spec.backfill and rule != "allow" else rule  # it waits for the one before
        reason = decision.reason if decision is not None and now > tick + LATE_S else ""
        self._add(tick, "skipped" if rule == "skip" else "succeeded", reason)
        if self._busy_until > now and self.scene.explains:
            self.ledger.met.add(place)
        if rule == "skip":
            self._tell(place, "{} was still at work", self._last)
            return
        if keeps_newest(rule) and not self._overtake(place, now):
            if rule == "latest":
                self._waiting = place
                self._tell(place, "waited for {}", self._last)
                return
            self.ledger.set(self._working, "stopped")
            self._tell(self._working, "replaced by {}", place)
            self._busy_until = self.ledger.ended[self._working] = now
        elif rule == "queue":
            starts = self._busy_until
            self._tell(place, "waited for {}", self._last)
        self._run(place, starts)

    def _overtake(self, place: int, now: int) -> bool:
        """Let the run at *place* replace one that has not begun. Returns True if nothing is then in its way."""
        overtaken = self._waiting if self._waiting is not None else self._working
        if overtaken == self._working and self._begins <= now:
            return False
        self.ledger.set(overtaken, "coalesced")
        self._tell(overtaken, "{} took its place", place)
        if overtaken == self._working:
            self._busy_until = now
            self.ledger.begun.pop(overtaken, None)
            self.ledger.ended.pop(overtaken, None)
        return overtaken == self._working

    def _go_on(self, now: float) -> None:
        """Let the run that waits begin, if the one before it has ended by *now*."""
        if self._waiting is not None and self._busy_until <= now:
            place, self._waiting = self._waiting, None
            self._run(place, self._busy_until)

    def _run(self, place: int, turn: float) -> None:
        """Let the run at *place*, in its queue from *turn* on, be at work, unless it is then too late."""
        ledger, tick, ttl = self.ledger, self.ledger.ticks[place], self.spec.ttl
        work = self.works.get(tick, self.usual)
        begins = turn + work.wait_s
        duration_s, outcome = self._end_of(work)
        ends = begins + work.before_s + duration_s
        if ttl is not None and begins - tick > ttl:
            outcome, ends = "expired", begins
            self._tell(place, f"it could begin only {format_duration(begins - tick)} after its time")
        elif self.scene.explains:
            ledger.begun[place], ledger.ended[place] = begins, ends
        ledger.set(place, outcome)
        self._working, self._begins = place, begins
        if ends > self._busy_until:
            self._busy_until, self._last = ends, place

    def _end_of(self, work: Work) -> tuple[float, str]:
        """How long the last attempt of *work* is at work, and its outcome."""
        if work.duration_s > self.spec.timeout:
            return self.spec.timeout, "timed_out"
        return work.duration_s, work.outcome

    def _add(self, tick: int, outcome: str, reason: str) -> None:
        """A tick with what becomes of it, as far as is known by now."""
        if reason and self.scene.explains:
            self.ledger.reasons[len(self.ledger.ticks)] = reason
        self.ledger.ticks.append(tick)
        self.ledger.outcomes.append(_CODES[outcome])

    def _tell(self, place: int, words: str, other: int | None = None) -> None:
        """Say why the tick at *place* becomes what it does; `{}` in *words* is the run at the place *other*."""
        if self.scene.explains:
            run = "" if other is None else f"the run of {iso(self.ledger.ticks[other])}"
            before = self.ledger.reasons.get(place)
            self.ledger.reasons[place] = f"{before}; {words.format(run)}" if before else words.format(run)
