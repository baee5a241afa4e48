"""The JSON document of `cronq stats`, and what `cronq show` has of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cronq.app.stats import Stats
    from cronq.runs.stats import RunStats, Spread


def stats_document(stats: Stats) -> dict[str, Any]:
    """`stats`: the figures of each job, and those of all their runs together."""
    return {"jobs": [{"job": each.job} | figures(each) for each in stats.jobs], "all": figures(stats.together)}


def figures(stats: RunStats) -> dict[str, Any]:
    """What `show` has of it, and each entry of its `jobs`."""
    return {
        "runs": stats.runs,
        "claim_to_first_line_s": _spread(stats.first_line),
        "duration_s": _spread(stats.duration),
    }


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {"p50": spread.p50_s, "p99": spread.p99_s, "max": spread.max_s, "runs": spread.runs}
