"""What beats and workers cost while nothing is due: round trips a second, a share of a core, memory.

    python benchmarks/idle.py [--jobs N,…] [--seconds S] [--rounds N] [--only NAME,…] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counting_proxy import counting_proxy
from machine import Machine
from processes import memory_mb_of, processor_s_of
from registered import ManyJobs, numbered, once_a_year
from report import Comparison, Target, compared, pick, show, start_parser
from rounds import Entrant, say, turns
from scale import numbers
from server import redis_server
from systems import PACKAGES, System, all_systems, running

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry

FIGURES = {"round_trips_per_s": "/s", "core_percent": "% core", "memory_mb": "MB"}
TARGETS = {
    ("beat", "round_trips_per_s"): Target(most=2, of="figure"),
    ("worker", "round_trips_per_s"): Target(most=1.2, of="figure"),
}
#: Workers of others that are held against ours.
PEERS = ("rq", "celery_late", "dramatiq", "huey")


@dataclass
class Idler(Entrant):
    """A process, with all that it starts, on a server of its own with so many *jobs* stored."""

    what: str  #: beat, worker, or the name of a peer
    command: Sequence[str]
    jobs: int = 0
    peer: System | None = None
    children: int = 1

    def measure(self, settle_s: float, seconds: float) -> float:
        """One round of so many *seconds*, *settle_s* after its start. Returns the round trips a second."""
        with redis_server() as url, counting_proxy(url) as proxy, tempfile.TemporaryDirectory() as directory:
            os.environ["BENCH_URL"] = url
            if self.peer is not None:
                self.peer.queue(url, "noop", 0)
            if self.jobs:
                store_idle_jobs(url, self.jobs)
            with running(self.command, proxy.url, Path(directory), {"BENCH_STAMPS": "/dev/null"}) as process:
                time.sleep(settle_s)
                before = proxy.round_trips, processor_s_of(process.pid), time.monotonic()
                time.sleep(seconds)
                after = proxy.round_trips, processor_s_of(process.pid), time.monotonic()
                if process.poll() is not None:
                    raise RuntimeError(f"it ended with {process.returncode}")
                memory_mb = memory_mb_of(process.pid)
        trips, processor_s, clock_s = (late - early for early, late in zip(before, after, strict=True))
        self.figures.setdefault("core_percent", []).append(100 * processor_s / clock_s)
        self.figures.setdefault("memory_mb", []).append(memory_mb)
        return trips / clock_s


def store_idle_jobs(url: str, count: int) -> None:
    """Store *count* jobs that are due once a year."""
    app = Cronq(config=Config(url=url), registry=Registry())
    # A year that begins while this runs would make them due.
    ManyJobs(app).store(numbered(count), int(app.now_s()), crons=once_a_year(min(1000, count)))
    app.client.close()


def idlers(sizes: Sequence[int]) -> list[Idler]:
    """Beats and workers of ours with so many jobs, and workers of others."""
    by_name = {system.name: system for system in all_systems()}
    found = []
    for jobs in sizes:
        found.append(Idler(f"beat, {jobs:,} jobs", "beat", ["-m", "cronq", "beat"], jobs))
        found.append(Idler(f"worker, {jobs:,} jobs", "worker", by_name["cronq"].command, jobs))
    found.append(Idler("worker -n 4", "worker", by_name["cronq_4"].command, 1, children=4))
    for name in PEERS:
        system = by_name[name]
        system.skip_unless_installed()
        found.append(Idler(name, name, system.command, peer=system, skipped=system.skipped))
    return found


def base_of(idler: Idler, found: Sequence[Idler]) -> Idler | None:
    """Whom it is held against: with many jobs the same with fewest; else the worker of cronq."""
    if idler.peer is not None or idler.children > 1:
        return None
    first = next(each for each in found if each.what == idler.what)
    return None if first is idler else first


def comparisons(found: Sequence[Idler]) -> list[Comparison]:
    lines = []
    worker = next((each for each in found if each.what == "worker"), None)
    for kind, unit in FIGURES.items():
        words = "idle, " + kind.replace("_", " ").replace(" per s", "").replace(" percent", "").replace(" mb", "")
        for each in found:
            figure = each.median(kind)
            if figure is None:
                continue
            own, its = (worker, each) if each.peer is not None else (each, base_of(each, found))
            target = None if each.peer is not None or each.children > 1 else TARGETS.get((each.what, kind))
            ratio = own.ratio_to(its, kind) if own is not None else None
            own_figure, its_figure = own.median(kind) if own else None, its.median(kind) if its else None
            if own is None or its is None or ratio is None or own_figure is None or its_figure is None:
                lines.append(Comparison(words, each.name, figure, unit, target=target))
            else:
                lines.append(compared(words, own.name, own_figure, unit, its.name, its_figure, ratio, target))
    return lines


def as_document(found: Sequence[Idler], seconds: float) -> dict[str, Any]:
    document: dict[str, Any] = {"seconds": seconds, "idle": {}, "skipped": {}}
    for each in found:
        figures = {kind: each.median(kind) for kind in FIGURES if each.median(kind) is not None}
        if figures:
            document["idle"][each.name] = {kind: round(figure or 0.0, 3) for kind, figure in figures.items()}
        if each.skipped:
            document["skipped"][each.name] = each.skipped
    return document


def main() -> int:
    parser = start_parser("What beats and workers cost while nothing is due.")
    parser.add_argument("--jobs", type=numbers, default="1,1000,100_000", help="stored jobs (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="of each round (%(default)s)")
    parser.add_argument("--settle", type=float, default=5, help="seconds for imports and first chores (%(default)s)")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: beat, worker, {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=1, help="the median counts (%(default)s)")
    arguments = parser.parse_args()
    if not arguments.jobs or arguments.jobs[0] < 1 or arguments.seconds <= 0 or arguments.rounds < 1:
        parser.error("--jobs, --seconds and --rounds are positive")
    machine = Machine(PACKAGES)
    wanted = pick(parser, arguments.only, ["beat", "worker", *PEERS])
    found = [each for each in idlers(arguments.jobs) if each.what in wanted]
    for each in turns(arguments.rounds, found, "idle"):
        if not each.skipped:
            say(each.name)
        each.try_round("round_trips_per_s", lambda each=each: each.measure(arguments.settle, arguments.seconds))
    show(as_document(found, arguments.seconds), comparisons(found), machine.facts(), as_json=arguments.json)
    return 1 if any(each.has_failed for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
