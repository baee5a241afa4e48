"""A connection that is held between two calls is noticed when it has gone meanwhile."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from cronq.db import client as client_module
from cronq.db.client import HeldClient, own_client


def test_calls_that_follow_each_other_go_through_one_connection(redis: Redis) -> None:
    held = HeldClient(own_client(redis, 2.0))

    ids = {held.get().client_id() for _ in range(5)}

    assert len(ids) == 1


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldClient(own_client(redis, 2.0))
    held.get().ping()
    first = held.get().client_id()
    redis.client_kill_filter(_id=first)
    monkeypatch.setattr(client_module, "_HELD_S", 0.0)

    second = held.get().client_id()  # without an error: this client tries nothing again

    assert second != first


def test_one_that_is_closed_between_two_calls_is_an_error_once(redis: Redis) -> None:
    held = HeldClient(own_client(redis, 2.0))
    held.get().ping()
    redis.client_kill_filter(_id=held.get().client_id())

    with pytest.raises(RedisConnectionError):
        held.get().ping()

    assert held.get().ping()
