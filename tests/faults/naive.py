"""Workers as one writes them on a free afternoon: what the checker has to find, each in its own way.

    python -m tests.faults.naive VARIANT URL RECORD [SECONDS]

Each takes run ids from the list `naive:queue`, has a child do the work, and writes `naive:run:{id}` at its end.

    forgets    pops with BLPOP: what it held when it was killed is nowhere
    rescues    runs again what is still in the list of taken ids, without knowing whether its first child is dead
    repeats    takes a failed write of the outcome for a failed run, and does it once more
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.witness import Entry, witnessed

QUEUE, TAKEN = "naive:queue", "naive:taken"


def ledger(client: Redis, runs: list[str]) -> list[Entry]:
    """What these workers have written of *runs*."""
    outcomes = {run: client.get(f"naive:run:{run}") for run in runs}
    return [Entry(run, outcome.decode() if outcome else None) for run, outcome in outcomes.items()]


def main(variant: str, url: str, record: Path, seconds: float) -> None:
    client = Redis.from_url(url, retry=None)
    while True:
        if variant == "forgets":
            _, raw = client.blpop([QUEUE])
            print("popped", flush=True)  # noqa: T201
            signal.sigtimedwait([signal.SIGUSR1], 0.3)  # the moment at which the test kills it
        elif variant == "rescues":
            raw = client.lindex(TAKEN, 0) or client.lmove(QUEUE, TAKEN, "LEFT", "RIGHT")
        else:
            raw = client.lmove(QUEUE, TAKEN, "LEFT", "RIGHT")
        if raw is None:
            time.sleep(0.01)
            continue
        while not execute(client, raw.decode(), record, seconds):
            if variant != "repeats":
                break


def execute(client: Redis, run: str, record: Path, seconds: float) -> bool:
    """Do the work of a run in a child, and write its outcome; whether all went well."""
    child = os.fork()
    if child == 0:
        with witnessed(record, run, "naive", 1) as witness:
            witness.work(seconds)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    try:
        client.set(f"naive:run:{run}", "succeeded" if status == 0 else "failed")
        client.lrem(TAKEN, 1, run)
        return True
    except RedisError:
        return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
