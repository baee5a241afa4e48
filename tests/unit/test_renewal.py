"""One hold of a lock, with Redis played by a function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from cronq.clock import boot_s
from cronq.locks.renewal import GONE, RENEWED, TAKEN, LockTiming, Renewal

#: Shorter than a Lock allows, which only makes the tests quick: margin 0.2 s, renewal every 0.1 s.
QUICK = LockTiming(1.0)

Start = Callable[..., Renewal]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts renewals, and ends them with the test."""
    started: list[Renewal] = []

    def start(
        renew: Callable[[], int],
        on_lost: Callable[[str], None] | None = None,
        on_renewed: Callable[[float], None] | None = None,
    ) -> Renewal:
        started.append(Renewal("nightly", 1, boot_s(), QUICK, renew, on_lost, on_renewed))
        started[-1].start()
        return started[-1]

    yield start
    for renewal in started:
        renewal.end()
        renewal.join(5)


class Reasons:
    """Collects what `on_lost` is told, and from which thread."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.all: list[str] = []
        self.threads: set[str] = set()

    def __call__(self, reason: str) -> None:
        self.all.append(reason)
        self.threads.add(threading.current_thread().name)
        self.told.set()


@pytest.mark.parametrize("ttl_s", [2, 3, 5, 7.5, 8, 10, 30, 60, 3600, 86400])
def test_an_outage_of_065_ttl_fits_between_two_renewals_in_every_phase(ttl_s: float) -> None:
    timing = LockTiming(ttl_s)

    attempt_s = max(timing.socket_s, timing.retry_s)
    round_trip_s = 0.025 * ttl_s
    assert timing.renew_s + 0.65 * ttl_s + attempt_s + round_trip_s <= ttl_s - timing.margin_s + 1e-9
    assert 0.2 <= timing.renew_s <= ttl_s / 4
    assert timing.margin_s >= 0.2
    assert timing.ttl_ms >= ttl_s * 1000


def test_no_error_ends_a_hold_before_its_deadline(start: Start) -> None:
    errors = [OSError("a"), RuntimeError("b"), UnicodeError("c"), AssertionError("d")]
    renewed = threading.Event()

    def renew() -> int:
        if errors:
            raise errors.pop()
        return RENEWED

    renewal = start(renew, on_renewed=lambda _: None if errors else renewed.set())
    first_s = renewal.deadline_s

    assert renewed.wait(5)
    assert renewal.lost is None
    assert renewal.deadline_s > first_s


def test_the_deadline_counts_from_before_the_question_however_late_the_answer(start: Start) -> None:
    asked_s: list[float] = []
    deadlines: list[float] = []
    heard = threading.Event()

    def renew() -> int:
        asked_s.append(boot_s())
        threading.Event().wait(0.2)
        return RENEWED

    start(renew, on_renewed=lambda deadline_s: (deadlines.append(deadline_s), len(deadlines) > 2 and heard.set()))

    assert heard.wait(5)
    for asked, deadline_s in zip(asked_s, deadlines[1:], strict=False):
        assert deadline_s <= asked + QUICK.ttl_s


@pytest.mark.parametrize(("answer", "words"), [(GONE, "gone from Redis"), (TAKEN, "somebody else")])
def test_a_key_gone_or_anothers_is_a_loss_at_once(start: Start, answer: int, words: str) -> None:
    reasons = Reasons()
    renewal = start(lambda: answer, on_lost=reasons)

    assert reasons.told.wait(5)

    assert words in reasons.all[0]
    assert renewal.deadline_s > boot_s() + QUICK.ttl_s / 2  # not by the deadline


def test_the_watch_tells_in_time_while_the_renewal_hangs(start: Start) -> None:
    hanging = threading.Event()
    reasons = Reasons()
    renewal = start(lambda: RENEWED if hanging.wait(10) else GONE, on_lost=reasons)

    assert reasons.told.wait(5)

    assert boot_s() < renewal.deadline_s - 0.1
    assert "Redis hangs" in reasons.all[0]
    hanging.set()  # an answer that comes after all changes nothing
    renewal.join(5)
    assert renewal.lost == reasons.all[0]
    assert len(reasons.all) == 1


def test_a_loss_found_by_looking_is_told_once_and_from_a_thread_of_its_own(start: Start) -> None:
    reasons = Reasons()
    past = Renewal("nightly", 1, boot_s() - 5, QUICK, lambda: RENEWED, reasons, None)

    past.look()
    past.start()
    past.join(5)

    assert past.lost == reasons.all[0]
    assert len(reasons.all) == 1
    assert reasons.threads == {"cronq-lock-watch:nightly"}


def test_a_listener_may_end_the_hold_it_hears_of(start: Start) -> None:
    renewals: list[Renewal] = []
    ended = threading.Event()

    def end(_: str) -> None:
        renewals[0].end()
        renewals[0].join(1)
        ended.set()

    renewals.append(start(lambda: GONE, on_lost=end))

    assert ended.wait(5)


def test_after_the_end_nothing_more_is_told(start: Start) -> None:
    reasons = Reasons()
    renewal = start(lambda: RENEWED, on_lost=reasons)

    renewal.end()
    renewal.join(5)

    assert renewal.lost is None
    assert reasons.all == []


def test_the_log_says_which_lock_was_lost_and_why(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    reasons = Reasons()

    start(lambda: GONE, on_lost=reasons).renew()

    assert reasons.told.wait(5)
    said = [record.getMessage() for record in caplog.records if record.name == "cronq.lock"]
    assert said == [f"LOST lock 'nightly': {reasons.all[0]}"]
