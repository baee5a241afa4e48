"""The beats do the work of stock schedulers: they queue what stands in a store of scheduled jobs when it is due.

A store is rq-scheduler's set, with our delayed runs and what other programs put there, or RQ's registry of the
scheduled jobs of one queue. To serve an entry is to queue its RQ job, and to give it its next time if it repeats. All
beats serve the same stores; the script serves each entry once.

Meanwhile the beats hold the locks that stock schedulers respect, under one value for the whole installation: a
`rqscheduler` or a `rq worker --with-scheduler` beside them stays quiet. An entry that cannot be understood is rejected:
it is moved out of the store into the key `aside`, which belongs to this module, and `cronq delayed` lists it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from rq import Queue

from cronq.db import scripts
from cronq.db.decode import read_json, text
from cronq.db.faults import is_wrong_type
from cronq.db.keys import Keys
from cronq.errors import BadValue
from cronq.interop.pickles import MOST_META
from cronq.interop.repeats import RQSchedulerCron, next_due
from cronq.interop.rq_jobs import StoreEntry, dump_meta, read_meta
from cronq.jobs.quarantine import Quarantine
from cronq.runs.delayed import Delayed
from cronq.runs.run import Ending, Settlement
from cronq.runs.store import RunStore
from cronq.safetext import storable
from cronq.timetext import iso, rq_stamp

log = logging.getLogger("cronq.beat")

#: How often the locks are renewed, and how long stock schedulers stay quiet when the last beat has gone.
RENEW_EVERY_S = 12.0
_LOCK_LIFE_S = 40
#: Entries served in one round trip, and round trips of one pass: ticks wait meanwhile.
_AT_ONCE = 250
_MOST_ROUNDS = 20
#: A repeating job that RQ has called queued or started for longer may be neither: the script looks for its id.
_STALE_S = 60.0
_MOST_ASIDE = 1000
_MOST_REASON = 500


@dataclass(frozen=True)
class Order:
    """What is to become of one entry; `lua/interop/serve.lua` explains each field."""

    entry: StoreEntry
    act: str
    reason: str = ""
    next_s: int | None = None
    later_s: int | None = None
    meta: bytes = b""

    def as_args(self) -> list[bytes | str]:
        """As the script takes it."""
        entry = self.entry
        document: dict[str, Any] = {
            "store": entry.queue_of_registry,
            "score": entry.score,
            "act": self.act,
            "next": self.next_s,
            "later": self.later_s,
            "queue": entry.queue,
            "front": entry.at_front,
            "stale": entry.is_stale,
            "ttl": entry.ttl_s,
            "timeout": Queue.DEFAULT_TIMEOUT,
            "needs": list(entry.needs) if not entry.queue_of_registry else [],
            "reason": self.reason,
        }
        known = {name: value for name, value in document.items() if value not in (None, [], False)}
        return [json.dumps(known), entry.id, self.meta]


def order_for(entry: StoreEntry, now_s: float, tz: str) -> Order:
    """Return what is to become of *entry*, which is due; arithmetic only."""
    if entry.state:
        return Order(entry, "run")
    if entry.trouble:
        return Order(entry, "aside", entry.trouble)
    if not entry.is_there:
        return Order(entry, "aside" if entry.is_odd else "drop", "its RQ job was deleted, or its result_ttl has passed")
    if not entry.queue:
        return Order(entry, "aside", "its RQ job names no queue")
    if entry.queue_of_registry:
        return Order(entry, "push")
    try:
        return _order_for_repeating(entry, now_s, tz)
    except Exception as error:  # whatever somebody wrote there: it keeps nothing else from being served
        return Order(entry, "aside", storable(error, _MOST_REASON) or type(error).__name__)


def _order_for_repeating(entry: StoreEntry, now_s: float, tz: str) -> Order:
    meta = read_meta(entry.meta)
    repetition = meta.repetition
    score_s = float(entry.score)
    after = repetition.served()
    endless = type(repetition)(repetition.interval_s, repetition.cron)
    later = next_due(endless, score_s, now_s, tz)
    if repetition.cron is not None:
        cron = RQSchedulerCron(repetition.cron, tz)
        if cron.is_beside_a_clock_change(score_s):
            return Order(entry, "move", next_s=cron.next_after(score_s - 1))
    changed = repetition.left and (repetition.interval_s or repetition.cron)
    raw = dump_meta(meta, left=repetition.left - 1) if changed and repetition.left else b""
    return Order(entry, "push", next_s=later if after is not None else None, later_s=later, meta=raw)


class ScheduledStores:
    """A chore of the beat: serves the due entries of all stores. Their cron strings mean the zone *tz*."""

    def __init__(self, delayed: Delayed, runs: RunStore, quarantine: Quarantine, *, tz: str) -> None:
        self.client = delayed.client
        self.keys = delayed.keys
        self.delayed = delayed
        self.runs = runs
        self.by = delayed.by
        self.tz = tz
        self.keep_events = delayed.keep_events
        self.quarantine = quarantine
        self.holder = delayed.keys.holder
        self._read: Any = scripts.load(self.client, "interop/read_due")
        self._serve: Any = scripts.load(self.client, "interop/serve")
        self._said: dict[str, str] = {}
        self._broken: dict[str, str] = {}
        self._cursor = 0
        self._ours = 0
        self._looked_s = float("-inf")

    def once(self, now_s: float) -> None:
        """Renew the locks and serve what is due at *now_s*, server time.

        Now and then it also settles the delayed runs that somebody took out of the store.
        """
        skip: Counter[str] = Counter()
        for _ in range(_MOST_ROUNDS):
            entries = self._look(now_s, skip)
            answers = self.serve([order_for(entry, now_s, self.tz) for entry in entries], now_s) if entries else []
            for entry, (code, _detail) in zip(entries, answers, strict=True):
                skip[entry.queue_of_registry] += code in ("broken", "held")  # they must not crowd out the others
            if len(entries) < _AT_ONCE:
                break
        if self._ours and abs(now_s - self._looked_s) >= RENEW_EVERY_S - 1:
            self._looked_s = now_s
            self._settle_vanished(now_s)

    def _look(self, now_s: float, skip: Mapping[str, int]) -> list[StoreEntry]:
        document = {
            "prefix": self.keys.prefix,
            "holder": self.holder,
            "life": _LOCK_LIFE_S,
            "now": repr(now_s),
            "most": _AT_ONCE,
            "most_bytes": MOST_META,
            "skip": dict(skip),
        }
        troubles, entries, self._ours = self._read(args=[json.dumps(document)])
        self._say({text(store): text(trouble) for store, trouble in troubles})
        return [StoreEntry.from_reply(entry, now_s - _STALE_S) for entry in entries]

    def _say(self, troubles: dict[str, str]) -> None:
        """Say once of each store why it is not served, and once that it is again."""
        for store, trouble in troubles.items():
            known = self._said.get(store, "")
            if trouble.split(" ")[0] != known.split(" ")[0]:
                what = f"scheduled jobs of queue {store}" if store else "rq-scheduler's jobs"
                kind, _, detail = trouble.partition(" ")
                if kind == "held":
                    log.warning("WAITING %s are served by another scheduler (%s) until it lets go", what, detail)
                else:
                    log.error("TROUBLE %s cannot be served: %s", what, detail)
        for store in self._said.keys() - troubles.keys():
            log.warning(
                "RECOVERED %s served again", f"scheduled jobs of queue {store}" if store else "rq-scheduler's jobs"
            )
        self._said = troubles

    def serve(self, orders: Sequence[Order], now_s: float) -> list[tuple[str, str]]:
        """Carry *orders* out in one round trip; code and detail of each, as in `lua/interop/serve.lua`."""
        document = {
            "prefix": self.keys.prefix,
            "holder": self.holder,
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "events": self.keep_events,
            "by": self.by,
            "most_aside": _MOST_ASIDE,
        }
        args: list[bytes | str] = [json.dumps(document)]
        for order in orders:
            args += order.as_args()
        answers = [(code, str(detail)) for code, detail in json.loads(text(self._serve(args=args)))]
        for order, (code, detail) in zip(orders, answers, strict=True):
            self._note(order, code, detail, now_s)
        return answers

    def _note(self, order: Order, code: str, detail: str, now_s: float) -> None:
        entry = order.entry
        what = entry.shown_id
        if code == "served":
            late = now_s - float(entry.score)
            log.info("QUEUED %s on %s late=%.2fs", what, detail, late)
        elif code == "bodiless":
            self._settle(entry.shown_id, "its RQ job was deleted", now_s)
        elif code == "aside":
            log.error("ASIDE %s: %s; `cronq delayed` lists it", what, detail)
        elif code in ("busy", "deferred", "moved", "dropped"):
            words = {"busy": f"it is still {detail}", "moved": f"due {iso(order.next_s)}"}.get(code, detail)
            log.log(logging.WARNING if code == "dropped" else logging.INFO, "%s %s: %s", code.upper(), what, words)
        elif code == "broken":
            if self._broken.get(what) != detail:
                log.error("BROKEN %s: %s", what, detail)
            if len(self._broken) < _MOST_ASIDE:
                self._broken[what] = detail

    # Delayed runs that somebody took out of the store

    def _settle_vanished(self, now_s: float) -> None:
        try:
            self._cursor, gone = self.delayed.vanished(self._cursor)
        except ResponseError as error:
            if not is_wrong_type(error) or not self.quarantine.move(self.keys.delayed, "zset", now_s):
                raise
            log.error("MEND moved %s aside for a week: it had a wrong type or value", self.keys.delayed)
            return
        for run_id in gone:
            self._settle(run_id, "it was taken out of rq-scheduler's store", now_s)

    def _settle(self, run_id: str, reason: str, now_s: float) -> None:
        run = self.runs.find(run_id)
        if run is None or run.state != "waiting":
            return
        if self.runs.settle(run, Ending(Settlement("stopped", reason), self.by, now_s, expect="waiting")):
            log.warning("FINISH %s stopped %s", run_id, reason)


def rejected_entries(client: Redis, keys: Keys) -> Iterable[tuple[str, dict[str, Any]]]:
    """The rejected entries: the id of each, and {store, due, reason, at}."""
    for entry_id, raw in client.hgetall(keys.aside).items():
        try:
            found = read_json(raw)
        except BadValue:
            found = {}
        reason = "what is kept of it cannot be read" if not isinstance(found, dict) else str(found.get("reason", ""))
        yield text(entry_id), {**(found if isinstance(found, dict) else {}), "reason": reason}
