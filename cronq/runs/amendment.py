"""Amends the ledger: gives a tick that has ended the outcome `succeeded`, because a person says so."""

from __future__ import annotations

import json
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys, rq_job
from cronq.errors import Conflict, CronqError, UnknownJob, UnknownRun
from cronq.outcomes import EXECUTED
from cronq.runs.history import Wanted, newest_rows
from cronq.runs.run import Run
from cronq.runs.store import RunStore
from cronq.timetext import iso, rq_stamp

#: How many of a job's newest rows are looked through for one that can be marked.
_MOST_LOOKED_AT = 1000
#: What is marked when nobody says which tick: of these ticks the newest.
_MEANT = (*EXECUTED, "blocked", "missed", "expired")


class Amendments:
    """Marks ticks as succeeded; *runs* is the ledger."""

    def __init__(self, client: Redis, keys: Keys, runs: RunStore) -> None:
        self.keys = keys
        self.runs = runs
        self._mark: Any = scripts.load(client, "runs/mark_success")

    def mark_success(self, name: str, tick: int | None, *, by: str, now_s: float) -> Run | None:
        """Mark the tick of a job (default: the newest that ran, or should have). Return its run as it is now.

        None when it had succeeded already. Raises UnknownRun when there is none, Conflict for one that is open,
        UnknownJob, and CronqError for a damaged key.
        """
        run = self._newest(name) if tick is None else self.runs.run_at(name, tick)
        if run is None:
            which = f"no tick {iso(tick)}" if tick is not None else "no tick yet that ran, or should have"
            raise UnknownRun(f"job {name!r} has {which}; see `cronq history {name}`")
        answer = self._step(run, by, now_s)
        if answer == "gone":
            raise UnknownJob(
                f"there is no job {name!r} (any more), or its history has no {run.run_id}; see `cronq list`"
            )
        if answer.startswith("open "):
            state, stop = answer.removeprefix("open "), f"`cronq stop {run.run_id}`"
            raise Conflict(f"{run.run_id} is {state}, and so has no outcome yet; wait for its end, or {stop} first")
        if answer.startswith("broken "):
            raise CronqError(
                f"job {name!r}: cannot mark {run.run_id}: {answer.removeprefix('broken ')}; look at that key"
            )
        return self.runs.get(run.run_id) if answer == "marked" else None

    def _newest(self, name: str) -> Run | None:
        """The newest tick that ran, or should have; or one that is open, which is refused by the script."""
        rows = newest_rows(self.runs, [name], Wanted(_MOST_LOOKED_AT))
        return next((run for run in rows if run.tick is not None and run.outcome in (None, *_MEANT)), None)

    def _step(self, run: Run, by: str, now_s: float) -> str:
        document: dict[str, Any] = {
            "prefix": self.keys.prefix,
            "stamp": rq_stamp(now_s),
            "name": run.job,
            "run": run.run_id,
            "tick": str(run.tick),
            "reason": f"marked by {by}",
            "by": by,
            "now": repr(now_s),
            "row_ttl": self.runs.row_ttl_s,
            "events": self.runs.keep_events,
        }
        if run.state == "done" and run.attempt == 1:
            known = {"outcome": run.outcome, "reason": run.reason, "decided_by": run.decided_by}
            cause = run.cause.write() if run.cause is not None else None
            document["was"] = {key: value or "" for key, value in known.items()} | {
                "ended_at": repr(run.ended_at or 0.0),
                **({"cause": cause} if cause else {}),
            }
        keys = self.keys
        touched = [
            keys.run(run.run_id), keys.job(run.job), keys.state(run.job), keys.runs(run.job), keys.events,
            rq_job(run.run_id),
        ]  # fmt: skip
        return text(self._mark(keys=touched, args=[json.dumps(document)]))
