"""What a finished run may cost in Redis, measured by `benchmarks/memory.py`: the sum of MEMORY USAGE over all keys.

That leaves out what Redis needs besides its keys (tables of names and of lives, buffers of clients), which grows in
jumps and shrinks late. The stream of events is at its cap before: from then on a run's events take others' place.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from redis import Redis

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("memory")


def test_a_thousand_good_runs_stay_within_their_budget(memory: ModuleType, redis_url: str, redis: Redis) -> None:
    found = memory.measure_runs(redis_url, 1, 1000)

    assert 0 < found["right_after"]["sum"] <= 2200
    assert 0 < found["when_rq_forgot"]["sum"] <= 350
    assert 0 < found["when_rq_forgot"]["row"] <= 300
    assert found["right_after"]["RQ's result"] == 0


def test_a_failure_with_a_long_traceback_stays_within_its_budget(
    memory: ModuleType, redis_url: str, redis: Redis
) -> None:
    traceback = memory.a_traceback(5000)
    assert len(traceback) == 5000

    found = memory.measure_runs(
        redis_url, 1, 100, memory.Settlement("failed", "no paper", exit_code=1, error=traceback)
    )

    assert 5000 < found["right_after"]["sum"] <= 10_000


def test_redis_stops_growing_when_a_job_has_as_many_rows_as_it_keeps(
    memory: ModuleType, redis_url: str, redis: Redis
) -> None:
    growth = memory.measure_growth(redis_url, 50, (1, 10))

    assert redis.zcard("cronq:job:invoices:runs") == 50
    assert len(list(redis.scan_iter("cronq:run:*"))) == 50
    assert growth[10] < growth[1] * 1.02


@pytest.mark.parametrize("name", ["events", "refused"])
def test_streams_are_capped(memory: ModuleType, redis: Redis, name: str) -> None:
    ledger = memory.Ledger(redis, 1)
    app = ledger.app
    most: dict[str, tuple[int, Callable[[], object]]] = {
        "events": (app.config.keep_events, lambda: ledger.run(1)),
        "refused": (1000, lambda: refuse(app, redis)),
    }
    cap, once = most[name]

    for _ in range(3 if name == "events" else 1200):
        once()

    assert 0 < redis.xlen(f"cronq:{name}") <= cap + 100  # a node of the stream holds up to a hundred entries


def refuse(app: object, redis: Redis) -> None:
    redis.rpush("rq:queue:default:intermediate", "stray")
    app.runs.reject("stray", "default", "nobody knows it", by="w", now_s=1.0)  # type: ignore[attr-defined]


def test_results_of_a_run_that_is_requeued_for_ever_are_the_newest_ten(memory: ModuleType, redis: Redis) -> None:
    ledger = memory.Ledger(redis, 1)
    ledger.run(1, memory.Settlement("failed", "no paper", error="x" * 1000))
    (run_id,) = redis.zrange("rq:failed:default", 0, -1)
    run = ledger.app.runs.get(run_id.decode())

    for attempt in range(2, 30):
        redis.hset(f"rq:job:{run.run_id}", "status", "queued")
        facts = {"worker": "w", "host": "box", "pid": 1, "lease_s": 90, "now_s": 1.0, "execution": f"e{attempt}"}
        assert ledger.app.runs.start(run, memory.Start(**facts)).attempt == attempt
        failed = memory.Settlement("failed", "no paper", error="x" * 1000)
        assert ledger.app.runs.settle(
            run, memory.Ending(failed, by="w", now_s=2.0, attempt=attempt, execution=f"e{attempt}")
        )

    assert redis.xlen(f"rq:results:{run.run_id}") == 10
    assert len(ledger.app.runs.get(run.run_id).attempts) == 20
