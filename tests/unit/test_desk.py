"""What several workers of a process want at the same moment goes to Redis in one call, and each gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Away
from redis.exceptions import ResponseError

from cronq.jobs.spec import make_spec
from cronq.jobs.stored import JobState, StoredJob
from cronq.locks.renewal import LockTiming
from cronq.runs.exchange import Begun, End, Exchanged, Offer, Renewed, Renewing, Taken
from cronq.runs.run import Ending, Run, Settlement
from cronq.worker.active_run import ActiveRun, StopRequest
from cronq.worker.dequeue import Dequeue
from cronq.worker.desk import Desk, Gathering
from cronq.worker.run_lock import RunLock
from cronq.worker.settle import Settler
from tests.system.processes import until


class SlowRedis:
    """Answers a call when it is let go on; what it was sent is known before."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.go_on = threading.Semaphore(0)
        self.errors: list[Exception | None] = []

    def send(self, asked: list[Any]) -> list[str]:
        self.calls.append(asked)
        assert self.go_on.acquire(timeout=10)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return [f"{each}!" for each in asked]


def asking(pool: ThreadPoolExecutor, redis: SlowRedis, line: Gathering[Any, str], first: str, *others: str) -> Any:
    """Ask *first*, and the *others* while its call is under way; the answers to come, by what was asked."""
    found: dict[str, Future[str]] = {first: pool.submit(line.ask, first)}
    until(lambda: redis.calls, what="the first call")
    found |= {each: pool.submit(line.ask, each) for each in others}
    until(lambda: len(line._waiting) == 1 + len(others), what="the others")
    return found


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(8) as found:
        yield found


def test_what_comes_while_a_call_is_under_way_goes_with_the_next_one(pool: ThreadPoolExecutor) -> None:
    redis = SlowRedis()
    line: Gathering[str, str] = Gathering(redis.send)
    answers = asking(pool, redis, line, "a", "b", "c", "d")

    redis.go_on.release()
    assert answers["a"].result(10) == "a!"
    until(lambda: len(redis.calls) == 2, what="the second call")
    redis.go_on.release()

    assert [answers[each].result(10) for each in "bcd"] == ["b!", "c!", "d!"]
    assert redis.calls[0] == ["a"]
    assert sorted(redis.calls[1]) == ["b", "c", "d"]
    redis.go_on.release()
    assert line.ask("e") == "e!"
    assert redis.calls[2:] == [["e"]]


def test_an_error_of_a_call_is_that_of_all_that_went_with_it_and_of_nobody_else(pool: ThreadPoolExecutor) -> None:
    redis = SlowRedis()
    redis.errors = [None, Away("gone"), None]
    line: Gathering[str, str] = Gathering(redis.send, lambda others, it: "alone" not in (*others, it) or not others)
    answers = asking(pool, redis, line, "a", "b", "c", "alone")

    for _ in range(3):
        redis.go_on.release()

    assert answers["a"].result(10) == "a!"
    for each in "bc":
        with pytest.raises(Away, match="gone"):
            answers[each].result(10)
    assert answers["alone"].result(10) == "alone!"
    assert sorted(map(sorted, redis.calls)) == [["a"], ["alone"], ["b", "c"]]


def test_many_threads_that_ask_all_the_time_each_get_their_own_answers(pool: ThreadPoolExecutor) -> None:
    calls: list[int] = []
    inside = threading.Lock()

    def send(asked: list[int]) -> list[int]:
        assert inside.acquire(blocking=False), "two calls at a time"
        calls.append(len(asked))
        inside.release()
        return [2 * each for each in asked]

    line: Gathering[int, int] = Gathering(send)

    def ask_on(number: int) -> bool:
        return all(line.ask(each) == 2 * each for each in range(number, 16_000, 8))

    assert all(pool.map(ask_on, range(8)))
    assert sum(calls) == 16_000


# Dequeue and settler


class Script:
    """Stands for the exchange: answers as it was told to, else that everything went well and there is nothing to do."""

    def __init__(self, *answers: Exchanged | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[list[End], list[Offer], tuple[str, ...]]] = []
        self.left_alone: list[Sequence[str]] = []
        self.undone: list[bool | Exception] = []

    def settle_and_take(self, ends: Any, offers: Any, queues: Any, *, left_alone: Any, now_s: float) -> Exchanged:
        self.sent.append((list(ends), list(offers), tuple(queues)))
        self.left_alone.append(left_alone)
        answer = self.answers.pop(0) if self.answers else nothing(len(ends), len(offers))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def renew(self, renewings: Any, now_s: float) -> list[Renewed]:
        return [Renewed("", None) for _ in renewings]

    def undo_start(self, run: Run, execution: str, lock: str | None) -> bool:
        answer = self.undone.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def exchanged(ends: list[str | Exception], starts: list[Begun | Taken | None]) -> Exchanged:
    return Exchanged(ends, list(starts), None, [None] * len(starts), [None] * len(starts))


def nothing(ends: int, offers: int = 1) -> Exchanged:
    return exchanged(["settled"] * ends, [None] * offers)


RUN = Run(job="nightly", run_id="nightly-m00000001", tick=None, queue="default", trigger="manual", state="running")


class Ledger:
    """What a settler asks beside the exchange."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.reruns = 0

    def find(self, run_id: str) -> Run | None:
        return replace(RUN, attempt=2, state="queued")

    def rerun(self, run: Run, ending: Ending, max_crashes: int) -> str:
        self.reruns += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Client:
    """Notes with what scripts were called."""

    def __init__(self) -> None:
        self.called: list[Any] = []

    def register_script(self, text: str) -> Callable[..., None]:
        return lambda **options: self.called.append(options["args"])


def worker(script: Script, ledger: Ledger | None = None, *, goes_ahead: bool = False) -> Dequeue:
    desk = Desk(script, script, lambda: 1.0)  # type: ignore[arg-type]
    settler = Settler(ledger or Ledger(), lambda: 1.0, threading.Event())  # type: ignore[arg-type]
    return Dequeue(Client(), desk, settler, "w", goes_ahead=goes_ahead)  # type: ignore[arg-type]


def ended(dequeue: Dequeue, settlement: Settlement | None = None, lock: str | None = None, **options: Any) -> None:
    spec = make_spec("nightly", command=["true"], **options)
    active = ActiveRun(RUN, spec, StopRequest(), "w", "e", None)
    if lock is not None:
        active.lock = RunLock(lock, LockTiming(30.0), 0.0, 1)
    dequeue.settler.add(active, settlement or Settlement("succeeded", "it did"))


def begun(state: JobState | None = None) -> Begun:
    """The next run of that job, started."""
    spec = make_spec("nightly", command=["true"])
    job = StoredJob(spec, "1", "", "", state or JobState(None, None), None)
    return Begun(replace(RUN, run_id="nightly-m00000002"), job, "e2", None, None, 1.0)


def test_an_end_goes_with_the_next_offer_in_one_call() -> None:
    script = Script()
    dequeue = worker(script)
    ended(dequeue)

    assert dequeue.take(["default"], 0.0) is None

    [(ends, offers, queues)] = script.sent
    assert [end.run for end in ends] == [RUN]
    assert [offer.worker for offer in offers] == ["w"]
    assert queues == ("default",)
    assert not dequeue.owes


@pytest.mark.parametrize("error", [Away("Connection closed by server."), ResponseError("OOM")])
def test_an_offer_without_an_answer_is_made_again_with_the_same_end_and_then_a_new_one(error: Exception) -> None:
    script = Script(error)
    dequeue = worker(script)
    ended(dequeue)

    with pytest.raises(type(error)):
        dequeue.take(["default"], 0.0)
    assert dequeue.owes
    dequeue.take(["default"], 0.0)
    dequeue.take(["default"], 0.0)

    executions = [offers[0].execution for _, offers, _ in script.sent]
    assert executions[0] == executions[1] != executions[2]
    assert [len(ends) for ends, _, _ in script.sent] == [1, 1, 0]


def test_a_worker_that_leaves_asks_what_came_of_its_offer_and_takes_nothing_new() -> None:
    script = Script(Away("Timeout reading from socket"), exchanged(["settled"], [Taken("default", b"x")]))
    dequeue = worker(script)
    ended(dequeue)
    with pytest.raises(Away):
        dequeue.take(["default"], 0.0)

    assert dequeue.finish() == Taken("default", b"x")
    assert dequeue.finish() is None

    (_, first, _), (ends, second, queues) = script.sent
    assert (len(ends), second, queues) == (1, first, ())


@pytest.mark.parametrize(
    "words", ["Error 111 connecting to localhost:1. Connection refused.", "Timeout connecting to server"]
)
def test_an_offer_that_cannot_have_arrived_is_not_asked_about(words: str) -> None:
    dequeue = worker(Script(Away(words)))

    with pytest.raises(Away):
        dequeue.take(["default"], 0.0)

    assert not dequeue.owes


def test_an_end_that_redis_refuses_stays_and_keeps_no_other_from_being_taken(caplog: pytest.LogCaptureFixture) -> None:
    refused = ResponseError("WRONGTYPE")
    script = Script(exchanged([refused], [Taken("default", b"next")]), exchanged([refused], [None]))
    dequeue = worker(script)
    ended(dequeue)

    assert dequeue.take(["default"], 0.0) == Taken("default", b"next")
    assert dequeue.owes
    dequeue.take(["default"], 0.0)
    dequeue.take(["default"], 0.0)

    assert not dequeue.owes
    assert [len(ends) for ends, _, _ in script.sent] == [1, 1, 1]
    assert len([each for each in caplog.messages if each.startswith("UNWRITTEN")]) == 1


@pytest.mark.parametrize("is_undone", [True, False])
def test_a_run_that_was_started_for_a_worker_that_leaves_is_owed_until_it_is_given_back(is_undone: bool) -> None:
    script = Script()
    script.undone = [Away("gone"), is_undone]
    dequeue = worker(script)
    unwanted = Begun(RUN, None, "e", None, None, 1.0)  # type: ignore[arg-type]

    with pytest.raises(Away):
        dequeue.give_back(unwanted)
    assert dequeue.owes
    assert dequeue.finish() is None

    assert not dequeue.owes
    called = dequeue.client.called  # type: ignore[attr-defined]
    assert called == ([[RUN.run_id.encode(), "LPUSH"]] if is_undone else [])


# Ahead of the end


def busy(*answers: Exchanged | Exception) -> tuple[Script, Dequeue]:
    """A worker that goes ahead, and has just taken a run that had been queued before."""
    script = Script(exchanged([], [begun()]), *answers)
    dequeue = worker(script, goes_ahead=True)
    assert isinstance(dequeue.take(["default"], 0.0), Begun)
    script.sent.clear()
    return script, dequeue


def ahead(*answers: Exchanged | Exception) -> tuple[Script, Dequeue]:
    """A worker that has taken its next run while the present one was about to end."""
    script, dequeue = busy(exchanged([], [begun()]), *answers)
    dequeue.look_ahead()
    assert [(len(ends), [offer.is_ahead for offer in offers]) for ends, offers, _ in script.sent] == [(0, [True])]
    script.sent.clear()
    return script, dequeue


def test_what_was_taken_ahead_is_next_and_the_end_goes_with_the_one_after() -> None:
    script, dequeue = ahead(exchanged(["settled"], [begun()]))
    ended(dequeue)

    found = dequeue.take(["default"], 0.0)
    assert isinstance(found, Begun)
    assert (found.job.state.last_run, script.sent) == (RUN.run_id, [])
    assert dequeue.is_behind
    dequeue.look_ahead()

    assert [(len(ends), len(offers)) for ends, offers, _ in script.sent] == [(1, 1)]
    assert not dequeue.is_behind


def test_a_run_that_begins_before_the_end_of_the_last_is_known_is_told_of_it_all_the_same() -> None:
    before = JobState(None, None, streak=-2, last_run="nightly-m00000000", last_outcome="failed", success_tick=60)
    _, dequeue = busy(exchanged([], [begun(before)]))
    dequeue.look_ahead()
    ended(dequeue)

    found = dequeue.take(["default"], 0.0)

    assert isinstance(found, Begun)
    assert found.job.state.past == {
        "previous_success": 60, "failures": 0, "last_run": RUN.run_id, "last_outcome": "succeeded", "last_ended": 1.0,
    }  # fmt: skip


def test_an_end_that_redis_does_not_answer_to_is_told_again_with_the_next_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script, dequeue = ahead(Away("gone"), Away("gone"))
    ended(dequeue)
    dequeue.take(["default"], 0.0)
    dequeue.catch_up()
    dequeue.catch_up()
    ended(dequeue)
    dequeue.take(["default"], 0.0)

    assert [(len(ends), len(offers)) for ends, offers, _ in script.sent] == [(1, 0), (1, 0), (2, 1)]
    assert len([each for each in caplog.messages if each.startswith("UNWRITTEN")]) == 1
    assert not dequeue.owes


@pytest.mark.parametrize(
    ("settlement", "options"),
    [
        (Settlement("failed", "it did not"), {}),
        (Settlement("succeeded", "", snooze_s=5.0), {}),
        (None, {"lock": "guard"}),
        (None, {"on_lost": "rerun"}),
    ],
)
def test_an_end_for_which_others_may_wait_is_told_before_what_was_taken_ahead_begins(
    settlement: Settlement | None, options: dict[str, Any]
) -> None:
    script, dequeue = ahead()
    ended(dequeue, settlement, **options)

    assert isinstance(dequeue.take(["default"], 0.0), Begun)

    assert [(len(ends), len(offers)) for ends, offers, _ in script.sent] == [(1, 0)]
    assert not dequeue.is_behind


def test_the_end_is_told_before_an_id_is_served_that_was_only_taken_ahead() -> None:
    script, dequeue = busy(exchanged([], [Taken("default", b"x")]))
    dequeue.look_ahead()
    ended(dequeue)

    assert dequeue.take(["default"], 0.0) == Taken("default", b"x")

    assert [(len(ends), len(offers)) for ends, offers, _ in script.sent] == [(0, 1), (1, 0)]


def test_a_worker_that_found_nothing_ahead_waits_for_its_next_run_as_ever() -> None:
    script, dequeue = busy(exchanged([], [None]))
    dequeue.look_ahead()
    ended(dequeue)

    assert dequeue.take(["default"], 0.0) is None
    assert [(len(ends), len(offers)) for ends, offers, _ in script.sent] == [(0, 1), (1, 1)]
    assert not dequeue.is_busy


@pytest.mark.parametrize("error", [Away("Connection closed by server."), ResponseError("OOM")])
def test_a_look_ahead_that_was_not_answered_is_made_again_with_the_end(error: Exception) -> None:
    script, dequeue = busy(error, exchanged(["settled"], [begun()]))
    dequeue.look_ahead()
    assert dequeue.owes
    dequeue.look_ahead()
    ended(dequeue)

    assert isinstance(dequeue.take(["default"], 0.0), Begun)

    (_, first, _), (ends, second, _) = script.sent
    assert (len(ends), first) == (1, second)


def test_what_was_taken_ahead_goes_back_to_its_queue_when_the_present_run_goes_on() -> None:
    script, dequeue = ahead()
    script.undone = [Away("gone"), True]

    dequeue.withdraw()
    assert dequeue.owes
    dequeue.withdraw()

    assert not dequeue.owes
    assert dequeue.client.called == [[b"nightly-m00000002", "LPUSH"]]  # type: ignore[attr-defined]
    assert script.sent == []


def test_a_look_ahead_that_was_not_answered_is_asked_about_when_the_present_run_goes_on() -> None:
    script, dequeue = busy(Away("Connection closed by server."), exchanged([], [begun()]))
    script.undone = [True]
    dequeue.look_ahead()

    dequeue.withdraw()

    (_, first, _), (_, second, queues) = script.sent
    assert (first, queues) == (second, ())
    assert not dequeue.owes
    assert len(dequeue.client.called) == 1  # type: ignore[attr-defined]


def test_a_worker_that_is_to_leave_looks_no_further_and_gives_back_what_it_has_ahead() -> None:
    script, dequeue = ahead()
    script.undone = [True]
    dequeue.is_leaving = lambda: True
    ended(dequeue)

    assert dequeue.take(["default"], 0.0) is None
    dequeue.look_ahead()

    assert not dequeue.owes
    assert len(dequeue.client.called) == 1  # type: ignore[attr-defined]
    assert [(len(ends), len(offers)) for ends, offers, _ in script.sent] == [(1, 0)]


def test_what_is_ahead_is_told_of_when_a_worker_leaves_without_redis(caplog: pytest.LogCaptureFixture) -> None:
    _, dequeue = ahead()

    dequeue.abandon()

    assert not dequeue.owes
    assert [line.split()[:2] for line in caplog.messages] == [["ABANDONED", "nightly-m00000002,"]]


def test_a_lost_run_is_put_back_before_its_lock_is(caplog: pytest.LogCaptureFixture) -> None:
    script, ledger = Script(exchanged([""], [None])), Ledger(Away("gone"), "queued")
    dequeue = worker(script, ledger)
    ended(dequeue, Settlement("lost", "its lock was lost"), on_lost="rerun")

    with pytest.raises(Away):
        dequeue.take(["default"], 0.0)
    assert script.sent == []
    dequeue.take(["default"], 0.0)

    assert (ledger.reruns, len(script.sent[0][0])) == (2, 1)
    assert [line.split()[0] for line in caplog.messages] == ["UNWRITTEN", "PUT"]


def test_a_lost_run_that_crashed_too_often_has_its_end(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    dequeue = worker(script, Ledger("spent 3"))
    ended(dequeue, Settlement("lost", "gone"), on_lost="rerun", max_crashes=3)

    dequeue.take(["default"], 0.0)

    [end] = script.sent[0][0]
    assert end.ending is not None
    assert end.ending.settlement.outcome == "failed"


def test_a_job_of_a_newer_cronq_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("cronq.worker.desk.boot_s", lambda: now[0])
    script = Script()
    dequeue = worker(script)
    dequeue.leave_to_newer("default", b"x", "newer")

    dequeue.take(["default"], 0.0)
    now[0] += 6
    dequeue.take(["default"], 0.0)

    assert script.left_alone == [["newer"], []]


def test_renewals_of_several_runs_go_together(pool: ThreadPoolExecutor) -> None:
    redis = SlowRedis()

    class Renewals(Script):
        def renew(self, renewings: Any, now_s: float) -> list[Renewed]:
            return [Renewed(word, 1) for word in redis.send([each.execution for each in renewings])]

    desk = Desk(Script(), Renewals(), lambda: 1.0)  # type: ignore[arg-type]
    first = pool.submit(desk.renew, Renewing(RUN, "a", None, False))
    until(lambda: redis.calls, what="the first call")
    others = [pool.submit(desk.renew, Renewing(RUN, each, None, False)) for each in "bc"]
    until(lambda: len(desk._renewing._waiting) == 3, what="the others")
    redis.go_on.release(2)

    assert [each.result(10).word for each in (first, *others)] == ["a!", "b!", "c!"]
    assert len(redis.calls) == 2
