"""When an idle worker looks for an id: as soon as it hears of one, and in turn with others that have heard of it."""

from __future__ import annotations

import random
import threading
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
        self._sleepers = Sleepers()  # itself alone, until it joins others
        self._is_idle = self._is_waiting = self._is_passed_on = False
        self._names: frozenset[str] = frozenset()
        self._rivals = 0
        self._was_prompt = False  #: the last look came at once
        self._was_woken = False  #: and because something was heard of
        self.woken = Stop()  #: set when something was queued in one of the queues, or this worker is to leave

    def join(self, sleepers: Sleepers) -> None:
        """Share what is heard with the other workers of this process."""
        self._sleepers = sleepers
        sleepers.add(self)

    def part(self) -> None:
        """Share nothing any more."""
        self._sleepers.remove(self)

    def hear(self, queue: str) -> None:
        """Wake the thread that waits, if it looks at *queue*: something was queued there."""
        if queue in self._names:
            self.woken.set()

    def may_serve(self, names: frozenset[str]) -> bool:
        """Return True if it looks at one of these queues, and nothing has woken it yet."""
        return self._is_idle and not self.woken.is_set() and not names.isdisjoint(self._names)

    def pass_on(self) -> None:
        """Wake the thread that waits: another has found something, and there may be more."""
        self._is_passed_on = True
        self.woken.set()

    @property
    def is_waiting(self) -> bool:
        """Return True between two looks."""
        return self._is_waiting

    def count_rivals(self, workers: int) -> None:
        """Note how many *workers* there are, those of this process included; idle or not, and whatever their queues."""
        self._rivals = max(0, workers - max(1, self._sleepers.count))

    def begin(self, names: Sequence[str]) -> None:
        """Call it before the first look at *names*: a message from then on is about something not yet seen."""
        self._names = frozenset(names)
        self._is_idle = True
        self.woken.clear()
        self._was_prompt = self._is_passed_on = self._was_woken = False

    def end(self, *, has_found: bool) -> None:
        """Call it after the last look. When a message has led to something, the next idle worker looks for more."""
        self._is_idle = False
        if has_found and self._was_woken:
            self._sleepers.pass_on(self._names)

    def is_time(self, names: Sequence[str], until_boot_s: float) -> bool:
        """Wait until another look is worth its while; False when *until_boot_s* is over before.

        Call it again when that look has found nothing.
        """
        if self._was_prompt:  # another worker was faster, so there is one
            self._rivals, self._was_prompt = max(1, self._rivals), False
        self._is_waiting = True
        try:
            self._was_woken = self._wait(names, until_boot_s)
        finally:
            self._is_waiting = False
        return self._was_woken

    def _wait(self, names: Sequence[str], until_boot_s: float) -> bool:
        while self.woken.wait(max(0.0, until_boot_s - boot_s())):
            rivals = self._rivals
            if rivals:
                sleep(random.uniform(0, min(_MOST_SCATTER_S, rivals * _GAP_S)))
            is_passed_on, self._is_passed_on = self._is_passed_on, False
            self.woken.clear()
            if not rivals:
                # Of several workers here another may have been faster: that tells nothing of other processes.
                self._was_prompt = not is_passed_on and self._sleepers.count <= 1
                return True
            if self._is_anything_queued(names):
                return True
        return False

    def _is_anything_queued(self, names: Sequence[str]) -> bool:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(rq_queue(name))
            return any(pipe.execute(raise_on_error=False))  # an error, too, is for the look to meet


class Sleepers:
    """The workers of one process that share what is heard: a message wakes one of them, which wakes the next one.

    So as many look as there is work for, and those that look at the same moment do so in one call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Waking] = []

    @property
    def count(self) -> int:
        """How many workers there are, idle or not."""
        return len(self._all)

    def add(self, waking: Waking) -> None:
        """From now on *waking* may be woken."""
        with self._lock:
            self._all.append(waking)

    def remove(self, waking: Waking) -> None:
        """From now on it may not."""
        with self._lock:
            self._all = [each for each in self._all if each is not waking]

    def hear(self, queue: str) -> None:
        """Something was queued in *queue*: wake one that waits, or have one look again that looks just now."""
        with self._lock:
            able = [each for each in self._all if each.may_serve(frozenset([queue]))]
            if able:
                next((each for each in able if each.is_waiting), able[0]).hear(queue)

    def pass_on(self, names: frozenset[str]) -> None:
        """There may be more in the queues *names*: wake one that waits."""
        with self._lock:
            for each in self._all:
                if each.is_waiting and each.may_serve(names):
                    each.pass_on()
                    return
