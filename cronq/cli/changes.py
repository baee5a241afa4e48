"""The verbs that change jobs: `add`, `rm`, `pause`, `resume`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cronq.cli.shared import find_job, left, moment, open_app, places, say, suggesting, until_option
from cronq.errors import UnknownJob

if TYPE_CHECKING:
    from cronq.app import Cronq

_ADDED = {"created": "added", "changed": "changed", "same": "is as it was"}


def _next_words(app: Cronq, name: str) -> str:
    job = app.jobs.get(name)
    if job.next_tick is None:
        return ""
    now_s = app.now_s()
    return f"; next {moment(job.next_tick, job.spec.tz, now_s)} ({left(job.next_tick, now_s)})"


@click.command("add")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
@click.option("--cron", metavar="EXPR", help="When, as a cron expression.")
@click.option("--every", metavar="SPAN", help="When, as an interval: 90s, 5m, 1d.")
@click.option("--at", metavar="HH:MM", help="With whole days: at what time.")
@click.option("--tz", metavar="ZONE", help="IANA name of the zone (UTC).")
@click.option("--dst", metavar="RULE", help="When clocks change: debian, skip or both.")
@click.option("--shell", is_flag=True, help="Give CMD, one text, to /bin/sh.")
@click.option("--env", multiple=True, metavar="K=V", help="A variable of its environment; may be repeated.")
@click.option("--cwd", metavar="DIR", help="Directory it starts in, an absolute path.")
@click.option("--run-as", metavar="USER", help="Run as this user, never as another; needs a worker that can.")
@click.option("--stdin", metavar="TEXT", help="What it reads.")
@click.option("--queue", metavar="NAME", help="Queue (default).")
@click.option("--timeout", metavar="SPAN", help="End it after this (1h).")
@click.option("--grace", metavar="SPAN", help="From TERM to KILL (10s).")
@click.option("--on-lost", metavar="RULE", help="When its worker vanishes: fail or rerun (fail).")
@click.option("--max-crashes", type=int, metavar="N", help="With --on-lost rerun: so many vanished workers end it (3).")
@click.option("--at-most-once", is_flag=True, help="Never start a run a second time, whoever puts it back.")
@click.option("--ttl", metavar="SPAN", help="Latest start after its time, else `expired`.")
@click.option("--catchup", metavar="RULE", help="Of missed ticks: latest, skip or all.")
@click.option("--window", metavar="SPAN", help="How old a missed tick may be to be caught up (24h).")
@click.option("--max-catchup", type=int, metavar="N", help="With --catchup all: how many at most (100).")
@click.option("--overlap", metavar="RULE", help="While an earlier run is there: skip or allow.")
@click.option("--exclusive", is_flag=True, help="Hold the job's lock while it runs, on all hosts.")
@click.option("--lock", metavar="NAME", help="With --exclusive: which lock.")
@click.option("--result-ttl", metavar="SPAN", help="Life of RQ's record of a success (7d).")
@click.option("--failure-ttl", metavar="SPAN", help="Life of RQ's record of a failure (30d).")
@click.option("--keep", type=int, metavar="N", help="Rows of history (1000).")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--owner", metavar="TEXT", help="Whom to ask.")
@click.option("--runbook", metavar="TEXT", help="What to do when it fails.")
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="May be repeated.")
@places
@click.pass_context
def add_command(ctx: click.Context, /, name: str, command: tuple[str, ...], **options: Any) -> int:
    """Store the command CMD as the job NAME: cronq add tidy --every 1h -- find /tmp/x -mtime +7 -delete

    The words after `--` are executed as they are, without a shell. Adding the same again changes nothing.
    """
    if not command:
        raise click.UsageError("the command is missing; it stands after --: cronq add NAME --cron EXPR -- CMD")
    if options["shell"] and len(command) != 1:
        raise click.UsageError("with --shell the command is one text: -- 'a | b'")
    given = {key: value for key, value in options.items() if value not in (None, False, ())}
    if "env" in given:
        given["env"] = _variables(given["env"])
    app = open_app(ctx)
    what = app.add(name, command=list(command), **given)
    say(f"{name} {_ADDED[what]}{_next_words(app, name)}")
    return 0


def _variables(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise click.BadParameter(f"{pair!r} has no value; write --env NAME=VALUE", param_hint="--env")
    return dict(pair.split("=", 1) for pair in pairs)


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@places
@click.pass_context
def rm_command(ctx: click.Context, names: Sequence[str]) -> int:
    """Remove jobs and stop their queued runs; running ones end by themselves, the history stays for its time.

    A job that a module defines comes back with the next start of a beat on that module.
    """
    app = open_app(ctx)
    unknown = 0
    for name in names:
        try:
            with suggesting(app, name):
                stopped = app.remove(name)
        except UnknownJob as error:
            say(error)
            unknown = UnknownJob.exit_code
            continue
        also = f"; {stopped} queued run{'' if stopped == 1 else 's'} stopped" if stopped else ""
        say(f"{name} removed{also}")
    return unknown


def _only_one(name: str | None, queue: str | None, verb: str) -> None:
    if (name is None) == (queue is None):
        raise click.UsageError(f"name the job, or the queue: cronq {verb} NAME, cronq {verb} --queue QUEUE")


@click.command("pause")
@click.argument("name", required=False)
@click.option("--queue", metavar="QUEUE", help="Pause a queue instead: no worker takes anything from it.")
@click.option("--note", default="", metavar="TEXT", help="Why; shown wherever the job is.")
@click.option("--until", metavar="TIME", help="Resume by itself: a span (2h) or an ISO time.")
@places
@click.pass_context
def pause_command(ctx: click.Context, name: str | None, queue: str | None, note: str, until: str | None) -> int:
    """Let no tick of the job NAME run from now on; they are recorded `paused`. Runs by hand still work.

    With --queue nothing that waits there is begun by `cronq worker`s; it stays queued, and ticks go on queueing.
    """
    _only_one(name, queue, "pause")
    app = open_app(ctx)
    if queue is not None:
        if until is not None:
            raise click.UsageError("--until is for jobs; a queue is paused until `cronq resume --queue`")
        app.pause_queue(queue, note=note)
        say(f"the queue {queue} is paused; `cronq resume --queue {queue}` ends it")
        return 0
    assert name is not None
    now_s = app.now_s()
    until_s = until_option(until, now_s, "--until")
    zone = find_job(app, name).spec.tz
    app.pause(name, note=note, until_s=until_s)
    end = "" if until_s is None else f" until {moment(int(until_s), zone, now_s)} ({left(until_s, now_s)})"
    say(f"{name} paused{end}; `cronq resume {name}` ends it")
    return 0


@click.command("resume")
@click.argument("name", required=False)
@click.option("--queue", metavar="QUEUE", help="Resume a queue instead.")
@places
@click.pass_context
def resume_command(ctx: click.Context, name: str | None, queue: str | None) -> int:
    """Let the ticks of the job NAME run again from now on; none of the pause is made up for.

    Without NAME it ends every `drain`.
    """
    app = open_app(ctx)
    if queue is not None:
        _only_one(name, queue, "resume")
        say(f"the queue {queue} {'is resumed' if app.resume_queue(queue) else 'was not paused'}")
        return 0
    if name is None:
        lifted = len(app.end_drains())
        say(f"{lifted} {'drain' if lifted == 1 else 'drains'} ended")
        return 0
    with suggesting(app, name):
        was = app.resume(name)
    say(f"{name} {'resumed' if was else 'was not paused'}{_next_words(app, name)}")
    return 0
