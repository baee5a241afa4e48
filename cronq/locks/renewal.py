"""One hold of a lock: its deadline, the thread that renews it and the thread that watches it.

Nothing here knows Redis: how a renewal is asked for is handed in. The deadline is counted on CLOCK_BOOTTIME
from *before* the request was sent, so it can only be too early, and the hold counts as lost a margin before
it.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cronq.clock import boot_s

log = logging.getLogger("cronq.lock")

Fact = TypeVar("Fact")

#: What a renewal answers, besides raising.
RENEWED, GONE, TAKEN = 1, 0, -1

#: Longest wait for a moment. Python waits by CLOCK_MONOTONIC, which stands still while the machine sleeps:
#: one wait for all the time that is left would notice a deadline that passed meanwhile only that much later.
_SLICE_S = 0.2


@dataclass(frozen=True)
class LockTiming:
    """The spans of a lock's life, derived from its ttl so that an outage of Redis of up to 0.65 ttl is survived.

    At the worst the outage begins just before a renewal is due, and ends just after an attempt was sent in vain.
    Then these must fit into one ttl: `renew_s`, the outage, the attempt that hangs (`socket_s`), the round trip that
    succeeds (0.025 ttl), `margin_s`. So a renewal that hangs once is repeated within a quarter of the ttl.
    """

    ttl_s: float

    @property
    def ttl_ms(self) -> int:
        """The ttl as the scripts take it."""
        return math.ceil(self.ttl_s * 1000)

    @property
    def margin_s(self) -> float:
        """How long before the key can expire the lock counts as lost: time to stop what it protects."""
        return max(0.2, self.ttl_s / 10)

    @property
    def socket_s(self) -> float:
        """Time-out of one read, write or connect."""
        return min(1.0, self.ttl_s / 8)

    @property
    def retry_s(self) -> float:
        """From the start of a failed attempt to the next, unless it hung longer than that."""
        return min(0.2, self.ttl_s / 20)

    @property
    def renew_s(self) -> float:
        """From the start of a successful renewal to the next."""
        return 0.225 * self.ttl_s - self.socket_s


class Renewal:
    """One hold, from acquisition to release or loss.

    Two threads, because a socket time-out bounds neither a name lookup nor several addresses or sentinels
    tried in turn: the thread that may hang there must not be the one that has to say in time that the lock
    is lost. Both refer to the renewal, so the lock lives on when its holder keeps no reference to it.

    *renew* asks once for a new ttl; it answers RENEWED, GONE or TAKEN, or raises anything when it got no
    answer.
    """

    def __init__(
        self,
        name: str,
        token: int,
        sent_s: float,
        timing: LockTiming,
        renew: Callable[[], int],
        on_lost: Callable[[str], None] | None,
        on_renewed: Callable[[float], None] | None,
    ) -> None:
        self.name = name
        self.token = token
        self.pid = os.getpid()
        self.lost: str | None = None
        self.is_over = False
        self._sent_s = sent_s
        self._timing = timing
        self._renew = renew
        self._on_lost = on_lost
        self._on_renewed = on_renewed
        self._trouble: Exception | None = None
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=work, name=f"cronq-lock-{verb}:{name}", daemon=True)
            for verb, work in (("watch", self._watch_expiry), ("renew", self._keep))
        ]

    def start(self) -> None:
        """Begin to renew and to watch, and tell the first deadline."""
        for thread in self._threads:
            thread.start()
        self._tell(self._on_renewed, self.deadline_s)

    @property
    def deadline_s(self) -> float:
        """Boot time from which on another may hold the lock."""
        return self._sent_s + self._timing.ttl_s

    @property
    def doubt_s(self) -> float:
        """Boot time at which the lock counts as lost unless it is renewed before."""
        return self.deadline_s - self._timing.margin_s

    def look(self) -> None:
        """Compare the clock with the deadline; needs no other thread, so it is right in a process just resumed."""
        with self._changed:
            now_s = boot_s()
            if now_s >= self.doubt_s:
                cause = self._trouble or "this process stood still, or Redis hangs"
                self._lose(f"no renewal was answered for {now_s - self._sent_s:.1f} s ({cause})")

    def renew(self) -> None:
        """Renew once, now. A key that is gone or another's is a loss at once. Raises what kept Redis from answering."""
        sent_s = boot_s()  # the key lives at least until this + ttl, however late the answer comes
        answer = self._renew()
        with self._changed:
            self._trouble = None
            if answer == RENEWED:
                self._sent_s = max(self._sent_s, sent_s)
            elif answer == GONE:
                self._lose("its key is gone from Redis: emptied, failed over or deleted")
            else:
                self._lose("somebody else holds it")
            is_over = self.is_over
        if not is_over:
            self._tell(self._on_renewed, self.deadline_s)

    def end(self) -> None:
        """Stop both threads without waiting for them; a deadline that has passed is a loss all the same."""
        with self._changed:
            self.look()
            self.is_over = True
            self._changed.notify_all()

    def join(self, within_s: float) -> None:
        """Wait for the threads; one that hangs in the network is left to itself and can do no more harm."""
        end_s = boot_s() + within_s
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, end_s - boot_s()))

    def _lose(self, reason: str) -> None:
        with self._changed:
            if not self.is_over:
                self.lost = reason
                self.is_over = True
                self._changed.notify_all()

    def _watch_expiry(self) -> None:
        with self._changed:
            while not self.is_over:
                self._changed.wait(min(_SLICE_S, max(0.0, self.doubt_s - boot_s())))
                self.look()
        if self.lost is not None:
            log.warning("LOST lock %r: %s", self.name, self.lost)
            self._tell(self._on_lost, self.lost)

    def _keep(self) -> None:
        due_s = self._sent_s + self._timing.renew_s
        while self._wait_until(due_s):
            asked_s = boot_s()
            try:
                self.renew()
                due_s = asked_s + self._timing.renew_s
            except Exception as error:  # whatever it was: only an answer or the deadline ends a renewal
                if self._trouble is None and not self.is_over:
                    log.warning("UNRENEWED lock %r: %s; trying again", self.name, error)
                self._trouble = error
                due_s = asked_s + self._timing.retry_s

    def _wait_until(self, moment_s: float) -> bool:
        """True at *moment_s*, False as soon as the renewal is over."""
        with self._changed:
            while not self.is_over:
                left_s = moment_s - boot_s()
                if left_s <= 0:
                    return True
                self._changed.wait(min(_SLICE_S, left_s))
        return False

    def _tell(self, listener: Callable[[Fact], None] | None, fact: Fact) -> None:
        if listener is None:
            return
        try:
            listener(fact)
        except Exception:  # a listener's mistake must not end the renewal it listens to
            log.exception("FAILED what listens to lock %r", self.name)
