"""The JSON documents of `cronq … --json`, for every face: stable keys, times in UTC, what is absent is null."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from cronq.app.stats_view import figures
from cronq.outcomes import BAD
from cronq.timetext import iso

# `explain` and `config` need no Redis, and so this brings none. `X as X`: faces take the names of these from here.
if TYPE_CHECKING:
    from cronq.app.backfilling import Backfilling as Backfilling
    from cronq.app.backfilling import BackfillTick as BackfillTick
    from cronq.app.graph import JobGraph as JobGraph
    from cronq.app.held_runs import CatchupReading as CatchupReading
    from cronq.app.held_runs import DroppedTicks as DroppedTicks
    from cronq.app.held_runs import HeldRun as HeldRun
    from cronq.app.upcoming import UpcomingTick
    from cronq.config import Config
    from cronq.definitions.crontab_import import CrontabReport as CrontabReport
    from cronq.definitions.plan import Plan as Plan
    from cronq.definitions.plan import PlannedChange as PlannedChange
    from cronq.definitions.sync import SyncReport as SyncReport
    from cronq.hosts.drain import Hold as Hold
    from cronq.hosts.heartbeats import Heartbeat as Heartbeat
    from cronq.interop.scheduled import ScheduledEntry as ScheduledEntry
    from cronq.jobs.calendar import Calendar as Calendar
    from cronq.jobs.change_notes import ChangeNote as ChangeNote
    from cronq.jobs.pause import Pause as Pause
    from cronq.jobs.spec import JobSpec as JobSpec
    from cronq.jobs.stored import StoredJob as StoredJob
    from cronq.monitor.checks import Finding as Finding
    from cronq.runs.diff import Difference
    from cronq.runs.rehearse import Rehearsal as Rehearsal
    from cronq.runs.run import Attempt
    from cronq.runs.run import Run as Run
    from cronq.runs.simulate import Simulation as Simulation
    from cronq.runs.stats import RunStats as RunStats
    from cronq.schedule.schedule import Schedule


def command_text(spec: JobSpec) -> str:
    """The command of a job as one would type it, its shell included."""
    assert spec.command is not None
    shell = "/bin/sh" if spec.shell is True else spec.shell
    return f"{shell} -c {shlex.quote(spec.command[0])}" if shell else shlex.join(spec.command)


def schedule_text(spec: JobSpec) -> str:
    """What makes a job run: its schedule, the jobs that it runs after, or somebody's hand."""
    if spec.after:
        return f"after {', '.join(spec.after)}"
    if spec.schedule is None:
        return "(by hand)"
    return str(spec.schedule) if spec.tz == "UTC" else f"{spec.schedule} {spec.tz}"


def job_row(
    job: StoredJob,
    active: Mapping[str, str],
    now_s: float,
    excluded: str | None = None,
    held: HeldRun | None = None,
) -> dict[str, Any]:
    """One row of `list`; *active* are its open runs and their states, *excluded* is why its next tick will not run.

    *held* is its next late run that the catch-up rate holds.
    """
    spec, state = job.spec, job.state
    return {
        "name": spec.name,
        "schedule": str(spec.schedule) if spec.schedule is not None else None,
        "timezone": spec.tz,
        "depends_on": list(spec.depends_on),
        "after": list(spec.after),
        "description": spec.description or None,
        "runs": spec.function if spec.command is None else command_text(spec),
        "run_as": spec.run_as,
        "queue": spec.queue,
        "status": job.status(active, now_s),
        "paused": None if state.pause is None else {
            "since": iso(int(state.pause.since)),
            "by": state.pause.by or None,
            "note": state.pause.note or None,
            "until": iso(state.pause.until),
        },
        "next": iso(job.next_tick),
        "excluded": excluded,
        "last": None if state.last_run is None else {
            "run_id": state.last_run,
            "tick": iso(state.last_tick),
            "outcome": state.last_outcome,
            "ended_at": iso(state.last_ended),
        },
        "streak": state.streak,
        "slow": job.slow_run(active),
        "waits_for": job.waits_for,
        "waiting_ticks": job.waiting_ticks(now_s),
        "held": None if held is None else {
            "tick": iso(held.tick), "place": held.place, "due_in_s": round(held.due_in_s, 3),
        },
    }  # fmt: skip


def job_document(
    job: StoredJob,
    active: Mapping[str, str],
    now_s: float,
    excluded: str | None = None,
    runs: Iterable[Run] = (),
    children: Iterable[str] = (),
    changes: Iterable[ChangeNote] = (),
    held: HeldRun | None = None,
    stats: RunStats | None = None,
) -> dict[str, Any]:
    """`show`: the row of `list`, the whole spec, and where the job came from.

    *runs* are those at work and the last, *children* the jobs that name it as a parent, *changes* the notes on its last
    changes, *stats* the figures of its newest runs.
    """
    known = {run.run_id: run for run in runs}
    begun = [run.started_at for run in known.values() if run.state == "running" and run.started_at is not None]
    last = known.get(job.state.last_run or "")
    return job_row(job, active, now_s, excluded, held) | {
        "timezone_from": "CRONQ_TZ" if job.tz_is_default else None,
        "spec": asdict(job.spec),
        "source": job.source,
        "origin": job.origin,
        "version": job.version,
        "parents": list(job.spec.parents),
        "children": list(children),
        "previous_success": iso(job.state.success_tick),
        "first_run": iso(job.state.first_run),
        "ongoing_since": iso(min(begun, default=None)),
        "failures": job.state.failures,
        "last_error": None if last is None or last.outcome not in BAD else _last_error(last),
        "ticks": job.state.ticks if job.spec.repeat is not None else None,
        "active": dict(active),
        "skips": [
            {"tick": iso(tick), "by": skip.by or None, "note": skip.note or None, "since": iso(int(skip.at_s))}
            for skip in job.state.skips
            for tick in skip.ticks
            if tick > (job.state.mark or 0)
        ],
        "meaning": job.spec.schedule.describe() if job.spec.schedule is not None else None,
        "changes": [_change_row(note) for note in changes],
        "stats": None if stats is None else figures(stats),
    }  # fmt: skip


def _last_error(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "outcome": run.outcome,
        "reason": run.reason,
        "error": run.error,
        "ended_at": iso(run.ended_at),
    }


def _change_row(note: ChangeNote) -> dict[str, Any]:
    """One entry of its `changes`."""
    return {
        "at": iso(int(note.at_s)),
        "by": note.by or None,
        "what": note.what,
        "options": list(note.options),
        "schedule_before": note.was,
        "note": note.words or None,
    }


def graph_document(graph: JobGraph, states: Mapping[str, str]) -> dict[str, Any]:
    """`graph`; *states* are those of the jobs that there are."""
    return {
        "jobs": [
            {
                "name": name,
                "schedule": None if job is None or job.spec.schedule is None else str(job.spec.schedule),
                "status": states.get(name),
                "next": None if job is None else iso(job.next_tick),
                "parents": [edge.parent for edge in graph.parents.get(name, ())],
                "children": [edge.child for edge in graph.children.get(name, ())],
            }
            for name, job in graph.jobs.items()
        ],
        "edges": [edge._asdict() for edge in graph.edges],
    }


def tick_row(upcoming: UpcomingTick) -> dict[str, Any]:
    """One row of `next`."""
    return {"name": upcoming.job.spec.name, "tick": iso(upcoming.tick), "excluded": upcoming.excluded}


def calendar_row(calendar: Calendar, jobs: list[str]) -> dict[str, Any]:
    """One row of `calendar list`, and `calendar show`; *jobs* are those that name it."""
    return {
        "name": calendar.name,
        "dates": [str(each) for each in calendar.dates],
        "weekly": [each.text for each in calendar.weekly],
        "timezone": calendar.tz,
        "note": calendar.note or None,
        "by": calendar.by or None,
        "set_at": iso(int(calendar.at_s)),
        "jobs": jobs,
    }


def schedule_document(
    expression: str,
    schedule: Schedule,
    ticks: Iterable[int],
    notes: list[str],
    excluded: Mapping[int, str],
    *,
    tz_is_default: bool,
) -> dict[str, Any]:
    """`explain`; *excluded* says why some of the ticks would not run."""
    return {
        "expression": expression,
        "text": schedule.describe(),
        "timezone": schedule.tz,
        "timezone_from": "CRONQ_TZ" if tz_is_default else None,
        "dst": schedule.dst,
        "next": [iso(tick) for tick in ticks],
        "excluded": [{"tick": iso(tick), "reason": reason} for tick, reason in sorted(excluded.items())],
        "warnings": notes,
    }


def run_row(run: Run) -> dict[str, Any]:
    """One row of `history`."""
    return {
        "job": run.job,
        "run_id": run.run_id,
        "tick": iso(run.tick),
        "state": run.state,
        "outcome": run.outcome,
        "reason": run.reason,
        "decided_by": run.decided_by,
        "trigger": run.trigger,
        "attempt": run.attempt,
        "host": run.host,
        "pid": run.pid,
        "queued_at": iso(run.queued_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "lateness_s": run.lateness_s,
        "beat_delay_s": run.beat_delay_s,
        "queue_wait_s": run.queue_wait_s,
        "start_delay_s": run.start_delay_s,
        "replaced": run.replaced,
        "duration_s": run.duration_s,
        "exit_code": run.exit_code,
        "error": run.error,
        "result": run.result,
        "attempts": [_attempt_row(attempt) for attempt in run.attempts],
        "signal": run.signal,
        "max_rss_kib": run.max_rss_kib,
        "user_s": run.user_s,
        "system_s": run.system_s,
        "crashes": run.crashes,
        "retry_at": iso(run.retry_at),
        "cause": run.cause.code if run.cause is not None else None,
        "other": run.cause.other if run.cause is not None else None,
    }


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    """One entry of its `attempts`."""
    return {
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "decided_by": attempt.decided_by,
        "host": attempt.host,
        "pid": attempt.pid,
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "duration_s": attempt.duration_s,
        "exit_code": attempt.exit_code,
        "error": attempt.error,
    }


def catchup_document(reading: CatchupReading) -> dict[str, Any]:
    """`catchup`: the line of held runs, the next one first."""
    return {
        "runs": [_held_row(run) for run in reading.runs],
        "rate": reading.per_s or None,
        "done_in_s": round(reading.done_in_s, 3),
    }


def _held_row(run: HeldRun) -> dict[str, Any]:
    """One entry of its `runs`."""
    return {
        "job": run.job,
        "tick": iso(run.tick),
        "priority": run.priority,
        "place": run.place,
        "due_in_s": round(run.due_in_s, 3),
    }


def dropped_row(dropped: DroppedTicks) -> dict[str, Any]:
    """One row of `catchup --drop`."""
    return {"job": dropped.job, "ticks": dropped.ticks, "first": iso(dropped.first), "last": iso(dropped.last)}


def backfill_document(filling: Backfilling) -> dict[str, Any]:
    """`backfill`: each tick of the span, oldest first, and where it stopped."""
    failed = filling.failed
    return {
        "job": filling.spec.name,
        "ticks": [_backfill_row(tick) for tick in filling.ticks],
        "stopped_by": None if failed is None else failed.run_id,
        "left": len(filling.unfinished),
    }


def _backfill_row(tick: BackfillTick) -> dict[str, Any]:
    """One entry of its `ticks`."""
    return {
        "tick": iso(tick.tick),
        "run_id": tick.run_id,
        "state": tick.is_now,
        "ran": tick.is_ours,
        "outcome": tick.outcome,
        "reason": tick.reason,
        "attempt": None if tick.run is None else tick.run.attempt,
        "duration_s": None if tick.run is None else tick.run.duration_s,
    }


def difference_row(difference: Difference) -> dict[str, Any]:
    """One row of `diff`."""
    return {
        "job": difference.job,
        "kind": difference.kind,
        "count": difference.count,
        "first": iso(difference.first),
        "text": difference.text,
    }


def delayed_row(entry: ScheduledEntry) -> dict[str, Any]:
    """One row of `delayed`."""
    return {
        "id": entry.id,
        "kind": entry.kind,
        "job": entry.job,
        "queue": entry.queue,
        "due": iso(entry.due_s),
        "repeats": entry.repeats,
        "note": entry.note,
    }


def beat_row(beat: Heartbeat, now_s: float) -> dict[str, Any]:
    """One row of `beats`."""
    claimed = f"{beat.facts.get('won', 0)} ticks claimed"
    return _process_row(beat, now_s, "holding: the server's clock jumped" if beat.facts.get("holding") else claimed)


def worker_row(worker: Heartbeat, now_s: float, run_id: str | None) -> dict[str, Any]:
    """One row of `workers`; *run_id* is what the worker is busy with."""
    row = _process_row(worker, now_s, run_id if run_id is not None else worker.facts.get("held"))
    known = {name: worker.facts.get(name) or None for name in ("version", "revision")}
    return row | {"queues": worker.facts.get("queues", []), "replaced": worker.facts.get("replaced", {})} | known


def _process_row(heartbeat: Heartbeat, now_s: float, doing: str | None) -> dict[str, Any]:
    return {
        "id": heartbeat.id,
        "host": heartbeat.host,
        "pid": heartbeat.pid,
        "started_at": iso(heartbeat.started_at),
        "heartbeat_age_s": round(max(0.0, now_s - heartbeat.seen_at), 1),
        "clock_offset_s": heartbeat.facts.get("clock_offset_s"),
        "doing": doing,
    }


def hold_row(hold: Hold) -> dict[str, Any]:
    """One row of `drain --list`, and of what a drain holds or lifted."""
    return {"what": hold.what, "by": hold.by, "since": iso(hold.at), "note": hold.note}


def ghost_row(job: StoredJob) -> dict[str, Any]:
    """One row of `ghosts`."""
    return {"name": job.spec.name, "origin": job.origin, "source": job.source}


def sync_document(report: SyncReport) -> dict[str, Any]:
    """`sync`: jobs by what became of them, and what was refused."""
    return {
        "created": report.created,
        "changed": report.changed,
        "same": report.same,
        "removed": report.removed,
        "problems": [str(problem) for problem in report.problems],
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    """`plan`: what a sync would do to each job, what stays, and what is odd or was refused."""
    return {
        "changes": [_planned_row(change) for change in plan.changes],
        "same": plan.same,
        "warnings": [{"job": job, "text": words} for job, words in plan.warnings],
        "problems": [str(problem) for problem in plan.problems],
    }


def _planned_row(change: PlannedChange) -> dict[str, Any]:
    """One entry of its `changes`."""
    spec = change.spec
    return {
        "name": spec.name,
        "action": change.action,
        "schedule": str(spec.schedule) if spec.schedule is not None else None,
        "timezone": spec.tz,
        "timezone_from": "CRONQ_TZ" if change.tz_is_default else None,
        "source": change.source,
        "fields": [{"name": each.name, "old": each.old, "new": each.new} for each in change.fields],
        "next_before": iso(change.next_before),
        "next_after": iso(change.next_after),
        "next_run": iso(change.next_run),
        "pending": change.pending,
        "renamed": change.renamed,
        "notes": list(change.notes),
    }


def simulation_rows(simulation: Simulation) -> Iterator[dict[str, Any]]:
    """`simulate`: what became of each tick, by tick and then by job; there may be millions."""
    for tick, together in groupby(simulation.rows(), key=attrgetter("tick")):
        moment = iso(tick)
        for each in together:
            yield {"job": each.job, "tick": moment, "outcome": each.outcome}


def rehearsal_rows(rehearsal: Rehearsal) -> Iterator[dict[str, Any]]:
    """`simulate --rehearse`: what would have become of each tick of the day, and what did."""
    for each in rehearsal.ticks:
        yield {
            "job": each.job,
            "tick": iso(each.tick),
            "outcome": each.outcome,
            "recorded": each.recorded,
            "reason": each.reason,
            "lateness_s": each.lateness_s,
            "duration_s": each.duration_s,
            "basis": each.basis,
        }


def crontab_document(report: CrontabReport) -> dict[str, Any]:
    """`crontab import`: jobs by what became of them, and the lines that could not be carried over."""
    return {
        "created": report.created,
        "changed": report.changed,
        "same": report.same,
        "ghosts": report.ghosts,
        "removed": report.removed,
        "refused": [{"line": fault.number, "text": fault.text, "reason": fault.reason} for fault in report.faults],
        "notes": report.notes,
    }


def check_config_document(names: list[str], problems: list[str]) -> dict[str, Any]:
    """`check-config`: the jobs that are sound, and what is wrong with the others and with modules."""
    return {"jobs": names, "problems": problems}


def config_values(config: Config) -> dict[str, Any]:
    """Each setting by its name, the URL without its password."""
    values = {item.name: getattr(config, item.name) for item in fields(config) if item.name != "origins"}
    return values | {"url": config.shown_url}


def config_document(config: Config) -> dict[str, Any]:
    """`config`: each setting and where it came from."""
    return {name: {"value": value, "origin": config.origin(name)} for name, value in config_values(config).items()}
