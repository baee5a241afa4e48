"""TERM at any moment of the start of a process: it ends in order, with 0 and without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue

from cronq import Worker
from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry

#: Sends TERM to its own process as soon as the event in $TERM_AT happens in it.
CUSTOM = """
import os, signal, sys
wanted = os.environ.pop("TERM_AT", "")
def note(what):
    global wanted
    if what == wanted:
        wanted = None
        os.write(2, b"TERM is sent\\n")
        os.kill(os.getpid(), signal.SIGTERM)
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        note("import " + name)
sys.meta_path.insert(0, Finder)
sys.addaudithook(lambda event, arguments: note(event))
"""
MOMENTS = [
    "import click", "import cronq.cli.verbs", "import cronq.app.app", "import redis", "import rq", "import jobs",
    "socket.connect",
]  # fmt: skip


def ends_in_order(directory: Path, redis_url: str, moment: str, *words: str) -> None:
    (directory / "sitecustomize.py").write_text(CUSTOM)
    (directory / "jobs.py").write_text("from cronq import job\n@job('* * * * *')\ndef tidy(): ...\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRONQ_")}
    environment |= {"PYTHONPATH": str(directory), "TERM_AT": moment, "CRONQ_REDIS_URL": redis_url}

    ended = subprocess.run(
        [sys.executable, "-m", "cronq", *words],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip

    assert "TERM is sent" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("moment", ["import cronq.cli.beat", *MOMENTS])
def test_a_beat(tmp_path: Path, redis_url: str, moment: str) -> None:
    ends_in_order(tmp_path, redis_url, moment, "beat", "jobs")


@pytest.mark.parametrize(
    "moment",
    ["import cronq.cli.worker", *MOMENTS, "import cronq.worker.worker", "import cronq.process.watchdog", "os.fork"],
)
def test_a_worker(tmp_path: Path, redis_url: str, moment: str) -> None:
    ends_in_order(tmp_path, redis_url, moment, "worker", "-m", "jobs")


@pytest.mark.parametrize("moment", ["import cronq.cli.worker", *MOMENTS, "import cronq.process.nursery", "os.fork"])
def test_two_workers(tmp_path: Path, redis_url: str, moment: str) -> None:
    ends_in_order(tmp_path, redis_url, moment, "worker", "-n", "2", "-m", "jobs")


@pytest.mark.parametrize(
    "moment", ["import click", "import cronq.cli.dev", "import redis", "import jobs", "socket.connect"]
)
def test_dev(tmp_path: Path, redis_url: str, moment: str) -> None:
    ends_in_order(tmp_path, redis_url, moment, "dev", "jobs")


def test_a_worker_that_never_began_is_orderly_and_can_be_told_twice(redis: Redis, redis_url: str) -> None:
    app = Cronq(config=Config(url=redis_url, host_id="box"), registry=Registry(), client=redis)
    worker = Worker([Queue(connection=redis)], connection=redis, app=app)

    worker.request_stop(signal.SIGTERM, None)
    worker.request_stop(signal.SIGTERM, None)

    assert worker.is_orderly
