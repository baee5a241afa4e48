"""What rq-dashboard may see and do here: data of pickles but no code, and requeueing without opening them."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import rq.job
import rq.results
from redis import Redis
from rq.serializers import DefaultSerializer

from cronq.db.client import open_client
from cronq.interop.pickles import PickleRefused, load_data, read_data, read_function
from cronq.interop.sealed import fetch_job

#: A call, a result or a meta that is larger is not shown: to read it may take long, and each page asks again.
_MOST_SHOWN = 256 * 1024


@cache
def _client(url: str) -> Redis:
    return open_client(url)


def connect(url: str, **_: Any) -> tuple[None, Redis]:
    """Open the Redis of *url*. rq-dashboard's own function reads no user and no TLS from a sentinel URL."""
    return None, _client(url)


def requeue(job_id: str, connection: Redis) -> Any:
    """Requeue as RQ does, but with call and meta as they stand in Redis, read or not."""
    return fetch_job(job_id, connection).requeue()


def read_data_only() -> None:
    """Let RQ read pickles of data in this process, and nothing else: whoever may write to Redis would run code here.

    rq-dashboard takes RQ's own serializer in several places whatever it is told, so it is RQ's that changes.
    """
    DefaultSerializer.loads = staticmethod(_load_data)
    for module in (rq.job, rq.results):
        setattr(module, "zlib", _BoundedZlib)  # noqa: B010


class _BoundedZlib:
    """What RQ uses of zlib; in place of a text that would unpack to too much it returns why that is not shown."""

    error = zlib.error
    compress = staticmethod(zlib.compress)

    @staticmethod
    def decompress(raw: bytes) -> bytes:
        """What was compressed, or why that is not shown."""
        try:
            return read_data(raw, _MOST_SHOWN * 16)
        except PickleRefused as error:
            return f"not shown: {error}".encode()


def _load_data(raw: bytes) -> Any:
    """What a pickle holds when that is data, else what can be told of it, in the form of RQ's calls.

    It never raises: one entry that cannot be shown would take the page with all the others along.
    """
    try:
        return load_data(raw, _MOST_SHOWN)
    except PickleRefused:
        pass
    try:
        name, _ = read_function(raw)
        return name, None, ("arguments that are not data are not shown",), {}
    except PickleRefused as error:
        return f"not shown: {error}", None, (), {}
