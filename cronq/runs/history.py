"""The newest runs of many jobs at once, of one outcome if wished, and the ids that workers rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cronq.runs.ranges import single_ticks
from cronq.runs.run import Run
from cronq.runs.store import ALWAYS, REFUSED_KEPT, Period, RunStore

#: How many rows of each job are looked through for an outcome, and how many rows in one round trip.
_MOST_LOOKED_AT, _LOOKED_AT_ONCE = 1000, 500
#: How many are shown when nobody says how many, nor of what period.
_FEW = 20


@dataclass(frozen=True)
class Wanted:
    """Which rows of a history are wanted: how many at most, of what outcome and of what period."""

    count: int | None = None  #: None: 20, or all of a period
    outcome: str | None = None
    period: Period = ALWAYS

    @property
    def most(self) -> int | None:
        """How many rows there may be; None: any number."""
        return _FEW if self.count is None and self.period == ALWAYS else self.count

    @property
    def depth(self) -> int | None:
        """How many rows of each job are looked at; None: all that lie in the period."""
        if self.outcome is None or self.most is None:
            return self.most
        return None if self.period != ALWAYS else max(self.most, _MOST_LOOKED_AT)


def newest_rows(runs: RunStore, names: Sequence[str], wanted: Wanted) -> list[Run]:
    """The newest *wanted* runs of these jobs, newest first, with and without a tick; ranges as their single ticks.

    A run without a tick counts for when it was queued, a delayed one for when it is due. Of one outcome without a
    period they are looked for among the newest thousand rows of each job. Two round trips; of an outcome or a whole
    period one more for each 500 rows.
    """
    ids, most, period = runs.newest_ids(names, wanted.depth, wanted.period), wanted.most, wanted.period
    at_once = most if most and wanted.outcome is None else _LOOKED_AT_ONCE
    found = single_ticks(_rows_of(runs, ids, at_once), wanted.outcome, period.since_s, period.until_s)
    return list(islice((run for run in found if wanted.outcome in (None, run.outcome)), most))


def _rows_of(runs: RunStore, ids: Sequence[str], at_once: int) -> Iterator[Run]:
    """The rows of *ids*, so many in each round trip, as they are asked for."""
    for first in range(0, len(ids), at_once):
        yield from runs.rows(ids[first : first + at_once])


def newest_of_all(runs: RunStore, names: Sequence[str], wanted: Wanted) -> list[Run]:
    """The same, and with them the ids that workers rejected, which count as `failed`."""
    rows = newest_rows(runs, names, wanted)
    if wanted.outcome in (None, "failed"):
        most = wanted.most if wanted.period == ALWAYS else None
        refused = refused_rows(runs, REFUSED_KEPT if most is None else most)
        rows += [run for run in refused if wanted.period.covers(run.queued_at or 0)]
    return sorted(rows, key=lambda run: run.tick or run.queued_at or 0, reverse=True)[: wanted.most]


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
