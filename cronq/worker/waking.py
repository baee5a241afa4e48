"""When an idle worker looks for an id: as soon as it hears of one, and in turn with others that have heard of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import sleep

from redis import Redis

from cronq.clock import Stop, boot_s
from cronq.db.keys import rq_queue

#: Workers that one message wakes look within so much time for each rival, and within so much in all.
_GAP_S = 0.001
_MOST_SCATTER_S = 0.008


class Waking:
    """Lets a worker wait for ids of its queues. One thread waits; `hear` is for any.

    One message wakes all workers of an installation that look at the queue, and one of them gets the id. A worker
    without rivals looks at once. With them each waits a random time, the longer the more they are, and then counts what
    is there before it tries to take it, which costs Redis a tenth: most come too late.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._names: frozenset[str] = frozenset()
        self._rivals = 0
        self._was_prompt = False  #: the last look came at once
        self.woken = Stop()  #: set when something was queued in one of the queues, or this worker is to leave

    def hear(self, queue: str) -> None:
        """Wake the thread that waits, if it looks at *queue*: something was queued there."""
        if queue in self._names:
            self.woken.set()

    def count_rivals(self, workers: int) -> None:
        """Note how many *workers* there are, this one included; idle or not, and whatever their queues."""
        self._rivals = max(0, workers - 1)

    def begin(self, names: Sequence[str]) -> None:
        """Call it before the first look at *names*: a message from then on is about something not yet seen."""
        self._names = frozenset(names)
        self.woken.clear()
        self._was_prompt = False

    def is_time(self, names: Sequence[str], until_boot_s: float) -> bool:
        """Wait until another look is worth its while; False when *until_boot_s* is over before.

        Call it again when that look has found nothing.
        """
        if self._was_prompt:  # another worker was faster, so there is one
            self._rivals, self._was_prompt = max(1, self._rivals), False
        while self.woken.wait(max(0.0, until_boot_s - boot_s())):
            rivals = self._rivals
            if rivals:
                sleep(random.uniform(0, min(_MOST_SCATTER_S, rivals * _GAP_S)))
            self.woken.clear()
            if not rivals:
                self._was_prompt = True
                return True
            if self._is_anything_queued(names):
                return True
        return False

    def _is_anything_queued(self, names: Sequence[str]) -> bool:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(rq_queue(name))
            return any(pipe.execute(raise_on_error=False))  # an error, too, is for the look to meet
