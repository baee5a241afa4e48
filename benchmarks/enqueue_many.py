"""How many runs a second `.enqueue_many` queues, beside a loop of `.enqueue`.

    python benchmarks/enqueue_many.py [--runs N] [--rounds N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from machine import Machine
from redis import Redis
from report import Comparison, compared, show, start_parser
from rounds import Entrant, turns
from server import redis_server

sys.path.append(str(Path(__file__).resolve().parents[1]))  # cronq itself, when it is not installed

from cronq import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import make_spec

PACKAGES = ("redis", "rq")


def measure(runs: int, enqueue: Callable[[Cronq, list[dict[str, int]]], object], client: Redis) -> float:
    """Runs a second of one round on an emptied server, each with arguments of its own."""
    client.flushall()
    app = Cronq(config=Config(host_id="box"), registry=Registry(), client=client)
    app.changes().save(make_spec("report", function="jobs:report"), source="here", origin="bench")
    enqueue(app, [{"user": -1}])
    calls = [{"user": number} for number in range(runs)]
    begin = time.perf_counter()
    enqueue(app, calls)
    spent = time.perf_counter() - begin
    assert client.llen("rq:queue:default") == runs + 1
    return runs / spent


def main() -> int:
    parser = start_parser("Runs of one job queued a second: .enqueue_many beside a loop of .enqueue.")
    parser.add_argument("--runs", type=int, default=2000, help="of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts (%(default)s)")
    arguments = parser.parse_args()
    if min(arguments.runs, arguments.rounds) < 1:
        parser.error("--runs and --rounds start at 1")
    ways: dict[str, Callable[[Cronq, list[dict[str, int]]], object]] = {
        "enqueue": lambda app, calls: [app.enqueue("report", (), call) for call in calls],
        "enqueue_many": lambda app, calls: app.enqueue_many("report", calls),
    }
    entrants = [Entrant(way) for way in ways]
    machine = Machine(PACKAGES)
    with redis_server() as url, Redis.from_url(url) as client:
        for each in turns(arguments.rounds, entrants, "runs of one job"):
            each.try_round("runs", lambda each=each: measure(arguments.runs, ways[each.name], client))
    one, many = entrants
    found, rate, its = many.ratio_to(one, "runs"), many.median("runs"), one.median("runs")
    lines: list[Comparison] = []
    if found and rate and its:
        lines.append(compared("runs of one job queued", many.name, rate, "/s", one.name, its, found))
    document = {each.name: round(each.median("runs") or 0.0, 1) for each in entrants} | {"rounds": arguments.rounds}
    show(document, lines, machine.facts(), as_json=arguments.json)
    return 1 if any(each.has_failed for each in entrants) else 0


if __name__ == "__main__":
    sys.exit(main())
