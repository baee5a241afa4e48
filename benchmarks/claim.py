"""How many due jobs a second become queued jobs: cronq, its peers, and the floor under all of them.

    python benchmarks/claim.py [--jobs N] [--rounds N] [--one-core] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peers
from machine import Machine
from redis import Redis
from report import Comparison, Target, compared, pick, show, start_parser
from rounds import Entrant, turns
from server import redis_server

sys.path.append(str(Path(__file__).resolve().parents[1]))  # cronq itself, when it is not installed

ROUNDS = 5
WARM_UP_JOBS = 100
#: How often a round is repeated because a minute ended during it.
ATTEMPTS = 4
#: What cronq has to reach with distinct schedules, as a multiple of each.
TARGETS = {"rq_cron": Target(7.0), "huey": Target(1.8), "floor": Target(0.5)}
PACKAGES = ("redis", "hiredis", "rq", "rq-scheduler", "celery", "celery-redbeat", "apscheduler", "huey")


@dataclass
class System(Entrant):
    """One line of the table."""

    peer: peers.Peer
    #: Most jobs per round: slow systems get fewer, or a run would take many minutes.
    most_jobs: int

    def jobs(self, asked: int) -> int:
        return min(asked, self.most_jobs)


def all_systems() -> list[System]:
    return [
        System("cronq", peers.cronq_round, 1_000_000),
        System("rq_cron", peers.rq_cron, 2_000),
        System("rq_scheduler", peers.rq_scheduler, 500),
        System("redbeat", peers.redbeat, 500),
        System("apscheduler", peers.apscheduler, 500),
        System("huey", peers.huey, 1_000_000),
        System("floor", peers.floor, 1_000_000),
    ]


SCHEDULES: dict[str, Callable[[int, datetime], list[peers.Spec]]] = {
    "distinct": peers.distinct_specs,
    "equal": peers.equal_specs,
}


class MinuteEnded(Exception):
    """The jobs became due once more during the round, so it counts for nothing."""


def this_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


def measure(url: str, system: System, schedules: str, jobs: int) -> float:
    """Due jobs per second of one round."""
    for _ in range(ATTEMPTS):
        try:
            return _measure_once(url, system, schedules, jobs)
        except MinuteEnded:
            continue
    raise RuntimeError(f"a round of {jobs} jobs does not fit into a minute")


def _measure_once(url: str, system: System, schedules: str, jobs: int) -> float:
    with Redis.from_url(url) as client:
        client.flushall()
    due = this_minute()
    with system.peer(url, SCHEDULES[schedules](jobs, due), due) as run_pass:
        gc.collect()
        gc.freeze()  # each pass pays for its own garbage, not for what the others hold
        try:
            started = time.perf_counter()
            run_pass()
            elapsed_s = time.perf_counter() - started
        finally:
            gc.unfreeze()
        if this_minute() != due:
            raise MinuteEnded
    return jobs / elapsed_s


def run(url: str, systems: Sequence[System], schedules: Sequence[str], jobs: int, rounds: int) -> None:
    """All rounds, after one small one of each that does not count."""
    systems = [*systems[-2:], *systems[:-2]]  # huey, floor, cronq, rq_cron: the compared ones in a row
    for system in systems:
        for kind in schedules:
            asked = min(WARM_UP_JOBS, system.jobs(jobs))
            system.try_round("warm-up", lambda system=system, kind=kind, asked=asked: measure(url, system, kind, asked))
    for kind in schedules:
        for system in turns(rounds, systems, f"{kind} schedules"):
            asked = system.jobs(jobs)
            system.try_round(kind, lambda system=system, kind=kind, asked=asked: measure(url, system, kind, asked))


def comparisons(systems: Sequence[System], schedules: Sequence[str], one_core: bool) -> list[Comparison]:
    by_name = {system.name: system for system in systems}
    lines = []
    cronq = by_name.pop("cronq", None)
    for kind in schedules if cronq else ():
        for name, system in by_name.items():
            found, rate, its = cronq.ratio_to(system, kind), cronq.median(kind), system.median(kind)
            if found and rate and its:
                target = TARGETS.get(name) if kind == "distinct" else None
                what = f"due jobs queued, {kind}" + (", one core" if one_core else "")
                lines.append(compared(what, "cronq", rate, "/s", name, its, found, target))
    return lines


def in_words(systems: Sequence[System], schedules: Sequence[str], asked: int) -> str:
    lines = []
    for kind in schedules:
        lines.append(f"{kind} schedules, due jobs a second")
        lines.append(f"{'':14}{'jobs':>8}{'median':>10}{'lowest':>10}{'highest':>10}")
        for system in systems:
            rates = system.figures.get(kind)
            if not rates:
                lines.append(f"{system.name:14}{system.skipped}")
                continue
            figures = (system.median(kind) or 0.0, min(rates), max(rates))
            line = f"{system.name:14}{system.jobs(asked):>8,}"
            lines.append(line + "".join(f"{figure:>10,.0f}" for figure in figures))
    if any(system.jobs(asked) < asked for system in systems):
        lines.append("Slow systems get fewer jobs per round; none of their rates depends on the number.")
    return "\n".join(lines)


def as_document(systems: Sequence[System], rounds: int) -> dict[str, Any]:
    """The rates with distinct schedules by system, and the ratios of cronq's to theirs."""
    rates = {system.name: system.median("distinct") for system in systems}
    document: dict[str, Any] = {name: rate and round(rate, 1) for name, rate in rates.items()}
    by_name = {system.name: system for system in systems}
    found = {name: by_name["cronq"].ratio_to(each, "distinct") for name, each in by_name.items() if "cronq" in by_name}
    document["ratios"] = {name: each.to_json() for name, each in found.items() if each is not None and name != "cronq"}
    return document | {"rounds": rounds, "skipped": {each.name: each.skipped for each in systems if each.skipped}}


def main() -> int:
    systems = all_systems()
    names = [system.name for system in systems]
    parser = start_parser("Due jobs into queued jobs: cronq, its peers, the floor.")
    parser.add_argument("--jobs", type=int, default=2_000, help="jobs due in the same second (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts (%(default)s)")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {', '.join(names)}")
    parser.add_argument("--one-core", action="store_true", help="the pass and Redis share one core")
    arguments = parser.parse_args()
    if arguments.jobs < 1 or arguments.rounds < 1:
        parser.error("--jobs and --rounds start at 1")
    wanted = pick(parser, arguments.only, names)
    systems = [system for system in systems if system.name in wanted]
    schedules = ["distinct"] if arguments.json else list(SCHEDULES)
    if arguments.one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # what it starts inherits it
    warnings.simplefilter("ignore")  # the peers' own, about themselves
    machine = Machine(PACKAGES)
    with redis_server() as url:
        run(url, systems, schedules, arguments.jobs, arguments.rounds)
    show(
        as_document(systems, arguments.rounds) | {"one_core": arguments.one_core},
        comparisons(systems, schedules, arguments.one_core), machine.facts(),
        as_json=arguments.json, also=in_words(systems, schedules, arguments.jobs),
    )  # fmt: skip
    return 1 if any(system.has_failed for system in systems) else 0


if __name__ == "__main__":
    sys.exit(main())
