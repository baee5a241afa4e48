"""Clients of Redis: what all of them have in common, and those that fail fast.

redis-py sends a command again, many times and silently, when its answer is lost or late. Who keeps a deadline
needs the opposite: one attempt, a short time-out, and the error.

Every client here leaves a server that has become a replica. Where an address moves from one server to another (a
failover behind a DNS name, a service of Kubernetes, a proxy) the old primary may live on and answer each write with
READONLY: only a new connection finds the new one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from redis import Redis
from redis import exceptions as redis_errors
from redis.backoff import AbstractBackoff, ExponentialBackoff, NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from cronq.clock import boot_s
from cronq.db.faults import is_read_only
from cronq.sentinel_url import is_sentinel_url, parse_sentinel_url

Found = TypeVar("Found")

#: Settings of a pool that belong to that pool alone, or to the notices that come with RESP3.
_NOT_COPIED = ("connection_pool", "maint", "orig_", "oss_cluster_maint")
#: An application's client gives up on one answer after this; and on a sentinel, of which there are others.
_TIMEOUT_S, _SENTINEL_TIMEOUT_S = 5.0, 1.0
#: So long a connection is held without a look at it.
_HELD_S = 0.5


class _PrimaryRetry(Retry):
    """redis-py's `Retry`, which also drops a connection whose server says READONLY before it tries again or raises."""

    def __init__(self, backoff: AbstractBackoff, retries: int, errors: tuple[type[Exception], ...]) -> None:
        super().__init__(backoff, retries, (*errors, redis_errors.ReadOnlyError))

    def call_with_retry(self, do: Callable[[], Found], *args: Any, **options: Any) -> Found:
        """Call *do* as `Retry` does. A READONLY that an old server reports from within a script counts as one, too."""

        def done() -> Found:
            try:
                return do()
            except redis_errors.ResponseError as error:
                if is_read_only(error) and not isinstance(error, redis_errors.ReadOnlyError):
                    raise redis_errors.ReadOnlyError(str(error)) from error
                raise

        return super().call_with_retry(done, *args, **options)


class _Sentinel(Sentinel):
    """Says in one line that no primary is known. redis-py's words show its clients, in some versions with passwords."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """The address of the primary. Raises MasterNotFoundError."""
        try:
            found: tuple[str, int] = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            settings = [each.connection_pool.connection_kwargs for each in self.sentinels]
            asked = ", ".join(f"{each.get('host')}:{each.get('port')}" for each in settings)
            words = f"no sentinel of {asked} answers and knows a primary of {service_name!r}"
            raise MasterNotFoundError(words) from None
        return found


def patient() -> Retry:
    """Try a command again within a second when its connection breaks, but not when its answer takes too long.

    Beats and workers have to hear of the second: they log it, and try again in their own rhythm.
    """
    return _PrimaryRetry(ExponentialBackoff(cap=0.5, base=0.05), 3, (redis_errors.ConnectionError,))


def impatient() -> Retry:
    """Try nothing again."""
    return _PrimaryRetry(NoBackoff(), 0, (redis_errors.ConnectionError, redis_errors.TimeoutError))


def open_client(url: str) -> Redis:
    """A client of the server at *url*, or of the primary that its sentinels name. Nothing is sent yet.

    Raises ValueError for a URL or an option of it that means nothing.
    """
    settings: dict[str, Any] = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S, "retry": patient()}
    if not is_sentinel_url(url):
        return bytes_client(Redis.from_url(url, **settings))
    parsed = parse_sentinel_url(url)
    given = parse_url(parsed.server)  # type: ignore[no-untyped-call]
    for name in ("host", "port", "connection_class", "decode_responses"):
        given.pop(name, None)
    certificates = {name: value for name, value in given.items() if name.startswith("ssl_")}
    hurry = {"socket_timeout": _SENTINEL_TIMEOUT_S, "socket_connect_timeout": _SENTINEL_TIMEOUT_S}
    login = {"username": parsed.username, "password": parsed.password}
    asking = {"retry": impatient(), "ssl": parsed.is_tls, **certificates, **hurry, **login}
    sentinel = _Sentinel(  # type: ignore[no-untyped-call]
        parsed.sentinels, sentinel_kwargs=asking, ssl=parsed.is_tls, **settings | given
    )
    client: Redis = sentinel.master_for(parsed.service)  # type: ignore[no-untyped-call]
    return client


def bytes_client(client: Redis) -> Redis:
    """*client*, or one with the same settings that answers in bytes: much of what RQ keeps is no text."""
    if not client.connection_pool.connection_kwargs.get("decode_responses"):
        return client
    return _like(client, {"decode_responses": False})


def own_client(client: Redis, timeout_s: float) -> Redis:
    """A client of the server that *client* talks to, with connections of its own, answering in `str`.

    It never repeats a command, and each read, write and connect gives up after *timeout_s*. TCP, unix
    sockets, TLS and Sentinel (whose sentinels share one time-out). It speaks RESP2,
    because under RESP3 redis-py stretches time-outs when a server announces maintenance.
    """
    changed = {
        "retry": impatient(), "retry_on_timeout": False, "retry_on_error": [],
        "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "health_check_interval": 0,
        "protocol": 2, "decode_responses": True, "encoding": "utf-8", "encoding_errors": "replace",
    }  # fmt: skip
    return _like(client, changed, timeout_s)


def _like(client: Redis, changed: dict[str, Any], timeout_s: float | None = None) -> Redis:
    """A client with a pool of its own, like that of *client* but for *changed*; sentinels share *timeout_s*."""
    pool = client.connection_pool
    settings: dict[str, Any] = {
        name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_NOT_COPIED)
    }
    settings |= changed
    if not isinstance(pool, SentinelConnectionPool):
        return Redis.from_pool(ConnectionPool(connection_class=pool.connection_class, **settings))
    sentinel = pool.sentinel_manager
    if timeout_s is not None:
        sentinel = copy.copy(sentinel)
        share_s = timeout_s / len(sentinel.sentinels)  # they are asked in turn
        sentinel.sentinels = [own_client(each, share_s) for each in sentinel.sentinels]
    own = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        pool.service_name,
        sentinel,
        connection_class=pool.connection_class,
        is_master=pool.is_master,
        check_connection=pool.check_connection,
        **settings,
    )
    return Redis.from_pool(own)


class HeldClient:
    """A client whose calls, one at a time, go through one connection that it holds while they follow each other soon.

    To get one from the pool and give it back takes longer than a small command: redis-py looks whether it still stands.
    That look is left out only where the server can hardly have closed it since the last call.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._held: Redis | None = None
        self._used_boot: float | None = None

    def get(self) -> Redis:
        """The client for the next call. Raises RedisError when Redis is away."""
        now, used = boot_s(), self._used_boot
        self._used_boot = now
        if used is None or now - used > _HELD_S:
            if self._held is not None:
                self._held.close()  # gives the connection back to its pool
                self._held = None
            return self._client
        if self._held is None:
            self._held = self._client.client()  # type: ignore[no-untyped-call]
        return self._held


def limit(client: Redis, timeout_s: float) -> None:
    """Let *client*, made by `own_client`, give up after *timeout_s* from now on; it connects anew."""
    pool = client.connection_pool
    if pool.connection_kwargs["socket_timeout"] != timeout_s:
        pool.connection_kwargs.update(socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        pool.disconnect()
        pool.reset()  # the connections that are there would keep the old time-out when they connect again
