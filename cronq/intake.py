"""How a worker takes ids from its queues: one by one, in order of priority, each safe in RQ's intermediate list."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from redis import Redis

from cronq import scripts
from cronq.keys import rq_intermediate, rq_queue
from cronq.replies import text


class Intake:
    """Pops ids with LMOVE, whatever the number of queues: an id popped by BLPOP is lost with its worker."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.woken = threading.Event()  #: set when a script says that something was queued
        self._take: Any = scripts.load(client, "take_run")

    def take(self, names: Sequence[str], wait_s: float) -> tuple[str, Any] | None:
        """(queue, raw id) of the next id of the queues *names*; None when there is none within *wait_s*.

        One queue: Redis itself wakes us. Several: our scripts do, by a message; what others push is seen within
        *wait_s*.
        """
        if len(names) == 1 and wait_s > 0:
            found: Any = self.client.blmove(rq_queue(names[0]), rq_intermediate(names[0]), int(wait_s))
            return (names[0], found) if found is not None else None
        keys = [rq_queue(name) for name in names]
        self.woken.clear()  # before looking: a message that comes from now on is about something not yet seen
        found = self._take(keys=keys)
        if found is None and wait_s > 0:
            self.woken.wait(wait_s)
            found = self._take(keys=keys)
        return None if found is None else (text(found[0]).removeprefix(rq_queue("")), found[1])

    def give_back(self, queue: str, raw_id: Any) -> None:
        """Return an id that was taken and will not be served to the head of its queue."""
        with self.client.pipeline() as pipe:
            pipe.lrem(rq_intermediate(queue), 1, raw_id)
            pipe.lpush(rq_queue(queue), raw_id)
            pipe.execute()
