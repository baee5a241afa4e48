"""Stops all runs of a job, or in a queue, that have not begun, however many: some in each step.

It also finishes what the removal of a job began. Owner of `removals` and `removed:{name}:{set}`.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import read_json, text
from cronq.db.keys import Keys, rq_queue
from cronq.errors import BadValue
from cronq.runs.run import Ending, Settlement
from cronq.runs.store import RunStore
from cronq.timetext import rq_stamp

log = logging.getLogger("cronq.beat")

#: Runs stopped in one step, which takes Redis two or three milliseconds.
_BATCH = 50
#: Most steps of one pass of a beat, which has ticks to serve in between.
_MOST_STEPS = 60
#: Age in seconds from which a removal counts as left by its remover, and a beat goes on with it.
_LEFT_ALONE_S = 30.0
_SETS = ("active", "given")
#: How often a queue is looked through.
_MOST_PASSES = 3


class BulkStop:
    """Stops runs that are queued, waiting or retrying; *runs* is the ledger."""

    def __init__(self, client: Redis, keys: Keys, runs: RunStore) -> None:
        self.client = client
        self.keys = keys
        self.runs = runs
        self._stop: Any = scripts.load(client, "runs/stop_all")
        self._stop_queued: Any = scripts.load(client, "runs/stop_queued")

    def stop_open(self, name: str, *, by: str, now_s: float) -> tuple[list[str], list[str]]:
        """Stop the runs of a job that have not begun. Return their ids, and those of open runs that are left.

        Left are those that have begun, and those for which RQ jobs wait.
        """
        stopped: list[str] = []
        others: list[str] = []
        for key in (self.keys.active(name), self.keys.given(name)):
            cursor = ""
            while cursor != "0":
                reason = f"{by} stopped it before it began"
                reply = self._step(key, name, cursor, reason=reason, by=by, now_s=now_s)
                cursor = reply["cursor"]
                stopped += reply.get("stopped", [])
                others += reply.get("others", [])
        return stopped, list(dict.fromkeys(others))  # a part of a small set is looked at twice

    def stop_queued(self, queue: str, before_s: float, *, by: str, reason: str, now_s: float) -> list[str]:
        """Stop the runs in *queue* that were queued by *before_s* (epoch seconds). Return their ids.

        Workers that take from the queue meanwhile move its entries; it is looked through again until a pass finds
        nothing, three times at most.
        """
        facts = {"by": by, "reason": reason, "now": repr(now_s), "stamp": rq_stamp(now_s), "before": repr(before_s)}
        stopped: list[str] = []
        for _ in range(_MOST_PASSES):
            found, has_kept = self._pass(queue, facts)
            stopped += found
            if not found or not has_kept:
                break
        return stopped

    def _pass(self, queue: str, facts: dict[str, Any]) -> tuple[list[str], bool]:
        """Look through a queue once, but not at what comes meanwhile. Return what was stopped; does anything stay?"""
        stopped: list[str] = []
        first, left = 0, self.client.llen(rq_queue(queue))
        while left > 0:
            document = facts | {
                "prefix": self.keys.prefix,
                "row_ttl": self.runs.row_ttl_s,
                "events": self.runs.keep_events,
                "first": first,
                "count": min(_BATCH, left),
            }
            keys = [rq_queue(queue), self.keys.events]
            reply = json.loads(text(self._stop_queued(keys=keys, args=[json.dumps(document)])))
            stopped += reply.get("stopped", [])
            for run in self.runs.rows(reply.get("others", [])):
                told = Ending(Settlement("stopped", facts["reason"]), facts["by"], float(facts["now"]), expect="queued")
                if self.runs.settle(run, told):
                    stopped.append(run.run_id)
                    reply["kept"] -= 1
            if not reply["seen"]:
                break
            first, left = first + reply["kept"], left - reply["seen"]
        return stopped, first > 0

    def finish_removal(self, name: str, now_s: float, *, most_steps: int | None = None) -> int | None:
        """Stop the runs that a removed job has left. Return how many; None when no removal of that name is unfinished.

        Whoever removes a job calls this at once; if that process dies meanwhile, whoever removes that name next does,
        or a beat. Two that do it at the same time share the work.
        """
        record = self.client.hget(self.keys.removals, name)
        if record is None:
            return None
        by, stopped, steps = str(_facts(record).get("by", "?")), 0, 0
        is_over = False
        while not is_over:
            for part in _SETS:
                cursor = ""
                while cursor != "0":
                    if most_steps is not None and steps >= most_steps:
                        return stopped
                    reply = self._step(
                        self.keys.removed(name, part), name, cursor,
                        reason="the job was removed", by=by, now_s=now_s, removal=text(record),
                    )  # fmt: skip
                    steps += 1
                    cursor, is_over = reply["cursor"], reply["is_over"]
                    stopped += len(reply.get("stopped", []))
                    stopped += self._one_by_one(name, part, reply.get("others", []), by, now_s)
        return stopped

    def once(self, now_s: float) -> bool:
        """Go on with removals whose remover has died: a beat's chore. Return True if more is to be done at once.

        One round trip when there is none.
        """
        has_more = False
        for raw_name, record in self.client.hscan_iter(self.keys.removals, count=100):
            at = _facts(record).get("at")
            if isinstance(at, int | float) and now_s - at < _LEFT_ALONE_S:
                continue
            name = text(raw_name)
            stopped = self.finish_removal(name, now_s, most_steps=_MOST_STEPS)
            log.warning("STOPPED %d runs of job %s, which was removed", stopped or 0, name)
            has_more = has_more or bool(stopped)  # all of them, or as many as a pass may
        return has_more

    def _one_by_one(self, name: str, part: str, run_ids: list[str], by: str, now_s: float) -> int:
        """Stop runs for which RQ jobs wait, each by the script that releases those."""
        stopped = 0
        for run in self.runs.rows(run_ids):
            if run.state in ("queued", "waiting", "retrying"):
                removed = Settlement("stopped", "the job was removed")
                stopped += self.runs.settle(run, Ending(removed, by, now_s, expect=run.state))
        if run_ids:
            self.client.hdel(self.keys.removed(name, part), *run_ids)
        return stopped

    def _step(
        self, key: str, name: str, cursor: str, *, reason: str, by: str, now_s: float, removal: str | None = None
    ) -> Any:
        document: dict[str, Any] = {
            "prefix": self.keys.prefix,
            "job": name,
            "by": by,
            "reason": reason,
            "now": repr(now_s),
            "row_ttl": self.runs.row_ttl_s,
            "events": self.runs.keep_events,
            "cursor": cursor if cursor.isdigit() else "0",
            "count": _BATCH,
        }
        if removal is not None:
            document["removal"] = removal
        return json.loads(text(self._stop(keys=[key, self.keys.events], args=[json.dumps(document)])))


def _facts(record: Any) -> dict[str, Any]:
    """The facts that a removal's record holds; none when somebody wrote over it."""
    try:
        facts = read_json(record)
    except BadValue:
        return {}
    return facts if isinstance(facts, dict) else {}
