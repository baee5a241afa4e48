"""A Redis that is there and refuses, or leads elsewhere, while workers are at work. Real processes."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import RedisServer
from tests.faults.proxy import FaultProxy
from tests.redis.test_failover import Pair, pair
from tests.system.processes import until
from tests.system.worker_processes import installation

__all__ = ["pair"]


def test_a_run_that_may_be_run_again_outlives_a_redis_that_is_full(redis_server: RedisServer, tmp_path: Path) -> None:
    with installation(redis_server.url, tmp_path, CRONQ_LOST_AFTER="2s") as shop:
        shop.beat()
        worker, other = shop.worker("again"), shop.worker("again")
        run_id = shop.enqueue("sleep-again", 9)  # seconds, more than four `lost_after`
        shop.begins(run_id)

        shop.client.config_set("maxmemory", 1)
        until(lambda: worker.lines("UNHEARD") or other.lines("UNHEARD"), what=lambda: worker.log + other.log)
        until(lambda: shop.diary("sleep-ends"), 30, lambda: "the end of the work")
        shop.client.config_set("maxmemory", 0)
        run = shop.settles(run_id)

        assert (run.outcome, run.attempt, run.crashes) == ("succeeded", 1, 0)
        assert len(shop.diary("sleep")) == 1
        said = worker.lines("UNHEARD") + other.lines("UNHEARD")
        assert all("Redis refuses (" in line for line in said), said


def test_a_worker_of_rqs_own_command_line_follows_its_address(pair: Pair, tmp_path: Path) -> None:
    with FaultProxy(f"redis://127.0.0.1:{pair.ports[0]}") as moving, installation(moving.url, tmp_path) as shop:
        shop.run("sync", "working_jobs")
        worker = shop.ready(shop.start_rq("worker", "--worker-class", "cronq.Worker", "default"))
        assert shop.settles(shop.enqueue("add", 1, 2)).outcome == "succeeded"

        pair.swap()
        moving.move(f"redis://127.0.0.1:{pair.ports[1]}")
        shop.client.connection_pool.disconnect()

        assert shop.settles(shop.enqueue("add", 3, 4)).outcome == "succeeded", worker.log
