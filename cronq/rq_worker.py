"""`cronq.Worker`, as RQ's command line makes it: with the application of the environment."""

from __future__ import annotations

from typing import Any

from cronq.app import Cronq
from cronq.worker import GuardedWorker


class Worker(GuardedWorker):
    """A guarded RQ worker: `cronq worker`, or `rq worker --worker-class cronq.Worker`.

    Started by RQ's own command line it takes its settings, the job modules among them, from the environment.
    """

    def __init__(
        self, queues: Any, name: str | None = None, *args: Any, app: Cronq | None = None, **options: Any
    ) -> None:
        if app is None and options.get("prepare_for_work", True):
            app = Cronq.from_env(client=options.get("connection"))
        super().__init__(queues, name, *args, app=app, **options)
