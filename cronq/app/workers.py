"""The workers of one process, each in a thread of its own if there are several, and how they are told to end.

main thread ── waits for signals, and for threads that end
thread 1 ───── worker ── watchdog ── child
thread 2 ───── worker ── watchdog ── child
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from cronq.app.app import Cronq
from cronq.app.rq_worker import Worker
from cronq.clock import Stop, boot_s
from cronq.timetext import format_duration
from cronq.worker.process_parts import ProcessParts, make_process_parts
from cronq.worker.worker import queue_names, worker_name

log = logging.getLogger("cronq.worker")

#: A worker had to leave before Redis knew how a run ended, or did not end as it should.
_DISORDERLY = 1
#: Pauses before a worker is started anew, the first and the longest; the first again once one lived for `_STEADY_S`.
_PAUSE_S = (0.5, 30.0)
_STEADY_S = 60.0


@dataclass
class _Place:
    """One of the places for a worker, and the worker that holds it or held it last."""

    number: int
    worker: Worker | None = None  #: made, but it may not have begun to work
    name: str = ""
    code: int = 0  #: the exit code that a process of this worker alone would have had
    begun: float = 0.0
    is_held: bool = False
    start_at: float | None = 0.0  #: when the next worker is due; None while one works, or when there will be none
    pause_s: float = _PAUSE_S[0]


class Workers:
    """*count* workers on *queues* (default: `default`); with *burst* they end when the queues are empty.

    One works in the main thread. Several work in threads of their own; one that ends though nobody told this process
    to end is started anew, except in a burst.
    """

    def __init__(self, app: Cronq, queues: Sequence[str] = (), *, count: int = 1, burst: bool = False) -> None:
        self.stop = Stop()
        self._app = app
        self._queues = queue_names(queues)
        self._burst = burst
        self._told: set[int] = set()
        self._places = [_Place(number) for number in range(1, count + 1)]
        # A signal handler may put something there at any moment: of all queues only this one stands that.
        self._news: queue.SimpleQueue[_Place | None] = queue.SimpleQueue()

    def request_stop(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: the first one lets the present runs end, the second one ends them."""
        self._leave(number)
        for worker in self._made:
            worker.request_stop(number, frame)

    def finish(self, number: int, frame: FrameType | None) -> None:
        """Take a signal that lets the present runs end, however long they take."""
        self._leave(number)
        for worker in self._made:
            worker.finish()

    @property
    def told(self) -> set[int]:
        """The signals that ended the work."""
        if self._are_many:
            return set(self._told)
        return self._told.union(*(worker.told for worker in self._made))  # it has handlers of its own

    def run(self) -> int:
        """Work until told to stop. Return the exit code: 1 when Redis does not know how some run ended.

        Of several workers the last one in each place counts, and 1 also says that one did not end as it should. The
        handlers for SIGTERM and SIGINT are to be `request_stop`. Call it in the main thread.
        """
        if not self._are_many:
            self._places[0].name = worker_name(self._app.config.host)
            return self._serve(self._places[0], None)
        self._app.client.connection_pool.disconnect()  # the nursery would share what is open
        log.info("START-UP %d workers in one process of %s", len(self._places), self._what)
        self._app.load_jobs()
        gc.collect()
        gc.freeze()  # no collection here or in a child touches, and thereby copies, the pages that all share
        shared = make_process_parts(self._app, self._app.client, are_many=True)
        try:
            while (wait_s := self._start_who_is_due(shared)) is not None:
                try:
                    ended = self._news.get(timeout=wait_s)
                except queue.Empty:
                    continue
                if ended is not None:
                    self._vacate(ended)
        finally:
            shared.close()
        return max(place.code for place in self._places)

    @property
    def _are_many(self) -> bool:
        return len(self._places) > 1

    @property
    def _made(self) -> list[Worker]:
        return [place.worker for place in self._places if place.worker is not None]

    @property
    def _what(self) -> str:
        config = self._app.config
        return f"{', '.join(config.jobs) or 'no module'} on {config.shown_url}: {' '.join(self._queues)}"

    def _leave(self, number: int) -> None:
        """Start no more workers."""
        self._told.add(number)
        if self._are_many and not self.stop.is_set():
            log.info("LEAVING when the present runs of all workers have ended; a second signal ends them")
        self.stop.set()
        self._news.put(None)

    def _start_who_is_due(self, shared: ProcessParts) -> float | None:
        """Seconds to wait for what comes next, None when nothing can come any more."""
        now = boot_s()
        for place in self._places:
            if self.stop.is_set():
                place.start_at = None
            if place.start_at is not None and now >= place.start_at:
                self._start(place, shared, now)
        waits = [place.start_at - now for place in self._places if place.start_at is not None]
        if not waits:
            return _PAUSE_S[1] if any(place.is_held for place in self._places) else None
        return max(0.0, min(waits))

    def _start(self, place: _Place, shared: ProcessParts, now: float) -> None:
        place.name = self._free_name()
        thread = threading.Thread(
            target=self._hold, args=(place, shared), name=f"cronq-worker-{place.number}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # too many threads
            place.start_at = now + place.pause_s
            log.error("UNSTARTED worker %d: %s; trying again", place.number, error)
            return
        place.begun, place.is_held, place.start_at = now, True, None

    def _hold(self, place: _Place, shared: ProcessParts) -> None:
        """Be the thread of a worker: whatever ends it ends this thread alone."""
        place.code = _DISORDERLY
        try:
            place.code = self._serve(place, shared)
        except BaseException as error:
            log.error(
                "FAILED worker %s: %s: %s", place.name, type(error).__name__, error,
                exc_info=log.isEnabledFor(logging.DEBUG),
            )  # fmt: skip
        finally:
            self._news.put(place)

    def _serve(self, place: _Place, shared: ProcessParts | None) -> int:
        place.worker = worker = Worker(
            self._queues, place.name, connection=self._app.client, app=self._app, shared=shared
        )
        log.info("START-UP worker %s of %s", worker.name, self._what)
        if not self.stop.is_set():
            worker.work(burst=self._burst, logging_level="WARNING")
        return 0 if worker.is_orderly else _DISORDERLY

    def _free_name(self) -> str:
        """A name that no worker of this process has."""
        taken = {place.name for place in self._places}
        while (name := worker_name(self._app.config.host)) in taken:
            pass
        return name

    def _vacate(self, place: _Place) -> None:
        """Note that the worker of a place has ended, and when the next one is due."""
        now = boot_s()
        age_s = now - place.begun
        place.is_held = False
        said = f"worker {place.name} with code {place.code} after {format_duration(round(age_s, 1))}"
        if self.stop.is_set() or self._burst:
            log.log(logging.WARNING if place.code else logging.INFO, "ENDED %s", said)
            return
        if age_s >= _STEADY_S:
            place.pause_s = _PAUSE_S[0]
        log.warning("RESTART %s; a new one starts in %s", said, format_duration(place.pause_s))
        place.start_at = now + place.pause_s
        place.pause_s = min(place.pause_s * 2, _PAUSE_S[1])
