"""`locks` and `once`: who holds what, and a lock for a fixed time."""

from __future__ import annotations

import click

from cronq.app.lock_view import lock_row
from cronq.cli.options import SPAN, as_json, open_app, options_of_cronq, times_are_utc
from cronq.cli.output import print_json, print_table, say
from cronq.timetext import format_duration, iso

_BUSY = 1


@click.command("locks")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--release", is_flag=True, help="Take these locks from their holders, who stop.")
@click.option("--note", default="", metavar="TEXT", help="With --release: why.")
@as_json
@times_are_utc
@options_of_cronq
@click.pass_context
def locks_command(ctx: click.Context, names: tuple[str, ...], release: bool, note: str, json_: bool) -> int:
    """The locks that are held now: by which host, process and run, since when, and for how long unless renewed.

    Jobs, `cronq exec` and code that calls `app.lock` share them. With --release a lock is taken from its holder, whose
    run is stopped within seconds and ends as `lost`; who did it is recorded.
    """
    if release:
        if not names:
            raise click.UsageError("name the locks: cronq locks --release NAME...")
        return _release(ctx, names, note, json_)
    if note:
        raise click.UsageError("--note belongs to --release")
    held = open_app(ctx).locks(names)
    if json_:
        print_json([lock_row(each) for each in held])
    elif held:
        head = ["NAME", "HOST", "PID", "RUN", "SINCE", "LEFT"]
        rows = [
            [
                each.name,
                each.host or "-",
                str(each.pid) if each.pid is not None else "-",
                each.run_id or "-",
                iso(each.since) or "-" if each.since is None or each.since else "-",
                "no limit" if each.expires_in_s is None else format_duration(round(each.expires_in_s, 1)),
            ]
            for each in held
        ]
        print_table(head, rows, spare=["PID"])
    else:
        say("no lock is held" if not names else f"nobody holds {', '.join(names)}")
    return 0


def _release(ctx: click.Context, names: tuple[str, ...], note: str, json_: bool) -> int:
    app = open_app(ctx)
    held_by = {name: app.release_lock(name, note=note) for name in dict.fromkeys(names)}
    if json_:
        print_json([{"name": name, "run_id": run or None} for name, run in held_by.items() if run is not None])
        return 0
    for name, run_id in held_by.items():
        if run_id is None:
            say(f"nobody holds {name}")
        else:
            say(f"{name} released; {run_id or 'its holder'} stops when it renews it next")
    return 0


@click.command("once")
@click.argument("name")
@click.option("--window", type=SPAN, default=30.0, metavar="SPAN", help="For so long (30s).")
@click.option("-v", "--verbose", is_flag=True, help="Say who has it.")
@options_of_cronq
@click.pass_context
def once_command(ctx: click.Context, name: str, window: float, verbose: bool) -> int:
    """Take the lock NAME for a fixed time: exit 0, or 1 when somebody has it.

    \b
        0 4 * * *  cronq once mail --window 10m && /opt/mail/send

    What follows runs without guard, and the lock neither follows it nor ends with it: of hosts whose clocks differ by
    less than the window one runs it. `cronq exec` keeps the lock as long as the command runs.
    """
    app = open_app(ctx)
    if app.once(name, window):
        return 0
    if verbose:
        held = app.locks([name])
        where = f" by {held[0].host}" if held and held[0].host else ""
        say(f"{name} is taken{where}")
    return _BUSY
