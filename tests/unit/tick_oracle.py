"""What becomes of ticks, by the rules as the pages tell them: the judge of `cronq.runs.simulate` and so of `due`.

It knows nothing of marks, ranges or passes: it sorts the ticks by when a beat is there for them, then applies each rule
to the list. Of the code it judges it uses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Run:
    """One run that was asked for."""

    tick: int
    asked_at: int
    begun_at: float | None = None
    ended_at: float | None = None
    outcome: str = "succeeded"


@dataclass
class Judge:
    """One job: its options by name, and how long each of its runs takes."""

    options: dict[str, Any]
    duration_s: float
    runs: list[Run] = field(default_factory=list)  #: what is not over
    over: dict[int, str] = field(default_factory=dict)  #: the outcomes of what is, by tick
    over_until: float = 0.0  #: the latest end of those

    def outcomes(self, ticks: list[int], outages: list[tuple[int, int]]) -> dict[int, str]:
        """The outcome of each of *ticks*."""
        found: dict[int, str] = {}
        together: dict[int, list[int]] = {}
        for tick in ticks:
            together.setdefault(found_at(tick, outages), []).append(tick)
        for now in sorted(together):
            for tick, word in self._by_catchup(together[now], now):
                if word != "run":
                    found[tick] = word
                elif not self._ask(tick, now, several=len(together[now]) > 1):
                    found[tick] = "skipped"
        self._let_go_on(float("inf"))
        return found | self.over | {run.tick: run.outcome for run in self.runs}

    def _by_catchup(self, ticks: list[int], now: int) -> list[tuple[int, str]]:
        rule, only_newest = self.options["catchup"], self.options["overlap"] in ("latest", "replace")
        answers = []
        for place, tick in enumerate(ticks):
            is_newest, age = place == len(ticks) - 1, now - tick
            was_missed = not is_newest or age > 60
            if not was_missed:
                answers.append((tick, "run"))
            elif age > self.options["window"] or rule == "skip":
                answers.append((tick, "missed"))
            elif is_newest:
                answers.append((tick, "run"))
            elif rule == "latest" or only_newest:
                answers.append((tick, "coalesced"))
            else:
                answers.append((tick, "run" if place >= len(ticks) - self.options["max_catchup"] else "missed"))
        return answers

    def _ask(self, tick: int, now: int, *, several: bool) -> bool:
        """A run for *tick*. False: it is skipped."""
        self._let_go_on(now)
        rule = self.options["overlap"]
        is_open = [run for run in self.runs if run.ended_at is None or run.ended_at > now]
        caught_up = several or now - tick > 60
        if rule == "skip" and is_open and not (self.options["catchup"] == "all" and caught_up):
            return False
        if rule == "latest":
            for run in is_open:
                if run.begun_at is None:
                    run.outcome, run.begun_at, run.ended_at = "coalesced", now, now
        if rule == "replace":
            for run in is_open:
                run.outcome, run.ended_at = "stopped", now
        run = Run(tick, now)
        self.runs.append(run)
        if rule in ("skip", "allow", "replace") or (all(run.ended_at is not None for run in is_open) and not is_open):
            self._begin(run, now)
        return True

    def _let_go_on(self, now: float) -> None:
        """Begin what waits, one after the other, as far as the one before has ended by *now*."""
        for before, run in zip([None, *self.runs], self.runs, strict=False):
            if run.begun_at is None:
                ended = max(
                    (each.ended_at or 0.0 for each in self.runs if each.tick < run.tick), default=self.over_until
                )
                if ended > now or (before is not None and before.ended_at is None):
                    break
                self._begin(run, max(ended, run.asked_at))
        for run in [run for run in self.runs if run.ended_at is not None and run.ended_at <= now]:
            self.runs.remove(run)
            self.over[run.tick] = run.outcome
            self.over_until = max(self.over_until, run.ended_at or 0.0)

    def _begin(self, run: Run, moment: float) -> None:
        run.begun_at = run.ended_at = moment
        if self.options["ttl"] is not None and moment - run.tick > self.options["ttl"]:
            run.outcome = "expired"
        else:
            limit = self.options.get("timeout", 3600)
            run.outcome = "succeeded" if self.duration_s <= limit else "timed_out"
            run.ended_at = moment + min(self.duration_s, limit)


def found_at(tick: int, outages: list[tuple[int, int]]) -> int:
    """When a beat is there for *tick*: at once, or when all outages that follow on each other are over."""
    now, is_moved = tick, True
    while is_moved:
        over = [end for begin, end in outages if begin <= now < end]
        now, is_moved = max([now, *over]), bool(over)
    return now
