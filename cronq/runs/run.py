"""A run as a value: its id, its row in the ledger, and the two ends of an attempt that are told to the ledger.

The row of a run that ended well is lean: defaults are left out, and its numbers stand in one field.
`lua/parts/lean_row.lua` writes that form, `lua/parts/keep_attempt.lua` undoes it when such a run has another attempt:
both must say the same as `whole_row`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cronq.db.decode import moment, read_json, seconds, whole
from cronq.errors import BadValue
from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.spec import JobSpec
from cronq.outcomes import EXECUTED, OUTCOMES
from cronq.runs.cause import Cause, Parent, cause_in_words, read_cause, read_needs
from cronq.runs.retry import Retry
from cronq.timetext import tick_stamp, utc

#: Why a run that succeeded did so; its row does not repeat it.
RAN_TO_ITS_END = "it ran to its end"
_NOTHING = "-"
#: Most of these are recorded by the claim alone.
_NEVER_BEGUN = frozenset(OUTCOMES) - frozenset(EXECUTED)


def whole_row(values: Mapping[str, str]) -> Mapping[str, str]:
    """The *values* of a row as they were before it was made lean; unchanged if it is not lean."""
    if values.get("state") != "done":
        return values
    left_out: dict[str, str] = _numbers(values)
    outcome = values.get("outcome")
    if outcome == "succeeded":
        left_out["reason"] = RAN_TO_ITS_END
    cause = read_cause(values.get("cause", ""), outcome, "done")
    if cause is not None and cause.words is not None:
        left_out["reason"] = cause.words
    worker = values.get("worker") or left_out.get("worker")
    if worker and outcome in EXECUTED:
        left_out["decided_by"] = f"worker {worker}"
    if outcome in _NEVER_BEGUN and "ended_at" in values:  # it was recorded when it was decided
        left_out["queued_at"] = values["ended_at"]
    return left_out | dict(values)


def _numbers(values: Mapping[str, str]) -> dict[str, str]:
    """What the field `facts` holds, by the names of the fields of a whole row.

    Eight words, `-` for none: pid; milliseconds from the tick to the queue, from there to the start, from there to the
    end; most memory in KiB; milliseconds of CPU time of the user, and of the system; the last part of the worker's
    name, whose other parts are host and pid, and behind a `+` the milliseconds from the start to the first instruction.
    These stand there because releases before ignore what has nine words: they show a longer name, and all else.
    """
    words = values.get("facts", "").split(" ")
    if len(words) != 8:
        return {}
    pid, *numbers, ending = words
    try:
        queued, waited, worked, rss, user, system = (None if word == _NOTHING else int(word) for word in numbers)
        tick_ms = 1000 * int(values.get("tick") or 0)
    except ValueError:
        return {}
    if queued is None or waited is None or worked is None:
        return {}
    moments = {"queued_at": queued, "started_at": queued + waited, "ended_at": queued + waited + worked}
    found = {name: _seconds(tick_ms + offset_ms) for name, offset_ms in moments.items()}
    used = {"user_s": user, "system_s": system}
    found |= {name: _seconds(spent_ms) for name, spent_ms in used.items() if spent_ms is not None}
    if rss is not None:
        found |= {"max_rss_kib": str(rss), "exit_code": "0"}
    if pid != _NOTHING:
        found["pid"] = pid
        ending, _, start_ms = ending.partition("+")
        if ending != _NOTHING:
            found |= {"worker": f"{values.get('host', '')}.{pid}.{ending}", "start_ms": start_ms}
    return found


def _seconds(milliseconds: int) -> str:
    return repr(milliseconds / 1000)


def tick_run_id(job: str, tick: int) -> str:
    """The id of the run of a tick."""
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
    cause: Cause | None = None

    @property
    def duration_s(self) -> float | None:
        """From the start to the end of the work."""
        return _between(self.started_at, self.ended_at)


#: The trigger of a run that no queue carries: of a command under `cronq exec`.
EXEC = "exec"


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
    start_ms: int | None = None  #: from the start, as the ledger has it, to the first instruction of its child
    replaced: str | None = None  #: why its long-lived child was replaced after it, when that was dirty; with commas
    crashes: int = 0  #: attempts whose worker vanished
    max_crashes: int | None = None  #: None: a vanished worker ends it
    retried: int = 0  #: retries it has had, or has with the one that waits for its time
    retry_at: float | None = None  #: when its next attempt is due
    snoozed_since: float | None = None  #: when it first asked for its next attempt itself
    error: str | None = None
    args: str | None = None
    result: str | None = None
    attempts: tuple[Attempt, ...] = ()  #: the earlier ones, oldest first
    first: int | None = None  #: the oldest tick of a range of ticks, of which `tick` is the newest
    count: int | None = None  #: how many ticks such a range has
    schedule: str | None = None  #: the schedule they are ticks of, as `ranges.schedule_words` writes it
    lock: str | None = None  #: the lock that it waits for
    needs: tuple[Parent, ...] = ()  #: the parents that it waits for
    cause: Cause | None = None  #: what its outcome, or that it waits, does not say

    @property
    def has_rq_job(self) -> bool:
        """Return True if it travels as an RQ job, and RQ's own records are kept of it."""
        return self.trigger != EXEC

    @property
    def lateness_s(self) -> float | None:
        """From the tick to the start of the work; None for one that somebody asked for after the fact."""
        return None if self.trigger == "backfill" else _between(self.tick, self.started_at)

    @property
    def beat_delay_s(self) -> float | None:
        """Of `lateness_s` what passed from the tick to the queue; None for a later attempt.

        It holds whatever kept the tick from its queue: no beat, or the earlier run that it waited behind. None also
        for what was never queued, or was asked for after the fact.
        """
        was_queued = self.started_at is not None or self.queued_at != self.ended_at
        is_first = self.attempt == 1 and self.trigger != "backfill"
        return _between(self.tick, self.queued_at) if was_queued and is_first else None

    @property
    def queue_wait_s(self) -> float | None:
        """Of `lateness_s` what passed from the queue to the start of the work, in this attempt."""
        return _between(self.queued_at, self.started_at)

    @property
    def start_delay_s(self) -> float | None:
        """From the start, as the ledger has it, to the first instruction of the child; None for one that never began.

        None also while it is open, for its end writes it, and under a stock `rq worker`.
        """
        return None if self.start_ms is None else self.start_ms / 1000

    @property
    def claim_to_first_line_s(self) -> float | None:
        """From the queue to the first instruction of its child; None when one of these moments is not known."""
        waited_s, delay_s = self.queue_wait_s, self.start_delay_s
        return None if waited_s is None or delay_s is None else round(waited_s + delay_s, 3)

    @property
    def duration_s(self) -> float | None:
        """From the start to the end of the work."""
        return _between(self.started_at, self.ended_at)

    @classmethod
    def from_hash(cls, run_id: str, values: Mapping[str, str]) -> Run:
        """Read a row, lean or not; fields of a newer version and what cannot be read are left out."""
        known = {"job": "", "tick": None, "state": "done"} | _read(whole_row(values), _READERS_OF_RUN)
        return cls(run_id, **known, cause=_cause_of(values.get("cause"), known))


def _words(words: str) -> str | None:
    return words or None


def _span_ms(words: str) -> int | None:
    found = whole(words)
    return found if found is not None and found >= 0 else None


def _count(words: str) -> int | None:
    return whole(words) or None


#: What reads each field of a row; None is for a value that cannot be read, and leaves the field at its default.
_READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("job", "state", "trigger", "queue"), str),
    **dict.fromkeys(
        (
            "outcome",
            "reason",
            "decided_by",
            "host",
            "worker",
            "signal",
            "error",
            "args",
            "result",
            "schedule",
            "lock",
            "replaced",
        ),
        _words,
    ),
    **dict.fromkeys(("pid", "fence", "exit_code", "max_rss_kib", "max_crashes"), whole),
    "start_ms": _span_ms,
    **dict.fromkeys(("attempt", "crashes", "retried", "count"), _count),
    **dict.fromkeys(
        ("queued_at", "started_at", "ended_at", "retry_at", "snoozed_since", "user_s", "system_s"), seconds
    ),
    **dict.fromkeys(("tick", "first"), moment),
}
_READERS_OF_ATTEMPT = {item.name: _READERS[item.name] for item in fields(Attempt) if item.name != "cause"}


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
            found.append(_attempt(number, values))
    return tuple(found)


def _attempt(number: int, values: Mapping[str, str]) -> Attempt:
    known = _read(values, _READERS_OF_ATTEMPT) | {"attempt": number}
    cause = _cause_of(values.get("cause"), known)
    if cause is not None and cause.words is not None:
        known.setdefault("reason", cause.words)
    return Attempt(**known, cause=cause)


def _cause_of(raw: str | None, known: Mapping[str, Any]) -> Cause | None:
    """The cause as it stands in a row with the fields *known*; of an older release as its words tell it."""
    outcome, state = known.get("outcome"), known.get("state", "done")
    if state == "waiting":
        if known.get("lock"):
            return Cause("waits_for_lock", known["lock"])
        if known.get("needs"):
            return Cause("waits_for_parents", known["needs"][0].name, parents=known["needs"])
    found = read_cause(raw, outcome, state) if raw else None
    return found if found is not None else cause_in_words(known.get("reason", ""), outcome, state)


_READERS_OF_RUN: Mapping[str, Callable[[str], Any]] = _READERS | {"attempts": _attempts, "needs": read_needs}


def _between(begin_s: float | None, end_s: float | None) -> float | None:
    """Seconds from one moment to another, None when either is not known."""
    return None if begin_s is None or end_s is None else round(end_s - begin_s, 3)


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
    lock: str | None = None  #: the lock that it needs, and holds under its execution from then on
    lock_ttl_ms: int = 0  #: how long it holds that unless it is renewed


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
    start_ms: int | None = None  #: from its start to the first instruction of its child; None: it had none
    replaced: str | None = None  #: what its long-lived child was found to have left, so that it was replaced
    signal: str | None = None
    crashes: int | None = None
    return_value: Any = None  #: the same for RQ, whole
    snooze_s: float | None = None  #: it asked for its next attempt after this; the outcome is for one that has none
    cause: str | None = None  #: what the outcome does not say, as `cause` writes it

    def row_fields(self) -> list[str]:
        """Field, value, … for the run's row; only what is known."""
        known = ((name, getattr(self, name)) for name in _IN_ROW)
        return [part for name, value in known if value is not None for part in (name, str(value))]


#: What a row keeps of a settlement beside outcome and reason, each under its own name.
_IN_ROW = (
    "exit_code", "error", "result", "fence", "max_rss_kib", "user_s", "system_s", "start_ms", "replaced", "signal",
    "crashes", "cause",
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
    retry: Retry | None = None  #: the run has another attempt, unless its RQ job or its job is gone, or it is to stop
    record_life_s: int | None = None  #: how long RQ keeps its own records; None: see `rq_records`
