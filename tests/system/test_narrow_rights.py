"""Rights in Redis that let a program queue runs, or a worker run them, and define nothing: what workers run is decided
by who may write definitions. docs/security.md gives them, as users `producer` and `narrow`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from cronq.app.app import Cronq
from cronq.cli.private_redis import _version as version_of
from cronq.cli.private_redis import find_server
from cronq.config import Config
from tests.conftest import RedisServer
from tests.system.processes import until
from tests.system.test_acl import SECRET, TOLERATED, rights_for
from tests.system.worker_processes import Installation, installation


@pytest.fixture
def server() -> Iterator[RedisServer]:
    program = find_server()
    if version_of(Path(program)) < (7,):
        pytest.skip("rights to read keys only came with Redis 7")
    server = RedisServer(program=program)
    rights_for(server)
    yield server
    server.stop()


@pytest.fixture
def shop(server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    with installation(server.url, tmp_path, CRONQ_LOST_AFTER="2s") as made:
        yield made


def as_user(server: RedisServer, user: str) -> str:
    return f"unix://{user}:{SECRET}@{server.socket_path}"


def denied(client: Redis) -> set[tuple[str, str]]:
    return {(e["username"], e["object"]) for e in client.acl_log(128) if e["object"].lower() not in TOLERATED}


def test_a_program_may_queue_runs_and_define_nothing(server: RedisServer, shop: Installation) -> None:
    shop.app.add("good", command=["true"])
    before = shop.client.hgetall(shop.app.keys.job("good"))
    producer = Cronq(config=Config(url=as_user(server, "producer"), host_id="web"))

    made = producer.enqueue("good")
    later = producer.enqueue_in("1h", "good")

    assert [shop.row(run_id).state for run_id in (made, later)] == ["queued", "waiting"]
    assert denied(shop.client) == set()
    for define in (
        lambda: producer.add("evil", command=["sh"]),
        lambda: producer.add("good", command=["sh"]),
        lambda: producer.remove("good"),
        lambda: producer.pause("good"),
    ):
        with pytest.raises(NoPermissionError):
            define()
    assert shop.client.hgetall(shop.app.keys.job("good")) == before
    assert "evil" not in shop.app.jobs.names()


def test_a_worker_runs_ticks_and_runs_by_hand_and_defines_nothing(server: RedisServer, shop: Installation) -> None:
    shop.app.add("good", command=["true"], exclusive=True)
    shop.app.add("tick", command=["true"], every="1s")
    shop.start("beat", "working_jobs").wait_for_line("START-UP")
    shop.worker(CRONQ_REDIS_URL=as_user(server, "narrow"))

    made = shop.app.enqueue("good")

    until(lambda: shop.row(made).outcome == "succeeded", what=lambda: shop.logs)
    until(lambda: any(run.outcome == "succeeded" for run in shop.app.history("tick")), what=lambda: shop.logs)
    assert denied(shop.client) == set(), shop.logs
    with pytest.raises(NoPermissionError):
        Cronq(config=Config(url=as_user(server, "narrow"), host_id="box")).add("evil", command=["sh"])
