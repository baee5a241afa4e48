"""Compares the ledger's queued runs with RQ's own records: people delete, cancel and empty there, and lists get lost.

Runs are taken and started all the time, so what was read in two steps proves nothing. A run counts as vanished when it
was in no list at two looks some time apart; the script that repushes it looks once more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

from redis import Redis

from cronq.beat.open_runs import OpenRuns
from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import RQ_QUEUES, Keys, rq_intermediate, rq_queue
from cronq.runs.run import REMOVED, Ending, Settlement
from cronq.runs.store import RunStore

log = logging.getLogger("cronq.beat")

#: A pass looks at so many batches of runs.
_MOST_BATCHES = 10
#: Most runs settled in one pass: each takes a round trip while ticks wait. The others are found again.
_MOST_SETTLED = 200
#: Longer lists are not read, so nothing vanishes from them: it is noticed once they are shorter.
_LONGEST_LIST = 10_000


class _Found(NamedTuple):
    """What `lua/runs/reconcile.lua` says of one run."""

    run_id: str
    code: str
    queue: str
    status: str


class Reconcile:
    """A chore of the beat: walks over all queued runs, some in each pass.

    *patience_s* is how long a run must have been in no list before it is repushed.
    """

    def __init__(self, client: Redis, keys: Keys, runs: RunStore, *, by: str, patience_s: float) -> None:
        self.client = client
        self.keys = keys
        self.runs = runs
        self.by = by
        self.patience_s = patience_s
        self._compare: Any = scripts.load(client, "runs/reconcile")
        self._runs = OpenRuns(client, keys, "queued")
        self._walk: Iterator[list[str] | None] | None = None
        self._missing: dict[str, float] = {}  #: runs that were in no list, and since when (boot clock)
        self._missing_now: dict[str, float] = {}  #: the same, as far as the present walk has come

    def once(self, now_s: float) -> None:
        """Settle or repush what the next part of the walk finds; *now_s* is server time."""
        walk, self._walk = self._walk or self._runs.steps(), None  # an error on the way begins a new walk
        lists: dict[str, set[str] | None] = {}
        settled = 0
        for batch, run_ids in enumerate(walk, 1):
            if run_ids is None:
                self._walk = walk
                return
            over = [found for found in self._look(run_ids, now_s) if self._is_over(found, lists)]
            settled += self._settle(over[: _MOST_SETTLED - settled], now_s)
            if batch >= _MOST_BATCHES or settled >= _MOST_SETTLED:
                self._walk = walk
                return
        self._missing, self._missing_now = self._missing_now, {}

    def outage(self) -> None:
        """Take nothing for vanished that was missing until now: Redis did not answer."""
        self._walk = None
        self._missing.clear()
        self._missing_now.clear()

    def _look(self, run_ids: list[str], now_s: float) -> list[_Found]:
        document = {
            "prefix": self.keys.prefix,
            "now": repr(now_s),
            "events": self.runs.keep_events,
            "runs": [[run_id, int(self._is_missed(run_id))] for run_id in run_ids],
        }
        answers = json.loads(text(self._compare(keys=[self.keys.events, RQ_QUEUES], args=[json.dumps(document)])))
        return [_Found(run_id, *answer) for run_id, answer in zip(run_ids, answers, strict=True)]

    def _is_missed(self, run_id: str) -> bool:
        """Return True if this run was in no list when it was last looked at, `patience_s` ago or longer."""
        since = self._missing.get(run_id)
        return since is not None and boot_s() - since >= self.patience_s

    def _is_over(self, found: _Found, lists: dict[str, set[str] | None]) -> bool:
        """Return True if the run is to be settled; note one that is in no list, for the next walk."""
        if found.code == "on_its_way":
            if found.queue not in lists:
                lists[found.queue] = self._read_lists(found.queue)
            there = lists[found.queue]
            if there is not None and found.run_id not in there:
                self._missing_now[found.run_id] = self._missing.get(found.run_id, boot_s())
        elif found.code == "repushed":
            log.warning("PUT BACK %s: it had vanished from its queue %s", found.run_id, found.queue)
        return found.code in ("deleted", "canceled", "ended", "vanished")

    def _read_lists(self, queue: str) -> set[str] | None:
        """The ids that wait in *queue* or were just popped from it; None when they are too many."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.lrange(rq_queue(queue), 0, _LONGEST_LIST)
            pipe.lrange(rq_intermediate(queue), 0, _LONGEST_LIST)
            parts = pipe.execute(raise_on_error=False)
        if not all(isinstance(part, list) and len(part) <= _LONGEST_LIST for part in parts):
            return None
        return {text(run_id) for part in parts for run_id in part}

    def _settle(self, over: list[_Found], now_s: float) -> int:
        """Settle those of *over* that are still queued. Returns how many it tried to settle."""
        known = {found.run_id: found for found in over}
        for run in self.runs.rows(known):
            found = known[run.run_id]
            ending = self._ending(found, now_s)
            if self.runs.settle(run, ending):
                log.warning("FINISH %s %s %s", found.run_id, ending.settlement.outcome, ending.settlement.reason)
        return len(over)

    def _ending(self, found: _Found, now_s: float) -> Ending:
        """The end of a run that is over, and who decided it."""
        settlement, by = REMOVED, "rq"
        if found.code == "canceled":
            settlement = Settlement("stopped", "cancelled with RQ's tools")
        elif found.code == "ended":
            reason = f"RQ has it as {found.status}, and it never began here: see RQ's record"
            settlement = Settlement("failed", reason)
        elif found.code == "vanished":
            settlement = Settlement("lost", "it vanished from its queue again after it had been put back")
            by = self.by
        is_in_rq = found.code in ("canceled", "ended")  # RQ has written its own records of these
        return Ending(settlement, by, now_s, expect="queued", rq_status=found.status, stock=is_in_rq)
