"""The verbs of `Cronq` about what is due later than now and is no tick: delayed runs, and what rq-scheduler and RQ
hold back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from redis import Redis

from cronq.adopt import Adoption
from cronq.config import Config
from cronq.delayed import Delayed, due_at, due_in
from cronq.errors import DefinitionError, UnknownJob
from cronq.held_back import HeldBackView, read_all
from cronq.job import JobSpec
from cronq.job_store import JobStore
from cronq.keys import Keys
from cronq.registry import Registry, checked_call_json
from cronq.run_store import RunStore
from cronq.serving import Serving


class Later:
    """What `Cronq` can do about later; `Cronq` has the parts."""

    config: Config
    keys: Keys
    registry: Registry

    @cached_property
    def client(self) -> Redis:
        """The connection pool of this application."""
        raise NotImplementedError

    @cached_property
    def jobs(self) -> JobStore:
        """The jobs in Redis."""
        raise NotImplementedError

    @cached_property
    def runs(self) -> RunStore:
        """The ledger in Redis."""
        raise NotImplementedError

    @cached_property
    def who(self) -> str:
        """Who uses this application."""
        raise NotImplementedError

    def now_s(self) -> float:
        """Server time, epoch seconds."""
        raise NotImplementedError

    def delayed(self, by: str | None = None) -> Delayed:
        """Delayed runs, in the name of *by* (default: the person at the keyboard)."""
        return Delayed(self.client, self.keys, self.config, by or self.who)

    def serving(self, by: str) -> Serving:
        """What serves rq-scheduler's store and RQ's registries, in the name of *by*."""
        return Serving(self.delayed(by), self.runs, self.config, self.jobs.set_aside)

    def call_of(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> tuple[JobSpec, str | None]:
        """The job *name*, and the arguments as JSON when any are given. Raises UnknownJob, DefinitionError."""
        given: str | None = None
        if args or kwargs:
            given = checked_call_json(self.registry.definitions.get(name), name, args, dict(kwargs or {}))
        try:
            spec = self.jobs.get(name).spec
        except UnknownJob:
            if name in self.registry.definitions:
                raise UnknownJob(f"job {name!r} is defined but not stored; run `cronq sync` or start a beat") from None
            raise
        if given is not None and spec.command is not None:
            raise DefinitionError("a command takes its arguments in its own list; enqueue it without any", job=name)
        return spec, given

    def enqueue_at(
        self, moment: datetime, name: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> str:
        """Make one run that is due at *moment*, which has a time zone; its run id. Past: due at once."""
        spec, given = self.call_of(name, args, kwargs)
        return self.delayed().put(spec, due_at(moment, name), self.now_s(), given)

    def enqueue_in(
        self,
        delay: float | str | timedelta,
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Make one run that is due after *delay*, by the server's clock; its run id."""
        spec, given = self.call_of(name, args, kwargs)
        now_s = self.now_s()
        return self.delayed().put(spec, due_in(delay, now_s, name), now_s, given)

    def reschedule(self, entry_id: str, moment: datetime) -> None:
        """Let a delayed run, or whatever else rq-scheduler's store holds, be due at *moment*. Raises UnknownRun."""
        run = self.runs.find(entry_id)
        job = run.job if run is not None else None
        self.delayed().move(entry_id, due_at(moment, entry_id), self.now_s(), job)

    def held_back(self) -> list[HeldBackView]:
        """All that is due later besides ticks: delayed runs, rq-scheduler's jobs, RQ's own; the next one first."""
        return read_all(self.client, self.keys)

    def adopt(self, entry_id: str, *, name: str | None = None) -> JobSpec:
        """Turn a repeating job of rq-scheduler into a job of ours, which goes on where it stood."""
        return Adoption(self.jobs, self.config, self.who).adopt(entry_id, self.now_s(), name)
