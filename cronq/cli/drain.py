"""`drain`: let workers take nothing more, for a deploy or to empty a host."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cronq.app.views import hold_row
from cronq.cli.options import as_json, open_app, options_of_cronq, times_are_utc
from cronq.cli.output import moment, print_json, print_line, print_table, say
from cronq.timetext import format_duration, parse_duration_s

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import Hold

_BUSY = 75


@click.command("drain")
@click.argument("names", nargs=-1, metavar="[HOST|WORKER]...")
@click.option("--note", default="", metavar="TEXT", help="Why; shown by `cronq workers`.")
@click.option("--wait", metavar="SPAN", help="Return when nothing of it runs any more; after SPAN: exit 75.")
@click.option("--kill", is_flag=True, help="Stop what still runs: after --wait, or at once.")
@click.option("--end", is_flag=True, help="Let them work again; without names all that is drained.")
@click.option("--list", "list_", is_flag=True, help="What is held, paused queues included.")
@as_json
@times_are_utc
@options_of_cronq
@click.pass_context
def drain_command(
    ctx: click.Context, names: tuple[str, ...], note: str, wait: str | None, kill: bool, end: bool, list_: bool,
    json_: bool,
) -> int:  # fmt: skip
    """Let the workers of these HOSTs, these WORKERs, or without names all of them, take no more work.

    What has begun goes on. The drain holds for workers that start later too, until `cronq drain --end` or
    `cronq resume`.
    """
    app = open_app(ctx)
    if list_:
        _print(app, app.held(), json_)
        return 0
    if end:
        lifted = app.end_drains(*names)
        if json_:
            _print(app, lifted, json_)
        say(f"{len(lifted)} {'drain' if len(lifted) == 1 else 'drains'} ended")
        return 0
    wait_s = _span(wait)
    whats = app.drain(*names, note=note)
    say(f"drained: {', '.join(whats)}; `cronq drain --end` ends it")
    _warn_of_unknown_hosts(app, whats)
    if json_:
        _print(app, [hold for hold in app.held() if hold.what in whats], json_)
    if wait_s is None and not kill:
        return 0
    return _await_end(app, whats, wait_s or 0.0, kill=kill, tell=say if json_ else print_line)


def _warn_of_unknown_hosts(app: Cronq, whats: list[str]) -> None:
    """Say which of the drained hosts have no worker: the name may be a slip."""
    workers, now_s = app.workers()
    hosts = {each.host for each in workers if each.is_alive(now_s)}
    for what in whats:
        kind, _, name = what.partition(":")
        if kind == "host" and name not in hosts:
            close = difflib.get_close_matches(name, [*hosts, *(each.id for each in workers)], n=1)
            say(f"no worker runs on the host {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))


def _await_end(app: Cronq, whats: list[str], wait_s: float, *, kill: bool, tell: Callable[[str], None]) -> int:
    """Wait for what these drains hold to end, then with *kill* stop it and *tell* the ids. Return the exit code."""
    if app.wait_until_at_rest(whats, wait_s):
        return 0
    if not kill:
        left = app.at_work_on(whats)
        say(f"still at work after {format_duration(wait_s)}: {', '.join(run.run_id for run in left) or 'a start'}")
        return _BUSY
    for run in app.at_work_on(whats):
        app.stop(run.run_id)
        tell(run.run_id)
    return 0 if app.wait_until_at_rest(whats, app.config.lost_after + 3600.0) else _BUSY


def _span(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--wait") from None


def _print(app: Cronq, holds: list[Hold], json_: bool) -> None:
    if json_:
        print_json([hold_row(hold) for hold in holds])
    elif holds:
        now_s = app.now_s()
        print_table(
            ["HELD", "SINCE", "BY", "NOTE"],
            [[hold.what, moment(hold.at, "UTC", now_s), hold.by, hold.note] for hold in holds],
            below=True,
        )
    else:
        say("nothing is held")
