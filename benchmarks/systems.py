"""Task queues under test: how each queues its jobs, by which command line a worker of it is started, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from rounds import Entrant, say

HERE = Path(__file__).resolve().parent
TASKS = HERE / "tasks"
sys.path += [str(TASKS), str(HERE.parent)]  # cronq itself, when it is not installed

PACKAGES = ("redis", "rq", "celery", "dramatiq", "huey")


def queue_cronq(url: str, kind: str, jobs: int) -> None:
    from cronq import Cronq

    app = Cronq(url)
    app.sync(["cronq_jobs"])
    if jobs:
        app.enqueue_many(kind, [{}] * jobs)


def queue_rq(url: str, kind: str, jobs: int) -> None:
    from rq import Queue

    with Redis.from_url(url) as client:
        queue = Queue(connection=client)
        queue.enqueue_many([Queue.prepare_data(f"stamp.{kind}") for _ in range(jobs)])


def queue_celery(url: str, kind: str, jobs: int) -> None:
    import celery_tasks

    for _ in range(jobs):
        getattr(celery_tasks, kind).delay()


def queue_celery_late(url: str, kind: str, jobs: int) -> None:
    import celery_late_tasks

    for _ in range(jobs):
        getattr(celery_late_tasks, kind).delay()


def queue_dramatiq(url: str, kind: str, jobs: int) -> None:
    import dramatiq_actors

    for _ in range(jobs):
        getattr(dramatiq_actors, kind).send()


def queue_huey(url: str, kind: str, jobs: int) -> None:
    import huey_tasks

    for _ in range(jobs):
        getattr(huey_tasks, kind)()


@dataclass
class System(Entrant):
    """A worker that executes jobs in one process, or in *children* of them."""

    needs: str  #: the library, by its import name
    queue: Callable[[str, str, int], None]
    command: Sequence[str]  #: arguments of Python
    children: int = 1
    #: No-op jobs per round, as a multiple of what was asked: a round is to take a second or more.
    factor: int = 1
    env: Mapping[str, str] = field(default_factory=dict)

    def jobs(self, kind: str, asked: int) -> int:
        return asked * self.factor if kind == "noop" else max(1, asked * self.children // 2)

    def skip_unless_installed(self) -> None:
        """Say so in `skipped` when its library is not there."""
        if find_spec(self.needs) is None:
            self.skipped = f"skipped: {self.needs} is not installed"
            say(f"{self.name}: {self.skipped}")


_CELERY = ["--loglevel", "error", "--without-gossip", "--without-mingle", "--without-heartbeat"]
_RUN = {"CRONQ_ISOLATION": "run"}


def _cronq(name: str, children: int, factor: int, env: Mapping[str, str] | None = None) -> System:
    command = ["-m", "cronq", "worker", "-m", "cronq_jobs", "-n", str(children)]
    return System(name, "cronq", queue_cronq, command, children, factor, env or {})


def _rq(name: str, factor: int, *words: str, children: int = 1) -> System:
    command = [str(TASKS / "rq_worker.py"), *words, "--quiet", "--url", "{url}"]
    return System(name, "rq", queue_rq, command, children, factor)


def _celery(name: str, children: int, module: str, queue: Callable[[str, str, int], None]) -> System:
    pool = ["--pool", "prefork", "--concurrency", str(children)]
    return System(name, "celery", queue, ["-m", "celery", "-A", module, "worker", *pool, *_CELERY], children, 10)


def _huey(name: str, children: int) -> System:
    command = ["-m", "huey.bin.huey_consumer", "huey_tasks.huey", "-q", "--worker-type", "process"]
    return System(name, "huey", queue_huey, [*command, "--workers", str(children)], children, 15)


def all_systems() -> list[System]:
    """Every line of the table; the name without a number is one process that executes one job at a time."""
    return [
        _cronq("cronq", 1, 4),
        _cronq("cronq_run", 1, 1, _RUN),
        _cronq("cronq_4", 4, 8),
        _cronq("cronq_run_4", 4, 1, _RUN),
        _rq("rq", 1, "worker"),
        _rq("rq_simple", 3, "worker", "--worker-class", "rq.SimpleWorker"),
        _rq("rq_4", 1, "worker-pool", "--num-workers", "4", children=4),
        _celery("celery", 1, "celery_tasks", queue_celery),
        _celery("celery_late", 1, "celery_late_tasks", queue_celery_late),
        _celery("celery_4", 4, "celery_tasks", queue_celery),
        _celery("celery_late_4", 4, "celery_late_tasks", queue_celery_late),
        System(
            "dramatiq", "dramatiq", queue_dramatiq,
            ["-m", "dramatiq", "dramatiq_actors", "--processes", "1", "--threads", "1"], 1, 3,
        ),
        _huey("huey", 1),
        _huey("huey_4", 4),
    ]  # fmt: skip


@contextmanager
def running(
    command: Sequence[str], url: str, directory: Path, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Python with these arguments, ended with all that it has started."""
    paths = os.pathsep.join([str(TASKS), str(HERE.parent)])
    ours = {"BENCH_URL": url, "CRONQ_REDIS_URL": url, "CRONQ_LOG_LEVEL": "warning", "PYTHONPATH": paths}
    process = subprocess.Popen(
        [sys.executable, *(word.format(url=url) for word in command)],
        env=os.environ | ours | env, cwd=directory, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # nothing is left of it
            pass
        process.wait()
