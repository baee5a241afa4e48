"""A lock for a fixed time: nobody renews it and nobody gives it back."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from cronq.db.faults import broken_key, may_pass
from cronq.db.keys import Keys
from cronq.db.scripts import load
from cronq.errors import ConfigError
from cronq.locks.lock import FENCE_LIFE_S, check_lock_name
from cronq.timetext import DAY_S

_LEAST_S, _MOST_S = 1.0, 400.0 * DAY_S
#: How often it is asked for when no answer comes.
_TRIES = 3


def take_window(client: Redis, keys: Keys, name: str, window_s: float, holder: Mapping[str, str | int]) -> bool:
    """Take the lock *name* for *window_s* seconds, by Redis's clock. Return False if somebody has it.

    *holder* gives `host` and `pid`, for `read_locks`. Raises ConfigError for a name or a window that is not allowed,
    RedisError, KeyBroken.
    """
    check_lock_name(name)
    if not _LEAST_S <= window_s <= _MOST_S:
        raise ConfigError(f"lock {name!r}: a window of {window_s!r} seconds; use 1 s to 400 days")
    take: Any = load(client, "locks/acquire")
    words = [secrets.token_hex(16), math.ceil(window_s * 1000), holder["host"], holder["pid"], "", FENCE_LIFE_S]
    for tries_left in reversed(range(_TRIES)):
        try:
            is_ours, _ = take([keys.lock(name), keys.fence(name)], words)  # asked again, it knows its own id
        except RedisError as error:
            if (broken := broken_key(error)) is not None:
                raise broken from None
            if not tries_left or not may_pass(error):
                raise
        else:
            return bool(is_ours)
    return False
