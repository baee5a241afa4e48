"""The two ends of one attempt of a run: what whoever does the work, or misses it, tells the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.spec import JobSpec


@dataclass(frozen=True)
class Start:
    """The start of an attempt. Times are epoch seconds."""

    worker: str
    host: str
    pid: int
    execution: str  #: id of RQ's record of this execution: what a start that is sent again is known by
    lease_s: int  #: life of that record, unless the run is heard of
    now_s: float
    stock: bool = False  #: a stock RQ worker runs it, which keeps RQ's records itself
    once: bool = False  #: the run may be started a single time
    max_crashes: int | None = None  #: how many vanished workers end it; None: the first one
    seen_s: float | None = None  #: when it counts as heard of; None: now, by the server's own clock


@dataclass(frozen=True)
class Settlement:
    """What became of an attempt, as its guardian or the sweep saw it."""

    outcome: str
    reason: str
    exit_code: int | None = None
    error: str | None = None
    result: str | None = None  #: what the job returned, as JSON for people to read, which may be cut
    fence: int | None = None
    max_rss_kib: int | None = None
    user_s: float | None = None
    system_s: float | None = None
    signal: str | None = None
    crashes: int | None = None
    return_value: Any = None  #: the same for RQ, whole

    def row_fields(self) -> list[str]:
        """Field, value, … for the run's row; only what is known."""
        known = ((name, getattr(self, name)) for name in _IN_ROW)
        return [part for name, value in known if value is not None for part in (name, str(value))]


#: What a row keeps of a settlement beside outcome and reason, each under its own name.
_IN_ROW = (
    "exit_code", "error", "result", "fence", "max_rss_kib", "user_s", "system_s", "signal", "crashes",
)  # fmt: skip

#: Somebody deleted a queued run's RQ job, or emptied its queue.
REMOVED = Settlement("stopped", "removed from its queue")


def record_life_s(outcome: str, spec: JobSpec, tick: int | None) -> int:
    """Seconds that RQ keeps its own records of a run of *spec* for *tick* that ended in *outcome*."""
    return result_life_s(spec, tick) if outcome == "succeeded" else failure_life_s(spec, tick)


@dataclass(frozen=True)
class Ending:
    """The end of an attempt: what became of it, who tells it, and what must still hold for it to count."""

    settlement: Settlement
    by: str
    now_s: float
    expect: str = "running"  #: the state that the run must be in
    attempt: int | None = None  #: the attempt that it must be in; None: any
    execution: str | None = None  #: the execution that must have started it; None: any
    unseen_since: float | None = None  #: it must not have been heard of since; None: whether or not
    rq_status: str | None = None  #: what RQ must say of it ("": nothing); None: whatever
    stock: bool = False  #: RQ's own records say it already
    is_crash: bool = True  #: of a lost one; not so when its worker left in good order
    record_life_s: int | None = None  #: how long RQ keeps its own records; None: see `rq_records`
