"""How far the parents of a simulated job come: when they let a tick run that depends on them, and when they start one.

The rules are those of `dependencies` and `lua/parts/trigger`. What was before the simulation began has succeeded.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from cronq.jobs.spec import JobSpec
from cronq.outcomes import EXECUTED
from cronq.runs.dependencies import Need, needs_of
from cronq.runs.scene import RunByHand, Scene
from cronq.runs.simulated_ledger import SimulatedLedger
from cronq.runs.simulated_runs import Gate


class _Ended(NamedTuple):
    ended_s: float
    parent: str
    outcome: str
    reached: float  #: the tick, or the start of a run that has none


class Parents:
    """The parents of *spec* among *specs*, all of which have been gone through: *ledgers* are theirs."""

    def __init__(
        self, spec: JobSpec, specs: Mapping[str, JobSpec], ledgers: Mapping[str, SimulatedLedger], scene: Scene
    ) -> None:
        self.spec = spec
        self.specs = {name: specs[name] for name in spec.parents if name in specs}
        self.scene = scene
        self._ended = sorted(
            each for name in spec.parents for each in _ended(name, ledgers.get(name), scene.by_hand.get(name, ()))
        )
        self._successes = {name: _Successes(self._ended, name) for name in spec.depends_on}

    def gate(self, tick: int, now: float) -> Gate | None:
        """What *tick*, found at *now*, waits for; None when nothing keeps it from running."""
        needs = [(self._met_at(need), need) for need in needs_of(self.spec, tick, self.specs, self.scene.calendars)]
        closed = [(moment, need) for moment, need in needs if moment > now]
        if not closed:
            return None
        words = ", ".join(f"{need.parent}{need.words}" for _, need in closed)
        return Gate(max(moment for moment, _ in closed), f"its parent{'s' if len(closed) > 1 else ''} {words}")

    def _met_at(self, need: Need) -> float:
        parent = self.specs.get(need.parent)
        may_run = parent is not None and (parent.schedule is not None or bool(parent.after))
        if may_run and 1 < need.until < self.scene.since.get(need.parent, self.scene.start_s):
            return -math.inf  # it was before the simulation begins
        return self._successes[need.parent].first_since(need.until)

    def starts(self, since_s: float) -> Iterator[float]:
        """The moments at which all have succeeded since the last of these, for a job that runs after them.

        What was before *since_s* does not count.
        """
        counting = EXECUTED if self.spec.on_parent_failure == "run" else ("succeeded",)
        missing = set(self.spec.after)
        for each in self._ended:
            if each.outcome in counting and each.ended_s >= since_s:
                missing.discard(each.parent)
                if not missing:
                    yield each.ended_s
                    missing = set(self.spec.after)


class _Successes:
    """When a parent had succeeded up to which tick."""

    def __init__(self, ended: Iterable[_Ended], parent: str) -> None:
        succeeded = (each for each in ended if each.parent == parent and each.outcome == "succeeded")
        found = sorted((each.reached, each.ended_s) for each in succeeded)
        self._reached = [reached for reached, _ in found]
        earliest = list(accumulate((ended_s for _, ended_s in reversed(found)), min))
        self._first = earliest[::-1]  #: by place the first end of all from there on

    def first_since(self, moment: float) -> float:
        """When a run of a tick from *moment* on first succeeded; inf: none does."""
        place = bisect_left(self._reached, moment)
        return self._first[place] if place < len(self._first) else math.inf


def _ended(parent: str, ledger: SimulatedLedger | None, by_hand: Iterable[RunByHand]) -> Iterator[_Ended]:
    for run in by_hand:
        yield _Ended(run.ended_s, parent, run.outcome, run.begun_s)
    for place, tick in enumerate(ledger.ticks if ledger is not None else ()):
        assert ledger is not None
        _, ended_s = ledger.times(place)
        outcome = ledger.outcome(place)
        if ended_s is not None and outcome in EXECUTED:
            yield _Ended(round(ended_s, 3), parent, outcome, tick)
