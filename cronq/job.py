"""A job as a value: its name, what it runs, when, and how. Checked once, on the way in; no Redis here."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cached_property
from typing import Any

from cronq.clock import format_duration, parse_duration_s
from cronq.errors import DefinitionError
from cronq.schedule import DST_RULES, Schedule, parse_schedule
from cronq.surroundings import check_surroundings

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
#: Run ids are `<job>-<tick>` and `<job>-m<8 hex>`: a job's own name must not look like one of them.
_LIKE_A_RUN = re.compile(r".*-(\d{8}T\d{6}Z|m[0-9a-f]{8})")
_QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,100}")

CATCHUP = ("latest", "skip", "all")
OVERLAP = ("skip", "allow")
ON_LOST = ("fail", "rerun")
AUTO = "auto"  #: in place of a duration: by the rhythm of the schedule, see `retention`

#: Options that the design names and this version does not have, with the only value it can honour.
NOT_BUILT: dict[str, object] = {
    "retries": 0,
    "retry_delay": None,
    "backoff": None,
    "depends_on": None,
    "after": None,
    "backfill": False,
    "on": None,
    "on_all": None,
    "priority": None,
    "leases": None,
    "limits": None,
    "serializer": "json",
}
_OVERLAP_NOT_BUILT = ("queue", "latest", "replace")
_AUTOMATIC = ("result_ttl", "failure_ttl")
_DURATIONS = ("every", "window", "ttl", "timeout", "grace", *_AUTOMATIC)
#: With more rows or runs than this one job would hold up the others.
_MOST_KEPT = 100_000


@dataclass(frozen=True)
class JobSpec:
    """Everything that is stored of a job. All durations are seconds.

    Make one with `make_spec`, which checks; the constructor believes what it is given.
    """

    name: str
    function: str | None = None  #: `module:qualname`, looked up in the worker's registry, never imported from here
    command: tuple[str, ...] | None = None  #: an argument list, or one shell line when `shell`
    shell: bool | str = False  #: True is /bin/sh, text the path of another
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    run_as: str | None = None  #: a user by name; None is whoever the worker is
    stdin: str | None = None  #: what the command reads; None is nothing
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    cron: str | None = None
    every: float | None = None
    at: str | None = None
    tz: str = "UTC"
    dst: str = "debian"
    catchup: str = "latest"
    window: float = 86400.0
    max_catchup: int = 100
    ttl: float | None = None
    overlap: str = "skip"
    exclusive: bool = False
    lock: str | None = None
    timeout: float = 3600.0
    grace: float = 10.0
    on_lost: str = "fail"
    max_crashes: int = 3
    at_most_once: bool = False
    queue: str = "default"
    result_ttl: float | str = AUTO
    failure_ttl: float | str = AUTO
    keep: int = 1000
    description: str = ""
    owner: str = ""
    runbook: str = ""
    tags: tuple[str, ...] = ()

    @cached_property
    def schedule(self) -> Schedule | None:
        """When it is due; None for a job that is only run by hand. Raises ScheduleError."""
        if self.cron is None and self.every is None and self.at is None:
            return None
        return parse_schedule(cron=self.cron, every=self.every, at=self.at, tz=self.tz, dst=self.dst, seed=self.name)

    @property
    def lock_name(self) -> str | None:
        """The lock a run holds, None when runs need none."""
        if not self.exclusive:
            return None
        return self.lock or self.name

    @property
    def when(self) -> tuple[object, ...]:
        """What decides which ticks run: a change here is an edit, before which no tick fires."""
        return (self.cron, self.every, self.at, self.tz, self.dst, self.catchup, self.window, self.max_catchup)

    @property
    def args_json(self) -> str:
        """The arguments as they travel to the worker: `[[args…], {kwargs…}]`."""
        return dump_args(self.args, self.kwargs)

    def to_json(self) -> str:
        """One line, keys sorted, defaults left out: equal specs give equal text."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        changed = {key: value for key, value in values.items() if value != _DEFAULTS[key]}
        return json.dumps(changed, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """Read `to_json` back. Raises DefinitionError for text that is not a spec of this version."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise DefinitionError(f"the stored spec is damaged ({error}); run `cronq sync` again") from error
        if not isinstance(values, dict) or not isinstance(values.get("name"), str):
            raise DefinitionError("the stored spec is damaged (it has no name); run `cronq sync` again")
        _check_stored(values)
        for name in ("command", "args", "tags"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)


_DEFAULTS: dict[str, Any] = {
    item.name: {} if item.name in ("env", "kwargs") else item.default for item in fields(JobSpec)
}
_ABSENT = type(None)
#: What JSON may hold for a field of each type; the words are the annotations above.
_STORED_AS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, _ABSENT),
    "bool": (bool,),
    "bool | str": (bool, str),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, _ABSENT),
    "float | str": (int, float, str),
    "tuple[str, ...]": (list,),
    "tuple[str, ...] | None": (list, _ABSENT),
    "tuple[Any, ...]": (list,),
    "dict[str, Any]": (dict,),
    "dict[str, str]": (dict,),
}
_TYPES = {item.name: _STORED_AS[str(item.type)] for item in fields(JobSpec)}
_STORED_WORDS = {"catchup": CATCHUP, "overlap": OVERLAP, "dst": DST_RULES, "on_lost": ON_LOST}
_STORED_WORDS |= dict.fromkeys(_AUTOMATIC, (AUTO,))


def _check_stored(values: dict[str, Any]) -> None:
    """Raise DefinitionError for fields, words and types that this version cannot have written."""
    for key, value in values.items():
        problem = None
        if key not in _TYPES:
            problem = f"stored with {key}, which this version does not know; upgrade it"
        elif type(value) not in _TYPES[key]:
            problem = f"the stored spec is damaged ({_short(value)} is of a wrong type); run `cronq sync` again"
        elif key in ("command", "tags") and not all(isinstance(word, str) for word in value or ()):
            problem = f"the stored spec is damaged ({_short(value)} is not a list of words); run `cronq sync` again"
        elif key == "env" and not all(isinstance(word, str) for word in value.values()):
            problem = f"the stored spec is damaged ({_short(value)} is not all text); run `cronq sync` again"
        elif key in _STORED_WORDS and isinstance(value, str) and value not in _STORED_WORDS[key]:
            problem = f"stored as {value!r}, which this version does not know; upgrade it"
        if problem is not None:
            raise DefinitionError(problem, job=values["name"], field=key)


def dump_args(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Arguments as JSON text. Raises DefinitionError naming the argument that JSON cannot carry."""
    places = [*((f"args[{i}]", v) for i, v in enumerate(args)), *((f"kwargs[{k!r}]", v) for k, v in kwargs.items())]
    for place, value in places:
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == _listed(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise DefinitionError(
                f"{_short(value)} is not JSON ({error}); pass text, numbers, lists or mappings",
                field=place,
            ) from error
        if not same:
            raise DefinitionError(f"{_short(value)} changes on its way through JSON; use text as keys", field=place)
    return json.dumps([list(args), kwargs], separators=(",", ":"), allow_nan=False)


def check_size(args_json: str, most: int, *, job: str) -> None:
    """Raise DefinitionError for arguments of more than *most* bytes: one Redis thread serves everybody."""
    size = len(args_json.encode(errors="surrogatepass"))
    if size > most:
        raise DefinitionError(
            f"{size:,} bytes, and {most:,} are allowed (CRONQ_MAX_ARGS); pass a path or a key instead",
            job=job,
            field="args",
        )


def _listed(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them."""
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return value


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


def make_spec(name: str, **options: Any) -> JobSpec:
    """A checked JobSpec from the options people write; durations may be seconds, `"5m"` or timedelta.

    Raises DefinitionError that names the job, the option, the value and the remedy.
    """
    try:
        return _make_spec(name, options)
    except DefinitionError as error:
        raise error.at(job=str(name)) from error.__cause__


def _make_spec(name: str, options: dict[str, Any]) -> JobSpec:
    check_name(name)
    _refuse_unbuilt(options)
    values = {key: value for key, value in options.items() if key not in NOT_BUILT}
    _refuse_unknown(values)
    _refuse_none(values)
    for key in _DURATIONS:
        if values.get(key) is not None and not (key in _AUTOMATIC and values[key] == AUTO):
            values[key] = _duration(key, values[key])
    _check_words(values)
    _check_texts(values)
    _check_work(values)
    spec = JobSpec(name=name, **values)
    _check_sense(spec)
    if spec.schedule is None:
        for key in ("tz", "dst"):
            if getattr(spec, key) != _DEFAULTS[key]:
                problem = f"{getattr(spec, key)!r} means nothing without a schedule; give cron or every"
                raise DefinitionError(problem, field=key)
    return spec


def check_name(name: object) -> None:
    """Raise DefinitionError unless *name* can name a job: RQ's job ids allow no other characters."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is not a job name; use 1 to 100 of the characters A-Z a-z 0-9 _ -", field="name"
        )
    if _LIKE_A_RUN.fullmatch(name):
        raise DefinitionError(f"{name!r} ends like the id of a run; choose another ending", field="name")


def _refuse_unbuilt(options: dict[str, Any]) -> None:
    for key, only in NOT_BUILT.items():
        if key in options and options[key] not in (only, None):
            raise DefinitionError(f"{options[key]!r} is not supported by this version yet; leave it out", field=key)
    if options.get("overlap") in _OVERLAP_NOT_BUILT:
        raise DefinitionError(
            f"{options['overlap']!r} is not supported by this version yet; use 'skip' or 'allow'",
            field="overlap",
        )


def _refuse_unknown(values: dict[str, Any]) -> None:
    known = set(_DEFAULTS) - {"name"}
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, [*known, *NOT_BUILT], n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see the README's list of options"
            raise DefinitionError(f"there is no such option; {hint}", field=key)


def _refuse_none(values: dict[str, Any]) -> None:
    """None says "not given" where that is the default, and would have to be guessed at anywhere else."""
    for key, value in values.items():
        if value is None and _DEFAULTS[key] is not None and key not in ("args", "kwargs", "env"):
            raise DefinitionError("None is not a value of this option; leave it out for the default", field=key)


def _duration(key: str, value: str | float | timedelta) -> float:
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise DefinitionError(str(error), field=key) from None


def _check_words(values: dict[str, Any]) -> None:
    for key, allowed in (("catchup", CATCHUP), ("overlap", OVERLAP), ("on_lost", ON_LOST)):
        if key in values and values[key] not in allowed:
            raise DefinitionError(f"{values[key]!r} is not one of {', '.join(allowed)}", field=key)
    queue = values.get("queue", "default")
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
        raise DefinitionError(f"{queue!r} is not a queue name; use A-Z a-z 0-9 _ . -", field="queue")
    for key, least in (("max_catchup", 1), ("keep", 10), ("max_crashes", 1)):
        if key in values and not (type(values[key]) is int and least <= values[key] <= _MOST_KEPT):
            problem = f"{_short(values[key])} is not a whole number from {least} to {_MOST_KEPT:,}"
            raise DefinitionError(problem, field=key)
    for key in ("exclusive", "at_most_once"):
        if key in values and type(values[key]) is not bool:
            raise DefinitionError(f"{values[key]!r} is neither True nor False", field=key)


def _check_texts(values: dict[str, Any]) -> None:
    tags = values.get("tags", ())
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise DefinitionError(f"{_short(tags)} is not a list of words", field="tags")
    values["tags"] = tuple(tags)
    for key in ("cron", "at", "tz", "dst", "lock", "description", "owner", "runbook"):
        value = values.get(key)
        if value is not None and not isinstance(value, str):
            raise DefinitionError(f"{_short(value)} is not text", field=key)
    for key in ("owner", "runbook", "lock"):
        if any(ord(char) < 32 for char in values.get(key) or ""):
            raise DefinitionError(f"{values[key]!r} has a line break or control character", field=key)


def _check_work(values: dict[str, Any]) -> None:
    """What it runs: a function with JSON arguments, or a command."""
    _check_arguments(values)
    command = values.get("command")
    if (command is None) == (values.get("function") is None):
        given = "nothing to run" if command is None else _short(command)
        raise DefinitionError(f"{given}; a job runs either a function or a command", field="command")
    check_surroundings(values)
    if command is None:
        return
    for key in ("args", "kwargs"):
        if values[key]:
            problem = f"{_short(values[key])}; a command takes its arguments in its own list, put them there"
            raise DefinitionError(problem, field=key)
    values["command"] = _checked_command(command, shell=bool(values.get("shell")))


def _check_arguments(values: dict[str, Any]) -> None:
    args, kwargs = values.get("args"), values.get("kwargs")
    if args is not None and not isinstance(args, list | tuple):
        raise DefinitionError(f"{_short(args)} is not a list; write args=[...]", field="args")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise DefinitionError(f"{_short(kwargs)} is not a mapping; write kwargs={{...}}", field="kwargs")
    if not all(isinstance(key, str) for key in kwargs or ()):
        raise DefinitionError(f"{_short(kwargs)}: the names of keyword arguments are text", field="kwargs")
    # As they will arrive in the job, and independent of lists that the caller may go on changing.
    values["args"], values["kwargs"] = json.loads(dump_args(tuple(args or ()), kwargs or {}))
    values["args"] = tuple(values["args"])


def _checked_command(command: Any, *, shell: bool) -> tuple[str, ...]:
    if isinstance(command, str):
        if not shell:
            raise DefinitionError(
                f"{_short(command)} is one text; give a list of arguments, or shell=True", field="command"
            )
        command = (command,)
    listed = isinstance(command, list | tuple) and all(isinstance(word, str) and "\0" not in word for word in command)
    if not listed or not command or not command[0].strip():
        raise DefinitionError(
            f"{_short(command)} is not a list of words of which the first is a program", field="command"
        )
    if shell and len(command) != 1:
        raise DefinitionError(f"{_short(command)}: with a shell the command is one line of text", field="command")
    return tuple(command)


def _check_sense(spec: JobSpec) -> None:
    if spec.lock is not None and not spec.exclusive:
        raise DefinitionError(f"{spec.lock!r} is only taken with exclusive=True; add that", field="lock")
    if spec.lock is not None and not _NAME.fullmatch(spec.lock):
        raise DefinitionError(
            f"{spec.lock!r} is not a lock name; use 1 to 100 of the characters A-Z a-z 0-9 _ -", field="lock"
        )
    if spec.at_most_once and spec.on_lost == "rerun":
        problem = "True, and on_lost='rerun' would start a run twice; leave one of them out"
        raise DefinitionError(problem, field="at_most_once")
    for key, least, most in (("timeout", 1, 366 * 86400), ("grace", 0, 3600)):
        value = getattr(spec, key)
        if not least <= value <= most:
            span = f"from {format_duration(least)} to {format_duration(most)}"
            raise DefinitionError(f"{format_duration(value)} is out of range; use {span}", field=key)
    for key, least in (("ttl", 1), ("result_ttl", 60), ("failure_ttl", 60)):
        value = getattr(spec, key)
        if isinstance(value, float) and value < least:
            raise DefinitionError(
                f"{format_duration(value)} is too short; use at least {format_duration(least)}", field=key
            )
