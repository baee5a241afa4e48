"""Runs that wait for parents of their job. Owner of the `gated` keys.

The claim of a tick closes a gate, and the end of a parent's run opens it, each in its own step; the rules are in
`dependencies`. What is here looks after gates that nobody opened.
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
    """Opens gates whose parents have succeeded."""

    def __init__(self, client: Redis, keys: Keys, *, keep_events: int) -> None:
        self._keys = keys
        self._keep_events = keep_events
        self._open: Any = scripts.load(client, "runs/open_gates")

    def open(self, cursor: str, count: int, now_s: float) -> tuple[str, list[str]]:
        """Queue runs whose parents have all succeeded, unless an earlier run of their job is in the way.

        Looks at about *count* parents from *cursor* on, "0" at first. Returns the next cursor, "0" at the end, and what
        was let go.
        """
        document = {
            "prefix": self._keys.prefix,
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "events": self._keep_events,
            "cursor": cursor,
            "count": count,
        }
        reply = json.loads(text(self._open(keys=[self._keys.gated_by], args=[json.dumps(document)])))
        return reply["cursor"], reply.get("woken", [])
