"""`mark-success` and `reset`: what a person says of ticks that have ended, and of how a job did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from cronq.cli.options import open_app, options_of_cronq, suggesting, tick_option
from cronq.cli.output import print_line, say
from cronq.errors import Conflict, UnknownJob, UnknownRun


def _for_each(names: Sequence[str], act: Callable[[str], None]) -> int:
    """Do the same to each job, whatever becomes of the others. Return the exit code."""
    code = 0
    for name in names:
        try:
            act(name)
        except (UnknownJob, UnknownRun, Conflict) as error:
            if len(names) == 1:
                raise
            say(error)
            code = max(code, error.exit_code)
    return code


@click.command("mark-success")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--tick", metavar="TIME", help="Which tick: 02:30, or ISO 8601; of the job's zone. Else the newest.")
@options_of_cronq
@click.pass_context
def mark_success_command(ctx: click.Context, names: Sequence[str], tick: str | None) -> int:
    """Say that the newest tick of each job NAME succeeded, because it was mended by hand, and print its run's id.

    The newest is that of the ticks that ran, were missed, expired or blocked. What became of it before stays in the
    history as an earlier attempt. The streak of failures ends.
    """
    app = open_app(ctx)

    def mark(name: str) -> None:
        with suggesting(app, name):
            run = app.mark_success(name, tick_option(app, name, tick))
        if run is None:
            say(f"that tick{f' of {name}' if len(names) > 1 else ''} has succeeded already")
        else:
            print_line(run.run_id)

    return _for_each(names, mark)


@click.command("reset")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options_of_cronq
@click.pass_context
def reset_command(ctx: click.Context, names: Sequence[str]) -> int:
    """Forget how each job NAME did: its streak, its last run, its last success, and a pause that failures set.

    Its history stays, and so does what is due next.
    """
    app = open_app(ctx)

    def reset(name: str) -> None:
        with suggesting(app, name):
            was = app.reset(name)
        say(f"{name} {'is as if it had never run' if was else 'had nothing to forget'}; its history stays")

    return _for_each(names, reset)
