"""What a worker works with, made while its process has one thread: job modules are imported, the watchdog is forked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from redis import Redis

from cronq.errors import KeyBroken
from cronq.hosts.deploys import code_mark
from cronq.hosts.heartbeats import Heart, Heartbeats
from cronq.interop.in_progress import InProgress
from cronq.interop.perform import RQJobWork
from cronq.process.pipes import Outlet
from cronq.process.watchdog import Watchdog
from cronq.runs.timing import Timing
from cronq.worker.child import dispatch
from cronq.worker.dequeue import Dequeue
from cronq.worker.guardian import Guardian
from cronq.worker.run_rq_job import RQJobRuns, RQRecords, ServingWorker
from cronq.worker.taken import TakenIds

if TYPE_CHECKING:
    from cronq.clock import ServerClock
    from cronq.config import Config
    from cronq.db.keys import Keys
    from cronq.interop.requeued import Requeued
    from cronq.jobs.quarantine import Quarantine
    from cronq.jobs.store import JobStore
    from cronq.locks.lock import Lock
    from cronq.runs.store import RunStore


class Application(Protocol):
    """What a worker asks of the application that made it, `Cronq`."""

    keys: Keys
    clock: ServerClock

    @property
    def config(self) -> Config:
        """The settings of this process."""
        ...

    @property
    def jobs(self) -> JobStore:
        """The jobs in Redis."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """What moves damaged keys aside."""
        ...

    @property
    def runs(self) -> RunStore:
        """The ledger in Redis."""
        ...

    @property
    def requeued(self) -> Requeued:
        """What RQ's tools requeued."""
        ...

    def now_s(self) -> float:
        """Server time, epoch seconds; it may ask Redis."""
        ...

    def require_fit_redis(self) -> list[str]:
        """Warnings about this Redis. Raises RedisUnfit."""
        ...

    def load_jobs(self) -> object:
        """Import the job modules."""
        ...

    def prompt_client(self) -> Redis:
        """Connections of their own that fail soon."""
        ...

    def runs_through(self, client: Redis) -> RunStore:
        """The ledger through the connections of *client*."""
        ...

    def run_lock(
        self,
        name: str,
        holder: dict[str, Any],
        on_lost: Callable[[str], None],
        on_renewed: Callable[[float], None],
    ) -> Lock:
        """The lock *name* for a run."""
        ...


@dataclass(frozen=True)
class Parts:
    """The parts of one worker; they exist all or none."""

    dequeue: Dequeue
    taken_ids: TakenIds
    watchdog: Watchdog
    outlet: Outlet
    prompt: Redis  #: a client that gives up within two seconds
    heart: Heart
    guardian: Guardian
    code: str  #: a hash of the source of the job modules


def make_parts(
    serving: ServingWorker,
    records: RQRecords,
    app: Application,
    *,
    tell_handlers: Callable[..., None],
    facts: Callable[[], Mapping[str, Any]],
    on_look: Callable[[], None],
    on_broken: Callable[[KeyBroken], None],
) -> Parts:
    """Import the job modules, fork the watchdog, and make the rest; nothing is sent to Redis.

    *serving* and *records* are the same worker: as the run of an RQ job sees it, and RQ's own half of it.
    """
    app.load_jobs()
    config = app.config
    code = code_mark(config.jobs, os.getcwd())
    work = RQJobWork(records.connection, config.allow, tell_handlers, allow_private=config.webhook_allow_private)
    work.load_modules()
    watch = InProgress(records.connection, app.keys, lost_after_s=config.lost_after)
    rq_jobs = RQJobRuns(serving, records, watch, app.clock.now_s, config.allow)
    dequeue = Dequeue(records.connection, app.keys, host=config.host, worker=records.name)
    taken_ids = TakenIds(
        records.connection, app.runs, app.jobs, app.requeued, dequeue, rq_jobs,
        by=f"worker {records.name}", now_s=app.now_s,
    )  # fmt: skip
    outlet = Outlet()
    watchdog = Watchdog(dispatch(work), outlet)
    watchdog.start()
    prompt = app.prompt_client()
    heart = Heart(Heartbeats(prompt, app.keys), "workers", records.name, config.host, facts)
    guardian = Guardian(
        app.runs_through(prompt),
        watchdog,
        app.run_lock,
        app.clock.now_s,  # without asking Redis: a guardian must not hang while it watches
        host=config.host,
        pid=os.getpid(),
        timing=Timing(config.lost_after),
        on_look=on_look,
        on_broken=on_broken,
        no_commands=config.no_commands,
    )
    return Parts(dequeue, taken_ids, watchdog, outlet, prompt, heart, guardian, code)
