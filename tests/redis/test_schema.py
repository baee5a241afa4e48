"""The word `schema`: a process that is older than the layout of what Redis holds refuses to start, and says why."""

from __future__ import annotations

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.db.layout import SCHEMA
from cronq.errors import RedisUnfit


def test_the_first_process_writes_the_layout_it_knows(app: Cronq, redis: Redis) -> None:
    app.jobs.open_epoch()

    assert redis.get("cronq:schema") == str(SCHEMA).encode()
    assert redis.ttl("cronq:schema") == -1


def test_what_the_release_before_left_is_fit(app: Cronq, redis: Redis) -> None:
    redis.set("cronq:schema", "1")

    app.require_fit_redis()
    app.jobs.open_epoch()

    assert redis.get("cronq:schema") == b"1"


@pytest.mark.parametrize("newer", [str(SCHEMA + 1), "100", "2026-b", "", "²"])
def test_with_a_newer_layout_nothing_is_written(app: Cronq, redis: Redis, newer: str) -> None:
    redis.set("cronq:schema", newer)

    with pytest.raises(RedisUnfit, match=f"layout {newer} of cronq, this version knows {SCHEMA}; upgrade cronq"):
        app.require_fit_redis()

    assert redis.keys("*") == [b"cronq:schema"]


def test_nor_are_jobs_stored_in_it(app: Cronq, redis: Redis) -> None:
    redis.set("cronq:schema", str(SCHEMA + 1))
    redis.set("cronq:epoch", "theirs")

    with pytest.raises(RedisUnfit, match="upgrade cronq"):
        app.add("nightly", command=["true"])

    assert sorted(redis.keys("*")) == [b"cronq:epoch", b"cronq:schema"]


def test_a_word_of_a_wrong_type_keeps_nobody_from_starting(app: Cronq, redis: Redis) -> None:
    redis.hset("cronq:schema", "a", "b")

    app.require_fit_redis()

    assert redis.hgetall("cronq:schema") == {b"a": b"b"}, "nor is it touched"
