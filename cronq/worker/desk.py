"""Where the workers of a process tell how their runs ended, get their next ones, and renew what they have.

What several of them want at the same moment goes to Redis in one call: the first one sends at once, and what comes
while a call is under way goes with the next one. Nobody waits for company.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from cronq.clock import boot_s
from cronq.runs.exchange import Begun, End, Exchange, Offer, Renewed, Renewing, Taken

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

#: How long a job that a newer cronq has stored is left alone: after that it may be one for this version again.
_LEAVE_ALONE_S = 5.0
#: Most that goes with one call: Redis answers nobody else meanwhile.
_MOST_AT_ONCE = 50


class _Slip(Generic[Asked, Answer]):
    """What one thread asks, and what it is answered."""

    __slots__ = ("answer", "asked", "error", "is_answered", "turn")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer: Answer | None = None
        self.error: BaseException | None = None
        self.is_answered = False
        self.turn: threading.Event | None = None  #: set when it is answered, or is to send what waits


class Gathering(Generic[Asked, Answer]):
    """Sends what threads ask, in one call as much of it as waits for its turn.

    *send* is called in one thread at a time; it answers each in its place, and an error of it is that of all. *fits*
    says whether something may go along with the others of a call.
    """

    def __init__(
        self,
        send: Callable[[list[Asked]], Sequence[Answer]],
        fits: Callable[[Sequence[Asked], Asked], bool] = lambda others, it: True,
    ) -> None:
        self._send = send
        self._fits = fits
        self._lock = threading.Lock()
        self._waiting: list[_Slip[Asked, Answer]] = []
        self._is_under_way = False

    def ask(self, asked: Asked) -> Answer:
        """Send *asked*, alone or with what others ask. Return its answer; raises what its call raised."""
        slip: _Slip[Asked, Answer] = _Slip(asked)
        with self._lock:
            self._waiting.append(slip)
            if self._is_under_way:
                slip.turn = threading.Event()
            self._is_under_way = True
        if slip.turn is not None:
            slip.turn.wait()
        if not slip.is_answered:
            self._send_what_waits()
        if slip.error is not None:
            raise slip.error
        return slip.answer  # type: ignore[return-value]

    def _send_what_waits(self) -> None:
        """Send the first that waits, and what fits to it; then it is the turn of the first of the others."""
        batch: list[_Slip[Asked, Answer]] = []
        asked: list[Asked] = []
        with self._lock:
            for slip in self._waiting:
                if len(batch) < _MOST_AT_ONCE and self._fits(asked, slip.asked):
                    batch.append(slip)
                    asked.append(slip.asked)
        try:
            answers = self._send(asked)
            for slip, answer in zip(batch, answers, strict=True):
                slip.answer = answer
        except BaseException as error:  # whatever it is: the others must not wait for ever
            for slip in batch:
                slip.error = error
        with self._lock:
            for slip in batch:
                slip.is_answered = True
            self._waiting = [slip for slip in self._waiting if not slip.is_answered]
            heir = self._waiting[0] if self._waiting else None
            self._is_under_way = heir is not None
        for each in (*batch, heir):
            if each is not None and each.turn is not None:
                each.turn.set()


@dataclass(frozen=True)
class Handover:
    """What a worker hands in: the ends of its runs that Redis has not taken yet, and its offer to take another.

    *queues* are those that it serves, in order. With none, its offer takes nothing: it only asks whether it was
    answered with a run before.
    """

    ends: tuple[End, ...]
    offer: Offer | None
    queues: tuple[str, ...]


@dataclass(frozen=True)
class Receipt:
    """What a worker gets: what became of each of its ends, and what it is to do next."""

    ends: Sequence[str | Exception]
    start: Begun | Taken | None
    held: str | None = None  #: why it is to take nothing, in words
    trouble: Exception | None = None  #: why Redis could not give it anything


class Renewer(Protocol):
    """Where a guardian says that its run is alive."""

    def renew(self, renewing: Renewing) -> Renewed:
        """Say that a run is alive, and hold its lock further. Raises RedisError."""
        ...


class Handing(Renewer, Protocol):
    """The same, and where the ends of runs are handed in."""

    def settle_and_take(self, ends: Sequence[End], offer: Offer | None, queues: Sequence[str]) -> Receipt:
        """Tell of *ends*, and ask for the next run of *queues*. Raises RedisError."""
        ...


class Desk:
    """Thread-safe. *exchange* is for ends and starts; *renewals* for renewals, which give up sooner."""

    def __init__(self, exchange: Exchange, renewals: Exchange, now_s: Callable[[], float]) -> None:
        self._exchange = exchange
        self._renewals = renewals
        self._now_s = now_s
        self._handovers: Gathering[Handover, Receipt] = Gathering(self._settle_and_take, _go_together)
        self._renewing: Gathering[Renewing, Renewed] = Gathering(self._renew)
        self._undoing = threading.Lock()
        self._left_alone: dict[str, float] = {}  # job -> until when, on the boot clock

    def settle_and_take(self, ends: Sequence[End], offer: Offer | None, queues: Sequence[str]) -> Receipt:
        """Tell of *ends*, and ask for the next run of *queues*. One round trip. Raises RedisError.

        Whoever got no answer hands in the same again, the same offer above all: it is recognised, and nothing starts
        twice.
        """
        return self._handovers.ask(Handover(tuple(ends), offer, tuple(queues)))

    def undo_start(self, begun: Begun) -> Taken | None:
        """Undo the start of a run whose work has not begun; None: it is no more this worker's. Raises RedisError."""
        run = begun.run
        with self._undoing:  # several threads may not use an exchange at the same time
            is_undone = self._exchange.undo_start(run, begun.execution, begun.lock)
        return Taken(run.queue, run.run_id.encode()) if is_undone else None

    def renew(self, renewing: Renewing) -> Renewed:
        """Say that a run is alive, and hold its lock further. One round trip. Raises RedisError."""
        return self._renewing.ask(renewing)

    def leave_alone(self, job: str) -> None:
        """Take no run of *job* for some seconds: a newer cronq stored it."""
        self._left_alone = self._jobs_left_alone() | {job: boot_s() + _LEAVE_ALONE_S}

    def _jobs_left_alone(self) -> dict[str, float]:
        if not self._left_alone:
            return {}
        now = boot_s()
        return {job: until for job, until in self._left_alone.items() if until > now}

    def _settle_and_take(self, handovers: list[Handover]) -> list[Receipt]:
        ends = [end for each in handovers for end in each.ends]
        offers = [each.offer for each in handovers if each.offer is not None]
        queues = next((each.queues for each in handovers if each.offer is not None), ())
        done = self._exchange.settle_and_take(
            ends, offers, queues, left_alone=list(self._jobs_left_alone()), now_s=self._now_s()
        )
        answers, found = iter(done.ends), zip(done.starts, done.helds, done.troubles, strict=True)
        receipts = []
        for each in handovers:
            told = [next(answers) for _ in each.ends]
            receipts.append(Receipt(told, *(next(found) if each.offer is not None else (None, None, None))))
        return receipts

    def _renew(self, renewings: list[Renewing]) -> list[Renewed]:
        return self._renewals.renew(renewings, self._now_s())


def _go_together(others: Sequence[Handover], it: Handover) -> bool:
    """One call looks at queues in one order."""
    return it.offer is None or all(each.offer is None or each.queues == it.queues for each in others)
