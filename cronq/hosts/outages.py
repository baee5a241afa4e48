"""Outages: spans in which no beat made a completed pass, and how anybody can tell why. Owner of their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import read_json, seconds, text
from cronq.db.keys import Keys
from cronq.errors import BadValue
from cronq.timetext import DAY_S

#: Beats make a pass once a second, and note it so often.
NOTE_PASS_EVERY_S = 8.0
#: A gap between noted passes that is longer is an outage.
OUTAGE_S = 15.0
#: How long outages are kept, and how many.
KEPT_S = 30 * DAY_S
_MOST = 1000

#: Why no beat made a pass, for a person.
CAUSES = {
    "no_beat": "no beat was alive",
    "redis_away": "Redis was away, as a beat saw that lived",
    "clock_jumped": "the clock of the Redis server jumped, and the beats held",
    "stood_still": "the beats lived and stood still",
}


@dataclass(frozen=True)
class Outage:
    """A span in which no beat made a completed pass. Times are epoch seconds."""

    from_s: float  #: the last noted pass before it, at most NOTE_PASS_EVERY_S older than the last
    to_s: float | None  #: the first pass after it; None: it goes on
    why: str  #: one of CAUSES
    by: str = ""  #: who ended it, and says so

    def covers(self, moment_s: float) -> bool:
        """Return True if that moment lies in it."""
        return self.from_s < moment_s and (self.to_s is None or moment_s < self.to_s)

    @property
    def words(self) -> str:
        """Its cause, for a person."""
        return CAUSES.get(self.why, CAUSES["no_beat"])


@dataclass(frozen=True)
class Pass:
    """A completed pass of a beat, and what that beat lived through since its last one. Times are epoch seconds."""

    at_s: float
    by: str
    first_s: float  #: the first pass that this beat made
    away_s: float | None = None  #: since when Redis was away for it; None: it was not
    held: bool = False  #: it held, because the server's clock had jumped


class Outages:
    """Notes passes, and reads what outages there were."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._note: Any = scripts.load(client, "hosts/note_pass")

    def note(self, done: Pass) -> str:
        """Note a pass; one step. Returns why the outage had come that it ended, "" when there was none."""
        away = "" if done.away_s is None else repr(done.away_s)
        args = [
            repr(done.at_s), OUTAGE_S, done.by, repr(done.first_s), away, "1" if done.held else "", KEPT_S, _MOST,
        ]  # fmt: skip
        return text(self._note(keys=[self.keys.passes, self.keys.outages], args=args))

    def note_last(self, done: Pass) -> str:
        """Note a pass after which nobody knows of the next: until then it is no outage that none comes.

        Beats that stay note their own within seconds. Two steps: killed between them, an outage seems to begin that the
        next pass ends.
        """
        why = self.note(done)
        self.client.delete(self.keys.passes)
        return why

    def read(self, now_s: float) -> list[Outage]:
        """The outages of the last 30 days, newest first, and first of all the one that goes on. One round trip."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.get(self.keys.passes)
            pipe.lrange(self.keys.outages, 0, -1)
            last, found = pipe.execute(raise_on_error=False)
        last_s = seconds(text(last)) if isinstance(last, bytes) else None
        present = [] if last_s is None or now_s - last_s <= OUTAGE_S else [Outage(last_s, None, "no_beat")]
        past = [_outage(text(raw)) for raw in found] if isinstance(found, list) else []
        return present + [each for each in past if each is not None and (each.to_s or 0) > now_s - KEPT_S]


def _outage(raw: str) -> Outage | None:
    """The outage of an entry; None when it cannot be read."""
    try:
        values = read_json(raw)
        from_s, to_s = seconds(str(values["from"])), seconds(str(values["to"]))
        if from_s is None or to_s is None:
            return None
        return Outage(from_s, to_s, str(values["why"]), str(values["by"]))
    except (BadValue, KeyError, TypeError, AttributeError):
        return None
