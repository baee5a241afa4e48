"""`stats`: how long runs take to begin and to end."""

from __future__ import annotations

from typing import Any

import click

from cronq.app.stats_view import stats_document
from cronq.cli.options import as_json, find_job, open_app, options_of_cronq
from cronq.cli.output import print_json, print_table, say
from cronq.timetext import format_duration

_FIGURES = ("p50", "p99", "max")
_HEAD = ["NAME", "RUNS", "FIRST LINE P50", "P99", "MAX", "DURATION P50", "P99", "MAX"]


@click.command("stats")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "-n", "newest", metavar="N", default=None, type=click.IntRange(1, 10_000),
    help="Of how many of the newest rows of each job (100; of all jobs 20).",
)  # fmt: skip
@as_json
@options_of_cronq
@click.pass_context
def stats_command(ctx: click.Context, names: tuple[str, ...], newest: int | None, json_: bool) -> int:
    """How long the newest runs of the jobs NAME, or of all jobs, took to begin and to end.

    FIRST LINE is from when a run was queued, by the claim of its tick or by hand, to the first line of its work;
    DURATION is from its start to its end. Half of the runs needed no more than P50, 99 of 100 no more than P99.
    """
    app = open_app(ctx)
    for name in names:
        find_job(app, name)
    document = stats_document(app.stats(list(dict.fromkeys(names)) or None, newest or (100 if names else 20)))
    if json_:
        print_json(document)
        return 0
    rows = [_row(each["job"], each) for each in document["jobs"]]
    if len(rows) > 1:
        rows.append(_row("(all)", document["all"]))
    if rows:
        print_table(_HEAD, rows)
    else:
        say("no jobs")
    return 0


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    cells = [name, f"{figures['runs']:,}"]
    for spread in (figures["claim_to_first_line_s"], figures["duration_s"]):
        cells += [format_duration(spread[each]) if spread is not None else "-" for each in _FIGURES]
    return cells
