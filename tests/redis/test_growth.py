"""How full Redis is, and when it will be at the present rate."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.db.keys import Keys
from cronq.monitor.checks import WARNING, check_redis
from cronq.monitor.growth import Growth, Memory, in_bytes

HOUR, DAY = 3600, 86400
MB = 1_000_000
NOTES = Keys().memory


@pytest.fixture
def growth(redis: Redis) -> Growth:
    return Growth(redis, Keys())


@pytest.fixture
def small(redis: Redis) -> Iterator[Redis]:
    """A Redis that may use 200 MB."""
    redis.config_set("maxmemory", 200 * MB)
    yield redis
    redis.config_set("maxmemory", 0)


def noted(redis: Redis, *notes: tuple[float, float]) -> None:
    """Notes of so many seconds ago, when Redis used so many bytes less than now."""
    gc.collect()  # closes connections that earlier tests have left: Redis gives back 17 kB with each
    redis.set("ballast", "x" * 30 * MB)
    now_s, used = redis.time()[0], redis.info("memory")["used_memory"]
    for ago_s, less in notes:
        redis.rpush(NOTES, f"{int(now_s - ago_s)} {int(used - less)}")


def test_the_rate_is_that_of_the_last_day(redis: Redis, growth: Growth) -> None:
    noted(redis, (HOUR / 2, 9 * MB), (12 * HOUR, 0.2 * MB), (DAY / 2, 0.5 * MB), (3 * DAY, 50 * MB))

    memory = growth.read()

    assert memory.daily == pytest.approx(MB, rel=0.1)
    assert memory.span_s == pytest.approx(DAY / 2, abs=5)


@pytest.mark.parametrize("notes", [[], [(HOUR / 2, MB)], [(-HOUR, MB)], [(3 * DAY, MB)]])
def test_nothing_is_concluded_from_too_little(redis: Redis, growth: Growth, notes: list[tuple[float, float]]) -> None:
    noted(redis, *notes)

    assert growth.read().daily is None


@pytest.mark.parametrize("junk", ["", "x", "1", "nan 5", "1e400 5", "5 -5", b"\xff\xfe 7"])
def test_notes_that_cannot_be_read_are_passed_over(redis: Redis, growth: Growth, junk: str | bytes) -> None:
    noted(redis, (2 * HOUR, 20 * MB / 12))
    redis.lpush(NOTES, junk)

    assert growth.read().daily == pytest.approx(20 * MB, rel=0.2)
    growth.note(redis.time()[0])
    assert redis.llen(NOTES) == 3


def test_beats_note_it_once_in_ten_minutes_and_for_a_day(redis: Redis, growth: Growth) -> None:
    now_s = redis.time()[0]
    for second in range(0, 2 * DAY, 300):
        growth.note(now_s + second)

    assert redis.llen(NOTES) == 145
    assert redis.ttl(NOTES) > DAY


def test_every_beat_notes_it(app: Cronq, redis: Redis) -> None:
    (chore,) = (chore for chore in app.beat().chores if chore.name == "growth")

    chore.work(app.now_s())

    assert redis.llen(NOTES) == 1


def test_the_check_says_how_full_redis_is_and_when_it_will_be(small: Redis, growth: Growth) -> None:
    noted(small, (DAY / 2, MB))

    finding = check_redis(small, growth.read())

    assert finding.state == WARNING  # as in all tests: nothing is persisted
    assert " of 200 MB used (" in finding.text
    assert re.search(r" 2.0 MB more a day by the last 12h: full in \d\dd", finding.text)
    assert "full in" not in finding.text.split(";")[0]
    assert finding.performance.startswith("'used_memory'=")
    assert "B;;;0;200000000 'growth_a_day'=2" in finding.performance
    assert "'full_in'=" in finding.performance
    assert finding.performance.endswith("s;604800:")


def test_a_redis_that_is_full_within_the_week_is_a_warning(small: Redis, growth: Growth) -> None:
    noted(small, (DAY / 2, 20 * MB))

    finding = check_redis(small, growth.read())

    assert finding.state == WARNING
    assert re.search(r"Redis is full in [34]d", finding.text)


def test_without_a_limit_the_check_says_what_is_used_and_the_rate(redis: Redis, growth: Growth) -> None:
    noted(redis, (DAY / 2, MB))

    finding = check_redis(redis, growth.read())

    assert "used, and Redis has no maxmemory, 2.0 MB more a day by the last 12h" in finding.text
    assert "full" not in finding.text
    assert "full" not in finding.performance


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        (
            Memory(5 * MB, 0, None),
            "5.0 MB used, and Redis has no maxmemory; how that grows is known when",
        ),
        (Memory(5 * MB, 10 * MB, -3.0, 7200.0), "5.0 MB of 10.0 MB used (50%), not growing in the last 2h"),
        (Memory(5 * MB, 10 * MB, 1.0 * MB, 7200.0), "1.0 MB more a day by the last 2h: full in 5d"),
    ],
)
def test_it_is_told_in_words(memory: Memory, words: str) -> None:
    assert words in memory.words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_400, "99.4 kB"), (3_456_789_012, "3.5 GB")]
)
def test_sizes_are_told_as_people_write_them(size: int, words: str) -> None:
    assert in_bytes(size) == words
