"""What a beat reads of RQ jobs that are not cronq's: their entries in stores of scheduled jobs, and their meta.

An RQ job is not cronq's when its id is that of no run: a program queued it with RQ's `enqueue`, or gave it to
rq-scheduler. Whoever may write to Redis may make one, and a pickle in it may run code when it is opened. So a meta is
read by a reader that knows only data, and the call stays closed: see `sealed`.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cronq.db.decode import read_json, text
from cronq.errors import CronqError
from cronq.interop.pickles import MOST_META, load_data
from cronq.interop.repeats import Repetition, read_repetition
from cronq.safetext import storable

#: RQ allows no other characters in the id of a job.
_ID = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_MOST_SHOWN = 60
_LONGEST_S = 10**10


@dataclass(frozen=True)
class StoreEntry:
    """One entry of a store of scheduled jobs, as it was read: rq-scheduler's, or RQ's registry of one queue."""

    id: bytes
    score: str
    queue_of_registry: str = ""  #: "" in rq-scheduler's store
    state: str = ""  #: of the run, when it is one of ours
    is_there: bool = True  #: its RQ job
    trouble: str = ""
    meta: bytes = b""
    queue: str = ""
    status: str = ""
    is_stale: bool = False  #: it was queued or started long ago
    ttl_s: int | None = None
    at_front: bool = False
    needs: Sequence[str] = ()  #: RQ jobs that must have finished first

    @property
    def shown_id(self) -> str:
        """The id as text, of junk only its beginning."""
        words = text(self.id)
        return words if len(words) <= 2 * _MOST_SHOWN else words[:_MOST_SHOWN] + "…"

    @property
    def is_odd(self) -> bool:
        """Return True if this can never have been the id of an RQ job."""
        return not self.id or not _ID.issuperset(self.id) or len(self.id) > 1000

    @classmethod
    def from_reply(cls, reply: Sequence[Any], stale_before_s: float) -> StoreEntry:
        """One entry of `lua/interop/read_due.lua`'s answer; what cannot be read becomes its `trouble`."""
        entry_id = reply[1] if isinstance(reply[1], bytes) else str(reply[1]).encode()
        store, score, state, there = text(reply[0]), text(reply[2]), text(reply[3]), text(reply[4])
        found = cls(entry_id, score, store, state, there == "yes")
        if there not in ("yes", ""):
            return replace(found, trouble=f"its RQ job is {there}")
        meta, (origin, status, queued, started, ended, ttl, front, front_again, needs) = (
            reply[5],
            map(text, reply[6:15]),
        )
        try:
            return replace(
                found,
                meta=meta if isinstance(meta, bytes) else str(meta).encode(),
                queue=store or origin,
                status=status,
                is_stale=_is_before(started if status == "started" else queued, stale_before_s),
                ttl_s=_life(ttl),
                at_front=front == "1" or (bool(store) and front_again == "1" and bool(ended)),
                needs=_ids(needs),
            )
        except Exception as error:  # whatever somebody wrote there: it hides no other entry
            return replace(found, trouble=storable(f"its RQ job cannot be read ({error})", 200))


def _life(words: str) -> int | None:
    """A life in seconds, None for no end. Raises ValueError for one that Redis would refuse."""
    life = int(words or 0)
    if life > _LONGEST_S:
        raise ValueError(f"ttl {words[:40]}")
    return life if life > 0 else None


def _ids(words: str) -> tuple[str, ...]:
    """The ids of other RQ jobs. Raises ValueError, BadValue."""
    found = read_json(words) if words else []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"dependency_ids {words[:40]}")
    return tuple(found)


def _is_before(stamp: str, moment_s: float) -> bool:
    """Return True if RQ's time *stamp* lies before *moment_s*, or cannot be read."""
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return True
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() < moment_s


@dataclass(frozen=True)
class Meta:
    """The meta of an RQ job, and in it how often rq-scheduler is to repeat the job."""

    values: Mapping[str, Any]
    repetition: Repetition
    is_json: bool


def read_meta(raw: bytes) -> Meta:
    """Read a meta, executing nothing. Raises CronqError when it names more than data, or means nothing."""
    if not raw:
        return Meta({}, Repetition(), False)
    if len(raw) > MOST_META:
        raise CronqError(f"its meta is larger than {MOST_META:,} bytes")
    is_json = raw[:1] == b"{"
    try:
        values = read_json(raw) if is_json else load_data(raw)
    except CronqError as error:
        raise CronqError(f"its meta: {error}") from None
    if not isinstance(values, dict):
        raise CronqError("its meta is not a mapping")
    return Meta(values, read_repetition(values), is_json)


def dump_meta(meta: Meta, *, left: int) -> bytes:
    """The meta with *left* runs to go, in the form it was read."""
    values = {**meta.values, "repeat": left}
    return json.dumps(values).encode() if meta.is_json else pickle.dumps(values, protocol=pickle.HIGHEST_PROTOCOL)
