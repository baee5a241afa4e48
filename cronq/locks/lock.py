"""The lock: an exclusive right to a name, renewed while its holder lives and gone by itself when it dies.

`Lock` keeps python-redis-lock's keys, wake-up and unlock script, so plain users of that library exclude us
and we exclude them. Taking and renewing are scripts of cronq's own, in milliseconds, that recognise their
own id when a command arrives twice. A holder that can no longer prove that it holds the lock is told
*before* another may have it.

That protects as long as the holder asks `check()` or acts on `on_lost`. What must be safe even from a holder
that was frozen between `check()` and its next write has to compare the fencing `token`.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Self

import redis_lock
from redis import Redis
from redis.exceptions import RedisError

from cronq.clock import boot_s
from cronq.db.client import limit, own_client
from cronq.db.faults import broken_key, may_pass
from cronq.db.keys import Keys
from cronq.db.scripts import load
from cronq.errors import ConfigError, CronqError, KeyBroken, LockLost, RedisUnavailable
from cronq.locks.renewal import LockTiming, Renewal
from cronq.timetext import DAY_S

log = logging.getLogger("cronq.lock")

#: Who held a lock last is known for so long after its last use. Tokens grow all the same: they are server time.
FENCE_LIFE_S = 30 * DAY_S

#: No white space, quotes or glob signs: a name becomes part of keys, log lines and metric labels.
_NAME = re.compile(r"[A-Za-z0-9_.:@/+=,%~#-]{1,512}")

MIN_TTL_S = 2.0
MAX_TTL_S = 7.0 * DAY_S

#: What `release` may take for its command and for its threads; the rest is left to the ttl.
_UNLOCK_S = 1.6
_JOIN_S = 0.3

#: redis-server looks only this often whether a blocked client has waited long enough.
_SERVER_TICK_S = 0.1


def check_lock_name(name: str) -> None:
    """Raise ConfigError for a name that no lock may have."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"lock name {name!r:.80}: use 1 to 512 letters, digits and _.:@/+=,%~#-")


class Lock(redis_lock.Lock):
    """An exclusive right to *name* for one holder; threads and processes share the name, not the object.

    *ttl_s* (2 s to 7 days) is how long the lock outlives a holder that died. It is always renewed. *holder*
    may give `host`, `pid` and `run_id`, for `read_locks`. *on_lost* is called once, with the reason, from a
    thread of the lock's own; *on_renewed* with the new deadline after each acquisition and renewal. Both
    must be quick.

    Raises ConfigError for a name or a ttl that is not allowed.
    """

    def __init__(
        self,
        client: Redis,
        name: str,
        *,
        ttl_s: float = 30.0,
        keys: Keys = Keys(),  # noqa: B008 - frozen
        holder: Mapping[str, str | int | None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        on_renewed: Callable[[float], None] | None = None,
    ) -> None:
        check_lock_name(name)
        if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
            raise ConfigError(f"lock {name!r}: ttl {ttl_s!r}; use 2 to {MAX_TTL_S:.0f} seconds")
        self.name = name
        self._timing = LockTiming(ttl_s)
        client = own_client(client, self._timing.socket_s)
        super().__init__(client, keys.lock_name(name))  # type: ignore[no-untyped-call]
        self._keys = keys
        self._fence = keys.fence(name)
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "run_id": None} | dict(holder or {})
        self._holder = ["" if facts[fact] is None else str(facts[fact]) for fact in ("host", "pid", "run_id")]
        self._on_lost = on_lost
        self._on_renewed = on_renewed
        self._take = load(client, "locks/acquire")
        self._extend = load(client, "locks/renew")
        self._acquiring = threading.Lock()
        self._unspent_in: int | None = None  # the process in which `_id` may still be used to acquire
        self._renewal: Renewal | None = None

    @classmethod
    def register_scripts(cls, redis_client: Redis) -> None:
        """Register python-redis-lock's own scripts, on its own class.

        It does so once per process, on the class that comes first: on a subclass they would be missing from
        every plain `redis_lock.Lock` made later.
        """
        redis_lock.Lock.register_scripts(redis_client)  # type: ignore[no-untyped-call]

    @property
    def token(self) -> int:
        """The fencing token of the current or last hold, higher with every acquisition; 0 before the first."""
        return self._renewal.token if self._renewal else 0

    @property
    def deadline_boot_s(self) -> float:
        """Time on `clock.boot_s` from which on another may hold the lock; 0 before the first acquisition."""
        return self._renewal.deadline_s if self._renewal else 0.0

    @property
    def lost(self) -> str | None:
        """Why the lock was lost, in words; None while it is held and after a proper release."""
        return self._renewal.lost if self._renewal else None

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; False if somebody else still holds it, at once or after *timeout* seconds.

        A waiter rides out an outage of Redis of up to one ttl, within its time. Raises RedisUnavailable when
        there was no answer for longer (when not waiting: for two socket time-outs), AlreadyAcquired when this
        object holds the lock already or another thread is acquiring with it.
        """
        if timeout is not None and not (blocking and timeout >= 0):
            raise ConfigError(f"lock {self.name!r}: timeout={timeout!r} with blocking={blocking!r}")
        if not self._acquiring.acquire(blocking=False):
            raise redis_lock.AlreadyAcquired(f"lock {self.name!r}: another thread acquires with this object")
        try:
            if self._renewal is not None and not self._renewal.is_over:
                self._own_renewal().look()
                if not self._renewal.is_over:
                    raise redis_lock.AlreadyAcquired(f"lock {self.name!r} is held by this object already")
            return self._seek(0.0 if not blocking else inf if timeout is None else timeout)
        finally:
            self._acquiring.release()

    def check(self) -> None:
        """Raise LockLost when the lock is not held or can no longer be proved to be; Redis is not asked."""
        renewal = self._own_renewal()
        renewal.look()
        if renewal.lost is not None:
            raise LockLost(f"lock {self.name!r} is lost: {renewal.lost}")

    def extend(self, expire: float | None = None) -> None:
        """Renew now, rather than within the next quarter of the ttl; *expire* can only be the ttl.

        Raises LockLost, or RedisUnavailable when there was no answer: the lock is then still held.
        """
        if expire is not None and expire != self._timing.ttl_s:  # key and deadline must tell the same
            raise ConfigError(f"lock {self.name!r}: extend({expire!r}), but its ttl is {self._timing.ttl_s}")
        self.check()
        try:
            self._own_renewal().renew()
        except RedisError as error:
            raise RedisUnavailable(f"lock {self.name!r} was not renewed: {error}") from error
        self.check()

    def release(self) -> None:
        """Give the lock back and wake one who waits for it, within 2 s; another's lock is never touched.

        Raises LockLost if it was not ours any more, RedisUnavailable if Redis did not answer: the lock then
        ends with its ttl.
        """
        renewal = self._own_renewal()
        renewal.end()
        try:
            if not self._unlock(_UNLOCK_S if renewal.lost is None else self._timing.socket_s):
                renewal.lost = renewal.lost or "it was gone or another's when it was released"
        except RedisUnavailable:
            if renewal.lost is None:
                raise
        finally:
            self._client.connection_pool.disconnect()  # also wakes a renewal that hangs in its socket
            renewal.join(_JOIN_S)
        if renewal.lost is not None:
            raise LockLost(f"lock {self.name!r} is lost: {renewal.lost}")

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, exc_type: object = None, exc_value: BaseException | None = None, traceback: object = None
    ) -> None:
        try:
            self.release()
        except CronqError as trouble:
            if exc_value is None:
                raise
            exc_value.add_note(str(trouble))  # what went wrong inside comes first

    def _own_renewal(self) -> Renewal:
        """The present hold, or one that was lost. Raises LockLost when there is none, or it is another process's."""
        renewal = self._renewal
        if renewal is None or (renewal.is_over and renewal.lost is None):
            state = "never acquired" if renewal is None else "released"
            raise LockLost(f"lock {self.name!r} is not held: it was {state}")
        if renewal.pid != os.getpid():  # a forked child has none of the threads that renew it
            raise LockLost(f"lock {self.name!r} belongs to the parent process (pid {renewal.pid})")
        return renewal

    def _seek(self, waits_s: float) -> bool:
        """Ask until the lock is ours or *waits_s* are over. When interrupted, a lock that was taken is released."""
        if self._unspent_in != os.getpid():  # in a forked child too: parent and child must not be one holder
            self._id = b64encode(os.urandom(18)).decode()
            self._unspent_in = os.getpid()
        try:
            return self._ask_until(boot_s() + waits_s, is_waiting=waits_s > 0)
        except KeyBroken:
            raise  # nothing was written
        except RedisUnavailable:
            raise  # it may be ours all the same: the next acquire asks with the same id and will know it
        except BaseException:
            if self._renewal is not None and not self._renewal.is_over:
                self._renewal.end()
            try:
                self._unlock(self._timing.socket_s)
            except RedisUnavailable as error:
                log.warning("LEFT lock %r to its ttl: %s", self.name, error)
            raise

    def _ask_until(self, end_s: float, *, is_waiting: bool) -> bool:
        timing = self._timing
        heard_s = boot_s()
        self._bound(end_s - heard_s if is_waiting else timing.socket_s)
        while True:
            sent_s = boot_s()
            try:
                answer = self._take([self._name, self._fence], [self._id, timing.ttl_ms, *self._holder, FENCE_LIFE_S])
            except RedisError as error:
                if (broken := broken_key(error)) is not None:
                    raise broken from None
                quit_s = min(end_s, heard_s + timing.ttl_s) if is_waiting else heard_s + 2 * timing.socket_s
                if not may_pass(error) or boot_s() >= quit_s:
                    raise RedisUnavailable(f"lock {self.name!r}: no answer from Redis: {error}") from error
                self._bound(quit_s - boot_s())
                _sleep_until(min(quit_s, sent_s + timing.retry_s))
                continue
            heard_s = boot_s()
            is_ours, number = answer
            if not is_ours:
                if heard_s >= end_s:
                    return False
                self._wait(number / 1000, end_s)
            elif heard_s < sent_s + timing.ttl_s - timing.margin_s:  # else too old to rely on: ask again
                self._begin(number, sent_s)
                return True

    def _wait(self, lease_s: float, end_s: float) -> None:
        """Wait until the lock may be free. A release is signalled, an expiry is not: so never longer than the lease.

        *lease_s* is below 0 when a plain lock has no ttl.
        """
        longest_s = min(self._timing.socket_s - 1.5 * _SERVER_TICK_S, end_s - boot_s() - _SERVER_TICK_S)
        if longest_s < _SERVER_TICK_S / 2:  # the server would answer too late
            _sleep_until(min(end_s, boot_s() + _SERVER_TICK_S / 5))
            return
        if lease_s >= 0:
            longest_s = max(0.01, min(longest_s, lease_s))  # 0 would be for ever
        try:
            self._client.blpop([self._signal], timeout=longest_s)
        except RedisError:  # the next attempt to acquire meets the same trouble, and judges it
            _sleep_until(min(end_s, boot_s() + self._timing.retry_s))

    def _begin(self, token: int, sent_s: float) -> None:
        own_id = self._id  # whatever the object acquires later, this hold is renewed under its own id

        def renew() -> int:
            return int(self._extend([self._name, self._fence], [own_id, self._timing.ttl_ms, FENCE_LIFE_S]))

        self._bound(self._timing.socket_s)
        self._unspent_in = None
        renewal = Renewal(self.name, token, sent_s, self._timing, renew, self._on_lost, self._on_renewed)
        self._renewal = renewal
        renewal.start()

    def _unlock(self, within_s: float) -> bool:
        """Free the key and wake one waiter, with python-redis-lock's script; False if it was not ours.

        Raises RedisUnavailable without an answer.
        """
        self._unspent_in = None  # this command may arrive late: it must not meet a later hold of the same id
        unlock: Any = self.unlock_script
        end_s = boot_s() + within_s
        is_repeated = False
        while True:
            sent_s = boot_s()
            try:
                refused = unlock([self._name, self._signal], [self._id, self._signal_expire], self._client)
                # Not ours at the second try: the first arrived, and its answer was lost.
                return is_repeated or not refused
            except RedisError as error:
                again_s = max(boot_s(), sent_s + self._timing.retry_s)
                if not may_pass(error) or again_s >= end_s:
                    rest = f"it ends by itself within {self._timing.ttl_s:g} s"
                    raise RedisUnavailable(f"lock {self.name!r} not released, {rest}: {error}") from error
                is_repeated = True
                _sleep_until(again_s)
                self._bound(end_s - boot_s())

    def _bound(self, seconds: float) -> None:
        """Let no socket wait longer than *seconds*; 50 ms is the least that makes sense."""
        limit(self._client, min(self._timing.socket_s, max(seconds, 0.05)))


def _sleep_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - boot_s()))
