"""How a worker takes ids from its queues: one by one, in order of priority, each safe in RQ's intermediate list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from redis import Redis

from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys, rq_intermediate, rq_queue
from cronq.hosts.drain import Hold
from cronq.jobs.spec import SPEC_LAYOUT
from cronq.worker.waking import Waking

#: How long a job that a newer cronq has stored is left alone: after that it may be one for this version again.
_LEAVE_ALONE_S = 5.0


class Dequeue:
    """Moves ids into RQ's intermediate lists, however many queues there are: one popped by BLPOP dies with its worker.

    Each look is one round trip and none blocks in Redis, where an id could be served to a worker that is cut off.
    """

    def __init__(self, client: Redis, keys: Keys, *, host: str, worker: str) -> None:
        self.client = client
        self.keys = keys
        self.host = host
        self.worker = worker
        self.waking = Waking(client)
        self._left_alone: dict[str, float] = {}  # job -> until when, on the boot clock
        self.held: str | None = None  #: why this worker was to take nothing at the last look, in words
        self._take: Any = scripts.load(client, "queue/take")
        self._give_back: Any = scripts.load(client, "queue/give_back")

    def take(self, names: Sequence[str], wait_s: float) -> tuple[str, Any] | None:
        """Take the next id of the queues *names*: (queue, raw id); None when none comes within *wait_s*.

        What cronq's scripts queue wakes it at once; what others push is seen with the next call.
        """
        until = boot_s() + wait_s
        self.waking.begin(names)
        found = self._look(names)
        while found is None and self.held is None and self.waking.is_time(names, until):
            found = self._look(names)
        return found

    def _look(self, names: Sequence[str]) -> tuple[str, Any] | None:
        now = boot_s()
        self._left_alone = {job: until for job, until in self._left_alone.items() if until > now}
        left_alone = json.dumps(list(self._left_alone))
        args = [self.keys.prefix, self.host, self.worker, SPEC_LAYOUT, left_alone, *names]
        found = self._take(args=args)
        self.held = None
        if found is None:
            return None
        queue = text(found[0])
        if not queue:
            self.held = str(Hold.from_json(text(found[1]))) if found[1] else "suspended until `rq resume`"
            return None
        return queue, found[1]

    def give_back(self, queue: str, raw_id: Any) -> None:
        """Put an id that was taken, and will not be served, back at the head of its queue."""
        self._give_back(keys=[rq_intermediate(queue), rq_queue(queue)], args=[raw_id, "LPUSH"])

    def leave_to_newer(self, queue: str, raw_id: Any, job: str) -> None:
        """Put an id back at the tail of its queue for a newer worker, and take none of *job* for some seconds."""
        self._left_alone[job] = boot_s() + _LEAVE_ALONE_S
        self._give_back(keys=[rq_intermediate(queue), rq_queue(queue)], args=[raw_id, "RPUSH"])
