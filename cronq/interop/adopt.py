"""Adopting: a repeating job of rq-scheduler becomes a job of ours and goes on where it stood, in one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis
from rq import Queue

from cronq.db.decode import text, texts
from cronq.db.keys import RQ_SCHEDULED_JOBS, rq_job
from cronq.errors import Conflict, CronqError, DefinitionError, UnknownRun
from cronq.interop.pickles import is_within, load_data, read_data
from cronq.interop.repeats import Repetition, RQSchedulerCron
from cronq.interop.rq_jobs import read_meta
from cronq.jobs.change_notes import ChangeNote
from cronq.jobs.quarantine import MARK_AHEAD_S
from cronq.jobs.spec import JobSpec, make_spec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob
from cronq.timetext import DAY_S, format_duration

#: The arguments of a job of ours have to be much smaller.
_MOST_CALL = 4 * 1024 * 1024
#: RQ's "no time-out": the longest that a job of ours may have.
_LONGEST_S = 366 * DAY_S


class Adoption:
    """Adopts entries of rq-scheduler's store that call functions of the modules in *allow*.

    Their cron strings are read in the zone *tz*.
    """

    def __init__(self, client: Redis, jobs: JobStore, *, tz: str, allow: tuple[str, ...], by: str) -> None:
        self.client = client
        self.jobs = jobs
        self.tz = tz
        self.allow = allow
        self.by = by

    def adopt(self, entry_id: str, now_s: float, name: str | None = None) -> JobSpec:
        """Store the job that *entry_id* stands for and take the entry out, or do neither.

        If the entry is due and was not served yet, that is the first tick of the new job. Raises UnknownRun,
        DefinitionError for what a job of ours cannot say, Conflict when the entry was served in between.
        """
        with self.client.pipeline() as pipe:
            pipe.zscore(RQ_SCHEDULED_JOBS, entry_id)
            pipe.hgetall(rq_job(entry_id))
            score, fields = pipe.execute()
        if score is None or not fields:
            raise UnknownRun(f"rq-scheduler holds no job {entry_id}; see `cronq delayed`")
        known = {text(field): value for field, value in fields.items()}
        try:
            repetition = read_meta(known.get("meta", b"")).repetition
        except CronqError as error:
            raise CronqError(f"{entry_id} cannot be adopted: {error}") from None
        spec = self._spec(entry_id, name, known, repetition)
        if self.jobs.find([spec.name]):
            raise DefinitionError("this name is taken; choose another with --name", job=spec.name, field="name")
        due_s = min(max(score, 0.0), now_s + _LONGEST_S)  # others write any number, also one that is no time
        last_s = due_s - (repetition.interval_s or 1)
        if repetition.interval_s and last_s > now_s + MARK_AHEAD_S:
            problem = f"{entry_id} begins only in {format_duration(due_s - now_s)}, and a job of cronq begins at once"
            raise CronqError(f"{problem}; adopt it then, or `cronq reschedule` it to an earlier time first")
        mark = max(0, min(int(last_s), int(now_s)))
        assert spec.schedule is not None
        self.jobs.open_epoch()
        try:
            self.jobs.save(
                spec, source=f"adopted from rq-scheduler by {self.by}", origin="cli", expected="", mark=mark,
                next_tick=spec.schedule.next_after(mark), instead_of=(entry_id, score),
                note=ChangeNote(now_s, self.by, words=f"adopted {entry_id}"),
            )  # fmt: skip
        except Conflict:
            if not self._is_done(spec, entry_id):
                raise Conflict(f"{entry_id} was served or changed just now; try again") from None
        return spec

    def _is_done(self, spec: JobSpec, entry_id: str) -> bool:
        """Return True if this adoption is stored already: its answer was lost, and the command was sent again."""
        known = self.jobs.find([spec.name]).get(spec.name)
        is_there = self.client.zscore(RQ_SCHEDULED_JOBS, entry_id) is not None
        return isinstance(known, StoredJob) and known.spec == spec and not is_there

    def _spec(self, entry_id: str, name: str | None, known: dict[str, bytes], repetition: Repetition) -> JobSpec:
        try:
            function, instance, args, kwargs = load_data(read_data(known.get("data", b""), _MOST_CALL), _MOST_CALL)
        except (CronqError, ValueError, TypeError) as error:
            raise CronqError(f"{entry_id} cannot be adopted: {error}; a job of cronq takes JSON") from None
        module, _, short = str(function).rpartition(".")
        if instance is not None or not module:
            raise CronqError(f"{entry_id} cannot be adopted: {function} is not a function of a module")
        if not is_within(module, self.allow):
            raise CronqError(f"{entry_id} calls {function}; allow it here and for the workers: CRONQ_ALLOW={module}")
        words = texts({key: value for key, value in known.items() if key in _TEXTS})
        timeout = _whole(entry_id, words, "timeout") or Queue.DEFAULT_TIMEOUT
        options: dict[str, Any] = {
            "function": f"{module}:{short}",
            "args": list(args),
            "kwargs": kwargs,
            "queue": words.get("origin") or "default",
            "timeout": timeout if timeout > 0 else _LONGEST_S,
            "description": words.get("description", ""),
        }
        if (result_ttl := _whole(entry_id, words, "result_ttl")) > 0:
            options["result_ttl"] = max(60, result_ttl)
        return make_spec(name or short, **options, **self._when(entry_id, repetition))

    def _when(self, entry_id: str, repetition: Repetition) -> dict[str, Any]:
        if repetition.left is not None:
            raise CronqError(f"{entry_id} ends after {repetition.left} more runs, and a job of cronq has no end")
        if repetition.interval_s is not None:
            return {"every": repetition.interval_s}
        if repetition.cron is None:
            raise CronqError(f"{entry_id} is due once; the beats serve it as it is")
        cron = RQSchedulerCron(repetition.cron, self.tz)
        if not cron.has_one_day_field:
            raise CronqError(f"{entry_id}: {repetition.cron!r} is due when both day fields match; cronq when one does")
        return {"cron": cron.expression, "tz": self.tz}


def _whole(entry_id: str, words: Mapping[str, str], field: str) -> int:
    """A whole number among the *words* of an RQ job, 0 when it is absent. Raises CronqError."""
    try:
        return int(words.get(field) or 0)
    except ValueError:
        told = f"{words[field][:40]!r} is not a whole number"
        raise CronqError(f"{entry_id} cannot be adopted: {field}: {told}") from None


_TEXTS = ("timeout", "origin", "description", "result_ttl")
