"""What RQ's worker takes and this one does not: refused by name, or named in the log when nothing needs it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rq import Queue
from rq.defaults import DEFAULT_JOB_MONITORING_INTERVAL, DEFAULT_MAINTENANCE_TASK_INTERVAL
from rq.job import Job
from rq.serializers import DefaultSerializer, PickleSerializer

from cronq.errors import ConfigError

log = logging.getLogger("cronq.worker")

#: What a job or queue class of the user's may not change: this worker takes, runs and records jobs itself.
_OURS = {
    "job_class": (Job, ("perform", "_execute", "key_for", "redis_job_namespace_prefix")),
    "queue_class": (Queue, ("dequeue_any", "lpop", "redis_queue_namespace_prefix", "redis_queues_keys")),
}
#: Options for work that is done elsewhere, or otherwise; what they would say is said once, and changes nothing.
_NEEDLESS = {
    "maintenance_interval": (DEFAULT_MAINTENANCE_TASK_INTERVAL, "the beats tidy up"),
    "job_monitoring_interval": (DEFAULT_JOB_MONITORING_INTERVAL, "a guardian looks every second"),
}


def check_serializer(serializer: Any) -> None:
    """Raises ConfigError for one that is not RQ's own pickle."""
    if serializer not in (DefaultSerializer, PickleSerializer):
        raise ConfigError(
            f"serializer {getattr(serializer, '__name__', serializer)}: cronq.Worker reads RQ's own pickles only; "
            "leave it out, and let a stock `rq worker` serve the queues whose jobs are written otherwise"
        )


def check_options(options: Mapping[str, Any]) -> None:
    """Look at what RQ's worker is made with. Raises ConfigError for what would silently be left undone."""
    if options.get("work_horse_killed_handler") is not None:
        raise ConfigError(
            "work_horse_killed_handler: cronq.Worker has no work horse, and would call nobody; "
            "how a run ended is in its ledger (`cronq history`), and in RQ's record of the job"
        )
    for option, (base, names) in _OURS.items():
        given = options.get(option)
        if isinstance(given, type):
            changed = [name for name in names if _function(given, name) != _function(base, name)]
            if changed:
                named = f"{option} {given.__module__}.{given.__qualname__}"
                raise ConfigError(
                    f"{named} changes {', '.join(changed)}, which cronq.Worker does itself; "
                    f"use {base.__name__}, or let a stock `rq worker` serve its queues"
                )
    for option, (usual, why) in _NEEDLESS.items():
        if options.get(option, usual) != usual:
            log.warning("NEEDLESS %s: %s", option, why)


def _function(owner: type, name: str) -> Any:
    """A method or value of a class; class methods are bound anew each time they are asked for."""
    found = getattr(owner, name, None)
    return getattr(found, "__func__", found)
