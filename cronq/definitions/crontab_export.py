"""Jobs as lines of a crontab: the way back from cronq to cron, where there is one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from cronq.definitions.crontab import BLANKS, CONTROL, LONGEST_COMMAND, VARIABLE, Refused, read_field, unquoted
from cronq.jobs.command_options import DEFAULT_PATH, SH
from cronq.jobs.spec import JobSpec
from cronq.safetext import printable
from cronq.schedule.cron import FIELDS, MACROS
from cronq.timetext import format_duration


class Written(NamedTuple):
    """One job as a crontab has it: variables that must be set above it, and its line; or why there is none."""

    variables: dict[str, str]
    line: str
    reason: str | None = None


def write_line(spec: JobSpec, *, system: bool, user: str) -> Written:
    """*spec* as a line of a *system* crontab, or of the crontab of *user*."""
    try:
        schedule = _written_schedule(spec)
        command = _written_command(spec)
        column = _written_user(spec, system=system, user=user)
    except Refused as reason:
        return Written({}, "", str(reason))
    line = f"{schedule} {column}{command}"
    if CONTROL.search(line):
        return Written({}, "", "its line would hold a control character")
    variables = {"CRON_TZ": spec.tz, "SHELL": SH if isinstance(spec.shell, bool) else spec.shell} | spec.env
    for name, value in variables.items():
        is_read_back = VARIABLE.fullmatch(f"{name}={_quoted(value)}") is not None and unquoted(value) == value
        if CONTROL.search(value) or not is_read_back:
            return Written({}, "", f"a crontab cannot hold the value of {name}")
    return Written(variables, line)


def _written_schedule(spec: JobSpec) -> str:
    if spec.cron is None:
        if spec.after:
            raise Refused(f"it runs after {', '.join(spec.after)}")
        raise Refused("it is run only by hand" if spec.schedule is None else f"{spec.schedule} is not cron")
    if spec.start is not None or spec.end is not None:
        raise Refused("cron has no start and end")
    if spec.dst != "debian":
        raise Refused(f"cron has no dst={spec.dst}")
    text = spec.cron.strip()
    if text.startswith("@"):
        if text.lower() not in MACROS:
            raise Refused(f"{text} is not known to cron")
        return text.lower()
    words = text.split()
    if len(words) != 5:
        raise Refused("cron has no seconds")
    for each, word in zip(FIELDS[1:], words, strict=True):
        read_field(each, word)
    return " ".join(words)


def _written_command(spec: JobSpec) -> str:
    if spec.command is None:
        raise Refused(f"it is the Python function {spec.function}")
    command = spec.command[0] if spec.shell else shlex.join(spec.command)
    if spec.cwd is not None:
        command = f"cd {shlex.quote(spec.cwd)} && {command}"
    if "\n" in command or command != command.lstrip(" \t"):
        raise Refused("its command has more than one line" if "\n" in command else "its command begins with a blank")
    # Before % and \, and at the end, a backslash would escape what follows.
    written = re.sub(r"\\(?=[\\%]|$)|%", lambda mark: "\\" + mark[0], command)
    if spec.stdin is not None:
        written += "%" + _written_stdin(spec.stdin)
    if len(written.encode()) > LONGEST_COMMAND:
        raise Refused(f"cron reads only {LONGEST_COMMAND} bytes of a command")
    return written


def _written_stdin(text: str) -> str:
    if (text and not text.endswith("\n")) or "\\\n" in text:
        raise Refused("cron can give a command only whole lines to read, and none that ends with a backslash")
    lines = text if text == "\n" or text.endswith("\n\n") else text[:-1]
    return lines.replace("%", "\\%").replace("\n", "%")


def _written_user(spec: JobSpec, *, system: bool, user: str) -> str:
    if not system:
        if spec.run_as not in (None, user):
            raise Refused(f"it runs as {spec.run_as}, and this is the crontab of {user}; export with --system")
        return ""
    if spec.run_as is None:
        raise Refused("it names no user (run_as), and a system crontab must")
    if not spec.run_as or len(spec.run_as.split()) != 1:
        raise Refused(f"{spec.run_as!r} is not the name of a user")
    return f"{spec.run_as} "


def _differences(spec: JobSpec) -> list[str]:
    """What of *spec* cron cannot do, although it can run the command."""
    lost = [f"timeout={format_duration(spec.timeout)}"]
    lost += [f"overlap={spec.overlap}"] if spec.overlap != "allow" else []
    lost += [f"catchup={spec.catchup}"] if spec.catchup != "skip" else []
    lost += [f"lock={spec.lock_name}"] if spec.lock_name is not None else []
    lost += [f"retries={spec.retries}"] if spec.retries else []
    lost += [f"ttl={format_duration(spec.ttl)}"] if spec.ttl is not None else []
    lost += ["backfill=True"] if spec.backfill else []
    lost += [f"depends_on={','.join(spec.depends_on)}"] if spec.depends_on else []
    return lost


def _quoted(value: str) -> str:
    """The value of a variable as a crontab has it."""
    if value and value == value.strip(BLANKS) and value[0] not in "'\"":
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def write_crontab(specs: Iterable[JobSpec], *, system: bool, user: str) -> Iterable[str]:
    """The lines of a crontab of these jobs; what cannot be written is a comment with its reason.

    A variable cannot be taken back in a crontab, so jobs with fewer of them come first.
    """
    written = [(spec, write_line(spec, system=system, user=user)) for spec in specs]
    written.sort(key=lambda pair: (len(pair[1].variables), sorted(pair[1].variables.items()), pair[0].name))
    standing: dict[str, str] = {}
    for spec, each in written:
        usual = {"PATH": DEFAULT_PATH, "MAILTO": spec.run_as or user}  # what cron does where they are not set
        left = sorted(set(standing) - set(each.variables))
        if each.reason is not None or set(left) - set(usual):
            reason = each.reason or f"it must not have {', '.join(left)}, set above; export it alone"
            yield f"# {printable(f'{spec.name} cannot be written here: {reason}')}"
            continue
        wanted = {name: usual[name] for name in left} | each.variables
        for name, value in wanted.items():
            if standing.get(name) != value:
                yield f"{name}={_quoted(value)}"
        standing |= wanted
        yield f"# {printable(spec.name)}; cron has no {printable(', '.join(_differences(spec)))}"
        yield each.line
