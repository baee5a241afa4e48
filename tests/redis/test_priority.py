"""Of ticks that are due at once, those of a job with a higher priority are queued first."""

from __future__ import annotations

from collections.abc import Callable

from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
Store = Callable[..., JobSpec]


def queued(redis: Redis) -> list[str]:
    """The jobs of the ids in the queue, the first to be taken first."""
    return [raw.decode().rpartition("-")[0] for raw in redis.lrange("rq:queue:default", 0, -1)]


def test_ticks_of_one_instant_are_queued_by_priority(app: Cronq, redis: Redis, store: Store) -> None:
    for name, priority in {"a": 0, "b": 5, "c": -1, "d": 1000, "e": 5}.items():
        store(name, mark=T - 1, priority=priority)

    app.beat().pass_once(T + 0.1)

    assert queued(redis) == ["d", "b", "e", "a", "c"]


def test_a_batch_of_many_is_queued_by_priority_too(app: Cronq, redis: Redis, store: Store) -> None:
    for number in range(600):
        store(f"j{number:03}", mark=T - 1, priority=number % 3)

    app.beat().pass_once(T + 0.1)

    priorities = [int(name[1:]) % 3 for name in queued(redis)]
    assert priorities == sorted(priorities, reverse=True)
    assert len(priorities) == 600
