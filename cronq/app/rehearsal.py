"""A day of the ledger held against definitions of modules or of Redis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from math import ceil
from zoneinfo import ZoneInfo

from cronq.app.diff import part_of, passed_of
from cronq.app.parts import Parts
from cronq.app.simulation import Jobs, counted, defined_jobs, with_calendars
from cronq.errors import CronqError
from cronq.hosts.outages import KEPT_S, NOTE_PASS_EVERY_S
from cronq.jobs.keyed import following
from cronq.jobs.stored import StoredJob
from cronq.runs.history import Wanted, newest_rows
from cronq.runs.recorded import Past, without_beats
from cronq.runs.rehearse import Rehearsal, rehearse
from cronq.runs.run import Run
from cronq.runs.scene import Outage, Scene
from cronq.runs.store import Period, RunStore
from cronq.timetext import DAY_S, format_duration

#: Of the day before so many rows of each job are read, to know which runs reach into the day.
_ROWS_BEFORE = 200
#: Of a job that did not run that day so many of its newest rows say how long it takes.
_NEWEST_ROWS = 50


def rehearse_day(
    parts: Parts,
    modules: Sequence[str],
    day: date,
    tz: str = "UTC",
    *,
    outages: Sequence[Outage] = (),
    duration_s: float = 0.0,
) -> tuple[Rehearsal, list[CronqError]]:
    """See `SimulationVerbs.rehearse`; a few round trips a job, and more for many ticks."""
    now_s = parts.now_s()
    period = part_of(day, passed_of(day, tz, now_s), ZoneInfo(tz))
    assert period.since_s is not None
    assert period.until_s is not None
    start_s, end_s = int(period.since_s), ceil(period.until_s)
    stored, problems = parts.read_jobs()
    jobs, gone = _jobs(parts, modules, stored, problems)
    everything = [*jobs.specs, *jobs.ancestors]
    pasts = {name: _past(parts.runs, name, period) for name in [*(spec.name for spec in everything), *gone]}
    away = [(each.from_s, now_s if each.to_s is None else each.to_s) for each in parts.outage_notes.read(now_s)]
    all_runs: Iterable[Run] = (run for past in pasts.values() for run in past.runs)
    scene = Scene(
        start_s - DAY_S, end_s, duration_s=duration_s, counted=counted(stored),
        outages=[*outages, *without_beats(away, all_runs, NOTE_PASS_EVERY_S)],
    )  # fmt: skip
    scene = with_calendars(parts, everything, scene)
    found = rehearse(jobs.specs, pasts, scene, start_s, ancestors=jobs.ancestors, gone=gone)
    if start_s < now_s - KEPT_S:
        words = f"outages of beats are kept for {format_duration(KEPT_S)}, so those of that day are not known"
        found = replace(found, notes=(*found.notes, words))
    return found, jobs.problems


def _jobs(
    parts: Parts, modules: Sequence[str], stored: list[StoredJob], problems: list[CronqError]
) -> tuple[Jobs, list[str]]:
    """The jobs to rehearse, and the names of stored ones that a sync would remove."""
    if not modules:
        return Jobs([job.spec for job in stored], [], problems), []
    jobs = defined_jobs(parts, modules)
    by_name = {spec.name: spec for spec in jobs.specs}
    keyed = [following(of, job.spec) for job in stored if (of := by_name.get(job.spec.of or "")) is not None]
    gone = parts.definitions().farewell(modules, by_name).going
    return jobs._replace(specs=[*jobs.specs, *keyed]), gone


def _past(runs: RunStore, name: str, period: Period) -> Past:
    """What the ledger knows of a job; two round trips, and more for many ticks."""
    assert period.since_s is not None
    before = Period(period.since_s - DAY_S, period.since_s - 0.001)
    found = newest_rows(runs, [name], Wanted(period=period))
    found += newest_rows(runs, [name], Wanted(_ROWS_BEFORE, period=before))
    if any(run.duration_s is not None for run in found):
        return Past(found)
    return Past(found, newest_rows(runs, [name], Wanted(_NEWEST_ROWS)))
