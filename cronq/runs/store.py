"""The ledger in Redis: its rows, and the steps that move a run from queued to settled. Owner of the run keys."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cronq.db import scripts
from cronq.db.decode import text, texts
from cronq.db.faults import broken_key
from cronq.db.keys import Keys, rq_job
from cronq.errors import UnknownRun
from cronq.jobs.options import DEFAULTS
from cronq.locks.lock import FENCE_LIFE_S
from cronq.runs.ranges import tick_of
from cronq.runs.rq_records import in_rq, rejection_fields, result_fields, send_stop_job
from cronq.runs.run import Ending, Run, Start
from cronq.timetext import DAY_S, read_tick_stamp, rq_stamp

log = logging.getLogger("cronq.runs")

#: What `end` answers.
SETTLED, RETRYING = "settled", "retrying"
_STOP_LIFE_S = DAY_S
#: Rows that are looked through for the range that holds a tick, which is the first unless single ticks of it ran again;
#: and for the success before an earlier tick.
_FEW_ROWS = 20
#: Entries of a set of open runs that one command reads; all 100,000 that there may be would keep others waiting.
_READ_AT_ONCE = 1000
#: How long RQ keeps a rejected job, in seconds, and how many rejected ids are noted in `refused`.
_REFUSED_S = 30 * DAY_S
REFUSED_KEPT = 1000


@dataclass(frozen=True)
class Period:
    """A stretch of time, both ends within it, in epoch seconds; None: without end on that side."""

    since_s: float | None = None
    until_s: float | None = None

    @property
    def first(self) -> str:
        """The lowest score in it, as Redis takes it."""
        return "-inf" if self.since_s is None else repr(self.since_s)

    @property
    def last(self) -> str:
        """The highest score in it, as Redis takes it."""
        return "+inf" if self.until_s is None else repr(self.until_s)

    def covers(self, moment_s: float) -> bool:
        """Return True if that moment lies in it."""
        return (self.since_s or 0) <= moment_s and (self.until_s is None or moment_s <= self.until_s)


ALWAYS = Period()


@dataclass(frozen=True)
class Started:
    """The answer to `start`: `code` is explained in `lua/runs/start.lua`."""

    code: str
    attempt: int
    detail: str = ""
    fence: int | None = None  #: the fencing token of its lock; None without one


class RunStore:
    """Reads the ledger and moves runs along; each move is one script, and is accepted once.

    *release_dependents* is called with queue and id of a settled run for which RQ jobs wait.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        row_ttl_s: float,
        keep_events: int = 10_000,
        release_dependents: Callable[[str, str], None] | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self.row_ttl_s = int(row_ttl_s)
        self.keep_events = keep_events
        self._release_dependents = release_dependents
        self._start: Any = scripts.load(client, "runs/start")
        self._settle: Any = scripts.load(client, "runs/settle")
        self._park: Any = scripts.load(client, "runs/park")
        self._wake_waiter: Any = scripts.load(client, "runs/wake_waiter")
        self._take_turns: Any = scripts.load(client, "runs/take_turns")
        self._rerun: Any = scripts.load(client, "runs/rerun")
        self._reject: Any = scripts.load(client, "queue/reject")

    # Reading

    def find(self, run_id: str) -> Run | None:
        """The run of that id; None when the ledger has no row of it (any more)."""
        values = self._client.hgetall(self._keys.run(run_id))
        return Run.from_hash(run_id, texts(values)) if values else None

    def find_taken(self, run_id: str) -> tuple[Run | None, bool]:
        """What a worker asks of an id that it took: its run, as `find` says it, and whether RQ has a job of that id.

        One round trip.
        """
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._keys.run(run_id))
            pipe.exists(rq_job(run_id))
            values, is_in_rq = pipe.execute(raise_on_error=False)
        for answer in (values, is_in_rq):
            if isinstance(answer, Exception):
                raise answer
        return Run.from_hash(run_id, texts(values)) if values else None, bool(is_in_rq)

    def get(self, run_id: str) -> Run:
        """The run of that id, also of a tick that shares the row of a range. Raises UnknownRun."""
        run = self.find(run_id)
        if run is not None:
            return run if run.tick is None else tick_of(run, run.tick) or run
        # Nothing follows from how an id reads: it only says where to look for the run that has it.
        name, _, stamp = run_id.rpartition("-")
        tick = read_tick_stamp(stamp)
        run = self.run_at(name, tick) if tick is not None else None
        if run is None or run.run_id != run_id:
            raise UnknownRun(f"there is no run {run_id!r} in the ledger; see `cronq history JOB`")
        return run

    def newest_ids(self, names: Sequence[str], depth: int | None, period: Period = ALWAYS) -> list[str]:
        """The ids of the newest *depth* rows of each job (None: all), newest first, of *period* alone.

        Runs with and without a tick are merged. The first tick after the period comes with them, for it may be that of
        a range which reaches into it. One round trip; an index of a wrong type holds nothing.
        """
        ends: Any = (period.last, period.first)
        how: Any = {
            "byscore": True,
            "desc": True,
            "offset": 0,
            "num": -1 if depth is None else depth,
            "withscores": True,
        }
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                for key in (self._keys.runs(name), self._keys.manual(name)):
                    pipe.zrange(key, *ends, **how)
                if period.until_s is not None:
                    pipe.zrangebyscore(self._keys.runs(name), f"({period.last}", "+inf", 0, 1, withscores=True)
            replies = pipe.execute(raise_on_error=False)
        found = [pair for reply in replies if isinstance(reply, list) for pair in reply]
        return [text(run_id) for run_id, _ in sorted(found, key=lambda pair: float(pair[1]), reverse=True)]

    def rows(self, run_ids: Iterable[str]) -> list[Run]:
        """The runs of these ids whose rows still exist, in this order; one round trip."""
        wanted = list(run_ids)
        if not wanted:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for run_id in wanted:
                pipe.hgetall(self._keys.run(run_id))
            replies = pipe.execute(raise_on_error=False)
        return [
            Run.from_hash(run_id, texts(values))
            for run_id, values in zip(wanted, replies, strict=True)
            if isinstance(values, dict) and values
        ]

    def run_at(self, name: str, tick: int) -> Run | None:
        """The run of one tick of a job, also when it shares the row of a range; None when the ledger has none.

        Two round trips.
        """
        found: Any = self._client.zrangebyscore(self._keys.runs(name), tick, "+inf", start=0, num=_FEW_ROWS)
        singles = (tick_of(row, tick) for row in self.rows(text(run_id) for run_id in found))
        return next((run for run in singles if run is not None), None)

    def success_before(self, run: Run, newest: int | None) -> int | None:
        """The newest tick before that of *run* that succeeded, among the rows just before it; None: there is none.

        *newest* is that of the whole job. It is the answer, without asking Redis, unless *run* is of an earlier tick.
        """
        if newest is None or run.tick is None or newest < run.tick:
            return newest
        found: Any = self._client.zrange(
            self._keys.runs(run.job), f"({run.tick}", "-inf", byscore=True, desc=True, offset=0, num=_FEW_ROWS
        )
        rows = self.rows(text(run_id) for run_id in found)
        return next((row.tick for row in rows if row.outcome == "succeeded"), None)

    def first_after(self, name: str, moment_s: int) -> Run | None:
        """The run of the first tick of a job after a moment that has a row of its own; None when there is none."""
        found: Any = self._client.zrangebyscore(self._keys.runs(name), f"({moment_s}", "+inf", start=0, num=1)
        return next(iter(self.rows(text(run_id) for run_id in found)), None)

    def active(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The open runs of each job: by its name, their ids and states.

        One round trip, and one more for each thousand runs of a job beyond the first.
        """
        wanted = [key for name in names for key in (self._keys.given(name), self._keys.active(name))]
        with self._client.pipeline(transaction=False) as pipe:
            for key in wanted:
                pipe.hscan(key, count=_READ_AT_ONCE)
            replies = pipe.execute(raise_on_error=False)
        sets = [
            self._rest_of(key, *reply) if isinstance(reply, tuple) else {}
            for key, reply in zip(wanted, replies, strict=True)
        ]
        return {name: given | active for name, given, active in zip(names, sets[::2], sets[1::2], strict=True)}

    def _rest_of(self, key: str, cursor: int, found: dict[Any, Any]) -> dict[str, str]:
        """The whole hash at *key*, of which *found* was read up to *cursor*."""
        while cursor:
            reply: Any = self._client.hscan(key, cursor, count=_READ_AT_ONCE)
            cursor = reply[0]
            found |= reply[1]
        return texts(found)

    def count_open(self, name: str) -> int:
        """How many open runs a job has."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hlen(self._keys.active(name))
            pipe.hlen(self._keys.given(name))
            return sum(count for count in pipe.execute(raise_on_error=False) if isinstance(count, int))

    # The life of a run

    def start(self, run: Run, start: Start) -> Started:
        """Move a queued run to running, with its lock, if it may start.

        `lua/runs/start.lua` explains the codes of the answer. Raises KeyBroken for a key of its lock.
        """
        document = self._document(
            run,
            start.now_s,
            worker=start.worker,
            host=start.host,
            pid=start.pid,
            execution=start.execution,
            lease=start.lease_s,
            stock=start.stock,
            once=start.once,
            max_crashes=start.max_crashes,
            seen=start.seen_s,
            lock=start.lock,
            lock_ttl_ms=start.lock_ttl_ms,
            fence_life=FENCE_LIFE_S,
        )
        code, detail, *token = json.loads(text(self._start(args=[document])))
        if code == "broken_lock" and (broken := broken_key(ResponseError(f"WRONGTYPE {detail}"))) is not None:
            raise broken
        attempt = detail if isinstance(detail, int) else 0
        return Started(code, attempt, detail if isinstance(detail, str) else "", int(token[0]) if token else None)

    def settle(self, run: Run, ending: Ending) -> bool:
        """As `end`, for whom it is enough that it was done. Return False if it was not."""
        return bool(self.end(run, ending))

    def end(self, run: Run, ending: Ending) -> str:
        """Give *run* its outcome, or let it wait for its next attempt. Return SETTLED or RETRYING.

        Return "" if it is not as *ending* expects, or somebody else has settled it. It may be called again after a lost
        reply: the second call then finds the run settled and returns "", or says once more that it is retrying.
        """
        answer = text(self._settle(args=[json.dumps(self.document_of_end(run, ending))]))
        return self.hear_end(run, answer)

    def document_of_end(self, run: Run, ending: Ending) -> dict[str, object]:
        """What `lua/runs/settle.lua` takes for the end of *run*."""
        settlement = ending.settlement
        record = in_rq(run.queue, ending)
        stock = ending.stock or not run.has_rq_job
        tells_rq = not stock and record.status != "canceled"
        return self._facts(
            run,
            ending.now_s,
            expect=ending.expect,
            attempt=ending.attempt,
            execution=ending.execution,
            unseen_since=ending.unseen_since,
            rq_status=ending.rq_status,
            outcome=settlement.outcome,
            reason=settlement.reason,
            by=ending.by,
            row_ttl=self.row_ttl_s,
            fields=settlement.row_fields(),
            status=record.status,
            registry=record.registry,
            life=record.life_s,
            stock=stock or None,
            keep=None if run.has_rq_job else DEFAULTS["keep"],
            results=result_fields(run, ending) if tells_rq else None,
            retry=_retry_fields(ending),
        )

    def hear_end(self, run: Run, answer: str) -> str:
        """Do what follows from the *answer* of `lua/runs/settle.lua` about *run*. Return what `end` returns."""
        if answer == "depended":
            self._release(run)
        return {"settled": SETTLED, "depended": SETTLED, "retrying": RETRYING}.get(answer, "")

    def _release(self, run: Run) -> None:
        """Queue the RQ jobs that wait for *run*, which is settled whatever becomes of that."""
        try:
            if self._release_dependents is not None:
                self._release_dependents(run.queue, run.run_id)
        except Exception as error:  # of Redis, or of what somebody else's job holds
            log.error("DEFERRED the RQ jobs that depend on %s were not queued: %s", run.run_id, error)

    def rerun(self, run: Run, ending: Ending, max_crashes: int) -> str:
        """Put a running run back to the front of its queue as its next attempt, unless it crashed *max_crashes* times.

        The answer is a code, which `lua/runs/rerun.lua` explains, and after a space its detail.
        """
        document = self._document(
            run,
            ending.now_s,
            attempt=ending.attempt,
            execution=ending.execution,
            unseen_since=ending.unseen_since,
            reason=f"{ending.settlement.reason}; run again",
            by=ending.by,
            most=max_crashes if ending.is_crash else None,
        )
        return text(self._rerun(args=[document]))

    def _document(self, run: Run, now_s: float, **facts: object) -> str:
        """The JSON that a script takes for a step of *run*; facts that are None are left out."""
        return json.dumps(self._facts(run, now_s, **facts))

    def _facts(self, run: Run, now_s: float, **facts: object) -> dict[str, object]:
        document: dict[str, object] = {
            "prefix": self._keys.prefix,
            "run": run.run_id,
            "job": run.job,
            "queue": run.queue,
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "events": self.keep_events,
        }
        document |= {name: fact for name, fact in facts.items() if fact is not None}
        return document

    # Parking, rejecting, stopping

    def park(self, run: Run, lock: str, now_s: float) -> bool:
        """Let a run wait for *lock* without a worker. Return False for the stray id of a run that has its outcome."""
        args = [self._keys.prefix, run.run_id, repr(now_s), run.queue, lock, self.keep_events]
        return bool(self._park(keys=self._keys_of_waiters(lock), args=args))

    def wake_waiter(self, lock: str) -> bool:
        """Put the run that has waited longest for *lock* back on its queue. Return True if there was one."""
        args = [self._keys.prefix, lock, self.keep_events]
        return bool(self._wake_waiter(args=args))

    def take_turns(self, cursor: str, count: int, now_s: float) -> tuple[str, list[str]]:
        """Queue runs that wait behind an earlier run of their job which is not open (any more).

        Looks at about *count* jobs from *cursor* on, "0" at first. Returns the next cursor, "0" at the end, and what
        was queued.
        """
        document = {
            "prefix": self._keys.prefix,
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "events": self.keep_events,
            "cursor": cursor,
            "count": count,
        }
        reply = json.loads(text(self._take_turns(keys=[self._keys.jobs_behind], args=[json.dumps(document)])))
        return reply["cursor"], reply.get("woken", [])

    def _keys_of_waiters(self, lock: str) -> list[str]:
        return [self._keys.waiting(lock), self._keys.waiting_locks, self._keys.events]

    def reject(self, raw_id: Any, queue: str, reason: str, *, by: str, now_s: float, is_stray: bool = False) -> None:
        """Take an id that may not be executed out of RQ's intermediate list, and say why where people look.

        Its RQ job, if that is queued, goes to RQ's failed registry with the reason. The id is noted in `refused`,
        unless it *is_stray*: of a run whose outcome is known.
        """
        document: dict[str, Any] = {
            "prefix": self._keys.prefix,
            "queue": queue,
            "reason": reason,
            "by": by,
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "life": _REFUSED_S,
            "most": REFUSED_KEPT,
            "events": self.keep_events,
            "results": rejection_fields(text(raw_id), reason, by),
        }
        if not is_stray:
            document["note"] = True
        self._reject(args=[json.dumps(document), raw_id])

    def rejected(self, count: int) -> list[dict[str, str]]:
        """The notes of `refused` on the newest *count* rejected ids, newest first."""
        found: Any = self._client.xrevrange(self._keys.refused, count=count)
        return [texts(fields) for _, fields in found]

    def ask_to_stop(self, run_id: str, by: str) -> None:
        """Ask the guardian of a running run to stop it, in the name of *by*; it looks about every second."""
        self._client.set(self._keys.stop(run_id), by, ex=_STOP_LIFE_S)

    def last_heard_s(self, run_id: str) -> float | None:
        """When a run at work was last heard of, in epoch seconds; None when it is not at work."""
        heard: Any = self._client.zscore(self._keys.running, run_id)
        return None if heard is None else float(heard)

    def send_stop_job(self, run_id: str, worker: str) -> None:
        """Send RQ's own command to end *run_id* to the stock worker of that name."""
        send_stop_job(self._client, worker, run_id)

    def running(self) -> list[Run]:
        """All runs at work; two round trips."""
        return self.rows(text(run_id) for run_id in self._client.zrange(self._keys.running, 0, -1))

    def forget_running(self, run_id: str) -> None:
        """Drop an entry of `running` whose row is gone."""
        self._client.zrem(self._keys.running, run_id)


def _retry_fields(ending: Ending) -> dict[str, object] | None:
    """What `lua/runs/settle.lua` is told of the next attempt; None when there is none."""
    retry, settlement = ending.retry, ending.settlement
    if retry is None:
        return None
    told = {"due": repr(ending.now_s + retry.after_s), "retried": retry.retried}
    if retry.is_snooze:
        return told | {"reason": retry.note, "snooze": True}
    return told | {"reason": f"{retry.note}; the attempt before {settlement.outcome}: {settlement.reason}"}
