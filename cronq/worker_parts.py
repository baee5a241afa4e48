"""What a worker works with. It is made while its process has one thread: user code is imported, the watchdog forked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import Redis

from cronq.capture import Outlet
from cronq.child import dispatch
from cronq.errors import KeyBroken
from cronq.foreign_perform import ForeignWork
from cronq.foreign_run import ForeignRuns
from cronq.foreign_watch import ForeignWatch
from cronq.guardian import Guardian
from cronq.hosts import Heart, Hosts
from cronq.intake import Intake
from cronq.watchdog import Watchdog

if TYPE_CHECKING:
    from cronq.app import Cronq
    from cronq.worker import GuardedWorker


@dataclass(frozen=True)
class Parts:
    """All of it at once, so that there is either a whole worker or none."""

    foreign: ForeignRuns
    intake: Intake
    watchdog: Watchdog
    outlet: Outlet
    prompt: Redis  #: a client that gives up within two seconds
    heart: Heart
    guardian: Guardian


def make_parts(
    worker: GuardedWorker,
    app: Cronq,
    *,
    facts: Callable[[], Mapping[str, Any]],
    on_look: Callable[[], None],
    on_broken: Callable[[KeyBroken], None],
) -> Parts:
    """Import the job modules, fork the watchdog, and make the rest; nothing is sent to Redis."""
    app.load_jobs()
    config = app.config
    work = ForeignWork(
        worker.connection, config.allow, worker.tell_handlers, allow_private=config.webhook_allow_private
    )
    work.load_modules()
    watch = ForeignWatch(worker.connection, app.keys, lost_after_s=config.lost_after)
    foreign = ForeignRuns(worker, worker, watch, app.clock.now_s, config.allow)
    intake = Intake(worker.connection, app.keys, host=config.host, worker=worker.name)
    outlet = Outlet()
    watchdog = Watchdog(dispatch(work), outlet)
    watchdog.start()
    runs = app.guardian_runs()
    heart = Heart(Hosts(runs.client, app.keys), "workers", worker.name, config.host, facts)
    guardian = Guardian(
        runs,
        watchdog,
        app.run_lock,
        app.clock.now_s,  # without asking Redis: a guardian must not hang while it watches
        host=config.host,
        pid=os.getpid(),
        lost_after_s=config.lost_after,
        on_look=on_look,
        on_broken=on_broken,
        no_commands=config.no_commands,
    )
    return Parts(foreign, intake, watchdog, outlet, runs.client, heart, guardian)
