"""A key of a wrong type is moved out of its job's way, for a week, by whoever meets it first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from cronq.app.app import Cronq
from cronq.jobs.quarantine import Quarantine
from cronq.jobs.spec import JobSpec

NOW_S = 1795500000.0


@pytest.fixture
def broken(app: Cronq, store: Callable[..., JobSpec], redis: Redis) -> str:
    """The key of a job's state, which is a text."""
    key = app.keys.state(store("nightly", mark=1795500000).name)
    redis.delete(key)
    redis.set(key, "somebody's")
    return key


def test_it_is_kept_for_a_week_under_another_name(app: Cronq, redis: Redis, broken: str) -> None:
    moved = app.quarantine.move(broken, "hash", NOW_S)

    (aside,) = redis.keys("cronq:broken:*")
    assert moved == [broken]
    assert redis.get(aside) == b"somebody's"
    assert redis.ttl(aside) > 6 * 86400
    assert not redis.exists(broken)


def test_what_another_beat_moved_first_is_not_told_twice(
    app: Cronq, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = app.keys.broken
    monkeypatch.setattr(
        type(app.keys), "broken", lambda *words: app.client.delete(broken) and theirs(*words[1:])
    )  # it goes between the look and the move

    assert app.quarantine.move(broken, "hash", NOW_S) == []


def test_without_the_right_to_rename_the_refusal_is_raised(app: Cronq, redis: Redis, broken: str) -> None:
    redis.acl_setuser("mover", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-rename"])
    try:
        client = Redis.from_url(app.config.url, username="mover", password="any")
        with client, pytest.raises(NoPermissionError):
            Quarantine(client, app.keys).move(broken, "hash", NOW_S)
    finally:
        redis.acl_deluser("mover")

    assert redis.get(broken) == b"somebody's"
