"""`calendar`: named days and hours that jobs run on, or do not."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import click

from cronq.app.views import calendar_row
from cronq.cli.options import as_json, open_app, options_of_cronq
from cronq.cli.output import counted, print_json, print_line, print_table, say, say_problems

if TYPE_CHECKING:
    from cronq.app.views import Calendar

#: Characters of the days of a calendar that a table shows.
_LONGEST_DAYS = 60


@click.group("calendar", subcommand_metavar="VERB ...")
@options_of_cronq
def calendar_command() -> None:
    """Named days and hours: holidays, business days, freezes. Jobs name them with --only and --except."""


def _listed(values: tuple[str, ...]) -> list[str]:
    """The dates in options that were repeated, or that each hold several with commas."""
    return [part for value in values for part in value.replace(",", " ").split()]


@calendar_command.command("set", short_help="Store a calendar, in place of one of that name.")
@click.argument("name")
@click.option(
    "--dates", multiple=True, metavar="DATES", help="2026-12-25,2026-12-26..2026-12-31; may be repeated."
)  # fmt: skip
@click.option(
    "--weekly", multiple=True, metavar="DAYS", help="'sat,sun', or 'mon-fri 22:00-06:00'; may be repeated."
)  # fmt: skip
@click.option(
    "--ics", type=click.File("rb"), metavar="FILE", help="An .ics file: its events of the next five years become dates."
)
@click.option("--tz", metavar="ZONE", help="Its zone; without it each job's own.")
@click.option("--note", default="", metavar="TEXT", help="What it is for.")
@options_of_cronq
@click.pass_context
def set_command(
    ctx: click.Context,
    name: str,
    dates: tuple[str, ...],
    weekly: tuple[str, ...],
    ics: IO[bytes] | None,
    tz: str | None,
    note: str,
) -> int:
    """Store the calendar NAME, in place of one of that name. Beats heed it within two seconds, for ticks to come.

    \b
        cronq calendar set holidays --dates 2026-12-25,2026-12-26
        cronq calendar set school --ics school.ics
        cronq calendar set business --weekly mon-fri
        cronq calendar set freeze --dates 2026-12-18..2027-01-04 --note 'year end'
    """
    app = open_app(ctx)
    read = None if ics is None else ics.read()
    made = app.set_calendar(name, dates=_listed(dates), weekly=weekly, ics=read, tz=tz, note=note)
    say(f"the calendar {name} holds {_days_text(made)}{f' in {tz}' if tz else ''}")
    return 0


def _days_text(calendar: Calendar) -> str:
    """Its days, cut to what a line can show."""
    words = "; ".join([*(each.text for each in calendar.weekly), ", ".join(str(each) for each in calendar.dates)])
    words = words.strip("; ")
    return words if len(words) <= _LONGEST_DAYS else words[: _LONGEST_DAYS - 1] + "…"


def _list_row(calendar: Calendar, users: int) -> list[str]:
    return [calendar.name, calendar.tz or "the job's", counted(users, "job"), _days_text(calendar), calendar.note]


@calendar_command.command("list", short_help="All calendars, and the jobs that use them.")
@as_json
@options_of_cronq
@click.pass_context
def list_command(ctx: click.Context, json_: bool) -> int:
    """All calendars, and how many jobs use each."""
    app = open_app(ctx)
    calendars, problems = app.read_calendars()
    users = app.jobs_by_calendar()
    say_problems(problems)
    if json_:
        print_json([calendar_row(each, users.get(each.name, [])) for each in calendars])
    elif calendars:
        rows = [_list_row(each, len(users.get(each.name, ()))) for each in calendars]
        print_table(["NAME", "ZONE", "USED BY", "DAYS", "NOTE"], rows, cut=["NOTE", "DAYS"], spare=["NOTE"])
    else:
        say("no calendars; make one with `cronq calendar set NAME --dates 2026-12-25`")
    return 0


@calendar_command.command("show", short_help="All days of one calendar.")
@click.argument("name")
@as_json
@options_of_cronq
@click.pass_context
def show_command(ctx: click.Context, name: str, json_: bool) -> int:
    """All days of the calendar NAME, and the jobs that use it."""
    app = open_app(ctx)
    calendar = app.read_calendar(name)
    row = calendar_row(calendar, app.jobs_by_calendar().get(name, []))
    if json_:
        print_json(row)
        return 0
    facts = [
        ("name", calendar.name), ("note", calendar.note), ("zone", calendar.tz or "the job's"),
        ("set", f"{row['set_at']} by {row['by']}"), ("used by", ", ".join(row["jobs"])),
    ]  # fmt: skip
    facts += [("weekly", each) for each in row["weekly"]] + [("dates", each) for each in row["dates"]]
    for label, value in facts:
        if value:
            print_line(f"{label:<9} {value}")
    return 0


@calendar_command.command("rm", short_help="Remove a calendar that no job uses.")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also one that jobs use: as --except it holds nothing then.")
@options_of_cronq
@click.pass_context
def rm_command(ctx: click.Context, name: str, force: bool) -> int:
    """Remove the calendar NAME. Refused with 75 while jobs use it.

    With --force a job with it in --except runs on, and one with nothing else in --only does not run any more.
    """
    users = open_app(ctx).remove_calendar(name, force=force)
    also = f"; still named by {', '.join(users)}" if users else ""
    say(f"the calendar {name} is removed{also}")
    return 0
