"""`add` and `rm`: commands become jobs, and jobs go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cronq.app.job_options import DEFAULTS, OPTIONS, Kind, Option
from cronq.cli.options import F, env_option, open_app, options_of_cronq, suggesting
from cronq.cli.output import counted, next_words, say
from cronq.errors import JobInUse, UnknownJob
from cronq.timetext import format_duration

if TYPE_CHECKING:
    pass

_ADDED = {"created": "added", "changed": "changed", "same": "is as it was"}


def _options_of_a_job(command: F) -> F:
    """A flag for each option in the table that has a help text."""
    for option in reversed(OPTIONS):
        if option.help:
            command = _flag_of(option)(command)
    return command


def _flag_of(option: Option) -> Callable[[F], F]:
    name = "tag" if option.name == "tags" else option.name.rstrip("_").replace("_", "-")
    names = [f"--{name}", option.name]
    default = DEFAULTS[option.name]
    if option.name == "shell" or option.kind is Kind.FLAG:
        return click.option(*names, is_flag=True, help=option.help)
    if option.kind in (Kind.PAIRS, Kind.LIST):
        return click.option(*names, multiple=True, metavar=option.metavar, help=option.help)
    shown = format_duration(default) if option.kind is Kind.DURATION and isinstance(default, float) else default
    words = f"{option.help.removesuffix('.')} ({shown})." if shown not in (None, "") else option.help
    kind = {Kind.NUMBER: int, Kind.FACTOR: float}.get(option.kind, str)
    return click.option(*names, type=kind, default=None, metavar=option.metavar, help=words)


@click.command("add")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
@_options_of_a_job
@options_of_cronq
@click.pass_context
def add_command(ctx: click.Context, /, name: str, command: tuple[str, ...], **options: Any) -> int:
    """Store the command CMD as the job NAME.

    \b
        cronq add tidy --every 1h -- find /tmp/x -mtime +7 -delete

    The words after `--` are executed as they are, without a shell. Adding the same again changes nothing.
    """
    if not command:
        raise click.UsageError("the command is missing; it stands after --: cronq add NAME --cron EXPR -- CMD")
    if options["shell"] and len(command) != 1:
        raise click.UsageError("with --shell the command is one text: -- 'a | b'")
    given = {key: value for key, value in options.items() if value not in (None, False, ())}
    if "env" in given:
        given["env"] = env_option(given["env"])
    app = open_app(ctx)
    what = app.add(name, command=list(command), **given)
    say(f"{name} {_ADDED[what]}{next_words(app, name)}")
    return 0


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--force", is_flag=True, help="Also one that other jobs name as a parent: these wait for it then.")
@options_of_cronq
@click.pass_context
def rm_command(ctx: click.Context, names: Sequence[str], force: bool) -> int:
    """Remove jobs and stop their queued runs; running ones end by themselves, the history stays for its time.

    A job that a module defines comes back with the next start of a beat on that module. One that other jobs name in
    depends_on or after is removed together with these, or refused with 75.
    """
    app = open_app(ctx)
    exit_code = 0
    for name in app.children_first(names):
        try:
            with suggesting(app, name):
                stopped = app.remove(name, force=force)
        except (UnknownJob, JobInUse) as error:
            say(error)
            exit_code = max(exit_code, error.exit_code)
            continue
        also = f"; {counted(stopped, 'queued run')} stopped" if stopped else ""
        say(f"{name} removed{also}")
    return exit_code
