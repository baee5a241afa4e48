"""What a process asks of Redis for its runs: one call ends some and gives others, another says that all are alive.

An `Exchange` is for one process, whose workers offer themselves when they are idle. What is not plain, it hands on as
`Taken`: an id that was popped, and nothing else of it was written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.client import HeldClient
from cronq.db.decode import moment, seconds, text, whole
from cronq.db.faults import is_read_only
from cronq.db.keys import Keys
from cronq.errors import CronqError
from cronq.jobs.options import DEFAULTS
from cronq.jobs.spec import SPEC_LAYOUT, JobSpec
from cronq.jobs.stored import JobState, StoredJob
from cronq.locks.lock import FENCE_LIFE_S
from cronq.locks.renewal import LockTiming
from cronq.runs.run import Ending, Run
from cronq.runs.store import RunStore
from cronq.timetext import rq_stamp

#: What the JSON of a hold means, to people.
ReadHold = Callable[[str], str]


@dataclass(frozen=True)
class Offer:
    """An idle worker that may be given a run."""

    worker: str  #: its name at RQ
    execution: str  #: random, of this offer alone: the run's execution, and the holder of its lock
    is_ahead: bool = False  #: the worker has a run, which is about to end, and keeps it when there is no other


@dataclass(frozen=True)
class Begun:
    """A run that is at work from now on, in the name of the worker that offered itself."""

    run: Run
    job: StoredJob  #: of its state only what a run is told of those before it
    execution: str  #: that of the offer, or of an earlier one of this worker whose answer was lost
    fence: int | None  #: the fencing token of its lock
    lock: str | None  #: the lock that it holds under *execution*
    sent_boot_s: float  #: boot clock before it was asked for: run and lock live on from here


@dataclass(frozen=True)
class Taken:
    """An id that was popped and is in RQ's intermediate list: its worker goes through the steps one by one."""

    queue: str
    raw_id: bytes


@dataclass(frozen=True)
class End:
    """How a run of this process ended."""

    worker: str
    run: Run
    ending: Ending
    execution: str
    lock: str | None  #: the lock that it holds under *execution*
    worked_s: float  #: how long its worker was busy with it
    hold_s: float = 0.0  #: so long that lock is kept from everybody still


@dataclass(frozen=True)
class Exchanged:
    """The answer of one call, in the order of what was sent."""

    ends: list[str | Exception]  #: as `RunStore.end` answers; an error is that end's alone
    starts: list[Begun | Taken | None]  #: None: nothing for this offer
    held: str | None = None  #: why nothing is to be taken, in words; of several workers what the first of them has
    helds: list[str | None] = field(default_factory=list)  #: the same of each offer
    troubles: list[Exception | None] = field(default_factory=list)  #: what kept an offer from being served


@dataclass(frozen=True)
class Renewing:
    """A run at work that is to be renewed with its lock. *slow*: it takes longer than its job's `warn_after`."""

    run: Run
    execution: str
    lock: str | None = None
    slow: bool = False
    group: str | None = None  #: it may be at work only while its host is in that group


@dataclass(frozen=True)
class Renewed:
    """What became of it.

    *word* is explained in `lua/runs/renew.lua`, or why Redis refused to renew the run or its lock. *lock* is one of
    `locks.renewal`, also when only the run was refused; None without a lock.
    """

    word: str | ResponseError
    lock: int | None
    released_by: str | None = None  #: who has taken that lock from the run by force


class Exchange:
    """Ends, takes, starts and renews the runs of one process, each in one round trip for all of them.

    *read_hold* turns the JSON of a hold into words. Several threads may not call one Exchange at the same time.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        runs: RunStore,
        *,
        host: str,
        pid: int,
        no_commands: bool,
        lock_ttl_s: float,
        lease_s: int,
        read_hold: ReadHold = lambda raw: "drained",
    ) -> None:
        self._runs = runs
        self._read_hold = read_hold
        self._client = client
        self._held = HeldClient(client)
        self._settle_and_take: Any = scripts.load(client, "runs/settle_and_take")
        self._renew: Any = scripts.load(client, "runs/renew")
        self._undo_start: Any = scripts.load(client, "runs/undo_start")
        self._give_back_lock: Any = scripts.load(client, "runs/give_back_lock")
        common: dict[str, object] = {
            "prefix": keys.prefix,
            "lease": lease_s,
            "events": runs.keep_events,
            "lock_ttl_ms": LockTiming(lock_ttl_s).ttl_ms,
            "fence_life": FENCE_LIFE_S,
        }
        of_taking: dict[str, object] = {
            "host": host,
            "pid": pid,
            "row_ttl": runs.row_ttl_s,
            "knows": SPEC_LAYOUT,
            "max_crashes": DEFAULTS["max_crashes"],
            "no_commands": no_commands,
        }
        # JSON without its end, for it is the same in each call.
        self._common = json.dumps(common)[:-1]
        self._of_taking = json.dumps(common | of_taking)[:-1]
        self._here = {"host": host, "pid": str(pid), "state": "running"}
        self._open_offers: dict[str, Offer] = {}  # worker -> its last one, until a run was begun for it
        self._numbers: dict[str, int] = {}  # worker -> the number of that

    def settle_and_take(
        self, ends: Sequence[End], offers: Sequence[Offer], queues: Sequence[str], *, left_alone: Collection[str],
        now_s: float,
    ) -> Exchanged:  # fmt: skip
        """Tell how runs ended, give their locks back, and take the next run for each offer, in one round trip.

        *now_s* is server time, by which a ttl is judged and a start is dated. Jobs *left_alone* are left to other
        workers. It may be called again with the same when the answer was lost: then nothing is ended or started twice.
        Raises RedisError when there was no answer.
        """
        told, wrong = self._documents(ends)
        offered = [self._number(offer) for offer in offers]
        document = {
            "now": repr(now_s), "stamp": rq_stamp(now_s), "left_alone": list(left_alone), "queues": list(queues),
            "offers": [
                {"worker": known.worker, "execution": known.execution, "number": number, "ahead": offer.is_ahead}
                for offer, (known, number) in zip(offers, offered, strict=True)
            ],
        }  # fmt: skip
        sent_boot_s = boot_s()
        asked = f'{self._of_taking}, "ends": [{", ".join(told)}], {json.dumps(document)[1:]}'
        answered, started, held = _read_answer(self._settle_and_take(args=[asked], client=self._held.get()))
        answers = iter(answered)
        heard: list[str | Exception] = [
            error if error is not None else self._hear_end(end.run, next(answers))
            for end, error in zip(ends, wrong, strict=True)
        ]
        starts: list[Begun | Taken | None] = []
        troubles: list[Exception | None] = []
        for (offer, _), start in zip(offered, started, strict=True):
            try:
                starts.append(self._hear_start(offer, start, sent_boot_s))
                troubles.append(None)
            except (RedisError, OSError) as error:
                starts.append(None)
                troubles.append(error)
        helds = [self._hear_hold(raw) for raw in held]
        return Exchanged(heard, starts, next((why for why in helds if why), None), helds, troubles)

    def renew(self, renewings: Sequence[Renewing], now_s: float) -> list[Renewed]:
        """Say that these runs are alive, and renew their locks, in one round trip; what is wrong with one is its own.

        Raises RedisError when there was no answer.
        """
        document = {
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "runs": [_renewal_of(each) for each in renewings],
        }
        answers: Any = self._renew(args=[self._told(document)])
        return [
            Renewed(
                self._refusal(text(why or why_lock)) if why or why_lock else text(word), lock, text(by) if by else None
            )
            for word, why, lock, why_lock, by in answers
        ]

    def give_back(self, run: Run, execution: str, lock: str) -> None:
        """Give back the lock of a run that did not come to an `End` of its own: it was rerun, or did not start."""
        document = {"run": run.run_id, "execution": execution, "lock": lock}
        self._give_back_lock(args=[self._told(document)])

    def undo_start(self, run: Run, execution: str, lock: str | None) -> bool:
        """Undo the start of a run whose work has not begun: its id is then only popped. Return False if it is no more.

        So is one whose spec cannot be read here: the steps one by one say what becomes of it.
        """
        document = {
            "run": run.run_id, "job": run.job, "queue": run.queue, "execution": execution, "worker": run.worker,
        }  # fmt: skip
        if lock is not None:
            document["lock"] = lock
        return bool(self._undo_start(args=[self._told(document)]))

    def _told(self, document: Mapping[str, object]) -> str:
        """The JSON that a script is told: what is the same in each call, and *document*."""
        return f"{self._common}, {json.dumps(document)[1:]}"

    # Ends

    def _documents(self, ends: Sequence[End]) -> tuple[list[str], list[Exception | None]]:
        """What the script is told of the ends, as JSON, and what keeps one from being told: it cannot be stored."""
        told: list[str] = []
        wrong: list[Exception | None] = []
        for end in ends:
            try:
                document = self._runs.document_of_end(end.run, end.ending)
                document |= {"worker": end.worker, "worked": end.worked_s, "execution": end.execution}
                if end.lock is not None:
                    document["lock"] = end.lock
                    if end.hold_s > 0:
                        document["hold_ms"] = math.ceil(end.hold_s * 1000)
                told.append(json.dumps(document, allow_nan=False))
                wrong.append(None)
            except Exception as error:  # of what a job has said, not of Redis
                wrong.append(error)
        return told, wrong

    def _hear_end(self, run: Run, answer: Any) -> str | Exception:
        return self._refusal(answer[0]) if isinstance(answer, list) else self._runs.hear_end(run, answer)

    # Starts

    def _number(self, offer: Offer) -> tuple[Offer, int]:
        """The open offer of that worker, if there is one, else *offer*; and its number.

        An offer is open until a run was begun for it: a call whose answer was lost may have begun one, and may do so
        late. The worker then finds it by its execution.
        """
        known = self._open_offers.get(offer.worker)
        if known is None:
            known = self._open_offers[offer.worker] = offer
            self._numbers[offer.worker] = self._numbers.get(offer.worker, 0) + 1
        return known, self._numbers[offer.worker]

    def _hear_start(self, offer: Offer, answer: Any, sent_boot_s: float) -> Begun | Taken | None:
        if not answer:
            return None
        word, *rest = answer
        if word == "error":
            raise self._refusal(rest[0])
        if word == "taken":
            return Taken(rest[0], _as_sent(rest[1]))
        queue, run_id, execution, attempt, started_at, token, lock, row, definition, state = rest
        values = dict(zip(row[::2], row[1::2], strict=True))
        values |= self._here
        values |= {"started_at": started_at, "worker": offer.worker, "attempt": str(attempt), "queue": queue}
        run = Run.from_hash(run_id, values)
        try:
            job = _stored_job(run.job, definition, state)
        except CronqError:
            is_undone = self.undo_start(run, execution, lock or None)  # if that fails, the next call meets the same run
            self._open_offers.pop(offer.worker, None)
            return Taken(queue, _as_sent(run_id)) if is_undone else None
        self._open_offers.pop(offer.worker, None)
        return Begun(run, job, execution, int(token) if token else None, lock or None, sent_boot_s)

    def _refusal(self, words: str) -> ResponseError:
        """The error that a script met in one end or start, and told of in its answer.

        A server that has become a replica is left, as `db/client.py` does it for errors of whole calls.
        """
        error = ResponseError(words)
        if not is_read_only(error):
            return error
        self._client.connection_pool.disconnect()
        return ReadOnlyError(words)

    def _hear_hold(self, raw: Any) -> str | None:
        if raw is False:
            return None
        return self._read_hold(raw) if raw else "suspended until `rq resume`"


def _renewal_of(each: Renewing) -> dict[str, object]:
    run = each.run
    document: dict[str, object] = {
        "run": run.run_id, "job": run.job, "queue": run.queue, "attempt": run.attempt, "execution": each.execution,
    }  # fmt: skip
    if each.lock is not None:
        document["lock"] = each.lock
    if each.slow:
        document["slow"] = True
    if each.group is not None:
        document |= {"group": each.group, "host": run.host}
    return document


def _read_answer(raw: Any) -> Any:
    """The JSON that `lua/runs/settle_and_take.lua` answers, which may hold bytes that are no text."""
    if isinstance(raw, str):
        return json.loads(raw)
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError:
        ends, starts, held = json.loads(raw.decode("utf-8", "surrogateescape"))
        return ends, [_shown(start, but_for=2) if start else start for start in starts], _shown(held)


def _as_sent(words: str) -> bytes:
    """An id as it stands in its queue."""
    return words.encode("utf-8", "surrogateescape")


def _shown(value: Any, but_for: int | None = None) -> Any:
    """*value* with all bytes that are no text replaced; of a list the item *but_for*, an id, stays as it is."""
    if isinstance(value, list):
        return [each if place == but_for else _shown(each) for place, each in enumerate(value)]
    return text(_as_sent(value)) if isinstance(value, str) else value


def _stored_job(name: str, definition: Sequence[Any], state: Sequence[Any]) -> StoredJob:
    """The job of a run from the fields that `lua/parts/plain_start.lua` names. Raises CronqError."""
    spec, version, layout, source, origin, default_tz = (each or None for each in definition)
    mark, streak, last_run, last_outcome, last_tick, last_ended, success_tick, first_run = (
        each or None for each in state
    )
    found = JobSpec.from_json(spec or "", name=name, layout=whole(layout) or 1)
    return StoredJob(
        spec=found,
        version=version or "",
        source=source or "",
        origin=origin or "",
        state=JobState(
            mark=moment(mark),
            pause=None,
            streak=whole(streak) or 0,
            last_run=last_run,
            last_outcome=last_outcome,
            last_tick=moment(last_tick),
            last_ended=seconds(last_ended),
            success_tick=moment(success_tick),
            first_run=seconds(first_run),
        ),
        next_tick=None,
        tz_is_default=default_tz == found.tz,
    )
