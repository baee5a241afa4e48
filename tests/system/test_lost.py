"""What becomes of a run when its worker vanishes, is cut off, or has to leave: it is never lost and never doubled."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rq.job import Job, JobStatus

from tests.conftest import RedisServer
from tests.faults.proxy import FaultProxy
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation, is_alive

LOST_AFTER_S = 2.0
LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with two beats and no worker."""
    server = RedisServer()
    try:
        settings = {"CRONQ_LOST_AFTER": f"{LOST_AFTER_S:g}s", "CRONQ_LOCK_TTL": "2s", "CRONQ_SHUTDOWN_GRACE": "1s"}
        with installation(server.url, tmp_path_factory.mktemp("shop"), **settings) as made:
            made.beat()
            made.beat()
            yield made
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """The workers of a test end with it."""
    yield
    if "shop" in request.fixturenames:
        shop: Installation = request.getfixturevalue("shop")
        assert all(process.is_running for process in shop.started[1:3]), shop.logs
        for process in shop.started[3:]:
            process.kill9()


def tell(figures: str) -> None:
    print(figures)  # noqa: T201


# Its worker vanishes


@pytest.mark.timing
@pytest.mark.parametrize("job", ["sleep-again", "sleep-again-exclusive"])
def test_a_run_that_may_be_run_again_is_run_by_another_worker_when_its_own_is_killed(
    shop: Installation, job: str
) -> None:
    name = f"killed-{job}-{time.monotonic_ns()}"  # it may be tried again
    victim = shop.worker("again")
    run_id = shop.enqueue(job, 1.5, name)
    (first,) = shop.pids(name)

    victim.kill9()
    killed = time.monotonic()
    other = shop.worker("again")
    second = shop.pids(name, 2)[1]
    again_s = time.monotonic() - killed
    assert not is_alive(first)
    run = shop.settles(run_id, attempt=2)

    assert (run.outcome, run.attempt, run.crashes, run.pid) == ("succeeded", 2, 1, other.pid)
    assert shop.diary(f"{name}-ends") == [str(second)]
    assert again_s < LOST_AFTER_S + 5
    tell(f"{job}: kill -9 of its worker: at work again after {again_s:.1f} s")


def test_a_job_that_kills_its_worker_is_set_aside_after_three(shop: Installation) -> None:
    for _ in range(3):
        shop.start("worker", "again")
    run_id = shop.enqueue("kill-its-worker")

    run = shop.settles(run_id, 60, attempt=3)
    history = shop.run("history", "--outcome", "failed", "--json")

    assert (run.outcome, run.attempt, run.crashes) == ("failed", 3, 3)
    assert run.reason is not None
    assert run.reason.startswith("3 of its workers vanished (max_crashes is 3)")
    assert len(shop.diary("kill-its-worker")) == 3
    assert Job.fetch(run_id, connection=shop.client).get_status() == JobStatus.FAILED
    assert json.loads(history.output)[0]["run_id"] == run_id


def test_a_run_of_a_frozen_worker_is_dead_before_it_is_run_again(shop: Installation) -> None:
    frozen = shop.worker("again")
    run_id = shop.enqueue("sleep-again", 1000, "frozen")
    (first,) = shop.pids("frozen")

    frozen.suspend()
    shop.worker("again")
    second = shop.pids("frozen", 2)[1]
    assert not is_alive(first)
    frozen.resume()

    frozen.wait_for_line(f"PUT BACK {run_id}")
    run = shop.row(run_id)
    assert (run.state, run.attempt) == ("running", 2)
    assert is_alive(second)
    assert shop.diary("frozen") == [str(first), str(second)]
    shop.app.stop(run_id)
    assert shop.settles(run_id, attempt=2).outcome == "stopped"


# Its worker is cut off


def test_a_worker_that_is_cut_off_alone_ends_a_run_that_others_may_run_again(shop: Installation) -> None:
    with FaultProxy(shop.redis_url) as proxy:
        cut_off = shop.worker("again", CRONQ_REDIS_URL=proxy.url)
        run_id = shop.enqueue("sleep-again", 3.0, "alone")
        (first,) = shop.pids("alone")
        with proxy.outage("refuse"):
            shop.worker("again")
            shop.pids("alone", 2)
            assert not is_alive(first)
        cut_off.wait_for_line(f"PUT BACK {run_id}")
        run = shop.settles(run_id, attempt=2)

        assert (run.outcome, run.attempt) == ("succeeded", 2)
        assert len(shop.diary("alone-ends")) == 1
        assert cut_off.is_running
        cut_off.kill9()


def test_a_worker_that_is_cut_off_alone_ends_no_run_that_nobody_runs_again(shop: Installation) -> None:
    with FaultProxy(shop.redis_url) as proxy:
        cut_off = shop.worker("nights", CRONQ_REDIS_URL=proxy.url)
        run_id = shop.enqueue("sleep-nights", 6.0, "alone-fail")
        (pid,) = shop.pids("alone-fail")
        with proxy.outage("refuse"):
            assert shop.settles(run_id).outcome == "lost"

        until(lambda: shop.row(run_id).outcome == "succeeded", what="the outcome of its own")
        assert shop.diary("alone-fail") == shop.diary("alone-fail-ends") == [str(pid)]
        assert cut_off.is_running
        assert shop.result("add-nights").outcome == "succeeded"
        cut_off.kill9()


@pytest.mark.parametrize("queues", [("again",), ("high", "again", "low")], ids=["one queue", "three queues"])
def test_a_black_holed_idle_worker_takes_nothing_from_a_healthy_one(
    shop: Installation, queues: tuple[str, ...]
) -> None:
    with FaultProxy(shop.redis_url) as proxy:
        swallowed = shop.worker(*queues, CRONQ_REDIS_URL=proxy.url)
        shop.worker(*queues)
        with proxy.outage("blackhole"):
            runs = [shop.enqueue("sleep-again", 0, f"hole-{len(queues)}") for _ in range(20)]
            settled = [shop.settles(run_id, 60) for run_id in runs]
        swallowed.kill9()

    assert [run.outcome for run in settled] == ["succeeded"] * 20
    assert len(shop.diary(f"hole-{len(queues)}")) == 20


@pytest.mark.skipif(not LONG, reason="CRONQ_LONG_TESTS=1 runs it")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["refuse", "blackhole"])
@pytest.mark.parametrize("away_s", [3.0, 6.5, 12.0, 25.0, 60.0])
def test_every_body_runs_once_and_keeps_its_outcome_however_long_redis_is_away(
    redis_server: RedisServer, tmp_path: Path, away_s: float, mode: str
) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(redis_server.url))
        made = stack.enter_context(installation(redis_server.url, tmp_path / "cronq", CRONQ_REDIS_URL=proxy.url))
        queues = ("nights", "default", "again", "high")
        processes = [made.beat(), made.beat(), *(made.worker(queue) for queue in queues)]
        lengths = {"sleep-nights": away_s + 4, "sleep": 3.0}
        if away_s <= 25:
            lengths["sleep-again"] = away_s + 4
        runs = {job: made.enqueue(job, seconds, f"away-{job}") for job, seconds in lengths.items()}
        for job in runs:
            made.pids(f"away-{job}")

        with proxy.outage(mode):
            time.sleep(away_s)  # the length of the outage is what this is about

        for job, run_id in runs.items():
            run = made.settles(run_id, 60)
            assert (run.outcome, run.attempt) == ("succeeded", 1), (job, run, made.logs)
            assert len(made.diary(f"away-{job}")) == len(made.diary(f"away-{job}-ends")) == 1
        assert all(process.is_running for process in processes), made.logs


# Its worker leaves


@pytest.mark.timing
def test_at_the_end_of_its_grace_a_worker_puts_a_run_back_that_may_be_run_again(shop: Installation) -> None:
    leaving = shop.worker("again")
    name = f"leaving-again-{time.monotonic_ns()}"  # it may be tried again
    run_id = shop.enqueue("sleep-again", 1000, name)
    (pid,) = shop.pids(name)
    later = shop.enqueue("sleep-again", 0, "later")
    below = descendants(leaving.pid)

    leaving.terminate()
    leaving.wait_for_line("LEAVING after the present run, in 1s at the latest")
    asked = time.monotonic()
    code = leaving.exit_code()
    took_s = time.monotonic() - asked

    run = shop.row(run_id)
    assert (code, run.state, run.attempt, run.crashes, run.outcome) == (0, "queued", 2, 0, None)
    assert [text.decode() for text in shop.client.lrange("rq:queue:again", 0, -1)] == [run_id, later]
    assert pid in below
    assert not any(map(is_alive, below))
    assert took_s < 1 + 3
    assert shop.app.stop(run_id) == [run_id]
    assert shop.app.stop(later) == [later]


def test_at_the_end_of_its_grace_a_worker_ends_a_run_as_lost_that_may_not_be_run_again(shop: Installation) -> None:
    leaving = shop.worker("nights")
    run_id = shop.enqueue("sleep-nights", 1000, "leaving-fail")
    (pid,) = shop.pids("leaving-fail")

    leaving.terminate()

    assert leaving.exit_code() == 0
    run = shop.row(run_id)
    assert (run.outcome, run.reason) == (
        "lost", "its worker was told to leave, and the time it had for that was over"
    )  # fmt: skip
    assert not is_alive(pid)


def test_a_second_signal_puts_a_run_back_at_once(shop: Installation) -> None:
    leaving = shop.worker("again", CRONQ_SHUTDOWN_GRACE="1000s")
    run_id = shop.enqueue("sleep-again", 1000, "twice")
    shop.pids("twice")

    leaving.terminate()
    leaving.wait_for_line("LEAVING")
    leaving.terminate()

    assert leaving.exit_code() == 0
    assert (shop.row(run_id).state, shop.row(run_id).crashes) == ("queued", 0)
    assert shop.app.stop(run_id) == [run_id]


def test_a_worker_that_has_to_leave_without_telling_redis_how_a_run_ended_says_so_with_its_exit_code(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with installation(redis_server.url, tmp_path / "cronq") as made:
        leaving = made.worker()
        made.enqueue("sleep", 0.5, "unwritten")
        made.pids("unwritten")
        redis_server.kill9()
        leaving.wait_for_line("UNWRITTEN")

        leaving.terminate()
        leaving.wait_for_line("LEAVING")
        leaving.terminate()

        assert leaving.exit_code() == 1
        assert leaving.lines("ABANDONED")


# At most once


def test_a_run_that_may_be_started_once_is_refused_when_a_person_puts_it_back(shop: Installation) -> None:
    worker = shop.worker("again")
    run_id = shop.enqueue("sleep-once", 1000, "once")
    shop.pids("once")
    shop.app.stop(run_id)
    before = shop.settles(run_id)

    shop.run_rq("requeue", "--queue", "again", run_id)
    worker.wait_for_line(f"REFUSED {run_id}")

    until(lambda: Job.fetch(run_id, connection=shop.client).get_status() == JobStatus.FAILED)
    assert shop.row(run_id) == before
    assert len(shop.diary("once")) == 1
    assert shop.result("sleep-once", 0, "another").outcome == "succeeded"


# Held


def leaves(process: CronqProcess) -> None:
    process.terminate()
    assert process.exit_code() == 0, process.log


def test_a_paused_queue_is_left_alone_and_the_others_are_served(shop: Installation) -> None:
    worker = shop.worker("nights", "again")
    assert shop.run("pause", "--queue", "nights", "--note", "the printer burns").exit_code() == 0
    waiting = shop.enqueue("add-nights")

    assert shop.result("sleep-again", 0, "beside").outcome == "succeeded"
    assert shop.row(waiting).state == "queued"

    assert shop.run("resume", "--queue", "nights").exit_code() == 0
    assert shop.settles(waiting).outcome == "succeeded"
    leaves(worker)


def test_a_drain_waits_for_what_runs_and_nothing_new_begins(shop: Installation) -> None:
    worker = shop.worker("again")
    running = shop.enqueue("sleep-again", 1.5, "drained")
    shop.pids("drained")

    drained = shop.run("drain", "--wait", "30s", "--note", "deploy")
    later = shop.enqueue("sleep-again", 0, "after-drain")

    assert drained.exit_code() == 0, drained.log
    assert shop.row(running).outcome == "succeeded"
    worker.wait_for_line("SUSPENDED held by ")
    until(lambda: "deploy" in shop.run("workers").output, what="the drain among the workers")
    assert shop.row(later).state == "queued"

    assert shop.run("resume").exit_code() == 0
    assert shop.settles(later).outcome == "succeeded"
    leaves(worker)


def test_a_drain_may_give_up_or_end_what_runs(shop: Installation) -> None:
    worker = shop.worker("again")
    run_id = shop.enqueue("sleep-again", 1000, "drained-long")
    shop.pids("drained-long")
    (heartbeat,) = (beat for beat in shop.app.workers()[0] if beat.pid == worker.pid)

    given_up = shop.run("drain", heartbeat.id, "--wait", "0.2s")
    killed = shop.run("drain", heartbeat.id, "--kill")

    assert given_up.exit_code() == 75
    assert run_id in given_up.log
    assert killed.exit_code() == 0, killed.log
    assert shop.row(run_id).outcome == "stopped"
    assert shop.run("drain", "--end", heartbeat.id).exit_code() == 0
    assert shop.result("sleep-again", 0, "drain-ended").outcome == "succeeded"
    leaves(worker)


# Under a stock worker


def test_a_stop_reaches_a_stock_rq_worker(shop: Installation) -> None:
    stock = shop.start_rq("worker", "nights")
    run_id = shop.enqueue("sleep-nights", 1000, "stock")
    (pid,) = shop.pids("stock")

    assert shop.run("stop", run_id).output.split() == [run_id]

    run = shop.settles(run_id)
    assert (run.outcome, run.decided_by) == ("stopped", shop.app.who)
    until(lambda: not is_alive(pid), what="the end of its process")
    stock.kill9()
