"""What a beat costs while nothing is due: round trips a second, CPU and memory with 100,000 idle jobs.

    python benchmarks/idle.py [--jobs N] [--seconds S] [--json]

The beat is the real one, in this process, which does nothing else meanwhile. A round trip is one call of a
connection's send, a pipeline being one.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from redis import Redis
from redis.connection import UnixDomainSocketConnection
from server import redis_server

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.rq_template import fields_of
from cronq.jobs.spec import make_spec

_AT_ONCE = 2000


class CountingConnection(UnixDomainSocketConnection):
    """Counts what is sent: one call is one round trip."""

    sent = 0

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        CountingConnection.sent += 1
        super().send_packed_command(command, check_health)


def store_jobs(client: Redis, count: int) -> None:
    """Store *count* jobs that are due once a year, as `save` would leave them."""
    app = Cronq(config=Config(), client=client)
    now = int(app.now_s())
    template = fields_of(client, make_spec("x", function="a:b", cron="0 3 1 1 *"), "template", "x", "[[],{}]")
    app.jobs.open_epoch()
    for first in range(0, count, _AT_ONCE):
        with client.pipeline(transaction=False) as pipe:
            for number in range(first, min(first + _AT_ONCE, count)):
                name = f"job-{number}"
                spec = make_spec(name, function="a:b", cron=f"{number % 60} {number // 60 % 24} 1 1 *")
                assert spec.schedule is not None
                pipe.sadd(app.keys.jobs, name)
                facts = {"spec": spec.to_json(), "version": "v", "scheduled": 1, "origin": "cli", "source": "here"}
                pipe.hset(app.keys.job(name), mapping=facts)
                pipe.hset(app.keys.state(name), "mark", now)
                pipe.hset(app.keys.template(name), mapping=template)
                pipe.zadd(app.keys.agenda, {name: spec.schedule.next_after(now) or 0})
            pipe.execute()


def resident_mb() -> float:
    """Memory of this process, now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(url: str, seconds: float) -> dict[str, float]:
    """Let a beat idle for *seconds* after a first few."""
    app = Cronq(config=Config(url=url))
    app.client.connection_pool.connection_class = CountingConnection
    stop = threading.Event()
    thread = threading.Thread(target=app.beat().run, args=(stop,))
    thread.start()
    time.sleep(3)
    sent, cpu, begun = CountingConnection.sent, time.process_time(), time.perf_counter()
    time.sleep(seconds)
    span = time.perf_counter() - begun
    result = {
        "round_trips_per_s": (CountingConnection.sent - sent) / span,
        "cpu_percent": 100 * (time.process_time() - cpu) / span,
        "memory_mb": resident_mb(),
    }
    stop.set()
    thread.join()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with redis_server() as url:
        with Redis.from_url(url) as client:
            store_jobs(client, options.jobs)
        result = measure(url, options.seconds)
    if options.json:
        print(json.dumps({"jobs": options.jobs} | result))
    else:
        print(f"{options.jobs:,} idle jobs: " + ", ".join(f"{name} {value:.2f}" for name, value in result.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
