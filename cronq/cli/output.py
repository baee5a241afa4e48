"""What a person or a program reads of the command line: lines, tables, JSON, and times in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from cronq.safetext import printable
from cronq.timetext import format_duration

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.config import Config


def say(words: object) -> None:
    """Talk: one line on stderr. A reader that went away is no reason to end."""
    try:
        click.echo(f"cronq: {printable(' '.join(str(words).split()))}", err=True)
    except OSError:
        pass


def say_problems(problems: Iterable[Exception], said: set[str] | None = None) -> None:
    """Say each problem once, however often it is found: *said* holds those of before, and is added to."""
    said = set() if said is None else said
    for problem in problems:
        if str(problem) not in said:
            said.add(str(problem))
            say(problem)


def say_no_job(config: Config) -> None:
    """Say that the modules of *config* define nothing."""
    say(f"no job is defined in {', '.join(config.jobs)}; decorate a function with @job(...)")


def counted(count: int, word: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def print_line(words: object) -> None:
    """One line of data on stdout, which cannot talk to a terminal whatever stands in it."""
    click.echo(printable(str(words)))


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Plain columns, as wide as they need: a pipe must not lose anything. One row is one line."""
    cells = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def next_words(app: Cronq, name: str) -> str:
    """When the job *name* is due next, to be put behind what was done to it; empty when it never is."""
    job = app.read_job(name)
    if job.next_tick is None:
        return ""
    now_s = app.now_s()
    return f"; next {moment(job.next_tick, job.spec.tz, now_s)} ({left(job.next_tick, now_s)})"


def moment(epoch_s: float | None, zone: str, now_s: float, *, force_utc: bool = False) -> str:
    """A time near enough to be read at a glance: `14:35 CET`, `Mon 23 Nov 07:00 CET`, `2027-03-28 03:00 CEST`.

    What the zone cannot show is shown as UTC, and what no calendar holds as `never`; nothing raises.
    """
    if epoch_s is None:
        return "-"
    try:
        tz = ZoneInfo("UTC" if force_utc else zone)
        there, today = datetime.fromtimestamp(epoch_s, tz), datetime.fromtimestamp(now_s, tz)
    except (ValueError, OverflowError, OSError, KeyError):  # beyond the years of a calendar, or a zone unknown here
        return "never" if force_utc or zone == "UTC" else moment(epoch_s, "UTC", now_s)
    clock = f"{there:%H:%M:%S}" if there.second else f"{there:%H:%M}"
    if there.date() == today.date():
        return f"{clock} {there:%Z}"
    if abs(epoch_s - now_s) < 300 * 86400:
        return f"{there:%a %d %b} {clock} {there:%Z}"
    return f"{there:%Y-%m-%d} {clock} {there:%Z}"


def left(epoch_s: float | None, now_s: float) -> str:
    """How far away: `in 3m`, `2m ago`."""
    if epoch_s is None:
        return "-"
    span = epoch_s - now_s
    if not math.isfinite(span):
        return "never"
    return f"in {format_duration(round(span))}" if span >= 0 else f"{format_duration(round(-span))} ago"
