"""The composition root: builds everything from one Config. Every verb of the command line is a method here."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from cronq.beat import Beat
from cronq.bulk_stop import BulkStop
from cronq.changes import Changes
from cronq.checks import Finding, check_beat, check_clock, check_redis, check_workers, require_fit
from cronq.chores import Chore
from cronq.claim import Claimer
from cronq.clock import ServerClock, boot_s
from cronq.command import has_user, user_name
from cronq.compare import Comparison
from cronq.config import Config, person
from cronq.connection import bytes_client, open_client, own_client
from cronq.crontab import parse_crontab, seems_to_have_users, write_crontab
from cronq.crontab_jobs import CrontabJobs, CrontabReport, Source, zone_for
from cronq.definitions import Definitions, SyncReport
from cronq.errors import CronqError, DefinitionError
from cronq.foreign_job import release_dependents
from cronq.growth import NOTE_EVERY_S, Growth
from cronq.history import newest_of_all, newest_rows
from cronq.holds import Hold, Holds, busy_with
from cronq.hosts import HEARTBEAT_S, Heart, Heartbeat, Hosts
from cronq.installation import Installation
from cronq.job import make_spec
from cronq.job_store import JobStore
from cronq.keys import Keys, rq_job
from cronq.later import Later
from cronq.lock import Lock
from cronq.mend import Audit, Mender
from cronq.pause import Pause
from cronq.registry import REGISTRY, Registry
from cronq.replies import text
from cronq.requeued import Requeued
from cronq.rq_cron import PUBLISH_EVERY_S, RqCron
from cronq.run import Run
from cronq.run_store import RunStore
from cronq.serving import RENEW_EVERY_S
from cronq.stopping import stop_run
from cronq.stored_job import StoredJob
from cronq.sweep import Sweep, sweep_every_s
from cronq.waiting import WaitingWalk

log = logging.getLogger("cronq.beat")

#: How often the server's clock is read again; in between the boot clock carries it on.
_READ_CLOCK_S = 10.0
_GUARDIAN_TIMEOUT_S = 2.0
#: So many runs of a job are stopped one by one.
_FEW_RUNS = 50
#: Each costs an idle beat a round trip, of which it has two a second.
_COMPARE_S, _AUDIT_S = 10.0, 30.0


class Cronq(Later):
    """One installation of cronq: the jobs, runs, locks and processes under one prefix of one Redis.

    Nothing is sent to Redis before it is needed.
    """

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

    @classmethod
    def from_env(cls, *, client: Redis | None = None) -> Cronq:
        """The application that the environment and the config file describe."""
        return cls(config=Config.load(), client=client)

    # Parts

    @cached_property
    def client(self) -> Redis:
        """The connection pool of this application; a given client that answers in `str` is not used itself."""
        return open_client(self.config.url) if self._given_client is None else bytes_client(self._given_client)

    @cached_property
    def jobs(self) -> JobStore:
        """The jobs in Redis."""
        return JobStore(self.client, self.keys, self.config.keep_events, max_args=self.config.max_args)

    @cached_property
    def runs(self) -> RunStore:
        """The ledger in Redis."""
        return self._run_store(self.client)

    @cached_property
    def requeued(self) -> Requeued:
        """What RQ's tools requeued."""
        return Requeued(self.client, self.keys, self.config.keep_events)

    def guardian_runs(self) -> RunStore:
        """The ledger through connections of its own that fail within two seconds: a guardian has to go on watching."""
        return self._run_store(own_client(self.client, _GUARDIAN_TIMEOUT_S))

    def _run_store(self, client: Redis) -> RunStore:
        return RunStore(
            client,
            self.keys,
            row_ttl_s=self.config.keep_rows_for,
            keep_events=self.config.keep_events,
            release_dependents=lambda queue, run_id: release_dependents(self.client, queue, run_id),
        )

    @cached_property
    def hosts(self) -> Hosts:
        """Heartbeats of beats and workers."""
        return Hosts(self.client, self.keys)

    @cached_property
    def holds(self) -> Holds:
        """Paused queues, drained hosts and workers."""
        return Holds(self.client, self.keys)

    @cached_property
    def bulk_stop(self) -> BulkStop:
        """What stops all runs of a job that have not begun."""
        return BulkStop(self.runs)

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

    def changes(self, by: str | None = None) -> Changes:
        """Changes of jobs, in the name of *by* (default: the person at the keyboard)."""
        claimer = self.claimer(by or self.who)
        return Changes(self.jobs, claimer, self.bulk_stop, self.exact_now_s, self.config.keep_rows_for)

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
        seconds, micros = self.client.time()
        note = self.clock.observe(seconds + micros / 1e6)
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

    def run_lock(
        self,
        name: str,
        holder: dict[str, Any],
        on_lost: Callable[[str], None],
        on_renewed: Callable[[float], None],
    ) -> Lock:
        """The lock of a run, for its guardian."""
        return Lock(
            self.client,
            name,
            ttl_s=self.config.lock_ttl,
            keys=self.keys,
            holder=holder,
            on_lost=on_lost,
            on_renewed=on_renewed,
        )

    # Definitions

    def load_jobs(self, modules: Sequence[str] = ()) -> list[DefinitionError]:
        """Import the job modules (default: those of the config); what is wrong with them."""
        self.registry.load(modules or self.config.jobs)
        return self.registry.problems

    def definitions(self, by: str | None = None) -> Definitions:
        """What this process's code defines, in the name of *by*."""
        return Definitions(self.registry, self.jobs, self.changes(by))

    def sync(self, modules: Sequence[str] = (), *, remove: bool = True, load: bool = True) -> SyncReport:
        """Store the jobs that *modules* define; remove stored ones that these modules defined and no longer do.

        A module that cannot be imported keeps its jobs, and a job whose new definition is refused keeps its old one.
        """
        modules = list(modules or self.config.jobs)
        if load:
            self.load_jobs(modules)
        return self.definitions().sync(modules, remove=remove, by=self.who)

    def add(self, name: str, **options: Any) -> str:
        """Store a job that no module defines, usually a command; `created`, `changed` or `same`."""
        spec = make_spec(name, **options)
        known = self.jobs.find([name]).get(name)
        # An adopted job has the same origin, and its function would be lost for good.
        if isinstance(known, StoredJob) and (known.origin != "cli" or (known.spec.function and spec.command)):
            raise DefinitionError(
                f"this name is taken by the job at {known.source}; choose another", job=name, field="name"
            )
        self.jobs.open_epoch()
        return self.changes().save(spec, source=f"added by {self.who}", origin="cli")

    def import_crontab(
        self,
        raw: bytes,
        path: str,
        *,
        system: bool = False,
        user: str | None = None,
        tz: str | None = None,
        prune: bool = False,
        dry_run: bool = False,
        **options: Any,
    ) -> CrontabReport:
        """Store each line of the crontab *raw*, read at *path*, as a command job; one that is gone is a ghost.

        *system* ones have a user column; another is that of *user*, by default whoever this process is. *tz* holds
        where no CRON_TZ does, by default the zone of this machine. *options* are those of `job`, for each of them.
        """
        crontab = parse_crontab(raw, system=system, is_user=has_user)
        if not system and seems_to_have_users(crontab, has_user):
            crontab.notes.append(
                "each command begins with the name of a user: has it a user column? Then give --system"
            )
        source = Source(path, self.config.host, user if user is not None else user_name(os.geteuid()))
        zone = zone_for(crontab, tz)
        return self._crontabs.bring(crontab, source, tz=zone, options=options, prune=prune, dry=dry_run, by=self.who)

    def export_crontab(self, names: Sequence[str] = (), *, system: bool = False, user: str | None = None) -> list[str]:
        """Jobs (default: all) as the lines of a crontab; those that cron cannot run are comments. Raises UnknownJob."""
        found = [self.jobs.get(name) for name in names or self.jobs.names()]
        user = user if user is not None else user_name(os.geteuid())
        return list(write_crontab([job.spec for job in found], system=system, user=user))

    def ghosts(self, modules: Sequence[str] = ()) -> list[StoredJob]:
        """Stored jobs whose definition is gone: from *modules* (default: those of the config), and from crontabs."""
        modules = list(modules or self.config.jobs)
        self.load_jobs(modules)
        of_modules = self.jobs.find(self.definitions().ghosts(modules)).values()
        return [job for job in of_modules if isinstance(job, StoredJob)] + self._crontabs.ghosts()

    @property
    def _crontabs(self) -> CrontabJobs:
        return CrontabJobs(self.jobs, self.changes())

    def remove(self, name: str) -> int:
        """Remove a job; how many queued runs were stopped with it. Raises UnknownJob."""
        return self.changes().remove(name, by=self.who)

    def pause(self, name: str, *, note: str = "", until_s: float | None = None) -> Pause:
        """Record the ticks of a job as `paused` from now on."""
        return self.changes().pause(name, by=self.who, note=note, until_s=until_s)

    def resume(self, name: str) -> bool:
        """Let the ticks of a job run again from now on; whether it was paused."""
        return self.changes().resume(name)

    # Runs

    def enqueue(self, name: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> str:
        """Queue one run now, beside the schedule; its run id. Without arguments the job's own are used."""
        spec, given = self.call_of(name, args, kwargs)
        return self.claimer(self.who).give(spec, self.now_s(), args_json=given, reason=f"asked for by {self.who}")

    def stop(self, name_or_run: str) -> list[str]:
        """Stop one run, or all open runs of a job: queued ones at once, running ones within two seconds.

        Also takes the id of a job that rq-scheduler holds, and takes it out there.
        """
        run = self.runs.find(name_or_run)
        if run is None and not self.jobs.is_listed(name_or_run):
            run = self._readmitted(name_or_run)
        if run is not None:
            runs = [run]
        elif not self.jobs.is_listed(name_or_run) and self.delayed().take_out(name_or_run):
            return [name_or_run]  # a job that somebody gave to rq-scheduler
        else:
            self.jobs.get(name_or_run)
            return self._stop_all(name_or_run)
        return self._stop_each(runs)

    def _stop_all(self, name: str) -> list[str]:
        """Stop all open runs of a job. Of many RQ keeps no record: each would have to be looked for in its queue."""
        if self.runs.count_open(name) <= _FEW_RUNS:
            return self._stop_each(self.runs.rows(self.runs.active([name])[name]))
        stopped, others = self.bulk_stop.stop_open(name, by=self.who, now_s=self.now_s())
        return stopped + self._stop_each(self.runs.rows(others))

    def _stop_each(self, runs: Iterable[Run]) -> list[str]:
        who, now_s, requeued = self.who, self.now_s(), self.requeued
        return [run.run_id for run in runs if stop_run(self.runs, run, requeued, by=who, now_s=now_s)]

    def _readmitted(self, run_id: str) -> Run | None:
        """The run that was requeued with RQ's tools when its row had ended already."""
        queue = self.client.hget(rq_job(run_id), "origin")
        now_s = self.now_s()
        if queue is None or not self.requeued.readmit(run_id, text(queue), by=self.who, now_s=now_s):
            return None
        return self.runs.find(run_id)

    def history(self, name: str, count: int = 20, outcome: str | None = None) -> list[Run]:
        """The newest rows of a job's ledger, newest first, of one *outcome* if given.

        Raises UnknownJob when there is neither job nor row.
        """
        rows = newest_rows(self.runs, [name], count, outcome)
        if not rows:
            self.jobs.get(name)
        return rows

    def history_of_all(self, count: int = 20, outcome: str | None = None) -> list[Run]:
        """The newest rows of all jobs, newest first, and what workers had to set aside."""
        return newest_of_all(self.runs, self.jobs.names(), count, outcome)

    def read_jobs(self) -> tuple[list[StoredJob], list[CronqError]]:
        """All stored jobs that can be read, by name; and what is wrong with the others, each naming its job."""
        found = self.jobs.find(self.jobs.names())
        problems = [
            error if name in str(error) else DefinitionError(str(error), job=name)
            for name, error in found.items()
            if isinstance(error, CronqError)
        ]
        return [job for job in found.values() if isinstance(job, StoredJob)], problems

    def seems_lost(self) -> bool:
        """Whether a running run was not heard of for `lost_after`, or an id was popped from its queue and not begun."""
        long_ago = self.now_s() - self.config.lost_after
        return bool(self.client.zcount(self.keys.running, "-inf", long_ago)) or self.holds.is_starting()

    def status_of(self, job: StoredJob, active: Mapping[str, str], now_s: float) -> str:
        """How a job is, in a word; see `StoredJob.status`."""
        return job.status(active, now_s)

    @cached_property
    def growth(self) -> Growth:
        """What Redis uses, and how that grows."""
        return Growth(self.client, self.keys)

    def beats(self) -> tuple[list[Heartbeat], float]:
        """Heartbeats of all beats, and the server's time."""
        return self.hosts.read("beats")

    def workers(self) -> tuple[list[Heartbeat], float]:
        """Heartbeats of all workers, and the server's time."""
        return self.hosts.read("workers")

    def current_runs(self, workers: Sequence[Heartbeat]) -> list[str | None]:
        """What each of *workers* is busy with, by id."""
        return self.hosts.current_runs(workers)

    def drain(self, *names: str, note: str = "") -> list[str]:
        """Let the workers of these hosts, or these workers, or without names all, take no more; what that holds."""
        workers = {heartbeat.id for heartbeat in self.workers()[0]}
        return self.holds.drain(names, workers, by=self.who, now_s=self.now_s(), note=note)

    def held(self) -> list[Hold]:
        """What workers leave alone at present, oldest first: drains and paused queues."""
        return self.holds.read()

    def end_drains(self, *names: str) -> list[Hold]:
        """Let the workers of these hosts, or these workers, or without names all, work again; what was held."""
        return self.holds.end_drains(names)

    def at_work_on(self, whats: Sequence[str]) -> list[Run]:
        """The runs that are at work on what these drains hold; *whats* as `drain` returns them."""
        return busy_with(self.runs, whats)

    def is_at_rest(self, whats: Sequence[str]) -> bool:
        """Whether nothing of what these drains hold runs any more, or is about to."""
        return not self.at_work_on(whats) and not self.holds.is_starting()

    def resume_queue(self, queue: str) -> bool:
        """Let workers take from *queue* again; whether it was paused."""
        return self.holds.lift(f"queue:{queue}") > 0

    def pause_queue(self, queue: str, *, note: str = "") -> None:
        """Let no worker take anything from *queue* from now on."""
        self.holds.hold(f"queue:{queue}", by=self.who, now_s=self.now_s(), note=note)

    # Checks

    def check_redis(self) -> Finding:
        """Whether Redis is fit for schedules, and when it will be full."""
        return check_redis(self.client, self.growth.read(), allow_eviction=self.config.allow_eviction)

    def check_beats(self, least: int = 1) -> Finding:
        """Whether *least* beats are alive and at work."""
        return check_beat(*self.beats(), least)

    def check_workers(self, least: int = 1) -> Finding:
        """Whether *least* workers are alive, and none has fallen silent."""
        return check_workers(*self.workers(), least)

    def check_clock(self) -> Finding:
        """The clocks of this host and of the beats against that of Redis."""
        return check_clock(self.client, *self.beats())

    # Processes

    def require_fit_redis(self) -> list[str]:
        """Warnings about this Redis. Raises RedisUnfit when schedules would be lost in it, or it serves others."""
        fit = require_fit(self.client, allow_eviction=self.config.allow_eviction)
        return fit + Installation(self.client, self.keys).settle_in()

    def beat(self) -> Beat:
        """A beat, ready to `run`; what `registry` holds by now is stored, and restored should Redis lose it."""
        beat_id = f"{self.config.host}.{os.getpid()}"
        by, lost_after_s = f"beat {beat_id}", self.config.lost_after
        definitions = self.definitions(by)
        sweep = Sweep(self.client, self.keys, self.runs, by=by, lost_after_s=lost_after_s)
        comparison = Comparison(self.client, self.keys, self.runs, by=by, patience_s=0.8 * lost_after_s)
        mender = Mender(self.jobs, definitions.changes, definitions.known)
        beat = Beat(
            self.jobs,
            self.claimer(by),
            mender,
            self.clock,
            renew_epoch=lambda: definitions.renew_epoch(mender, self.now_s()),
            batch=self.config.batch,
        )
        audit = Audit(self.jobs, mender)
        heart = Heart(self.hosts, "beats", beat_id, self.config.host, beat.facts)
        if self.config.serve_rq_scheduler:
            beat.serving = Chore("held back", RENEW_EVERY_S, self.serving(by).once)
        beat.audit = Chore("audit", _AUDIT_S, audit.once)
        beat.chores = [
            *([beat.serving] if beat.serving is not None else []),
            Chore("heartbeat", HEARTBEAT_S, heart.beat),
            Chore("sweep", sweep_every_s(self.config.lost_after), lambda _: sweep.once(), sweep.outage),
            Chore("compare", _COMPARE_S, comparison.once, comparison.outage),
            Chore("removals", _AUDIT_S, self.bulk_stop.once),
            Chore("requeued", _COMPARE_S, lambda now_s: self.requeued.once(sweep.queues, now_s)),
            Chore("waiting", _AUDIT_S, WaitingWalk(self.client, self.keys, self.jobs.set_aside).once),
            Chore("growth", NOTE_EVERY_S, self.growth.note),
            beat.audit,
        ]
        if self.config.publish_rq_cron:
            # Not at once: a beat that has just been started has ticks to serve first.
            first = boot_s() + PUBLISH_EVERY_S / 3
            beat.chores.append(Chore("rq-cron", PUBLISH_EVERY_S, self._rq_cron(beat_id).once, due_boot=first))
        beat.leave = heart.leave
        return beat

    def _rq_cron(self, beat_id: str) -> RqCron:
        """What publishes RQ's cron record, through connections of its own."""
        client = own_client(self.client, _GUARDIAN_TIMEOUT_S)
        jobs = JobStore(client, self.keys, self.config.keep_events)
        return RqCron(client, self.keys, jobs, beat_id=beat_id, host=self.config.host, pid=os.getpid())


@cache
def default_app() -> Cronq:
    """The application that `.enqueue()` of a decorated function uses: that of the environment."""
    return Cronq.from_env()
