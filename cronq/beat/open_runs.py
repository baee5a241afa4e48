"""A walk over all open runs in one state, some at a time: each step is short, and no list need be read whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys

#: A step looks at about so many jobs, most of which have no open run, and yields so many runs at once.
_JOBS = 4000
_BATCH = 250
#: Jobs with no more open runs than this are read all in one round trip.
_FEW_RUNS = 20
_Item = TypeVar("_Item")


class OpenRuns:
    """Walks over the open runs of all jobs that are in *state*."""

    def __init__(self, client: Redis, keys: Keys, state: str) -> None:
        self.client = client
        self.keys = keys
        self.state = state
        self._find: Any = scripts.load(client, "runs/find_open")

    def steps(self) -> Iterator[list[str] | None]:
        """One walk: run ids, a batch at a time; None where a pass may end."""
        cursor = ""
        while cursor != "0":
            args = [self.keys.prefix, cursor or "0", _JOBS, _FEW_RUNS, self.state]
            reply = json.loads(text(self._find(keys=[self.keys.jobs], args=args)))
            cursor = reply["cursor"]
            yield from _batches(iter(reply.get("runs", [])))
            for key in reply.get("sets", []):
                yield from self._of_set(key)
            if cursor != "0":
                yield None

    def _of_set(self, key: str) -> Iterator[list[str]]:
        """The runs of a set that holds many, page by page: a page of runs in other states is an empty batch."""
        cursor: int | None = None
        while cursor != 0:
            found: Any = self.client.hscan(key, cursor or 0, count=_BATCH)
            cursor, page = found
            yield [text(run_id) for run_id, state in page.items() if text(state) == self.state]


def _batches(items: Iterator[_Item]) -> Iterator[list[_Item]]:
    while batch := list(islice(items, _BATCH)):
        yield batch
