"""The application that a worker belongs to, as the worker sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from redis import Redis

if TYPE_CHECKING:
    from cronq.clock import ServerClock
    from cronq.config import Config
    from cronq.db.keys import Keys
    from cronq.interop.requeued import Requeued
    from cronq.jobs.quarantine import Quarantine
    from cronq.jobs.store import JobStore
    from cronq.runs.store import RunStore
    from cronq.worker.desk import Desk


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

    @property
    def desk(self) -> Desk:
        """Where all workers of this process tell how their runs ended and get the next."""
        ...
