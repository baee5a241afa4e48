"""How long `cronq simulate` takes for a year of 200 jobs.

    python benchmarks/simulate.py [--jobs N] [--days N] [--json]

README.md beside this file says which jobs they are.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from pathlib import Path

from machine import Machine
from report import Comparison, Target, show, start_parser

sys.path.append(str(Path(__file__).resolve().parents[1]))  # cronq itself, when it is not installed

from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.scene import Outage, Scene
from cronq.runs.simulate import simulate
from cronq.timetext import DAY_S, parse_instant

BEGIN_S = int(parse_instant("2026-01-01"))
#: What a year of 200 jobs may take, in seconds of processor time.
MOST_S = 60
ZONES = ("UTC", "Europe/Berlin", "Europe/London", "Asia/Kathmandu", "America/New_York")
OVERLAPS = ("skip", "queue", "latest", "replace", "allow")
CATCHUPS = ("latest", "skip", "all")


def a_job(number: int) -> JobSpec:
    minute, hour = number % 60, number % 24
    cron = (
        "* * * * *", "*/5 * * * *", "*/15 6-20 * * 1-5", f"{minute} * * * *", f"{minute} {hour} * * *",
        f"{minute} {hour} * * 1-5", f"{minute} */3 * * *", f"{minute} {hour} 1 * *",
    )[number % 8]  # fmt: skip
    return make_spec(
        f"job-{number:03d}", command=["true"], cron=cron, tz=ZONES[number % 5], overlap=OVERLAPS[number % 5],
        catchup=CATCHUPS[number % 3],
    )  # fmt: skip


def measure(jobs: int, days: int) -> dict[str, float]:
    chance = random.Random(1)
    firsts = [BEGIN_S + chance.randrange(days * DAY_S) for _ in range(max(1, days // 9))]
    scene = Scene(
        BEGIN_S, BEGIN_S + days * DAY_S,
        outages=[Outage(first, first + chance.choice([30, 600, 7200, 30_000])) for first in firsts],
        durations={f"job-{number:03d}": chance.choice([1, 20, 59, 70, 400]) for number in range(jobs)},
    )  # fmt: skip
    specs = [a_job(number) for number in range(jobs)]
    began = time.process_time()
    found = simulate(specs, scene)
    simulated = time.process_time()
    for _ in found.rows():
        pass
    return {
        "ticks": found.count,
        "simulate_s": simulated - began,
        "put_in_order_s": time.process_time() - simulated,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> int:
    parser = start_parser("How long `cronq simulate` takes.")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    machine = Machine(())
    result = measure(options.jobs, options.days)
    what, took_s = f"{options.days} days of {options.jobs} jobs simulated", result["simulate_s"]
    in_all_s = took_s + result["put_in_order_s"]
    lines = [
        Comparison(what, "all ticks put in order", in_all_s, "s", "their outcomes alone", took_s, in_all_s / took_s,
                   target=Target(most=MOST_S, of="figure")),
        Comparison(what, "a tick", 1e6 * took_s / result["ticks"], "us"),
    ]  # fmt: skip
    also = f"{result['ticks']:,} ticks, {result['memory_mb']:.0f} MB"
    document = {"jobs": options.jobs, "days": options.days} | result
    show(document, lines, machine.facts(), as_json=options.json, also=also)
    return 0 if in_all_s < MOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
