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
from cronq.db.decode import moment, number, text
from cronq.db.keys import Keys

#: A score is a tick minus so many times the priority of its job: exact, as long as ticks are before the year 9999.
_STEP = 2**40
#: In one call, each of which keeps Redis from answering others: runs let through, jobs and ticks to be held, and
#: entries of the line that are read.
_MOST_THROUGH, _MOST_JOBS, _MOST_TICKS, _MOST_READ = 250, 250, 1000, 5000
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
    number: int  #: 1 is the next one


class Pace(NamedTuple):
    """How fast the line goes on just now."""

    per_s: float  #: 0: at once
    ready: float  #: so many may go at once

    def due_in_s(self, number: int) -> float:
        """After how long the run with this *number* is let through, about."""
        return max(0.0, (number - self.ready) / self.per_s) if self.per_s else 0.0


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

    def read(self) -> list[Place]:
        """All runs in the line, the next one first; one whose tick was decided meanwhile has no place.

        A round trip for some thousand of them, and one for some thousand jobs.
        """
        found: dict[str, int] = {}
        while True:
            known = len(found)
            part: list[Any] = self._client.zrange(self._keys.catchup, known, known + _MOST_READ - 1, withscores=True)
            found |= {text(entry): _priority(score) for entry, score in part}
            if len(part) < _MOST_READ or len(found) == known:
                break
        entries = [(name, int(tick), found[entry]) for entry in found for name, tick in [_split(entry)] if tick]
        marks = self._marks({name for name, _, _ in entries})
        pending = [entry for entry in entries if marks.get(entry[0], entry[1]) < entry[1]]
        return [Place(*entry, number) for number, entry in enumerate(pending, 1)]

    def _marks(self, names: Iterable[str]) -> dict[str, int]:
        """The marks of those of these jobs that exist."""
        marks: dict[str, int] = {}
        ordered = sorted(names)
        for first in range(0, len(ordered), _MOST_READ):
            part = ordered[first : first + _MOST_READ]
            with self._client.pipeline(transaction=False) as pipe:
                for name in part:
                    pipe.hget(self._keys.state(name), "mark")
                replies = pipe.execute(raise_on_error=False)
            for name, reply in zip(part, replies, strict=True):
                if isinstance(reply, bytes) and (mark := moment(text(reply))) is not None:
                    marks[name] = mark
        return marks

    def numbers(self, ticks: Sequence[tuple[str, int]]) -> list[int | None]:
        """The place of each tick (job, tick) in the line, about: 1 is the next one. None: it is not there."""
        key = self._keys.catchup
        with self._client.pipeline(transaction=False) as pipe:
            for name, tick in ticks:
                pipe.zscore(key, f"{name}:{tick}")
            scores = pipe.execute()
            for score in scores:
                pipe.zcount(key, "-inf", "-inf" if score is None else f"({score:.0f}")
            before = pipe.execute()
        return [None if score is None else number + 1 for score, number in zip(scores, before, strict=True)]

    def pace(self, configured: CatchupRate, now_s: float) -> Pace:
        """How fast the beats let runs through: what they noted themselves, until they have at the *configured* rate."""
        noted, full_at = self._client.hmget(self._keys.catchup_rate, "rate", "full_at")
        rate = CatchupRate(number(text(noted or b"")) or configured.per_s)
        full_s = number(text(full_at or b"")) or now_s
        return Pace(rate.per_s, max(0.0, rate.burst - max(0.0, full_s - now_s) * rate.per_s))

    def take_out(self, ticks: Iterable[tuple[str, int]]) -> None:
        """Take ticks (job, tick) out of the line that were decided meanwhile."""
        names = [f"{name}:{tick}" for name, tick in ticks]
        if names:
            self._client.zrem(self._keys.catchup, *names)


def _priority(score: float) -> int:
    return -floor(score / _STEP)


def _split(entry: str) -> tuple[str, str]:
    """The job and the tick of an entry of the line; the tick is "" when it is none."""
    name, _, tick = entry.rpartition(":")
    return name, tick if tick.isdecimal() else ""


def _parts(jobs: Iterable[HeldJob]) -> Iterator[list[HeldJob]]:
    """The same jobs in parts that one call takes without holding Redis up."""
    part: list[HeldJob] = []
    ticks = 0
    for job in jobs:
        part.append(job)
        ticks += len(job.ticks)
        if ticks >= _MOST_TICKS or len(part) >= _MOST_JOBS:
            yield part
            part, ticks = [], 0
    if part:
        yield part
