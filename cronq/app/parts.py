"""The parts of one installation, each built from its Config when it is first asked for."""

from __future__ import annotations

import logging
import os
import threading
from functools import cached_property

from redis import Redis
from redis.exceptions import RedisError

from cronq.clock import ServerClock, boot_s
from cronq.config import Config, person
from cronq.db.client import bytes_client, open_client, own_client
from cronq.db.decode import time_s
from cronq.db.keys import Keys
from cronq.definitions.changes import Changes
from cronq.definitions.crontab_import import CrontabJobs
from cronq.definitions.sync import Definitions
from cronq.errors import CronqError, DefinitionError
from cronq.hosts.deploys import Deploys
from cronq.hosts.drain import Hold, Holds
from cronq.hosts.heartbeats import Heartbeats
from cronq.hosts.outages import Outages
from cronq.interop.requeued import Requeued
from cronq.interop.rq_scheduler import ScheduledStores
from cronq.interop.sealed import release_dependents
from cronq.jobs.calendars import CalendarStore
from cronq.jobs.catchup_line import CatchupLine
from cronq.jobs.quarantine import Quarantine
from cronq.jobs.registry import REGISTRY, Registry
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob
from cronq.locks.lock import Lock
from cronq.locks.renewal import LockTiming
from cronq.monitor.growth import Growth
from cronq.runs.amendment import Amendments
from cronq.runs.backfill import PastRuns
from cronq.runs.bulk_give import BulkGive
from cronq.runs.bulk_stop import BulkStop
from cronq.runs.claim import Claimer
from cronq.runs.delayed import Delayed
from cronq.runs.exchange import Exchange
from cronq.runs.guarded import GuardedRuns
from cronq.runs.retrying import Retrying
from cronq.runs.store import RunStore
from cronq.runs.timing import RQ_LEASE_S, Timing
from cronq.worker.desk import Desk

log = logging.getLogger("cronq.beat")

#: How often the server's clock is read again; in between the boot clock carries it on.
_READ_CLOCK_S = 10.0
_GUARDIAN_TIMEOUT_S = 2.0


class Parts:
    """What the verbs of an application work with. Nothing is sent to Redis before it is needed."""

    def __init__(
        self,
        url: str | None = None,
        *,
        config: Config | None = None,
        registry: Registry = REGISTRY,
        client: Redis | None = None,
    ) -> None:
        self.config = config if config is not None else Config.load(url=url)
        self.registry = registry
        self._given_client = client
        self.keys = Keys(self.config.prefix)
        self.clock = ServerClock()
        self._clock_read_boot: float | None = None
        self._clock_lock = threading.Lock()

    @cached_property
    def client(self) -> Redis:
        """The connection pool of this application; for a given client that answers in `str` a second one in bytes."""
        return open_client(self.config.url) if self._given_client is None else bytes_client(self._given_client)

    @cached_property
    def jobs(self) -> JobStore:
        """The jobs in Redis."""
        return JobStore(self.client, self.keys, self.config.keep_events, max_args=self.config.max_args)

    def read_jobs(self) -> tuple[list[StoredJob], list[CronqError]]:
        """All stored jobs that can be read, by name; and what is wrong with the others, each naming its job."""
        found = self.jobs.find(self.jobs.names())
        problems = [
            error if name in str(error) else DefinitionError(str(error), job=name)
            for name, error in found.items()
            if isinstance(error, CronqError)
        ]
        return [job for job in found.values() if isinstance(job, StoredJob)], problems

    @cached_property
    def calendars(self) -> CalendarStore:
        """The calendars in Redis."""
        return CalendarStore(self.client, self.keys)

    @cached_property
    def catchup_line(self) -> CatchupLine:
        """The late runs that are held by the catch-up rate."""
        return CatchupLine(self.client, self.keys)

    @cached_property
    def quarantine(self) -> Quarantine:
        """What moves damaged keys of jobs aside."""
        return Quarantine(self.client, self.keys)

    @cached_property
    def runs(self) -> RunStore:
        """The ledger in Redis."""
        return self.runs_through(self.client)

    @cached_property
    def requeued(self) -> Requeued:
        """What RQ's tools requeued."""
        return Requeued(self.client, self.keys, self.config.keep_events)

    def prompt_client(self) -> Redis:
        """Connections of their own that fail within two seconds: a guardian has to go on watching."""
        return own_client(self.client, _GUARDIAN_TIMEOUT_S)

    def runs_through(self, client: Redis) -> RunStore:
        """The ledger through the connections of *client*."""
        return RunStore(
            client,
            self.keys,
            row_ttl_s=self.config.keep_rows_for,
            keep_events=self.config.keep_events,
            release_dependents=lambda queue, run_id: release_dependents(self.client, queue, run_id),
        )

    @cached_property
    def heartbeats(self) -> Heartbeats:
        """Heartbeats of beats and workers."""
        return Heartbeats(self.client, self.keys)

    @cached_property
    def outage_notes(self) -> Outages:
        """When beats made passes, and when none did."""
        return Outages(self.client, self.keys)

    @cached_property
    def deploys(self) -> Deploys:
        """Since when workers of each host run what code."""
        return Deploys(self.client, self.keys)

    @cached_property
    def holds(self) -> Holds:
        """Paused queues, drained hosts and workers."""
        return Holds(self.client, self.keys)

    @cached_property
    def bulk_stop(self) -> BulkStop:
        """What stops all runs of a job that have not begun."""
        return BulkStop(self.client, self.keys, self.runs)

    @cached_property
    def retrying(self) -> Retrying:
        """What queues runs whose next attempt is due."""
        return Retrying(self.client, self.keys, self.runs)

    @cached_property
    def guarded(self) -> GuardedRuns:
        """Runs of commands under `cronq exec`."""
        return GuardedRuns(
            self.client,
            self.keys,
            row_ttl_s=self.config.keep_rows_for,
            keep_events=self.config.keep_events,
            lock_ttl_s=self.config.lock_ttl,
            silent_s=Timing(self.config.lost_after).vanished_s,
        )

    @cached_property
    def amendments(self) -> Amendments:
        """What a person says of ticks that have ended."""
        return Amendments(self.client, self.keys, self.runs)

    @cached_property
    def growth(self) -> Growth:
        """What Redis uses, and how that grows."""
        return Growth(self.client, self.keys)

    def claimer(self, by: str) -> Claimer:
        """Claims in the name of *by*."""
        return Claimer(
            self.client,
            self.keys,
            by=by,
            row_ttl_s=self.config.keep_rows_for,
            keep_events=self.config.keep_events,
            max_args=self.config.max_args,
        )

    def past_runs(self, by: str) -> PastRuns:
        """What queues runs of past ticks, in the name of *by*."""
        return PastRuns(self.client, self.keys, self.runs, by=by)

    def bulk_give(self, by: str) -> BulkGive:
        """What queues many runs of a job, in the name of *by*."""
        config = self.config
        return BulkGive(self.client, self.keys, by=by, keep_events=config.keep_events, max_args=config.max_args)

    def changes(self, by: str | None = None) -> Changes:
        """Changes of jobs, in the name of *by* (default: the person at the keyboard)."""
        claimer = self.claimer(by or self.who)
        return Changes(self.jobs, claimer, self.bulk_stop, self.calendars, self.exact_now_s, self.config.keep_rows_for)

    def definitions(self, by: str | None = None) -> Definitions:
        """What this process's code defines, in the name of *by*."""
        return Definitions(self.registry, self.jobs, self.changes(by), self.config.tz)

    @property
    def crontabs(self) -> CrontabJobs:
        """Jobs that came from crontabs."""
        return CrontabJobs(self.jobs, self.changes())

    @cached_property
    def who(self) -> str:
        """Who uses this application: `ann@host`."""
        return person(self.config.host)

    def now_s(self) -> float:
        """Server time, epoch seconds; read from Redis now and then, carried on by the boot clock in between."""
        with self._clock_lock:
            if self._clock_read_boot is None or boot_s() - self._clock_read_boot > _READ_CLOCK_S:
                try:
                    self._read_clock()
                except (RedisError, OSError):
                    if self.clock.offset_s is None:
                        raise
            return self.clock.now_s()

    def exact_now_s(self) -> float:
        """Server time, asked for this moment: an earlier reading may lag by as long as its reply took to arrive."""
        with self._clock_lock:
            self._read_clock()
            return self.clock.now_s()

    def _read_clock(self) -> None:
        note = self.clock.observe(time_s(self.client.time()))
        if note:
            log.warning("CLOCK %s", note)
        self._clock_read_boot = boot_s()

    def lock(self, name: str, ttl: float | None = None) -> Lock:
        """The lock *name*, as a context manager; jobs with this lock and `exec --name` share it."""
        return Lock(
            self.client,
            name,
            ttl_s=self.config.lock_ttl if ttl is None else ttl,
            keys=self.keys,
            holder={"host": self.config.host, "pid": os.getpid(), "run_id": None},
        )

    @cached_property
    def desk(self) -> Desk:
        """Where all workers of this process tell how their runs ended and get the next."""
        renew_within_s = LockTiming(self.config.lock_ttl).socket_s
        exchange, renewals = self._exchange(_GUARDIAN_TIMEOUT_S), self._exchange(renew_within_s)
        return Desk(exchange, renewals, self.clock.now_s)  # without asking Redis: nobody may hang while a run goes on

    def _exchange(self, timeout_s: float) -> Exchange:
        """The script calls of workers, over connections of their own that answer in bytes: ids may be anything."""
        client = bytes_client(own_client(self.client, timeout_s))
        return Exchange(
            client,
            self.keys,
            self.runs_through(client),
            host=self.config.host,
            pid=os.getpid(),
            no_commands=self.config.no_commands,
            lock_ttl_s=self.config.lock_ttl,
            lease_s=RQ_LEASE_S,
            read_hold=lambda raw: str(Hold.from_json(raw)),
        )

    def delayed(self, by: str | None = None) -> Delayed:
        """Delayed runs, in the name of *by* (default: the person at the keyboard)."""
        config = self.config
        return Delayed(
            self.client, self.keys, by=by or self.who, keep_events=config.keep_events, max_args=config.max_args
        )

    def scheduled_stores(self, by: str) -> ScheduledStores:
        """What serves rq-scheduler's store and RQ's registries, in the name of *by*."""
        return ScheduledStores(self.delayed(by), self.runs, self.quarantine, tz=self.config.foreign_tz)
