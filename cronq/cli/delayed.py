"""`delayed`, `reschedule` and `adopt`: what is due later and is no tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronq.app.views import delayed_row
from cronq.cli.options import as_json, due_option, in_utc, open_app, options_of_cronq, suggesting
from cronq.cli.output import left, moment, print_json, print_line, print_table, say

if TYPE_CHECKING:
    pass


@click.command("delayed")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def delayed_command(ctx: click.Context, json_: bool, utc: bool) -> int:
    """All that is held back for later, the next one first.

    Delayed runs, jobs that programs gave to rq-scheduler, RQ's own delayed jobs and retries; and what beats rejected
    because it cannot be understood.
    """
    app = open_app(ctx)
    found = app.held_back()
    if json_:
        print_json([delayed_row(entry) for entry in found])
        return 0
    if not found:
        say("nothing is held back")
        return 0
    now_s = app.now_s()
    zone = "UTC" if utc else app.config.foreign_tz
    rows = [
        [
            moment(entry.due_s, zone, now_s), left(entry.due_s, now_s), entry.kind, entry.job or "-",
            entry.repeats or "once", entry.queue or "-", entry.id, entry.note or "",
        ]
        for entry in found
    ]  # fmt: skip
    print_table(["DUE", "LEFT", "KIND", "RUNS", "REPEATS", "QUEUE", "ID", "NOTE"], rows, below=True)
    return 0


@click.command("reschedule")
@click.argument("entry_id", metavar="ID")
@click.option("--in", "delay", metavar="SPAN", help="So long from now: 5m, 1h30m.")
@click.option("--at", "instant", metavar="TIME", help="At this moment (ISO 8601; UTC without an offset).")
@options_of_cronq
@click.pass_context
def reschedule_command(ctx: click.Context, entry_id: str, delay: str | None, instant: str | None) -> int:
    """Change when the delayed run ID is due.

    rq-scheduler's own jobs can be moved as well.
    """
    app = open_app(ctx)
    due = due_option(app, delay, instant)
    if due is None:
        raise click.UsageError("say when: --in SPAN or --at TIME")
    app.reschedule(entry_id, due)
    return 0


@click.command("adopt")
@click.argument("entry_id", metavar="ID")
@click.option("--name", metavar="NAME", help="Name of the new job (the name of its function).")
@click.option("--allow", multiple=True, metavar="MODULE", help="The module of its function; else CRONQ_ALLOW.")
@options_of_cronq
@click.pass_context
def adopt_command(ctx: click.Context, entry_id: str, name: str | None, allow: tuple[str, ...]) -> int:
    """Turn the repeating job ID of rq-scheduler into a job of cronq, and print its name.

    In one step: it is due next when it would have been, once. Workers need --allow for its module, because no
    decorator names its function.
    """
    app = open_app(ctx, allow=allow)
    with suggesting(app, entry_id):
        spec = app.adopt(entry_id, name=name)
    print_line(spec.name)
    return 0
