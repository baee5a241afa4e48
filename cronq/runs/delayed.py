"""Delayed runs: runs of a job that are due once, later. They wait in rq-scheduler's store, and any beat serves them.

The only module that knows rq-scheduler's code: its `Scheduler` writes the RQ job of a delayed run, so that what
programs read with `Scheduler.get_jobs` is what they would have written. Owner of the `delayed` key.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import rq_scheduler
from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import RQ_SCHEDULED_JOBS, Keys, rq_job
from cronq.errors import CronqError, DefinitionError, UnknownJob, UnknownRun
from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.rq_template import FUNCTION, as_bytes, meta_of
from cronq.jobs.spec import JobSpec
from cronq.runs.run import manual_run_id
from cronq.timetext import DAY_S, format_duration, iso, parse_duration_s, utc

#: Further away than this is a slip of the unit.
MOST_DELAY_S = 10 * 366 * DAY_S
_CHECKED_AT_ONCE = 200


def due_in(delay: float | str | timedelta, now_s: float, job: str) -> float:
    """*delay* from now, as epoch seconds. Raises DefinitionError."""
    try:
        return now_s + parse_duration_s(delay)
    except ValueError as error:
        raise DefinitionError(str(error), job=job, field="delay") from None


def due_at(moment: datetime, job: str) -> float:
    """*moment* as epoch seconds. Raises DefinitionError for a time without a zone: it means one thing to
    rq-scheduler (UTC) and another to RQ (the local zone)."""
    if not isinstance(moment, datetime):
        raise DefinitionError(f"{str(moment)[:60]!r} is not a datetime", job=job, field="moment")
    if moment.tzinfo is None or moment.utcoffset() is None:
        problem = f"{moment} has no time zone; write datetime(..., tzinfo=UTC) or tzinfo=ZoneInfo(...)"
        raise DefinitionError(problem, job=job, field="moment")
    return moment.timestamp()


class Delayed:
    """Makes, moves and lists delayed runs, in the name of *by*."""

    def __init__(self, client: Redis, keys: Keys, *, by: str, keep_events: int, max_args: int) -> None:
        self.client = client
        self.keys = keys
        self.by = by
        self.keep_events = keep_events
        self.max_args = max_args
        self._delay: Any = scripts.load(client, "runs/delay")
        self._move: Any = scripts.load(client, "runs/reschedule")
        self._check: Any = scripts.load(client, "runs/check_delayed")

    def put(self, spec: JobSpec, due_s: float, now_s: float, args_json: str | None = None) -> str:
        """Make a run of *spec* that is due at *due_s*, rounded up to a second; at once if that is past. Return its id.

        One atomic step. Raises UnknownJob, DefinitionError for a time too far away or arguments that are too
        large, CronqError for a damaged key.
        """
        travelling = spec.args_for_run(args_json, self.max_args)
        due = self._checked_due(due_s, now_s, spec.name)
        run_id = manual_run_id(spec.name)
        fields = self._rq_fields(spec, run_id, due, travelling)
        document: dict[str, Any] = {
            "prefix": self.keys.prefix,
            "name": spec.name,
            "run": run_id,
            "queue": spec.queue,
            "trigger": "delayed",
            "token": secrets.token_hex(8),
            "by": self.by,
            "due": due,
            "events": self.keep_events,
            "keep": spec.keep,
            "reason": self._reason(due),
        }
        if args_json is not None:
            document["args"] = args_json
        keys, name = self.keys, spec.name
        touched = [
            keys.run(run_id), keys.manual(name), keys.given(name), rq_job(run_id), RQ_SCHEDULED_JOBS, keys.delayed,
            keys.events,
        ]  # fmt: skip
        flat = [part for pair in fields.items() for part in pair]
        answer = text(self._delay(keys=touched, args=[json.dumps(document), *flat]))
        if answer == "gone":
            raise UnknownJob(f"there is no job {name!r} (any more); see `cronq list`")
        if answer not in ("won", "mine"):
            raise CronqError(f"job {name!r}: cannot make a delayed run: {answer}; look at that key")
        return run_id

    def _checked_due(self, due_s: float, now_s: float, what: str) -> int:
        if not due_s <= now_s + MOST_DELAY_S:
            problem = f"{format_duration(due_s - now_s)} ahead is too far; use at most {format_duration(MOST_DELAY_S)}"
            raise DefinitionError(problem, job=what, field="delay")
        return max(0, math.ceil(due_s))

    def _reason(self, due_s: int) -> str:
        return f"delayed until {iso(due_s)}; asked for by {self.by}"

    def _rq_fields(self, spec: JobSpec, run_id: str, due_s: int, args_json: str) -> dict[bytes, bytes]:
        """The RQ job that rq-scheduler would write for this run; its commands stay in a pipeline that is not sent."""
        with self.client.pipeline() as pipeline:
            scheduler: Any = rq_scheduler
            made = scheduler.Scheduler(queue_name=spec.queue, connection=pipeline).enqueue_at(
                utc(due_s),
                FUNCTION,
                spec.name,
                args_json,
                timeout=int(spec.timeout),
                job_result_ttl=result_life_s(spec),
                job_id=run_id,
                job_description=f"{spec.name} (delayed, {run_id.rsplit('-', 1)[1]})",
                meta=meta_of(spec),
            )
            made.failure_ttl = failure_life_s(spec)  # the one setting that rq-scheduler cannot be told
            pipeline.reset()
        return {as_bytes(name): as_bytes(value) for name, value in made.to_dict().items()}

    def move(self, entry_id: str, due_s: float, now_s: float, job: str | None) -> None:
        """Let an entry of rq-scheduler's store be due at *due_s*; *job* is None for one that is not cronq's.

        Raises UnknownRun, DefinitionError for a time too far away, CronqError for a damaged key.
        """
        due = self._checked_due(due_s, now_s, entry_id)
        keys = self.keys
        touched = [RQ_SCHEDULED_JOBS, keys.delayed, keys.run(entry_id), keys.manual(job or ""), keys.events]
        answer = text(self._move(keys=touched, args=[entry_id, due, self._reason(due), self.keep_events]))
        if answer == "gone":
            raise UnknownRun(f"{entry_id} is not delayed (any more); see `cronq delayed`")
        if answer != "moved":
            raise CronqError(f"{entry_id}: cannot be moved: {answer}; look at that key")

    def take_out(self, entry_id: str) -> bool:
        """Take an entry that is not cronq's out of rq-scheduler's store, as its own `cancel` does.

        Return True if it was there.
        """
        return bool(self.client.zrem(RQ_SCHEDULED_JOBS, entry_id))

    # For the beats

    def vanished(self, cursor: int) -> tuple[int, list[str]]:
        """Look through delayed runs from *cursor* on. Return the next cursor, and ids that left the store."""
        cursor, found = self.client.zscan(self.keys.delayed, cursor, count=_CHECKED_AT_ONCE)
        ids = [run_id for run_id, _ in found]
        return cursor, self._gone(ids) if ids else []

    def _gone(self, ids: Iterable[Any]) -> list[str]:
        keys = [self.keys.delayed, RQ_SCHEDULED_JOBS, self.keys.events]
        reply = self._check(keys=keys, args=[self.keys.prefix, self.keep_events, *ids])
        return [text(run_id) for run_id in reply]
