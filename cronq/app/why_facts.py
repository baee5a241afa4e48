"""Gathers what is known of a tick, and has `runs/why` say why it ended as it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from cronq.app.parts import Parts
from cronq.errors import CronqError
from cronq.hosts.deploys import deploy_at
from cronq.jobs.calendar import NO_CALENDARS
from cronq.jobs.change_notes import spec_at
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import JobState, StoredJob
from cronq.locks.held import read_locks
from cronq.outcomes import BAD
from cronq.runs.cause import Parent
from cronq.runs.due import excluded
from cronq.runs.facts import Answer, Facts, Gap, ParentFact, Redeploy
from cronq.runs.history import Wanted, newest_rows
from cronq.runs.run import Run
from cronq.runs.store import Period
from cronq.runs.why import explain, late_tick
from cronq.runs.why_changes import tick_in
from cronq.runs.why_parents import in_order_of_trouble
from cronq.schedule.moment import parse_moment_s
from cronq.schedule.zone import Zone, find_zone
from cronq.timetext import DAY_S, iso

#: So many parents are looked at, and so many runs for the last one that succeeded.
_MOST_PARENTS, _MOST_BEFORE = 20, 50


def why(parts: Parts, name: str, at: str | datetime | None = None) -> Answer:
    """Why the tick of a job *at* a moment ended as it did; without one the newest, or the trouble of the present.

    A moment without an offset is of the job's zone. A few round trips. Raises UnknownJob, and ValueError for what is no
    moment.
    """
    job = parts.jobs.find([name]).get(name)
    if job is None:
        return _of_removed(parts, name, at)
    if isinstance(job, CronqError):
        raise job
    at_s, left_out = _moment(at, job.spec.tz) if at is not None else (None, None)
    facts = _facts(parts, job, at_s, left_out)
    return explain(replace(facts, parents=_parents(parts, facts)))


def _of_removed(parts: Parts, name: str, at: str | datetime | None) -> Answer:
    """The same of a job that is no more, as long as its history is kept; of its schedule nothing is known."""
    notes = parts.jobs.notes_of(name)
    if not notes or notes[0].what != "job_removed":
        parts.jobs.get(name)  # raises
    job = StoredJob(JobSpec(name), "", "", "", JobState(None, None), None)
    at_s = _moment(at, "UTC")[0] if at is not None else None
    run = _run_about(parts, name, at_s)
    tick = run.tick if run is not None else None
    return explain(Facts(job, parts.now_s(), tick, at_s, run=run, notes=notes, removal=notes[0]))


def _run_about(parts: Parts, name: str, at_s: int | None) -> Run | None:
    """The newest run of a job, or that of a tick in the second *at_s*, or in that minute."""
    period = Period() if at_s is None else Period(at_s, at_s if at_s % 60 else at_s + 59)
    rows = newest_rows(parts.runs, [name], Wanted(1 if at_s is None else _MOST_BEFORE, period=period))
    return next((run for run in rows if at_s is None or run.tick is not None), None)


def _facts(parts: Parts, job: StoredJob, at_s: int | None, left_out: str | None = None) -> Facts:
    """All but the parents."""
    name, now_s = job.spec.name, parts.now_s()
    notes = parts.jobs.notes_of(name)
    run: Run | None = None
    if left_out is not None:
        tick = None
    elif at_s is not None and job.spec.after:
        run = _run_about(parts, name, at_s)
        tick = run.tick if run is not None else None
    elif at_s is not None:
        then, _ = spec_at(job.spec, notes, at_s)
        tick = tick_in(then, at_s)
        run = _first_found(parts, name, (tick, tick_in(job.spec, at_s), at_s))
        tick = run.tick if run is not None else tick
    else:
        tick = late_tick(job, now_s)
        run = _run_about(parts, name, None) if tick is None else None
        tick = run.tick if run is not None else tick
    last_good = _last_good(parts, job, run) if run is not None and run.outcome in BAD else None
    beats, _ = parts.heartbeats.read("beats")
    queue = run.queue if run is not None else job.spec.queue
    return Facts(
        job=job,
        now_s=now_s,
        tick=tick,
        at_s=at_s,
        left_out=left_out,
        run=run,
        other=_in_its_way(parts, run),
        excluded=_excluded(parts, job, tick) if run is None and tick is not None and tick > now_s else None,
        lock_holder=_lock_holder(parts, run),
        awaited=parts.runs.find(job.waits_for) if job.waits_for is not None else None,
        around=_around(parts, name, at_s) if job.spec.after and at_s is not None and run is None else (None, None),
        notes=notes,
        last_good=last_good,
        redeploy=_redeploy(parts, job, last_good, run) if run is not None and last_good is not None else None,
        gaps=[Gap(each.from_s, each.to_s, each.why, each.words) for each in parts.outage_notes.read(now_s)],
        beats=sum(each.is_alive(now_s) for each in beats),
        is_served=_is_served(parts, queue, now_s),
        place=_place(parts, name, tick) if run is None else None,
        held_by=_held_by(parts, queue),
    )


def _first_found(parts: Parts, name: str, ticks: Iterable[int | None]) -> Run | None:
    """The run of the first of *ticks* that the ledger has."""
    for tick in dict.fromkeys(ticks):
        run = parts.runs.run_at(name, tick) if tick is not None else None
        if run is not None:
            return run
    return None


def _around(parts: Parts, name: str, at_s: int) -> tuple[Run | None, Run | None]:
    """The runs of the ticks before and after a moment, of a job that runs after others."""
    before = newest_rows(parts.runs, [name], Wanted(_MOST_BEFORE, period=Period(None, at_s - 1)))
    return next((run for run in before if run.tick is not None), None), parts.runs.first_after(name, at_s)


def _last_good(parts: Parts, job: StoredJob, run: Run) -> Run | None:
    """The run before *run* that succeeded; None when it is not among the last ones, or there is none."""
    name, newest = job.spec.name, job.state.success_tick
    if run.tick is not None and newest is not None and newest < run.tick:
        return parts.runs.run_at(name, newest)
    until_s = run.tick - 1 if run.tick is not None else run.queued_at
    if until_s is None:
        return None
    before = newest_rows(parts.runs, [name], Wanted(_MOST_BEFORE, period=Period(None, until_s)))
    return next((each for each in before if each.outcome == "succeeded" and each.run_id != run.run_id), None)


def _redeploy(parts: Parts, job: StoredJob, good: Run, run: Run) -> Redeploy | None:
    """What was deployed between the run *good* and a later one; None when nothing was, or nobody knows."""
    if good.started_at is None or run.started_at is None or not good.host or not run.host:
        return None
    deploys, module = parts.deploys.read(), (job.spec.function or "").partition(":")[0] or None
    before = deploy_at(deploys, good.host, module, good.started_at)
    now = deploy_at(deploys, run.host, module, run.started_at)
    if before is None or now is None or not now.is_other_than(before):
        return None
    words = (("revision", before.revision, now.revision), ("code", before.code, now.code))
    changes = [each for each in (*words, ("cronq", before.version, now.version)) if each[1] != each[2]]
    if changes and changes[0][0] == "revision":  # that says it; the hash of the code is only for those who name none
        changes = [each for each in changes if each[0] != "code"]
    return Redeploy(now.at_s, now.host, tuple(changes))


def _parents(parts: Parts, facts: Facts) -> list[ParentFact]:
    """The parents of which the answer speaks: first what will never come by itself."""
    job, run = facts.job, facts.run
    cause = run.cause if run is not None else None
    wanted: tuple[Parent, ...] = ()
    further: set[str] = set()
    if cause is not None and cause.code in ("waits_for_parents", "blocked"):
        wanted = cause.parents
    elif job.spec.after and (run is None or (facts.at_s is None and run.outcome is not None)):
        further = parts.jobs.came_further(job)
        wanted = tuple(Parent(name, None) for name in job.spec.after)
    if not wanted or (job.spec.after and run is not None and not further):
        return []
    here = [parent for parent in wanted if parent.name not in further][:_MOST_PARENTS]
    known = parts.jobs.find([parent.name for parent in here])
    found = sorted((_parent(parts, parent, known.get(parent.name)) for parent in here), key=in_order_of_trouble)
    if found and isinstance(first := known.get(found[0].name), StoredJob):
        found[0] = replace(found[0], behind=explain(_facts(parts, first, found[0].tick)))
    looked_at = {parent.name for parent in here}
    others = [parent for parent in wanted if parent.name not in looked_at]
    return found + [ParentFact(each.name, each.tick, each.state, has_come=each.name in further) for each in others]


def _parent(parts: Parts, parent: Parent, job: StoredJob | CronqError | None) -> ParentFact:
    name, tick = parent.name, parent.tick
    if job is None:
        notes = parts.jobs.notes_of(name)
        removal = notes[0] if notes and notes[0].what == "job_removed" else None
        return ParentFact(name, tick, parent.state, is_job=False, removal=removal)
    run = parts.runs.run_at(name, tick) if tick is not None else _run_about(parts, name, None)
    return ParentFact(name, tick, parent.state, run=run)


def _moment(at: str | datetime, tz: str) -> tuple[int, str | None]:
    """*at* as epoch seconds; and as it was written, when it is a time of *tz* that the clocks leave out."""
    zone = find_zone(tz)
    try:
        return parse_moment_s(at, zone), None
    except ValueError:
        left_out_s = _left_out_s(at, zone)
        if left_out_s is None:
            raise
        return left_out_s, at if isinstance(at, str) else at.isoformat()


def _left_out_s(at: str | datetime, zone: Zone) -> int | None:
    """The instant at which a clock that was not set forward would show *at*; None when it is no time left out."""
    try:
        local = datetime.fromisoformat(at.strip()) if isinstance(at, str) else at
    except ValueError:
        return None
    local_s = int(local.replace(tzinfo=UTC).timestamp())
    if local.tzinfo is not None or zone.instant_of(local_s) is not None:
        return None
    return local_s - zone.stretch_at(local_s - DAY_S).offset_s


def _in_its_way(parts: Parts, run: Run | None) -> Run | None:
    """The earlier run for which a tick was skipped, or for which a run waits."""
    cause = run.cause if run is not None else None
    names_one = cause is not None and cause.code in ("overlap", "waits_for_run")
    return parts.runs.find(cause.other) if names_one and cause is not None and cause.other else None


def _excluded(parts: Parts, job: StoredJob, tick: int) -> str | None:
    """Why a tick to come will not run, as its pause, its skips and its calendars are now."""
    calendars = parts.calendars.read_sound() if job.spec.calendars else NO_CALENDARS
    found = excluded(job.spec, tick, job.state.pause, calendars, job.state.skips)
    return None if found is None else found.reason


def _lock_holder(parts: Parts, run: Run | None) -> str | None:
    """Who holds the lock that a run waits for, in words; None when it waits for none, or that is free by now."""
    cause = run.cause if run is not None else None
    if cause is None or cause.code != "waits_for_lock" or cause.other is None:
        return None
    for held in read_locks(parts.client, parts.keys, [cause.other]):
        who = held.run_id or (f"pid {held.pid}" if held.pid is not None else "a program that is not cronq's")
        where = f" on {held.host}" if held.host is not None else ""
        return f"{who}{where}" + (f" since {iso(int(held.since))}" if held.since is not None else "")
    return None


def _place(parts: Parts, name: str, tick: int | None) -> int | None:
    """The place of a tick that nobody has claimed in the catch-up line; None when it does not stand there."""
    return None if tick is None else parts.catchup_line.numbers([(name, tick)])[0]


def _is_served(parts: Parts, queue: str, now_s: float) -> bool:
    workers, _ = parts.heartbeats.read("workers")
    return any(each.is_alive(now_s) and queue in each.facts.get("queues", ()) for each in workers)


def _held_by(parts: Parts, queue: str) -> str | None:
    """Who paused *queue*, or drained all workers, and why; None when nobody did."""
    held = {hold.what: hold for hold in parts.holds.read()}
    if f"queue:{queue}" in held:
        return f"queue {queue} is {held[f'queue:{queue}']}"
    return f"all workers are drained, {held['all']}" if "all" in held else None
