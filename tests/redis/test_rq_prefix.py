"""What RQ's keys begin with is one value: it is about to become a setting of RQ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from redis import Redis

#: rq-scheduler's own, whatever RQ's keys begin with.
RQ_SCHEDULER = {"rq:scheduler:scheduled_jobs", "rq:scheduler_lock"}


def test_with_another_value_every_key_that_is_written_begins_with_it(redis_url: str, redis: Redis) -> None:
    command = [sys.executable, "-m", "tests.redis.walk_with_prefix", redis_url, "shop-rq:"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    found = {key.decode() for key in redis.scan_iter()} - RQ_SCHEDULER
    assert {key for key in found if not key.startswith(("shop-rq:", "cronq:"))} == set()
    kinds = {key.split(":")[1] for key in found if key.startswith("shop-rq:")}
    assert kinds >= {"queues", "queue", "job", "failed", "results"}
