"""The line of late runs that are held by the catch-up rate, from the next one to the last.

A held run is a tick that nobody has claimed: the marks of the jobs say which these are, and the line only who is next.
The most urgent priority is first, and of one priority the oldest tick.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, NamedTuple

from redis import Redis

from cronq.db import scripts
from cronq.db.keys import Keys

#: A score is a tick minus so many times the priority of its job: exact, as long as ticks are before the year 9999.
_STEP = 2**40
#: Runs let through in one call, and ticks handed over in one.
_MOST_THROUGH, _MOST_TICKS = 1000, 5000
#: So many seconds of the rate may pass at once, when none came for a while.
_BURST_S = 5.0


@dataclass(frozen=True)
class CatchupRate:
    """How fast held runs are let through, all beats together; `per_s` 0: there is no limit, and none is held."""

    per_s: float

    @property
    def burst(self) -> int:
        """How many at once, when none came for a while."""
        return max(1, floor(self.per_s * _BURST_S))

    def span_s(self, runs: int) -> float:
        """How long so many runs take, about."""
        return runs / self.per_s if self.per_s else 0.0


class HeldJob(NamedTuple):
    """The late runs of one job that are to be held, as a beat has read it."""

    name: str
    version: str
    mark: int
    ticks: Sequence[int]  #: of these runs, oldest first: those that get a place in the line
    newest: int  #: the newest tick that is held; later than the last of these when they are many
    next_s: int | None  #: when the next tick is due that is on time
    priority: int


class Through(NamedTuple):
    """What became of the line when its head was let through."""

    runs: int  #: how many were let through
    left: int
    next_in_s: float  #: the next may follow then


class Place(NamedTuple):
    """One run in the line."""

    job: str
    tick: int
    priority: int


class CatchupLine:
    """Reads and moves the line; each step is atomic, and raises RedisError."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._hold: Any = scripts.load(client, "jobs/hold")
        self._let_through: Any = scripts.load(client, "jobs/let_through")

    def hold(self, jobs: Iterable[HeldJob]) -> int:
        """Hold these runs, unless somebody was at their job meanwhile. Returns how many were given a place."""
        keys = [self._keys.catchup, self._keys.agenda]
        placed = 0
        for part in _parts(jobs):
            items = [
                (job.name, job.version, job.mark, job.newest, job.next_s or False, -job.priority * _STEP, job.ticks)
                for job in part
            ]
            placed += self._hold(keys=keys, args=[json.dumps({"prefix": self._keys.prefix, "items": items})])
        return placed

    def let_through(self, rate: CatchupRate, now_s: float | None = None) -> Through:
        """Let as many held runs through as *rate* allows now; *now_s* replaces the server's time."""
        keys = [self._keys.catchup, self._keys.agenda, self._keys.catchup_rate]
        now = "" if now_s is None else repr(now_s)
        args = [self._keys.prefix, repr(rate.per_s), rate.burst, _MOST_THROUGH, now]
        runs, left, wait_s = self._let_through(keys=keys, args=args)
        return Through(runs, left, float(wait_s))

    def take_out(self, ticks: Iterable[tuple[str, int]]) -> None:
        """Take ticks (job, tick) out of the line that were decided meanwhile."""
        names = [f"{name}:{tick}" for name, tick in ticks]
        if names:
            self._client.zrem(self._keys.catchup, *names)


def _parts(jobs: Iterable[HeldJob]) -> Iterator[list[HeldJob]]:
    """The same jobs in parts that one call takes without holding Redis up."""
    part: list[HeldJob] = []
    ticks = 0
    for job in jobs:
        part.append(job)
        ticks += len(job.ticks)
        if ticks >= _MOST_TICKS:
            yield part
            part, ticks = [], 0
    if part:
        yield part
