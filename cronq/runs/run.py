"""A run as a value: its id, and how the row is read that the ledger keeps of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cronq.db.decode import moment, read_json, seconds, whole
from cronq.errors import BadValue
from cronq.runs.lean_row import whole_row
from cronq.timetext import utc


def manual_run_id(job: str) -> str:
    """A fresh id for a run that has no tick."""
    return f"{job}-m{secrets.token_hex(4)}"


def describe_run(job: str, tick: int | None, run_id: str) -> str:
    """What RQ's tools show as the name of the run: `invoices @ 2026-11-21 07:00 UTC`."""
    if tick is None:
        return f"{job} (by hand, {run_id.rsplit('-', 1)[1]})"
    at = utc(tick)
    form = "%Y-%m-%d %H:%M:%S" if at.second else "%Y-%m-%d %H:%M"
    return f"{job} @ {at:{form}} UTC"


@dataclass(frozen=True)
class Attempt:
    """What became of an earlier attempt of a run. Times are epoch seconds."""

    attempt: int
    outcome: str | None = None
    reason: str | None = None
    decided_by: str | None = None
    host: str | None = None
    pid: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    error: str | None = None  #: its end, of a long one

    @property
    def duration_s(self) -> float | None:
        """From the start to the end of the work."""
        return _between(self.started_at, self.ended_at)


@dataclass(frozen=True)
class Run:
    """One row of the ledger. Times are epoch seconds; None where something has not happened."""

    run_id: str
    job: str
    tick: int | None
    state: str
    outcome: str | None = None
    reason: str | None = None
    decided_by: str | None = None
    trigger: str = "schedule"
    attempt: int = 1
    queue: str = "default"
    host: str | None = None
    pid: int | None = None
    worker: str | None = None
    fence: int | None = None
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    signal: str | None = None  #: what ended its process, by name
    max_rss_kib: int | None = None
    user_s: float | None = None  #: CPU time
    system_s: float | None = None
    crashes: int = 0  #: attempts whose worker vanished
    max_crashes: int | None = None  #: None: a vanished worker ends it
    error: str | None = None
    args: str | None = None
    result: str | None = None
    attempts: tuple[Attempt, ...] = ()  #: the earlier ones, oldest first

    @property
    def lateness_s(self) -> float | None:
        """From the tick to the start of the work."""
        return _between(self.tick, self.started_at)

    @property
    def duration_s(self) -> float | None:
        """From the start to the end of the work."""
        return _between(self.started_at, self.ended_at)

    @classmethod
    def from_hash(cls, run_id: str, values: Mapping[str, str]) -> Run:
        """Read a row, lean or not; fields of a newer version and what cannot be read are left out."""
        return cls(run_id, **({"job": "", "tick": None, "state": "done"} | _read(whole_row(values), _READERS_OF_RUN)))


def _words(words: str) -> str | None:
    return words or None


def _count(words: str) -> int | None:
    return whole(words) or None


#: What reads each field of a row; None is for a value that cannot be read, and leaves the field at its default.
_READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("job", "state", "trigger", "queue"), str),
    **dict.fromkeys(("outcome", "reason", "decided_by", "host", "worker", "signal", "error", "args", "result"), _words),
    **dict.fromkeys(("pid", "fence", "exit_code", "max_rss_kib", "max_crashes"), whole),
    **dict.fromkeys(("attempt", "crashes"), _count),
    **dict.fromkeys(("queued_at", "started_at", "ended_at", "user_s", "system_s"), seconds),
    "tick": moment,
}
_READERS_OF_ATTEMPT = {item.name: _READERS[item.name] for item in fields(Attempt)}


def _read(values: Mapping[str, str], readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The fields of which *readers* makes something."""
    found = {}
    for name, words in values.items():
        reader = readers.get(name)
        value = reader(words) if reader is not None else None
        if value is not None:
            found[name] = value
    return found


def _attempts(raw: str) -> tuple[Attempt, ...]:
    """The earlier attempts as `lua/parts/keep_attempt.lua` keeps them; what cannot be read is left out."""
    try:
        entries = read_json(raw) if raw else []
    except BadValue:
        return ()
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        values = {name: str(value) for name, value in entry.items() if isinstance(value, str | int)}
        number = whole(values.get("attempt"))
        if number is not None:
            found.append(Attempt(**(_read(values, _READERS_OF_ATTEMPT) | {"attempt": number})))
    return tuple(found)


_READERS_OF_RUN = _READERS | {"attempts": _attempts}


def _between(begin_s: float | None, end_s: float | None) -> float | None:
    """Seconds from one moment to another, None when either is not known."""
    return None if begin_s is None or end_s is None else round(end_s - begin_s, 3)
