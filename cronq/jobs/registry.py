"""The jobs that this process's code defines, and the definitions that were refused.

`sync`, `beat` and `check-config` report what was refused, each with its place.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from cronq.errors import CronqError, DefinitionError
from cronq.jobs.arguments import dump_args
from cronq.jobs.keyed import job_and_key
from cronq.jobs.location import in_words, place_of
from cronq.jobs.spec import JobSpec, in_zone

Delay = float | str | timedelta
#: What becomes of a run that is asked for while another of its job is open.
IfActive = Literal["queue", "skip", "return"]
#: The arguments of one of many runs: keyword arguments, or both kinds.
Call = Mapping[str, Any] | tuple[Sequence[Any], Mapping[str, Any]]


class Enqueuer(Protocol):
    """What `.enqueue` of a decorated function asks: an application, `Cronq`."""

    def enqueue(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Queue one run of the job *name* now. Returns the run id."""
        ...

    def enqueue_if_idle(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, bool]:
        """Queue one run of the job *name* now unless one is open. Returns the id of one of them, and if it is new."""
        ...

    def enqueue_many(self, name: str, calls: Iterable[Call]) -> list[str]:
        """Queue a run of the job *name* for each of *calls*. Returns their ids."""
        ...

    def enqueue_at(self, moment: datetime, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Make one run of the job *name* that is due at *moment*. Returns the run id."""
        ...

    def enqueue_in(self, delay: Delay, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Make one run of the job *name* that is due after *delay*. Returns the run id."""
        ...

    def schedule(self, name: str, key: str, **options: Any) -> str:
        """Store the schedule *key* of the job *name*. Returns `created`, `changed` or `same`."""
        ...

    def unschedule(self, name: str, key: str) -> bool:
        """Remove the schedule *key* of the job *name*. Returns True if there was one."""
        ...


@dataclass
class Definition:
    """One job as this process's code defines it."""

    spec: JobSpec
    place: str  #: file:line of the decorator
    module: str
    function: Callable[..., Any] | None
    written: Mapping[str, Any] | None = (
        None  #: of a job that names no zone its moments (`start`, …), as they were given
    )
    _in_zones: dict[str, JobSpec] = field(default_factory=dict, repr=False, compare=False)

    def in_zone(self, tz: str) -> tuple[JobSpec, bool]:
        """The job as it is where *tz* is the zone of those that name none, and whether that decided its zone.

        Raises DefinitionError, for moments that *tz* does not have.
        """
        if self.written is None or self.spec.schedule is None or tz == self.spec.tz:
            return self.spec, False
        if tz not in self._in_zones:
            try:
                self._in_zones[tz] = in_zone(self.spec, tz, self.written)
            except DefinitionError as error:
                raise error.at(place=self.place) from None
        return self._in_zones[tz], True


@dataclass
class Registry:
    """Jobs by name, and the definitions that were refused."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    problems: list[DefinitionError] = field(default_factory=list)
    broken_modules: dict[str, DefinitionError] = field(default_factory=dict)
    enqueuer: Callable[[], Enqueuer] | None = None  #: makes or finds the application that queues its jobs

    def add(self, definition: Definition) -> bool:
        """Add a job. Returns False when its name is taken, which is recorded as a problem that names both places.

        A job that stands at the same place as the known one replaces it: its module was imported a second time. Only
        when the function is the very same object, with other options, is it a loop that gave two jobs one name.
        """
        name = definition.spec.name
        known = self.definitions.get(name)
        if known is not None and (known.place != definition.place or _in_a_loop(known, definition)):
            self.refuse(
                DefinitionError(
                    f"this name is taken by the job at {known.place}; give one of them another name=",
                    job=name,
                    place=definition.place,
                    field="name",
                )
            )
            return False
        self.definitions[name] = definition
        self.problems[:] = [each for each in self.problems if (each.job, each.place) != (name, definition.place)]
        return True

    def refuse(self, problem: DefinitionError) -> None:
        """Keep *problem* for `sync`, `beat` and `check-config`; one that is known is not kept twice."""
        if str(problem) not in map(str, self.problems):
            self.problems.append(problem)

    def load(self, modules: Sequence[str]) -> None:
        """Import *modules*. One that cannot be imported is recorded as a problem; the others are imported.

        The current directory comes first on `sys.path`, as with `python -m`.
        """
        here = os.getcwd()
        if sys.path[:1] != [here]:
            sys.path.insert(0, here)
        for module in modules:
            stale = self.broken_modules.pop(module, None)
            self.problems[:] = [problem for problem in self.problems if problem is not stale]
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:
                problem = DefinitionError(
                    f"the module {module!r} cannot be imported: {in_words(error)}; only its jobs before that count",
                    place=place_of(error),
                )
                self.broken_modules[module] = problem
                self.refuse(problem)

    def find(self, name: str) -> Definition | None:
        """The definition of the job *name*, or of the job that it is a schedule of by key; None for neither."""
        found = self.definitions.get(name)
        of = job_and_key(name) if found is None else None
        return self.definitions.get(of[0]) if of is not None else found

    def function_of(self, name: str) -> Callable[..., Any]:
        """The callable of the job *name*. Raises CronqError when this process does not define it."""
        definition = self.find(name)
        if definition is not None and definition.function is not None:
            return definition.function
        for problem in self.problems:
            if problem.job == name:
                raise problem
        broken = "; ".join(str(problem) for problem in self.broken_modules.values())
        raise CronqError(
            f"job {name!r} is not defined in this worker; start it with -m MODULE or CRONQ_JOBS"
            + (f" ({broken})" if broken else "")
        )


def _in_a_loop(known: Definition, again: Definition) -> bool:
    return known.function is not None and known.function is again.function and known.spec != again.spec


#: What `@job` fills unless a registry is handed in. The package gives it its enqueuer when it hands out `job`.
REGISTRY = Registry()


def checked_call_json(definition: Definition | None, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments of one call as JSON. They are checked against the function if this process defines it.

    Raises DefinitionError for arguments that JSON cannot carry or that do not fit.
    """
    try:
        text = dump_args(args, kwargs)
        if definition is not None and definition.function is not None:
            inspect.signature(definition.function).bind(*args, **kwargs)
    except TypeError as error:
        raise DefinitionError(f"{error}; call it with what the function takes", job=name, field="args") from None
    except DefinitionError as error:
        raise error.at(job=name) from error.__cause__
    return text
