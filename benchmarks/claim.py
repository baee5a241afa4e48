"""How many due jobs a second become queued jobs: cronq, its peers, and the floor under all of them.

    python benchmarks/claim.py [--jobs N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import peers
from redis import Redis
from server import describe_setup, redis_server

sys.path.append(str(Path(__file__).resolve().parents[1]))  # cronq itself, when it is not installed

ROUNDS = 5
WARM_UP_JOBS = 100
#: How often a round is repeated because a minute ended during it.
ATTEMPTS = 4
#: What cronq has to reach with distinct schedules, as a multiple of each.
TARGETS = {"rq_cron": 7.0, "huey": 1.8, "floor": 0.35}
PACKAGES = ("redis", "hiredis", "rq", "rq-scheduler", "celery", "celery-redbeat", "apscheduler", "huey")


@dataclass
class System:
    """One line of the table."""

    name: str
    peer: peers.Peer
    #: Most jobs per round: slow systems get fewer, or a run would take many minutes.
    most_jobs: int
    rates: dict[str, list[float]] = field(default_factory=dict)
    #: Why it is not measured.
    skipped: str = ""

    def jobs(self, asked: int) -> int:
        return min(asked, self.most_jobs)

    def rate(self, schedules: str) -> float | None:
        rates = self.rates.get(schedules)
        return statistics.median(rates) if rates else None


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


def try_measure(url: str, system: System, schedules: str, jobs: int) -> float | None:
    """One round, or the reason in `system.skipped`: who cannot take part does not stop the others."""
    if system.skipped:
        return None
    try:
        return measure(url, system, schedules, jobs)
    except (ImportError, NotImplementedError) as error:
        system.skipped = f"skipped: {error}"
    except Exception as error:
        system.skipped = f"failed: {type(error).__name__}: {error}"
    say(f"{system.name}: {system.skipped}")
    return None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(url: str, systems: Sequence[System], schedules: Sequence[str], jobs: int, rounds: int) -> None:
    """All rounds. The systems take turns, so that a slow spell of the machine meets all of them."""
    systems = [*systems[-2:], *systems[:-2]]  # huey, floor, cronq, rq_cron: the compared ones in a row
    for system in systems:
        for kind in schedules:
            try_measure(url, system, kind, min(WARM_UP_JOBS, system.jobs(jobs)))
    for kind in schedules:
        for number in range(1, rounds + 1):
            say(f"{kind} schedules, round {number} of {rounds}")
            for system in systems:
                rate = try_measure(url, system, kind, system.jobs(jobs))
                if rate is not None:
                    system.rates.setdefault(kind, []).append(rate)


def print_table(systems: Sequence[System], kind: str, asked: int, rounds: int) -> None:
    by_name = {system.name: system.rate(kind) for system in systems}
    cronq, floor = by_name.get("cronq"), by_name.get("floor")
    print(f"\n{kind} schedules: due jobs per second, median of {rounds} rounds, AOF off")
    print(f"{'':14}{'jobs':>8}{'rate':>10}{'lowest':>10}{'highest':>10}{'of floor':>10}{'cronq is':>10}")
    for system in systems:
        rate = by_name[system.name]
        if rate is None:
            print(f"{system.name:14}{system.skipped}")
            continue
        rates = system.rates[kind]
        line = f"{system.name:14}{system.jobs(asked):>8,}"
        line += "".join(f"{figure:>10,.0f}" for figure in (rate, min(rates), max(rates)))
        line += f"{rate / floor:>10.3f}" if floor else f"{'-':>10}"
        line += f"{cronq / rate:>9.2f}x" if cronq else f"{'-':>10}"
        if cronq and kind == "distinct" and system.name in TARGETS:
            line += f"  (target {TARGETS[system.name]:g}x)"
        print(line)
    if any(system.jobs(asked) < asked for system in systems):
        print("Slow systems get fewer jobs per round; none of their rates depends on the number.")


def parse_arguments(names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Due jobs into queued jobs: cronq, its peers, the floor.")
    parser.add_argument("--jobs", type=int, default=2_000, help="jobs due in the same second (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds, the median counts (%(default)s)")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {', '.join(names)}")
    parser.add_argument("--json", action="store_true", help="only the rates with distinct schedules, as JSON")
    arguments = parser.parse_args()
    if arguments.jobs < 1 or arguments.rounds < 1:
        parser.error("--jobs and --rounds start at 1")
    if unknown := set((arguments.only or names[0]).split(",")) - set(names):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}")
    return arguments


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> int:
    systems = all_systems()
    arguments = parse_arguments([system.name for system in systems])
    if arguments.only:
        systems = [system for system in systems if system.name in arguments.only.split(",")]
    schedules = ["distinct"] if arguments.json else list(SCHEDULES)
    signal.signal(signal.SIGTERM, _end)
    warnings.simplefilter("ignore")  # the peers' own, about themselves
    with redis_server() as url:
        if not arguments.json:
            print(describe_setup(url, PACKAGES), flush=True)
        run(url, systems, schedules, arguments.jobs, arguments.rounds)
    if arguments.json:
        rates = {system.name: system.rate("distinct") for system in systems}
        print(json.dumps({name: rate and round(rate, 1) for name, rate in rates.items()}))
    else:
        for kind in schedules:
            print_table(systems, kind, arguments.jobs, arguments.rounds)
    return 1 if any(system.skipped.startswith("failed") for system in systems) else 0


if __name__ == "__main__":
    sys.exit(main())
