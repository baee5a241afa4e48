"""`cronq.Worker`, as RQ's command line makes it: with the application of the environment."""

from __future__ import annotations

import logging
from typing import Any

from cronq.app.app import Cronq
from cronq.worker.process_parts import ProcessParts
from cronq.worker.rq_options import check_options, check_serializer
from cronq.worker.worker import GuardedWorker

log = logging.getLogger("cronq.worker")


class Worker(GuardedWorker):
    """A guarded RQ worker: `cronq worker`, or `rq worker --worker-class cronq.Worker`.

    Started by RQ's own command line it takes its settings, the job modules among them, from the environment.
    Exception handlers are called in the child, for RQ jobs. Raises ConfigError for an option that it cannot keep.
    """

    def __init__(
        self,
        queues: Any,
        name: str | None = None,
        *args: Any,
        app: Cronq | None = None,
        shared: ProcessParts | None = None,
        **options: Any,
    ) -> None:
        self._started_by_rq = app is None and options.get("prepare_for_work", True)
        if self._started_by_rq:
            app = Cronq.from_env(client=options.get("connection"))
        if app is not None:  # else it is made by somebody who looks at a worker's record
            check_options(options)
        super().__init__(queues, name, *args, app=app, shared=shared, **options)
        if app is not None:
            check_serializer(self.serializer)

    def work(self, *args: Any, **options: Any) -> bool:
        """Run what is queued until told to stop. Return True if anything was run."""
        if options.get("with_scheduler"):
            log.warning("NEEDLESS with_scheduler: `cronq beat` serves what RQ has scheduled")
        return super().work(*args, **options)

    def meet_redis(self) -> None:
        """Ask Redis for its time and, if RQ's command line started this, check that it is fit, as `cronq worker` has.

        Raises RedisUnfit.
        """
        super().meet_redis()
        if self._started_by_rq:
            for warning in self.app.require_fit_redis():
                log.warning("REDIS %s", warning)
