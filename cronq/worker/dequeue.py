"""How a worker takes ids from its queues: one by one, in order of priority, each safe in RQ's intermediate list."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from redis import Redis

from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys, queue_name, rq_intermediate, rq_queue
from cronq.hosts.drain import Hold
from cronq.jobs.spec import SPEC_LAYOUT

#: A message wakes all idle workers of a queue: each waits up to so long before it looks whether an id is left for it.
_SCATTER_S = 0.008
#: Whether a job of a newer cronq has become one of ours again is seen after so long.
_LEAVE_ALONE_S = 5.0


class Dequeue:
    """Pops ids with LMOVE, whatever the number of queues: an id popped by BLPOP is lost with its worker.

    Each look is one round trip, and none blocks in Redis: a worker that was cut off cannot be served an id there.
    """

    def __init__(self, client: Redis, keys: Keys, *, host: str, worker: str) -> None:
        self.client = client
        self.keys = keys
        self.host = host
        self.worker = worker
        self.woken = threading.Event()  #: set when a script says that something was queued where we look
        self._names: frozenset[str] = frozenset()
        self._left_alone: dict[str, float] = {}  # job -> until when, on the boot clock
        self.held: str | None = None  #: why the last look was to take nothing, in words
        self._take: Any = scripts.load(client, "queue/take")
        self._give_back: Any = scripts.load(client, "queue/give_back")

    def take(self, names: Sequence[str], wait_s: float) -> tuple[str, Any] | None:
        """(queue, raw id) of the next id of the queues *names*; None when there is none within *wait_s*.

        Our scripts wake us by a message; what others push is seen within *wait_s*.
        """
        self._names = frozenset(names)
        until = boot_s() + wait_s
        self.woken.clear()  # before looking: a message that comes from now on is about something not yet seen
        found = self._look(names)
        while found is None and self.held is None and self.woken.wait(max(0.0, until - boot_s())):
            # All idle workers of the queue were woken: they look one after the other, and those that come too late only
            # count what is there, which costs Redis a tenth of trying to take it.
            time.sleep(random.uniform(0, _SCATTER_S))
            self.woken.clear()
            if self._is_anything_queued(names):
                found = self._look(names)
        return found

    def hear(self, queue: str) -> None:
        """Something was queued in *queue*: look again, if it is one of those we take from."""
        if queue in self._names:
            self.woken.set()

    def _is_anything_queued(self, names: Sequence[str]) -> bool:
        with self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(rq_queue(name))
            return any(pipe.execute(raise_on_error=False))  # an error, too, is for the look to meet

    def _look(self, names: Sequence[str]) -> tuple[str, Any] | None:
        now = boot_s()
        self._left_alone = {job: until for job, until in self._left_alone.items() if until > now}
        left_alone = json.dumps(list(self._left_alone))
        args = [self.keys.prefix, self.host, self.worker, SPEC_LAYOUT, left_alone, *names]
        found = self._take(keys=[rq_queue(name) for name in names], args=args)
        self.held = None
        if found is None:
            return None
        queue = text(found[0])
        if not queue:
            self.held = str(Hold.from_json(text(found[1]))) if found[1] else "suspended until `rq resume`"
            return None
        return queue_name(queue), found[1]

    def give_back(self, queue: str, raw_id: Any) -> None:
        """Return an id that was taken and will not be served to the head of its queue."""
        self._give_back(keys=[rq_intermediate(queue), rq_queue(queue)], args=[raw_id, "LPUSH"])

    def leave_to_newer(self, queue: str, raw_id: Any, job: str) -> None:
        """Return an id to the tail of its queue, and take none of *job* for some seconds: it is for a newer worker."""
        self._left_alone[job] = boot_s() + _LEAVE_ALONE_S
        self._give_back(keys=[rq_intermediate(queue), rq_queue(queue)], args=[raw_id, "RPUSH"])
