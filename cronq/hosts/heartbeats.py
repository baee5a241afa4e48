"""Who is alive: the heartbeats of beats and workers, by server time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from cronq.db.decode import read_json, text, time_s
from cronq.db.keys import Keys, rq_worker
from cronq.errors import BadValue
from cronq.timetext import END_OF_TIME_S

#: How often a process says that it lives, and how long after its last word it is still taken for alive.
HEARTBEAT_S = 5.0
ALIVE_S = 20.0
#: An entry of a process that vanished without a word is dropped after this.
_FORGET_S = 3600.0
#: No heartbeat has more bytes than this.
_MOST_BYTES = 1_000_000
#: What processes say of themselves and others read, and what each is.
_FACTS: dict[str, Any] = {
    "clock_offset_s": (int, float), "last_pass": (int, float), "won": int, "holding": bool, "queues": list, "held": str,
    "version": str, "revision": str, "replaced": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Heartbeat:
    """What one process last said of itself, and when."""

    id: str
    host: str
    pid: int
    started_at: float
    seen_at: float
    facts: Mapping[str, Any]

    def is_alive(self, now_s: float) -> bool:
        """Return True if the process was heard of within 20 s. One that ends in order removes its entry."""
        return now_s - self.seen_at <= ALIVE_S


class Heartbeats:
    """Publishes and reads heartbeats."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def publish(self, kind: str, process_id: str, facts: Mapping[str, Any]) -> None:
        """Say that the process lives; *kind* is `beats` or `workers`. One command."""
        self.client.hset(self._key(kind), process_id, json.dumps(dict(facts)))

    def leave(self, kind: str, process_id: str) -> None:
        """Say good-bye, so that nobody waits for the heartbeat to grow old."""
        self.client.hdel(self._key(kind), process_id)

    def read(self, kind: str) -> tuple[list[Heartbeat], float]:
        """All heartbeats of the last hour, oldest process first, and the server's time. It changes nothing."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._key(kind))
            pipe.time()
            found, clock = pipe.execute()
        now_s = time_s(clock)
        heartbeats = [_heartbeat(text(key), text(raw)) for key, raw in found.items()]
        known = [each for each in heartbeats if each is not None and now_s - each.seen_at <= _FORGET_S]
        return sorted(known, key=lambda heartbeat: heartbeat.started_at), now_s

    def current_runs(self, workers: Sequence[Heartbeat]) -> list[str | None]:
        """The run that each of *workers* does now, by id; None for an idle one. One round trip."""
        with self.client.pipeline(transaction=False) as pipe:
            for worker in workers:
                pipe.hget(rq_worker(worker.id), "current_job")
            return [text(run) if run is not None else None for run in pipe.execute()]

    def forget_vanished(self, kind: str, now_s: float) -> int:
        """Remove the entries of processes that fell silent an hour ago, and what is no heartbeat. Returns how many.

        A process that lives after all publishes its entry again within seconds.
        """
        gone = []
        for key, raw in self.client.hscan_iter(self._key(kind), count=500):
            heartbeat = _heartbeat(text(key), text(raw))
            if heartbeat is None or now_s - heartbeat.seen_at > _FORGET_S:
                gone.append(key)
        for first in range(0, len(gone), 500):
            self.client.hdel(self._key(kind), *gone[first : first + 500])
        return len(gone)

    def _key(self, kind: str) -> str:
        return {"beats": self.keys.beats, "workers": self.keys.workers}[kind]


class Heart:
    """The heartbeat of this process: *facts* are asked for anew each time."""

    def __init__(
        self, hosts: Heartbeats, kind: str, process_id: str, host: str, facts: Callable[[], Mapping[str, Any]]
    ) -> None:
        self.heartbeats = hosts
        self.kind = kind
        self.id = process_id
        self.host = host
        self.facts = facts
        self.started_at: float | None = None

    def beat(self, now_s: float) -> None:
        """Say that the process lives; *now_s* is server time."""
        self.started_at = self.started_at if self.started_at is not None else now_s
        known = {"host": self.host, "pid": os.getpid(), "started_at": self.started_at, "seen_at": now_s}
        self.heartbeats.publish(self.kind, self.id, known | dict(self.facts()))

    def leave(self) -> None:
        """Say good-bye."""
        self.heartbeats.leave(self.kind, self.id)


def _heartbeat(process_id: str, raw: str) -> Heartbeat | None:
    """The heartbeat in an entry; None when it cannot be read. Facts of a wrong type are left out."""
    try:
        found = read_json(raw, most=_MOST_BYTES)
        times = float(found["started_at"]), float(found["seen_at"])
        if not all(0 <= each < END_OF_TIME_S for each in times) or not 0 < int(found["pid"]) < 2**31:
            return None
        facts = {name: value for name, value in found.items() if name not in _FACTS or isinstance(value, _FACTS[name])}
        facts["queues"] = [str(each) for each in facts.get("queues", [])]
        facts["replaced"] = {why: n for why, n in facts.get("replaced", {}).items() if type(n) is int}
        return Heartbeat(process_id, str(found["host"]), int(found["pid"]), *times, facts)
    except (BadValue, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
