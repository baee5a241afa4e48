"""The options that only a command can have: shell, environment, directory, user, standard input.

Here they are checked when a job is registered; `worker.command` applies them when it runs.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from cronq.errors import DefinitionError

#: The shell of `shell=True`.
SH = "/bin/sh"
#: What cron gives its commands, and cronq those that run as a user of their own.
DEFAULT_PATH = "/usr/bin:/bin"
#: Options that only a command can have: a function runs inside a process that has all of these already.
OF_COMMANDS = ("shell", "env", "cwd", "run_as", "stdin")

#: Where a shell text reads the words that a run adds to it. Not `$1`: in a text that may be a field of awk's.
_READS_WORDS = re.compile(r"\$\{?[@*]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Neither blanks nor `:` and `/`, and no option of some tool; a number would be a uid that may be anybody's.
_USER = re.compile(r"(?!\d+$)[^\s:/\x00-\x20-][^\s:/\x00-\x1f]{0,254}")
#: A kernel takes about 128 KiB in one variable, and Redis holds all of it in memory.
_MOST_ENV = 32_768
_MOST_STDIN = 65_536
_MOST_PATH = 4_096

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def check_surroundings(values: dict[str, Any]) -> None:
    """Check the options of `OF_COMMANDS` in *values*, and put them into their final form. Raises DefinitionError."""
    if values.get("env") is None:
        values.pop("env", None)
    if values.get("command") is None:
        for key in OF_COMMANDS:
            if values.get(key) not in (None, False, {}):
                remedy = "leave it out" if key == "shell" else "set that up in its worker or in the function itself"
                raise _refusal(key, values[key], f"only a command can have that; {remedy}")
        values.pop("shell", None)
        return
    if "env" in values:
        values["env"] = _checked_env(values["env"])
    if values.get("shell") == SH:
        values["shell"] = True
    if type(values.get("shell", False)) is not bool:
        _check_path("shell", values["shell"], "neither True nor False nor the absolute path of a shell")
    if values.get("cwd") is not None:
        _check_path("cwd", values["cwd"], "not an absolute path")
    _check_user(values.get("run_as"), values.get("env", {}))
    _check_stdin(values.get("stdin"))


def check_further_words(shell: bool | str, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Check the words that one run adds to a command, whose first word or *shell* text is *text*.

    Raises DefinitionError.
    """
    if kwargs:
        raise DefinitionError(
            f"a command takes further words, and no {', '.join(kwargs)}; give them as args", field="kwargs"
        )
    for word in args:
        if not isinstance(word, str) or "\0" in word:
            raise _refusal("args", word, "a command takes words, texts without NUL bytes")
        _bytes_of("args", word)
    if args and shell and not _READS_WORDS.search(text):
        raise DefinitionError(
            'its shell text has no place for further words; write "$@" where they belong', field="args"
        )


def _checked_env(env: Any) -> dict[str, str]:
    if not isinstance(env, dict):
        raise _refusal("env", env, "not a mapping; write env={'NAME': 'value'}")
    for name, value in env.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise _refusal("env", name, "not the name of a variable; use A-Z a-z 0-9 _, and no digit first")
        if not isinstance(value, str) or "\0" in value:
            raise _refusal("env", value, f"the value of {name} must be text without NUL bytes")
    size = sum(len(name) + _bytes_of("env", value) for name, value in env.items())
    if size > _MOST_ENV:
        raise DefinitionError(
            f"{size:,} bytes of variables are too many, at most {_MOST_ENV:,}; let the command read a file", field="env"
        )
    return dict(env)


def _check_path(key: str, value: Any, problem: str) -> None:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or len(value) > _MOST_PATH:
        raise _refusal(key, value, problem)


def _check_user(user: Any, env: dict[str, str]) -> None:
    if user is None:
        return
    if not isinstance(user, str) or not _USER.fullmatch(user):
        raise _refusal("run_as", user, "not the name of a user; a number is none either")
    if env.get("LOGNAME", user) != user:
        raise _refusal("env", env["LOGNAME"], f"LOGNAME is that of run_as, {user!r}; leave it out")


def _check_stdin(text: Any) -> None:
    if text is not None and not isinstance(text, str):
        raise _refusal("stdin", text, "not text")
    if text is not None and _bytes_of("stdin", text) > _MOST_STDIN:
        raise DefinitionError(f"more than {_MOST_STDIN:,} bytes; let the command read a file", field="stdin")


def _bytes_of(field: str, text: str) -> int:
    try:
        return len(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise _refusal(field, text, "not text that a process could be given") from None


def _refusal(field: str, value: Any, problem: str) -> DefinitionError:
    return DefinitionError(f"{_short.repr(value)}: {problem}", field=field)
