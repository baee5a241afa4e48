"""How fast Redis fills: beats note now and then what it uses, and `cronq check redis` says when it is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis import Redis

from cronq.db.decode import text
from cronq.db.keys import Keys
from cronq.timetext import DAY_S, END_OF_TIME_S, format_duration

#: How often one of the beats notes what Redis uses, and how much of that is kept: a day.
NOTE_EVERY_S = 600.0
_SPAN_S = DAY_S
_KEPT = int(_SPAN_S / NOTE_EVERY_S)
#: From less than this nothing is concluded.
_LEAST_SPAN_S = 3600.0


@dataclass(frozen=True)
class Memory:
    """How much memory Redis uses, how much it may use, and how fast that grows."""

    used: int  #: bytes
    most: int  #: bytes; 0: Redis has no limit of its own
    daily: float | None  #: bytes a day, None: not known yet
    span_s: float = 0.0  #: seen over so long

    @property
    def full_in_s(self) -> float | None:
        """Seconds until it is full at this rate, to the hour; None: it has no limit, does not grow, or nobody knows."""
        if not self.most or self.daily is None or self.daily <= 0:
            return None
        return round(max(0, self.most - self.used) / self.daily * DAY_S / 3600) * 3600.0

    @property
    def words(self) -> str:
        """For a person: how much is used, of what, how fast that grows, and until when that can go on."""
        told = f"{in_bytes(self.used)} used, and Redis has no maxmemory"
        if self.most:
            told = f"{in_bytes(self.used)} of {in_bytes(self.most)} used ({100 * self.used // self.most}%)"
        if self.daily is None:
            return f"{told}; how that grows is known when a beat has run for an hour"
        if self.daily <= 0:
            return f"{told}, not growing in the last {format_duration(self.span_s)}"
        told = f"{told}, {in_bytes(round(self.daily))} more a day by the last {format_duration(self.span_s)}"
        return told if self.full_in_s is None else f"{told}: full in {format_duration(self.full_in_s)}"


def in_bytes(size: int) -> str:
    """A size as people write it: `512 B`, `3.4 MB`."""
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if amount >= 99.5 or unit == "B" else f"{amount:.1f} {unit}"


class Growth:
    """Notes and reads what Redis uses."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.key = keys.memory

    def note(self, now_s: float) -> None:
        """Note what Redis uses, unless another beat has done so lately. Two beats at once leave one note more."""
        newest = self._notes(self.client.lrange(self.key, 0, 0))
        if newest and 0 <= now_s - newest[0][0] < 0.9 * NOTE_EVERY_S:
            return
        used = self.client.info("memory")["used_memory"]
        with self.client.pipeline() as pipe:
            pipe.lpush(self.key, f"{int(now_s)} {used}")
            pipe.ltrim(self.key, 0, _KEPT)
            pipe.expire(self.key, 2 * _SPAN_S)
            pipe.execute()

    def read(self) -> Memory:
        """What Redis uses and how it has grown in the last day; one round trip, and it changes nothing."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.info("memory")
            pipe.time()
            pipe.lrange(self.key, 0, _KEPT)
            info, clock, notes = pipe.execute(raise_on_error=False)
        for reply in (info, clock):
            if isinstance(reply, Exception):
                raise reply
        used, now_s = int(info["used_memory"]), float(clock[0])
        known = [
            (at, size)
            for at, size in self._notes(notes if isinstance(notes, list) else [])
            if _LEAST_SPAN_S <= now_s - at <= 1.5 * _SPAN_S
        ]
        most = int(info.get("maxmemory", 0))
        if not known:
            return Memory(used, most, None)
        at, size = min(known)
        return Memory(used, most, (used - size) / (now_s - at) * DAY_S, now_s - at)

    @staticmethod
    def _notes(replies: list[Any]) -> list[tuple[float, int]]:
        """Moment and bytes of each note that can be read, the newest first."""
        found = []
        for words in (text(reply).split(" ") for reply in replies):
            try:
                at, size = float(words[0]), int(words[1])
            except (ValueError, IndexError):  # not written by us: the other notes tell enough
                continue
            if 0 < at < END_OF_TIME_S and size >= 0:
                found.append((at, size))
        return found
