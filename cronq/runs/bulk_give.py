"""Queues many runs of one job, some hundred in each step."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import RQ_QUEUES, Keys, rq_queue
from cronq.errors import CronqError, UnknownJob
from cronq.jobs.rq_template import data_of, fields_of
from cronq.jobs.spec import JobSpec
from cronq.runs.run import describe_run, manual_run_id

#: Runs that are queued in one step, which takes Redis about ten milliseconds; fewer when their arguments have more
#: bytes than that.
_BATCH = 500
_BATCH_BYTES = 2_000_000
#: How often runs get other ids when somebody has theirs.
_TRIES = 5


class BulkGive:
    """Queues runs without a tick in the name of *by*."""

    def __init__(self, client: Redis, keys: Keys, *, by: str, keep_events: int, max_args: int) -> None:
        self.client = client
        self.keys = keys
        self.by = by
        self.keep_events = keep_events
        self.max_args = max_args
        self._enqueue: Any = scripts.load(client, "runs/enqueue_many")

    def give(self, spec: JobSpec, calls: Sequence[str | None], now_s: float, reason: str) -> list[str]:
        """Queue a run of *spec* for each of *calls*: its arguments as JSON, None for the job's own. Return their ids.

        Each batch is one step. Raises DefinitionError for arguments that are too large, before anything is queued;
        UnknownJob when the job is gone, CronqError for a damaged key, both with how many were queued before.
        """
        travelling = [spec.args_for_run(call, self.max_args) for call in calls]
        given: list[str] = []
        for first, last in _batches(travelling):
            try:
                given += self._batch(spec, calls[first:last], travelling[first:last], now_s, reason)
            except CronqError as error:
                if given:
                    raise type(error)(f"{error}; {len(given):,} of {len(calls):,} runs were queued before") from None
                raise
        return given

    def _batch(
        self, spec: JobSpec, calls: Sequence[str | None], travelling: Sequence[str], now_s: float, reason: str
    ) -> list[str]:
        name, keys = spec.name, self.keys
        ids = _fresh_ids(name, len(calls))
        fields = fields_of(self.client, spec, ids[0], "", travelling[0])
        data = {args: data_of(self.client, spec, args) for args in set(travelling)}
        common = [part for pair in fields.items() if pair[0] not in (b"description", b"data") for part in pair]
        document: dict[str, Any] = {
            "prefix": keys.prefix,
            "name": name,
            "queue": spec.queue,
            "token": secrets.token_hex(8),
            "by": self.by,
            "now": repr(now_s),
            "events": self.keep_events,
            "keep": spec.keep,
            "reason": reason,
            "common": len(common),
        }
        touched = [keys.manual(name), keys.given(name), rq_queue(spec.queue), RQ_QUEUES, keys.events]
        for _ in range(_TRIES):
            document["runs"] = [(run_id, call or False) for run_id, call in zip(ids, calls, strict=True)]
            own = [
                part
                for run_id, args in zip(ids, travelling, strict=True)
                for part in (describe_run(name, None, run_id), data[args])
            ]
            answer = text(self._enqueue(keys=touched, args=[json.dumps(document), *common, *own]))
            if not answer.startswith("taken "):
                break
            number = int(answer.removeprefix("taken "))
            ids[number - 1] = manual_run_id(name)
        if answer == "gone":
            raise UnknownJob(f"there is no job {name!r} (any more); see `cronq list`")
        if answer not in ("won", "mine"):
            raise CronqError(f"job {name!r}: cannot queue runs: {answer}; look at that key")
        return ids


def _fresh_ids(name: str, count: int) -> list[str]:
    """So many ids of runs without a tick, all different."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[manual_run_id(name)] = None
    return list(found)


def _batches(travelling: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and beyond the last of each batch of these arguments."""
    first, size = 0, 0
    for number, args in enumerate(travelling):
        if number > first and (number - first >= _BATCH or size + len(args) > _BATCH_BYTES):
            yield first, number
            first, size = number, 0
        size += len(args)
    if travelling:
        yield first, len(travelling)
