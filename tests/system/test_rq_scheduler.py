"""Beats beside a stock `rqscheduler` and a stock `rq worker --with-scheduler`: what rq-scheduler itself was given is
served once, by the beats, whoever is killed meanwhile.

Figures are printed: `pytest -rP tests/system/test_rq_scheduler.py`. CRONQ_LONG_TESTS=1 makes it a minute.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job
from rq_scheduler import Scheduler

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from tests.system.processes import CronqProcess, Processes, until

STORE = "rq:scheduler:scheduled_jobs"
LONG = bool(os.environ.get("CRONQ_LONG_TESTS"))
#: The jobs are due within so many seconds.
SPAN_S = 60 if LONG else 6
ONCE, REPEATING = 150, 50


@pytest.fixture
def processes(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    with Processes(redis_url, tmp_path) as started:
        yield started


def naive(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC).replace(tzinfo=None)


def start_stock(processes: Processes) -> CronqProcess:
    """The rqscheduler of rq-scheduler, looking every second."""
    command = [str(Path(sys.executable).parent / "rqscheduler"), "--url", processes.redis_url, "-i", "1", "-v"]
    process = CronqProcess("rqscheduler", command, processes.directory, processes._environment({}))
    processes.started.append(process)
    return process


class Drain:
    """Takes what is queued, as a worker would, and keeps book: id -> when it was queued, each time."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.seen: dict[str, list[float]] = {}

    def once(self) -> None:
        while (raw := self.client.lpop("rq:queue:default")) is not None:
            assert isinstance(raw, bytes)
            key = b"rq:job:" + raw
            stamp = self.client.hget(key, "enqueued_at") or b""
            self.seen.setdefault(raw.decode(), []).append(datetime.fromisoformat(stamp.decode()).timestamp())
            self.client.hset(key, "status", "finished")


def make_jobs(client: Redis, first: int, span_s: int) -> tuple[dict[str, int], dict[str, int]]:
    """Jobs of rq-scheduler: due once (id -> when), and every second or two (id -> how often)."""
    scheduler = Scheduler(connection=client)
    once, often = {}, {}
    for number in range(ONCE):
        due = first + number % span_s
        scheduler.enqueue_at(naive(due), "foreign_jobs.tick", "x", job_id=f"once-{number}", job_result_ttl=600)
        once[f"once-{number}"] = due
    for number in range(REPEATING):
        interval = 1 + number % 2
        count = span_s // interval
        scheduler.schedule(
            naive(first), "foreign_jobs.tick", ["x"], interval=interval, repeat=count, id=f"often-{number}"
        )
        often[f"often-{number}"] = count
    return once, often


class Stage:
    """Three beats, a stock scheduler beside them, and somebody who kills beats."""

    def __init__(self, processes: Processes, client: Redis, span_s: int = SPAN_S) -> None:
        self.processes = processes
        self.client = client
        self.drain = Drain(client)
        self.beats = [self.start_beat() for _ in range(3)]
        until(lambda: client.get("rq:scheduler_lock") == b"cronq beats of cronq", what="the beats' lock")
        self.stock = start_stock(processes)
        self.stock.wait_for_line("Lock already taken")
        self.first = int(client.time()[0]) + 3
        self.once, self.often = make_jobs(client, self.first, span_s)
        self.kills = 0

    def start_beat(self) -> CronqProcess:
        beat = self.processes.start("beat")
        beat.wait_for_line("START-UP")
        return beat

    def play(self, *, kill: bool) -> None:
        """Until nothing is left to be served."""
        end = time.monotonic() + SPAN_S + 60
        next_kill = time.monotonic() + 2
        while self.client.exists(STORE):
            assert time.monotonic() < end, "\n".join(each.log[-2000:] for each in self.processes.started)
            self.drain.once()
            if kill and time.monotonic() >= next_kill:
                number = random.randrange(3)
                self.beats[number].kill9()
                self.kills += 1
                self.beats[number] = self.processes.start("beat")
                next_kill = time.monotonic() + random.uniform(0.3, 1.2)
            time.sleep(0.02)
        self.drain.once()


def lateness(stage: Stage) -> tuple[float, float]:
    """Seconds from its due time to its queue of the earliest job, and of the 99th of a hundred."""
    late = sorted(stage.drain.seen[job_id][0] - due for job_id, due in stage.once.items())
    p99 = late[round(0.99 * (len(late) - 1))]
    sys.stdout.write(f"lateness: median {late[len(late) // 2]:.3f} s, p99 {p99:.3f} s, worst {late[-1]:.3f} s\n")
    return late[0], p99


def test_two_hundred_jobs_of_rq_scheduler_fire_once_while_beats_are_killed(processes: Processes, redis: Redis) -> None:
    stage = Stage(processes, redis)

    stage.play(kill=True)

    counts = Counter({job_id: len(moments) for job_id, moments in stage.drain.seen.items()})
    sys.stdout.write(f"{sum(counts.values())} queued of {len(counts)} jobs, {stage.kills} beats killed\n")
    lateness(stage)
    assert {job_id: counts[job_id] for job_id in stage.once} == dict.fromkeys(stage.once, 1)
    # A tick that came while nobody served is made up for once, so there may be fewer; its repeats are all there.
    assert {job_id: counts[job_id] for job_id in stage.often} == stage.often
    assert set(counts) == set(stage.once) | set(stage.often)
    assert not redis.exists("cronq:aside")
    assert stage.stock.lines("Pushing") == []
    assert stage.stock.lines("Acquired Lock") == []
    assert stage.stock.is_running


@pytest.mark.timing
def test_they_are_served_to_the_second(processes: Processes, redis: Redis) -> None:
    stage = Stage(processes, redis, span_s=SPAN_S if LONG else 3)

    stage.play(kill=False)

    first, p99 = lateness(stage)
    assert first >= 0
    assert p99 < 1.2


def test_beats_wait_for_a_stock_scheduler_that_was_there_first_and_take_over_when_it_dies(
    processes: Processes, redis: Redis
) -> None:
    redis.set("rq:scheduler_lock", time.time(), ex=3)  # held by one that was killed just now
    beat = processes.start("beat")
    beat.wait_for_line("WAITING rq-scheduler")
    job = Scheduler(connection=redis).enqueue_at(naive(time.time() - 1), "foreign_jobs.tick", "x")

    until(lambda: redis.lrange("rq:queue:default", 0, -1) == [job.id.encode()], what=lambda: beat.log)

    assert len(beat.lines("WAITING")) == 1
    beat.wait_for_line("RECOVERED")


def test_rqs_own_delayed_jobs_and_retries_need_no_other_scheduler(processes: Processes, redis: Redis) -> None:
    processes.start("beat").wait_for_line("START-UP")
    queue = Queue("other", connection=redis)
    job = queue.enqueue_at(datetime.fromtimestamp(time.time() + 1, UTC), "foreign_jobs.tick", "x")
    assert job.get_status() == "scheduled"

    until(lambda: queue.job_ids == [job.id], what=lambda: processes.started[0].log)

    assert Job.fetch(job.id, connection=redis).get_status() == "queued"
    assert redis.get("rq:scheduler-lock:other") == b"cronq beats of cronq"


@pytest.mark.parametrize("turn", range(100 if LONG else 4))
def test_killed_at_any_moment_no_repeating_job_vanishes(
    processes: Processes, redis: Redis, redis_url: str, turn: int
) -> None:
    """A process that serves one repeating job again and again is killed somewhere in it; nothing is half done."""
    app = Cronq(config=Config(url=redis_url), registry=Registry(), client=redis)
    now = int(app.exact_now_s())
    Scheduler(connection=redis).schedule(naive(now - 100_000), "foreign_jobs.tick", ["x"], interval=1, id="steady")
    script = (
        "from cronq.app.app import Cronq\n"
        "app = Cronq.from_env(); serving = app.scheduled_stores('beat')\n"
        "at = app.exact_now_s() - 90000\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    at += 1; serving.once(at)\n"
        "    app.client.delete('rq:queue:default'); app.client.hset('rq:job:steady', 'status', 'finished')\n"
    )
    command = [sys.executable, "-c", script]
    process = CronqProcess("serving", command, processes.directory, processes._environment({}))
    processes.started.append(process)
    until(lambda: "ready" in process.output)
    time.sleep(random.uniform(0, 0.05))
    process.kill9()

    assert redis.zscore(STORE, "steady") is not None
    redis.delete("rq:queue:default")
    redis.hset("rq:job:steady", "status", "finished")
    app.scheduled_stores("another").once(app.exact_now_s())
    assert redis.lrange("rq:queue:default", 0, -1) == [b"steady"]
    assert redis.zscore(STORE, "steady") is not None
