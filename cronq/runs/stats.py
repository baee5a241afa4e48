"""How long runs take to begin and to end, in three figures: what half of them need, what 99 of 100 need, the most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from cronq.outcomes import EXECUTED
from cronq.runs.run import Run

#: Of these how they ended, and so how long they took, is known to the worker that ran them.
_ENDED = frozenset(EXECUTED) - {"lost"}


@dataclass(frozen=True)
class Spread:
    """How the spans of so many runs are spread, in seconds."""

    runs: int
    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class RunStats:
    """What the newest runs of a job needed, or those of many jobs. None where no run tells of it.

    `first_line` is from the claim to the first line of the work, of first attempts alone: RQ's tools do not say when
    they requeued a run. `duration` is from the start to the end, whatever the outcome, of those that were not lost.
    """

    job: str | None  #: None: of all jobs together
    runs: int  #: that have begun
    first_line: Spread | None
    duration: Spread | None


def run_stats(job: str | None, runs: Iterable[Run]) -> RunStats:
    """The figures of these runs."""
    begun = [run for run in runs if run.started_at is not None]
    first_lines = [run.claim_to_first_line_s for run in begun if run.attempt == 1]
    durations = [run.duration_s for run in begun if run.outcome in _ENDED]
    return RunStats(job, len(begun), _spread(first_lines), _spread(durations))


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = sorted(value for value in values if value is not None and value >= 0)
    return Spread(len(known), _rank(known, 0.5), _rank(known, 0.99), known[-1]) if known else None


def _rank(ordered: Sequence[float], share: float) -> float:
    """The smallest of *ordered* that so large a *share* of them does not exceed: one that was measured."""
    return ordered[ceil(share * len(ordered)) - 1]
