"""Ticks of a job that somebody does not want to run, named one by one: no later change of the job moves them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cronq.db.decode import moment, read_json, seconds
from cronq.errors import BadValue

#: Ticks that one job may skip ahead: a beat reads them each time that the job is due.
MOST_SKIPS = 1_000


@dataclass(frozen=True)
class Skip:
    """Ticks (epoch seconds) that will be recorded `skipped`, and who wants that since when and why."""

    ticks: tuple[int, ...]  #: in order
    by: str = ""
    note: str = ""
    at_s: float = 0.0

    @property
    def reason(self) -> str:
        """What the ledger says of such a tick."""
        by = f" by {self.by}" if self.by else ""
        return f"skipped{by}" + (f": {self.note}" if self.note else "")


#: All skips of a job, the oldest first; no tick is in two of them.
Skips = tuple[Skip, ...]


def skip_of(skips: Skips, tick: int) -> Skip | None:
    """The skip that names *tick*; None for any other tick."""
    return next((skip for skip in skips if tick in skip.ticks), None)


def ticks_of(skips: Skips) -> list[int]:
    """All ticks that are to be skipped, in order."""
    return sorted(tick for skip in skips for tick in skip.ticks)


def only_ticks(skips: Iterable[Skip], wanted: Sequence[int]) -> Skips:
    """These skips without any tick that is not *wanted*, and without those that then name none."""
    kept = set(wanted)
    found = (Skip(tuple(tick for tick in skip.ticks if tick in kept), skip.by, skip.note, skip.at_s) for skip in skips)
    return tuple(skip for skip in found if skip.ticks)


def write_skips(skips: Skips) -> str:
    """As `read_skips` takes them; "" for none."""
    stored = [{"ticks": skip.ticks, "by": skip.by, "note": skip.note, "at": skip.at_s} for skip in skips]
    return json.dumps(stored, separators=(",", ":")) if stored else ""


def read_skips(raw: str | None) -> Skips:
    """The skips in a job's state; what cannot be read names no tick."""
    if not raw:
        return ()
    try:
        values = read_json(raw)
        return tuple(_read(each) for each in values)
    except (BadValue, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return ()


def _read(values: dict[str, Any]) -> Skip:
    ticks = tuple(tick for each in values["ticks"] if (tick := moment(float(each))) is not None)
    return Skip(ticks, str(values["by"]), str(values["note"]), seconds(float(values["at"])) or 0.0)
