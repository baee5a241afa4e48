"""The `@job` decorator: it defines a job, and gives the function that it decorates ways to queue it.

A definition that cannot be accepted never raises where it stands, because that would take the rest of its module
along: the registry keeps it as a problem, with its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType, MappingProxyType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from cronq.errors import CronqError, DefinitionError
from cronq.jobs.location import short_path
from cronq.jobs.registry import REGISTRY, Call, Definition, Delay, Enqueuer, IfActive, Registry
from cronq.jobs.spec import JobSpec, make_spec, written_moments

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class JobFunction(Protocol[P, R]):
    """A decorated function: still the plain callable it was, with ways to queue it."""

    jobs: MappingProxyType[str, JobHandle]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, as if it had no decorator."""
        ...

    @overload
    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> str: ...

    @overload
    def enqueue(self, *args: Any, if_active: IfActive, **kwargs: Any) -> str | None:
        """Queue one run with these arguments, or the job's own when there are none. Returns the run id.

        While a run of the job is open, `if_active="skip"` does nothing and returns None, `"return"` its id.
        """
        ...

    def enqueue_in(self, delay: Delay, *args: P.args, **kwargs: P.kwargs) -> str:
        """Make one run that is due after *delay*. Returns the run id."""
        ...

    def enqueue_many(self, calls: Iterable[Call]) -> list[str]:
        """Queue a run for each of *calls*, `{"kwarg": value}` or `(args, kwargs)`. Returns the run ids."""
        ...

    def enqueue_at(self, moment: datetime, *args: P.args, **kwargs: P.kwargs) -> str:
        """Make one run that is due at *moment*, which has a time zone. Returns the run id."""
        ...

    def schedule(self, key: str, **options: Any) -> str:
        """Have it run at times of its own for *key*, in place of the schedule of that key; see `JobHandle.schedule`."""
        ...

    def unschedule(self, key: str) -> bool:
        """Remove the schedule of that key. Returns True if there was one."""
        ...


@dataclass(frozen=True)
class JobHandle:
    """One job of a decorated function, or a command job, by name."""

    name: str
    registry: Registry

    @overload
    def enqueue(self, *args: Any, if_active: IfActive, **kwargs: Any) -> str | None: ...

    @overload
    def enqueue(self, *args: Any, **kwargs: Any) -> str: ...

    def enqueue(self, *args: Any, **kwargs: Any) -> str | None:
        """Queue one run; without arguments the job's own are used. Returns the run id.

        While any run of the job is open (delayed ones, too), `if_active="skip"` does nothing and returns None,
        `"return"` does nothing and returns the id of an open one. A function with a parameter of that name gets it.
        """
        if_active = "queue" if self._takes_if_active() else kwargs.pop("if_active", "queue")
        if if_active == "queue":
            return self._enqueuer().enqueue(self.name, args, kwargs)
        if if_active not in ("skip", "return"):
            raise CronqError(f"job {self.name!r}: if_active={if_active!r} is not one of queue, skip, return")
        run_id, is_new = self._enqueuer().enqueue_if_idle(self.name, args, kwargs)
        return run_id if is_new or if_active == "return" else None

    def enqueue_many(self, calls: Iterable[Call]) -> list[str]:
        """Queue a run for each of *calls*, `{"kwarg": value}` or `(args, kwargs)`; an empty one has the job's own.

        All are checked before any is queued. Returns the run ids.
        """
        return self._enqueuer().enqueue_many(self.name, calls)

    def _takes_if_active(self) -> bool:
        definition = self.registry.definitions.get(self.name)
        if definition is None or definition.function is None:
            return False
        return "if_active" in inspect.signature(definition.function).parameters

    def enqueue_in(self, delay: Delay, *args: Any, **kwargs: Any) -> str:
        """Make one run that is due after *delay*; without arguments the job's own are used. Returns the run id."""
        return self._enqueuer().enqueue_in(delay, self.name, args, kwargs)

    def enqueue_at(self, moment: datetime, *args: Any, **kwargs: Any) -> str:
        """Make one run that is due at *moment*, which has a time zone. Returns the run id."""
        return self._enqueuer().enqueue_at(moment, self.name, args, kwargs)

    def schedule(self, key: str, **options: Any) -> str:
        """Have it run at times of its own for *key*, with arguments of its own, say: `cron=`, `tz=`, `kwargs=`.

        It replaces the schedule of that key. Options that are not given are, and stay, those of the job. Returns
        `created`, `changed` or `same`. Raises DefinitionError; UnknownJob when the job is not stored.
        """
        return self._enqueuer().schedule(self.name, key, **options)

    def unschedule(self, key: str) -> bool:
        """Remove the schedule of that key. Returns True if there was one."""
        return self._enqueuer().unschedule(self.name, key)

    def _enqueuer(self) -> Enqueuer:
        if self.registry.enqueuer is None:
            raise CronqError(f"job {self.name!r}: no application to queue it with; make one with Cronq(url)")
        return self.registry.enqueuer()


#: A job as another one names it: by its name, as it was decorated (then all jobs of that function), or one of these.
Parent = str | JobFunction[..., Any] | JobHandle


@dataclass(frozen=True)
class _Site:
    """Where the code of a user calls `job`."""

    place: str  #: file:line, the file relative to the current directory where it lies below it
    module: str

    @classmethod
    def of(cls, frame: FrameType | None) -> _Site:
        """The site of the call that *frame* makes; an interpreter without frames knows none."""
        if frame is None:
            return cls("?", "")
        place = f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"
        return cls(place, frame.f_globals.get("__name__", ""))


class _Decorator(Generic[P, R]):
    """What `job(...)` returns; typed so that the decorated function keeps its signature."""

    def __init__(self, registry: Registry, site: _Site, options: dict[str, Any]) -> None:
        self.registry = registry
        self.place = site.place
        self.options = options

    def __call__(self, function: Callable[P, R]) -> JobFunction[P, R]:
        options = dict(self.options)
        name = options.pop("name", None)
        name = getattr(function, "__name__", "") if name is None else name
        try:
            if "function" in options:
                raise DefinitionError("the function is the decorated one; leave this out", field="function")
            spec = make_spec(name, function=_importable(function), **options)
            _check_call(function, spec)
            written = written_moments(options)
            added = self.registry.add(Definition(spec, self.place, function.__module__, function, written))
        except DefinitionError as problem:
            self.registry.refuse(problem.at(job=name, place=self.place))
            added = False
        return _with_handles(function, JobHandle(name, self.registry) if added else None)


def _importable(function: Callable[..., Any]) -> str:
    """`module:qualname`. Raises DefinitionError when a worker could not find the function there."""
    qualname = getattr(function, "__qualname__", "")
    module = getattr(function, "__module__", "")
    if not inspect.isfunction(function):
        raise DefinitionError(f"{function!r} is not a function; decorate a plain function", field="function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(
            f"{qualname} is a generator: calling it would do nothing; let it return instead of yield", field="function"
        )
    if "<" in qualname or "." in qualname:
        raise DefinitionError(
            f"{module}.{qualname} cannot be imported by a worker; define it at the top of a module", field="function"
        )
    if module == "__main__":
        raise DefinitionError(
            f"{qualname} is defined in the script itself and cannot be imported by a worker; move it into a module",
            field="function",
        )
    return f"{module}:{qualname}"


def _check_call(function: Callable[..., Any], spec: JobSpec) -> None:
    """Raise DefinitionError when the job's own arguments do not fit the function."""
    if spec.schedule is None and not spec.after and not spec.args and not spec.kwargs:
        return  # only run by hand: each call brings its arguments
    try:
        inspect.signature(function).bind(*spec.args, **spec.kwargs)
    except TypeError as error:
        raise DefinitionError(f"{error}; give args= or kwargs= that fit {spec.function}", field="kwargs") from None


def _with_handles(function: Callable[P, R], handle: JobHandle | None) -> JobFunction[P, R]:
    """Give the function itself the attributes `jobs` and `enqueue…`: RQ and pickle must find the same function."""
    if not inspect.isfunction(function):  # it was refused, and may take no attributes
        return cast("JobFunction[P, R]", function)
    jobs: dict[str, JobHandle] = dict(getattr(function, "jobs", {}))
    if handle is not None:
        jobs[handle.name] = handle
    decorated = cast(Any, function)
    decorated.jobs = MappingProxyType(jobs)
    for verb in ("enqueue", "enqueue_many", "enqueue_in", "enqueue_at", "schedule", "unschedule"):
        setattr(decorated, verb, _through(function, jobs, verb))
    return cast("JobFunction[P, R]", decorated)


def _through(function: Callable[..., Any], jobs: dict[str, JobHandle], verb: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(jobs) != 1:
            name = getattr(function, "__name__", "it")
            which = ", ".join(sorted(jobs)) or "none (its definition was refused; see `cronq check-config`)"
            raise CronqError(f"{name} has these jobs: {which}; say which: {name}.jobs[NAME].{verb}(...)")
        return getattr(next(iter(jobs.values())), verb)(*args, **kwargs)

    call.__name__ = verb
    return call


@overload
def job(cron: Callable[P, R], /) -> JobFunction[P, R]: ...


@overload
def job(
    cron: str | None = None,
    *,
    name: str | None = None,
    command: Sequence[str] | str | None = None,
    shell: bool | str = False,
    env: dict[str, str] | None = None,
    cwd: str | None = None,
    run_as: str | None = None,
    stdin: str | None = None,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    every: float | str | timedelta | None = None,
    at: str | datetime | None = None,
    anchor: str | datetime | None = None,
    start: str | datetime | None = None,
    end: str | datetime | None = None,
    repeat: int | None = None,
    jitter: float | str | timedelta | None = None,
    tz: str = "UTC",
    dst: str = "debian",
    only: str | Sequence[str] = (),
    except_: str | Sequence[str] = (),
    depends_on: Parent | Sequence[Parent] = (),
    after: Parent | Sequence[Parent] = (),
    on_parent_failure: str = "wait",
    catchup: str = "latest",
    window: float | str | timedelta = "24h",
    max_catchup: int = 100,
    backfill: bool = False,
    priority: int = 0,
    ttl: float | str | timedelta | None = None,
    overlap: str = "skip",
    pause_after_failures: int | None = None,
    exclusive: bool = False,
    lock: str | None = None,
    timeout: float | str | timedelta = "1h",
    warn_after: float | str | timedelta | None = None,
    grace: float | str | timedelta = "10s",
    on_lost: str = "fail",
    max_crashes: int = 3,
    at_most_once: bool = False,
    isolation: str = "auto",
    retries: int = 0,
    retry_delay: float | str | timedelta = "60s",
    backoff: float = 1,
    max_retry_delay: float | str | timedelta = "1h",
    queue: str = "default",
    result_ttl: float | str | timedelta = "auto",
    failure_ttl: float | str | timedelta = "auto",
    keep: int = 1000,
    description: str = "",
    owner: str = "",
    runbook: str = "",
    tags: Sequence[str] = (),
    registry: Registry | None = None,
    **more: Any,
) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...


def job(cron: Any = None, /, *, registry: Registry | None = None, **options: Any) -> Any:
    """Register a job: a function (as a decorator, once or stacked) or, with `command=`, a command.

    The first argument is a cron expression of 5 fields, or 6 with seconds first; `every=` and `at=` are the
    other ways to say when; without any the job is only run by hand. `docs/jobs.md` lists the options.
    Never raises: a definition that cannot be accepted is reported by `sync`, `beat` and `check-config`.
    """
    into = registry if registry is not None else REGISTRY
    frame = inspect.currentframe()
    site = _Site.of(frame.f_back if frame is not None else None)
    if callable(cron):
        return _Decorator[Any, Any](into, site, {})(cron)
    if cron is not None and options.get("cron") is not None:
        cron = (cron, options["cron"])  # refused together, as what it is
    options["cron"] = options.get("cron") if cron is None else cron
    if "command" in options and options["command"] is not None:
        return _register_command(into, site, options)
    return _Decorator[Any, Any](into, site, options)


def _register_command(registry: Registry, site: _Site, options: dict[str, Any]) -> Any:
    name = options.pop("name", None)
    try:
        if name is None:
            raise DefinitionError("a command job needs a name; give name=", field="name")
        spec = make_spec(name, **options)
        registry.add(Definition(spec, site.place, site.module, None, written_moments(options)))
    except DefinitionError as problem:
        registry.refuse(problem.at(job=name, place=site.place))
    return _CommandHandle(name or "", registry, site.place)


@dataclass(frozen=True)
class _CommandHandle(JobHandle):
    """The handle of a command job; decorating something with it is a mistake that is reported."""

    place: str

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        self.registry.refuse(
            DefinitionError(
                "a job with a command decorates nothing; write job(..., command=[...]) as a statement",
                job=self.name,
                place=self.place,
                field="command",
            )
        )
        return function
