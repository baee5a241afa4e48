"""A busy worker, whose next run is at work in the ledger before the end of the last one is told.

It is killed at any of its calls, and any of its calls fails: each body runs once, and what was told stays.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import RedisServer
from tests.faults.calls import EXCHANGE, WAYS, Calls, load_scripts, sha_of
from tests.faults.proxy import ANSWER, REQUEST, FaultProxy
from tests.faults.rounds_jobs import exclusive_name, job_name, queues
from tests.faults.witness import Entry, read_lives, wrongs
from tests.system.processes import until
from tests.system.worker_processes import Installation, installation

LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
SEED = int(os.environ.get("CRONQ_TEST_SEED", random.randrange(10**9) if LONG else 1))
KILLS, FAILURES = (100, 200) if LONG else (3, 8)
#: Runs that are queued at once; and how long bodies take: some no time, some longer than an end waits for company.
RUNS, BODIES_S = 24, (0.0, 0.0, 0.0, 0.001, 0.004, 0.02)
#: Of a worker that is killed: the run at work, the one before and the one after.
MOST_LOST = 3
LOW = queues(0)[-1]
FAIL, RERUN, GUARDED = job_name(0, "fail"), job_name(0, "rerun"), exclusive_name(0)


@contextmanager
def shop(directory: Path, lost_after: str) -> Iterator[Installation]:
    server = RedisServer()
    settings = {"CRONQ_JOBS": "tests.faults.rounds_jobs", "CRONQ_LOST_AFTER": lost_after, "CRONQ_LOCK_TTL": "2s"}
    try:
        with installation(server.url, directory, **settings) as made:
            load_scripts(made.client)
            made.beat()
            yield made
    finally:
        server.stop()


def queue_at_once(made: Installation, chance: random.Random) -> list[str]:
    """Queue runs of all kinds, of which a worker finds the next one as soon as the last is done; their ids."""
    made.app.holds.hold(f"queue:{LOW}", by="test", now_s=made.app.now_s())
    names = chance.choices((FAIL, RERUN, GUARDED), (4, 2, 1), k=RUNS)
    ids = [made.enqueue(name, chance.choice(BODIES_S)) for name in names]
    made.app.holds.lift(f"queue:{LOW}")
    return ids


def settled(made: Installation, runs: list[str]) -> list[Entry]:
    """Wait until each of *runs* has its outcome; what the ledger says of them."""
    rows = [made.settles(run_id, 60) for run_id in runs]
    assert made.client.zcard(f"rq:wip:{LOW}") == 0
    assert made.client.zcard("cronq:running") == 0
    assert made.client.llen(f"rq:queue:{LOW}:intermediate") == 0
    return [Entry(row.run_id, row.outcome, row.attempt) for row in rows]


@pytest.mark.timeout(0 if LONG else 180)
def test_a_busy_worker_is_killed_at_any_of_its_calls(tmp_path: Path) -> None:
    chance, found, lost = random.Random(SEED), [], 0
    with shop(tmp_path / "site", "3s") as made, FaultProxy(made.redis_url) as proxy:
        for number in range(KILLS):
            runs = queue_at_once(made, chance)
            worker = made.start("worker", LOW, CRONQ_REDIS_URL=proxy.url, CRONQ_ISOLATION="clean")
            where, after = chance.choice((REQUEST, ANSWER)), chance.randrange(2, RUNS - 2)
            until(lambda runs=runs: made.row(runs[0]).state != "queued", what="the first run")  # type: ignore[misc]
            for _ in range(after):
                hold = proxy.hold(sha_of(EXCHANGE), where)
                hold.release()  # noticed, and let go on
                until(hold.reached.is_set, what="its next call")
            hold = proxy.hold(sha_of(EXCHANGE), where)
            until(hold.reached.is_set, what="the call at which it is killed")
            worker.kill9()
            hold.discard()

            other = made.start("worker", LOW, CRONQ_ISOLATION="clean")
            expected = {run: ("succeeded",) if run.startswith(RERUN) else ("succeeded", "lost") for run in runs}
            ledger = settled(made, runs)
            lives = [life for life in read_lives(made.directory / "record") if life.run in expected]
            wrong = wrongs(ledger, lives, expected)
            if (gone := sum(each.outcome == "lost" or each.attempt > 1 for each in ledger)) > MOST_LOST:
                wrong.append(f"{gone} runs of one worker were lost")
            found += [f"kill {number}, {where} {after}: {each}" for each in wrong]
            lost += gone
            other.kill9()  # it is idle
    assert not found, f"CRONQ_TEST_SEED={SEED}: {found}"
    assert 0 < lost < MOST_LOST * KILLS


@pytest.mark.timeout(0 if LONG else 180)
@pytest.mark.parametrize("isolation", ["clean", "run"])
def test_calls_of_a_busy_worker_fail(tmp_path: Path, isolation: str) -> None:
    chance, found = random.Random(SEED), []
    with shop(tmp_path / "site", "10s") as made:  # a call that gets no answer takes two seconds
        calls = Calls(made.client)
        with FaultProxy(made.redis_url, judge=calls.judge) as proxy:
            worker = made.worker(LOW, CRONQ_REDIS_URL=proxy.url, CRONQ_ISOLATION=isolation)
            for number in range(FAILURES):
                way, name = WAYS[number % len(WAYS)], chance.choice(("", " of an end"))
                calls.begin()
                call = f"evalsha {EXCHANGE}{name} #{chance.randrange(2, RUNS // 2)}"
                failed = calls.fail(call, way)
                runs = queue_at_once(made, chance)
                ledger = settled(made, runs)
                calls.disarm()
                expected = dict.fromkeys(runs, ("succeeded",))
                lives = [life for life in read_lives(made.directory / "record") if life.run in expected]
                wrong = wrongs(ledger, lives, expected)
                wrong += [f"{each.run} is at attempt {each.attempt}" for each in ledger if each.attempt != 1]
                found += [f"{call}, {way}{'' if failed.is_set() else ' (not made)'}: {each}" for each in wrong]
            assert worker.is_running, worker.log
    assert not found, f"CRONQ_TEST_SEED={SEED}: {found}"
