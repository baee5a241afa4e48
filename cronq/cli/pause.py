"""`pause`, `skip` and `resume`: of a job, of a queue, of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import Pause

from cronq.cli.options import open_app, options_of_cronq, suggesting, until_option, warn_of_unknown_queue
from cronq.cli.output import left, moment, next_words, say


def _need_one(name: str | None, queue: str | None, verb: str) -> None:
    if (name is None) == (queue is None):
        raise click.UsageError(f"name the job, or the queue: cronq {verb} NAME, cronq {verb} --queue QUEUE")


@click.command("pause")
@click.argument("name", required=False)
@click.option("--queue", metavar="QUEUE", help="Pause a queue instead: no worker takes anything from it.")
@click.option("--note", default="", metavar="TEXT", help="Why; shown wherever the job is.")
@click.option("--until", metavar="TIME", help="Resume by itself: a span (2h) or an ISO time.")
@options_of_cronq
@click.pass_context
def pause_command(ctx: click.Context, name: str | None, queue: str | None, note: str, until: str | None) -> int:
    """Let no tick of the job NAME run from now on; they are recorded `paused`. Runs by hand still work.

    With --queue nothing that waits there is begun by `cronq worker`s; it stays queued, and ticks go on queueing.
    """
    _need_one(name, queue, "pause")
    app = open_app(ctx)
    if queue is not None:
        if until is not None:
            raise click.UsageError("--until is for jobs; a queue is paused until `cronq resume --queue`")
        app.pause_queue(queue, note=note)
        say(f"the queue {queue} is paused; `cronq resume --queue {queue}` ends it")
        warn_of_unknown_queue(app, queue)
        return 0
    assert name is not None
    until_s = None if until is None else until_option(until, app.now_s(), "--until")
    with suggesting(app, name):
        pause = app.pause(name, note=note, until_s=until_s)
    say(f"{name} paused{_end_words(app, name, pause)}; `cronq resume {name}` ends it")
    return 0


def _end_words(app: Cronq, name: str, pause: Pause) -> str:
    """When *pause* ends, in the zone of its job."""
    if pause.until is None:
        return ""
    zone = app.read_job(name).spec.tz
    return f" until {moment(int(pause.until), zone, pause.since)} ({left(pause.until, pause.since)})"


@click.command("skip")
@click.argument("name")
@click.option("-n", "count", metavar="N", default=None, type=click.IntRange(1, 1000), help="How many ticks (1).")
@click.option("--note", default="", metavar="TEXT", help="Why; it is part of the reason in the history.")
@click.option("--undo", is_flag=True, help="Let all ticks to come run that were to be skipped.")
@options_of_cronq
@click.pass_context
def skip_command(ctx: click.Context, name: str, count: int | None, note: str, undo: bool) -> int:
    """Do not run the next tick of the job NAME, or the next N; they are recorded `skipped`, with who and the note.

    Counted are ticks that would run. The same again changes nothing: the next N are skipped already.
    """
    if undo and (count is not None or note):
        raise click.UsageError("--undo takes all back; leave -n and --note out")
    app = open_app(ctx)
    with suggesting(app, name):
        ticks = app.undo_skip(name) if undo else app.skip(name, count or 1, note=note)
    if not ticks:
        say(f"{name} had nothing to skip")
        return 0
    zone, now_s = app.read_job(name).spec.tz, app.now_s()
    first, last = (moment(tick, zone, now_s) for tick in (ticks[0], ticks[-1]))
    span = f"the tick at {first}" if len(ticks) == 1 else f"{len(ticks)} ticks, {first} to {last}"
    say(f"{name} runs {span}, again" if undo else f"{name} skips {span}; `cronq skip {name} --undo` takes it back")
    return 0


@click.command("resume")
@click.argument("name", required=False)
@click.option("--queue", metavar="QUEUE", help="Resume a queue instead.")
@options_of_cronq
@click.pass_context
def resume_command(ctx: click.Context, name: str | None, queue: str | None) -> int:
    """Let the ticks of the job NAME run again from now on; none of the pause is made up for.

    Without NAME it ends every `drain`.
    """
    app = open_app(ctx)
    if queue is not None:
        _need_one(name, queue, "resume")
        say(f"the queue {queue} {'is resumed' if app.resume_queue(queue) else 'was not paused'}")
        return 0
    if name is None:
        lifted = len(app.end_drains())
        say(f"{lifted} {'drain' if lifted == 1 else 'drains'} ended")
        return 0
    with suggesting(app, name):
        was = app.resume(name)
    say(f"{name} {'resumed' if was else 'was not paused'}{next_words(app, name)}")
    return 0
