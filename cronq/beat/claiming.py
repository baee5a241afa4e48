"""Claims the due ticks of a pass: decides them, sends the claims in batches, and acts on each answer.

The next batch is decided while Redis works on the last one, so two may be under way; `Sending` keeps their order. What
an answer means for the count, the log and the job is in `_heed` alone.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from cronq.beat.deciding import Deciding, earliest
from cronq.beat.halted import HaltedJobs
from cronq.beat.holding import Holding
from cronq.beat.repair import BrokenJobs, Repair
from cronq.clock import ServerClock
from cronq.db.faults import is_outage
from cronq.jobs.calendars import KnownCalendars
from cronq.jobs.store import JobStore
from cronq.jobs.stored import DueReading
from cronq.runs.claim import HOLD_BACK, QUEUED, Answer, Claimer, TickClaim
from cronq.runs.due import Decision
from cronq.safetext import storable
from cronq.timetext import iso


@dataclass
class BeatStatus:
    """Written by a beat's passes, read by its heartbeat."""

    clock: ServerClock
    won: int = 0  #: ticks that this beat has claimed since it began
    last_pass_s: float | None = None  #: when the last pass read the agenda, server time

    def facts(self) -> dict[str, Any]:
        """The facts that travel with the heartbeat."""
        offset = self.clock.offset_s
        return {
            "clock_offset_s": None if offset is None else round(offset, 3),
            "won": self.won,
            "last_pass": self.last_pass_s,
            "holding": self.clock.holding,
        }


_MOST_REASON = 500


class SentBatch(NamedTuple):
    """Claims that were sent, and have not been answered yet."""

    claims: Sequence[TickClaim]
    token: str  #: what the dedup keys of these claims hold once they are won
    answers: Future[list[Answer]]


class Sending:
    """The batches of one pass, sent one after the other in the order of `send`: each when the last one was answered.

    No batch is sent after one that was lost: a later tick would move the mark past those that did not arrive, and
    leave them unrecorded. When a tick is broken, its range not claimed, or it was left to another beat, the later ticks
    of its job are held in all batches that follow, as `lua/runs/claim.lua` holds those within one batch.
    """

    def __init__(self, claimer: Claimer, thread: Executor, token: str, now_s: float, leave_after: int) -> None:
        self.claimer = claimer
        self.unanswered: deque[SentBatch] = deque()  #: the oldest first
        self._thread = thread
        self._token = token
        self._now_s = now_s
        self._leave_after = leave_after
        self._last: Future[list[Answer]] | None = None
        self._damaged: set[str] = set()  #: jobs whose later ticks wait for another pass; touched by the thread alone

    def send(self, claims: Sequence[TickClaim]) -> None:
        """Have *claims* sent as soon as the batch before them was answered."""
        token = f"{self._token}-{claims[0].spec.name}-{claims[0].decision.tick}"
        written = self._written(claims, token)  # while Redis works on the batch before
        self._last = self._thread.submit(self._send_after, self._last, claims, token, written)
        self.unanswered.append(SentBatch(claims, token, self._last))

    def receive(self) -> tuple[Sequence[TickClaim], list[Answer]]:
        """Wait for the answers to the oldest batch: its claims, and one answer to each.

        Raises what kept the batch from being answered; it stays among the `unanswered`, for it may have arrived.
        """
        answers = self.unanswered[0].answers.result()
        return self.unanswered.popleft().claims, answers

    def _written(self, claims: Sequence[TickClaim], token: str) -> str | None:
        """What is to be sent for *claims*; None when one of them cannot be written."""
        try:
            return self.claimer.written(claims, token, self._now_s, leave_after=self._leave_after)
        except Exception:  # which one it is `_send` finds out
            return None

    def _send_after(
        self, last: Future[list[Answer]] | None, claims: Sequence[TickClaim], token: str, written: str | None
    ) -> list[Answer]:
        if last is not None:
            last.result()
        return self._send(claims, token, written)

    def _send(self, claims: Sequence[TickClaim], token: str, written: str | None = None) -> list[Answer]:
        """One round trip; a batch that is refused as a whole is halved, so that one tick cannot hold up others."""
        held = [claim.spec.name in self._damaged for claim in claims] if self._damaged else ()
        if any(held):
            free = [claim for claim, is_held in zip(claims, held, strict=True) if not is_held]
            answers = iter(self._send(free, token) if free else ())
            return [Answer("held", "") if is_held else next(answers) for is_held in held]
        try:
            if written is None:
                written = self.claimer.written(claims, token, self._now_s, leave_after=self._leave_after)
            found = self.claimer.claim_written(written, len(claims))
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
            pairs = zip(claims, found, strict=True)
            self._damaged.update(claim.spec.name for claim, each in pairs if each.code in HOLD_BACK)
        return found


log = logging.getLogger("cronq.beat")

#: Of batches up to this size each queued tick is logged in a line of its own.
_MOST_LINES = 20


@dataclass(frozen=True)
class Claimed:
    """What became of the due jobs of one reading."""

    codes: Mapping[str, int]  #: how many ticks were answered how, by the codes of `lua/runs/claim.lua`
    next_due_s: float | None  #: the earliest tick that follows; 0.0: more is due at once; None: no job has a next
    newer: int  #: due jobs that a newer cronq stored: they are left to its beats
    held: int  #: late runs that were given a place in the catch-up line

    @property
    def is_cut(self) -> bool:
        """Return True if more jobs were due than one pass decides about."""
        return self.next_due_s == 0.0


class Claiming:
    """Decides and claims what is due. Ticks that are won are counted in *status*."""

    def __init__(
        self,
        jobs: JobStore,
        claimer: Claimer,
        repair: Repair,
        status: BeatStatus,
        calendars: KnownCalendars,
        holding: Holding,
        *,
        batch: int = 250,
    ) -> None:
        self.jobs = jobs
        self.claimer = claimer
        self.status = status
        self.batch = batch  #: most ticks that one script call claims
        self.leave_after = 16  #: after so many in a row that another beat has won, the rest of a batch is left to it
        self._broken = BrokenJobs(jobs, repair)
        self._holding = holding
        self._deciding = Deciding(jobs, self._broken, calendars, holding)
        self._halted = HaltedJobs()
        self._id = secrets.token_hex(4)
        self._passes = 0
        self._unconfirmed: deque[SentBatch] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cronq-claim")

    def claim(self, reading: DueReading) -> Claimed:
        """Claim the due ticks of *reading*; late runs whose turn has not come are held instead.

        Raises RedisError or OSError when Redis is away or refuses all; `confirm` finds out later what was claimed.
        """
        self._passes += 1
        sending = Sending(self.claimer, self._thread, f"{self._id}-{self._passes}", reading.now_s, self.leave_after)
        codes: Counter[str] = Counter()
        next_due_s: float | None = None
        newer = 0

        def heed() -> None:
            nonlocal next_due_s
            answered = self._heed(*sending.receive(), reading.now_s)
            codes.update(answered)
            if "left" in answered:  # another beat is at work on them: what is left is to be read anew, at once
                next_due_s = 0.0

        try:
            for batch in self._deciding.batches(reading, self.batch):
                next_due_s, newer = earliest(next_due_s, batch.next_due_s), newer + batch.newer
                if batch.claims:
                    sending.send(batch.claims)
                if len(sending.unanswered) > 1:
                    heed()
                if "left" in codes:
                    break
            while sending.unanswered:
                heed()
        except Exception:
            self._unconfirmed += sending.unanswered
            raise
        # Only now: what is held stands behind the ticks that were just claimed.
        return Claimed(codes, next_due_s, newer, self._holding.hold())

    def confirm(self) -> int:
        """Ask Redis which ticks were won of batches whose answers were lost with the connection. Returns how many.

        The beat calls it in the pass after the loss, before it claims anything.
        """
        won = 0
        while self._unconfirmed:
            batch = self._unconfirmed[0]
            wait([batch.answers])  # it may have been the second on its way, and still be
            holders = self.jobs.dedup_holders([(claim.spec.name, claim.decision.tick) for claim in batch.claims])
            self._unconfirmed.popleft()
            for claim, holder in zip(batch.claims, holders, strict=True):
                if holder == batch.token:
                    won += 1
                    self.status.won += claim.decision.ticks
                    log.info("WON job=%s tick=%s; the reply was lost", claim.spec.name, iso(claim.decision.tick))
        return won

    def close(self) -> None:
        """Send nothing that is not on its way yet."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # Answers

    def _heed(self, claims: Sequence[TickClaim], answers: Sequence[Answer], now_s: float) -> Mapping[str, int]:
        """Act on the *answers* to one batch: count and log what was won, mend what is broken.

        Returns how often each code was answered.
        """
        if len(claims) > _MOST_LINES and answers.count(QUEUED) == len(answers):
            self.status.won += len(answers)
            self._broken.claimed(claim.spec.name for claim in claims)
            log.info("QUEUED %d due ticks", len(claims))
            return {"won": len(answers)}
        _log_won(claims, answers, now_s)
        for claim, answer in zip(claims, answers, strict=True):
            name, tick = claim.spec.name, claim.decision.tick
            if answer.code in ("won", "mine"):
                self.status.won += claim.decision.ticks
                self._broken.claimed([name])
            elif answer.code == "broken":
                self._deciding.mend(name, answer.detail, now_s, answer.key, answer.kind)
            elif answer.code == "apart":
                self._deciding.take_apart(name, int(answer.detail))
            elif answer.code == "early":
                self._halted.note(name, answer.detail, answer.reason)
            elif answer.code == "future":
                log.error("REFUSED job=%s tick=%s is later than the server's time", name, iso(tick))
            else:
                log.debug("%s job=%s tick=%s %s", answer.code.upper(), name, iso(tick), answer.detail)
        return Counter(answer.code for answer in answers)


def _log_won(claims: Sequence[TickClaim], answers: Sequence[Answer], now_s: float) -> None:
    """Log the ticks that were won: each that was queued, unless they are many, and each job's outcomes in one line."""
    is_short = len(claims) <= _MOST_LINES
    for claim, answer in zip(claims, answers, strict=True):
        if answer.code == "mine":
            log.info("WON job=%s tick=%s; the first reply was lost", claim.spec.name, iso(claim.decision.tick))
        elif is_short and answer == QUEUED:
            _log_queued(claim, now_s)
    decided: dict[tuple[str, str], list[tuple[Decision, str]]] = {}
    for claim, answer in zip(claims, answers, strict=True):
        if answer.code == "won" and answer.detail != "queued":
            decided.setdefault((claim.spec.name, answer.detail), []).append((claim.decision, answer.reason))
    for (name, outcome), ticks in decided.items():
        (oldest, _), (last, reason) = ticks[0], ticks[-1]
        count = sum(each.ticks for each, _ in ticks)
        many = f"{count} ticks from {iso(oldest.first or oldest.tick)} to " if count > 1 else ""
        log.info("%s job=%s tick=%s%s: %s", outcome.upper(), name, many, iso(last.tick), reason)
    if not is_short:
        log.info("QUEUED %d of %d due ticks", sum(answer.detail == "queued" for answer in answers), len(claims))


def _log_queued(claim: TickClaim, now_s: float) -> None:
    why = f" ({claim.decision.reason})" if claim.decision.trigger == "catchup" else ""
    late_s = now_s - claim.decision.tick
    log.info("QUEUED job=%s tick=%s late=%.2fs%s", claim.spec.name, iso(claim.decision.tick), late_s, why)
