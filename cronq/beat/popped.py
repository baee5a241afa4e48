"""Puts ids back that a worker popped from a queue and never began: RQ's intermediate lists tell of them.

An id that stays there was popped by a worker that died before it began. A worker that was only slow may still begin it:
then it is started twice, and the start script refuses the second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys, queue_name, rq_intermediate, rq_job
from cronq.runs.store import RunStore

log = logging.getLogger("cronq.beat")

#: Popped ids are short, and each counts from the first time it was seen.
_MOST_IDS = 2000
#: An RQ job that is not ours is put back so often: the next time it is taken for what ends its workers.
_MOST_UNPOPS = 3


class Popped:
    """The ids in RQ's intermediate lists, and since when they have been seen there (boot clock).

    One that has been there for *missed_s* seconds is unpopped: put back on its queue, or rejected.
    """

    def __init__(self, client: Redis, keys: Keys, runs: RunStore, *, by: str, missed_s: float) -> None:
        self.client = client
        self.keys = keys
        self.runs = runs
        self.by = by
        self.missed_s = missed_s
        self._unpop: Any = scripts.load(client, "queue/unpop")
        self._since: dict[tuple[str, bytes], float] = {}

    def read(self, pipe: Any, queues: Iterable[str]) -> None:
        """Add to *pipe* one command for each of the *queues*, which are keys."""
        for queue in queues:
            pipe.lrange(rq_intermediate(queue_name(queue)), 0, _MOST_IDS - 1)

    def forget(self) -> None:
        """Count anew from the next look: what was seen before an outage proves nothing."""
        self._since.clear()

    def look(self, found: Mapping[str, Any], queues: Iterable[str], boot: float, now_s: float) -> None:
        """Unpop what has been in its list for too long.

        *found* are the replies to `read` by queue; queues that are not among them were not known yet and are read now.
        """
        lists = {**found, **self._read_now([queue for queue in queues if queue not in found])}
        since: dict[tuple[str, bytes], float] = {}
        for queue, ids in lists.items():
            for raw_id in ids if isinstance(ids, list) else []:
                seen = self._since.get((queue, raw_id), boot)
                if boot - seen < self.missed_s or not self.unpop(queue, raw_id, now_s):
                    since[queue, raw_id] = seen
        self._since = since

    def _read_now(self, queues: list[str]) -> Mapping[str, Any]:
        if not queues:
            return {}
        with self.client.pipeline(transaction=False) as pipe:
            self.read(pipe, queues)
            return dict(zip(queues, pipe.execute(raise_on_error=False), strict=True))

    def unpop(self, queue: str, raw_id: bytes, now_s: float) -> bool:
        """Put one id back on its queue, or reject it where that is of no use; False if it is to stay where it is."""
        run_id, name = text(raw_id), queue_name(queue)
        keys = [rq_intermediate(name), queue, self.keys.run(run_id), rq_job(run_id)]
        code = text(self._unpop(keys=keys, args=[raw_id, name, _MOST_UNPOPS, self.keys.prefix]))
        if code == "back":
            log.warning("PUT BACK %s: popped by a worker that vanished before it began", run_id)
        elif code == "empty":
            reason = f"{run_id} was queued in {name!r}, and there is neither a run nor an RQ job of that id"
            self.runs.reject(raw_id, name, reason, by=self.by, now_s=now_s)
            log.error("REFUSED %s", reason)
        elif code == "often":
            reason = f"{run_id} was popped {_MOST_UNPOPS + 1} times by workers that vanished before it began"
            self.runs.reject(raw_id, name, reason, by=self.by, now_s=now_s)
            log.error("REFUSED %s; look at it before you requeue it", reason)
        return code != "left"
