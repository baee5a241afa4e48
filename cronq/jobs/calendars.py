"""Calendars in Redis: one hash, in which each name has its days, and `:version` changes with every change."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from redis import Redis
from redis.exceptions import ResponseError

from cronq.db.decode import text
from cronq.db.faults import is_wrong_type
from cronq.db.keys import Keys
from cronq.errors import KeyBroken, UnknownCalendar
from cronq.jobs.calendar import NO_CALENDARS, Calendar, Calendars, read_calendar

log = logging.getLogger("cronq.jobs")

#: No calendar has such a name.
_VERSION = ":version"


class CalendarStore:
    """Reads and writes calendars; each change is one step, and beats heed it from their next look at the agenda on."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def read(self) -> Calendars:
        """All calendars; one round trip. Raises KeyBroken."""
        with self._of_one_type():
            found = self._client.hgetall(self._keys.calendars)
        named = {text(name): raw for name, raw in found.items()}
        named.pop(_VERSION, None)
        return Calendars({name: read_calendar(name, raw) for name, raw in sorted(named.items())})

    def read_sound(self) -> Calendars:
        """The same, but a key of a wrong type holds no calendar; that is logged."""
        try:
            return self.read()
        except KeyBroken as error:
            log.error("BROKEN %s", error)
            return NO_CALENDARS

    def set(self, calendar: Calendar, *, by: str, now_s: float) -> Calendar:
        """Store *calendar* in place of the one of its name. Returns it as it is stored. Raises KeyBroken."""
        made = replace(calendar, by=by, at_s=now_s)
        stored, version = json.dumps(made.stored()), secrets.token_hex(6)
        with self._of_one_type():
            self._client.hset(self._keys.calendars, items=[made.name, stored, _VERSION, version])
        return made

    def remove(self, name: str) -> None:
        """Remove a calendar. Raises UnknownCalendar, KeyBroken."""
        with self._of_one_type(), self._client.pipeline() as pipe:
            pipe.hdel(self._keys.calendars, name)
            pipe.hset(self._keys.calendars, _VERSION, secrets.token_hex(6))
            gone, _ = pipe.execute()
        if not gone:
            raise UnknownCalendar(f"there is no calendar {name!r}; see `cronq calendar list`")

    @contextmanager
    def _of_one_type(self) -> Iterator[None]:
        """Raise KeyBroken for a key of a wrong type, when a command inside meets it."""
        try:
            yield
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            raise KeyBroken(self._keys.calendars, "hash") from error


class KnownCalendars:
    """The calendars as a beat knows them: read again only when their version is another than at the last look."""

    def __init__(self, calendars: CalendarStore) -> None:
        self._store = calendars
        self._version = ""
        self._known = NO_CALENDARS
        self._said: set[tuple[str, str]] = set()

    def at(self, version: str) -> Calendars:
        """The calendars, as they are or newer than at *version*. A key of a wrong type holds none."""
        if version != self._version:
            self._known = self._store.read_sound()
            self._version = version
            self._said.clear()
        return self._known

    def say_missing(self, job: str, names: tuple[str, ...]) -> None:
        """Log once which of *names*, those that the job *job* looks at, are no calendars."""
        for name in self._known.missing(names):
            if (job, name) not in self._said:
                self._said.add((job, name))
                log.warning("CALENDAR job=%s names the calendar %s, which is missing or damaged", job, name)
