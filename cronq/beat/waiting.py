"""Lists runs again whose list was lost, moved aside or removed: nobody would wake them.

Lists beside the ledger say which run to wake, for a lock, at a time, behind another run, after its
parents, or for its next attempt. The
ledger itself knows every run that waits or retries, so the lists are made again from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from redis import Redis

from cronq.beat.open_runs import OpenRuns
from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import RQ_SCHEDULED_JOBS, Keys, belongs_to_rq
from cronq.jobs.quarantine import Quarantine

log = logging.getLogger("cronq.beat")
_MOST_BATCHES = 10


class WaitingWalk:
    """A chore of the beat: walks over all runs in *state* (`waiting` or `retrying`), some in each pass.

    Damaged lists go to *quarantine*.
    """

    def __init__(self, client: Redis, keys: Keys, quarantine: Quarantine, state: str) -> None:
        self.keys = keys
        self.quarantine = quarantine
        self._runs = OpenRuns(client, keys, state)
        self._mend: Any = scripts.load(client, "runs/repair_waiting")
        self._walk: Iterator[list[str] | None] | None = None

    def once(self, now_s: float) -> None:
        """List the runs of the next part of the walk again, where they are missing; *now_s* is server time."""
        walk, self._walk = self._walk or self._runs.steps(), None  # an error on the way begins a new walk
        for batch, run_ids in enumerate(walk, 1):
            if run_ids:
                self._look(run_ids, now_s)
            if run_ids is None or batch >= _MOST_BATCHES:
                self._walk = walk
                return

    def _look(self, run_ids: list[str], now_s: float) -> None:
        keys = self.keys
        lists = [keys.waiting_locks, keys.delayed, RQ_SCHEDULED_JOBS, keys.jobs_behind, keys.retries, keys.gated_by]
        mended, broken = self._mend(keys=lists, args=[self.keys.prefix, repr(now_s), *run_ids])
        for key, kind in sorted({(text(key), text(kind)) for key, kind in broken}):
            # The runs of a key that was moved are listed in the next walk.
            if not belongs_to_rq(key) and self.quarantine.move(key, kind, now_s):
                log.error("MEND moved %s aside for a week: it had a wrong type or value", key)
        for run_id, what in mended:
            log.warning("MEND %s was on no list; it waits for its %s", text(run_id), text(what))
