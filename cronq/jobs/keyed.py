"""Schedules of one job by key: `report.schedule("user-42", cron="0 7 * * *", kwargs={"user": 42})`.

Each is a job of its own, named `<job>--<key>`, with a ledger, a mark and a pause of its own. It has the function of the
job that it is *of* and all the options that were not given for it; they follow when that job changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from cronq.errors import DefinitionError
from cronq.jobs.arguments import short
from cronq.jobs.options import NAME
from cronq.jobs.parents import EDGES
from cronq.jobs.sense import check_sense
from cronq.jobs.spec import JobSpec, make_spec

_BETWEEN = "--"
#: What is never that of the job it is of.
_ITS_OWN = (
    "name", "of", "own", "cron", "every", "at", "anchor", "start", "end", "repeat",
    *EDGES, "on_parent_failure",  # a success would otherwise look at 100,000 of them
)  # fmt: skip


def keyed_name(name: str, key: str) -> str:
    """The name of the schedule *key* of the job *name*. Raises DefinitionError for what cannot be a key."""
    if not NAME.fullmatch(key) or _BETWEEN in key or key.startswith("-"):
        problem = f"{short(key)} is not a key; use A-Z a-z 0-9 _ and single - between them"
        raise DefinitionError(problem, job=name, field="key")
    return f"{name}{_BETWEEN}{key}"


def job_and_key(name: str) -> tuple[str, str] | None:
    """The job and the key that *name* says it is a schedule of; None for a name that says nothing of the kind."""
    of, _, key = name.rpartition(_BETWEEN)
    return (of, key) if of and key else None


def keyed_spec(job: JobSpec, key: str, options: Mapping[str, Any]) -> JobSpec:
    """The schedule *key* of *job*, with *options* in place of those of *job*.

    Raises DefinitionError for a key or an option that cannot be, for a job that is itself such a schedule or runs a
    command, and when the options say no time.
    """
    if job.function is None or job.of is not None:
        what = "runs a command" if job.function is None else f"is a schedule of {job.of!r} itself"
        raise DefinitionError(f"it {what}; make schedules by key of a job with a function", job=job.name, field="key")
    for option in ("function", "command"):
        if option in options:
            raise DefinitionError("it runs the function of its job; leave this out", job=job.name, field=option)
    name = keyed_name(job.name, key)
    if all(options.get(option) is None for option in ("cron", "every", "at")):
        raise DefinitionError("it says no time; give cron, every or at", job=name, field="cron")
    mine = make_spec(name, function=job.function, **{"tz": job.tz, **options})
    spec = _joined(job, mine, tuple(sorted(options)))
    try:
        check_sense(vars(spec))
    except DefinitionError as error:
        raise error.at(job=spec.name) from error.__cause__
    return spec


def following(job: JobSpec, spec: JobSpec) -> JobSpec:
    """*spec*, a schedule of *job* by key, as it is now that *job* has become what it is."""
    return _joined(job, spec, spec.own)


def follows(job: JobSpec, stored: str) -> bool:
    """Return True if *stored*, the text of a schedule of *job* by key, has what *job* has but for what is its own.

    A look at one of 100,000, without making a spec of it. What cannot be read does not follow.
    """
    try:
        mine = json.loads(stored)
        own = {*_ITS_OWN, *mine.get("own", ())}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False
    return {key: value for key, value in _values(job.to_json()).items() if key not in own} == {
        key: value for key, value in mine.items() if key not in own
    }


def _joined(job: JobSpec, mine: JobSpec, own: tuple[str, ...]) -> JobSpec:
    values = {
        item.name: getattr(mine if item.name in own or item.name in _ITS_OWN else job, item.name)
        for item in fields(JobSpec)
    }
    return JobSpec(**values | {"of": job.name, "own": own})


@lru_cache(maxsize=100)
def _values(text: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(text)
    return values
