"""Which locks are held now, and by whom. Reading changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.utils import str_if_bytes

from cronq.db.decode import seconds
from cronq.db.keys import Keys


@dataclass(frozen=True)
class HeldLock:
    """A lock that is held now. A plain user of python-redis-lock leaves no host, pid, run id, token and `since`."""

    name: str
    host: str | None
    pid: int | None
    run_id: str | None
    token: int | None
    since: float | None  # epoch seconds, server time
    expires_in_s: float | None  # None: it has no ttl


def read_locks(client: Redis, keys: Keys, names: Sequence[str] | None = None) -> list[HeldLock]:
    """Those of *names* that are held now, by name; without *names*, of all locks that cronq took lately.

    One round trip for a few names; not atomic: each lock is read at a moment of its own.
    """
    if names is None:
        start = len(keys.fence(""))
        fences = client.scan_iter(match=keys.fences, count=1000)
        names = sorted({str_if_bytes(fence)[start:] for fence in fences})
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(keys.fence(name))
            pipe.get(keys.lock(name))
            pipe.pttl(keys.lock(name))
        answers = iter(pipe.execute(raise_on_error=False))  # a key of a wrong type must not hide the others
    return [
        _describe(name, fence if isinstance(fence, Mapping) else {}, str_if_bytes(owner), lease_ms)
        for name, fence, owner, lease_ms in zip(names, answers, answers, answers, strict=True)
        if isinstance(owner, str | bytes)
    ]


def _describe(name: str, fence: Mapping[Any, Any], owner: str, lease_ms: int) -> HeldLock:
    facts = {str_if_bytes(key): str_if_bytes(value) for key, value in fence.items()}
    if facts.get("id") != owner:  # the fence still tells of the last holder of our kind
        facts = {}
    pid, token = facts.get("pid", ""), facts.get("token", "")
    return HeldLock(
        name=name,
        host=facts.get("host") or None,
        pid=int(pid) if pid.isdecimal() else None,
        run_id=facts.get("run_id") or None,
        token=int(token) if token.isdecimal() else None,
        since=seconds(facts.get("since")),
        expires_in_s=None if lease_ms == -1 else max(lease_ms, 0) / 1000,
    )
