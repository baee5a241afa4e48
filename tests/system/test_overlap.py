"""Runs that wait for an earlier run of their job, with real workers: never two at work, and none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.conftest import RedisServer
from tests.system.processes import CronqProcess
from tests.system.worker_processes import Installation, installation, is_alive


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a beat and a worker."""
    server = RedisServer()
    try:
        settings = {"CRONQ_LOST_AFTER": "2s", "CRONQ_LOCK_TTL": "2s"}
        with installation(server.url, tmp_path_factory.mktemp("shop"), **settings) as made:
            made.beat()
            yield made
    finally:
        server.stop()


@pytest.fixture
def worker(shop: Installation) -> Iterator[CronqProcess]:
    process = shop.worker()
    yield process
    process.kill9()


def test_queued_ticks_run_one_after_the_other(shop: Installation, worker: CronqProcess) -> None:
    other = shop.worker()
    runs = [shop.claim_tick("queueing") for _ in range(4)]

    rows = [shop.settles(run_id) for run_id in runs]
    other.kill9()

    assert {row.outcome for row in rows} == {"succeeded"}
    for before, after in pairwise(rows):
        assert before.ended_at is not None
        assert after.queued_at is not None
        assert after.started_at is not None
        assert before.ended_at <= after.queued_at <= after.started_at


@pytest.mark.timing
def test_what_waits_behind_a_run_whose_worker_is_killed_runs_on_another(shop: Installation) -> None:
    victim = shop.worker()
    first = shop.claim_tick("queueing-long")
    (pid,) = shop.pids("queueing-long")
    second = shop.claim_tick("queueing-long")
    assert shop.row(second).state == "waiting"

    victim.kill9()
    other = shop.worker()
    shop.begins(second)

    assert not is_alive(pid)
    assert shop.row(first).outcome == "lost"
    other.kill9()


def test_with_latest_the_newest_tick_runs_when_workers_come_back(shop: Installation) -> None:
    *others, last = [shop.claim_tick("latest") for _ in range(20)]

    worker = shop.worker()
    shop.settles(last)
    worker.kill9()

    assert {shop.row(run_id).outcome for run_id in others} == {"coalesced"}
    assert len(shop.diary("latest")) == 1


def test_with_replace_the_new_run_begins_when_the_old_one_has_been_stopped(
    shop: Installation, worker: CronqProcess
) -> None:
    first = shop.claim_tick("replacing")
    (pid,) = shop.pids("replacing")

    second = shop.claim_tick("replacing")
    stopped = shop.settles(first)
    began = shop.begins(second)

    assert (stopped.outcome, stopped.decided_by) == ("stopped", "beat")
    assert stopped.reason == f"replaced by the run {second}"
    assert not is_alive(pid)
    assert stopped.ended_at is not None
    assert began.started_at is not None
    assert stopped.ended_at <= began.started_at
    assert shop.app.stop(second) == [second]
    shop.settles(second)
