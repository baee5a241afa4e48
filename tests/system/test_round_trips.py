"""What a run costs in round trips between its worker and Redis, and an idle worker. Real processes, behind a proxy."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from tests.faults.calls import EXCHANGE, Calls, load_scripts
from tests.faults.proxy import FaultProxy
from tests.system.processes import until
from tests.system.worker_processes import installation

RUNS = 100
#: A worker says that it lives, and renews a run that takes longer than a second, however few runs there are.
PROMISED = 2.1


@pytest.mark.parametrize("job", ["add-nights", "guarded-noop"])
def test_a_run_of_a_busy_worker_costs_at_most_two_round_trips_and_nothing_is_asked_twice(
    redis_url: str, redis: Redis, tmp_path: Path, job: str
) -> None:
    with installation(redis_url, tmp_path / "cronq") as made:
        load_scripts(redis)
        made.app.add("guarded-noop", command=["true"], queue="nights", exclusive=True)
        calls = Calls(redis)
        with FaultProxy(redis_url, judge=calls.judge) as proxy:
            worker = made.worker("nights", CRONQ_REDIS_URL=proxy.url)
            made.app.holds.hold("queue:nights", by="test", now_s=made.app.now_s())
            ids = [made.app.enqueue(job, [1, 2] if job == "add-nights" else []) for _ in range(RUNS)]
            until(lambda: f"evalsha {EXCHANGE} #2" in calls.seen, what="a look at the queue")
            calls.begin()
            made.app.holds.lift("queue:nights")

            made.settles(ids[-1], 120)
            seen = calls.seen
            worker.kill9()

        assert {made.row(run_id).outcome for run_id in ids} == {"succeeded"}
        print(Counter(call.rsplit(" #", 1)[0] for call in seen))  # noqa: T201
        assert len(seen) <= PROMISED * RUNS
        per_run = Counter(call.rsplit(" #", 1)[0] for call in seen)
        often = {call for call, count in per_run.items() if count > RUNS / 4}
        if job == "guarded-noop":  # what holds a lock gives it back before the next run is taken
            assert len([call for call in seen if EXCHANGE in call]) < 1.1 * RUNS
            assert often == {f"evalsha {EXCHANGE} of an end"}
        else:
            assert often == {f"evalsha {EXCHANGE} of an end", f"evalsha {EXCHANGE}"}


@pytest.mark.timing
def test_an_idle_worker_needs_about_one_round_trip_a_second(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    with installation(redis_url, tmp_path / "cronq") as made:
        load_scripts(redis)
        calls = Calls(redis)
        with FaultProxy(redis_url, judge=calls.judge) as proxy:
            made.worker("nights", CRONQ_REDIS_URL=proxy.url)
            until(lambda: f"evalsha {EXCHANGE} #1" in calls.seen, what="a first look")
            calls.begin()
            begun = time.monotonic()
            until(lambda: f"evalsha {EXCHANGE} #8" in calls.seen, what="eight looks")
            took_s = time.monotonic() - begun

            heartbeats = [call for call in calls.seen if "rq:worker" in call or "cronq:workers" in call]

    assert took_s > 6
    assert len(calls.seen) - len(heartbeats) <= 9
