"""How a worker takes ids from its queues: one by one, in order of priority, each safe in RQ's intermediate list."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from redis import Redis

from cronq import scripts
from cronq.holds import Hold
from cronq.keys import RQ_SUSPENDED, Keys, rq_intermediate, rq_queue
from cronq.replies import text


class Intake:
    """Pops ids with LMOVE, whatever the number of queues: an id popped by BLPOP is lost with its worker.

    Each look is one round trip, and none blocks in Redis: a worker that was cut off cannot be served an id there.
    """

    def __init__(self, client: Redis, keys: Keys, *, host: str, worker: str) -> None:
        self.client = client
        self.keys = keys
        self.host = host
        self.worker = worker
        self.woken = threading.Event()  #: set when a script says that something was queued
        self.held: str | None = None  #: why the last look was to take nothing, in words
        self._take: Any = scripts.load(client, "take_run")
        self._give_back: Any = scripts.load(client, "give_back")

    def take(self, names: Sequence[str], wait_s: float) -> tuple[str, Any] | None:
        """(queue, raw id) of the next id of the queues *names*; None when there is none within *wait_s*.

        Our scripts wake us by a message; what others push is seen within *wait_s*.
        """
        self.woken.clear()  # before looking: a message that comes from now on is about something not yet seen
        found = self._look(names)
        if found is None and wait_s > 0 and self.held is None:
            self.woken.wait(wait_s)
            found = self._look(names) if self.woken.is_set() else None
        return found

    def _look(self, names: Sequence[str]) -> tuple[str, Any] | None:
        keys = [RQ_SUSPENDED, self.keys.holds, *map(rq_queue, names)]
        found = self._take(keys=keys, args=[self.host, self.worker, *names])
        self.held = None
        if found is None:
            return None
        queue = text(found[0])
        if not queue:
            self.held = str(Hold.from_json(text(found[1]))) if found[1] else "suspended until `rq resume`"
            return None
        return queue.removeprefix(rq_queue("")), found[1]

    def give_back(self, queue: str, raw_id: Any) -> None:
        """Return an id that was taken and will not be served to the head of its queue."""
        self._give_back(keys=[rq_intermediate(queue), rq_queue(queue)], args=[raw_id])
