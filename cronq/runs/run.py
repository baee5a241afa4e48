"""A run as a value: its id, its states, its outcomes, and the row that the ledger keeps of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cronq.db.decode import moment, read_json, seconds, whole
from cronq.errors import BadValue
from cronq.runs.lean_row import whole_row
from cronq.timetext import tick_stamp, utc


def run_id_of(job: str, tick: int) -> str:
    """The id of the run of *job* for *tick*; nothing may parse it back."""
    return f"{job}-{tick_stamp(tick)}"


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
    """What became of an earlier attempt of a run that was put back. Times are epoch seconds."""

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
        """Read a row, lean or not; unknown fields are left out, so that rows of a newer version can be shown."""
        values = whole_row(values)
        return cls(
            run_id=run_id,
            job=values.get("job", ""),
            tick=moment(values.get("tick")),
            state=values.get("state", "done"),
            outcome=values.get("outcome") or None,
            reason=values.get("reason") or None,
            decided_by=values.get("decided_by") or None,
            trigger=values.get("trigger", "schedule"),
            attempt=whole(values.get("attempt")) or 1,
            queue=values.get("queue", "default"),
            host=values.get("host") or None,
            pid=whole(values.get("pid")),
            worker=values.get("worker") or None,
            fence=whole(values.get("fence")),
            queued_at=seconds(values.get("queued_at")),
            started_at=seconds(values.get("started_at")),
            ended_at=seconds(values.get("ended_at")),
            exit_code=whole(values.get("exit_code")),
            signal=values.get("signal") or None,
            max_rss_kib=whole(values.get("max_rss_kib")),
            user_s=seconds(values.get("user_s")),
            system_s=seconds(values.get("system_s")),
            crashes=whole(values.get("crashes")) or 0,
            max_crashes=whole(values.get("max_crashes")),
            error=values.get("error") or None,
            args=values.get("args") or None,
            result=values.get("result") or None,
            attempts=tuple(_attempts(values.get("attempts"))),
        )


def _attempts(raw: str | None) -> list[Attempt]:
    """The earlier attempts as `lua/parts/keep_attempt.lua` keeps them; what cannot be read is left out."""
    try:
        entries = read_json(raw) if raw else []
    except BadValue:
        return []
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        values = {name: str(value) for name, value in entry.items() if isinstance(value, str | int)}
        number = whole(values.get("attempt"))
        if number is not None:
            found.append(
                Attempt(
                    attempt=number,
                    outcome=values.get("outcome") or None,
                    reason=values.get("reason") or None,
                    decided_by=values.get("decided_by") or None,
                    host=values.get("host") or None,
                    pid=whole(values.get("pid")),
                    started_at=seconds(values.get("started_at")),
                    ended_at=seconds(values.get("ended_at")),
                    exit_code=whole(values.get("exit_code")),
                    error=values.get("error") or None,
                )
            )
    return found


def _between(begin_s: float | None, end_s: float | None) -> float | None:
    """Seconds from one moment to another, None when either is not known."""
    return None if begin_s is None or end_s is None else round(end_s - begin_s, 3)
