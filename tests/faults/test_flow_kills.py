"""Beats and workers killed at each step of what makes one run follow from another: claim, gate, trigger and retry.

Two beats and two workers stand behind proxies of their own. One of them at a time is kept at a step, before Redis
hears of it or before it hears of the answer, and killed there; another takes its place. In the end the ledger and what
the bodies themselves wrote are held against each other. Figures: `pytest -rP tests/faults/test_flow_kills.py`.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest

from cronq.runs.run import Run
from tests.conftest import RedisServer
from tests.faults.calls import EXCHANGE, load_scripts, sha_of
from tests.faults.proxy import ANSWER, REQUEST, FaultProxy
from tests.faults.witness import Life, read_lives
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation

LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
LOST_AFTER_S = 3.0
BEAT, WORKER = "beat", "worker"
#: What the calls hold that decide what follows, by who makes them; each is met before it is carried out and after. One
#: and the same call of a worker tells of an outcome and begins the next run.
STEPS = [
    (who, needle, where)
    for who, needle in (
        (BEAT, sha_of("runs/claim")), (BEAT, sha_of("runs/retry")), (WORKER, sha_of(EXCHANGE)), (WORKER, b'"outcome"'),
    )
    for where in (REQUEST, ANSWER)
]  # fmt: skip
ROUNDS = 120 if LONG else len(STEPS)
JOBS = ("source", "gated", "joint", "flaky")


class Crew:
    """Processes of one kind, each behind a proxy of its own; one that was killed is replaced."""

    def __init__(self, made: Installation, kind: str, stack: ExitStack) -> None:
        self.made = made
        self.kind = kind
        self.proxies = [stack.enter_context(FaultProxy(made.redis_url)) for _ in range(2)]
        self.members = [self._start(proxy) for proxy in self.proxies]

    def _start(self, proxy: FaultProxy) -> CronqProcess:
        if self.kind == BEAT:
            return self.made.beat(CRONQ_REDIS_URL=proxy.url)
        return self.made.ready(self.made.start("worker", CRONQ_REDIS_URL=proxy.url))

    def kill_at(self, number: int, needle: bytes, where: str) -> None:
        """Kill one of them when it is at this step."""
        hold = self.proxies[number].hold(needle, where)
        assert hold.reached.wait(60), f"no {self.kind} came to {needle!r}:\n{self.made.logs}"
        self.members[number].kill9()
        hold.discard()
        self.members[number] = self._start(self.proxies[number])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    server = RedisServer()
    settings = {"CRONQ_LOST_AFTER": f"{LOST_AFTER_S:g}s", "CRONQ_JOBS": "tests.faults.flow_jobs"}
    try:
        with Installation(server.url, tmp_path_factory.mktemp("flow"), **settings) as site:
            load_scripts(site.client)
            synced = site.run("sync")
            assert synced.exit_code() == 0, synced.log
            yield site
    finally:
        server.stop()


@pytest.mark.timeout(1800 if LONG else 400)
def test_what_follows_from_a_run_follows_once_whoever_is_killed_at_any_step(made: Installation) -> None:
    chance = random.Random(os.environ.get("CRONQ_TEST_SEED", "1"))
    steps = STEPS if not LONG else chance.choices(STEPS, k=ROUNDS)
    with ExitStack() as stack:
        crews = {kind: Crew(made, kind, stack) for kind in (BEAT, WORKER)}
        for who, needle, where in steps:
            crews[who].kill_at(chance.randrange(2), needle, where)
        for name in JOBS:
            made.app.pause(name)
        until(lambda: not open_runs(made), 120, lambda: f"open: {open_runs(made)}\n{made.logs}")

        lives = read_lives(made.directory / "record")
        rows = {name: made.app.history(name, 5_000) for name in JOBS}

        print({name: dict(Counter(run.outcome for run in found)) for name, found in rows.items()})  # noqa: T201
        assert wrongs(rows, lives) == []
        left = ["cronq:gated", "cronq:untriggered", *made.client.scan_iter("cronq:job:*:gated")]
        assert [key for key in left if made.client.exists(key)] == []


def open_runs(made: Installation) -> list[str]:
    return [run_id for runs in made.app.active_runs(list(JOBS)).values() for run_id in runs]


def wrongs(rows: dict[str, list[Run]], lives: list[Life]) -> list[str]:
    """All that contradicts the promises, in words."""
    found = []
    bodies: dict[str, list[Life]] = {}
    for life in lives:
        bodies.setdefault(life.run, []).append(life)
    for name, runs in rows.items():
        times = Counter(run.run_id for run in runs)
        found += [f"{run_id} is in the ledger {count} times" for run_id, count in times.items() if count > 1]
        for run in runs:
            if run.outcome not in ("succeeded", "paused", *(("blocked",) if name == "gated" else ())):
                found.append(f"{run.run_id} is {run.outcome}: {run.reason}")
            found += of_bodies(run, bodies.get(run.run_id, []))
    known = {run.run_id for runs in rows.values() for run in runs}
    found += [f"{run_id} ran and is in no ledger" for run_id in sorted(set(bodies) - known)]
    return found + gaps(rows["source"]) + too_early(rows, bodies) + starts(rows)


def of_bodies(run: Run, bodies: list[Life]) -> list[str]:
    attempts = Counter(life.attempt for life in bodies)
    found = [f"attempt {attempt} of {run.run_id} ran {count} times" for attempt, count in attempts.items() if count > 1]
    whole = [life.attempt for life in bodies if life.is_whole]
    if run.outcome == "succeeded" and run.attempt not in whole:
        found.append(f"{run.run_id} succeeded, but the body of attempt {run.attempt} did not come to its end")
    if run.outcome in ("blocked", "paused") and bodies:
        found.append(f"{run.run_id} is {run.outcome}, and ran")
    return found


def gaps(runs: list[Run]) -> list[str]:
    """Seconds of `source` without a tick: two beats, one of which lives, leave none."""
    ticks = sorted(run.tick for run in runs if run.tick is not None)
    return [f"there is no tick between {a} and {b}" for a, b in pairwise(ticks) if b - a != 1]


def too_early(rows: dict[str, list[Run]], bodies: dict[str, list[Life]]) -> list[str]:
    """Runs of `gated` that began before any run of `source` of that second, or a later one, had come to its end."""
    found = []
    ends = [(run.tick or 0, min((life.last for life in bodies.get(run.run_id, []) if life.is_whole), default=None))
            for run in rows["source"]]  # fmt: skip
    for run in rows["gated"]:
        began = min((life.begun for life in bodies.get(run.run_id, [])), default=None)
        ended = min((end for tick, end in ends if tick >= (run.tick or 0) and end is not None), default=None)
        if began is not None and (ended is None or began < ended):
            found.append(f"{run.run_id} began at {began}, and source had not succeeded before {ended}")
    return found


def starts(rows: dict[str, list[Run]]) -> list[str]:
    """`joint` starts at most once for each success of `gated`, the rarer parent; and no success of it is lost.

    In between there is always one of `source`: so each success of `gated` but perhaps the last completes a start.
    """
    successes = sum(run.outcome == "succeeded" for run in rows["gated"])
    made = sum(run.outcome != "paused" for run in rows["joint"])
    paused = len(rows["joint"]) - made
    if not successes - 1 <= made + paused <= successes:
        return [f"gated succeeded {successes} times, and joint was started {made} times, and {paused} times paused"]
    return []
