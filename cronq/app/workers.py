"""The workers of one process: one by itself, or a pool of them, and how they are told to end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import FrameType

from cronq.app.app import Cronq
from cronq.app.rq_worker import Worker
from cronq.process.pool import Pool
from cronq.worker.worker import queue_names

log = logging.getLogger("cronq.worker")

#: A worker had to leave before Redis knew how a run ended.
_UNWRITTEN = 1


class Workers:
    """*count* workers on *queues* (default: `default`); with *burst* they end when the queues are empty."""

    def __init__(self, app: Cronq, queues: Sequence[str] = (), *, count: int = 1, burst: bool = False) -> None:
        self.stop = threading.Event()
        self._app = app
        self._queues = queue_names(queues)
        self._count = count
        self._burst = burst
        self._told: set[int] = set()
        self._working: Worker | None = None  #: made, but its own signal handlers may not be there yet

    def request_stop(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: the first one lets the present run end, the second one ends it."""
        self._told.add(number)
        self.stop.set()
        if self._working is not None:
            self._working.request_stop(number, frame)

    def finish(self, number: int, frame: FrameType | None) -> None:
        """Take a signal that lets the present run end, however long it takes."""
        self._told.add(number)
        self.stop.set()
        if self._working is not None:
            self._working.finish()

    @property
    def told(self) -> set[int]:
        """The signals that ended the work."""
        return self._told | (self._working.told if self._working is not None else set())

    def run(self) -> int:
        """Work until told to stop. Return the exit code: 1 when Redis does not know how some run ended.

        The handlers for SIGTERM and SIGINT are to be `request_stop`. Call it in the main thread.
        """
        if self._count == 1:
            return self._serve()
        self._app.client.connection_pool.disconnect()  # a fork would share what is open
        log.info("START-UP pool of %d workers of %s", self._count, self._what)
        pool = Pool(self._count, self._serve, restarts=not self._burst)
        code = pool.run(self.stop)
        self._told |= pool.told
        return code

    @property
    def _what(self) -> str:
        config = self._app.config
        return f"{', '.join(config.jobs) or 'no module'} on {config.shown_url}: {' '.join(self._queues)}"

    def _serve(self) -> int:
        worker = self._working = Worker(self._queues, connection=self._app.client, app=self._app)
        log.info("START-UP worker %s of %s", worker.name, self._what)
        if not self.stop.is_set():
            worker.work(burst=self._burst, logging_level="WARNING")
        return 0 if worker.is_orderly else _UNWRITTEN
