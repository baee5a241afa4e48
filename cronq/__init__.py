"""cronq: distributed cron and a task queue on Redis and RQ.

    from cronq import Cronq, current_run
    from cronq import job

Importing this package costs no Redis and no RQ: those come with the first thing that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cronq.current_run import CurrentRun, current_run
from cronq.errors import CronqError
from cronq.jobs.decorator import job
from cronq.jobs.registry import REGISTRY

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.rq_worker import Worker
    from cronq.app.stock_worker import perform
    from cronq.locks.lock import Lock

__all__ = ["Cronq", "CronqError", "CurrentRun", "Lock", "Worker", "current_run", "job", "perform"]
__version__ = "0.1.0"

#: Where the names that need Redis or RQ live; imported when first asked for.
_LAZY = {
    "Cronq": "cronq.app.app",
    "Lock": "cronq.locks.lock",
    "Worker": "cronq.app.rq_worker",
    "perform": "cronq.app.stock_worker",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'cronq' has no attribute {name!r}")


def _default_enqueuer() -> Any:
    """The application of the environment, for `.enqueue()` of a decorated function."""
    return importlib.import_module("cronq.app.app").default_app()


REGISTRY.enqueuer = _default_enqueuer
