"""The newest runs of many jobs at once, of one outcome if wished, and the ids that workers rejected."""

from __future__ import annotations

from collections.abc import Sequence

from cronq.runs.run import Run
from cronq.runs.store import RunStore

#: How many rows of each job are looked through for an outcome, and how many rows in one round trip.
_MOST_LOOKED_AT, _LOOKED_AT_ONCE = 1000, 500


def newest_rows(runs: RunStore, names: Sequence[str], count: int, outcome: str | None = None) -> list[Run]:
    """The newest *count* runs of these jobs, newest first, with and without a tick.

    With an *outcome* only such runs count, among the newest thousand of each job. Two round trips, more with an
    outcome.
    """
    depth = count if outcome is None else max(count, _MOST_LOOKED_AT)
    ids = runs.newest_ids(names, depth)
    if outcome is None:
        return runs.rows(ids[:count])
    matching: list[Run] = []
    for first in range(0, len(ids), _LOOKED_AT_ONCE):
        matching += [run for run in runs.rows(ids[first : first + _LOOKED_AT_ONCE]) if run.outcome == outcome]
        if len(matching) >= count:
            break
    return matching[:count]


def newest_of_all(runs: RunStore, names: Sequence[str], count: int, outcome: str | None = None) -> list[Run]:
    """The same, and with them the ids that workers rejected, which count as `failed`."""
    rows = newest_rows(runs, names, count, outcome)
    if outcome in (None, "failed"):
        rows += refused_rows(runs, count)
    return sorted(rows, key=lambda run: run.tick or run.queued_at or 0, reverse=True)[:count]


def refused_rows(runs: RunStore, count: int) -> list[Run]:
    """The newest *count* ids that workers rejected, newest first, as runs without a job."""
    return [_refused_run(fields) for fields in runs.rejected(count)]


def _refused_run(fields: dict[str, str]) -> Run:
    known = {
        "state": "done",
        "outcome": "failed",
        "trigger": "refused",
        "queue": fields.get("queue", ""),
        "reason": fields.get("reason", ""),
        "decided_by": fields.get("by", ""),
        "queued_at": fields.get("at", ""),
        "ended_at": fields.get("at", ""),
    }
    return Run.from_hash(fields.get("id", ""), known)
