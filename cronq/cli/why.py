"""`why`: why a tick ended as it did, or has not run."""

from __future__ import annotations

import click

from cronq.app.why_view import why_document
from cronq.cli.options import as_json, dated, in_utc, open_app, options_of_cronq, suggesting
from cronq.cli.output import print_json, print_line


@click.command("why")
@click.argument("name")
@click.option("--at", metavar="TIME", help="A tick: 02:30, or ISO 8601; of the job's zone. Else the newest.")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def why_command(ctx: click.Context, name: str, at: str | None, json_: bool, utc: bool) -> int:
    """Why the job NAME did or did not run, and the next command to type. Its times are in UTC."""
    app = open_app(ctx)
    with suggesting(app, name):
        try:
            answer = app.why(name, at if at is None else dated(app, name, at))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--at") from None
    if json_:
        print_json(why_document(answer))
    else:
        print_line(answer.text)
    return 0
