"""What people and programs do beside the schedule: queue runs of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, overload

from cronq.app.parts import Parts
from cronq.errors import Conflict, CronqError, DefinitionError, SpanRefused, UnknownJob, UnknownRun
from cronq.jobs.arguments import dump_args, short
from cronq.jobs.change_notes import ChangeNote
from cronq.jobs.command_options import check_further_words
from cronq.jobs.pause import check_note
from cronq.jobs.registry import Call, Definition, IfActive, checked_call_json
from cronq.jobs.spec import JobSpec
from cronq.runs.backfill import BEGUN, OPEN
from cronq.runs.claim import Given
from cronq.runs.run import Run
from cronq.timetext import iso


def _checked(definition: Definition | None, spec: JobSpec, number: int, call: Call) -> str | None:
    """The arguments of one of many calls as JSON, None when there are none. Raises DefinitionError that names it."""
    try:
        if isinstance(call, Mapping):
            args, kwargs = (), dict(call)
        else:
            args, kwargs = tuple(call[0]), dict(call[1])
            if len(call) != 2:
                raise ValueError
    except (ValueError, TypeError, LookupError):
        problem = f"call {number}: {short(call)} is neither a mapping of keyword arguments nor (args, kwargs)"
        raise DefinitionError(problem, job=spec.name, field="args") from None
    if not args and not kwargs:
        return None
    try:
        return _call_json(definition, spec, args, kwargs)
    except DefinitionError as error:
        error.problem = f"call {number}: {error.problem}"
        raise


def _call_json(definition: Definition | None, spec: JobSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments of one call as JSON: of a command, the words that this run adds to its own."""
    if spec.command is None:
        return checked_call_json(definition, spec.name, args, kwargs)
    try:
        check_further_words(spec.shell, spec.command[0], args, kwargs)
        return dump_args(args, kwargs)
    except DefinitionError as error:
        raise error.at(job=spec.name) from error.__cause__


class Acts(Parts):
    """The acts of an application."""

    @overload
    def enqueue(
        self,
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        if_active: Literal["queue", "return"] = "queue",
    ) -> str: ...

    @overload
    def enqueue(
        self,
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        if_active: IfActive,
    ) -> str | None: ...

    def enqueue(
        self,
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        if_active: IfActive = "queue",
    ) -> str | None:
        """Queue one run now, beside the schedule. Return its id. Without arguments the job's own are used.

        Of a command *args* are words that this run adds to its own.

        While any run of the job is open (delayed ones, too), *if_active* decides in the same step: `queue` queues all
        the same, `skip` does nothing and returns None, `return` does nothing and returns the id of an open one.
        """
        if if_active not in ("queue", "skip", "return"):
            raise CronqError(f"job {name!r}: if_active={if_active!r} is not one of queue, skip, return")
        if if_active != "queue":
            given = self.enqueue_if_idle(name, args, kwargs)
            return given.run_id if given.is_new or if_active == "return" else None
        spec, call = self.call_of(name, args, kwargs)
        return self.claimer(self.who).give(spec, self.now_s(), args_json=call, reason=self._asked)

    def enqueue_if_idle(self, name: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Given:
        """Queue one run now unless a run of the job is open; return that one, or the new one."""
        spec, call = self.call_of(name, args, kwargs)
        return self.claimer(self.who).give_if_idle(spec, self.now_s(), args_json=call, reason=self._asked)

    def enqueue_many(self, name: str, calls: Iterable[Call]) -> list[str]:
        """Queue a run of a job for each of *calls*, in this order; return their ids.

        A call is a mapping of keyword arguments, or `(args, kwargs)`; an empty one has the job's own. All are checked
        before any is queued. Up to 500 are queued in one step: an error names how many were queued before. Raises
        UnknownJob, and DefinitionError for arguments that do not fit.
        """
        spec, _ = self.call_of(name, (), None)
        definition = self.registry.definitions.get(name)
        checked = [_checked(definition, spec, number, call) for number, call in enumerate(calls, 1)]
        return self.bulk_give(self.who).give(spec, checked, self.now_s(), self._asked)

    def run_again(self, name: str, tick: int | None = None) -> str:
        """Queue the newest tick of a job that the ledger has once more, or this one: its next attempt. Return its id.

        It runs whatever became of it, and whatever keeps other ticks from running; when its lock is busy it waits for
        that. Raises UnknownJob, UnknownRun when there is no such tick, Conflict for one that is open, SpanRefused
        for one that may be begun a single time and was.
        """
        spec, past = self.jobs.get(name).spec, self.past_runs(self.who)
        wanted = past.newest_tick(name) if tick is None else tick
        found = past.look(name, [wanted]) if wanted is not None else []
        if not found or found[0].run is None:
            if tick is None:
                raise UnknownRun(f"job {name!r} has had no tick yet that could run again; `cronq run {name}` runs it")
            words = f"`cronq backfill {name} --tick {iso(tick)}` runs one that it should have had"
            raise UnknownRun(f"job {name!r} has no tick {iso(tick)} in its history; {words}")
        run = found[0].run
        code = past.queue(spec, found[0], self.now_s(), force=True, reason=f"{self._asked}, once more")
        if code == OPEN:
            raise Conflict(f"{run.run_id} is on its way; wait for its end, or `cronq stop {run.run_id}` first")
        if code == BEGUN:
            raise SpanRefused(f"{run.run_id} was begun, and its job asks for at_most_once: it does not run again")
        return run.run_id

    def mark_success(self, name: str, tick: int | None = None) -> Run | None:
        """Say that a tick of a job succeeded (default: the newest that ran or should have). Return its run.

        The attempt before is kept, the streak of failures ends. None when it had succeeded already. Raises UnknownJob,
        UnknownRun when there is no such tick, Conflict for one that is open.
        """
        self.jobs.get(name)
        return self.amendments.mark_success(name, tick, by=self.who, now_s=self.now_s())

    def reset(self, name: str) -> bool:
        """Forget streak, last run and last success of a job, and end a pause that its failures set.

        One with `backfill` goes on behind a tick that did not succeed. Ledger and mark stay: no tick from before fires.
        Return False when there was nothing to forget. Raises UnknownJob.
        """
        job = self.jobs.get(name)
        pause = job.state.pause
        has_ended = pause is not None and pause.is_by_failures and self.changes().resume(name)
        return self.jobs.reset(job.spec, ChangeNote(self.now_s(), self.who)) or has_ended

    def stop_queue(self, queue: str, *, older_s: float = 0.0, note: str = "") -> list[str]:
        """Stop all runs that stand in *queue* and have not begun; return their ids. RQ jobs that are no runs stay.

        Only those that have stood there for *older_s* seconds. Raises DefinitionError for a note that is too long.
        """
        check_note(note)
        now_s = self.now_s()
        reason = f"{self.who} stopped what was in the queue {queue}" + (f": {note}" if note else "")
        return self.bulk_stop.stop_queued(queue, now_s - older_s, by=self.who, reason=reason, now_s=now_s)

    @property
    def _asked(self) -> str:
        """Why a run is made that somebody asked for."""
        return f"asked for by {self.who}"

    def call_of(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> tuple[JobSpec, str | None]:
        """The job *name*, and the arguments as JSON when any are given. Raises UnknownJob, DefinitionError."""
        definition = self.registry.definitions.get(name)
        try:
            spec = self.jobs.get(name).spec
        except UnknownJob:
            if definition is not None:
                raise UnknownJob(f"job {name!r} is defined but not stored; run `cronq sync` or start a beat") from None
            raise
        return spec, _call_json(definition, spec, args, dict(kwargs or {})) if args or kwargs else None
