"""Clients of one's own: the same server, other patience."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.connection import SSLConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)
from redis.sentinel import Sentinel, SentinelManagedSSLConnection

from cronq.db.client import limit, own_client
from cronq.db.faults import Backoff, is_read_only, may_pass

URLS = [
    "redis://user:secret@redis.example:6380/3",
    "redis://redis.example?protocol=3&health_check_interval=30&socket_timeout=60",
    "rediss://redis.example/1?ssl_ca_certs=/ca.pem",
    "unix://user:secret@/run/redis.sock?db=2",
]


@pytest.mark.parametrize("url", URLS)
def test_it_goes_to_the_same_server_but_gives_up_soon_and_never_repeats(url: str) -> None:
    client = Redis.from_url(url, decode_responses=False)

    own = own_client(client, 0.25)

    assert own.connection_pool is not client.connection_pool
    theirs, ours = client.connection_pool.make_connection(), own.connection_pool.make_connection()
    assert type(ours) is type(theirs)
    for fact in ("host", "port", "path", "db", "username", "password"):
        assert getattr(ours, fact, None) == getattr(theirs, fact, None)
    assert ours.retry.get_retries() == 0
    assert ours.socket_timeout == ours.socket_connect_timeout == 0.25
    assert ours.health_check_interval == 0
    if hasattr(own.connection_pool, "maint_notifications_enabled"):  # redis-py 7 and newer
        assert not own.connection_pool.maint_notifications_enabled()


def test_certificates_are_kept() -> None:
    client = Redis(host="redis.example", ssl=True, ssl_ca_certs="/ca.pem", ssl_check_hostname=True)

    ours = own_client(client, 1.0).connection_pool.make_connection()

    assert isinstance(ours, SSLConnection)
    assert ours.ca_certs == "/ca.pem"
    assert ours.check_hostname is True


def test_a_sentinel_is_asked_with_the_same_impatience() -> None:
    sentinel = Sentinel([("a.example", 26379), ("b.example", 26379)], sentinel_kwargs={"password": "s"}, ssl=True)

    own = own_client(sentinel.master_for("house"), 1.0)

    pool = own.connection_pool
    assert pool.service_name == "house"
    assert pool.is_master
    assert pool.connection_class is SentinelManagedSSLConnection
    for each in pool.sentinel_manager.sentinels:
        asked = each.connection_pool.make_connection()
        assert asked.password == "s"
        assert asked.retry.get_retries() == 0
        assert asked.socket_timeout == 0.5  # two in turn take one second
    assert sentinel.sentinels[0].connection_pool.make_connection().socket_timeout != 0.5


def test_a_new_limit_holds_for_the_connections_that_are_there() -> None:
    own = own_client(Redis(), 1.0)
    pool = own.connection_pool
    pool._available_connections.append(pool.make_connection())

    limit(own, 0.1)

    assert pool._available_connections == []
    assert pool.make_connection().socket_timeout == 0.1


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionError(), True),
        (TimeoutError(), True),
        (BusyLoadingError(), True),
        (ReadOnlyError(), True),
        (MasterDownError("MASTERDOWN Link with MASTER is down"), True),
        (ResponseError("BUSY Redis is busy running a script"), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (AuthenticationError(), False),
        (NoPermissionError(), False),
        (ResponseError("WRONGTYPE"), False),
    ],
)
def test_what_may_pass_is_told_from_what_lasts(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


def test_pauses_between_tries_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(0.1, 0.5)
    assert [backoff.next_s() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]

    backoff.reset()
    assert backoff.next_s() == 0.1


def test_what_a_script_was_refused_for_is_known_from_its_own_words_too() -> None:
    within_6 = ResponseError("@user_script: 1244: -READONLY You can't write against a read only replica.")
    assert is_read_only(within_6)
    assert is_read_only(ResponseError("READONLY You can't write against a read only replica."))
    assert not is_read_only(ResponseError("@user_script: 12: WRONGTYPE Operation against a key"))
