"""The jobs that a job hangs on, its parents: as they are given in `depends_on` and `after`, and what fits with them.

`depends_on` is a gate: a tick of the schedule runs once each parent's latest one has succeeded. `after` is a trigger
in place of a schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cronq.db.decode import read_json
from cronq.errors import BadValue, DefinitionError
from cronq.jobs.arguments import short
from cronq.jobs.options import DEFAULTS, check_name

#: The options that name parents.
EDGES = ("depends_on", "after")
#: Each success of a parent looks at all its children, and each tick of a child at all its parents.
_MOST = 1_000


def check_parents(name: str, values: dict[str, Any]) -> None:
    """Check `depends_on` and `after` of the job *name*: one job or several, by name or as they were decorated.

    *values* then hold their names in a tuple. Raises DefinitionError.
    """
    for key in EDGES:
        if key not in values:
            continue
        names = tuple(_names(key, values[key]))
        for parent in names:
            try:
                check_name(parent)
            except DefinitionError as error:
                raise DefinitionError(error.problem, field=key) from None
        if name in names:
            raise DefinitionError("it names the job itself, which would never run; leave that out", field=key)
        if len(names) > _MOST:
            raise DefinitionError(f"{len(names):,} jobs are too many, at most {_MOST:,}", field=key)
        if len(set(names)) < len(names):
            twice = next(parent for parent in names if names.count(parent) > 1)
            raise DefinitionError(f"{twice!r} is named twice; name it once", field=key)
        values[key] = names


def _names(key: str, value: Any) -> Iterator[str]:
    for each in value if isinstance(value, list | tuple) else (value,):
        jobs = getattr(each, "jobs", None)
        if isinstance(each, str):
            yield each
        elif isinstance(jobs, Mapping) and jobs:  # a decorated function: all jobs that it is
            yield from jobs
        elif isinstance(jobs, Mapping):
            which = getattr(each, "__name__", "it")
            raise DefinitionError(f"{which} is no job, its definition was refused; mend that first", field=key)
        elif isinstance(getattr(each, "name", None), str) and hasattr(each, "registry"):  # one job of such a function
            yield each.name
        else:
            what = short(getattr(each, "__name__", each))
            raise DefinitionError(f"{what} is neither the name of a job nor a function with @job", field=key)


def check_triggered(values: Mapping[str, Any]) -> None:
    """Refuse what does not fit with `after`, or what needs it. *values* are all options of a job by name."""
    after = values["after"]
    if not after:
        if values["on_parent_failure"] != DEFAULTS["on_parent_failure"]:
            problem = f"{values['on_parent_failure']!r} means nothing without after; a gate always waits"
            raise DefinitionError(f"{problem}, leave it out", field="on_parent_failure")
        return
    for key in ("cron", "every", "at"):
        if values[key] is not None:
            problem = f"{', '.join(after)}; it takes the place of a schedule, and {key}={short(values[key])} is one"
            raise DefinitionError(f"{problem}: leave one out, or write depends_on for a gate", field="after")


def starts_after(trigger: str, after: Sequence[str]) -> bool:
    """Return True if *trigger*, which is stored for the script that starts a job, names the jobs that it runs *after*.

    A newer release may keep more in it.
    """
    try:
        found = read_json(trigger)
    except BadValue:
        return False
    if not isinstance(found, dict) or found.get("after") != list(after):
        return False
    return all(isinstance(found.get(key), kind) for key, kind in (("queue", str), ("overlap", str), ("keep", int)))
