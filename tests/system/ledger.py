"""Holds what Redis keeps of many ticks against the promise: each once in the ledger, each run once on its queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.store import text
from cronq.runs.run import Run
from tests.run_ids import run_id_of


def server_s(redis: Redis) -> float:
    """Server time, epoch seconds."""
    seconds, micros = redis.time()
    return float(seconds + micros / 1e6)


@dataclass(frozen=True)
class Book:
    """The ledger of some jobs, and what was queued for them; read while no beat runs, so all of one moment."""

    rows: dict[str, list[tuple[int, Run | None]]]  #: by job: tick and row, in order of the ticks
    queue: list[str]  #: run ids as they stand on their queue
    bodies: set[str]  #: ids of the queue whose RQ job is there
    queued_events: Counter[str]

    def ticks(self, job: str) -> list[int]:
        return [tick for tick, _ in self.rows[job]]

    def outcomes(self, job: str) -> dict[int, str]:
        """By tick: its outcome, or its state while it is open."""
        return {tick: row.outcome or row.state for tick, row in self.rows[job] if row is not None}

    @property
    def size(self) -> int:
        return sum(map(len, self.rows.values()))


def read_book(app: Cronq, jobs: Iterable[str], queue: str = "default", step_s: int = 1) -> Book:
    rows = {}
    for job in jobs:
        index = app.client.zrange(app.keys.runs(job), 0, -1, withscores=True)
        stored = {row.run_id: row for row in app.runs.rows(text(run_id) for run_id, _ in index)}
        rows[job] = [
            each for run_id, score in index for each in _ticks_of(int(score), stored.get(text(run_id)), step_s)
        ]
    ids = [text(run_id) for run_id in app.client.lrange(f"rq:queue:{queue}", 0, -1)]
    with app.client.pipeline(transaction=False) as pipe:
        for run_id in ids:
            pipe.hexists(f"rq:job:{run_id}", "data")
        there = pipe.execute()
    events = [fields for _, fields in app.client.xrange(app.keys.events)]
    queued = Counter(text(fields[b"run"]) for fields in events if fields[b"type"] == b"queued")
    return Book(rows, ids, {run_id for run_id, has_body in zip(ids, there, strict=True) if has_body}, queued)


def _ticks_of(tick: int, row: Run | None, step_s: int) -> list[tuple[int, Run | None]]:
    """The tick of a row; of one that holds many, each from its first to its own, *step_s* apart."""
    if row is None or row.first is None:
        return [(tick, row)]
    ticks = range(row.first, tick + 1, step_s)
    if row.count != len(ticks):
        return [(tick, None)]  # a fault
    return [(each, replace(row, run_id=run_id_of(row.job, each), tick=each)) for each in ticks]


def faults(book: Book, step_s: int = 1) -> list[str]:
    """All that is not as promised, in words; jobs are due every *step_s*."""
    return [*_faults_of_ledger(book, step_s), *faults_of_queue(book)]


def _faults_of_ledger(book: Book, step_s: int) -> list[str]:
    found = []
    for job, rows in book.rows.items():
        ticks = [tick for tick, _ in rows]
        for tick, times in Counter(ticks).items():
            if times > 1:
                found.append(f"{run_id_of(job, tick)} is in the ledger {times} times")
        if ticks:
            absent = set(range(ticks[0], ticks[-1], step_s)) - set(ticks)
            found += [f"{run_id_of(job, tick)} is not in the ledger" for tick in sorted(absent)]
        for tick, row in rows:
            if row is None or (row.run_id, row.tick) != (run_id_of(job, tick), tick):
                found.append(f"{run_id_of(job, tick)} has no row of its own: {row}")
    return found


def faults_of_queue(book: Book) -> list[str]:
    """Where queue, RQ jobs and events are not what the ledger says, in words.

    The id of a run that was stopped may still lie in its queue: its RQ job is gone, and whoever pops it drops it.
    """
    open_ids = {row.run_id for rows in book.rows.values() for _, row in rows if row and row.state == "queued"}
    stopped = {row.run_id for rows in book.rows.values() for _, row in rows if row and row.outcome == "stopped"}
    dropped = stopped - book.bodies
    found = [f"{run_id} is on the queue {times} times" for run_id, times in Counter(book.queue).items() if times > 1]
    found += [f"{run_id} is queued in the ledger only" for run_id in sorted(open_ids - set(book.queue))]
    found += [f"{run_id} is on the queue only" for run_id in sorted(set(book.queue) - open_ids - dropped)]
    found += [f"{run_id} has no RQ job" for run_id in sorted(set(book.queue) - book.bodies - dropped)]
    found += [
        f"{run_id} was queued {book.queued_events[run_id]} times by the events"
        for run_id in sorted(open_ids)
        if book.queued_events[run_id] != 1
    ]
    return found
