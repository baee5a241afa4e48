"""How many jobs a second one worker executes: cronq, its peers; and what a run costs in round trips.

    python benchmarks/worker.py [--jobs N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from counting_proxy import counting_proxy
from redis import Redis
from server import describe_setup, redis_server
from tasks.stamp import RECORD

HERE = Path(__file__).resolve().parent
TASKS = HERE / "tasks"
sys.path += [str(TASKS), str(HERE.parent)]  # cronq itself, when it is not installed

ROUNDS = 5
#: Executed before the clock starts: imports, connections, first fork.
WARM_UP_JOBS = 20
COUNTED_JOBS = 200
ROUND_TIMEOUT_S = 120
#: What cronq has to reach, as a share of rq's rate.
TARGET = 0.85
KINDS = {"noop": "a job that does nothing", "ten_ms": "a job that sleeps 10 ms"}
PACKAGES = ("redis", "rq", "celery", "dramatiq", "huey")


# -- the systems: how jobs are queued, and what executes them, one at a time --------------------------


def queue_cronq(url: str, kind: str, jobs: int) -> None:
    from cronq import Cronq

    app = Cronq(url)
    app.sync(["cronq_jobs"])
    for _ in range(jobs):
        app.enqueue(kind)


def queue_rq(url: str, kind: str, jobs: int) -> None:
    from rq import Queue

    with Redis.from_url(url) as client:
        queue = Queue(connection=client)
        queue.enqueue_many([Queue.prepare_data(f"stamp.{kind}") for _ in range(jobs)])


def queue_celery(url: str, kind: str, jobs: int) -> None:
    import celery_tasks

    for _ in range(jobs):
        getattr(celery_tasks, kind).delay()


def queue_dramatiq(url: str, kind: str, jobs: int) -> None:
    import dramatiq_actors

    for _ in range(jobs):
        getattr(dramatiq_actors, kind).send()


def queue_huey(url: str, kind: str, jobs: int) -> None:
    import huey_tasks

    for _ in range(jobs):
        getattr(huey_tasks, kind)()


@dataclass
class System:
    """One line of the table."""

    name: str
    needs: str  #: the library, by its import name
    queue: Callable[[str, str, int], None]
    command: Sequence[str]  #: arguments of Python
    #: No-op jobs per round, as a multiple of what was asked: those that do not fork are done too soon.
    factor: int = 1
    rates: dict[str, list[float]] = field(default_factory=dict)
    #: Why it is not measured.
    skipped: str = ""

    def rate(self, kind: str) -> float | None:
        rates = self.rates.get(kind)
        return statistics.median(rates) if rates else None

    def share_of(self, other: System | None, kind: str) -> float | None:
        """The median of the rounds' ratios: what slows the machine down for a while slows both."""
        if other is None or not self.rates.get(kind) or not other.rates.get(kind):
            return None
        pairs = zip(self.rates[kind], other.rates[kind], strict=False)  # who failed half-way has fewer
        return statistics.median(own / its for own, its in pairs)

    def jobs(self, kind: str, asked: int) -> int:
        return asked * self.factor if kind == "noop" else max(1, asked // 2)


def all_systems() -> list[System]:
    quiet = ["--loglevel", "error", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [
        System("cronq", "cronq", queue_cronq, ["-m", "cronq", "worker", "-m", "cronq_jobs"]),
        System("rq", "rq", queue_rq, [str(TASKS / "rq_worker.py"), "worker", "--quiet", "--url", "{url}"]),
        System(
            "celery", "celery", queue_celery,
            ["-m", "celery", "-A", "celery_tasks", "worker", "--pool", "prefork", "--concurrency", "1", *quiet], 10,
        ),
        System(
            "dramatiq", "dramatiq", queue_dramatiq,
            ["-m", "dramatiq", "dramatiq_actors", "--processes", "1", "--threads", "1"], 3,
        ),
        System(
            "huey", "huey", queue_huey,
            ["-m", "huey.bin.huey_consumer", "huey_tasks.huey", "--worker-type", "process", "--workers", "1", "-q"], 10,
        ),
    ]  # fmt: skip


# -- one round ---------------------------------------------------------------------------------------


class Stamps:
    """The file that jobs write the moments of their ends to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def count(self) -> int:
        return self.path.stat().st_size // RECORD.size

    def read(self) -> list[float]:
        return sorted(moment for (moment,) in RECORD.iter_unpack(self.path.read_bytes()))

    def wait_for(self, count: int, worker: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + ROUND_TIMEOUT_S
        while self.count() < count:
            if worker.poll() is not None:
                raise RuntimeError(f"its worker ended with {worker.returncode} after {self.count()} of {count} jobs")
            if time.monotonic() > until:
                raise RuntimeError(f"{self.count()} of {count} jobs within {ROUND_TIMEOUT_S} s")
            time.sleep(0.02)


@contextmanager
def queued(system: System, url: str, kind: str, jobs: int) -> Iterator[Stamps]:
    """An emptied server with *jobs* queued, and the file that will tell of them."""
    with Redis.from_url(url) as client:
        client.flushall()
    with tempfile.TemporaryDirectory(prefix="cronq-bench-") as directory:
        stamps = Stamps(Path(directory) / "stamps")
        stamps.path.touch()
        os.environ["BENCH_STAMPS"] = str(stamps.path)
        system.queue(url, kind, jobs)
        yield stamps


@contextmanager
def running(system: System, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The system's worker, ended with all its processes."""
    command = [sys.executable, *(word.format(url=url) for word in system.command)]
    paths = os.pathsep.join([str(TASKS), str(HERE.parent)])
    env = os.environ | {"BENCH_URL": url, "CRONQ_REDIS_URL": url, "CRONQ_LOG_LEVEL": "warning", "PYTHONPATH": paths}
    worker = subprocess.Popen(
        command, env=env, cwd=Path(os.environ["BENCH_STAMPS"]).parent, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield worker
    finally:
        worker.terminate()
        try:
            worker.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def measure(system: System, url: str, kind: str, jobs: int) -> float:
    """Jobs per second of one round, from the end of the last warm-up job to the end of the last one."""
    total = jobs + WARM_UP_JOBS
    with queued(system, url, kind, total) as stamps, running(system, url) as worker:
        stamps.wait_for(total, worker)
        moments = stamps.read()
    if len(moments) != total:
        raise RuntimeError(f"{len(moments)} executions of {total} jobs")
    return jobs / (moments[-1] - moments[WARM_UP_JOBS - 1])


def count(system: System, url: str) -> tuple[float, float]:
    """Round trips, and commands (those of scripts included), per no-op job."""

    def commands() -> int:
        return int(client.info("stats")["total_commands_processed"])

    total = COUNTED_JOBS + WARM_UP_JOBS
    with (
        Redis.from_url(url) as client,
        queued(system, url, "noop", total) as stamps,
        counting_proxy(url) as proxy,
        running(system, proxy.url) as worker,
    ):
        stamps.wait_for(WARM_UP_JOBS, worker)
        before = (stamps.count(), proxy.round_trips, commands())
        stamps.wait_for(total, worker)
        after = (stamps.count(), proxy.round_trips, commands())
    done, trips, sent = (late - early for early, late in zip(before, after, strict=True))
    return trips / done, sent / done


# -- all rounds --------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def try_measure(system: System, url: str, kind: str, jobs: int) -> None:
    """One round, or the reason in `system.skipped`: who cannot take part does not stop the others."""
    if system.skipped:
        return
    try:
        system.rates.setdefault(kind, []).append(measure(system, url, kind, jobs))
    except Exception as error:
        system.skipped = f"failed: {type(error).__name__}: {error}"
        say(f"{system.name}: {system.skipped}")


def run(url: str, systems: Sequence[System], jobs: int, rounds: int) -> None:
    """All rounds. The systems take turns, so that a slow spell of the machine meets all of them."""
    for kind in KINDS:
        for number in range(1, rounds + 1):
            say(f"{kind}, round {number} of {rounds}")
            for system in systems:
                try_measure(system, url, kind, system.jobs(kind, jobs))


def print_table(systems: Sequence[System], kind: str, asked: int, rounds: int) -> None:
    rq = next((system for system in systems if system.name == "rq"), None)
    print(f"\n{KINDS[kind]}: jobs per second, one at a time, median of {rounds} rounds, AOF off")
    print(f"{'':12}{'jobs':>8}{'rate':>10}{'lowest':>10}{'highest':>10}{'of rq':>10}")
    for system in systems:
        rate = system.rate(kind)
        if rate is None:
            print(f"{system.name:12}{system.skipped}")
            continue
        figures = (rate, min(system.rates[kind]), max(system.rates[kind]))
        line = f"{system.name:12}{system.jobs(kind, asked):>8,}" + "".join(f"{figure:>10,.1f}" for figure in figures)
        share = system.share_of(rq, kind)
        line += f"{share:>10.2f}" if share else f"{'-':>10}"
        print(line + (f"  (target {TARGET:g})" if share and system.name == "cronq" else ""))


def print_costs(costs: dict[str, tuple[float, float]]) -> None:
    print("\nper no-op job: round trips to Redis, commands that Redis executes (those of scripts included)")
    for name, (trips, commands) in costs.items():
        print(f"{name:12}{trips:>10.1f}{commands:>10.1f}")


def parse_arguments(names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Jobs executed by one worker: cronq and its peers.")
    parser.add_argument("--jobs", type=int, default=400, help="no-op jobs a round; half of it of 10 ms (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds, the median counts (%(default)s)")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="rates, ratio and round trips as one object")
    arguments = parser.parse_args()
    if arguments.jobs < 1 or arguments.rounds < 1:
        parser.error("--jobs and --rounds start at 1")
    if unknown := set((arguments.only or names[0]).split(",")) - set(names):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}")
    return arguments


def as_json(systems: Sequence[System], costs: dict[str, tuple[float, float]]) -> str:
    document: dict[str, object] = {}
    by_name = {system.name: system for system in systems}
    for kind in KINDS:
        rates = {name: system.rate(kind) for name, system in by_name.items()}
        share = by_name["cronq"].share_of(by_name.get("rq"), kind) if "cronq" in by_name else None
        document[kind] = {name: rate and round(rate, 1) for name, rate in rates.items()}
        document[f"{kind}_cronq_to_rq"] = share and round(share, 3)
    document["round_trips"] = {name: round(trips, 1) for name, (trips, _) in costs.items()}
    document["commands"] = {name: round(commands, 1) for name, (_, commands) in costs.items()}
    return json.dumps(document)


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> int:
    systems = all_systems()
    arguments = parse_arguments([system.name for system in systems])
    if arguments.only:
        systems = [system for system in systems if system.name in arguments.only.split(",")]
    signal.signal(signal.SIGTERM, _end)
    with redis_server() as url:
        os.environ["BENCH_URL"] = url
        for system in systems:
            if find_spec(system.needs) is None:
                system.skipped = f"skipped: {system.needs} is not installed"
                say(f"{system.name}: {system.skipped}")
        if not arguments.json:
            print(describe_setup(url, PACKAGES), flush=True)
        run(url, systems, arguments.jobs, arguments.rounds)
        counted = [system for system in systems if system.name in ("cronq", "rq") and not system.skipped]
        costs = {system.name: count(system, url) for system in counted}
    if arguments.json:
        print(as_json(systems, costs))
    else:
        for kind in KINDS:
            print_table(systems, kind, arguments.jobs, arguments.rounds)
        print_costs(costs)
    return 1 if any(system.skipped.startswith("failed") for system in systems) else 0


if __name__ == "__main__":
    sys.exit(main())
