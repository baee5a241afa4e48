"""What workers are to leave alone: queues that are paused; hosts and workers that are drained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis

from cronq.db.decode import read_json, seconds, text, texts
from cronq.db.keys import RQ_QUEUES, Keys, queue_name, rq_intermediate
from cronq.errors import BadValue
from cronq.jobs.pause import check_note
from cronq.runs.run import Run
from cronq.runs.store import RunStore

ALL = "all"


@dataclass(frozen=True)
class Hold:
    """A queue, host or worker that workers leave alone: who asked for it, when (epoch seconds) and why."""

    by: str
    at: float = 0.0
    note: str = ""
    what: str = ""  #: `queue:reports`, `host:box`, `worker:box.12.ab`, `all`

    def __str__(self) -> str:
        return f"held by {self.by}" + (f": {self.note}" if self.note else "")

    @classmethod
    def from_json(cls, raw: str, what: str = "") -> Hold:
        """Read a hold; one that cannot be read still holds."""
        try:
            values = read_json(raw)
            at = seconds(float(values["at"])) or 0.0
            return cls(str(values["by"]), at, str(values["note"]), what)
        except (BadValue, ValueError, TypeError, KeyError, OverflowError):
            return cls("somebody", what=what)


class Holds:
    """Sets, lifts and lists holds. Each is one command; workers read them with every look at their queues."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def hold(self, what: str, *, by: str, now_s: float, note: str = "") -> None:
        """Let workers take nothing of *what* from now on; work that has begun goes on. Raises DefinitionError."""
        check_note(note)
        self.client.hset(self.keys.holds, what, json.dumps({"by": by, "at": now_s, "note": note}))

    def lift(self, *whats: str) -> int:
        """Let workers take again from *whats*, and wake them. Returns how many of *whats* were held."""
        with self.client.pipeline() as pipe:
            pipe.hdel(self.keys.holds, *whats)
            pipe.publish(self.keys.wake, "")
            lifted, _ = pipe.execute()
        return int(lifted)

    def drain(self, names: tuple[str, ...], workers: set[str], *, by: str, now_s: float, note: str) -> list[str]:
        """Hold the hosts and workers *names*, or all workers when there are none. Returns what is held, as `Hold.what`.

        *workers* are the names of workers: any other name is a host's.
        """
        whats = [f"worker:{name}" if name in workers else f"host:{name}" for name in names] or [ALL]
        for what in whats:
            self.hold(what, by=by, now_s=now_s, note=note)
        return whats

    def end_drains(self, names: tuple[str, ...]) -> list[Hold]:
        """Lift the holds of these hosts and workers, or of all when there are no names. Returns the holds lifted."""
        found = [hold for hold in self.read() if not hold.what.startswith("queue:")]
        wanted = [hold for hold in found if not names or hold.what.partition(":")[2] in names]
        if wanted:
            self.lift(*(hold.what for hold in wanted))
        return wanted

    def queues(self) -> set[str]:
        """The queues into which anything was ever put."""
        return {queue_name(text(queue)) for queue in self.client.smembers(RQ_QUEUES)}

    def is_starting(self) -> bool:
        """Return True if some worker has popped an id and not begun it: a hold set now comes too late for that id."""
        queues = [text(queue) for queue in self.client.smembers(RQ_QUEUES)]
        with self.client.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.exists(rq_intermediate(queue_name(queue)))
            return any(pipe.execute())

    def read(self) -> list[Hold]:
        """All holds, oldest first."""
        found = texts(self.client.hgetall(self.keys.holds))
        return sorted((Hold.from_json(raw, text(what)) for what, raw in found.items()), key=lambda hold: hold.at)


def busy_with(runs: RunStore, whats: Sequence[str]) -> list[Run]:
    """The runs in progress on the hosts and workers that these drains hold."""
    return [run for run in runs.running() if {f"host:{run.host}", f"worker:{run.worker}", ALL} & set(whats)]
