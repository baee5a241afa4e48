"""What a person or a program reads of the command line: lines, tables, JSON, and times in words."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from cronq.safetext import printable
from cronq.timetext import format_duration

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.config import Config

#: Lines that are written together.
_AT_ONCE = 1000
#: Characters that a text keeps at least when it is cut to fit a terminal.
_LEAST_CUT = 16
#: What a text that stands below its row is indented by.
_BELOW = " " * 4


def say(words: object) -> None:
    """Print one line of talk on stderr. A reader that went away is no reason to end."""
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
    """Print one line of data on stdout; whatever stands in it cannot control a terminal."""
    click.echo(printable(str(words)))


def print_lines(lines: Iterable[str]) -> None:
    """The same for as many lines as there are, which may be millions."""
    rest = map(printable, lines)
    while part := list(islice(rest, _AT_ONCE)):
        click.echo("\n".join(part))


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_json_rows(rows: Iterable[Any]) -> None:
    """Print one JSON document on stdout, a list with a line for each row: there may be millions."""
    rest, before = map(json.JSONEncoder().encode, rows), "["
    while part := list(islice(rest, _AT_ONCE)):
        click.echo(before + "\n  " + ",\n  ".join(part), nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    cut: Sequence[str] = (),
    spare: Sequence[str] = (),
    drop: Sequence[str] = (),
    below: bool = False,
) -> None:
    """Print plain columns, as wide as they need: a pipe must not lose anything. One row is one line.

    On a terminal that is too narrow the texts of the last column stand *below* their rows, the columns *spare* are left
    out, the last one first, and the texts of the columns *cut* end in `…`; should that not help, lines are as long as
    they are. The columns *drop* are left out before a text is cut that has to be shown.
    """
    columns = [[name, *(printable(row[i]) for row in rows)] for i, name in enumerate(head)]
    most = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    texts: list[str] = []
    if most:  # a terminal, and one that says how wide it is
        if below and _line_width(columns) > most:
            texts = columns.pop()[1:]
        if drop and _line_width(_fitted(columns, most, [name for name in cut if name in spare], ())) > most:
            columns = [column for column in columns if column[0] not in drop]
        columns = _fitted(columns, most, cut, spare)
    widths = [_width(column) for column in columns]
    for number, row in enumerate(zip(*columns, strict=True)):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if texts and number:
            for line in textwrap.wrap(texts[number - 1], max(most - len(_BELOW), _LEAST_CUT)):
                click.echo(_BELOW + line)


def _fitted(columns: list[list[str]], most: int, cut: Sequence[str], spare: Sequence[str]) -> list[list[str]]:
    """The *columns*, each a name and its cells, made narrower until a row has at most *most* characters."""
    for left_out in range(len(spare) + 1):
        shown = [column for column in columns if column[0] not in spare[len(spare) - left_out :]]
        over = _line_width(shown) - most
        for column in sorted((column for column in shown if column[0] in cut), key=_width, reverse=True):
            width = max(_LEAST_CUT, _width(column) - max(0, over))
            if over > 0 and width < _width(column):
                over -= _width(column) - width
                column_at = shown.index(column)
                shown[column_at] = [cell if len(cell) <= width else cell[: width - 1] + "…" for cell in column]
        if over <= 0:
            return shown
    return columns


def _line_width(columns: Iterable[Sequence[str]]) -> int:
    return sum(_width(column) + 2 for column in columns) - 2


def _width(column: Sequence[str]) -> int:
    return max(len(cell) for cell in column)


def next_words(app: Cronq, name: str) -> str:
    """Return `; next …`, when the job *name* is due next, to end a line about it; empty when it has no schedule."""
    job = app.read_job(name)
    if job.spec.after:
        return f"; it runs after {', '.join(job.spec.after)}"
    if job.next_tick is None:
        return "; it has no tick to come" if job.is_over else ""
    now_s = app.now_s()
    return f"; next {moment(job.next_tick, job.spec.tz, now_s)} ({left(job.next_tick, now_s)})"


def spread_text(spread: Mapping[str, Any] | None) -> str | None:
    """`p50 0.012s, p99 0.03s, max 1.2s (42 runs)`; None when no run tells of it."""
    if spread is None:
        return None
    figures = ", ".join(f"{name} {format_duration(spread[name])}" for name in ("p50", "p99", "max"))
    return f"{figures} ({counted(spread['runs'], 'run')})"


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
