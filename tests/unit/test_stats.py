"""How runs are summed up: three figures, each of them one that was measured."""

from __future__ import annotations

import pytest

from cronq.runs.run import Run
from cronq.runs.stats import Spread, run_stats

T = 1_795_244_400


def ended(waited_s: float = 0.01, delay_ms: int | None = 2, took_s: float = 1.0, **changes: object) -> Run:
    facts: dict[str, object] = {"outcome": "succeeded", "start_ms": delay_ms, "queued_at": float(T)}
    facts |= {"started_at": T + waited_s, "ended_at": T + waited_s + took_s} | changes
    return Run("a-1", "a", T, "done", **facts)  # type: ignore[arg-type]


def test_of_a_hundred_runs_the_figures_are_those_of_the_50th_the_99th_and_the_last() -> None:
    runs = [ended(waited_s=number / 1000, took_s=number) for number in range(100, 0, -1)]

    found = run_stats("a", runs)

    assert found.runs == 100
    assert found.first_line == Spread(100, 0.052, 0.101, 0.102)
    assert found.duration == Spread(100, 50, 99, 100)


@pytest.mark.parametrize(
    ("spans", "p50", "p99"), [([3], 3, 3), ([1, 2], 1, 2), ([1, 2, 3], 2, 3), ([*range(1, 201)], 100, 198)]
)
def test_a_figure_is_always_one_that_was_measured(spans: list[int], p50: int, p99: int) -> None:
    found = run_stats(None, [ended(took_s=span) for span in spans]).duration

    assert found == Spread(len(spans), p50, p99, max(spans))


def test_what_was_not_measured_counts_for_nothing() -> None:
    queued = Run("a-2", "a", T + 60, "queued", queued_at=T + 60.0)
    skipped = Run("a-3", "a", T + 120, "done", outcome="skipped", queued_at=T + 120.0, ended_at=T + 120.0)
    of_an_older_release = ended(delay_ms=None, took_s=7)
    running = Run("a-4", "a", T, "running", queued_at=float(T), started_at=T + 1.0)

    found = run_stats("a", [queued, skipped, of_an_older_release, running])

    assert (found.runs, found.first_line, found.duration) == (2, None, Spread(1, 7, 7, 7))
    assert run_stats("a", []) == run_stats("a", [queued])


def test_the_wait_of_a_later_attempt_counts_from_nothing_that_is_known() -> None:
    again = ended(waited_s=86_400, attempt=2)

    found = run_stats("a", [again, ended()])

    assert found.first_line == Spread(1, 0.012, 0.012, 0.012)
    assert found.duration == Spread(2, 1, 1, 1)


def test_how_long_a_lost_run_took_is_not_known() -> None:
    found = run_stats("a", [ended(took_s=90, outcome="lost", delay_ms=None), ended(outcome="failed", took_s=3)])

    assert (found.runs, found.duration) == (2, Spread(1, 3, 3, 3))


def test_clocks_that_disagree_make_no_negative_figure() -> None:
    assert run_stats("a", [ended(took_s=-5)]).duration is None
