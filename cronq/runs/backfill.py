"""Runs past ticks: what the ledger has of each, and the one step that queues it."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import RQ_QUEUES, Keys, rq_job, rq_queue
from cronq.errors import CronqError, UnknownJob
from cronq.jobs.spec import JobSpec
from cronq.runs.ranges import Part, others_of, parts_without, tick_of
from cronq.runs.run import Run, describe_run, tick_run_id
from cronq.runs.store import RunStore
from cronq.timetext import rq_stamp

#: What `queue` answers, and `PastTick.stand` says: it is on its way, it has succeeded, it may not start again; and of
#: a tick that is neither, that it is to run.
QUEUED, OPEN, DONE, BEGUN, TO_RUN = "queued", "open", "done", "begun", "run"

#: Rows looked through for the range that reaches beyond the last tick: it is the first, unless single ticks of it ran
#: again.
_FEW_ROWS = 20
_READ_AT_ONCE = 500
#: How often the step is tried again when the ledger was changed since it was read.
_TRIES = 10


class PastTick(NamedTuple):
    """One past tick (epoch seconds), and what the ledger has of it."""

    tick: int
    run: Run | None = None  #: None: nothing
    range: Run | None = None  #: the row that has it among other ticks

    @property
    def has_row(self) -> bool:
        """Return True if it has a row of its own, or is the newest tick of a range."""
        return self.run is not None and (self.range is None or self.range.tick == self.tick)

    def stand(self, spec: JobSpec, *, force: bool) -> str:
        """What is to become of it: `open`, `done`, `begun` (the job asks for at_most_once) or `run`."""
        run = self.run
        if run is None:
            return TO_RUN
        if run.state != "done":
            return OPEN
        if run.outcome == "succeeded" and not force:
            return DONE
        return BEGUN if spec.at_most_once and run.started_at is not None else TO_RUN


class PastRuns:
    """Queues runs of past ticks in the name of *by*; *runs* is the ledger."""

    def __init__(self, client: Redis, keys: Keys, runs: RunStore, *, by: str) -> None:
        self.client = client
        self.keys = keys
        self.runs = runs
        self.by = by
        self._backfill: Any = scripts.load(client, "runs/backfill")

    def look(self, name: str, ticks: Sequence[int]) -> list[PastTick]:
        """What the ledger has of each of *ticks*, which are in order. A round trip for each 500 rows."""
        if not ticks:
            return []
        index = self.keys.runs(name)
        found: Any = self.client.zrangebyscore(index, ticks[0], ticks[-1])
        later: Any = self.client.zrangebyscore(index, f"({ticks[-1]}", "+inf", start=0, num=_FEW_ROWS)
        ids = [text(run_id) for run_id in (*found, *later)]
        own: dict[int, Run] = {}
        ranges: list[Run] = []
        for first in range(0, len(ids), _READ_AT_ONCE):
            for row in self.runs.rows(ids[first : first + _READ_AT_ONCE]):
                if row.tick is not None:
                    own[row.tick] = row
                    if row.first is not None:
                        ranges.append(row)
        ends = [row.tick or 0 for row in ranges]
        return [self._past(tick, own.get(tick), ranges, ends) for tick in ticks]

    @staticmethod
    def _past(tick: int, own: Run | None, ranges: list[Run], ends: list[int]) -> PastTick:
        if own is not None:
            return PastTick(tick, tick_of(own, tick), own if own.first is not None else None)
        at = bisect_left(ends, tick)
        single = tick_of(ranges[at], tick) if at < len(ranges) else None
        return PastTick(tick, single, ranges[at] if single is not None else None)

    def rows(self, run_ids: Iterable[str]) -> list[Run]:
        """The runs of these ids whose rows still exist; one round trip."""
        return self.runs.rows(run_ids)

    def count_rows(self, name: str, since: int) -> int:
        """How many rows of ticks from *since* on the ledger has."""
        return int(self.client.zcount(self.keys.runs(name), since, "+inf"))

    def newest_tick(self, name: str) -> int | None:
        """The newest tick of a job that the ledger has; None: it has none."""
        found: Any = self.client.zrevrange(self.keys.runs(name), 0, 0, withscores=True)
        return int(found[0][1]) if found else None

    def queue(self, spec: JobSpec, past: PastTick, now_s: float, *, force: bool, reason: str | None = None) -> str:
        """Queue the run of a past tick, unless it is `open`, `done` or `begun`; one step, safe to repeat.

        With *force* also one that has succeeded, unless it was run again since *past* was read. *reason* says why, in
        place of a backfill. Raises UnknownJob,
        CronqError for a damaged key or a job that was changed meanwhile.
        """
        seen = past.run.attempt if past.run is not None else None
        for attempt in range(_TRIES):
            if attempt or past.range is not None:  # of a range an earlier tick has left it since, most likely
                (past,) = self.look(spec.name, [past.tick])
                if force and past.run is not None and past.run.attempt != seen and past.run.outcome == "succeeded":
                    return DONE  # somebody else ran it, as was asked for
            answer = text(self._send(spec, past, now_s, force, reason or f"backfill by {self.by}"))
            code, _, detail = answer.partition(" ")
            if code in (QUEUED, OPEN, DONE, BEGUN):
                return code
            if code == "gone":
                raise UnknownJob(f"there is no job {spec.name!r} (any more); see `cronq list`")
            if code == "changed":
                raise CronqError(f"job {spec.name!r} was changed meanwhile; try again")
            if code == "broken":
                raise CronqError(f"job {spec.name!r}: cannot queue {tick_run_id(spec.name, past.tick)}: "
                                 f"{detail} is damaged; look at that key")  # fmt: skip
        raise CronqError(f"job {spec.name!r}: its history keeps changing; try again")

    def _send(self, spec: JobSpec, past: PastTick, now_s: float, force: bool, reason: str) -> Any:
        name, tick, row = spec.name, past.tick, past.range
        run_id = tick_run_id(name, tick)
        document: dict[str, Any] = {
            "prefix": self.keys.prefix,
            "name": name,
            "run": run_id,
            "tick": str(tick),
            "queue": spec.queue,
            "description": describe_run(name, tick, run_id),
            "by": self.by,
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "row_ttl": self.runs.row_ttl_s,
            "events": self.runs.keep_events,
            "reason": reason,
            "force": force,
            "once": spec.at_most_once,
        }
        if past.run is not None and past.has_row:
            document["seen"] = past.run.attempt
        range_key = before_key = self.keys.run(run_id)
        if row is not None:
            document["range"], document["was"], before = self._without(row, tick)
            range_key = self.keys.run(row.run_id)
            if before is not None:
                before_key = self.keys.run(before)
        keys = [
            self.keys.run(run_id), self.keys.job(name), self.keys.runs(name), self.keys.active(name),
            self.keys.template(name), rq_job(run_id), rq_queue(spec.queue), RQ_QUEUES, self.keys.events,
            range_key, before_key,
        ]  # fmt: skip
        return self._backfill(keys=keys, args=[json.dumps(document)])

    def _without(self, row: Run, tick: int) -> tuple[dict[str, Any], dict[str, str], str | None]:
        """What is told of the range *row* that *tick* leaves: its parts, what became of its ticks, and the id of the
        part before the tick."""
        index = self.keys.runs(row.job)
        own: Any = self.client.zrangebyscore(index, row.first or 0, f"({tick}", withscores=True)
        before, after = parts_without(row, tick, {int(score) for _, score in own})
        was = others_of(row)
        told: dict[str, Any] = {
            "first": str(row.first),
            "count": str(row.count),
            "schedule": row.schedule or "",
            "queue": row.queue,
        }
        if after is not None:
            told["after"] = _told(after)
        if before is not None:
            told["before"] = _told(before) | {"run": tick_run_id(row.job, before.tick), "tick": str(before.tick)}
        known = {"outcome": was.outcome, "reason": was.reason, "decided_by": was.decided_by}
        facts = {key: value or "" for key, value in known.items()} | {"ended_at": repr(was.ended_at or 0.0)}
        if was.cause is not None and (cause := was.cause.write()) is not None:
            facts["cause"] = cause
        return told, facts, told["before"]["run"] if before is not None else None


def _told(part: Part) -> dict[str, Any]:
    return {"first": str(part.first), "count": part.ticks}
