"""What the workers of a process are told by Redis: RQ's commands, and that something was queued."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from redis import Redis

from cronq.clock import Stop, rest
from cronq.db.decode import text
from cronq.worker.waking import Sleepers

#: Pause before it is listened again when that broke.
_AGAIN_S = 2.0
#: How long the thread is waited for when nobody listens any more.
_LAST_S = 1.0


class Listening:
    """One subscription and one thread for all workers of a process, from the first that joins to the last that parts.

    *wake* is the channel on which cronq's scripts say that something was queued; *sleepers* hear of that.
    """

    def __init__(self, client: Redis, wake: str) -> None:
        self.sleepers = Sleepers()
        self._client = client
        self._wake = wake
        self._lock = threading.Lock()
        self._channels: set[str] = set()
        self._stop = Stop()
        self._pubsub: Any = None
        self._thread: Any = None

    def join(self, channel: str, obey: Callable[[Any], None]) -> None:
        """Call *obey* with each message on *channel*, in the thread that listens. Raises RedisError."""
        with self._lock:
            if self._pubsub is None:
                self._begin(channel, obey)
            else:
                self._pubsub.subscribe(**{channel: obey})
            self._channels.add(channel)

    def part(self, channel: str) -> None:
        """Listen there no more; nothing happens when nobody did. Raises RedisError."""
        with self._lock:
            if channel not in self._channels:
                return
            self._channels.discard(channel)
            if self._channels:
                self._pubsub.unsubscribe(channel)
            else:
                self._end()

    def _begin(self, channel: str, obey: Callable[[Any], None]) -> None:
        pubsub: Any = self._client.pubsub()  # type: ignore[no-untyped-call]
        try:
            pubsub.subscribe(**{channel: obey, self._wake: lambda message: self.sleepers.hear(text(message["data"]))})
        except BaseException:
            pubsub.close()
            raise
        self._stop.clear()
        self._pubsub = pubsub
        self._thread = pubsub.run_in_thread(sleep_time=60, daemon=True, exception_handler=self._go_on)

    def _end(self) -> None:
        pubsub, thread = self._pubsub, self._thread
        self._pubsub = self._thread = None
        self._stop.set()
        thread.stop()
        try:
            pubsub.unsubscribe()  # its answer ends the wait for the next message
            thread.join(timeout=_LAST_S)
        finally:
            pubsub.close()

    def _go_on(self, error: Exception, pubsub: Any, thread: Any) -> None:
        """Keep the thread alive whatever happens: without it every later command would be lost."""
        rest(_AGAIN_S, self._stop)
        if self._stop.is_set():
            thread.stop()
