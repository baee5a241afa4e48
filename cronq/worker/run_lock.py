"""The lock of a run as its guardian knows it: scripts take, renew and give it back together with the run."""

from __future__ import annotations

from dataclasses import dataclass

from cronq.locks.renewal import GONE, RENEWED, LockTiming


@dataclass
class RunLock:
    """A lock that a run at work holds in Redis; it ends by itself `timing.ttl_s` after its last renewal."""

    name: str
    timing: LockTiming
    sent_boot_s: float  #: when the call was sent that took it, or renewed it last
    fence: int | None = None
    keep_until_boot_s: float = 0.0  #: until then it is kept from everybody, though its run ends
    is_lost: bool = False  #: it is, or may be, another's, and the log says so
    trouble: Exception | None = None  #: why the last renewal was not answered

    @property
    def deadline_boot_s(self) -> float:
        """Time on the boot clock from which on another may hold it."""
        return self.sent_boot_s + self.timing.ttl_s

    @property
    def doubt_boot_s(self) -> float:
        """Time on the boot clock at which it counts as lost unless it is renewed before."""
        return self.deadline_boot_s - self.timing.margin_s

    def hear(self, answer: int | None, sent_boot_s: float) -> str | None:
        """Note the *answer* to a renewal that was sent at that time. Return why the lock is lost, None if it is not."""
        self.trouble = None
        if answer == RENEWED:
            self.sent_boot_s = max(self.sent_boot_s, sent_boot_s)
            return None
        if answer == GONE:
            return "its key is gone from Redis: emptied, failed over or deleted"
        return "somebody else holds it"

    def why_in_doubt(self, now: float) -> str:
        """Why it counts as lost at *now*, boot clock, though nobody has said so."""
        cause = self.trouble or "this process stood still, or Redis hangs"
        return f"no renewal was answered for {now - self.sent_boot_s:.1f} s ({cause})"
