"""The verbs that change jobs: `add`, `rm`, `pause`, `resume`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from cronq.cli.shared import F, find_job, left, moment, open_app, places, say, suggesting, until_option
from cronq.errors import UnknownJob
from cronq.jobs.options import OPTIONS, Kind, Option
from cronq.jobs.spec import JobSpec
from cronq.timetext import format_duration

if TYPE_CHECKING:
    from cronq.app.app import Cronq

_DEFAULTS = {item.name: item.default for item in fields(JobSpec)}
_ADDED = {"created": "added", "changed": "changed", "same": "is as it was"}


def _next_words(app: Cronq, name: str) -> str:
    job = app.jobs.get(name)
    if job.next_tick is None:
        return ""
    now_s = app.now_s()
    return f"; next {moment(job.next_tick, job.spec.tz, now_s)} ({left(job.next_tick, now_s)})"


def _options_of_a_job(command: F) -> F:
    """A flag for each option in the table that has a help text."""
    for option in reversed(OPTIONS):
        if option.help:
            command = _flag_of(option)(command)
    return command


def _flag_of(option: Option) -> Callable[[F], F]:
    name = "tag" if option.name == "tags" else option.name.replace("_", "-")
    names = [f"--{name}", option.name]
    default = _DEFAULTS[option.name]
    if option.name == "shell" or option.kind is Kind.FLAG:
        return click.option(*names, is_flag=True, help=option.help)
    if option.kind in (Kind.PAIRS, Kind.LIST):
        return click.option(*names, multiple=True, metavar=option.metavar, help=option.help)
    shown = format_duration(default) if option.kind is Kind.DURATION and isinstance(default, float) else default
    words = f"{option.help.removesuffix('.')} ({shown})." if shown not in (None, "") else option.help
    return click.option(
        *names, type=int if option.kind is Kind.NUMBER else str, default=None, metavar=option.metavar, help=words
    )


@click.command("add")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
@_options_of_a_job
@places
@click.pass_context
def add_command(ctx: click.Context, /, name: str, command: tuple[str, ...], **options: Any) -> int:
    """Store the command CMD as the job NAME: cronq add tidy --every 1h -- find /tmp/x -mtime +7 -delete

    The words after `--` are executed as they are, without a shell. Adding the same again changes nothing.
    """
    if not command:
        raise click.UsageError("the command is missing; it stands after --: cronq add NAME --cron EXPR -- CMD")
    if options["shell"] and len(command) != 1:
        raise click.UsageError("with --shell the command is one text: -- 'a | b'")
    given = {key: value for key, value in options.items() if value not in (None, False, ())}
    if "env" in given:
        given["env"] = _variables(given["env"])
    app = open_app(ctx)
    what = app.add(name, command=list(command), **given)
    say(f"{name} {_ADDED[what]}{_next_words(app, name)}")
    return 0


def _variables(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise click.BadParameter(f"{pair!r} has no value; write --env NAME=VALUE", param_hint="--env")
    return dict(pair.split("=", 1) for pair in pairs)


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@places
@click.pass_context
def rm_command(ctx: click.Context, names: Sequence[str]) -> int:
    """Remove jobs and stop their queued runs; running ones end by themselves, the history stays for its time.

    A job that a module defines comes back with the next start of a beat on that module.
    """
    app = open_app(ctx)
    unknown = 0
    for name in names:
        try:
            with suggesting(app, name):
                stopped = app.remove(name)
        except UnknownJob as error:
            say(error)
            unknown = UnknownJob.exit_code
            continue
        also = f"; {stopped} queued run{'' if stopped == 1 else 's'} stopped" if stopped else ""
        say(f"{name} removed{also}")
    return unknown


def _only_one(name: str | None, queue: str | None, verb: str) -> None:
    if (name is None) == (queue is None):
        raise click.UsageError(f"name the job, or the queue: cronq {verb} NAME, cronq {verb} --queue QUEUE")


@click.command("pause")
@click.argument("name", required=False)
@click.option("--queue", metavar="QUEUE", help="Pause a queue instead: no worker takes anything from it.")
@click.option("--note", default="", metavar="TEXT", help="Why; shown wherever the job is.")
@click.option("--until", metavar="TIME", help="Resume by itself: a span (2h) or an ISO time.")
@places
@click.pass_context
def pause_command(ctx: click.Context, name: str | None, queue: str | None, note: str, until: str | None) -> int:
    """Let no tick of the job NAME run from now on; they are recorded `paused`. Runs by hand still work.

    With --queue nothing that waits there is begun by `cronq worker`s; it stays queued, and ticks go on queueing.
    """
    _only_one(name, queue, "pause")
    app = open_app(ctx)
    if queue is not None:
        if until is not None:
            raise click.UsageError("--until is for jobs; a queue is paused until `cronq resume --queue`")
        app.pause_queue(queue, note=note)
        say(f"the queue {queue} is paused; `cronq resume --queue {queue}` ends it")
        return 0
    assert name is not None
    now_s = app.now_s()
    until_s = until_option(until, now_s, "--until")
    zone = find_job(app, name).spec.tz
    app.pause(name, note=note, until_s=until_s)
    end = "" if until_s is None else f" until {moment(int(until_s), zone, now_s)} ({left(until_s, now_s)})"
    say(f"{name} paused{end}; `cronq resume {name}` ends it")
    return 0


@click.command("resume")
@click.argument("name", required=False)
@click.option("--queue", metavar="QUEUE", help="Resume a queue instead.")
@places
@click.pass_context
def resume_command(ctx: click.Context, name: str | None, queue: str | None) -> int:
    """Let the ticks of the job NAME run again from now on; none of the pause is made up for.

    Without NAME it ends every `drain`.
    """
    app = open_app(ctx)
    if queue is not None:
        _only_one(name, queue, "resume")
        say(f"the queue {queue} {'is resumed' if app.resume_queue(queue) else 'was not paused'}")
        return 0
    if name is None:
        lifted = len(app.end_drains())
        say(f"{lifted} {'drain' if lifted == 1 else 'drains'} ended")
        return 0
    with suggesting(app, name):
        was = app.resume(name)
    say(f"{name} {'resumed' if was else 'was not paused'}{_next_words(app, name)}")
    return 0
