"""How many jobs a second a worker executes: cronq, its peers; and what a run costs in round trips.

    python benchmarks/worker.py [--jobs N] [--rounds N] [--only NAME,…] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from counting_proxy import counting_proxy
from machine import Machine
from redis import Redis
from report import Comparison, Target, compared, pick, show, start_parser
from rounds import turns
from server import commands_executed, redis_server
from systems import PACKAGES, System, all_systems, running
from tasks.stamp import RECORD

#: Executed before the clock starts: imports, connections, first fork.
WARM_UP_JOBS = 20
#: Jobs that round trips are counted over: fewer would be done between two looks.
FEWEST_COUNTED = 100
ROUND_TIMEOUT_S = 120
KINDS = {"noop": "no-op jobs", "ten_ms": "10 ms jobs"}
#: What is to be reached, as a ratio of the rates of two systems.
TARGETS = {
    ("noop", "cronq", "rq"): Target(8),
    ("noop", "cronq", "celery_late"): Target(1),
    ("noop", "cronq", "celery"): Target(0.9),
    ("noop", "cronq_4", "cronq"): Target(2),
    ("ten_ms", "cronq", "huey"): Target(0.95),
    ("ten_ms", "cronq", "celery"): Target(0.95),
}
#: Beside the peers of one process, which `cronq` is held against, and those of four, which `cronq_4` is.
PAIRS = (("cronq_run", "rq"), ("cronq_4", "cronq"), ("cronq_run_4", "rq_4"), ("cronq_run_4", "cronq_run"))
TRIPS = {"cronq": Target(most=2.1, of="figure")}


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


def measure(system: System, url: str, kind: str, jobs: int) -> float:
    """Jobs per second of one round, from the end of the last warm-up job to the end of the last one."""
    total = jobs + WARM_UP_JOBS
    with (
        queued(system, url, kind, total) as stamps,
        running(system.command, url, stamps.path.parent, system.env) as worker,
    ):
        stamps.wait_for(total, worker)
        moments = stamps.read()
    if len(moments) != total:
        raise RuntimeError(f"{len(moments)} executions of {total} jobs")
    return jobs / (moments[-1] - moments[WARM_UP_JOBS - 1])


def count(system: System, url: str, jobs: int) -> tuple[float, float]:
    """Round trips, and commands (those of scripts included), per no-op job."""
    total = max(jobs, FEWEST_COUNTED) + WARM_UP_JOBS
    with (
        Redis.from_url(url) as client,
        queued(system, url, "noop", total) as stamps,
        counting_proxy(url) as proxy,
        running(system.command, proxy.url, stamps.path.parent, system.env) as worker,
    ):
        stamps.wait_for(WARM_UP_JOBS, worker)
        before = (stamps.count(), proxy.round_trips, commands_executed(client))
        stamps.wait_for(total, worker)
        after = (stamps.count(), proxy.round_trips, commands_executed(client))
    done, trips, sent = (late - early for early, late in zip(before, after, strict=True))
    return (trips / done, sent / done) if done else (0.0, 0.0)


# -- all rounds --------------------------------------------------------------------------------------


def run(url: str, systems: Sequence[System], jobs: int, rounds: int) -> dict[str, tuple[float, float]]:
    """All rounds, then the counting. Returns what a job costs by system."""
    for kind, words in KINDS.items():
        for system in turns(rounds, systems, words):
            asked = system.jobs(kind, jobs)
            system.try_round(kind, lambda system=system, kind=kind, asked=asked: measure(system, url, kind, asked))
    costs: dict[str, tuple[float, float]] = {}
    for system in turns(1, systems, "round trips"):
        if not system.skipped:
            costs[system.name] = count(system, url, jobs)
    return costs


def pairs(systems: Sequence[System]) -> list[tuple[System, System]]:
    """Who is held against whom."""
    by_name = {system.name: system for system in systems}
    named = [
        ("cronq_4" if system.children > 1 else "cronq", system.name)
        for system in systems
        if system.needs != "cronq"
    ]  # fmt: skip
    return [(by_name[own], by_name[its]) for own, its in (*named, *PAIRS) if own in by_name and its in by_name]


def comparisons(systems: Sequence[System], costs: dict[str, tuple[float, float]]) -> list[Comparison]:
    found = []
    for kind, words in KINDS.items():
        for own, its in pairs(systems):
            ratio, rate, its_rate = own.ratio_to(its, kind), own.median(kind), its.median(kind)
            if ratio and rate and its_rate:
                target = TARGETS.get((kind, own.name, its.name))
                found.append(compared(words, own.name, rate, "/s", its.name, its_rate, ratio, target))
    for own in (system for system in systems if system.needs == "cronq" and system.name in costs):
        figure, rq = costs[own.name][0], costs.get("rq", (0.0, 0.0))[0]
        beside = ("rq", rq, figure / rq) if rq else ("", None, None)
        found.append(Comparison("round trips a no-op job", own.name, figure, "", *beside, target=TRIPS.get(own.name)))
    return found


def rates_in_words(systems: Sequence[System], costs: dict[str, tuple[float, float]], jobs: int) -> str:
    """A table of every system: its rates with their spread, and what a job costs."""
    lines = [f"{'jobs a second':14}" + "".join(
        f"{words:>14}{'lowest':>9}{'highest':>9}" for words in KINDS.values()
    ) + f"{'round trips':>13}{'commands':>10}"]  # fmt: skip
    for system in systems:
        if system.skipped:
            lines.append(f"{system.name:14}{system.skipped}")
            continue
        line = f"{system.name:14}"
        for kind in KINDS:
            figures = system.figures[kind]
            spread = (system.median(kind) or 0.0, min(figures), max(figures))
            line += "".join(f"{figure:>{width},.1f}" for figure, width in zip(spread, (14, 9, 9), strict=True))
        trips, commands = costs[system.name]
        lines.append(f"{line}{trips:>13.2f}{commands:>10.1f}")
    return "\n".join(lines)


def as_document(systems: Sequence[System], costs: dict[str, tuple[float, float]], rounds: int) -> dict[str, Any]:
    document: dict[str, Any] = {"rounds": rounds}
    by_name = {system.name: system for system in systems}
    for kind in KINDS:
        rates = {name: system.median(kind) for name, system in by_name.items()}
        share = by_name["cronq"].ratio_to(by_name.get("rq"), kind) if "cronq" in by_name else None
        document[kind] = {name: rate and round(rate, 1) for name, rate in rates.items()}
        document[f"{kind}_cronq_to_rq"] = share and round(share.median, 3)
    document["ratios"] = {
        kind: {
            f"{own.name}/{its.name}": found.to_json()
            for own, its in pairs(systems)
            if (found := own.ratio_to(its, kind)) is not None
        }
        for kind in KINDS
    }
    document["round_trips"] = {name: round(trips, 2) for name, (trips, _) in costs.items()}
    document["commands"] = {name: round(commands, 1) for name, (_, commands) in costs.items()}
    document["skipped"] = {system.name: system.skipped for system in systems if system.skipped}
    return document


def main() -> int:
    systems = all_systems()
    names = [system.name for system in systems]
    parser = start_parser("Jobs executed by a worker: cronq and its peers.")
    parser.add_argument("--jobs", type=int, default=400, help="no-op jobs a round of the slowest (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts (%(default)s)")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {', '.join(names)}")
    arguments = parser.parse_args()
    if arguments.jobs < 1 or arguments.rounds < 1:
        parser.error("--jobs and --rounds start at 1")
    wanted = pick(parser, arguments.only, names)
    systems = [system for system in systems if system.name in wanted]
    machine = Machine(PACKAGES)
    with redis_server() as url:
        os.environ["BENCH_URL"] = url
        for system in systems:
            system.skip_unless_installed()
        costs = run(url, systems, arguments.jobs, arguments.rounds)
    show(
        as_document(systems, costs, arguments.rounds), comparisons(systems, costs), machine.facts(),
        as_json=arguments.json, also=rates_in_words(systems, costs, arguments.jobs),
    )  # fmt: skip
    return 1 if any(system.has_failed for system in systems) else 0


if __name__ == "__main__":
    sys.exit(main())
