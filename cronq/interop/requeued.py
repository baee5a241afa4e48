"""Runs that somebody requeued with RQ's tools: RQ pushes the id, and the ledger has to hear of it.

A settled run becomes its next attempt, so that it can be stopped, counts for `overlap` and goes with its job. One whose
row has ended, for RQ keeps its failures longer than the ledger may keep rows, gets a new row.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys, rq_job
from cronq.errors import CronqError, RunRefused
from cronq.interop.pickles import load_texts, read_data
from cronq.interop.rq_jobs import read_meta
from cronq.jobs.rq_template import FUNCTION

log = logging.getLogger("cronq.beat")

#: Ids looked at in one step, and steps of a pass over one queue; the rest of a longer queue has its turn later.
_BATCH = 500
_MOST_STEPS = 5
_MOST_QUEUES = 100
#: The settings allow no larger arguments of a run.
_MOST_CALL = 101_000_000
#: What `rq_template` leaves in the meta of each run.
_MARK = b"cronq_job"


class Requeued:
    """Tells the ledger what RQ's tools requeued: a chore of the beat, and asked by workers for one id."""

    def __init__(self, client: Redis, keys: Keys, keep_events: int) -> None:
        self.client = client
        self.keys = keys
        self.keep_events = keep_events
        self._reopen: Any = scripts.load(client, "runs/reopen")
        self._readmit: Any = scripts.load(client, "runs/readmit")
        self._behind: dict[str, int] = {}  #: how far a queue was looked through, from its tail
        self._last = ""  #: the queue that was looked through last

    def once(self, queues: Sequence[str], now_s: float) -> None:
        """Open the runs again that were requeued to *queues* (their keys); *now_s* is server time.

        Each pass looks through a part of each queue, beginning at its tail, where RQ pushes what is requeued.
        """
        if not queues:
            return
        queues = sorted(queues)
        first = bisect_right(queues, self._last)
        turn = [*queues[first:], *queues[:first]][:_MOST_QUEUES]
        with self.client.pipeline(transaction=False) as pipe:
            for queue in turn:
                self._read(pipe, queue)
            lists = pipe.execute(raise_on_error=False)
        for queue, ids in zip(turn, lists, strict=True):
            if isinstance(ids, list):  # not so when it is of a wrong type
                self._walk(queue, ids, now_s)
        self._last = turn[-1]
        self._behind = {queue: self._behind[queue] for queue in queues if queue in self._behind}

    def _read(self, client: Any, queue: str) -> Any:
        behind = self._behind.setdefault(queue, 0)
        return client.lrange(queue, -behind - _BATCH, -behind - 1)

    def _walk(self, queue: str, ids: list[Any], now_s: float) -> None:
        for step in range(_MOST_STEPS):
            ids = ids if step == 0 else self._read(self.client, queue)
            for run_id in self.reopen(ids, now_s):
                log.warning("QUEUED %s was requeued with RQ's tools", run_id)
            self._behind[queue] = self._behind[queue] + _BATCH if len(ids) == _BATCH else 0
            if len(ids) < _BATCH:
                return

    def reopen(self, run_ids: Sequence[Any], now_s: float) -> list[str]:
        """Open those of *run_ids* again that have an outcome and were requeued; their ids. One atomic step."""
        if not run_ids:
            return []
        args = [self.keys.prefix, repr(now_s), self.keep_events, *run_ids]
        return [text(run_id) for run_id in self._reopen(keys=[self.keys.events], args=args)]

    def readmit(self, run_id: str, queue: str, *, by: str, now_s: float, status: str = "queued") -> bool:
        """Give a run without a row a new one; False when *run_id* is no run of cronq, or RQ's word is not *status*.

        Raises RunRefused when it is one and cannot run: its job was removed, or a key is damaged.
        """
        call = self._call_of(run_id)
        if call is None:
            return False
        name, args_json = call
        document = {
            "prefix": self.keys.prefix,
            "name": name,
            "run": run_id,
            "queue": queue,
            "by": by,
            "now": repr(now_s),
            "events": self.keep_events,
            "reason": "requeued with RQ's tools after its row had ended",
            "status": status,
            "args": args_json,
        }
        keys = self.keys
        touched = [keys.run(run_id), keys.manual(name), keys.given(name), rq_job(run_id), keys.events]
        answer = text(self._readmit(keys=touched, args=[json.dumps(document)]))
        if answer == "gone":
            raise RunRefused(f"{run_id} cannot run again: its job {name!r} was removed")
        if answer.startswith("broken"):
            raise RunRefused(
                f"{run_id} cannot run again: {answer.partition(' ')[2]} has a wrong type; look at that key"
            )
        return answer in ("won", "taken")

    def _call_of(self, run_id: str) -> tuple[str, str] | None:
        """The job and the arguments that an RQ job of ours names; None when it is not ours. Nothing is executed."""
        try:
            found: Any = self.client.hmget(rq_job(run_id), "data", "meta")
            data, meta = found
            if data is None or meta is None or _MARK not in meta:  # what is not ours is not unpacked
                return None
            name = read_meta(meta).values.get(_MARK.decode())
            call = load_texts(read_data(data, _MOST_CALL), _MOST_CALL)
        except (CronqError, ResponseError):
            return None  # damaged: the worker takes it for an RQ job that is not cronq's, and says what is wrong
        if not (isinstance(call, tuple) and len(call) == 4 and call[0] == FUNCTION and isinstance(call[2], tuple)):
            return None
        given = call[2]
        is_ours = len(given) == 2 and all(isinstance(each, str) for each in given) and given[0] == name
        return (given[0], given[1]) if is_ours else None
