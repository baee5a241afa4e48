"""Takes a lock from its holder, because a person says so; who it was is recorded."""

from __future__ import annotations

import json
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys
from cronq.errors import KeyBroken


def release_by_force(client: Redis, keys: Keys, lock: str, *, by: str, note: str, keep_events: int) -> str | None:
    """Release *lock*, whoever holds it, and wake who waits for it; None when nobody holds it.

    Returns the id of the run that held it, "" when that is not known. Raises KeyBroken.
    """
    script: Any = scripts.load(client, "runs/release_lock")
    document = {"prefix": keys.prefix, "lock": lock, "events": keep_events, "by": by, "note": note}
    reply: Any = script(keys=[keys.lock(lock), keys.fence(lock), keys.events], args=[json.dumps(document)])
    word, *rest = map(text, reply)
    if word == "broken":
        raise KeyBroken(*rest)
    return rest[0] if word == "released" else None
