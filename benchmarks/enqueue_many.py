"""How many runs a second `.enqueue_many` queues, beside a loop of `.enqueue`.

    python benchmarks/enqueue_many.py [--runs N]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis
from server import redis_server

sys.path.append(str(Path(__file__).resolve().parents[1]))  # cronq itself, when it is not installed

from cronq import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import make_spec

ROUNDS = 5


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    ways: dict[str, Callable[[Cronq, list[dict[str, int]]], object]] = {
        "enqueue": lambda app, calls: [app.enqueue("report", (), call) for call in calls],
        "enqueue_many": lambda app, calls: app.enqueue_many("report", calls),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with redis_server() as url, Redis.from_url(url) as client:
        for _ in range(ROUNDS):
            for way, enqueue in ways.items():
                rates[way].append(measure(runs, enqueue, client))
    for way, found in rates.items():
        print(f"{way:<14} {statistics.median(found):>9,.0f} runs/s")
    ratio = statistics.median(many / one for one, many in zip(*rates.values(), strict=True))
    print(f"{ratio:.1f} times as many")


if __name__ == "__main__":
    main()
