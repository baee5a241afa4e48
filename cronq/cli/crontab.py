"""`crontab import` and `crontab export`: from crontabs to jobs, and back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cronq.app.views import crontab_document
from cronq.cli.options import as_json, open_app, options_of_cronq, suggesting
from cronq.cli.output import print_json, print_line, say

if TYPE_CHECKING:
    from cronq.app.views import CrontabReport

_WORDS = ("created", "changed", "same", "ghosts", "removed")
#: Where files have a user column, whatever the caller says.
_SYSTEM = ("/etc/crontab", "/etc/cron.d/")
_SPOOL = "/var/spool/cron/crontabs"
_LARGEST = 16 * 1024 * 1024
#: Of a line that cannot be carried over so much is quoted.
_QUOTED = 120


@click.group("crontab", subcommand_metavar="import|export ...")
def crontab_command() -> None:
    """Bring the lines of crontabs here as jobs, and write jobs as the lines of a crontab."""


@crontab_command.command("import", short_help="Make each line of a crontab a job.")
@click.argument("file", metavar="FILE")
@click.option("--system", is_flag=True, help="It has a user column; known of /etc/crontab and /etc/cron.d.")
@click.option("--user", metavar="NAME", help="Whose crontab it is, where it has no user column (you).")
@click.option("--tz", metavar="ZONE", help="IANA name of the zone where no CRON_TZ is set (this machine's).")
@click.option("--queue", metavar="NAME", help="Queue (default).")
@click.option("--timeout", metavar="SPAN", help="End a run after this (1d).")
@click.option(
    "--overlap", metavar="RULE", help="While an earlier run is there: skip, allow, queue, latest or replace (skip)."
)
@click.option("--catchup", metavar="RULE", help="Of missed ticks: latest, skip or all (skip).")
@click.option("--prune", is_flag=True, help="Remove the jobs whose line is gone.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@as_json
@options_of_cronq
@click.pass_context
def crontab_import_command(
    ctx: click.Context, /, file: str, system: bool, prune: bool, dry_run: bool, json_: bool, user: str | None,
    tz: str | None, **options: str | None,
) -> int:  # fmt: skip
    """Make each line of the crontab FILE a job; `-` reads one from a pipe.

    \b
        crontab -l | cronq crontab import -

    A second import changes what has changed. A job whose line is gone stays, as a ghost. Lines that cannot be carried
    over are named with their reason, and the exit code is 1.
    """
    from cronq.app.accounts import has_user

    if user is not None and (system or not has_user(user)):
        why = "with --system the file itself names the users" if system else f"there is no user {user!r} here"
        raise click.BadParameter(why, param_hint="--user")
    raw, path, system, user = _read(file, system, user)
    given = {name: value for name, value in options.items() if value is not None}
    app = open_app(ctx)
    report = app.import_crontab(raw, path, system=system, user=user, tz=tz, prune=prune, dry_run=dry_run, **given)
    if json_:
        print_json(crontab_document(report))
    else:
        for words in _WORDS:
            for name in getattr(report, words) if words != "same" else ():
                print_line(f"{'ghost' if words == 'ghosts' else words} {name}")
    _tell(report, path, dry_run)
    return 1 if report.faults else 0


def _read(file: str, system: bool, user: str | None) -> tuple[bytes, str, bool, str | None]:
    """The text, the path it is known by, whether it has a user column, and whose it is."""
    if file == "-":
        from cronq.app.accounts import own_user

        user = user or own_user()
        return sys.stdin.buffer.read(), f"~{user}", system, user
    path = Path(os.path.abspath(file))  # one file, one path: `..` in it would make other jobs of the same lines
    try:
        with path.open("rb") as opened:
            raw = opened.read(_LARGEST + 1)
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None
    if len(raw) > _LARGEST or b"\0" in raw:
        why = f"larger than {_LARGEST >> 20} MiB" if b"\0" not in raw else "not a text: it has a NUL byte"
        raise click.BadParameter(f"{file} is {why}, and so no crontab", param_hint="FILE")
    if str(path.parent) == _SPOOL:
        user = user or path.name
    return raw, str(path), system or str(path).startswith(_SYSTEM), user


def _tell(report: CrontabReport, path: str, dry_run: bool) -> None:
    for fault in report.faults:
        quoted = fault.text.strip()
        quoted = quoted if len(quoted) <= _QUOTED else quoted[:_QUOTED] + "…"
        say(f"{path}:{fault.number}: {fault.reason}: {quoted}")
    for note in report.notes:
        say(f"{path}: {note}")
    if report.same:
        say(f"{len(report.same)} job{' is as it was' if len(report.same) == 1 else 's are as they were'}")
    if report.ghosts:
        say("the line of a ghost is gone and its job goes on: `cronq rm NAME`, or import with --prune")
    if not any(getattr(report, words) for words in _WORDS) and not report.faults:
        say(f"{path} has no line that starts a command")
    if dry_run:
        say("this was a dry run: nothing was changed")


@crontab_command.command("export", short_help="Write jobs as the lines of a crontab.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--system", is_flag=True, help="With a user column, as in /etc/cron.d.")
@click.option("--user", metavar="NAME", help="Whose crontab it is to be, without --system (you).")
@options_of_cronq
@click.pass_context
def crontab_export_command(ctx: click.Context, names: tuple[str, ...], system: bool, user: str | None) -> int:
    """Write jobs (default: all) as a crontab; one that cron cannot run is a comment with its reason."""
    app = open_app(ctx)
    for name in names:
        with suggesting(app, name):
            app.read_job(name)
    lines = app.export_crontab(names, system=system, user=user)
    for line in ["# Debian's cron knows no CRON_TZ: there, use this only on machines in that zone.", *lines]:
        print_line(line) if sys.stdout.isatty() else click.echo(line)  # a file gets each character as it is
    return 0
