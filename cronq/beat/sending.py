"""Sends the claims of a pass, batch after batch, from a thread of its own: the next batch is decided meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple

from redis.exceptions import RedisError

from cronq.db.faults import is_outage
from cronq.runs.claim import QUEUED, Answer, Claimer, TickClaim
from cronq.safetext import storable

_MOST_REASON = 500


class SentBatch(NamedTuple):
    """Claims that were sent, and have not been answered yet."""

    claims: Sequence[TickClaim]
    token: str  #: what the dedup keys of these claims hold once they are won
    answers: Future[list[Answer]]


class Sending:
    """The batches of one pass, sent one after the other in the order of `send`: each when the last one was answered.

    No batch is sent after one that was lost: a later tick would move the mark past those that did not arrive, and
    leave them unrecorded. When a tick is broken, the later ticks of its job are held in all batches that follow, as
    `lua/runs/claim.lua` holds those within one batch.
    """

    def __init__(self, claimer: Claimer, thread: Executor, token: str, now_s: float) -> None:
        self.claimer = claimer
        self.unanswered: deque[SentBatch] = deque()  #: the oldest first
        self._thread = thread
        self._token = token
        self._now_s = now_s
        self._last: Future[list[Answer]] | None = None
        self._damaged: set[str] = set()  #: jobs with a broken tick in this pass; touched by the thread alone

    def send(self, claims: Sequence[TickClaim]) -> None:
        """Have *claims* sent as soon as the batch before them was answered."""
        token = f"{self._token}-{claims[0].spec.name}-{claims[0].decision.tick}"
        self._last = self._thread.submit(self._send_after, self._last, claims, token)
        self.unanswered.append(SentBatch(claims, token, self._last))

    def receive(self) -> tuple[Sequence[TickClaim], list[Answer]]:
        """Wait for the answers to the oldest batch: its claims, and one answer to each.

        Raises what kept the batch from being answered; it stays among the `unanswered`, for it may have arrived.
        """
        answers = self.unanswered[0].answers.result()
        return self.unanswered.popleft().claims, answers

    def _send_after(self, last: Future[list[Answer]] | None, claims: Sequence[TickClaim], token: str) -> list[Answer]:
        if last is not None:
            last.result()
        return self._send(claims, token)

    def _send(self, claims: Sequence[TickClaim], token: str) -> list[Answer]:
        """One round trip; a batch that is refused as a whole is halved, so that one tick cannot hold up others."""
        held = [claim.spec.name in self._damaged for claim in claims]
        if any(held):
            free = [claim for claim, is_held in zip(claims, held, strict=True) if not is_held]
            answers = iter(self._send(free, token) if free else ())
            return [Answer("held", "") if is_held else next(answers) for is_held in held]
        try:
            found = self.claimer.claim_due(claims, token, self._now_s)
        except Exception as error:
            if is_outage(error):
                raise
            if len(claims) > 1:
                half = len(claims) // 2
                before = self._send(claims[:half], token)
                return [*before, *self._send(claims[half:], token)]
            who = "Redis refused it" if isinstance(error, RedisError) else f"cannot be sent ({type(error).__name__})"
            found = [Answer("broken", storable(f"{who}: {error}", _MOST_REASON))]
        if found.count(QUEUED) != len(found):
            broken = (claim.spec.name for claim, each in zip(claims, found, strict=True) if each.code == "broken")
            self._damaged.update(broken)
        return found
