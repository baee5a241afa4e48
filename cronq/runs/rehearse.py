"""A day of the ledger held against definitions: what would have become of each tick, with the runs as they were.

Of a tick that ran that day the run takes as long as it did, waits for a worker as long as it did, and ends as it did.
Any other takes the job's median. Pauses and skips are those that the ledger tells of. No Redis and no clock here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from cronq.jobs.pause import LATE_S, Pause
from cronq.jobs.skip import Skip, Skips
from cronq.jobs.spec import JobSpec
from cronq.outcomes import EXECUTED, OUTCOMES
from cronq.runs.run import Run
from cronq.runs.scene import Outage, Scene, Work
from cronq.runs.simulate import simulate
from cronq.runs.simulated_job import SimulatedLedger
from cronq.timetext import format_duration, parse_instant

#: Outcomes of runs that took as long as they take.
_TOOK_THEIR_TIME = ("succeeded", "failed", "timed_out")
#: A tick that was claimed so soon was found by a beat in its time.
_IN_TIME_S = 1.5
#: What becomes of a tick that is worth a line whatever became of it that day.
_COLLISIONS = ("missed", "expired", "timed_out", "coalesced")
#: Where the length of a run comes from, in words.
BASES = {
    "run": "as that day",
    "day": "the median of that day",
    "newest": "the median of its newest runs",
    "none": "no run of it is known",
}


@dataclass(frozen=True)
class Past:
    """What the ledger knows of one job; runs without a tick do not matter."""

    runs: Sequence[Run] = ()  #: of the day, and of the day before as far as they may reach into it
    newest: Sequence[Run] = ()  #: its newest ones, when those took no time that is known


class RehearsedTick(NamedTuple):
    """What would have become of one tick of the day, and what did. Times are epoch seconds."""

    tick: int
    job: str
    outcome: str | None  #: None: by these definitions it is no tick
    recorded: str | None  #: how it ended that day, or the state of a run that is open still; None: no row of it
    reason: str | None
    lateness_s: float | None = None  #: from the tick to the start of its run
    duration_s: float | None = None  #: from the start to the end
    basis: str | None = None  #: a word of `BASES`; None: it did not run
    collides: bool = False  #: it met an earlier run, was late, or did not run to its end in time

    @property
    def differs(self) -> bool:
        """Return True if it ended otherwise that day, or was no tick then or would be none now."""
        is_open = self.recorded is not None and self.recorded not in OUTCOMES
        return self.outcome != self.recorded and (self.outcome is None or not is_open)


@dataclass(frozen=True)
class JobRehearsal:
    """What is otherwise of one job, or collides."""

    job: str
    was: Counter[str]
    now: Counter[str]
    count: int  #: how many of its ticks are otherwise or collide
    first: int  #: the first of those that collide and did not that day, else of those with a row, else of all
    text: str  #: what becomes of that one, and why


@dataclass(frozen=True)
class Rehearsal:
    """What would have become of each tick of a day, by tick and then by job."""

    ticks: list[RehearsedTick]
    notes: tuple[str, ...] = ()  #: what is not known of that day, in words

    def jobs(self) -> list[JobRehearsal]:
        """The jobs of which something is otherwise or collides, by name."""
        by_job: dict[str, list[RehearsedTick]] = {}
        for each in self.ticks:
            by_job.setdefault(each.job, []).append(each)
        told = {job: [each for each in ticks if each.differs or each.collides] for job, ticks in by_job.items()}
        return [_of_job(job, by_job[job], odd) for job, odd in sorted(told.items()) if odd]


def rehearse(
    specs: Iterable[JobSpec], pasts: Mapping[str, Past], scene: Scene, day_s: int, gone: Iterable[str] = ()
) -> Rehearsal:
    """What would have become of the ticks of *specs* from *day_s* on, with the runs of *pasts*.

    *scene* begins earlier, so that runs from before reach into the day; its `duration_s` is for jobs without any run
    that is known. *gone* are jobs that had runs and are defined no more.
    """
    specs = list(specs)
    usual = {spec.name: _usual(pasts.get(spec.name, Past()), day_s) for spec in specs}
    durations = {name: each.duration_s for name, each in usual.items() if each.duration_s is not None}
    runs = {spec.name: _of_ticks(pasts.get(spec.name, Past())) for spec in specs}
    works = {
        name: {tick: work for tick, run in known.items() if (work := _work(run, durations.get(name), scene.end_s))}
        for name, known in runs.items()
    }
    scene = replace(
        scene, durations=durations, works=works, explains=True,
        since={name: min([day_s, *known]) for name, known in runs.items()},  # before its first row it may not have been
        pauses={name: pauses_of(known.values()) for name, known in runs.items()},
        skips={name: skips_of(known.values()) for name, known in runs.items()},
    )  # fmt: skip
    found: list[RehearsedTick] = []
    by_name = {spec.name: spec for spec in specs}
    for ledger in simulate(specs, scene).ledgers:
        name = ledger.job
        found += _rehearsed(by_name[name], ledger, runs[name], works[name], usual[name], day_s)
        found += _no_ticks(name, runs[name], day_s, set(ledger.ticks), scene.end_s)
    for name in gone:
        found += _no_ticks(name, _of_ticks(pasts.get(name, Past())), day_s, set(), scene.end_s)
    unknown = sorted({each.job for each in found if each.basis == "none"})
    took = format_duration(scene.duration_s) if scene.duration_s else "no time"
    notes = (f"no run is known of {', '.join(unknown)}: each took {took}",) if unknown else ()
    return Rehearsal(sorted(found, key=lambda each: (each.tick, each.job)), notes)


def without_beats(outages: Iterable[tuple[float, float]], runs: Iterable[Run], near_s: float) -> list[Outage]:
    """When no beat passed, by what beats noted and by the rows of *runs*.

    They note a pass only each *near_s* seconds: a tick of those seconds that was claimed in its time shows that one was
    still there.
    """
    in_time = [run.tick for run in runs if run.tick is not None and _was_claimed_in_time(run)]
    found = []
    for from_s, to_s in outages:
        last_s = max((tick for tick in in_time if from_s < tick <= min(from_s + near_s, to_s)), default=from_s)
        if int(to_s) > int(last_s) + 1:
            found.append(Outage(int(last_s) + 1, int(to_s)))
    return found


def _was_claimed_in_time(run: Run) -> bool:
    return run.queued_at is not None and run.attempt == 1 and run.queued_at - (run.tick or 0) < _IN_TIME_S


def _of_ticks(past: Past) -> dict[int, Run]:
    """Its runs by tick, the oldest first."""
    return {run.tick: run for run in sorted(past.runs, key=lambda run: run.tick or 0) if run.tick is not None}


class _Usual(NamedTuple):
    """How long a run of a job takes, None when that is not known; and where that comes from, a word of `BASES`."""

    duration_s: float | None
    basis: str


def _usual(past: Past, day_s: int) -> _Usual:
    for basis, runs in (
        ("day", [run for run in past.runs if run.tick is not None and run.tick >= day_s]),
        ("newest", [*past.runs, *past.newest]),
    ):
        took = [run.duration_s for run in runs if run.outcome in _TOOK_THEIR_TIME and run.duration_s is not None]
        if took:
            return _Usual(round(median(took), 3), basis)
    return _Usual(None, "none")


def _work(run: Run, usual_s: float | None, now_s: float) -> Work | None:
    """What *run* did; None when it did nothing, so that another run in its place takes the usual time."""
    if run.outcome == "expired" and usual_s is not None:
        return Work(usual_s, wait_s=_between(run.queued_at, run.ended_at))
    began = run.attempts[0].started_at if run.attempts else run.started_at
    if run.started_at is None or began is None:
        return None
    wait_s = 0.0 if run.attempts else _between(run.queued_at, run.started_at)
    before_s = _between(began, run.started_at)
    if run.outcome is None:  # it is at work still
        return Work(max(usual_s or 0.0, _between(run.started_at, now_s)), "succeeded", before_s, wait_s)
    if run.outcome not in EXECUTED or run.duration_s is None:
        return None
    if run.outcome == "stopped" and (run.reason or "").startswith("replaced by the run "):
        return Work(max(usual_s or 0.0, run.duration_s), "succeeded", before_s, wait_s)  # else it would have gone on
    return Work(run.duration_s, run.outcome, before_s, wait_s)


def _between(begin_s: float | None, end_s: float | None) -> float:
    return 0.0 if begin_s is None or end_s is None else max(0.0, round(end_s - begin_s, 3))


def pauses_of(runs: Iterable[Run]) -> list[Pause]:
    """The pauses of a job, as far as its ticks tell, oldest first; each ends with the last tick that it covered."""
    found: dict[str, Pause] = {}
    for run in runs:
        words = run.reason or ""
        if run.outcome != "paused" or run.tick is None or not words.startswith("paused since "):
            continue  # of a paused queue it says otherwise
        since, _, rest = words.removeprefix("paused since ").partition(" ")
        try:
            since_s = parse_instant(since.rstrip(":"))
        except ValueError:
            continue
        by, note = _by_and_note(rest if not since.endswith(":") else f": {rest}")
        found[words] = Pause(since_s, by, note, run.tick + 1)
    return list(found.values())


def skips_of(runs: Iterable[Run]) -> Skips:
    """The ticks of a job that somebody skipped by name."""
    found = []
    for run in runs:
        words = run.reason or ""
        if run.outcome == "skipped" and run.tick is not None and (words + " ").startswith(("skipped ", "skipped: ")):
            found.append(Skip((run.tick,), *_by_and_note(words.removeprefix("skipped").lstrip(" "))))
    return tuple(found)


def _by_and_note(words: str) -> tuple[str, str]:
    """Who, and the note, of `by ann@box: moving`, `by ann@box`, `: moving` or nothing."""
    by, colon, note = words.partition(": ")
    return by.removeprefix("by "), note if colon else ""


def _rehearsed(
    spec: JobSpec,
    ledger: SimulatedLedger,
    runs: Mapping[int, Run],
    works: Mapping[int, Work],
    usual: _Usual,
    day_s: int,
) -> Iterator[RehearsedTick]:
    """The ticks of the day, by what was simulated of one job."""
    for place, tick in enumerate(ledger.ticks):
        if tick < day_s:
            continue
        run, outcome = runs.get(tick), ledger.outcome(place)
        begun, ended = ledger.begun.get(place), ledger.ended.get(place)
        work = works.get(tick, Work(usual.duration_s or 0.0))
        why = ledger.reasons.get(place), _reason(spec, outcome, run, work)
        late = begun is not None and begun - tick > LATE_S
        yield RehearsedTick(
            tick=tick,
            job=ledger.job,
            outcome=outcome,
            recorded=_recorded(run),
            reason="; ".join(words for words in why if words) or None,
            lateness_s=None if begun is None else round(begun - tick, 3),
            duration_s=None if begun is None or ended is None else round(ended - begun, 3),
            basis=None if begun is None else "run" if tick in works else usual.basis,
            collides=place in ledger.met or outcome in _COLLISIONS or late,
        )


def _reason(spec: JobSpec, outcome: str, run: Run | None, work: Work) -> str | None:
    """Why the run of a tick, once it is at work, ends in *outcome*."""
    if outcome == "timed_out" and work.duration_s > spec.timeout:
        return f"it took {format_duration(work.duration_s)}; timeout is {format_duration(spec.timeout)}"
    if run is None or run.outcome != outcome or outcome not in EXECUTED or outcome == "succeeded":
        return None
    if outcome == "timed_out":
        return "it was ended then that day, so nobody knows how long it takes"
    return run.reason


def _recorded(run: Run | None) -> str | None:
    return None if run is None else run.outcome or run.state


def _no_ticks(job: str, runs: Mapping[int, Run], day_s: int, ticks: set[int], end_s: int) -> Iterator[RehearsedTick]:
    """What the ledger has of the day that is no tick any more."""
    for tick, run in runs.items():
        if day_s <= tick < end_s and tick not in ticks:
            yield RehearsedTick(tick, job, None, _recorded(run), "no tick by these definitions")


def _of_job(job: str, ticks: Sequence[RehearsedTick], odd: Sequence[RehearsedTick]) -> JobRehearsal:
    was = Counter(each.recorded for each in ticks if each.recorded is not None)
    now = Counter(each.outcome for each in ticks if each.outcome is not None)
    told = min(odd, key=lambda each: (not (each.collides and each.differs), each.recorded is None, each.tick))
    return JobRehearsal(job, was, now, len(odd), told.tick, _text(told))


def _text(tick: RehearsedTick) -> str:
    if tick.outcome is None:
        return "no tick any more"
    words = [f"{tick.outcome}: {tick.reason}" if tick.reason else tick.outcome]
    if tick.recorded is None:
        words.insert(0, "new")
    elif tick.differs:
        words.insert(0, f"was {tick.recorded}")
    if tick.lateness_s is not None and tick.lateness_s > LATE_S:
        words.append(f"{format_duration(tick.lateness_s)} late")
    if tick.basis not in (None, "run"):
        words.append(BASES[tick.basis or ""])
    return "; ".join(words)
