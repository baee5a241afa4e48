"""`sync` and `ghosts`: what modules define is stored, and what nothing defines any more is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronq.app.views import ghost_row, sync_document
from cronq.cli.options import as_json, need_modules, open_app, options_of_cronq
from cronq.cli.output import counted, print_json, print_line, print_table, say, say_no_job, say_problems
from cronq.errors import DefinitionError

if TYPE_CHECKING:
    pass


@click.command("sync")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@as_json
@options_of_cronq
@click.pass_context
def sync_command(ctx: click.Context, modules: tuple[str, ...], json_: bool) -> int:
    """Store the jobs that MODULEs define (default: CRONQ_JOBS) and remove those that they no longer define.

    A job whose definition is refused keeps its old one; the others go on. Exit 78 when any was refused.
    """
    app = open_app(ctx, jobs=modules)
    need_modules(app.config, "sync")
    report = app.sync()
    if json_:
        print_json(sync_document(report))
    else:
        for words in ("created", "changed", "removed"):
            for name in getattr(report, words):
                print_line(f"{words} {name}")
    say_problems(report.problems)
    if report.same:
        say(f"{counted(len(report.same), 'job')} {'is as it was' if len(report.same) == 1 else 'are as they were'}")
    if not (app.registry.definitions or report.problems):
        say_no_job(app.config)
    return DefinitionError.exit_code if report.problems else 0


@click.command("ghosts")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--exit-code", is_flag=True, help="End with 1 when there is any.")
@as_json
@options_of_cronq
@click.pass_context
def ghosts_command(ctx: click.Context, modules: tuple[str, ...], exit_code: bool, json_: bool) -> int:
    """Stored jobs that nothing defines any more: neither the MODULEs they came from (default: CRONQ_JOBS), nor the
    crontab they came from when it was imported last. They go on running; `cronq rm` removes them.

    With --exit-code it ends with 78 when a module cannot be imported: of its jobs nobody can tell.
    """
    app = open_app(ctx, jobs=modules)
    found = app.ghosts()
    say_problems(app.registry.broken_modules.values())
    if json_:
        print_json([ghost_row(job) for job in found])
    elif found:
        print_table(["NAME", "FROM", "LAST SEEN AT"], [[job.spec.name, job.origin, job.source] for job in found])
    else:
        say("no ghosts")
    if exit_code and app.registry.broken_modules:
        return DefinitionError.exit_code
    return 1 if exit_code and found else 0
