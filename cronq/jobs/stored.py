"""A job as Redis has it: definition, state and what a pass of the beat reads of it; and how to read that from replies.

Whatever stands in Redis can be read: a damaged value becomes None or an error that names it, never a traceback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cronq.db.decode import moment, read_json, seconds, texts, whole
from cronq.errors import BadValue, CronqError, SpecTooNew
from cronq.jobs.pause import LATE_S, Pause
from cronq.jobs.skip import Skips, read_skips
from cronq.jobs.spec import JobSpec
from cronq.outcomes import BAD


@dataclass(frozen=True)
class JobState:
    """What changes of a job as its ticks go by. Times and ticks are epoch seconds."""

    mark: int | None  #: the newest tick that was decided; ticks up to here never fire again
    pause: Pause | None
    skips: Skips = ()
    streak: int = 0  #: runs in a row that succeeded, negative: that did not
    last_run: str | None = None
    last_outcome: str | None = None
    last_tick: int | None = None
    last_ended: float | None = None
    success_tick: int | None = None  #: the newest tick whose run succeeded
    first_run: float | None = None  #: when its first run began, of those that this state knows
    ticks: int = 0  #: how many were decided, of a job with `repeat`
    held: int = 0  #: ticks up to here that the mark has not passed are held by the catch-up rate,
    through: int = 0  #: ... but for those up to here, whose turn has come
    slow: str | None = None  #: the run that last ran longer than its `warn_after`, until it ends
    awaits: tuple[int, str] | None = None  #: a mark, and the run for which the next tick waited then

    @property
    def failures(self) -> int:
        """How many runs in a row failed."""
        return max(0, -self.streak)

    @property
    def past(self) -> dict[str, Any]:
        """What a run is told of those before it: fields of `CurrentRun`."""
        return {
            "previous_success": self.success_tick,
            "failures": self.failures,
            "last_run": self.last_run,
            "last_outcome": self.last_outcome,
            "last_ended": self.last_ended,
        }

    def after_end(self, run_id: str, tick: int | None, outcome: str, ended_s: float) -> JobState:
        """What it will be once the end of that run is settled: as `lua/parts/settle_run.lua` writes it."""
        made = replace(self, last_run=run_id, last_outcome=outcome, last_tick=tick, last_ended=ended_s)
        if outcome == "succeeded":
            success = self.success_tick if tick is None else max(tick, self.success_tick or 0)
            return replace(made, streak=max(self.streak, 0) + 1, success_tick=success)
        return made if outcome == "stopped" else replace(made, streak=min(self.streak, 0) - 1)


@dataclass(frozen=True)
class StoredJob:
    """A job as Redis has it."""

    spec: JobSpec
    version: str
    source: str  #: file:line, or who added it on the command line
    origin: str  #: the module that defines it, "cli", "crontab:PATH", or "gone from crontab:PATH"
    state: JobState
    next_tick: int | None
    tz_is_default: bool = False  #: CRONQ_TZ decided its zone, when it was stored

    @property
    def is_over(self) -> bool:
        """Return True if it had ticks to come by its schedule and the last one was taken."""
        if self.spec.schedule is None or self.next_tick is not None:
            return False
        return self.spec.next_after(self.state.mark or 0, self.state.ticks) is None

    @property
    def waits_for(self) -> str | None:
        """The run for which its next tick waits, because they run in order; None when there is none."""
        awaits = self.state.awaits
        return awaits[1] if self.spec.backfill and awaits is not None and awaits[0] == self.state.mark else None

    def waiting_ticks(self, now_s: float) -> int:
        """How many of its ticks are due and wait for that run."""
        schedule, mark = self.spec.schedule, self.state.mark
        if self.waits_for is None or schedule is None or mark is None:
            return 0
        return schedule.count(mark, int(now_s))

    @property
    def held_tick(self) -> int | None:
        """The oldest tick that the catch-up rate holds; None when it holds none, or the turn of that one has come."""
        state = self.state
        if self.spec.schedule is None or state.mark is None or state.held <= max(state.mark, state.through):
            return None
        tick = self.spec.schedule.next_after(state.mark)
        return tick if tick is not None and state.through < tick <= state.held else None

    def slow_run(self, active: Mapping[str, str]) -> str | None:
        """The run at work that takes longer than its job's `warn_after`; None when there is none."""
        slow = self.state.slow
        return slow if slow is not None and active.get(slow) == "running" else None

    def status(self, active: Mapping[str, str], now_s: float) -> str:
        """`finished`, `paused`, `running`, `late`, `failing`, `waiting`, `never` or `ok`, the first that holds."""
        if not active and self.is_over:
            return "finished"
        pause = self.state.pause
        if pause is not None and pause.covers(int(now_s)):
            return "paused"
        if "running" in active.values():
            return "running"
        if self.waits_for is not None:  # late because of that, whether or not a beat is alive
            return "waiting" if self.waits_for in active else "failing"
        due_s = self.spec.due_s(self.next_tick)
        if (due_s is not None and due_s < now_s - LATE_S) or self.held_tick is not None:
            return "late"
        if self.state.streak < 0 or self.state.last_outcome in BAD:
            return "failing"
        if active:
            return "waiting"
        return "ok" if self.state.last_run else "never"


class DueJob(NamedTuple):
    """What one pass of the beat reads of a job whose time has come."""

    name: str
    version: str
    mark: int | None
    pause: Pause | None = None
    damaged: bool = False
    ticks: int = 0  #: how many were decided, of a job with `repeat`
    skips: Skips = ()
    held: int = 0  #: ticks up to here that the mark has not passed are held by the catch-up rate,
    through: int = 0  #: ... but for those up to here, whose turn has come


@dataclass(frozen=True)
class AuditedJob:
    """What an audit saw of one job; `what` is explained in `lua/jobs/audit.lua`."""

    name: str
    what: str
    mark: int | None
    score: float | None
    spec: str
    ticks: int = 0  #: how many were decided, of a job with `repeat`
    held: int | None = None  #: the newest tick that the catch-up rate holds; None when the line has none of it
    trigger: str = ""  #: what starts it, of a job with `after`


@dataclass(frozen=True)
class DueReading:
    """The answer of one look at the agenda; all of one moment."""

    now_s: float
    server_s: float
    epoch: str
    due: list[DueJob]
    next_score: float | None
    newer: int = 0  #: due jobs that were passed by, because a newer cronq stored them
    listed: int = 0  #: how many jobs are on the agenda, due or not
    is_cut: bool = False  #: True: more may be due than was looked at
    #: When the first entry of a store of scheduled jobs is due: of rq-scheduler's store, or of RQ's registries.
    first_stored_s: float | None = None
    next_stored_s: float | None = None  #: the same of the first that is not due yet
    first_retry_s: float | None = None  #: when the first run that waits for its next attempt has it
    next_retry_s: float | None = None  #: the same of the first that is not due yet
    held: int = 0  #: how many runs stand in the catch-up line
    calendars: str = ""  #: the version of all calendars, "" when none was ever set
    beats: int = 1  #: how many beats there are, some of which may have gone lately


def read_pause(raw: str | None) -> Pause | None:
    """The pause in a job's state. One that cannot be read still pauses the job: somebody did not want it to run.

    A pause until a moment that no calendar holds has no end.
    """
    if not raw:
        return None
    try:
        values = read_json(raw)
        since, until = float(values["since"]), values.get("until")
        return Pause(
            since=since if moment(since) is not None else 0,
            by=str(values.get("by", "")),
            note=str(values.get("note", "")),
            until=None if until is None or moment(float(until)) is None else float(until),
        )
    except (BadValue, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return Pause(since=0, note="the stored pause is damaged; resume the job")


def read_family(raw: Any) -> dict[str, list[str]]:
    """The parents in a job's hash, each with the options that name it; what cannot be read is none."""
    try:
        values = read_json(raw or b"{}")
    except (BadValue, TypeError):
        return {}
    pairs = values.items() if isinstance(values, dict) else ()
    return {name: options for name, options in pairs if isinstance(options, list) and options}


def read_due_job(line: str) -> DueJob:
    """One line of `lua/jobs/read_due.lua`'s answer; one that cannot be read is a damaged job, and stops no other."""
    if line[0] != "[":  # as nearly all
        name, version, words = line.split(" ")
        mark = moment(words)
        return DueJob(name, version, mark, None, mark is None)
    name, version, words, pause, ticks, skips, held, through = json.loads(line)
    try:
        mark = moment(words)
        return DueJob(
            name, version, mark, read_pause(pause), version == "!" or mark is None, whole(ticks) or 0,
            read_skips(skips), held=moment(held) or 0, through=moment(through) or 0,
        )  # fmt: skip
    except Exception:
        return DueJob(str(name), "!", None, damaged=True)


def _read_awaits(raw: str | None) -> tuple[int, str] | None:
    """What `lua/parts/in_order.lua` writes: a mark, a space, a run."""
    mark, _, run_id = (raw or "").partition(" ")
    found = moment(mark)
    return None if found is None or not run_id else (found, run_id)


def _next_tick(spec: JobSpec, due_s: int | None, mark: int | None, ticks: int) -> int | None:
    """The tick for which a job stands on the agenda at *due_s*.

    One whose ticks run in order may stand there to be looked at again: then it is the one after the mark.
    """
    if due_s is None:
        return None
    return spec.next_after(mark, ticks) if spec.backfill and mark is not None else spec.tick_due(due_s)


def stored_job(name: str, definition: Any, state: Any, score: Any) -> StoredJob:
    """A job from the replies for its two hashes and its agenda entry. Raises SpecTooNew, CronqError for damage."""
    if not isinstance(definition, dict):
        raise CronqError(f"a job's key has a wrong type ({definition}); a beat moves it aside")
    words = texts(definition)
    known = texts(state) if isinstance(state, dict) else {}
    try:
        spec = JobSpec.from_json(words.get("spec", ""), name=name, layout=whole(words.get("layout")) or 1)
    except SpecTooNew as error:
        error.origin = words.get("origin", "")
        raise
    due_s = moment(score) if isinstance(score, float) else None
    return StoredJob(
        spec=spec,
        version=words.get("version", ""),
        source=words.get("source", ""),
        origin=words.get("origin", ""),
        state=JobState(
            mark=moment(known.get("mark")),
            pause=read_pause(known.get("pause")),
            skips=read_skips(known.get("skips")),
            streak=whole(known.get("streak")) or 0,
            last_run=known.get("last_run"),
            last_outcome=known.get("last_outcome"),
            last_tick=moment(known.get("last_tick")),
            last_ended=seconds(known.get("last_ended")),
            success_tick=moment(known.get("success_tick")),
            first_run=seconds(known.get("first_run")),
            ticks=whole(known.get("ticks")) or 0,
            held=moment(known.get("held")) or 0,
            through=moment(known.get("through")) or 0,
            slow=known.get("slow"),
            awaits=_read_awaits(known.get("awaits")),
        ),
        next_tick=_next_tick(spec, due_s, moment(known.get("mark")), whole(known.get("ticks")) or 0),
        tz_is_default=words.get("default_tz") == spec.tz,  # a release that does not know the field leaves an old one
    )
