"""A failover: the address stays, or the sentinels name another server, and the old primary lives on as a replica."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ReadOnlyError, RedisError

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import make_spec
from tests.conftest import RedisServer, find_redis_server
from tests.faults.proxy import FaultProxy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], object], within_s: float = 20) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if holds():
                return True
        except RedisError:
            pass
        time.sleep(0.02)
    return False


class Pair:
    """Two servers on loopback, the second one a replica of the first."""

    def __init__(self, stack: ExitStack) -> None:
        self.ports = free_port(), free_port()
        for index, port in enumerate(self.ports):
            options = ["--port", str(port), "--bind", "127.0.0.1"]
            if index:
                options += ["--replicaof", "127.0.0.1", str(self.ports[0])]
            stack.callback(RedisServer(*options).stop)
        self.first, self.second = (stack.enter_context(Redis(port=port)) for port in self.ports)
        assert until(lambda: self.second.info("replication")["master_link_status"] == "up")

    def swap(self) -> None:
        """Promote the second; the first becomes its replica, as in a planned failover."""
        assert until(lambda: self.offsets_agree())
        self.second.replicaof("NO", "ONE")
        self.first.replicaof("127.0.0.1", self.ports[1])

    def offsets_agree(self) -> bool:
        offset = self.first.info("replication")["master_repl_offset"]
        return bool(self.second.info("replication")["slave_repl_offset"] == offset)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


@pytest.fixture
def moving(pair: Pair) -> Iterator[FaultProxy]:
    """An address that leads to the first server, and by `move` to the second."""
    with FaultProxy(f"redis://127.0.0.1:{pair.ports[0]}") as proxy:
        yield proxy


def an_app(url: str, client: Redis | None = None) -> Cronq:
    return Cronq(config=Config(url=url, host_id="box"), registry=Registry(), client=client)


def each_second(app: Cronq) -> None:
    app.add("tick", every="1s", command=["true"], overlap="allow")


@pytest.mark.parametrize("whose", ["ours", "given"])
def test_a_beat_goes_on_when_its_address_leads_to_another_server(pair: Pair, moving: FaultProxy, whose: str) -> None:
    with Redis.from_url(moving.url) as plain:
        app = an_app(moving.url, plain if whose == "given" else None)
        each_second(app)
        stop = threading.Event()
        beating = threading.Thread(target=app.beat().run, args=(stop,))
        beating.start()
        try:
            assert until(lambda: pair.first.zcard("cronq:job:tick:runs") >= 2)
            pair.swap()
            moving.move(f"redis://127.0.0.1:{pair.ports[1]}")
            before = pair.second.zcard("cronq:job:tick:runs")

            assert until(lambda: pair.second.zcard("cronq:job:tick:runs") >= before + 2)
        finally:
            stop.set()
            beating.join()


def test_a_script_that_meets_a_replica_finds_the_primary_with_a_new_connection(pair: Pair, moving: FaultProxy) -> None:
    app = an_app(moving.url)
    each_second(app)
    spec = make_spec("other", command=["true"])
    pair.swap()
    moving.move(f"redis://127.0.0.1:{pair.ports[1]}")

    app.jobs.save(spec, source="here:1", origin="test", expected="")

    assert pair.second.sismember("cronq:jobs", "other")


def test_a_replica_is_told_as_such_also_by_a_script(pair: Pair) -> None:
    app = an_app(f"redis://127.0.0.1:{pair.ports[1]}")

    with pytest.raises(ReadOnlyError):
        app.jobs.save(make_spec("job", command=["true"]), source="here:1", origin="test", expected="")


def test_a_lock_is_renewed_where_its_address_leads(pair: Pair, moving: FaultProxy) -> None:
    with an_app(moving.url).lock("house", ttl=2.0) as held:
        assert until(pair.offsets_agree)
        pair.swap()
        moving.move(f"redis://127.0.0.1:{pair.ports[1]}")
        pair.first.close()

        assert not until(lambda: held.lost, within_s=3)
        assert pair.second.exists("lock:cronq:house")


def stores_jobs(url: str) -> bool:
    each_second(an_app(url))
    return True


@pytest.fixture
def sentinel(pair: Pair, tmp_path: Path) -> Iterator[str]:
    """A URL by which one sentinel, with a password of its own, names the primary of *pair*."""
    port = free_port()
    words = [
        f"port {port}", "bind 127.0.0.1", f"dir {tmp_path}", "requirepass s3ntinel",
        f"sentinel monitor house 127.0.0.1 {pair.ports[0]} 1", "sentinel down-after-milliseconds house 1000",
        "sentinel failover-timeout house 3000",
    ]  # fmt: skip
    (tmp_path / "sentinel.conf").write_text("\n".join(words) + "\n")
    program = shutil.which("redis-server") or find_redis_server()
    process = subprocess.Popen(
        [program, str(tmp_path / "sentinel.conf"), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with Redis(port=port, password="s3ntinel") as asked:
            assert until(lambda: asked.sentinel_slaves("house"))
        yield f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/house/0?sentinel_password=s3ntinel"
    finally:
        process.terminate()
        process.wait(10)


def test_a_beat_goes_on_through_a_failover_by_sentinel(pair: Pair, sentinel: str) -> None:
    app = an_app(sentinel)
    each_second(app)
    stop = threading.Event()
    beating = threading.Thread(target=app.beat().run, args=(stop,))
    beating.start()
    try:
        assert until(lambda: pair.first.zcard("cronq:job:tick:runs") >= 2)
        port = int(sentinel.rpartition(":")[2].partition("/")[0])
        with Redis(port=port, password="s3ntinel") as asked:
            asked.execute_command("SENTINEL", "FAILOVER", "house")
        assert until(lambda: pair.second.info("replication")["role"] == "master")
        before = pair.second.zcard("cronq:job:tick:runs")

        assert until(lambda: pair.second.zcard("cronq:job:tick:runs") >= before + 2, within_s=30)
    finally:
        stop.set()
        beating.join()


def test_locks_and_guardians_ask_the_sentinels_too(sentinel: str) -> None:
    app = an_app(sentinel)
    each_second(app)

    run_id = app.enqueue("tick")

    with app.lock("house") as held:
        assert held.token > 0
        assert app.runs_through(app.prompt_client()).get(run_id).state == "queued"
