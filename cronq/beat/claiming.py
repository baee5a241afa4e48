"""Sends the claims of a pass, batch after batch, from a thread of its own: the next batch is decided meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from redis.exceptions import RedisError

from cronq.db.faults import is_general
from cronq.runs.claim import QUEUED, Answer, Claimer, TickClaim
from cronq.safetext import storable

_MOST_REASON = 500


class Claiming:
    """One batch at a time is on its way, in the order of `send`."""

    def __init__(self, claimer: Claimer) -> None:
        self.claimer = claimer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cronq-claim")

    def send(
        self,
        last: Future[list[Answer]] | None,
        damaged: set[str],
        claims: Sequence[TickClaim],
        token: str,
        now_s: float,
    ) -> Future[list[Answer]]:
        """Send *claims* once *last* was answered: a later tick would leave those that did not arrive unrecorded.

        *damaged* are the jobs with a broken tick in an earlier part of this pass: their later ticks are held, as
        `lua/runs/claim.lua` holds those within one batch. It belongs to this object's thread until the pass is over.
        """
        return self._thread.submit(self._send_after, last, damaged, claims, token, now_s)

    def close(self) -> None:
        """Send nothing that is not on its way yet."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _send_after(
        self,
        last: Future[list[Answer]] | None,
        damaged: set[str],
        claims: Sequence[TickClaim],
        token: str,
        now_s: float,
    ) -> list[Answer]:
        if last is not None:
            last.result()
        return self._send(claims, token, now_s, damaged)

    def _send(self, claims: Sequence[TickClaim], token: str, now_s: float, damaged: set[str]) -> list[Answer]:
        """One round trip; a batch that is refused as a whole is halved, so that one tick cannot hold up others."""
        if damaged:
            free = [claim for claim in claims if claim.spec.name not in damaged]
            if len(free) < len(claims):
                answers = iter(self._send(free, token, now_s, damaged) if free else ())
                return [Answer("held", "") if each.spec.name in damaged else next(answers) for each in claims]
        try:
            found = self.claimer.claim_due(claims, token, now_s)
        except Exception as error:
            if isinstance(error, RedisError | OSError) and is_general(error):
                raise
            if len(claims) > 1:
                half = len(claims) // 2
                before = self._send(claims[:half], token, now_s, damaged)
                return [*before, *self._send(claims[half:], token, now_s, damaged)]
            who = "Redis refused it" if isinstance(error, RedisError) else f"cannot be sent ({type(error).__name__})"
            found = [Answer("broken", storable(f"{who}: {error}", _MOST_REASON))]
        if found.count(QUEUED) != len(found):
            damaged.update(claim.spec.name for claim, each in zip(claims, found, strict=True) if each.code == "broken")
        return found
