"""Guarded runs: how a run begins that no queue carries, of a command under `cronq exec`. Owner of the key `guarded`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.decode import text, whole
from cronq.db.keys import Keys
from cronq.db.layout import SCHEMA, check_layout
from cronq.errors import ConfigError, KeyBroken, RedisUnavailable, UnknownGroup
from cronq.jobs.options import DEFAULTS
from cronq.locks.lock import FENCE_LIFE_S
from cronq.locks.renewal import LockTiming
from cronq.runs.run import EXEC, Run

#: Of a guarded run. Wider than that of a job, for it is mostly the base name of a command; without `:` and `/`, for it
#: becomes part of keys, and of the names of locks that are made of it.
_NAME = re.compile(r"[A-Za-z0-9_.@+=,%~-]{1,200}")


def check_guarded_name(name: str) -> str:
    """Return *name*. Raises ConfigError for one that no guarded run may have."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the name {name!r:.80} of a guarded run: use 1 to 200 letters, digits and _.@+=,%~-")
    return name


def lock_names(name: str, *, host: str | None = None, count: int = 1) -> tuple[str, ...]:
    """The locks of which a guarded run of *name* needs one, *count* in all: the first is that of the job *name*.

    With *host* they are locks of that host alone.
    """
    first = name if host is None else f"{name}@{host}"
    return (first, *(f"{first}/{number}" for number in range(2, count + 1)))


@dataclass(frozen=True)
class Guarded:
    """A run that is to begin, and who would look after it."""

    run_id: str
    name: str
    execution: str  #: random, of this run alone
    worker: str
    host: str
    pid: int
    by: str  #: who started it
    locks: tuple[str, ...] = ()  #: it needs one of these
    group: str | None = None  #: it runs on hosts of that group alone; None: on any


@dataclass(frozen=True)
class GuardedStart:
    """A guarded run that is at work from now on."""

    run: Run
    lock: str | None  #: the lock that it holds under its execution
    fence: int | None
    now_s: float  #: server time of its start
    sent_boot_s: float  #: boot clock before that was asked for: its lock lives on from here
    vanished: tuple[str, ...] = ()  #: ids of earlier runs of its name that were not heard of any more, some of them


@dataclass(frozen=True)
class Busy:
    """Why a guarded run could not begin: all its locks are another's."""

    lock: str
    left_s: float | None  #: for so long one of them stays taken at least, unless it is given back; None: without limit
    run_id: str | None = None  #: who has the first of them, as far as that is known
    host: str | None = None
    pid: int | None = None

    def __str__(self) -> str:
        who = self.run_id or "somebody"
        where = f" on {self.host}" if self.host else ""
        return f"the lock {self.lock!r} is held by {who}{where}" + (f" (pid {self.pid})" if self.pid else "")


@dataclass(frozen=True)
class Elsewhere:
    """Why a guarded run did not begin: it is for hosts of a group, and this is none."""

    group: str
    host: str

    def __str__(self) -> str:
        return f"this host, {self.host}, is not in the group {self.group!r}"


class GuardedRuns:
    """Begins guarded runs; their end is told as that of any other (`RunStore.end`)."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        row_ttl_s: float,
        keep_events: int,
        lock_ttl_s: float,
        silent_s: float,
    ) -> None:
        self._client = client
        self._keys = keys
        self._begin: Any = scripts.load(client, "runs/begin")
        self._common = {
            "prefix": keys.prefix,
            "row_ttl": int(row_ttl_s),
            "keep": DEFAULTS["keep"],
            "events": keep_events,
            "knows": SCHEMA,
            "silent": silent_s,
            "lock_ttl_ms": LockTiming(lock_ttl_s).ttl_ms,
            "fence_life": FENCE_LIFE_S,
        }

    def begin(self, guarded: Guarded) -> GuardedStart | Busy | Elsewhere:
        """Begin that run if one of its locks is free: in the ledger it is at work then. One round trip.

        It may be asked again when the answer was lost. Raises RedisError, UnknownGroup, KeyBroken, RedisUnfit, and
        RedisUnavailable if it is over already.
        """
        name, keys = guarded.name, self._keys
        touched = [
            keys.run(guarded.run_id), keys.manual(name), keys.given(name), keys.running, keys.events, keys.guarded,
        ]  # fmt: skip
        document = (
            self._common
            | {
                "name": name,
                "run": guarded.run_id,
                "execution": guarded.execution,
                "worker": guarded.worker,
                "host": guarded.host,
                "pid": guarded.pid,
                "by": guarded.by,
                "locks": list(guarded.locks),
            }
            | ({"group": guarded.group} if guarded.group is not None else {})
        )
        sent_boot_s = boot_s()
        word, *rest = json.loads(text(self._begin(keys=touched, args=[json.dumps(document)])))
        if word == "broken":
            raise KeyBroken(*rest)
        if word == "no_group":
            raise UnknownGroup(f"there is no group {guarded.group!r}; see `cronq group list`")
        if word == "elsewhere":
            return Elsewhere(guarded.group or "", guarded.host)
        if word == "over":
            words = "began while Redis did not answer, and counts as lost by now; nothing was executed"
            raise RedisUnavailable(f"{guarded.run_id}: it {words}")
        if word == "layout":
            check_layout(rest[0])
        if word == "busy":
            left_ms, lock, run_id, host, pid = rest
            left_s = None if left_ms < 0 else left_ms / 1000
            return Busy(lock, left_s, run_id or None, host or None, whole(pid))
        now, lock, token, *vanished = rest
        run = Run(
            guarded.run_id, name, None, "running", trigger=EXEC, host=guarded.host, pid=guarded.pid,
            worker=guarded.worker, queued_at=float(now), started_at=float(now),
        )  # fmt: skip
        ids = tuple(vanished[0]) if vanished else ()
        return GuardedStart(run, lock or None, int(token) if token else None, float(now), sent_boot_s, ids)

    def wait_for_release(self, locks: Sequence[str], most_s: float) -> None:
        """Wait until one of *locks* is given back, for *most_s* at most, which is below the client's time-out.

        Of several that wait one is woken. Whoever was not told asks again: an expiry tells nobody. Raises RedisError.
        """
        self._client.blpop([self._keys.lock_signal(lock) for lock in locks], timeout=most_s)

    def is_known(self, name: str) -> bool:
        """Return True if a guarded run of that name began while rows are kept."""
        return self._client.zscore(self._keys.guarded, name) is not None

    def names(self) -> list[str]:
        """The names of all guarded runs that began while rows are kept, by name."""
        found: Any = self._client.zrange(self._keys.guarded, 0, -1)
        return sorted(text(name) for name in found)
