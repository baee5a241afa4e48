"""Jobs that hold a lock: never two at work, whatever is killed, frozen or deleted. Real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cronq.clock import boot_s
from cronq.locks.held import read_locks
from cronq.runs.cause import Cause
from tests.conftest import RedisServer
from tests.faults.calls import EXCHANGE, sha_of
from tests.faults.proxy import IN_ANSWER, FaultProxy
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, installation, is_alive

TTL_S = 2.0
LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with two workers on `default` and a beat, shared by these tests."""
    server = RedisServer()
    try:
        settings = {"CRONQ_LOCK_TTL": f"{TTL_S:g}s", "CRONQ_LOST_AFTER": "3s"}
        with installation(server.url, tmp_path_factory.mktemp("shop"), **settings) as made:
            made.beat()
            made.worker()
            made.worker()
            yield made
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def _as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """The shared processes live on after each test, and nothing keeps the locks."""
    yield
    if "shop" in request.fixturenames:
        shop: Installation = request.getfixturevalue("shop")
        assert all(process.is_running for process in shop.started[1:4]), shop.logs
        for name in ("exclusive", "guarded"):
            for run_id in shop.app.stop(name):
                shop.settles(run_id)
            until(lambda name=name: not shop.client.exists(shop.app.keys.lock(name)), what="a free lock")


@pytest.fixture
def own(redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    """An installation whose processes this test alone may kill."""
    with installation(redis_server.url, tmp_path / "own", CRONQ_LOCK_TTL=f"{TTL_S:g}s") as made:
        yield made


def tell(figures: str) -> None:
    print(figures)  # noqa: T201


class Rival:
    """Wants a lock all the time; writes down in a file when it got it, and who of the others was still at work."""

    def __init__(self, made: Installation, lock: str, pids: list[int]) -> None:
        self._lock = made.app.lock(lock)
        self._pids = pids
        self._diary = made.directory / "rival.diary"
        self._diary.unlink(missing_ok=True)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._want, name="rival")

    def __enter__(self) -> Rival:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    def _want(self) -> None:
        while not self._leaving.is_set():
            if not self._lock.acquire(blocking=False):
                self._leaving.wait(0.01)
                continue
            note = {"at": boot_s(), "overlap": [pid for pid in self._pids if is_alive(pid)]}
            with self._diary.open("a") as diary:
                diary.write(json.dumps(note) + "\n")
            self._leaving.wait(0.02)
            self._lock.release()

    @property
    def _holds(self) -> list[dict[str, Any]]:
        return list(map(json.loads, self._diary.read_text().splitlines())) if self._diary.exists() else []

    def first(self) -> float:
        """Wait until it got the lock; when that was, on the boot clock."""
        return float(until(lambda: self._holds, what="the lock in a rival's hands")[0]["at"])

    @property
    def overlaps(self) -> list[int]:
        """The processes that were still at work when it got the lock, each time that it did."""
        return [pid for hold in self._holds for pid in hold["overlap"]]


# While it works


@pytest.mark.parametrize(
    ("work_s", "held_s", "ttl_s"),
    [
        pytest.param(8.0, 5.0, TTL_S, id="8 s, 5 of them in C code, ttl 2 s"),
        pytest.param(
            90.0, 20.0, 6.0, id="90 s, 20 of them in C code, ttl 6 s",
            marks=[pytest.mark.skipif(not LONG, reason="CRONQ_LONG_TESTS=1 runs it"), pytest.mark.timeout(300)],
        ),
    ],
)  # fmt: skip
def test_nobody_else_gets_the_lock_while_a_run_works_and_everybody_does_when_it_ended(
    redis_server: RedisServer, tmp_path: Path, work_s: float, held_s: float, ttl_s: float
) -> None:
    with installation(redis_server.url, tmp_path / "own", CRONQ_LOCK_TTL=f"{ttl_s:g}s") as made:
        made.worker()
        run_id = made.enqueue("guarded", work_s, held_s)
        pids = made.pids("guarded", 3)

        with Rival(made, "guarded", pids) as rival:
            begun = boot_s()
            run = made.settles(run_id, work_s + 60)
            got = rival.first()

        (ended,) = map(float, made.diary("guarded-ends"))
        assert run.outcome == "succeeded"
        held = float(made.diary("guarded-held")[0])
        assert held > held_s > ttl_s
        assert got > ended
        assert got - ended < 1 + 2  # the rest is for a busy machine
        assert rival.overlaps == []
        assert not any(map(is_alive, pids))
        tell(
            f"work of {ended - begun:.1f} s, {held:.1f} s of it in C code, under a lock of {ttl_s:g} s: "
            f"another's {got - ended:.3f} s after its end"
        )


def test_the_lock_tells_which_run_holds_it(shop: Installation) -> None:
    run_id = shop.enqueue("exclusive", 1000, "told")
    run = shop.begins(run_id)

    (held,) = read_locks(shop.client, shop.app.keys)

    assert (held.name, held.run_id, held.host, held.pid) == ("exclusive", run_id, "box", run.pid)
    shop.app.stop(run_id)
    until(lambda: read_locks(shop.client, shop.app.keys) == [], what="nobody's lock")


def test_the_fencing_token_grows_with_every_run_and_the_run_knows_it(shop: Installation) -> None:
    runs = [shop.result("about-exclusive") for _ in range(3)]

    told = [json.loads(run.result or "")["fence"] for run in runs]
    assert [run.fence for run in runs] == told
    assert told == sorted(set(told))


# When something dies


@pytest.mark.timing
def test_a_guardian_that_is_killed_takes_its_child_and_all_descendants_along(own: Installation) -> None:
    worker = own.worker()
    own.enqueue("guarded", 1000)
    pids = own.pids("guarded", 3)

    with Rival(own, "guarded", pids) as rival:
        worker.kill9()
        killed = boot_s()
        until(lambda: not any(map(is_alive, pids)), 10, "the end of the family")
        dead_s = boot_s() - killed
        got = rival.first()

    assert rival.overlaps == []
    assert dead_s < 1 + 2
    tell(f"kill -9 of a guardian: its family dead after {dead_s:.2f} s, the lock another's after {got - killed:.2f} s")


@pytest.mark.timing
def test_a_lock_deleted_by_hand_ends_the_run_within_its_ttl(shop: Installation) -> None:
    run_id = shop.enqueue("guarded", 1000)
    shop.begins(run_id)
    pids = until(lambda: shop.pids("guarded", 3)[-3:], what="the family")

    shop.client.delete(shop.app.keys.lock("guarded"))
    deleted = boot_s()
    until(lambda: not any(map(is_alive, pids)), 10, "the end of the family")
    dead_s = boot_s() - deleted
    run = shop.settles(run_id)

    assert dead_s < TTL_S + 1
    assert run.outcome == "lost"
    assert run.reason == "its lock 'guarded' was lost: its key is gone from Redis: emptied, failed over or deleted"
    tell(f"lock deleted by hand: the run ended after {dead_s:.2f} s, ttl {TTL_S:g} s")


def test_the_child_of_a_frozen_guardian_is_dead_before_anybody_else_has_the_lock(own: Installation) -> None:
    worker = own.worker()
    run_id = own.enqueue("guarded", 1000)
    pids = own.pids("guarded", 3)

    with Rival(own, "guarded", pids) as rival:
        worker.suspend()
        try:
            frozen = boot_s()
            until(lambda: not any(map(is_alive, pids)), 10, "the end of the family")
            dead_s = boot_s() - frozen
            got = rival.first()
        finally:
            worker.resume()
        run = own.settles(run_id)

    assert rival.overlaps == []
    assert got - frozen > dead_s
    assert run.outcome == "lost"
    assert run.reason is not None
    assert "lock" in run.reason
    assert own.result("add").outcome == "succeeded"
    tell(f"SIGSTOP of a guardian: family dead after {dead_s:.2f} s, the lock another's after {got - frozen:.2f} s")


def test_an_outage_longer_than_the_lock_ends_the_run_before_the_lock_can_be_anothers(
    tmp_path: Path,
) -> None:
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    try:
        with installation(server.url, tmp_path / "own", CRONQ_LOCK_TTL=f"{TTL_S:g}s") as own:
            worker = own.worker()
            run_id = own.enqueue("guarded", 1000)
            pids = own.pids("guarded", 3)

            server.kill9()
            away = boot_s()
            until(lambda: not any(map(is_alive, pids)), 10, "the end of the family")
            dead_s = boot_s() - away
            server.start()

            run = own.settles(run_id)
            assert dead_s < TTL_S
            assert run.outcome == "lost"
            assert worker.is_running
            assert own.result("add").outcome == "succeeded"
    finally:
        server.stop()


# While it is busy


def test_a_scheduled_tick_is_skipped_while_the_lock_is_busy_and_says_whose_it_is(shop: Installation) -> None:
    first = shop.claim_tick("exclusive")
    shop.begins(first)

    second = shop.settles(shop.claim_tick("exclusive"))

    assert second.outcome == "skipped"
    assert second.reason is not None
    assert "the lock 'exclusive'" in second.reason
    assert first in second.reason
    assert second.cause == Cause("lock_busy", "exclusive", run_id=first)
    assert second.started_at is None
    assert shop.row(first).state == "running"
    shop.app.stop(first)
    assert shop.settles(first).outcome == "stopped"


@pytest.mark.timing
def test_a_run_by_hand_waits_for_the_lock_without_keeping_a_worker(shop: Installation) -> None:
    first = shop.enqueue("exclusive", 1000, "before")
    shop.begins(first)
    second = shop.enqueue("exclusive", 0, "after")

    waiting = shop.waits(second)

    assert waiting.reason is not None
    assert "lock" in waiting.reason
    assert shop.result("add").outcome == "succeeded"
    assert shop.row(second).state == "waiting"

    shop.app.stop(first)
    shop.settles(first)
    freed = time.monotonic()
    run = shop.settles(second)
    took_s = time.monotonic() - freed
    assert (run.outcome, run.attempt) == ("succeeded", 1)
    assert len(shop.diary("after")) == 1
    assert took_s < 3  # put back by the one that settled, not by a sweep
    tell(f"a waiting run ran {took_s:.2f} s after the lock was free")


def test_waiting_runs_go_one_after_the_other(shop: Installation) -> None:
    first = shop.enqueue("exclusive", 1000, "row")
    shop.begins(first)
    others = [shop.enqueue("exclusive", 0.1, "row") for _ in range(3)]
    for other in others:
        shop.waits(other)

    shop.app.stop(first)

    runs = [shop.settles(other) for other in others]
    assert [run.outcome for run in runs] == ["succeeded"] * 3
    spans = sorted((run.started_at, run.ended_at) for run in runs)
    assert all(one[1] <= next_[0] for one, next_ in pairwise(spans))  # type: ignore[operator]


def test_a_waiting_run_can_be_stopped(shop: Installation) -> None:
    with shop.app.lock("exclusive"):
        run_id = shop.enqueue("exclusive", 0, "never")
        shop.waits(run_id)

        assert shop.app.stop(run_id) == [run_id]

        assert shop.row(run_id).outcome == "stopped"
    assert shop.result("exclusive", 0).outcome == "succeeded"
    assert shop.diary("never") == []


@pytest.mark.timing
@pytest.mark.parametrize("dies", [False, True], ids=["that lets go", "that dies"])
def test_a_run_that_waits_for_somebody_who_is_no_run_is_put_back_by_a_beat(shop: Installation, dies: bool) -> None:
    script = f"from cronq import Cronq; import time; app = Cronq(); app.lock('exclusive', {TTL_S}).acquire(); "
    holder = hold(shop, script + "print('held', flush=True); time.sleep(1000)") if dies else None
    lock = shop.app.lock("exclusive")
    assert lock.acquire(blocking=False) is not dies
    run_id = shop.enqueue("exclusive", 0, "patient")
    shop.waits(run_id)

    if holder is not None:
        holder.kill9()
    else:
        lock.release()
    freed = time.monotonic()
    run = shop.settles(run_id)
    took_s = time.monotonic() - freed

    assert run.outcome == "succeeded"
    assert took_s < 5 + 5 + (TTL_S if dies else 0)
    tell(f"somebody who holds the lock {'dies' if dies else 'lets go'}: the waiting run ran {took_s:.1f} s later")


def hold(shop: Installation, script: str) -> CronqProcess:
    holder = shop.start_python(script)
    until(lambda: "held" in holder.output, what=lambda: holder.log)
    return holder


def test_a_failed_run_that_a_person_puts_back_waits_for_the_lock_too(shop: Installation) -> None:
    run = shop.result("fail-once-guarded")
    assert run.outcome == "failed"
    with shop.app.lock("guarded"):
        shop.run_rq("requeue", "--queue", "default", run.run_id)

        waiting = shop.waits(run.run_id)

        assert (waiting.attempt, waiting.outcome) == (2, None)
    again = shop.settles(run.run_id, attempt=2)
    assert (again.outcome, again.attempt, again.result) == ("succeeded", 2, '"attempt 2"')


def test_a_worker_that_meets_a_busy_lock_again_and_again_keeps_no_connections(own: Installation) -> None:
    worker = own.worker()
    with own.app.lock("exclusive"):
        for _ in range(5):
            assert own.settles(own.claim_tick("exclusive")).outcome == "skipped"
        files = len(os.listdir(f"/proc/{worker.pid}/fd"))
        for _ in range(20):
            assert own.settles(own.claim_tick("exclusive")).outcome == "skipped"

        assert len(os.listdir(f"/proc/{worker.pid}/fd")) <= files + 3


def test_a_stop_signal_to_the_whole_group_of_a_worker_does_not_break_the_guard(own: Installation) -> None:
    worker = own.worker()
    own.enqueue("guarded", 1000)
    pids = own.pids("guarded", 3)

    with Rival(own, "guarded", pids) as rival:
        os.killpg(os.getpgid(worker.pid), signal.SIGSTOP)
        rival.first()

    assert rival.overlaps == []
    os.killpg(os.getpgid(worker.pid), signal.SIGCONT)


# Killed between its start and its work


@pytest.mark.parametrize("on_lost", ["fail", "rerun"])
def test_a_worker_that_is_killed_when_its_run_was_just_started_holds_the_lock_no_longer_than_its_ttl(
    shop: Installation, on_lost: str
) -> None:
    name = f"just-started-{on_lost}"
    shop.app.add(name, command=["true"], queue=name, exclusive=True, on_lost=on_lost)
    with FaultProxy(shop.redis_url) as proxy:
        victim = shop.worker(name, CRONQ_REDIS_URL=proxy.url)
        hold = proxy.hold(b"-m", IN_ANSWER)  # only an answer to an offer holds the id of a run by hand
        run_id = shop.enqueue(name)
        assert hold.reached.wait(30), shop.logs
        assert shop.row(run_id).state == "running"
        victim.kill9()
        killed = boot_s()
        hold.discard()
    lock = shop.app.lock(name)

    assert lock.acquire(timeout=30)
    took_s = boot_s() - killed
    lock.release()

    assert took_s < TTL_S + 2  # for a busy machine
    if on_lost == "rerun":
        other = shop.worker(name)
    run = shop.settles(run_id)
    assert run.outcome == ("succeeded" if on_lost == "rerun" else "lost")
    if on_lost == "rerun":
        other.kill9()


def test_an_exclusive_run_whose_start_was_not_answered_runs_once_under_its_lock(shop: Installation) -> None:
    with FaultProxy(shop.redis_url) as proxy:
        shop.app.add("unanswered", command=["true"], queue="unanswered", exclusive=True)
        worker = shop.worker("unanswered", CRONQ_REDIS_URL=proxy.url)
        dropped = proxy.drop_reply(sha_of(EXCHANGE))
        run_id = shop.enqueue("unanswered")

        run = shop.settles(run_id)

        assert dropped.is_set()
        worker.kill9()
    assert (run.outcome, run.attempt) == ("succeeded", 1)
    assert not shop.client.exists(shop.app.keys.lock("unanswered"))
