"""Time zones as tables: which UTC offset holds when, and when that changes.

The data is zoneinfo's; here it is only put into a form that a schedule can ask many thousand times a
second. What a schedule does at a change is decided in `schedule.py`.
"""

from __future__ import annotations

import difflib
import os
import re
import zoneinfo
from bisect import bisect_right
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cronq.errors import ScheduleError
from cronq.timetext import DAY_S

#: Tables are made in pieces of 2**25 s (388 days), when first asked for.
_PIECE_BITS = 25
#: How far to look for changes between two samples. The shortest span between two changes of any zone
#: since 1970, and of any announced one, is a week.
_STEP_S = DAY_S
#: A piece also holds the change that came shortly before it, because the times repeated by a change may
#: reach into it. No change is larger than a day.
_LOOK_BACK_S = 2 * DAY_S

#: Between these, offsets are asked for; beyond, the nearest known one holds (years 1800 and 9990).
_FIRST_S = -5_364_662_400
_LAST_S = 253_086_422_400
_FOREVER_S = 1 << 62

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
#: Names of files that zoneinfo would open, but that mean another thing on every machine or count leap seconds.
_NOT_ZONES = re.compile(r"(?:localtime|posixrules|factory|(?:posix|right)(?:/.*)?)", re.IGNORECASE)


class Stretch(NamedTuple):
    """A span `start_s <= t < end_s` in which one UTC offset holds.

    Where it does not begin with a change, `previous_offset_s` equals `offset_s`: a table is made in pieces,
    so a stretch may be shorter than the offset lasted.
    """

    start_s: int
    end_s: int
    offset_s: int
    previous_offset_s: int

    @property
    def gap_s(self) -> int:
        """How many seconds of local time were left out at the start (negative: were repeated)."""
        return self.offset_s - self.previous_offset_s


class Zone:
    """One IANA zone. Shared by all schedules in it, and by threads: pieces are only ever added."""

    __slots__ = ("_constant", "_info", "_pieces", "name")

    def __init__(self, name: str, info: zoneinfo.ZoneInfo) -> None:
        self.name = name
        self._info = info
        self._pieces: dict[int, tuple[list[int], list[Stretch]]] = {}
        self._constant: Stretch | None = None
        # zoneinfo knows an offset without a date only for zones that never change it.
        always = info.utcoffset(None)
        if always is not None:
            offset_s = round(always.total_seconds())
            self._constant = Stretch(-_FOREVER_S, _FOREVER_S, offset_s, offset_s)

    def __repr__(self) -> str:
        return f"Zone({self.name!r})"

    def stretch_at(self, at_s: int) -> Stretch:
        """The stretch that holds the instant *at_s* (epoch seconds)."""
        if self._constant is not None:
            return self._constant
        piece = self._pieces.get(at_s >> _PIECE_BITS)
        if piece is None:
            piece = self._make_piece(at_s >> _PIECE_BITS)
        starts, stretches = piece
        return stretches[bisect_right(starts, at_s) - 1]

    def instant_of(self, local_s: int) -> int | None:
        """The first instant at which the clocks show *local_s* (a local time, as seconds); None: they leave it out."""
        at_s = local_s - 2 * DAY_S  # no zone is further from UTC, and none changes by more
        while at_s <= local_s + 2 * DAY_S:
            stretch = self.stretch_at(at_s)
            if stretch.start_s <= local_s - stretch.offset_s < stretch.end_s:
                return local_s - stretch.offset_s
            at_s = stretch.end_s
        return None

    def changes_after(self, at_s: int, count: int) -> list[Stretch]:
        """The stretches that begin with the next *count* changes after *at_s*, as far as three years ahead."""
        changes: list[Stretch] = []
        horizon_s = at_s + 3 * 366 * DAY_S
        start_s = self.stretch_at(at_s).end_s
        while len(changes) < count and start_s < horizon_s:
            stretch = self.stretch_at(start_s)
            if stretch.start_s == start_s and stretch.gap_s:
                changes.append(stretch)
            start_s = stretch.end_s
        return changes

    def _make_piece(self, number: int) -> tuple[list[int], list[Stretch]]:
        """Find the changes of one piece, and remember them."""
        begin_s, end_s = number << _PIECE_BITS, (number + 1) << _PIECE_BITS
        changes = self._changes_between(begin_s - _LOOK_BACK_S, end_s - 1)
        # Only the last change before the piece matters, and only when it is recent.
        earlier = [change_s for change_s in changes if change_s <= begin_s]
        starts = [earlier[-1] if earlier else begin_s]
        starts += [change_s for change_s in changes if change_s > begin_s]
        stretches = [
            Stretch(start_s, until_s, self._offset_s(start_s), self._offset_s(start_s - 1))
            for start_s, until_s in zip(starts, [*starts[1:], end_s], strict=True)
        ]
        self._pieces[number] = starts, stretches
        return starts, stretches

    def _changes_between(self, low_s: int, high_s: int) -> list[int]:
        """The instants in (low_s, high_s] from which a new offset holds."""
        changes = []
        before_s, before = low_s, self._offset(low_s)
        while before_s < high_s:
            after_s = min(before_s + _STEP_S, high_s)
            after = self._offset(after_s)
            if after != before:
                same_s, change_s = before_s, after_s
                while change_s - same_s > 1:
                    middle_s = (same_s + change_s) // 2
                    if self._offset(middle_s) == before:
                        same_s = middle_s
                    else:
                        change_s = middle_s
                changes.append(change_s)
            before_s, before = after_s, after
        return changes

    def _offset(self, at_s: int) -> timedelta | None:
        return datetime.fromtimestamp(min(max(at_s, _FIRST_S), _LAST_S), self._info).utcoffset()

    def _offset_s(self, at_s: int) -> int:
        offset = self._offset(at_s)
        return round(offset.total_seconds()) if offset is not None else 0


@lru_cache(maxsize=1024)
def find_zone(name: str) -> Zone:
    """The zone of an IANA name. Raises ScheduleError (field `tz`) for anything else, file names included."""
    if isinstance(name, str) and _NAME.fullmatch(name) and not _NOT_ZONES.fullmatch(name):
        try:
            return Zone(name, zoneinfo.ZoneInfo(name))
        except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
            pass  # a directory such as "Europe" is an OSError, a file without zone data a ValueError
    raise ScheduleError(f"{name!r} is not a time zone; {_suggestion(name)}", field="tz")


def machine_zone_name(etc: Path = Path("/etc")) -> str | None:
    """The IANA name of this machine's zone, as the files below *etc* tell it; None when they name none."""
    told = [os.path.realpath(etc / "localtime")]
    try:
        told.append((etc / "timezone").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        pass
    return next((name for name in map(iana_name, told) if name is not None), None)


def iana_name(told: str) -> str | None:
    """The zone that *told* stands for: a name, a TZ variable, or a path into a directory of zones; None for no zone."""
    name = told.strip().lstrip(":").rpartition("/zoneinfo/")[2].removeprefix("posix/")
    if name in ("Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu"):
        return "UTC"
    try:
        return find_zone(name).name
    except ScheduleError:
        return None


def _suggestion(name: str) -> str:
    known = {zone.lower(): zone for zone in zoneinfo.available_timezones() if not _NOT_ZONES.fullmatch(zone)}
    wanted = str(name).strip().lower().replace(" ", "_")
    close = [zone for zone in known if zone.rpartition("/")[2] == wanted]
    close = close or difflib.get_close_matches(wanted, known, n=1)
    meant = f"did you mean {known[close[0]]}? " if close else ""
    return f"{meant}use an IANA name such as Europe/Amsterdam"
