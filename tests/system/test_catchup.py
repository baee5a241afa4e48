"""Late runs are let through at the catch-up rate while beats are killed: each tick once. Real processes."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import make_spec
from tests.system.ledger import server_s
from tests.system.processes import CronqProcess, Processes, until

DAY = 86400
RATE, AT_ONCE = 20, 100


@pytest.fixture
def app(redis_url: str, redis: Redis) -> Cronq:
    return Cronq(config=Config(url=redis_url, host_id="test"), registry=Registry(), client=redis)


@pytest.fixture
def processes(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    with Processes(redis_url, tmp_path) as started:
        yield started


def store(app: Cronq, name: str, mark: int, **options: Any) -> None:
    """A job that no beat has looked at since *mark*."""
    spec = make_spec(name, command=["true"], overlap="allow", catchup="all", window="30d", **options)
    assert spec.schedule is not None
    app.jobs.save(
        spec, source="here:1", origin="test", expected="", mark=mark, next_tick=spec.schedule.next_after(mark)
    )


def test_beats_that_are_killed_while_they_let_late_runs_through_queue_each_tick_once(
    app: Cronq, processes: Processes
) -> None:
    now = int(server_s(app.client))
    last = (now - 6 * 3600) // 60 * 60
    at = time.strftime("%H:%M", time.gmtime(last))
    for number in range(150):
        store(app, f"late-{number}", last - DAY - 1, every="1d", at=at, priority=number % 3)
    store(app, "often", now, every="1s")

    chance = random.Random(1)
    beats = [processes.start("beat") for _ in range(3)]
    until(lambda: app.client.zcard(app.keys.catchup), 60, "late runs that are held")
    killed = 0
    while app.client.zcard(app.keys.catchup):
        time.sleep(chance.uniform(0.1, 0.6))
        victim = chance.randrange(len(beats))
        beats[victim].kill9()
        beats[victim] = processes.start("beat")
        killed += 1
    ended = int(server_s(app.client))
    until(lambda: (app.jobs.mark_of("often") or 0) >= ended, 60, "the ticks that are on time")
    until(lambda: all(app.jobs.mark_of(f"late-{number}") == last for number in range(150)), 60, "the late ticks")
    for beat in beats:
        end(beat)

    runs = [run for number in range(150) for run in app.history(f"late-{number}", 100)]
    assert Counter((run.job, run.tick) for run in runs) == Counter(
        (f"late-{number}", tick) for number in range(150) for tick in (last - DAY, last)
    )
    often = app.history("often", 10_000)[::-1]
    assert [run.tick for run in often] == list(range(now + 1, now + 1 + len(often)))
    in_queue = Counter(raw.decode() for raw in app.client.lrange("rq:queue:default", 0, -1))
    assert in_queue == Counter(run.run_id for run in (*runs, *often))
    assert killed >= 5
    moments = sorted(run.queued_at or 0 for run in runs)
    for first in range(0, 300, 10):
        for second in range(first + 9, 300, 10):  # what was let through when a beat was killed comes a little later
            assert second - first + 1 <= AT_ONCE + RATE * (moments[second] - moments[first] + 3)


def end(beat: CronqProcess) -> None:
    beat.wait_for_line("START-UP")
    beat.terminate()
    assert beat.exit_code() == 0
