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
#: How often somebody looks whom nothing woke: what others than cronq push is announced by nobody.
LOOK_EVERY_S = 1.0
#: A worker looks itself at least so often, whatever its siblings see: only it is told that it is drained.
_OWN_LOOK_S = 4.0


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
        self._was_idle = False  #: the call before this one has found nothing
        self._looked_boot_s = 0.0  #: when it looked last
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

    def is_due(self) -> bool:
        """Return True if this worker is to look without a message, False if one of its process has just done so.

        Call it after `begin`.
        """
        now = boot_s()
        has_to = self._sleepers.count <= 1 or not self._was_idle or now >= self._looked_boot_s + _OWN_LOOK_S
        is_due = self._sleepers.may_look(self._names, now) or has_to
        if is_due:
            self._looked_boot_s = now
        return is_due

    def next_look_boot_s(self) -> float:
        """When somebody of this process is to look again, if no message comes before."""
        return self._sleepers.looked_boot_s(self._names) + LOOK_EVERY_S

    def end(self, *, has_found: bool) -> None:
        """Call it after the last look. What an idle worker finds lets the next one look for more."""
        self._is_idle = False
        if has_found and (self._was_woken or self._was_idle):
            self._sleepers.pass_on(self._names)
        self._was_idle = not has_found

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

    So as many look as there is work for, and those that look at the same moment do so in one call. While no message
    comes, one of them looks for all that serve the same queues.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Waking] = []
        self._looked: dict[frozenset[str], float] = {}  # queues -> when somebody looked there last, on the boot clock

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

    def may_look(self, names: frozenset[str], now_boot_s: float) -> bool:
        """Return True to the first that asks after LOOK_EVERY_S, who is to look in the queues *names* then."""
        with self._lock:
            if now_boot_s < self._looked.get(names, -LOOK_EVERY_S) + LOOK_EVERY_S:
                return False
            self._looked[names] = now_boot_s
            return True

    def looked_boot_s(self, names: frozenset[str]) -> float:
        """When somebody looked there last, on the boot clock."""
        return self._looked.get(names, boot_s())

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
