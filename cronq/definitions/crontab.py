"""Crontabs as text: what Debian's cron would do with each line, and the jobs that do the same.

The grammar is that of crontab(5) and nothing more: `L`, `#`, `H`, seconds and `5/10` are cronq's, and in a crontab
they are faults. Where cron would ignore the rest of a field or a range that runs backwards, the line is a fault too:
whoever wrote it meant something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cronq.errors import ScheduleError
from cronq.jobs.command_options import SH
from cronq.schedule.cron import FIELDS, MACROS, Field
from cronq.schedule.zone import find_zone

#: Debian's cron reads no longer command; it refuses such a line, and so the command has never run.
LONGEST_COMMAND = 998
#: Of a command or its input so much is quoted in a note.
_QUOTED = 60

VARIABLE = re.compile(
    r"""(?:"([^"=]*)"|'([^'=]*)'|([^\s=]+)) \s*=\s* (?:"([^"]*)"|'([^']*)'|((?:[^"'\s].*)?)) \s*""",
    re.VERBOSE | re.ASCII,
)
#: What would end a line, or talk to a terminal that shows it.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
BLANKS = " \t\n\r\v\f"  # as C has them
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TERM = re.compile(r"(?:\*|([A-Za-z0-9]+)(?:-([A-Za-z0-9]+))?)(?:/([0-9]+))?")


@dataclass(frozen=True)
class CrontabLine:
    """One line that starts a command, with the variables that hold for it."""

    number: int
    text: str
    cron: str  #: five fields or a macro, as cronq reads them
    user: str | None  #: of the user column; None in a user's own crontab
    command: str  #: what the shell is given
    stdin: str | None
    variables: Mapping[str, str]  #: without CRON_TZ, SHELL and LOGNAME
    shell: str = SH
    tz: str | None = None  #: CRON_TZ


class Fault(NamedTuple):
    """A line that cannot be carried over."""

    number: int
    text: str
    reason: str
    never: bool = False  #: cronq can never do this, so it is no slip that will be mended


@dataclass
class Crontab:
    """What a crontab says."""

    lines: list[CrontabLine] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  #: what is the same as under cron, and may surprise


class Refused(Exception):
    """Why there is no job for a line, or no line for a job."""


def parse_crontab(raw: bytes, *, system: bool = False, is_user: Callable[[str], bool] = lambda name: True) -> Crontab:
    """Read a crontab; *system* ones have a user column, whose names *is_user* knows. Never raises."""
    found = Crontab()
    variables: dict[str, str] = {}
    for number, raw_line in enumerate(raw.split(b"\n"), 1):
        try:
            text = raw_line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            found.faults.append(Fault(number, raw_line.decode("utf-8", "replace"), "it is not UTF-8 text; convert it"))
            continue
        line = text.lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        try:
            if (pair := VARIABLE.fullmatch(line)) is not None:
                _set(variables, pair, number, found.notes)
            else:
                found.lines.append(_read_line(number, text, line, variables, system, is_user))
                if (stdin := found.lines[-1].stdin) is not None:
                    found.notes.append(_percent_note(found.lines[-1], stdin))
        except Refused as fault:
            found.faults.append(Fault(number, text, str(fault), never=line.startswith("@reboot")))
    return found


def _set(variables: dict[str, str], pair: re.Match[str], number: int, notes: list[str]) -> None:
    name = next((word for word in pair.group(1, 2, 3) if word is not None), "")
    value = next((word for word in pair.group(4, 5, 6) if word is not None), "")
    value = value.rstrip(BLANKS) if pair[6] else unquoted(value)
    if not _NAME.fullmatch(name) or "\0" in value:
        raise Refused(f"{name!r} is not the name of a variable; use A-Z a-z 0-9 _, and no digit first")
    if name == "CRON_TZ":
        try:
            find_zone(value)
        except ScheduleError as error:
            variables[name] = value  # so that the lines below do not run by another clock
            raise Refused(f"CRON_TZ: {error.problem}") from None
    if name == "LOGNAME":
        notes.append(f"line {number}: LOGNAME stays the name of the user, as under cron")
        return
    variables[name] = value


def unquoted(value: str) -> str:
    """*value* without one more pair of quotes: cron takes two off `"'x'"`."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _read_line(
    number: int, text: str, line: str, variables: Mapping[str, str], system: bool, is_user: Callable[[str], bool]
) -> CrontabLine:
    cron, rest = _read_macro(line) if line.startswith("@") else _read_fields(line)
    user = None
    if system:
        user, rest = [*re.split(r"[ \t]+", rest, maxsplit=1), ""][:2]
        if user and not is_user(user):
            raise Refused(f"there is no user {user!r} here; is this a crontab without a user column?")
    elif rest.startswith("*"):
        raise Refused("the command begins with *: a crontab has five fields for the time")
    if not rest.strip():
        raise Refused("no command follows the user" if system and user else "no command follows the time")
    if len(rest.encode()) > LONGEST_COMMAND:
        raise Refused(f"the command is longer than the {LONGEST_COMMAND} bytes that cron reads; put it into a script")
    if "\0" in rest:
        raise Refused("the command has a NUL byte")
    command, stdin = _split_percent(rest)
    if not command.strip():
        raise Refused("no command stands before the %")
    others = {name: value for name, value in variables.items() if name not in ("CRON_TZ", "SHELL")}
    shell = variables.get("SHELL", SH)
    return CrontabLine(number, text, cron, user, command, stdin, others, shell, variables.get("CRON_TZ"))


def _read_macro(line: str) -> tuple[str, str]:
    word, _, rest = re.sub(r"[ \t]+", " ", line, count=1).partition(" ")
    if word == "@reboot":
        raise Refused("@reboot is not a time; let the boot scripts of each machine call `cronq run NAME`")
    if word not in MACROS:
        raise Refused(f"{word} is not known to cron; use one of {', '.join(MACROS)}, @reboot")
    return word, rest


def _read_fields(line: str) -> tuple[str, str]:
    words = re.split(r"[ \t]+", line, maxsplit=5)
    if line.startswith("-"):
        raise Refused("Debian's cron knows no leading -; take it away")
    fields = [read_field(each, word) for each, word in zip(FIELDS[1:], words, strict=False)]
    if len(fields) < 5:
        raise Refused(f"there {'is' if len(fields) == 1 else 'are'} only {len(fields)} of the five fields of a time")
    return " ".join(fields), words[5] if len(words) > 5 else ""


def read_field(field: Field, text: str) -> str:
    """One field of a crontab as cronq writes it. Raises Refused."""
    return ",".join(_read_term(field, term, text) for term in text.split(","))


def _read_term(field: Field, term: str, text: str) -> str:
    match = _TERM.fullmatch(term)
    if match is None:
        raise Refused(f"{field.name} {text!r} is not understood by cron")
    first, last, step = match.groups()
    low, high = (_number(field, bound) if bound else None for bound in (first, last))
    if step is not None and int(step) == 0:
        raise Refused(f"{field.name} step 0 in {term!r} is not a whole number of at least 1")
    if step is not None and low is not None and high is None:
        raise Refused(f"{field.name} {term!r}: cron wants a range before the step; write {first}-{field.high}/{step}")
    if low is not None and high is not None and low > high:
        raise Refused(f"{field.name} {term!r} runs backwards, and cron matches nothing by that")
    # 5-5/10 is 5; cronq reads it as 5/10, which goes on to the end of the field.
    return first if low is not None and low == high else term


def _number(field: Field, bound: str) -> int:
    value = field.number(bound.upper())
    if value is None or not field.low <= value <= field.high:
        names = f" or {field.names[0]}-{field.names[field.hash_high - field.low]}" if field.names else ""
        raise Refused(f"{field.name} {bound} is outside {field.low}-{field.high}{names}")
    return value


def _split_percent(text: str) -> tuple[str, str | None]:
    """The command and what it reads: the first % that no backslash escapes begins it, each further one is a newline."""
    command = ""
    at = 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in ("%", "\\"):
            at += 1
        elif text[at] == "%":
            lines = re.sub(r"\\?%", lambda mark: "%" if len(mark[0]) == 2 else "\n", text[at + 1 :])
            last = lines.rstrip("\\")[-1:]  # cron forgets the end of a line that is nothing but backslashes
            return command, lines if last in ("", "\n") else lines + "\n"
        command += text[at]
        at += 1
    return command, None


def _percent_note(line: CrontabLine, stdin: str) -> str:
    """What cron makes of a %: right for a mail's text, and surely not meant in `date +%F`."""
    command, read = (words if len(words) <= _QUOTED else words[:_QUOTED] + "…" for words in (line.command, stdin))
    return (
        f"line {line.number}: the command ends before the %, as under cron: it is {command!r} and reads {read!r}; "
        "write \\% for a percent sign"
    )


def seems_to_have_users(crontab: Crontab, is_user: Callable[[str], bool]) -> bool:
    """Return True if each command, read as if there were no user column, begins with the name of a user."""
    return bool(crontab.lines) and all(is_user(line.command.split()[0]) for line in crontab.lines)


def options_of(line: CrontabLine, *, user: str, tz: str) -> dict[str, Any]:
    """What `make_spec` needs for the job that does what cron did with *line*."""
    return {
        "cron": line.cron,
        "tz": line.tz if line.tz is not None else tz,
        "command": line.command,
        "shell": line.shell,
        "env": dict(line.variables),
        "stdin": line.stdin,
        "run_as": line.user if line.user is not None else user,
    }
