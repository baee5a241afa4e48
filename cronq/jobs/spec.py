"""A job as a value: its name, what it runs, when, and how. Checked once, on the way in; no Redis here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from cronq.db.decode import read_json
from cronq.errors import BadValue, DefinitionError, ScheduleError, SpecTooNew
from cronq.jobs.arguments import check_size, dump_args, short
from cronq.jobs.options import (
    AUTO,
    AUTOMATIC,
    CALENDARS,
    DEFAULTS,
    DURATIONS,
    MOMENTS,
    NAME,
    SPANS_AND_MOMENTS,
    WORDS,
    Kind,
    check_calendars,
    check_name,
    check_numbers,
    check_program,
    check_queue,
    check_span,
    check_texts,
    check_words,
    check_work,
    duration,
    moment_s,
)
from cronq.jobs.parents import EDGES, check_parents
from cronq.jobs.sense import check_sense
from cronq.jobs.unscheduled import check_unscheduled
from cronq.schedule.bounds import bounded, once
from cronq.schedule.jitter import delay_s
from cronq.schedule.moment import is_date
from cronq.schedule.schedule import Schedule, parse_schedule
from cronq.schedule.zone import find_zone
from cronq.timetext import END_OF_TIME_S, iso

#: Options that the design names and this version does not have, with the only value it can honour.
NOT_BUILT: dict[str, object] = {
    "on": None,
    "on_all": None,
    "leases": None,
    "limits": None,
    "serializer": "json",
}
#: The longest spec that is read: arguments may be of `CRONQ_MAX_ARGS`, at most 100 MB.
_MOST_SPEC = 200_000_000

#: Since which layout a stored spec may have a field, or a word of an option: `"field"` or `"option=word"`. What is not
#: named is of layout 1. Whoever adds a field or a word, or gives an old one another meaning, raises SPEC_LAYOUT and
#: writes it down here: so a process of the release before can tell, without parsing, that it must leave the job alone,
#: and goes on with all jobs that use nothing new.
SPEC_LAYOUT = 2
SINCE: dict[str, int] = {
    "pause_after_failures": 2,
    "overlap=queue": 2,
    "overlap=latest": 2,
    "overlap=replace": 2,
    "of": 2,
    "own": 2,
    "only": 2,
    "except_": 2,
    "anchor": 2,
    "start": 2,
    "end": 2,
    "retries": 2,
    "retry_delay": 2,
    "backoff": 2,
    "max_retry_delay": 2,
    "repeat": 2,
    "jitter": 2,
    "warn_after": 2,
    "depends_on": 2,
    "after": 2,
    "on_parent_failure": 2,
    "on_parent_failure=wait": 2,
    "on_parent_failure=run": 2,
    "priority": 2,
    "backfill": 2,
    "isolation": 2,
    "isolation=auto": 2,
    "isolation=clean": 2,
    "isolation=run": 2,
}
#: The same of `at` with a date, which is no word of a few.
_AT_A_DATE_SINCE = 2
#: Since which layout a job may have ticks to skip, which stand in its state: while it has, older processes leave it.
SKIPS_LAYOUT = 2


@dataclass(frozen=True)
class JobSpec:
    """Everything that is stored of a job. All durations are seconds.

    Make one with `make_spec`, which checks; the constructor believes what it is given.
    """

    name: str
    function: str | None = None  #: `module:qualname`, looked up in the worker's registry, never imported from here
    command: tuple[str, ...] | None = DEFAULTS["command"]  #: an argument list, or one shell line when `shell`
    shell: bool | str = DEFAULTS["shell"]  #: True is /bin/sh, text the path of another
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = DEFAULTS["cwd"]
    run_as: str | None = DEFAULTS["run_as"]  #: a user by name; None is whoever the worker is
    stdin: str | None = DEFAULTS["stdin"]  #: what the command reads; None is nothing
    args: tuple[Any, ...] = DEFAULTS["args"]
    kwargs: dict[str, Any] = field(default_factory=dict)
    cron: str | None = DEFAULTS["cron"]
    every: float | None = DEFAULTS["every"]
    at: str | None = DEFAULTS["at"]
    anchor: int | None = DEFAULTS["anchor"]  #: epoch seconds; what `every` counts from
    start: int | None = DEFAULTS["start"]  #: epoch seconds; no tick is before it
    end: int | None = DEFAULTS["end"]  #: likewise; no tick is after it
    repeat: int | None = DEFAULTS["repeat"]  #: how many ticks it has; None: no end of them
    jitter: float | None = DEFAULTS["jitter"]  #: each tick is queued by less than this later; None: at its time
    tz: str = DEFAULTS["tz"]
    dst: str = DEFAULTS["dst"]
    only: tuple[str, ...] = DEFAULTS["only"]  #: calendars by name: what none of them holds does not run
    except_: tuple[str, ...] = DEFAULTS["except_"]  #: what one of them holds does not run
    depends_on: tuple[str, ...] = DEFAULTS["depends_on"]  #: a tick waits until the latest of each has succeeded
    after: tuple[str, ...] = DEFAULTS["after"]  #: it has no schedule, and runs when all of these have succeeded
    on_parent_failure: str = DEFAULTS["on_parent_failure"]  #: with `after`: one that failed counts, or does not
    catchup: str = DEFAULTS["catchup"]
    window: float = DEFAULTS["window"]
    max_catchup: int = DEFAULTS["max_catchup"]
    backfill: bool = DEFAULTS["backfill"]  #: each tick runs, one at a time, when the one before has succeeded
    priority: int = DEFAULTS["priority"]  #: of late runs, and of ticks that are due at once, higher ones go first
    retries: int = DEFAULTS["retries"]
    retry_delay: float = DEFAULTS["retry_delay"]
    backoff: float = DEFAULTS["backoff"]
    max_retry_delay: float = DEFAULTS["max_retry_delay"]
    ttl: float | None = DEFAULTS["ttl"]
    overlap: str = DEFAULTS["overlap"]
    pause_after_failures: int | None = DEFAULTS["pause_after_failures"]  #: None: never
    exclusive: bool = DEFAULTS["exclusive"]
    lock: str | None = DEFAULTS["lock"]
    timeout: float = DEFAULTS["timeout"]
    warn_after: float | None = DEFAULTS["warn_after"]  #: a run that takes longer is told of; None: none is
    grace: float = DEFAULTS["grace"]
    on_lost: str = DEFAULTS["on_lost"]
    max_crashes: int = DEFAULTS["max_crashes"]
    at_most_once: bool = DEFAULTS["at_most_once"]
    isolation: str = DEFAULTS["isolation"]  #: whether runs may share a child; `auto`: as its worker has it
    queue: str = DEFAULTS["queue"]
    result_ttl: float | str = DEFAULTS["result_ttl"]
    failure_ttl: float | str = DEFAULTS["failure_ttl"]
    keep: int = DEFAULTS["keep"]
    description: str = DEFAULTS["description"]
    owner: str = DEFAULTS["owner"]
    runbook: str = DEFAULTS["runbook"]
    tags: tuple[str, ...] = DEFAULTS["tags"]
    of: str | None = None  #: the job of which it is a schedule by key, see `keyed`
    own: tuple[str, ...] = ()  #: of such a schedule: the options that are its own, whatever becomes of that job

    @cached_property
    def schedule(self) -> Schedule | None:
        """When it is due; None for a job that is only run by hand. Raises ScheduleError."""
        if self.cron is None and self.every is None and self.at is None:
            return None
        if self.at is not None and is_date(self.at):
            return self._once(self.at)
        whole = parse_schedule(
            cron=self.cron, every=self.every, at=self.at, anchor=self.anchor, tz=self.tz, dst=self.dst, seed=self.name
        )
        return bounded(whole, self.start, self.end)

    def next_after(self, after_s: int, ticks: int) -> int | None:
        """The tick after *after_s* (epoch seconds) of a job that has had *ticks* ticks by then; None: it has none."""
        if self.schedule is None or (self.repeat is not None and ticks >= self.repeat):
            return None
        return self.schedule.next_after(after_s)

    def tick_before(self, tick: int | None) -> int | None:
        """The tick before *tick* by the schedule; None: it has none."""
        return None if tick is None or self.schedule is None else self.schedule.last_until(tick - 1)

    def due_s(self, tick: int | None) -> int | None:
        """When *tick* is to be queued: at its time, unless there is jitter; None stays None."""
        if tick is None or self.jitter is None or self.schedule is None:
            return tick
        return tick + delay_s(self.name, tick, self.schedule.next_after(tick), self.jitter)

    def due_after(self, after_s: int, ticks: int) -> int | None:
        """When the tick that `next_after` finds is to be queued: what the agenda says."""
        return self.due_s(self.next_after(after_s, ticks))

    def tick_due(self, due_s: int) -> int:
        """The tick that is to be queued at *due_s*."""
        tick = self.schedule.last_until(due_s) if self.jitter is not None and self.schedule is not None else None
        return due_s if tick is None else tick

    def _once(self, at: str) -> Schedule:
        for key in ("cron", "every", "anchor", "start", "end", "repeat"):
            if getattr(self, key) is not None:
                problem = f"{short(getattr(self, key))}, and at={at!r} is a single tick; leave one of them out"
                raise ScheduleError(problem, field=key)
        return once(at, self.tz, self.dst)

    @property
    def lock_name(self) -> str | None:
        """The lock a run holds, None when runs need none."""
        if not self.exclusive:
            return None
        return self.lock or self.name

    @property
    def when(self) -> tuple[object, ...]:
        """What decides which ticks run: a change here is an edit, before which no tick fires."""
        return (
            self.cron, self.every, self.at, self.anchor, self.start, self.end, self.repeat, self.jitter, self.tz,
            self.dst, self.catchup, self.window, self.max_catchup, self.backfill, self.only, self.except_,
            self.after,
        )  # fmt: skip

    @property
    def calendars(self) -> tuple[str, ...]:
        """The names of all calendars that it looks at."""
        return (*self.only, *self.except_)

    @property
    def parents(self) -> dict[str, list[str]]:
        """The jobs that it names in `depends_on` or `after`, each with those of the two."""
        found: dict[str, list[str]] = {}
        for key in EDGES:
            for name in getattr(self, key):
                found.setdefault(name, []).append(key)
        return found

    def shares_a_child(self, default: str) -> bool:
        """Whether its runs may be done by a long-lived child; *default* is the isolation of jobs that say nothing."""
        isolation = default if self.isolation == "auto" else self.isolation
        return isolation == "clean" and self.command is None

    @cached_property
    def args_json(self) -> str:
        """The arguments as they travel to the worker: `[[args…], {kwargs…}]`."""
        return dump_args(self.args, self.kwargs)

    def args_for_run(self, given_json: str | None, most: int) -> str:
        """The arguments of one run as JSON: those given, else the job's own. Everything that makes a run calls this.

        Raises DefinitionError for more than *most* bytes.
        """
        args_json = given_json if given_json is not None else self.args_json
        check_size(args_json, most, job=self.name)
        return args_json

    def to_json(self) -> str:
        """One line, keys sorted, defaults left out: equal specs give equal text."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        changed = {key: value for key, value in values.items() if value != _DEFAULTS[key]}
        return json.dumps(changed, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def layout(self) -> int:
        """The first layout that had all that this spec uses; a process that knows an older one cannot act on it."""
        used = [(key, value) for key in _DEFAULTS if (value := getattr(self, key)) != _DEFAULTS[key]] if SINCE else []
        newest = max((max(SINCE.get(key, 1), SINCE.get(f"{key}={value}", 1)) for key, value in used), default=1)
        return max(newest, _AT_A_DATE_SINCE) if self.at is not None and is_date(self.at) else newest

    @classmethod
    def from_json(cls, text: str, *, name: str | None = None, layout: int = 1) -> JobSpec:
        """Read `to_json` back, as it was stored with *layout* under *name* (None: whatever it says itself).

        Specs that were read lately are not read again: a worker reads that of its job for each run. Raises SpecTooNew
        for what a newer version stored, DefinitionError for what none can have.
        """
        if layout > SPEC_LAYOUT:
            raise SpecTooNew(name or "?", f"in layout {layout}, and this one knows {SPEC_LAYOUT}")
        return _read_spec(text, name)


@lru_cache(maxsize=1000)
def _read_spec(text: str, name: str | None) -> JobSpec:
    try:
        values = read_json(text, most=_MOST_SPEC)
    except BadValue as error:
        raise _damaged(str(error), name) from error
    if not isinstance(values, dict) or not isinstance(values.get("name"), str):
        raise _damaged("it has no name", name)
    if name is not None and values["name"] != name:
        raise _damaged(f"it is that of {short(values['name'])}", name)
    try:
        spec = _stored(values)
    except DefinitionError as error:
        raise _damaged(error.problem, values["name"], error.field) from error
    _refuse_newer(values)
    return spec


def _damaged(problem: str, name: str | None, key: str | None = None) -> DefinitionError:
    return DefinitionError(f"the stored spec is damaged ({problem}); run `cronq sync` again", job=name, field=key)


#: A name is never at its default, so every stored spec has one.
_DEFAULTS: dict[str, Any] = {"name": None, "function": None, **DEFAULTS, "of": None, "own": ()}
#: What a spec has besides the options that people may give.
_NO_OPTIONS = ("name", "of", "own")
_ABSENT = type(None)
#: What JSON may hold for a field of each type; the words are the annotations above.
_STORED_AS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, _ABSENT),
    "bool": (bool,),
    "bool | str": (bool, str),
    "int": (int,),
    "int | None": (int, _ABSENT),
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
_WORD_LISTS = ("command", "tags", "own", *CALENDARS, *EDGES)
_STORED_WORDS = {**WORDS, **dict.fromkeys(AUTOMATIC, (AUTO,))}


def _stored(values: dict[str, Any]) -> JobSpec:
    """The spec of a stored mapping, what this version does not know left out. Raises DefinitionError for damage."""
    known = {key: value for key, value in values.items() if key in _TYPES}
    for key, value in known.items():
        if type(value) not in _TYPES[key]:
            raise DefinitionError(f"{short(value)} is of a wrong type", field=key)
        if key in _WORD_LISTS and not all(isinstance(word, str) for word in value or ()):
            raise DefinitionError(f"{short(value)} is not a list of words", field=key)
        if key == "env" and not all(isinstance(word, str) for word in value.values()):
            raise DefinitionError(f"{short(value)} is not all text", field=key)
    check_name(known["name"])
    check_queue(known)
    check_numbers(known)
    if len(known) == len(values):  # else it may run what this version has no field for
        check_program(dict(known))
    known = {key: value for key, value in known.items() if not _is_newer_word(key, value)}
    for key in ("args", *_WORD_LISTS):
        if known.get(key) is not None:
            known[key] = tuple(known[key])
    spec = JobSpec(**known)
    _check_ranges(spec)
    return spec


def _is_newer_word(key: str, value: Any) -> bool:
    return key in _STORED_WORDS and isinstance(value, str) and value not in _STORED_WORDS[key]


def _refuse_newer(values: dict[str, Any]) -> None:
    """Raise SpecTooNew for a field or a word that this version does not know, in a spec that is sound otherwise."""
    for key, value in values.items():
        if key not in _TYPES:
            raise SpecTooNew(values["name"], f"with {short(key)}, which this one does not know")
        if _is_newer_word(key, value):
            raise SpecTooNew(values["name"], f"with {key}={short(value)}, which this one does not know")


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
    for key in DURATIONS:
        if values.get(key) is not None and not (key in AUTOMATIC and values[key] == AUTO):
            values[key] = duration(key, values[key])
    for key in MOMENTS:
        if values.get(key) is not None:
            values[key] = moment_s(key, values[key], values.get("tz", _DEFAULTS["tz"]))
    if isinstance(values.get("at"), datetime):
        values["at"] = values["at"].isoformat()
    check_words(values)
    check_queue(values)
    check_numbers(values)
    check_texts(values)
    check_calendars(values)
    check_parents(name, values)
    check_work(values)
    spec = JobSpec(name=name, **values)
    _check_ranges(spec)
    check_sense(vars(spec))
    if spec.schedule is None:
        check_unscheduled(vars(spec))
    return spec


def written_moments(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of the *options* of a job that names no zone its moments, as they were written; None when it names one."""
    return None if "tz" in options else {key: options[key] for key in MOMENTS if options.get(key) is not None}


def in_zone(spec: JobSpec, tz: str, written: Mapping[str, Any]) -> JobSpec:
    """*spec* in the zone *tz*, and so are its *written* moments that have no offset. Raises DefinitionError."""
    try:
        moments: dict[str, Any] = {key: moment_s(key, value, tz) for key, value in written.items()}
        moved = replace(spec, tz=tz, **moments)
        _check_ranges(moved)
    except DefinitionError as error:
        raise error.at(job=spec.name) from error.__cause__
    return moved


def _refuse_unbuilt(options: dict[str, Any]) -> None:
    for key, only in NOT_BUILT.items():
        if key in options and options[key] not in (only, None):
            raise DefinitionError(f"{options[key]!r} is not supported by this version yet; leave it out", field=key)


def _refuse_unknown(values: dict[str, Any]) -> None:
    known = set(_DEFAULTS).difference(_NO_OPTIONS)
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, [*known, *NOT_BUILT], n=1)
            hint = f"did you mean {close[0]!r}?" if close else "docs/jobs.md lists the options"
            raise DefinitionError(f"there is no such option; {hint}", field=key)


def _refuse_none(values: dict[str, Any]) -> None:
    """Refuse None for an option that has another default: nobody could say which of the two was meant."""
    for key, value in values.items():
        if value is None and _DEFAULTS[key] is not None and key not in ("args", "kwargs", "env"):
            raise DefinitionError("None is not a value of this option; leave it out for the default", field=key)


def _check_ranges(spec: JobSpec) -> None:
    """Check what would harm a beat or a worker that acts on it: durations, the lock's name, the schedule, the zone."""
    for option in SPANS_AND_MOMENTS:
        value = getattr(spec, option.name)
        if option.kind is Kind.DURATION and isinstance(value, int | float):
            check_span(option, value)
        if option.kind is Kind.MOMENT and value is not None and not 0 <= value < END_OF_TIME_S:
            raise DefinitionError(f"{short(value)} is no moment before the year 9999", field=option.name)
    if spec.start is not None and spec.end is not None and spec.end < spec.start:
        problem = f"{iso(spec.end)} is before the start, {iso(spec.start)}; the job would have no tick"
        raise DefinitionError(problem, field="end")
    if spec.lock is not None and not NAME.fullmatch(spec.lock):
        raise DefinitionError(
            f"{spec.lock!r} is not a lock name; use 1 to 100 of the characters A-Z a-z 0-9 _ -", field="lock"
        )
    if spec.schedule is None:
        find_zone(spec.tz)  # times of the job are shown in it
