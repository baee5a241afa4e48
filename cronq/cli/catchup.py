"""`catchup`: the late runs that the catch-up rate holds, and the end of waiting for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronq.app.views import catchup_document, dropped_row
from cronq.cli.options import as_json, find_job, open_app, options_of_cronq, times_are_utc
from cronq.cli.output import counted, left, moment, print_json, print_table, say
from cronq.timetext import format_duration

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import CatchupReading, DroppedTicks, HeldRun


@click.command("catchup")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--drop", is_flag=True, help="Do not run those of the jobs NAME; they are recorded `missed`.")
@click.option("--all", "all_", is_flag=True, help="With --drop: those of all jobs.")
@click.option("--note", default="", metavar="TEXT", help="With --drop: why; it is part of the reason in the history.")
@as_json
@times_are_utc
@options_of_cronq
@click.pass_context
def catchup_command(ctx: click.Context, names: tuple[str, ...], drop: bool, all_: bool, note: str, json_: bool) -> int:
    """Late runs that wait for the catch-up rate after an outage, of all jobs or of NAME: when each has its turn.

    With --drop they do not run: their ticks are `missed`, by whom and why, and the jobs go on with their next ticks.
    """
    if not drop and (all_ or note):
        raise click.UsageError("--all and --note belong to --drop")
    if drop and all_ == bool(names):
        raise click.UsageError("name the jobs, or say --all: cronq catchup --drop NAME, cronq catchup --drop --all")
    app = open_app(ctx)
    for name in names:
        find_job(app, name)
    if drop:
        return _drop(app, names, note, json_)
    reading = app.catchup(names)
    if json_:
        print_json(catchup_document(reading))
    elif reading.runs:
        _print_line(reading, app.now_s())
        _say_pace(app, reading)
    else:
        say("no late run is held")
    return 0


def _print_line(reading: CatchupReading, now_s: float) -> None:
    """A row for each job, the one that is next first."""
    by_job: dict[str, list[HeldRun]] = {}
    for run in reading.runs:
        by_job.setdefault(run.job, []).append(run)
    rows = [
        [
            left(now_s + runs[0].due_in_s, now_s),
            name,
            str(runs[0].priority),
            str(len(runs)),
            moment(runs[0].tick, "UTC", now_s),
            moment(runs[-1].tick, "UTC", now_s) if len(runs) > 1 else "",
        ]
        for name, runs in by_job.items()
    ]
    print_table(["ABOUT", "NAME", "PRIORITY", "RUNS", "TICK", "LAST TICK"], rows, spare=["PRIORITY", "LAST TICK"])


def _say_pace(app: Cronq, reading: CatchupReading) -> None:
    beats, now_s = app.beats()
    if not any(each.is_alive(now_s) for each in beats):
        say("no beat is alive, and nothing is let through: start one with `cronq beat`")
    elif reading.per_s:
        done = format_duration(max(1, round(reading.done_in_s)))
        runs = counted(len(reading.runs), "late run")
        say(f"{runs} held; {reading.per_s:g} a second are let through, the whole line in about {done}")


def _drop(app: Cronq, names: tuple[str, ...], note: str, json_: bool) -> int:
    dropped = app.drop_catchup(names or None, note=note)
    if json_:
        print_json([dropped_row(each) for each in dropped])
        return 0
    now_s = app.now_s()
    for each in dropped:
        say(f"{each.job} does not run {_span(each, now_s)}")
    if not dropped:
        say(f"no late run{' of ' + ', '.join(names) if names else ''} is held")
    return 0


def _span(dropped: DroppedTicks, now_s: float) -> str:
    first, last = (moment(tick, "UTC", now_s) for tick in (dropped.first, dropped.last))
    return f"the tick at {first}" if dropped.ticks == 1 else f"{dropped.ticks:,} ticks, {first} to {last}"
