"""`beats`, `workers`, `check`: who is alive, and whether all is well."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cronq.app.views import beat_row, worker_row
from cronq.cli.errors import redis_words
from cronq.cli.shared import (
    as_json,
    call,
    open_app,
    places,
    print_json,
    print_line,
    print_table,
    say,
    times_are_utc,
)
from cronq.timetext import format_duration

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.monitor.checks import Finding

#: The exit code of a check that found the worst.
_CRITICAL = 2
_CHECKS_NOT_BUILT = frozenset(["jobs", "queue", "groups", "hosts", "file-age", "disk", "load"])


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
@places
@click.pass_context
def beats_command(ctx: click.Context, json_: bool) -> int:
    """The beats that were heard of in the last hour."""
    beats, now_s = open_app(ctx).beats()
    rows, alive = [beat_row(beat, now_s) for beat in beats], [beat.is_alive(now_s) for beat in beats]
    return _print(rows, alive, json_, "no beat is alive; start one with `cronq beat MODULE`")


@click.command("workers")
@as_json
@times_are_utc
@places
@click.pass_context
def workers_command(ctx: click.Context, json_: bool) -> int:
    """The workers that were heard of in the last hour, and the run each is busy with."""
    app = open_app(ctx)
    workers, now_s = app.workers()
    current = app.current_runs(workers)
    rows = [worker_row(worker, now_s, run_id) for worker, run_id in zip(workers, current, strict=True)]
    alive = [worker.is_alive(now_s) for worker in workers]
    return _print(rows, alive, json_, "no worker is alive; start one with `cronq worker -m MODULE`")


class _Checks(click.Group):
    """Monitoring systems read a faulty call as UNKNOWN, exit 3."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        call(ctx)["nagios"] = True
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name in _CHECKS_NOT_BUILT:
            raise click.UsageError(f"the check {name!r} is not part of this version yet", ctx)
        if name not in self.commands and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.commands, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no check {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group("check", cls=_Checks, subcommand_metavar="WHAT ...")
@places
def check_command() -> None:
    """Checks after the Nagios plugin rules: one line, exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""


def _guarded(ctx: click.Context, check: Callable[[Cronq], Finding]) -> int:
    """Run *check* and print its line; a Redis that does not answer is CRITICAL, never OK."""
    from redis.exceptions import RedisError

    app = open_app(ctx)
    try:
        finding = check(app)
    except (RedisError, OSError) as error:
        print_line(f"CRONQ CRITICAL - Redis at {app.config.shown_url} does not answer: {redis_words(error)}")
        return _CRITICAL
    print_line(finding.line)
    return finding.state


@check_command.command("redis")
@places
@click.pass_context
def check_redis_command(ctx: click.Context) -> int:
    """Version, role, eviction policy and persistence of Redis; how full it is, and when it will be."""
    return _guarded(ctx, lambda app: app.check_redis())


@check_command.command("beat")
@click.option(
    "--least", default=1, show_default=True, type=click.IntRange(1), metavar="N",
    help="CRITICAL below so many beats; 1 alone is a WARNING.",
)  # fmt: skip
@places
@click.pass_context
def check_beat_command(ctx: click.Context, least: int) -> int:
    """Whether beats are alive and at work."""
    return _guarded(ctx, lambda app: app.check_beats(least))


@check_command.command("workers")
@click.option(
    "--least", default=1, show_default=True, type=click.IntRange(1), metavar="N", help="CRITICAL below so many workers."
)
@places
@click.pass_context
def check_workers_command(ctx: click.Context, least: int) -> int:
    """Whether workers are alive, and none has fallen silent."""
    return _guarded(ctx, lambda app: app.check_workers(least))


@check_command.command("clock")
@places
@click.pass_context
def check_clock_command(ctx: click.Context) -> int:
    """Clocks of this host and of the beats against that of Redis."""
    return _guarded(ctx, lambda app: app.check_clock())
