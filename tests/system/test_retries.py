"""A run that fails is tried again, by real processes, whichever of them is killed around that moment."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry

from tests.conftest import RedisServer
from tests.faults.calls import load_scripts, sha_of
from tests.faults.proxy import ANSWER, REQUEST, FaultProxy
from tests.system.processes import until
from tests.system.worker_processes import Installation, installation


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation in which nothing runs yet."""
    server = RedisServer()
    try:
        with installation(server.url, tmp_path_factory.mktemp("shop"), CRONQ_LOST_AFTER="3s") as made:
            load_scripts(made.client)
            yield made
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def _nothing_left(shop: Installation) -> Iterator[None]:
    """The processes of a test end with it."""
    yield
    for process in shop.started:
        process.kill9()


def fresh(word: str) -> str:
    return f"{word}-{time.monotonic_ns()}"  # a test may be tried again


def fails_at_first(shop: Installation, run_id: str) -> None:
    until(lambda: shop.row(run_id).state == "retrying", what=lambda: f"{shop.row(run_id)}\n{shop.logs}")


def test_a_run_that_failed_is_tried_again_after_its_delay(shop: Installation) -> None:
    shop.beat()
    worker = shop.worker("default")
    name = fresh("plain")
    run_id = shop.enqueue("try-again", name)

    fails_at_first(shop, run_id)
    status = Job.fetch(run_id, connection=shop.client).get_status()
    run = shop.settles(run_id, attempt=2)

    assert status == JobStatus.SCHEDULED
    assert (run.outcome, run.attempt, run.result) == ("succeeded", 2, '"attempt 2"')
    [first] = run.attempts
    assert (first.outcome, first.reason) == ("failed", "ValueError: not yet")
    assert first.ended_at is not None
    assert run.started_at is not None
    assert run.started_at >= first.ended_at + 1
    assert shop.diary(name) == ["1", "2"]
    assert Job.fetch(run_id, connection=shop.client).return_value() == "attempt 2"
    worker.wait_for_line("RETRYING")


@pytest.mark.timing
def test_it_is_tried_again_within_the_second(shop: Installation) -> None:
    shop.beat()
    shop.worker("default")
    run_id = shop.enqueue("try-again", fresh("prompt"))

    run = shop.settles(run_id, attempt=2)

    [first] = run.attempts
    assert run.started_at is not None
    assert first.ended_at is not None
    assert run.started_at - first.ended_at < 2


@pytest.mark.parametrize(
    ("where", "job", "attempts"),
    [
        (REQUEST, "try-again", ["1"]),  # it was at work for all that anybody knows
        (REQUEST, "try-again-or-rerun", ["1", "2"]),
        (ANSWER, "try-again", ["1", "2"]),
        (ANSWER, "try-again-or-rerun", ["1", "2"]),
    ],
)
def test_a_worker_that_is_killed_around_the_end_of_an_attempt_loses_and_doubles_nothing(
    shop: Installation, where: str, job: str, attempts: list[str]
) -> None:
    shop.beat()
    name = fresh("killed")
    with FaultProxy(shop.redis_url) as proxy:
        worker = shop.worker("default", CRONQ_REDIS_URL=proxy.url)
        hold = proxy.hold(b'"outcome"', where)
        run_id = shop.enqueue(job, name)
        assert hold.reached.wait(30), shop.logs
        worker.kill9()
        hold.discard()
        shop.worker("default")

        run = shop.settles(run_id, attempt=len(attempts))

    assert shop.diary(name) == attempts
    assert (run.outcome, run.attempt) == ("lost" if len(attempts) == 1 else "succeeded", len(attempts))
    assert shop.client.zcard(shop.app.keys.retries) == 0


@pytest.mark.parametrize("where", [REQUEST, ANSWER])
def test_a_beat_that_is_killed_around_the_move_to_the_queue_loses_and_doubles_nothing(
    shop: Installation, where: str
) -> None:
    shop.worker("default")
    name = fresh("moved")
    run_id = shop.enqueue("try-again", name)
    fails_at_first(shop, run_id)
    until(lambda: shop.app.now_s() > (shop.row(run_id).retry_at or 0), what="its time")
    with FaultProxy(shop.redis_url) as proxy:
        hold = proxy.hold(sha_of("runs/retry"), where)
        victim = shop.start("beat", CRONQ_REDIS_URL=proxy.url)
        assert hold.reached.wait(30), shop.logs
        assert (shop.row(run_id).state == "retrying") == (where == REQUEST)
        victim.kill9()
        hold.discard()
        shop.beat()

        run = shop.settles(run_id, attempt=2)

    assert (run.outcome, run.attempt) == ("succeeded", 2)
    assert shop.diary(name) == ["1", "2"]


@pytest.mark.parametrize("job", ["snooze", "snooze-guarded"])
def test_a_job_may_ask_for_its_next_attempt_itself(shop: Installation, job: str) -> None:
    shop.beat()
    worker = shop.worker("default")
    name = fresh("dozing")

    run = shop.settles(shop.enqueue(job, name), attempt=3)

    assert (run.outcome, run.attempt, run.result) == ("succeeded", 3, '"attempt 3"')
    assert shop.diary(name) == ["1", "2", "3"]
    told = [(each.outcome, each.reason) for each in run.attempts]
    assert told == [(None, "it asked for another attempt after 0.5s")] * 2
    assert shop.app.jobs.get(job).state.streak == 1
    worker.wait_for_line("SNOOZED")


def test_a_job_that_may_be_started_once_cannot_snooze(shop: Installation) -> None:
    shop.beat()
    shop.worker("default")

    run = shop.result("snooze-once")

    assert run.outcome == "failed"
    assert run.reason == "it asked for another attempt after 1s, and its job asks for at_most_once"


def burst(shop: Installation) -> None:
    """A stock `rq worker` that does all there is to do."""
    worker = shop.start_rq("worker", "--burst", "default")
    assert worker.exit_code(60) == 0, worker.log


def test_a_stock_rq_worker_retries_when_rq_has_written_its_own_record(shop: Installation) -> None:
    name = fresh("stock")
    run_id = shop.enqueue("try-again", name)

    burst(shop)
    run, job = shop.row(run_id), Job.fetch(run_id, connection=shop.client)
    [first] = run.attempts
    assert (run.state, first.outcome, job.get_status()) == ("retrying", "failed", JobStatus.FAILED)
    assert run.retry_at is not None
    assert first.ended_at is not None
    assert run.retry_at - first.ended_at == pytest.approx(5)

    shop.app.retrying.once(run.retry_at)
    assert job.get_status() == JobStatus.QUEUED
    assert run_id not in FailedJobRegistry("default", connection=shop.client).get_job_ids()
    burst(shop)

    run = shop.row(run_id)
    assert (run.outcome, run.attempt, shop.diary(name)) == ("succeeded", 2, ["1", "2"])
    assert job.get_status() == JobStatus.FINISHED


def test_a_stock_rq_worker_does_not_snooze_and_says_what_would(shop: Installation) -> None:
    run_id = shop.enqueue("snooze", fresh("stock-dozing"))

    burst(shop)

    run = shop.row(run_id)
    assert run.outcome == "failed"
    assert run.reason == "job 'snooze' snoozes, which needs `cronq worker`: a stock rq worker cannot"
