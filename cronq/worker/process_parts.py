"""What the workers of one process share, made while it has one thread: its modules, its nursery, its output."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis import Redis

from cronq.hosts.deploys import code_mark
from cronq.interop.perform import RQJobWork
from cronq.process.nursery import Nursery
from cronq.process.pipes import Outlet, WholeLines
from cronq.process.watchdog import ChildLimits, Watchdog
from cronq.worker.child import dispatch
from cronq.worker.desk import Desk
from cronq.worker.listening import Listening

if TYPE_CHECKING:
    from rq.job import Job

    from cronq.worker.application import Application


@dataclass(frozen=True)
class ProcessParts:
    """The parts that all workers of one process work with; each method may be called by any thread."""

    work: Callable[..., int]  #: what children do with an order
    nursery: Nursery
    outlet: Outlet
    desk: Desk
    listening: Listening
    prompt: Redis  #: a client that gives up within two seconds
    code: str  #: a hash of the source of the job modules
    are_many: bool  #: several workers share them
    limits: ChildLimits  #: of long-lived children

    def start_watchdog(self) -> Watchdog:
        """A watchdog for one worker."""
        sink = WholeLines(self.outlet) if self.are_many else self.outlet
        watchdog = Watchdog(self.work, sink, self.nursery, limits=self.limits)
        watchdog.start()
        return watchdog

    def close(self) -> None:
        """End what has been started. The watchdogs are their workers' affair."""
        self.nursery.close()


def make_process_parts(
    app: Application,
    client: Redis,
    tell_handlers: Callable[[Job, BaseException], None] = lambda job, error: None,
    *,
    are_many: bool = False,
) -> ProcessParts:
    """Import the job modules, fork the nursery, and make the rest; nothing is sent to Redis.

    *client* is for what children of RQ jobs send, *tell_handlers* is called in them when such a job fails.
    """
    app.load_jobs()
    config = app.config
    code = code_mark(config.jobs, os.getcwd())
    rq_jobs = RQJobWork(client, config.allow, tell_handlers, allow_private=config.webhook_allow_private)
    rq_jobs.load_modules()
    work = dispatch(rq_jobs)
    nursery = Nursery(work)
    nursery.start()
    limits = ChildLimits(config.child_runs, config.child_life, config.child_memory * 1024)
    listening = Listening(client, app.keys.wake)
    return ProcessParts(work, nursery, Outlet(), app.desk, listening, app.prompt_client(), code, are_many, limits)
