"""Runs that wait for parents of their job, and jobs that run after others. Owner of the keys `gated` and `untriggered`.

The claim of a tick closes a gate; the end of a parent's run opens it, and triggers jobs that run after it, each in its
own step. The rules are in `dependencies` and `lua/parts/trigger`. What is here looks after what was left.
"""

from __future__ import annotations

import json
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys
from cronq.timetext import rq_stamp


class Gates:
    """Opens gates whose parents have succeeded, and starts jobs whose parents all have."""

    def __init__(self, client: Redis, keys: Keys, *, by: str, row_ttl_s: float, keep_events: int) -> None:
        self._keys = keys
        self._facts = {"prefix": keys.prefix, "by": by, "row_ttl": str(int(row_ttl_s)), "events": keep_events}
        self._open: Any = scripts.load(client, "runs/open_gates")
        self._trigger: Any = scripts.load(client, "runs/trigger")

    def open(self, cursor: str, count: int, now_s: float) -> tuple[str, list[str]]:
        """Queue runs whose parents have all succeeded, unless an earlier run of their job is in the way.

        Looks at about *count* parents from *cursor* on, "0" at first. Returns the next cursor, "0" at the end, and what
        was let go.
        """
        reply = json.loads(text(self._open(keys=[self._keys.gated_by], args=[self._document(cursor, count, now_s)])))
        return reply["cursor"], reply.get("woken", [])

    def trigger(self, cursor: str, count: int, now_s: float) -> tuple[str, list[str]]:
        """Start jobs whose parents have all ended since their last start, and that could not be started by that.

        Looks at about *count* of them from *cursor* on, "0" at first. Returns the next cursor, "0" at the end, and the
        jobs that still cannot be.
        """
        following, broken = self._trigger(keys=[self._keys.untriggered], args=[self._document(cursor, count, now_s)])
        return text(following), [text(name) for name in broken]

    def _document(self, cursor: str, count: int, now_s: float) -> str:
        moment = {"now": repr(now_s), "stamp": rq_stamp(now_s)}
        return json.dumps({**self._facts, **moment, "cursor": cursor, "count": count})
