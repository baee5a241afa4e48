"""Connections that fail fast: for those who must know within a moment that Redis did not answer.

redis-py sends a command again, many times and silently, when its answer is lost or late. Who keeps a deadline
needs the opposite: one attempt, a short time-out, and the error.
"""

from __future__ import annotations

import copy
from typing import Any

from redis import Redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

#: Settings of a pool that belong to that pool alone, or to the notices that come with RESP3.
_NOT_COPIED = ("connection_pool", "maint", "orig_", "oss_cluster_maint")

_PASSING = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,
    redis_errors.MasterDownError,
)
_LASTING = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)

#: Answers of a server that is running a long script, or has lost its primary or its replicas, perhaps not for long.
_PASSING_ANSWERS = ("BUSY ", "NOREPLICAS ")


def own_client(client: Redis, timeout_s: float) -> Redis:
    """A client of the server that *client* talks to, with connections of its own, answering in `str`.

    It never repeats a command, and each read, write and connect gives up after *timeout_s*. TCP, unix
    sockets, TLS and Sentinel (whose sentinels share one time-out). It speaks RESP2,
    because under RESP3 redis-py stretches time-outs when a server announces maintenance.
    """
    pool = client.connection_pool
    settings: dict[str, Any] = {
        name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_NOT_COPIED)
    }
    settings |= {
        "retry": Retry(NoBackoff(), 0), "retry_on_timeout": False, "retry_on_error": [],
        "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "health_check_interval": 0,
        "protocol": 2, "decode_responses": True, "encoding": "utf-8", "encoding_errors": "replace",
    }  # fmt: skip
    if not isinstance(pool, SentinelConnectionPool):
        return Redis.from_pool(ConnectionPool(connection_class=pool.connection_class, **settings))
    sentinel = copy.copy(pool.sentinel_manager)
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


def limit(client: Redis, timeout_s: float) -> None:
    """Let *client*, made by `own_client`, give up after *timeout_s* from now on; it connects anew."""
    pool = client.connection_pool
    if pool.connection_kwargs["socket_timeout"] != timeout_s:
        pool.connection_kwargs.update(socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        pool.disconnect()
        pool.reset()  # the connections that are there would keep the old time-out when they connect again


def may_pass(error: Exception) -> bool:
    """Whether the same command may succeed a moment later; not so without permission or on a wrong type."""
    if isinstance(error, redis_errors.ResponseError) and str(error).startswith(_PASSING_ANSWERS):
        return True
    return isinstance(error, _PASSING) and not isinstance(error, _LASTING)
