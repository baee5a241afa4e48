"""The open runs of one simulated job: which wait, for what, and when each is at work. The rules are those of `overlap`.

Moments must not go back from one call to the next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import islice
from operator import sub
from typing import NamedTuple

from cronq.jobs.spec import JobSpec
from cronq.runs.overlap import keeps_newest, may_wait, rule_of_tick
from cronq.runs.scene import Scene, Work
from cronq.runs.simulated_ledger import SimulatedLedger
from cronq.timetext import format_duration


class Gate(NamedTuple):
    """What a run waits for before it may be queued."""

    opens_s: float  #: when its parents have succeeded; inf: they do not
    words: str  #: what it waits for


class _Gated(NamedTuple):
    opens_s: float
    place: int
    words: str
    trigger: str


class SimulatedRuns:
    """The runs of *spec*, whose rows are in *ledger*."""

    def __init__(self, spec: JobSpec, scene: Scene, ledger: SimulatedLedger) -> None:
        self.spec = spec
        self.ledger = ledger
        self.usual = Work(scene.durations.get(spec.name, scene.duration_s))
        self.works = scene.works.get(spec.name, {})
        self._usual_end = self._end_of(self.usual)
        self._busy_until = -math.inf  #: when the last of those in a queue or at work ends
        self._last = 0  #: the place of the run that ends then
        self._newest = 0  #: the place of the newest run that was queued
        self._begins = -math.inf  #: when a worker begins it
        self._behind: deque[int] = deque()  #: the places of those that wait for it, in their order
        self._gated: list[_Gated] = []

    @property
    def busy_until(self) -> float:
        """When the last of those in a queue or at work ends (epoch seconds)."""
        return self._busy_until

    def run_all(self, ticks: Sequence[int]) -> bool:
        """Let *ticks*, each of which is found in its second, run at once if no run meets another. Returns if it did."""
        self.go_on(ticks[0])
        if self.ledger.explains or self.works or self._gated or self._busy_until > ticks[0]:
            return False
        duration_s, outcome = self._usual_end
        if duration_s > min(map(sub, islice(ticks, 1, None), ticks), default=math.inf):
            return False
        self._newest = self._last = self.ledger.add_all(ticks, outcome, duration_s)
        self._begins, self._busy_until = ticks[-1], ticks[-1] + duration_s
        return True

    def pass_over(self, tick: int, now: float, outcome: str, reason: str) -> None:
        """Record *tick*, which does not run."""
        self.go_on(now)
        self._block("")
        self.ledger.add(tick, outcome, reason)

    def open(self, tick: int, now: float, trigger: str, reason: str = "", gate: Gate | None = None) -> None:
        """Open the run of *tick* at *now*, beside what is open of its job; it is begun after its *gate* has opened."""
        if self._behind or self._gated:
            self.go_on(now)
        is_busy = self._busy_until > now
        if not is_busy and gate is None and not self._gated:  # the everyday case
            self._run(self.ledger.add(tick, "succeeded", reason), now)
            return
        rule = rule_of_tick(self.spec.overlap, trigger, self.spec.catchup)
        if is_busy and rule == "skip":
            self._block("")
            place = self.ledger.add(tick, "skipped", reason)
            self.ledger.tell(place, "{} was still at work", self._last)
        else:
            self._block(trigger)
            place = self.ledger.add(tick, "succeeded", reason)
            if gate is not None and gate.opens_s > now:
                self.ledger.tell(place, f"waited for {gate.words}")
                self._gated.append(_Gated(gate.opens_s, place, gate.words, trigger))
            else:
                self._line_up(place, now, rule)
        if is_busy and self.ledger.explains:
            self.ledger.met.add(place)

    def go_on(self, now: float) -> None:
        """Let all begin that has waited for a moment up to *now*."""
        while self._behind or self._gated:
            turn = self._busy_until if self._behind else math.inf
            gate = min(self._gated, default=None)
            if gate is not None and gate.opens_s < turn and gate.opens_s < now:  # at `now` its next tick is first
                self._gated.remove(gate)
                self._let_go(gate)
            elif turn <= now and self._behind:
                self._run(self._behind.popleft(), turn)
            else:
                return

    def end(self) -> None:
        """Let all begin that ever does; the others wait still."""
        self.go_on(math.inf)
        for gate in self._gated:
            self.ledger.set(gate.place, "waiting")

    def _block(self, trigger: str) -> None:
        """Give up what still waits for parents, for a tick with this *trigger* is due; caught-up ones wait together."""
        spares = trigger == "catchup" and self.spec.catchup == "all"
        for gate in self._gated:
            if not (spares and gate.trigger == "catchup"):
                self.ledger.reasons.pop(gate.place, None)
                self.ledger.set(gate.place, "blocked", f"it waited for {gate.words} until its next tick fell due")
        self._gated = [gate for gate in self._gated if spares and gate.trigger == "catchup"]

    def _let_go(self, gate: _Gated) -> None:
        """Queue a run whose parents have all succeeded, or have it wait behind an earlier one, where ticks may wait."""
        if self.ledger.explains:
            self.ledger.opened[gate.place] = gate.opens_s
        if may_wait(self.spec.overlap) and self._busy_until > gate.opens_s:
            self._wait(gate.place)
        else:
            self._run(gate.place, gate.opens_s)

    def _line_up(self, place: int, now: float, rule: str) -> None:
        """Queue the run at *place*, or have it wait for an earlier one, as *rule* says."""
        if self._busy_until > now and keeps_newest(rule) and not self._overtake(place, now):
            if rule == "latest":
                self._wait(place)
                return
            self.ledger.set(self._newest, "stopped", "replaced by {}", place)
            self.ledger.set_times(self._newest, self._begins, now)
            self._busy_until = now
        elif self._busy_until > now and rule == "queue":
            self._wait(place)
            return
        self._run(place, now)

    def _wait(self, place: int) -> None:
        """Let the run at *place* wait for the one before it."""
        self.ledger.tell(place, "waited for {}", self._behind[-1] if self._behind else self._last)
        self._behind.append(place)

    def _overtake(self, place: int, now: float) -> bool:
        """Let the run at *place* replace those that have not begun. Returns True if nothing is then in its way."""
        for other in self._behind:
            self.ledger.set(other, "coalesced", "{} took its place", place)
        self._behind.clear()
        if self._begins <= now:
            return False
        self.ledger.set(self._newest, "coalesced", "{} took its place", place)
        self.ledger.set_times(self._newest, math.nan, math.nan)
        self._busy_until = now
        return True

    def _run(self, place: int, turn: float) -> None:
        """Let the run at *place*, in its queue from *turn* on, be at work, unless it is then too late."""
        tick, ttl = self.ledger.ticks[place], self.spec.ttl
        begins = turn
        duration_s, outcome = self._usual_end
        if self.works:
            work = self.works.get(tick, self.usual)
            duration_s, outcome = self._end_of(work)
            begins, duration_s = turn + work.wait_s, work.before_s + duration_s
        ends = begins + duration_s
        if ttl is not None and begins - tick > ttl:
            outcome, ends = "expired", begins
            self.ledger.tell(place, f"it could begin only {format_duration(begins - tick)} after its time")
        else:
            self.ledger.set_times(place, begins, ends)
        self.ledger.set(place, outcome)
        self._newest, self._begins = place, begins
        if ends > self._busy_until:
            self._busy_until, self._last = ends, place

    def _end_of(self, work: Work) -> tuple[float, str]:
        """How long the last attempt of *work* is at work, and its outcome."""
        if work.duration_s > self.spec.timeout:
            return self.spec.timeout, "timed_out"
        return work.duration_s, work.outcome
