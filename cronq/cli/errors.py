"""Errors as people read them: one line that says what, where and what to do, and the exit code that goes with it."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import click

from cronq.app.redis_words import redis_words
from cronq.cli.output import print_line, say
from cronq.errors import CronqError
from cronq.safetext import printable_lines

_UNREACHABLE, _UNFIT, _USAGE, _CLOSED_PIPE = 69, 78, 2, 141
_UNKNOWN = 3  #: what monitoring systems take for "the check itself is wrong"


def _not_built(verb: str) -> set[str]:
    """Options of *verb* that are planned: refused by name."""
    if verb != "add":
        return set()
    from cronq.app.job_options import NOT_BUILT

    return {"--lease", "--limit", *(f"--{name.replace('_', '-')}" for name in NOT_BUILT)}


def tell(error: Exception, call: Mapping[str, Any]) -> int:
    """Say on stderr what went wrong with this *call* of the command line. Return the exit code."""
    if _is_closed_pipe(error):
        _give_up_stdout()
        return _CLOSED_PIPE
    if isinstance(error, click.ClickException) and type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return _UNKNOWN if call.get("nagios") else _USAGE
    if call.get("debug"):
        click.echo(printable_lines("".join(traceback.format_exception(error))), err=True, nl=False)
    words, code = words_and_code(error, call)
    if call.get("nagios"):
        print_line(f"CRONQ UNKNOWN - {words}")
        return _UNKNOWN
    say(words)
    return code


def words_and_code(error: Exception, call: Mapping[str, Any]) -> tuple[str, int]:
    """Return *error* in one line, and the exit code."""
    if isinstance(error, click.ClickException):
        return _usage(error), error.exit_code
    if isinstance(error, CronqError):
        return str(error), error.exit_code
    if type(error).__module__.split(".")[0] == "redis":
        words, code = _of_redis(error, call)
        return "; ".join([words, *getattr(error, "__notes__", ())]), code
    words = " ".join(str(error).split())
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or words}", 1
    return f"internal error: {type(error).__name__}: {words}; --debug shows the traceback, please report it", 1


def _of_redis(error: Exception, call: Mapping[str, Any]) -> tuple[str, int]:
    from redis import exceptions

    config = call.get("config")
    url = config.shown_url if config is not None else "the configured URL"
    origin = config.origin("url") if config is not None else ""
    where = url if origin in ("", "default", "command line") else f"{url} (from {origin.removeprefix('environment ')})"
    words = redis_words(error)
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return f"Redis at {where} refused the login: {words}; mend user and password in the URL", _UNFIT
    if isinstance(error, exceptions.ReadOnlyError):
        return f"Redis at {where} is a replica and takes no writes; connect to the primary", _UNFIT
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        remedy = "start one with `cronq dev`, or set CRONQ_REDIS_URL"
        return f"cannot reach Redis at {where}: {words}; {remedy}", _UNREACHABLE
    return f"Redis at {where} refused: {words}", 1


def _usage(error: click.ClickException) -> str:
    """A slip of the command line: `list: no such option '--jsn'; did you mean '--json'? See …`."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    words = " ".join(error.format_message().split())
    words = words[:1].lower() + words[1:]
    if ctx is None:
        return words
    verb = ctx.command_path.removeprefix("cronq").strip()
    if isinstance(error, click.NoSuchOption):
        words = f"no such option {error.option_name!r}"  # click's own words differ from one release to the next
        if error.possibilities:
            words += f"; did you mean {sorted(error.possibilities)[0]!r}?"
        if error.option_name in _not_built(verb):
            words = f"the option {error.option_name} is not part of this version yet"
        elif verb == "add":
            words = f"{words.rstrip('.')}; what belongs to the command stands after --"
    words = words.replace(". Did you mean", "; did you mean")
    words = f"{words} See" if words.endswith("?") else f"{words.rstrip('.')}; see"
    return f"{verb + ': ' if verb else ''}{words} `{ctx.command_path} --help`"


def _is_closed_pipe(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _give_up_stdout() -> None:
    """Let the flush at exit go nowhere and fail at nothing, when nobody reads on (`cronq list | head`)."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
