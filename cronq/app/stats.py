"""Reads from the ledger how long runs take to begin and to end: of each of some jobs, and of all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cronq.runs.run import Run
from cronq.runs.stats import RunStats, run_stats
from cronq.runs.store import RunStore

#: Jobs whose ids, and rows that are read in one round trip.
_JOBS_AT_ONCE, _ROWS_AT_ONCE = 100, 1000


class Stats(NamedTuple):
    """The figures of each job, by name, and those of all their runs together."""

    jobs: list[RunStats]
    together: RunStats


def read_stats(runs: RunStore, names: Sequence[str], newest: int) -> Stats:
    """The figures of the *newest* rows of each of these jobs that are in the ledger, and of those of all.

    A round trip for each hundred jobs, and for each thousand rows. Rows of ticks that never ran tell nothing.
    """
    found = dict(_newest_rows(runs, names, newest))
    return Stats(
        [run_stats(name, found[name]) for name in names],
        run_stats(None, (run for name in names for run in found[name])),
    )


def _newest_rows(runs: RunStore, names: Sequence[str], newest: int) -> Iterator[tuple[str, list[Run]]]:
    for first in range(0, len(names), _JOBS_AT_ONCE):
        rows: dict[str, list[Run]] = {name: [] for name in names[first : first + _JOBS_AT_ONCE]}
        ids = runs.newest_ids(list(rows), newest)
        for begin in range(0, len(ids), _ROWS_AT_ONCE):
            for run in runs.rows(ids[begin : begin + _ROWS_AT_ONCE]):
                if run.job in rows and len(rows[run.job]) < newest:  # those with a tick and those without are merged
                    rows[run.job].append(run)
        yield from rows.items()
