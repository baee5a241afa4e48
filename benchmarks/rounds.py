"""Rounds in which several systems take turns, and what may be said from them: medians, and ratios with their band."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

Who = TypeVar("Who")


def say(text: str) -> None:
    """How far a measurement has come, on stderr."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Ratio:
    """The ratio of two systems: median and spread of the ratios of the rounds that both took part in."""

    median: float
    lowest: float
    highest: float
    quartiles: tuple[float, float]
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Rounded to three places."""
        found = asdict(self) | {"quartiles": [round(each, 3) for each in self.quartiles]}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def ratio(own: Sequence[float], its: Sequence[float]) -> Ratio | None:
    """*own* to *its*, round by round: what slows the machine down for a while slows both. None without a round."""
    ratios = [mine / other for mine, other in zip(own, its, strict=False) if other]  # who fails half-way has fewer
    if not ratios:
        return None
    quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Ratio(
        statistics.median(ratios), min(ratios), max(ratios), (quartiles[0], quartiles[2]), len(ratios)
    )  # fmt: skip


@dataclass
class Entrant:
    """Who takes part in rounds, and its figures by kind of round."""

    name: str
    figures: dict[str, list[float]] = field(default_factory=dict, kw_only=True)
    #: Why it is not measured.
    skipped: str = field(default="", kw_only=True)

    def median(self, kind: str) -> float | None:
        figures = self.figures.get(kind)
        return statistics.median(figures) if figures else None

    def ratio_to(self, other: Entrant | None, kind: str) -> Ratio | None:
        return None if other is None else ratio(self.figures.get(kind, []), other.figures.get(kind, []))

    def try_round(self, kind: str, measure: Callable[[], float]) -> None:
        """One round, or the reason in `skipped`: who cannot take part does not stop the others."""
        if self.skipped:
            return
        try:
            self.figures.setdefault(kind, []).append(measure())
        except (ImportError, NotImplementedError) as error:
            self.skipped = f"skipped: {error}"
        except Exception as error:
            self.skipped = f"failed: {type(error).__name__}: {error}"
        if self.skipped:
            say(f"{self.name}: {self.skipped}")

    @property
    def has_failed(self) -> bool:
        return self.skipped.startswith("failed")


def turns(rounds: int, entrants: Sequence[Who], what: str) -> Iterator[Who]:
    """Each of *entrants* once in each round, in every other round from the last to the first.

    So a machine that slows down or speeds up for a while, or steadily, favours nobody.
    """
    for number in range(rounds):
        say(f"{what}, round {number + 1} of {rounds}")
        yield from entrants if number % 2 == 0 else entrants[::-1]


def percentiles(values: Sequence[float], scale: float = 1.0) -> dict[str, float]:
    """`p50`, `p99` and `max` of *values*, times *scale*."""
    ordered = sorted(values)
    found = {"p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]}
    return {name: round(value * scale, 3) for name, value in (found | {"max": ordered[-1]}).items()}
