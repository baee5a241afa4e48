"""What one worker works with; what it shares with others of its process is in `cronq.worker.process_parts`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cronq.clock import Stop
from cronq.errors import KeyBroken
from cronq.hosts.heartbeats import Heart, Heartbeats
from cronq.interop.in_progress import InProgress
from cronq.process.watchdog import Watchdog
from cronq.runs.timing import Timing
from cronq.worker.application import Application
from cronq.worker.dequeue import Dequeue
from cronq.worker.guardian import Guardian
from cronq.worker.process_parts import ProcessParts
from cronq.worker.run_rq_job import RQJobRuns, RQRecords, ServingWorker
from cronq.worker.settle import Settler
from cronq.worker.taken import TakenIds


@dataclass(frozen=True)
class Parts:
    """The parts of one worker; they exist all or none."""

    dequeue: Dequeue
    taken_ids: TakenIds
    watchdog: Watchdog
    heart: Heart
    settler: Settler
    guardian: Guardian
    shared: ProcessParts


def make_parts(
    serving: ServingWorker,
    records: RQRecords,
    app: Application,
    shared: ProcessParts,
    *,
    facts: Callable[[], Mapping[str, Any]],
    on_look: Callable[[], None],
    on_broken: Callable[[KeyBroken], None],
    is_leaving: Callable[[], bool],
    goes_ahead: bool,
) -> Parts:
    """Have a watchdog forked, and make the rest; nothing is sent to Redis.

    *serving* and *records* are the same worker: as the run of an RQ job sees it, and RQ's own half of it.
    """
    config = app.config
    runs = app.runs_through(shared.prompt)
    settler = Settler(runs, app.clock.now_s, Stop())
    dequeue = Dequeue(records.connection, shared.desk, settler, records.name, is_leaving, goes_ahead=goes_ahead)
    dequeue.waking.join(shared.listening.sleepers)
    taken_ids = _taken_ids(serving, records, app, dequeue)
    watchdog = shared.start_watchdog()
    heart = Heart(Heartbeats(shared.prompt, app.keys), "workers", records.name, config.host, facts)
    guardian = Guardian(
        runs,
        watchdog,
        shared.desk,
        settler,
        app.clock.now_s,  # without asking Redis: a guardian must not hang while it watches
        host=config.host,
        pid=os.getpid(),
        timing=Timing(config.lost_after),
        lock_ttl_s=config.lock_ttl,
        ahead=dequeue,
        on_look=on_look,
        on_broken=on_broken,
        no_commands=config.no_commands,
        isolation=config.isolation,
    )
    return Parts(dequeue, taken_ids, watchdog, heart, settler, guardian, shared)


def _taken_ids(serving: ServingWorker, records: RQRecords, app: Application, dequeue: Dequeue) -> TakenIds:
    client, config = records.connection, app.config
    watch = InProgress(client, app.keys, lost_after_s=config.lost_after)
    shares_a_child = config.isolation == "clean"
    rq_jobs = RQJobRuns(serving, records, watch, app.clock.now_s, config.allow, shares_a_child=shares_a_child)
    by = f"worker {records.name}"
    return TakenIds(client, app.runs, app.jobs, app.requeued, dequeue, rq_jobs, by=by, now_s=app.now_s)
