"""The options of a job in one table, and what each may be: looked at when a job is registered, its ranges again when a
spec is read back.

Each check takes the options by name, as they were given, and raises DefinitionError with the field.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from cronq.errors import DefinitionError
from cronq.jobs.arguments import dump_args, short
from cronq.jobs.command_options import check_surroundings
from cronq.schedule.moment import parse_moment_s
from cronq.schedule.schedule import DST_RULES
from cronq.schedule.zone import find_zone
from cronq.timetext import DAY_S, MOST_DURATION_S, format_duration, parse_duration_s

NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
#: Run ids are `<job>-<tick>` and `<job>-m<8 hex>`: a job's own name must not look like one of them.
_LIKE_A_RUN = re.compile(r".*-(\d{8}T\d{6}Z|m[0-9a-f]{8})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,100}")

CATCHUP = ("latest", "skip", "all")
OVERLAP = ("skip", "allow", "queue", "latest", "replace")
ON_LOST = ("fail", "rerun")
ON_PARENT_FAILURE = ("wait", "run")
ISOLATION = ("auto", "clean", "run")
#: The options that name calendars.
CALENDARS = ("only", "except_")
AUTO = "auto"  #: in place of a duration: by the rhythm of the schedule, see `retention`
#: With more rows or runs than this one job would hold up the others.
_MOST_KEPT = 100_000
_YEAR_S = 366 * DAY_S
#: A priority is from minus this to this: with a tick it stands in one score, exactly (`jobs/catchup_line`).
MOST_PRIORITY = 1000


class Kind(Enum):
    """What the value of an option is."""

    TEXT = "text"
    WORD = "one of a few words"
    DURATION = "a span of time, in seconds when it is stored"
    NUMBER = "a whole number"
    FACTOR = "a number that may have a fraction"
    FLAG = "true or false"
    MOMENT = "a date with a time, in epoch seconds when it is stored"
    PAIRS = "names with values"
    LIST = "several words"
    OTHER = "what a check of its own looks at"


@dataclass(frozen=True)
class Option:
    """One option of a job.

    *default* is as a spec stores it: a duration in seconds. *least* and *most* bound a number, a duration in seconds,
    or the length of a text. *help* is that of `cronq add`, which has no flag for an option without one.
    """

    name: str
    kind: Kind
    default: Any
    help: str = ""
    metavar: str = ""
    words: tuple[str, ...] = ()  #: what may be given
    least: float = 0
    most: float = MOST_DURATION_S
    may_be_auto: bool = False
    is_one_line: bool = False


_T, _D, _N = Kind.TEXT, Kind.DURATION, Kind.NUMBER
#: Every option of a job but its name and its function, in the order of `cronq add --help`.
OPTIONS: tuple[Option, ...] = (
    Option("cron", _T, None, "When, as a cron expression.", "EXPR"),
    Option("every", _D, None, "When, as an interval: 90s, 5m, 1d.", "SPAN"),
    Option("at", _T, None, "With whole days: at what time. With a date: once, then.", "HH:MM"),
    Option("anchor", Kind.MOMENT, None, "What an interval counts from: 2026-01-05T00:00.", "TIME"),
    Option("tz", _T, "UTC", "IANA name of the zone.", "ZONE"),
    Option("start", Kind.MOMENT, None, "No tick before it: 2026-12-24T18:00, in the job's zone.", "TIME"),
    Option("end", Kind.MOMENT, None, "No tick after it, likewise.", "TIME"),
    Option("repeat", _N, None, "So many ticks, then it is finished.", "N", least=1, most=10_000),
    Option("jitter", _D, None, "Queue each tick up to so much later, to spread jobs.", "SPAN", least=1, most=DAY_S),
    Option("dst", _T, "debian", "When clocks change: debian, skip or both.", "RULE", words=DST_RULES),
    Option("only", Kind.LIST, (), "Only ticks that this calendar holds run; may be repeated.", "CALENDAR"),
    Option("except_", Kind.LIST, (), "No tick runs that this calendar holds; may be repeated.", "CALENDAR"),
    Option("depends_on", Kind.LIST, (), "A tick runs once this job's latest has succeeded; may be repeated.", "NAME"),
    Option("after", Kind.LIST, (), "Instead of a schedule: run when this job has succeeded; may be repeated.", "NAME"),
    Option("on_parent_failure", Kind.WORD, "wait", "With --after, when one of them failed: wait or run.", "RULE",
           words=ON_PARENT_FAILURE),
    Option("command", Kind.OTHER, None),
    Option("args", Kind.OTHER, ()),
    Option("kwargs", Kind.OTHER, {}),
    Option("shell", Kind.OTHER, False, "Give CMD, one text, to /bin/sh."),
    Option("env", Kind.PAIRS, {}, "A variable of its environment; may be repeated.", "K=V"),
    Option("cwd", Kind.OTHER, None, "Directory it starts in, an absolute path.", "DIR"),
    Option("run_as", Kind.OTHER, None, "Run as this user, never as another; needs a worker that can.", "USER"),
    Option("stdin", Kind.OTHER, None, "What it reads.", "TEXT"),
    Option("queue", Kind.OTHER, "default", "Queue.", "NAME"),
    Option("timeout", _D, 3600.0, "End it after this.", "SPAN", least=1, most=_YEAR_S),
    Option("warn_after", _D, None, "Warn when a run takes longer than this.", "SPAN", least=1, most=_YEAR_S),
    Option("grace", _D, 10.0, "From TERM to KILL.", "SPAN", most=3600),
    Option("on_lost", Kind.WORD, "fail", "When its worker vanishes: fail or rerun.", "RULE", words=ON_LOST),
    Option("max_crashes", _N, 3, "With --on-lost rerun: so many vanished workers end it.", "N",
           least=1, most=_MOST_KEPT),
    Option("at_most_once", Kind.FLAG, False, "Never start a run a second time, whoever puts it back."),
    Option("isolation", Kind.WORD, "auto", words=ISOLATION),  # `cronq add` makes commands, each a process of its own
    Option("retries", _N, 0, "Try again so often when it failed or timed out.", "N", most=1000),
    Option("retry_delay", _D, 60.0, "From the end of an attempt to the next.", "SPAN", most=_YEAR_S),
    Option("backoff", Kind.FACTOR, 1.0, "Each delay is so many times the one before.", "X", least=1, most=100),
    Option("max_retry_delay", _D, 3600.0, "With --backoff: the longest delay.", "SPAN", least=1, most=_YEAR_S),
    Option("ttl", _D, None, "Latest start after its time, else `expired`.", "SPAN", least=1),
    Option("catchup", Kind.WORD, "latest", "Of missed ticks: latest, skip or all.", "RULE", words=CATCHUP),
    Option("window", _D, 86400.0, "How old a missed tick may be to be caught up.", "SPAN"),
    Option("max_catchup", _N, 100, "With --catchup all: how many at most.", "N", least=1, most=_MOST_KEPT),
    Option("backfill", Kind.FLAG, False, "Run each tick, one at a time, when the one before has succeeded."),
    Option("priority", _N, 0, "Of ticks due at once, those of a higher one are queued first.", "N",
           least=-MOST_PRIORITY, most=MOST_PRIORITY),
    Option("overlap", Kind.WORD, "skip", "While an earlier run is there: skip, allow, queue, latest or replace.",
           "RULE", words=OVERLAP),
    Option("pause_after_failures", _N, None, "Pause it when so many runs in a row have failed.", "N",
           least=1, most=_MOST_KEPT),
    Option("exclusive", Kind.FLAG, False, "Hold the job's lock while it runs, on all hosts."),
    Option("lock", _T, None, "With --exclusive: which lock.", "NAME", is_one_line=True),
    Option("result_ttl", _D, AUTO, "Life of RQ's record of a success.", "SPAN", least=60, may_be_auto=True),
    Option("failure_ttl", _D, AUTO, "Life of RQ's record of a failure.", "SPAN", least=60, may_be_auto=True),
    Option("keep", _N, 1000, "Rows of history.", "N", least=10, most=_MOST_KEPT),
    Option("description", _T, "", "What it is for.", "TEXT", most=10_000),
    Option("owner", _T, "", "Whom to ask.", "TEXT", most=1_000, is_one_line=True),
    Option("runbook", _T, "", "What to do when it fails.", "TEXT", most=1_000, is_one_line=True),
    Option("tags", Kind.LIST, (), "May be repeated.", "WORD"),
)  # fmt: skip
DEFAULTS: dict[str, Any] = {option.name: option.default for option in OPTIONS}
#: What may stand for an option that is one of a few words.
WORDS = {option.name: option.words for option in OPTIONS if option.words}
AUTOMATIC = tuple(option.name for option in OPTIONS if option.may_be_auto)
MOMENTS = tuple(option.name for option in OPTIONS if option.kind is Kind.MOMENT)
DURATIONS = tuple(option.name for option in OPTIONS if option.kind is Kind.DURATION)
#: A beat reads many thousands of specs: what it checks in each does not go through all options.
SPANS_AND_MOMENTS = tuple(option for option in OPTIONS if option.kind in (Kind.DURATION, Kind.MOMENT))
_NUMBERS = tuple(option for option in OPTIONS if option.kind in (Kind.NUMBER, Kind.FACTOR))


def check_name(name: object) -> None:
    """Raise DefinitionError unless *name* can name a job: RQ's job ids allow no other characters."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is not a job name; use 1 to 100 of the characters A-Z a-z 0-9 _ -", field="name"
        )
    if _LIKE_A_RUN.fullmatch(name):
        raise DefinitionError(f"{name!r} ends like the id of a run; choose another ending", field="name")


def check_calendars(values: dict[str, Any]) -> None:
    """Check `only` and `except_`, a name or several; *values* then hold each once, in a tuple."""
    for key in CALENDARS:
        names = values.get(key, ())
        names = (names,) if isinstance(names, str) else names
        if not isinstance(names, list | tuple) or not all(
            isinstance(name, str) and NAME.fullmatch(name) for name in names
        ):
            problem = f"{short(values[key])} is neither the name of a calendar nor a list; see `cronq calendar list`"
            raise DefinitionError(problem, field=key)
        values[key] = tuple(dict.fromkeys(names))


def duration(key: str, value: str | float | timedelta) -> float:
    """The option *key* in seconds, however it was written. Raises DefinitionError."""
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise DefinitionError(str(error), field=key) from None


def moment_s(key: str, value: Any, tz: Any) -> int:
    """The option *key* in epoch seconds; without an offset it is of the zone *tz*. Raises DefinitionError.

    A date alone is its midnight where a whole day is as good: for an anchor.
    """
    zone = find_zone(tz if isinstance(tz, str) else repr(tz))
    if key == "anchor" and isinstance(value, str) and _DATE.fullmatch(value.strip()):
        value = f"{value.strip()}T00:00"
    try:
        return parse_moment_s(value, zone)
    except ValueError as error:
        raise DefinitionError(str(error), field=key) from None


def check_words(values: dict[str, Any]) -> None:
    """Check the options that are one of a few words, and those that are true or false."""
    for option in OPTIONS:
        if option.name not in values:
            continue
        value = values[option.name]
        if option.kind is Kind.WORD and value not in option.words:
            raise DefinitionError(f"{value!r} is not one of {', '.join(option.words)}", field=option.name)
        if option.kind is Kind.FLAG and type(value) is not bool:
            raise DefinitionError(f"{value!r} is neither True nor False", field=option.name)


def check_queue(values: dict[str, Any]) -> None:
    """Check the name of the queue."""
    queue = values.get("queue", DEFAULTS["queue"])
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
        raise DefinitionError(f"{queue!r} is not a queue name; use A-Z a-z 0-9 _ . -", field="queue")


def check_numbers(values: dict[str, Any]) -> None:
    """Check the options that are numbers, each within its bounds; a factor then is a float."""
    for option in _NUMBERS:
        if option.name not in values:
            continue
        value = values[option.name]
        if option.kind is Kind.FACTOR:
            values[option.name] = _factor(option, value)
            continue
        if value is None and option.default is None:
            continue
        if type(value) is not int or not option.least <= value <= option.most:
            problem = f"{short(value)} is not a whole number from {option.least:,} to {option.most:,}"
            raise DefinitionError(problem, field=option.name)


def _factor(option: Option, value: Any) -> float:
    if type(value) not in (int, float) or not option.least <= value <= option.most:
        problem = f"{short(value)} is not a number from {option.least:,} to {option.most:,}"
        raise DefinitionError(problem, field=option.name)
    return float(value)


def check_texts(values: dict[str, Any]) -> None:
    """Check the options that are text, and the list of words in `tags`."""
    tags = values.get("tags", ())
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise DefinitionError(f"{short(tags)} is not a list of words", field="tags")
    values["tags"] = tuple(tags)
    texts = [
        (option, value)
        for option in OPTIONS
        if option.kind is Kind.TEXT
        if (value := values.get(option.name)) is not None
    ]
    for option, value in texts:
        if not isinstance(value, str):
            raise DefinitionError(f"{short(value)} is not text", field=option.name)
        if len(value) > option.most:
            problem = f"{len(value):,} characters, and {option.most:,} are allowed; link to the rest"
            raise DefinitionError(problem, field=option.name)
        if option.is_one_line and any(ord(char) < 32 for char in value):
            raise DefinitionError(f"{value!r} has a line break or control character", field=option.name)


def check_work(values: dict[str, Any]) -> None:
    """Check what the job runs, a function with JSON arguments or a command; *values* then hold it in its final form."""
    _settle_arguments(values)
    check_program(values)
    for key in ("args", "kwargs"):
        if values.get("command") is not None and values[key]:
            problem = f"{short(values[key])}; a command takes its arguments in its own list, put them there"
            raise DefinitionError(problem, field=key)


def check_program(values: dict[str, Any]) -> None:
    """Check that it is a function or a command, and the options of a command; *values* then hold their final form."""
    command = values.get("command")
    if (command is None) == (values.get("function") is None):
        given = "nothing to run" if command is None else short(command)
        raise DefinitionError(f"{given}; a job runs either a function or a command", field="command")
    check_surroundings(values)
    if command is not None:
        values["command"] = _checked_command(command, shell=bool(values.get("shell")))


def _settle_arguments(values: dict[str, Any]) -> None:
    args, kwargs = values.get("args"), values.get("kwargs")
    if args is not None and not isinstance(args, list | tuple):
        raise DefinitionError(f"{short(args)} is not a list; write args=[...]", field="args")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise DefinitionError(f"{short(kwargs)} is not a mapping; write kwargs={{...}}", field="kwargs")
    if not all(isinstance(key, str) for key in kwargs or ()):
        raise DefinitionError(f"{short(kwargs)}: the names of keyword arguments are text", field="kwargs")
    # As they will arrive in the job, and independent of lists that the caller may go on changing.
    values["args"], values["kwargs"] = json.loads(dump_args(tuple(args or ()), kwargs or {}))
    values["args"] = tuple(values["args"])


def _checked_command(command: Any, *, shell: bool) -> tuple[str, ...]:
    if isinstance(command, str):
        if not shell:
            raise DefinitionError(
                f"{short(command)} is one text; give a list of arguments, or shell=True", field="command"
            )
        command = (command,)
    listed = isinstance(command, list | tuple) and all(isinstance(word, str) and "\0" not in word for word in command)
    if not listed or not command or not command[0].strip():
        raise DefinitionError(
            f"{short(command)} is not a list of words of which the first is a program", field="command"
        )
    if shell and len(command) != 1:
        raise DefinitionError(f"{short(command)}: with a shell the command is one line of text", field="command")
    return tuple(command)


def check_span(option: Option, value: float) -> None:
    """Refuse a duration that is none, or not within the bounds of *option*."""
    if not 0 <= value < MOST_DURATION_S:
        raise DefinitionError(f"{short(value)} is not a duration between 0 and 3,000 years", field=option.name)
    if option.least <= value <= option.most:
        return
    least = format_duration(option.least)
    if option.most == MOST_DURATION_S:
        raise DefinitionError(f"{format_duration(value)} is too short; use at least {least}", field=option.name)
    problem = f"{format_duration(value)} is out of range; use from {least} to {format_duration(option.most)}"
    raise DefinitionError(problem, field=option.name)
