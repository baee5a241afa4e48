"""What `cronq delayed` lists: delayed runs, the scheduled jobs of rq-scheduler and of RQ, and rejected entries.

Reading changes nothing, and nothing that is read is executed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cronq.db.decode import seconds, text
from cronq.db.keys import RQ_QUEUES, RQ_SCHEDULED_JOBS, Keys, queue_name, rq_job, rq_scheduled
from cronq.errors import CronqError
from cronq.interop.pickles import read_function
from cronq.interop.rq_jobs import read_meta
from cronq.interop.rq_scheduler import rejected_entries

_MOST = 10_000


@dataclass(frozen=True)
class ScheduledEntry:
    """One entry of a store. `kind` is `run` (ours), `rq-scheduler`, `rq`, or `aside` (it was rejected)."""

    id: str
    kind: str
    job: str | None  #: the job's name, or the function that is called
    queue: str | None
    due_s: float | None
    repeats: str | None  #: `every 60s, 3 left`, a cron string, None: once
    note: str | None


def read_all(client: Redis, keys: Keys) -> list[ScheduledEntry]:
    """All entries of all stores, the next one first, rejected ones last. A store that cannot be read is named too."""
    queues = sorted(queue_name(text(each)) for each in client.smembers(RQ_QUEUES))
    with client.pipeline(transaction=False) as pipe:
        pipe.zrange(RQ_SCHEDULED_JOBS, 0, _MOST, withscores=True)
        for queue in queues:
            pipe.zrange(rq_scheduled(queue), 0, _MOST, withscores=True)
        stores = pipe.execute(raise_on_error=False)
    found: list[ScheduledEntry] = []
    for queue, store in zip(["", *queues], stores, strict=True):
        if isinstance(store, list):
            found += _views(client, keys, queue, [(text(entry_id), float(score)) for entry_id, score in store])
        else:
            found.append(_unreadable(rq_scheduled(queue) if queue else RQ_SCHEDULED_JOBS, queue, store))
    found.sort(key=lambda view: (math.inf if view.due_s is None else view.due_s, view.id))
    try:
        return found + [_rejected(entry_id, facts) for entry_id, facts in rejected_entries(client, keys)]
    except ResponseError as error:
        return [*found, _unreadable(keys.aside, "", error)]


def _unreadable(key: str, queue: str, error: object) -> ScheduledEntry:
    """A store that somebody replaced by a key of another type: it hides nothing else, and is not taken for empty."""
    return ScheduledEntry(key, "aside", None, queue or None, None, None, f"cannot be read: {error}")


def _rejected(entry_id: str, facts: dict[str, Any]) -> ScheduledEntry:
    return ScheduledEntry(
        entry_id, "aside", None, str(facts.get("store") or "") or None, None, None, str(facts["reason"])
    )


def _views(client: Redis, keys: Keys, queue: str, entries: list[tuple[str, float]]) -> list[ScheduledEntry]:
    with client.pipeline(transaction=False) as pipe:
        for entry_id, _ in entries:
            pipe.hmget(keys.run(entry_id), "job", "queue", "reason")
            pipe.hmget(rq_job(entry_id), "data", "origin", "meta")
        replies = pipe.execute(raise_on_error=False)
    found = []
    for (entry_id, score), row, fields in zip(entries, replies[::2], replies[1::2], strict=True):
        due_s = seconds(score)  # others write any number
        if isinstance(row, list) and row[0] is not None:
            job, of, reason = (text(value) if value is not None else None for value in row)
            found.append(ScheduledEntry(entry_id, "run", job, of, due_s, None, reason))
        else:
            view = _rq_entry(entry_id, due_s, queue, fields)
            found.append(
                view if due_s is not None else replace(view, note=f"{score:g} is no time; reschedule or stop it")
            )
    return found


def _rq_entry(entry_id: str, due_s: float | None, queue: str, fields: Any) -> ScheduledEntry:
    kind = "rq" if queue else "rq-scheduler"
    if not isinstance(fields, list) or fields[0] is None:
        return ScheduledEntry(entry_id, kind, None, queue or None, due_s, None, "its RQ job does not exist")
    data, origin, raw = fields
    function = repeats = note = None
    try:
        function, _ = read_function(data)
        repetition = str(read_meta(raw or b"").repetition) if not queue else "once"
        repeats = None if repetition == "once" else repetition
    except CronqError as error:
        note = str(error)
    return ScheduledEntry(entry_id, kind, function, queue or text(origin or b"") or None, due_s, repeats, note)
