"""Each claim of a batch gets its own answer, also where one of them makes others be held."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cronq.beat.claiming import Sending
from cronq.jobs.spec import make_spec
from cronq.runs.claim import QUEUED, Answer, TickClaim
from cronq.runs.due import Decision


class Answering:
    """A claim script that finds the ticks of *broken* jobs broken, and queues all others."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.sent: list[list[str]] = []

    def written(self, claims: Sequence[TickClaim], token: str, now_s: float, *, leave_after: int) -> str:
        return ",".join(claim.spec.name for claim in claims)

    def claim_written(self, written: str, count: int) -> list[Answer]:
        names = written.split(",")
        assert len(names) == count
        self.sent.append(names)
        return [Answer("broken", "damaged") if name in self.broken else QUEUED for name in names]


def claims(*names: str) -> list[TickClaim]:
    decision = Decision(60, None, "", 120, "schedule")
    return [TickClaim(make_spec(name, cron="* * * * *", command=["true"]), "1", decision) for name in names]


def test_a_tick_that_breaks_beside_one_that_is_held_leaves_the_answers_of_the_others_theirs() -> None:
    script = Answering("first", "second")
    with ThreadPoolExecutor(1) as thread:
        sending = Sending(script, thread, "token", 60.5, 16)  # type: ignore[arg-type]
        sending.send(claims("first", "before"))
        sending.send(claims("first", "second", "after", "last"))
        codes = [[answer.code for answer in sending.receive()[1]] for _ in range(2)]

    assert codes == [["broken", "won"], ["held", "broken", "won", "won"]]
    assert script.sent == [["first", "before"], ["second", "after", "last"]]
