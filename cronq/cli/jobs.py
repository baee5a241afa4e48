"""`list`, `show` and `next`: how jobs stand, and when they are due."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from cronq.app.job_options import FACTORS
from cronq.app.views import command_text, job_document, job_row, schedule_text, tick_row
from cronq.cli.options import as_json, find_job, in_utc, open_app, options_of_cronq
from cronq.cli.output import (
    counted,
    left,
    moment,
    print_json,
    print_line,
    print_table,
    say,
    say_problems,
    spread_text,
)
from cronq.safetext import shortened
from cronq.timetext import format_duration, parse_instant

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import ChangeNote, JobSpec, StoredJob


_LONGEST_SHOWN = 72
_WIDTH_OF_A_TIME = 20
#: Rows whose figures `show` tells.
_OF_SHOWN_STATS = 100
#: Children that `show` names.
_MOST_CHILDREN = 20
_ALWAYS_SHOWN = ("queue", "catchup", "window", "overlap", "timeout")
#: Of these what mean nothing beside `backfill`.
_OF_LATE_TICKS = ("catchup", "window", "overlap")
#: Options that have a line of their own in `show`, and the lock, which is told by its name.
_TOLD_APART = frozenset({
    "name", "function", "command", "shell", "env", "cwd", "run_as", "stdin", "args", "kwargs", "cron", "every", "at",
    "anchor", "start", "end", "tz", "depends_on", "after", "exclusive", "lock", "description", "owner", "runbook",
    "tags",
})  # fmt: skip
#: Of a note or a description: one that is longer would pad every row of the table.
_LONGEST_TOLD = 200
#: So many paused queues and drains are named below a list.
_MOST_HELD = 5


def sound_jobs(app: Cronq) -> list[StoredJob]:
    """All jobs that can be read, by name; the damaged ones are said on stderr."""
    jobs, problems = app.read_jobs()
    say_problems(problems)
    return jobs


@click.command("list")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def list_command(ctx: click.Context, json_: bool, utc: bool) -> int:
    """All jobs: when next, how they did last, and how they stand."""
    app = open_app(ctx)
    jobs = sound_jobs(app)
    active = app.active_runs([job.spec.name for job in jobs])
    now_s, excluded, held = app.now_s(), app.exclusions(jobs), app.held_runs(jobs)
    if json_:
        names = [job.spec.name for job in jobs]
        documents = [
            job_row(job, active[name], now_s, excluded.get(name), held.get(name))
            for name, job in zip(names, jobs, strict=True)
        ]
        print_json(documents)
        return 0
    if not jobs:
        say("no jobs; store some with `cronq sync MODULE`, `cronq beat MODULE` or `cronq add`")
        return 0
    jobs.sort(key=lambda job: (job.next_tick is None, job.next_tick or 0))
    head = ["NEXT", "LEFT", "LAST", "OUTCOME", "STATUS", "NAME", "SCHEDULE", "DESCRIPTION"]
    why_late = {name: f"no. {run.place} in line, held by the catch-up rate" for name, run in held.items()}
    notes = {name: f"next: {shortened(words, _LONGEST_TOLD)}" for name, words in excluded.items()} | why_late
    rows = [_list_row(job, active[job.spec.name], now_s, utc, notes.get(job.spec.name)) for job in jobs]
    print_table(head, rows, cut=["STATUS", "DESCRIPTION"], spare=["SCHEDULE", "DESCRIPTION"], drop=["LAST"])
    if sys.stdout.isatty():
        _say_who_is_alive(app, len(jobs))
    return 0


def _list_row(job: StoredJob, active: dict[str, str], now_s: float, utc: bool, note: str | None) -> list[str]:
    spec, state = job.spec, job.state
    status = job.status(active, now_s)
    words, upcoming = status, job.next_tick
    if status == "running" and job.slow_run(active) is not None:
        words += ", slow"
    if status == "failing" and state.streak < -1:
        words += f" x{-state.streak}"
    if status == "paused" and state.pause is not None:
        upcoming = None
        if state.pause.until is not None:
            words += f" until {moment(int(state.pause.until), spec.tz, now_s, force_utc=utc)}"
        if state.pause.note:
            words += f": {shortened(state.pause.note, _LONGEST_TOLD)}"
    elif note is not None:
        words += f"; {note}"
    if job.waits_for is not None:
        words += f", {counted(job.waiting_ticks(now_s), 'tick')} behind it"
    if "retrying" in active.values():
        words += ", retrying"
    return [
        _after_text(spec) if spec.after else moment(upcoming, spec.tz, now_s, force_utc=utc),
        left(upcoming, now_s),
        left(state.last_ended, now_s),
        state.last_outcome or "-",
        words,
        spec.name,
        shortened(schedule_text(spec), _LONGEST_TOLD),
        shortened(spec.description.splitlines()[0], _LONGEST_TOLD) if spec.description else _what_it_runs(spec),
    ]


def _after_text(spec: JobSpec) -> str:
    """Which jobs start it, cut to about the width of a time."""
    whole, many = schedule_text(spec), f"after {spec.after[0]} +{len(spec.after) - 1}"
    return whole if len(whole) <= _WIDTH_OF_A_TIME or len(spec.after) == 1 else many


def _say_who_is_alive(app: Cronq, jobs: int) -> None:
    """What a person wonders about when nothing happens: which process is missing."""
    counts = []
    for word, (found, now_s) in (("beat", app.beats()), ("worker", app.workers())):
        alive = sum(each.is_alive(now_s) for each in found)
        counts.append(counted(alive, word))
        if not alive:
            counts[-1] = f"no {word} is alive: start one with `cronq {word}`"
    say(f"{counted(jobs, 'job')}; {'; '.join(counts)}")
    held = app.held()
    for hold in held[:_MOST_HELD]:
        kind, _, name = hold.what.partition(":")
        is_queue = kind == "queue"
        what = f"the {kind} {name} is {'paused' if is_queue else 'drained'}" if name else "all workers are drained"
        end = f"cronq resume --queue {name}" if is_queue else f"cronq drain --end {name}".rstrip()
        say(f"{what}, {hold}; `{end}` ends it")
    if len(held) > _MOST_HELD:
        say(f"{len(held) - _MOST_HELD:,} more are paused or drained; see `cronq drain --list`")


@click.command("show")
@click.argument("name")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def show_command(ctx: click.Context, name: str, json_: bool, utc: bool) -> int:
    """Everything about the job NAME."""
    app = open_app(ctx)
    job = find_job(app, name)
    active = app.active_runs([name])[name]
    now_s = app.now_s()
    excluded, runs = app.exclusions([job]).get(name), app.runs_behind(job, active)
    held = app.held_runs([job]).get(name)
    changes = app.changes_of(name)
    (stats,) = app.stats([name], _OF_SHOWN_STATS).jobs
    document = job_document(job, active, now_s, excluded, runs, app.children_of(name), changes, held, stats)
    if json_:
        print_json(document)
        return 0
    for label, value in [*_facts(job, document, now_s, utc), *_last_change(job, changes[:1], now_s, utc)]:
        if value:
            print_line(f"{label:<17} {value}")
    return 0


def _facts(job: StoredJob, document: dict[str, Any], now_s: float, utc: bool) -> list[tuple[str, str | None]]:
    """What `show` tells a person: label and words, None where there is nothing to tell."""
    spec, state = job.spec, job.state

    def when(epoch_s: float | None) -> str | None:
        return None if epoch_s is None else f"{moment(epoch_s, spec.tz, now_s, force_utc=utc)} ({left(epoch_s, now_s)})"

    last = None if state.last_run is None else f"{state.last_outcome} {left(state.last_ended, now_s)}, {state.last_run}"
    return [
        ("name", spec.name),
        ("description", spec.description),
        ("runs", spec.function if spec.command is None else command_text(spec)),
        ("as user", spec.run_as),
        ("in", spec.cwd),
        ("environment", " ".join(f"{name}={shlex.quote(value)}" for name, value in spec.env.items())),
        ("reads", None if spec.stdin is None else repr(spec.stdin)),
        ("arguments", None if spec.args_json == "[[],{}]" else spec.args_json),
        ("schedule", schedule_text(spec)),
        ("depends on", ", ".join(spec.depends_on)),
        ("zone", f"{spec.tz} from CRONQ_TZ" if job.tz_is_default else None),
        ("meaning", document["meaning"]),
        ("children", _children_text(document["children"], spec.name)),
        ("next", _next_text(job, when(job.next_tick), document["excluded"])),
        ("ticks", None if spec.repeat is None else f"{state.ticks} of {spec.repeat}"),
        ("status", document["status"]),
        ("held", _held_text(document["held"], when)),
        ("paused", _pause_text(job, now_s, utc)),
        ("skips", _skips_text(job, now_s, utc)),
        ("waits", _waits_text(job, now_s)),
        ("now", ", ".join(f"{state} {run}" for run, state in document["active"].items())),
        ("ongoing since", document["ongoing_since"] and when(parse_instant(document["ongoing_since"]))),
        ("first run", when(state.first_run)),
        ("last", last),
        ("last error", _error_text(document["last_error"])),
        ("failures", f"{document['failures']} in a row" if document["failures"] else None),
        ("previous success", when(state.success_tick)),
        ("to first line", spread_text(document["stats"]["claim_to_first_line_s"])),
        ("duration", spread_text(document["stats"]["duration_s"])),
        ("options", _options_text(spec)),
        ("owner", spec.owner),
        ("runbook", spec.runbook),
        ("tags", ", ".join(spec.tags)),
        ("source", job.source),
        ("ghost", job.origin if job.origin.startswith("gone from ") else None),
    ]


def _children_text(children: list[str], name: str) -> str:
    more = len(children) - _MOST_CHILDREN
    words = ", ".join(children[:_MOST_CHILDREN])
    return f"{words} and {more:,} more: `cronq graph {name}`" if more > 0 else words


def _last_change(job: StoredJob, notes: list[ChangeNote], now_s: float, utc: bool) -> list[tuple[str, str]]:
    """The same of the newest of *notes*."""
    when = [moment(note.at_s, job.spec.tz, now_s, force_utc=utc) for note in notes]
    return [
        ("last change", f"{at} ({left(note.at_s, now_s)}) {shortened(note.text, _LONGEST_TOLD)}")
        for at, note in zip(when, notes, strict=True)
    ]


def _waits_text(job: StoredJob, now_s: float) -> str | None:
    """Which run its ticks wait for, of a job whose ticks run in order."""
    if job.waits_for is None:
        return None
    return f"{counted(job.waiting_ticks(now_s), 'tick')} until {job.waits_for} has succeeded"


def _held_text(held: dict[str, Any] | None, when: Callable[[float | None], str | None]) -> str | None:
    """The late run that waits for the catch-up rate, and for how long."""
    if held is None:
        return None
    span = format_duration(max(1, round(held["due_in_s"])))
    return f"the tick at {when(parse_instant(held['tick']))}, about no. {held['place']} in line: in about {span}"


def _error_text(error: dict[str, Any] | None) -> str | None:
    """Why the last run did not succeed, and the last line of its traceback."""
    if error is None:
        return None
    lines = (error["error"] or "").strip().splitlines()
    reason, told = error["reason"] or error["outcome"], lines[-1] if lines else ""
    return shortened(reason if told in reason else f"{reason}: {told}", _LONGEST_TOLD)


def _next_text(job: StoredJob, when: str | None, excluded: str | None) -> str | None:
    """*when* the next tick is, and why it will only be recorded, if so."""
    if excluded is None:
        return when
    pause = job.state.pause
    is_paused = pause is not None and pause.covers(job.next_tick or 0)
    return f"{when}, {'paused' if is_paused else excluded}"


def _skips_text(job: StoredJob, now_s: float, utc: bool) -> str:
    """The ticks to come that will be skipped, and who wants that."""
    words = []
    for skip in job.state.skips:
        ticks = [tick for tick in skip.ticks if tick > (job.state.mark or 0)]
        if ticks:
            ends = [moment(tick, job.spec.tz, now_s, force_utc=utc) for tick in (ticks[0], ticks[-1])]
            span = ends[0] if len(ticks) == 1 else f"{counted(len(ticks), 'tick')}, {ends[0]} to {ends[1]}"
            words.append(f"{span} by {skip.by}" + (f": {skip.note}" if skip.note else ""))
    return "; ".join(words)


def _pause_text(job: StoredJob, now_s: float, utc: bool) -> str | None:
    pause, zone = job.state.pause, job.spec.tz
    if pause is None:
        return None
    words = f"since {moment(int(pause.since), zone, now_s, force_utc=utc)}"
    words += f" by {pause.by}" if pause.by else ""
    words += f" until {moment(int(pause.until), zone, now_s, force_utc=utc)}" if pause.until is not None else ""
    return words + (f": {pause.note}" if pause.note else "")


def _what_it_runs(spec: JobSpec) -> str:
    """In place of a description: the command, its shell included, cut to what a table can show."""
    if spec.command is None:
        return ""
    words = (f"as {spec.run_as}: " if spec.run_as is not None else "") + command_text(spec)
    return words if len(words) <= _LONGEST_SHOWN else words[: _LONGEST_SHOWN - 1] + "…"


def _options_text(spec: JobSpec) -> str:
    """The options that every job has, and those of the others that are not at their default."""
    shown = [name for name in _ALWAYS_SHOWN if not (spec.backfill and name in _OF_LATE_TICKS)]
    words = [f"{name}={_option_text(name, getattr(spec, name))}" for name in shown]
    if spec.lock_name is not None:
        words.append(f"lock={spec.lock_name}")
    for item in fields(spec):
        value = getattr(spec, item.name)
        if item.name not in _TOLD_APART and item.name not in _ALWAYS_SHOWN and value != item.default:
            words.append(f"{item.name}={_option_text(item.name, value)}")
    return " ".join(words)


def _option_text(name: str, value: object) -> str:
    if name in FACTORS:
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return format_duration(value) if isinstance(value, float) else str(value).lower() if value is True else str(value)


@click.command("next")
@click.argument("name", required=False)
@click.option(
    "-n", "count", metavar="N", default=None, type=click.IntRange(1, 1000), help="How many (5 of one job, 1 of each)."
)
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def next_command(ctx: click.Context, name: str | None, count: int | None, json_: bool, utc: bool) -> int:
    """The next ticks of the job NAME, or of all jobs; those that will only be recorded with the reason."""
    app = open_app(ctx)
    jobs = [find_job(app, name)] if name else sound_jobs(app)
    now_s = app.now_s()
    found = app.upcoming(jobs, now_s, count or (5 if name else 1))
    if json_:
        print_json([tick_row(each) for each in found])
    elif found or any(job.spec.after for job in jobs):
        rows = [
            [
                moment(each.tick, each.job.spec.tz, now_s, force_utc=utc),
                left(each.tick, now_s),
                each.job.spec.name,
                "paused" if each.is_paused else each.excluded or "",
            ]
            for each in found
        ]
        rows += [["-", "-", job.spec.name, schedule_text(job.spec)] for job in jobs if job.spec.after]
        print_table(["TICK", "LEFT", "NAME", ""], rows, cut=[""])
    elif name and jobs[0].spec.schedule is None:
        say(f"the job {name!r} has no schedule: it runs only by hand, `cronq run {name}`")
    else:
        say("no job will ever be due again" if jobs else "no jobs")
    return 0
