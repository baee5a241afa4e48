"""What each option of a job may be: looked at when a job is registered, and its ranges again when a spec is read back.

Each check takes the options by name, as they were given, and raises DefinitionError with the field.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cronq.arguments import dump_args, short
from cronq.clock import MOST_DURATION_S, format_duration, parse_duration_s
from cronq.errors import DefinitionError
from cronq.surroundings import check_surroundings
from cronq.zone import find_zone

if TYPE_CHECKING:
    from cronq.job import JobSpec

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
#: Run ids are `<job>-<tick>` and `<job>-m<8 hex>`: a job's own name must not look like one of them.
_LIKE_A_RUN = re.compile(r".*-(\d{8}T\d{6}Z|m[0-9a-f]{8})")
_QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,100}")

CATCHUP = ("latest", "skip", "all")
OVERLAP = ("skip", "allow")
ON_LOST = ("fail", "rerun")
AUTO = "auto"  #: in place of a duration: by the rhythm of the schedule, see `retention`
#: What may stand for an option that is one of a few words; of `dst` the schedule knows.
WORDS = {"catchup": CATCHUP, "overlap": OVERLAP, "on_lost": ON_LOST}

AUTOMATIC = ("result_ttl", "failure_ttl")
DURATIONS = ("every", "window", "ttl", "timeout", "grace", *AUTOMATIC)
#: With more rows or runs than this one job would hold up the others.
_MOST_KEPT = 100_000


def check_name(name: object) -> None:
    """Raise DefinitionError unless *name* can name a job: RQ's job ids allow no other characters."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is not a job name; use 1 to 100 of the characters A-Z a-z 0-9 _ -", field="name"
        )
    if _LIKE_A_RUN.fullmatch(name):
        raise DefinitionError(f"{name!r} ends like the id of a run; choose another ending", field="name")


def duration(key: str, value: str | float | timedelta) -> float:
    """The option *key* in seconds, however it was written. Raises DefinitionError."""
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise DefinitionError(str(error), field=key) from None


def check_words(values: dict[str, Any]) -> None:
    """Options that are one of a few words, or true or false."""
    for key, allowed in WORDS.items():
        if key in values and values[key] not in allowed:
            raise DefinitionError(f"{values[key]!r} is not one of {', '.join(allowed)}", field=key)
    for key in ("exclusive", "at_most_once"):
        if key in values and type(values[key]) is not bool:
            raise DefinitionError(f"{values[key]!r} is neither True nor False", field=key)


def check_numbers(values: dict[str, Any]) -> None:
    """The queue, and options that are whole numbers."""
    queue = values.get("queue", "default")
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
        raise DefinitionError(f"{queue!r} is not a queue name; use A-Z a-z 0-9 _ . -", field="queue")
    for key, least in (("max_catchup", 1), ("keep", 10), ("max_crashes", 1)):
        if key in values and not (type(values[key]) is int and least <= values[key] <= _MOST_KEPT):
            problem = f"{short(values[key])} is not a whole number from {least} to {_MOST_KEPT:,}"
            raise DefinitionError(problem, field=key)


def check_texts(values: dict[str, Any]) -> None:
    """Options that are text or, like `tags`, lists of words."""
    tags = values.get("tags", ())
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise DefinitionError(f"{short(tags)} is not a list of words", field="tags")
    values["tags"] = tuple(tags)
    for key in ("cron", "at", "tz", "dst", "lock", "description", "owner", "runbook"):
        value = values.get(key)
        if value is not None and not isinstance(value, str):
            raise DefinitionError(f"{short(value)} is not text", field=key)
    for key, most in (("description", 10_000), ("owner", 1_000), ("runbook", 1_000)):
        if len(values.get(key) or "") > most:
            problem = f"{len(values[key]):,} characters, and {most:,} are allowed; link to the rest"
            raise DefinitionError(problem, field=key)
    for key in ("owner", "runbook", "lock"):
        if any(ord(char) < 32 for char in values.get(key) or ""):
            raise DefinitionError(f"{values[key]!r} has a line break or control character", field=key)


def check_work(values: dict[str, Any]) -> None:
    """What it runs: a function with JSON arguments, or a command; settled in place."""
    _settle_arguments(values)
    check_program(values)
    for key in ("args", "kwargs"):
        if values.get("command") is not None and values[key]:
            problem = f"{short(values[key])}; a command takes its arguments in its own list, put them there"
            raise DefinitionError(problem, field=key)


def check_program(values: dict[str, Any]) -> None:
    """A function or a command, and what a command is given; settled in place."""
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


def check_ranges(spec: JobSpec) -> None:
    """What harms whoever acts on it when it is out of range: durations, the lock's name, the schedule and its zone."""
    for key in DURATIONS:
        value = getattr(spec, key)
        if isinstance(value, int | float) and not 0 <= value < MOST_DURATION_S:
            raise DefinitionError(f"{short(value)} is not a duration between 0 and 3,000 years", field=key)
    if spec.lock is not None and not _NAME.fullmatch(spec.lock):
        raise DefinitionError(
            f"{spec.lock!r} is not a lock name; use 1 to 100 of the characters A-Z a-z 0-9 _ -", field="lock"
        )
    for key, least, most in (("timeout", 1, 366 * 86400), ("grace", 0, 3600)):
        value = getattr(spec, key)
        if not least <= value <= most:
            span = f"from {format_duration(least)} to {format_duration(most)}"
            raise DefinitionError(f"{format_duration(value)} is out of range; use {span}", field=key)
    for key, least in (("ttl", 1), ("result_ttl", 60), ("failure_ttl", 60)):
        value = getattr(spec, key)
        if isinstance(value, int | float) and value < least:
            raise DefinitionError(
                f"{format_duration(value)} is too short; use at least {format_duration(least)}", field=key
            )
    if spec.schedule is None:
        find_zone(spec.tz)  # times of the job are shown in it


def check_sense(spec: JobSpec) -> None:
    """Options that contradict each other. Not looked at in stored specs: those of before go on as they did."""
    if spec.lock is not None and not spec.exclusive:
        raise DefinitionError(f"{spec.lock!r} is only taken with exclusive=True; add that", field="lock")
    if spec.at_most_once and spec.on_lost == "rerun":
        problem = "True, and on_lost='rerun' would start a run twice; leave one of them out"
        raise DefinitionError(problem, field="at_most_once")
    if spec.catchup == "all" and spec.keep < spec.max_catchup:
        problem = (
            f"{spec.keep} rows are fewer than max_catchup={spec.max_catchup}, and catchup='all' needs a row for each "
            "tick it runs; raise keep or lower max_catchup"
        )
        raise DefinitionError(problem, field="keep")
