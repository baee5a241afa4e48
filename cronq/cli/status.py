"""`beats`, `workers` and `host-id`: who is alive, what each is doing, and what this host is called."""

from __future__ import annotations

from typing import Any

import click

from cronq.app.views import beat_row, worker_row
from cronq.cli.options import as_json, load_config, open_app, options_of_cronq, times_are_utc
from cronq.cli.output import print_json, print_line, print_table, say
from cronq.timetext import format_duration


def _print(rows: list[dict[str, Any]], alive: list[bool], json_: bool, none: str) -> int:
    if json_:
        print_json(rows)
    elif rows:
        head = ["HOST", "PID", "UP SINCE", "HEARD OF", "CLOCK", "DOING"]
        print_table(head, [_cells(row, lives) for row, lives in zip(rows, alive, strict=True)])
    else:
        say(none)
    return 0


def _cells(row: dict[str, Any], is_alive: bool) -> list[str]:
    offset_s = row["clock_offset_s"]
    return [
        row["host"],
        str(row["pid"]),
        row["started_at"] or "-",
        f"{format_duration(round(row['heartbeat_age_s']))} ago",
        "-" if offset_s is None else f"{offset_s:+.2f}s",
        row["doing"] or "idle" if is_alive else "silent: dead or cut off",
    ]


@click.command("beats")
@as_json
@times_are_utc
@options_of_cronq
@click.pass_context
def beats_command(ctx: click.Context, json_: bool) -> int:
    """The beats that were heard of in the last hour."""
    beats, now_s = open_app(ctx).beats()
    rows, alive = [beat_row(beat, now_s) for beat in beats], [beat.is_alive(now_s) for beat in beats]
    return _print(rows, alive, json_, "no beat is alive; start one with `cronq beat MODULE`")


@click.command("workers")
@as_json
@times_are_utc
@options_of_cronq
@click.pass_context
def workers_command(ctx: click.Context, json_: bool) -> int:
    """The workers that were heard of in the last hour, and the run each is busy with."""
    app = open_app(ctx)
    workers, now_s = app.workers()
    current = app.current_runs(workers)
    rows = [worker_row(worker, now_s, run_id) for worker, run_id in zip(workers, current, strict=True)]
    alive = [worker.is_alive(now_s) for worker in workers]
    return _print(rows, alive, json_, "no worker is alive; start one with `cronq worker -m MODULE`")


@click.command("host-id")
@options_of_cronq
@click.pass_context
def host_id_command(ctx: click.Context) -> int:
    """The name by which cronq knows this host: CRONQ_HOST_ID, else its full name."""
    print_line(load_config(ctx).host)
    return 0
