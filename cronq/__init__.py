"""cronq: distributed cron and a task queue on Redis and RQ.

    from cronq import Cronq, current_run
    from cronq import job

Importing this package imports nothing else of it: each name below comes with the first look at it. So a process can
say what is to happen when it is told to end before it imports for a while, and `job` costs no Redis and no RQ.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what `typing` says as well, which takes time to import
if TYPE_CHECKING:
    from typing import Any

    from cronq.app.app import Cronq
    from cronq.app.rq_worker import Worker
    from cronq.app.stock_worker import perform
    from cronq.errors import CronqError
    from cronq.jobs.decorator import job
    from cronq.locks.lock import Lock
    from cronq.process.once import once_per_child
    from cronq.run_context import CurrentRun, Snooze, current_run, snooze

__all__ = [
    "Cronq", "CronqError", "CurrentRun", "Lock", "Snooze", "Worker", "current_run", "job", "once_per_child",
    "perform", "snooze",
]  # fmt: skip
__version__ = "0.1.0"

#: The module of each name. None may be called like a name: importing it would put the module in the name's place.
_HOMES = {
    "Cronq": "cronq.app.app",
    "CronqError": "cronq.errors",
    "CurrentRun": "cronq.run_context",
    "Lock": "cronq.locks.lock",
    "Snooze": "cronq.run_context",
    "Worker": "cronq.app.rq_worker",
    "current_run": "cronq.run_context",
    "job": "cronq.jobs.decorator",
    "once_per_child": "cronq.process.once",
    "perform": "cronq.app.stock_worker",
    "snooze": "cronq.run_context",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cronq' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_HOMES[name]), name)
    if name == "job":
        _let_jobs_be_queued()
    globals()[name] = found
    return found


def _let_jobs_be_queued() -> None:
    """Give decorated functions the application that their `.enqueue` asks. It brings Redis, so not before that call."""
    from cronq.jobs.registry import REGISTRY

    def application() -> Any:
        from cronq.app.app import default_app

        return default_app()

    REGISTRY.enqueuer = application


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
