"""`exec`: a command under guard, for people who start it from cron, systemd or a shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from cronq.cli.log_lines import start_logging
from cronq.cli.options import SPAN, env_option, load_config, options_of_cronq
from cronq.cli.output import say

if TYPE_CHECKING:
    from cronq.app.guarded import Ended, Order

#: What the child of a command exits with that could not be executed, as shells do it.
_NOT_EXECUTED = (126, 127)


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
@click.option("--name", metavar="NAME", help="Of run and lock; {host} is this host (the base name of CMD).")
@click.option("--wait", type=SPAN, default=0.0, metavar="SPAN", help="Wait so long for the lock (0).")
@click.option(
    "--slots", "at_a_time", type=click.IntRange(1, 100), default=1, metavar="N", help="So many at a time (1)."
)
@click.option("--per-host", is_flag=True, help="A lock of this host alone: one on each host.")
@click.option("--no-lock", is_flag=True, help="No lock: whoever else runs.")
@click.option("--local-lock", is_flag=True, help="A lock on this host without Redis; nothing is recorded.")
@click.option("--group", metavar="GROUP", help="Only on hosts of that group, and as long as this is one.")
@click.option("--min-hold", type=SPAN, default=0.0, metavar="SPAN", help="Keep the lock at least so long (0).")
@click.option("--timeout", type=SPAN, metavar="SPAN", help="End it after so long, with 124 (never).")
@click.option("--grace", type=SPAN, default=10.0, metavar="SPAN", help="From TERM to KILL (10s).")
@click.option("--max-load", type=click.FloatRange(min=0), metavar="LOAD", help="Stand back when the load is above.")
@click.option("--env", multiple=True, metavar="K=V", help="A variable for the command.")
@click.option("--cwd", metavar="DIR", help="Its directory (this one).")
@click.option("--run-as", metavar="USER", help="Its user; only root may.")
@click.option("--busy-exit-code", type=click.IntRange(0, 255), default=0, metavar="N", help="When it did not run (0).")
@click.option("-v", "--verbose", is_flag=True, help="Say why it did not run, and log each step.")
@options_of_cronq
@click.pass_context
def exec_command(ctx: click.Context, /, command: tuple[str, ...], verbose: bool, **options: Any) -> int:
    """Run CMD while holding a lock that no other host has; when somebody has it, end quietly with 0.

    \b
        */5 * * * *  cronq exec --name mail -- /opt/mail/send --all

    The words after `--` are executed as they are, without a shell. The exit code is the command's own, 128+n when
    signal n ended it, 124 after --timeout, 76 when its lock was lost, 69 when Redis did not answer before it began.
    """
    from cronq.app.guarded import make_order, run_guarded

    if not command:
        raise click.UsageError("the command is missing; it stands after --: cronq exec --name NAME -- CMD")
    _check_sense(options)
    config = load_config(ctx)
    start_logging(ctx, config, least="info" if verbose else "error")
    is_local, busy_exit_code = options.pop("local_lock"), options.pop("busy_exit_code")
    options |= {"lock": not options.pop("no_lock"), "env": env_option(options["env"])}
    order = make_order(config.host, command, **options)
    return _told(order, run_guarded(config, order, is_local=is_local), busy_exit_code, verbose=verbose)


def _check_sense(options: Mapping[str, Any]) -> None:
    """Raise UsageError for what does not go together."""
    needs_lock = ("at_a_time", "per_host", "local_lock", "wait", "min_hold")
    if options["no_lock"] and any(options[name] > (name == "at_a_time") for name in needs_lock):
        raise click.UsageError(
            "--no-lock: leave out --slots, --per-host, --local-lock, --wait, --min-hold; they need one"
        )
    if options["local_lock"] and options["group"] is not None:
        raise click.UsageError("--group is kept in Redis, which --local-lock does not ask; leave one of them out")
    if options["local_lock"] and options["min_hold"]:
        raise click.UsageError("--min-hold is against clocks of hosts that differ, and --local-lock is of one host")


def _told(order: Order, ended: Ended, busy_exit_code: int, *, verbose: bool) -> int:
    """Say what people cannot see from the command itself. Return the exit code."""
    settlement = ended.settlement
    if settlement is None:
        code = busy_exit_code if ended.is_busy else ended.code
        if verbose or code:
            say(f"{order.name}: not run: {ended.why_not}")
        return code
    if settlement.outcome not in ("succeeded", "failed"):
        say(f"{ended.run_id} {settlement.outcome}: {settlement.reason}")
    elif ended.code in _NOT_EXECUTED and settlement.reason != f"exit code {ended.code}":
        say(f"{order.name}: {settlement.reason}")
    return ended.code
