"""Queues runs whose next attempt is due, each once, however many beats do it. Owner of `retries`."""

from __future__ import annotations

import json
import logging
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys
from cronq.runs.run import REMOVED, Ending, Settlement
from cronq.runs.store import RunStore
from cronq.timetext import rq_stamp

log = logging.getLogger("cronq.beat")

#: Runs queued in one step, which takes Redis a few milliseconds.
_BATCH = 200


class Retrying:
    """A chore of the beat; *runs* is the ledger."""

    def __init__(self, client: Redis, keys: Keys, runs: RunStore) -> None:
        self._keys = keys
        self._runs = runs
        self._retry: Any = scripts.load(client, "runs/retry")

    def once(self, now_s: float) -> bool:
        """Queue the runs whose next attempt is due at *now_s*; one round trip. Return True if there may be more.

        A run whose RQ job was deleted or cancelled meanwhile is settled.
        """
        keys = self._keys
        args = [keys.prefix, repr(now_s), rq_stamp(now_s), self._runs.keep_events, _BATCH]
        reply = json.loads(text(self._retry(keys=[keys.retries, keys.events], args=args)))
        for run_id in reply.get("queued", []):
            log.info("QUEUED %s for its next attempt", run_id)
        for run_id, why in reply.get("broken", []):
            log.error("BROKEN %s cannot have its next attempt: %s; it is tried again", run_id, why)
        over = dict(reply.get("over", []))
        for run in self._runs.rows(over):
            is_canceled = over[run.run_id] == "canceled"
            settlement = Settlement("stopped", "cancelled with RQ's tools") if is_canceled else REMOVED
            rq_status = "canceled" if is_canceled else ""
            ending = Ending(settlement, "rq", now_s, expect="retrying", rq_status=rq_status, stock=is_canceled)
            if self._runs.settle(run, ending):
                log.warning("FINISH %s %s %s", run.run_id, settlement.outcome, settlement.reason)
        return bool(reply["looked_at"] == _BATCH)
