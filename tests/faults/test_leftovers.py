"""Every outcome once, and then a look at all keys: nothing lives for ever that is not said to. Real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue
from rq.job import JobStatus
from rq.registry import FailedJobRegistry

from cronq.outcomes import OUTCOMES
from cronq.runs.run import Run
from tests.conftest import RedisServer
from tests.faults.leftovers import immortals
from tests.system.processes import until
from tests.system.worker_processes import Installation, installation


@pytest.fixture
def made(redis_server: RedisServer, tmp_path: Path) -> Iterator[Installation]:
    with installation(redis_server.url, tmp_path / "site", CRONQ_LOST_AFTER="3s") as site:
        site.beat()
        site.worker("default", "high", "low")
        yield site


def succeeds(made: Installation) -> Run:
    return made.result("add-high")


def fails_twice(made: Installation) -> Run:
    """The second time because a person has put it back with RQ's tools."""
    run = made.result("fail")
    FailedJobRegistry("default", connection=made.client).requeue(run.run_id)
    return made.settles(run.run_id, attempt=2)


def times_out(made: Installation) -> Run:
    return made.result("slow")


def is_stopped(made: Installation) -> Run:
    run_id = made.enqueue("sleep", 1000, "stopped")
    made.begins(run_id)
    made.app.stop(run_id)
    return made.settles(run_id)


def is_lost(made: Installation) -> Run:
    """Its watchdog dies, and it with it; what the sweep leaves of lost runs is looked at where workers are killed."""
    made.worker("nights")
    run_id = made.enqueue("sleep-nights", 1000, "lost")
    (pid,) = made.pids("lost")
    os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    return made.settles(run_id)


def is_skipped(made: Installation) -> Run:
    """Its lock is held by somebody else; a run by hand waits for it meanwhile."""
    with made.app.lock("exclusive", ttl=60):
        waiter = made.enqueue("exclusive", 0, "waiter")
        made.waits(waiter)
        skipped = made.settles(made.claim_tick("exclusive"))
    made.settles(waiter)
    return skipped


def put_mark_back(made: Installation, name: str, seconds: int) -> int:
    """As if no beat had looked at *name* for so long; its mark."""
    mark = made.app.jobs.mark_of(name)
    assert mark is not None
    made.client.hset(made.app.keys.state(name), "mark", mark - seconds)
    made.client.zadd(made.app.keys.agenda, {name: mark - seconds + 60})
    return mark - seconds


def recorded(made: Installation, name: str, outcome: str) -> Run:
    def look() -> list[Run]:
        return [run for run in made.app.history(name, 100) if run.outcome == outcome]

    return until(look, what=lambda: f"{name} {outcome}: {made.app.history(name, 100)}")[0]


def is_missed(made: Installation) -> Run:
    made.app.add("missing", command=["true"], every="1m", catchup="skip", queue="low")
    put_mark_back(made, "missing", 300)
    return recorded(made, "missing", "missed")


def is_coalesced(made: Installation) -> Run:
    made.app.add("merging", command=["true"], every="1m", catchup="latest", queue="low")
    put_mark_back(made, "merging", 300)
    return recorded(made, "merging", "coalesced")


def is_paused(made: Installation) -> Run:
    made.app.add("pausing", command=["true"], every="1m", queue="low")
    made.app.pause("pausing")
    put_mark_back(made, "pausing", 300)
    return recorded(made, "pausing", "paused")


def expires(made: Installation) -> Run:
    """Queued while nobody serves its queue, until it is too old."""
    made.app.add("ageing", command=["true"], cron="0 0 1 1 *", ttl=1, queue="late")
    put_mark_back(made, "ageing", 3600)
    run_id = made.claim_tick("ageing")
    made.worker("late")
    return made.settles(run_id)


def is_blocked(made: Installation) -> Run:
    """Its parent does not run before its own next tick, the last one, falls due; that waits too, and is stopped."""
    made.app.add("unserved", command=["true"], cron="0 0 1 1 *", queue="nobody")
    made.app.add("blocking", command=["true"], every="2s", repeat=2, depends_on=("unserved",), queue="low")
    blocked = recorded(made, "blocking", "blocked")
    for run in made.app.history("blocking"):
        if run.outcome is None:
            made.app.stop(run.run_id)
    return blocked


#: How each outcome comes about.
WAYS: dict[str, Callable[[Installation], Run]] = {
    "succeeded": succeeds, "failed": fails_twice, "timed_out": times_out, "stopped": is_stopped, "lost": is_lost,
    "skipped": is_skipped, "missed": is_missed, "expired": expires, "paused": is_paused, "coalesced": is_coalesced,
    "blocked": is_blocked,
}  # fmt: skip


def test_there_is_a_way_to_each_outcome() -> None:
    assert set(OUTCOMES) == set(WAYS)


def test_nothing_that_any_outcome_leaves_lives_for_ever(made: Installation) -> None:
    client: Redis = made.client
    foreign = Queue("default", connection=client).enqueue(os.getpid)
    client.rpush("rq:queue:default", "no-hash", b"\xff\xfe")
    with ThreadPoolExecutor(len(WAYS)) as pool:
        ended = dict(zip(WAYS, pool.map(lambda way: way(made), WAYS.values()), strict=True))
    assert {outcome: run.outcome for outcome, run in ended.items()} == {outcome: outcome for outcome in WAYS}
    until(lambda: foreign.get_status() == JobStatus.FAILED, what="the refusal of a job that is not ours")
    until(lambda: not client.zcard(made.app.keys.running), what=lambda: f"the end of all runs\n{made.logs}")
    until(lambda: not client.exists("rq:queue:default", "rq:queue:high", "rq:queue:low"), what="empty queues")

    assert immortals(client, have_jobs=True) == []

    for name in made.app.jobs.names():
        made.app.remove(name)
    for process in made.started[1:]:
        if process.is_running:
            process.terminate()
            assert process.exit_code() == 0, process.log
    assert immortals(client, have_jobs=False) == []


def test_a_key_that_should_have_a_life_is_found(redis: Redis) -> None:
    redis.set("cronq:epoch", "x")
    redis.set("cronq:run:a-1", "x", ex=100)
    redis.zadd("cronq:job:a:runs", {"a-1": 1})
    assert immortals(redis, have_jobs=True) == []

    redis.set("cronq:run:a-2", "x")
    redis.set("rq:job:a-2", "x")
    redis.set("cronq:dedup:a:1", "x")

    assert immortals(redis, have_jobs=True) == ["cronq:dedup:a:1", "cronq:run:a-2", "rq:job:a-2"]
    assert "cronq:job:a:runs" in immortals(redis, have_jobs=False)
