"""A day of the ledger held against definitions: what would have become of each tick, with the runs as they were.

Of a tick that ran that day the run takes as long as it did, waits for a worker as long as it did, and ends as it did.
Any other takes the job's median. Pauses and skips are those that the ledger tells of. No Redis and no clock here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cronq.jobs.pause import LATE_S
from cronq.jobs.spec import JobSpec
from cronq.outcomes import EXECUTED, OUTCOMES
from cronq.runs.recorded import (
    BASES,
    Past,
    Usual,
    by_hand,
    is_whole,
    passed_ticks,
    pauses_of,
    skips_of,
    usual_length,
    works_of,
)
from cronq.runs.run import Run
from cronq.runs.scene import Scene, Work
from cronq.runs.simulate import simulate
from cronq.runs.simulated_ledger import SimulatedLedger
from cronq.timetext import format_duration

#: What becomes of a tick that is worth a line whatever became of it that day.
_COLLISIONS = ("missed", "expired", "timed_out", "coalesced", "blocked", "waiting")


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
    specs: Iterable[JobSpec],
    pasts: Mapping[str, Past],
    scene: Scene,
    day_s: int,
    *,
    ancestors: Iterable[JobSpec] = (),
    gone: Iterable[str] = (),
) -> Rehearsal:
    """What would have become of the ticks of *specs* from *day_s* on, with the runs of *pasts*.

    *scene* begins earlier, so that runs from before reach into the day; its `duration_s` is for jobs without any run
    that is known. *ancestors* are other jobs that those wait for, *gone* are jobs with runs that are defined no more.
    """
    shown, ancestors = list(specs), list(ancestors)
    specs = [*shown, *ancestors]
    usual = {spec.name: usual_length(pasts.get(spec.name, Past()), day_s) for spec in specs}
    durations = {name: each.duration_s for name, each in usual.items() if each.duration_s is not None}
    runs = {spec.name: pasts.get(spec.name, Past()).by_tick for spec in specs}
    works = {name: works_of(known, durations.get(name, scene.duration_s), scene.end_s) for name, known in runs.items()}
    scene = replace(
        scene, durations=durations, works=works, explains=True,
        since={spec.name: _since(spec, runs[spec.name], scene, day_s) for spec in specs},
        pauses={name: pauses_of(known.values()) for name, known in runs.items()},
        skips={name: skips_of(known.values()) for name, known in runs.items()},
        passed={spec.name: passed_ticks(runs[spec.name]) for spec in specs if spec.backfill},
        known_ticks={name: list(known) for name, known in runs.items()},
        by_hand={name: by_hand(past.runs) for name, past in pasts.items()},
    )  # fmt: skip
    found: list[RehearsedTick] = []
    by_name = {spec.name: spec for spec in specs}
    for ledger in simulate(shown, scene, ancestors).ledgers:
        name = ledger.job
        found += _rehearsed(by_name[name], ledger, runs[name], works[name], usual[name], day_s)
        found += _no_ticks(name, runs[name], day_s, set(ledger.ticks), scene.end_s)
    for name in gone:
        found += _no_ticks(name, pasts.get(name, Past()).by_tick, day_s, set(), scene.end_s)
    unknown = sorted({each.job for each in found if each.basis == "none"})
    took = format_duration(scene.duration_s) if scene.duration_s else "no time"
    notes = (f"no run is known of {', '.join(unknown)}: each took {took}",) if unknown else ()
    return Rehearsal(sorted(found, key=lambda each: (each.tick, each.job)), notes)


def _since(spec: JobSpec, runs: Mapping[int, Run], scene: Scene, day_s: int) -> int:
    """From when on a job is gone through: its first row, before which it may not have been; or its last start before
    the day, from which on it counts what its parents do."""
    if spec.after:
        return max((tick for tick in runs if tick < day_s), default=scene.start_s)
    return min([day_s, *runs])


def _rehearsed(
    spec: JobSpec,
    ledger: SimulatedLedger,
    runs: Mapping[int, Run],
    works: Mapping[int, Work],
    usual: Usual,
    day_s: int,
) -> Iterator[RehearsedTick]:
    """The ticks of the day, by what was simulated of one job."""
    for place, tick in enumerate(ledger.ticks):
        if tick < day_s:
            continue
        run, outcome = runs.get(tick), ledger.outcome(place)
        begun, ended = ledger.times(place)
        work = works.get(tick, Work(usual.duration_s or 0.0))
        why = ledger.reasons.get(place), _reason(spec, outcome, run, work)
        late = begun is not None and begun - ledger.opened.get(place, tick) > LATE_S
        yield RehearsedTick(
            tick=tick,
            job=ledger.job,
            outcome=outcome,
            recorded=_recorded(run),
            reason="; ".join(words for words in why if words) or None,
            lateness_s=None if begun is None else round(begun - tick, 3),
            duration_s=None if begun is None or ended is None else round(ended - begun, 3),
            basis=None if begun is None else "run" if run is not None and is_whole(run) else usual.basis,
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
