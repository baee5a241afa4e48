"""The application: every verb of the command line is a method of `Cronq`, built from one Config."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from cronq.app.accounts import has_user, own_user
from cronq.app.acts import Acts
from cronq.app.backfill_verbs import BackfillVerbs
from cronq.app.beat_parts import make_beat
from cronq.app.calendar_verbs import CalendarVerbs
from cronq.app.catchup_verbs import CatchupVerbs
from cronq.app.diff import Days, differences
from cronq.app.graph_verbs import GraphVerbs
from cronq.app.group_verbs import GroupVerbs
from cronq.app.keyed_verbs import KeyedVerbs
from cronq.app.lock_verbs import LockVerbs
from cronq.app.redis_words import redis_words
from cronq.app.simulation_verbs import SimulationVerbs
from cronq.app.stats import Stats, read_stats
from cronq.app.why_facts import why
from cronq.beat.beat import Beat
from cronq.clock import SKEW_WARN_S, boot_s, rest
from cronq.config import Config
from cronq.db.decode import text
from cronq.db.keys import rq_job
from cronq.definitions.crontab import parse_crontab, seems_to_have_users
from cronq.definitions.crontab_export import write_crontab
from cronq.definitions.crontab_import import CrontabReport, Source, zone_for
from cronq.definitions.plan import Plan, make_plan
from cronq.definitions.sync import SyncReport
from cronq.errors import ConfigError, DefinitionError
from cronq.hosts.drain import Hold, busy_with
from cronq.hosts.heartbeats import Heartbeat
from cronq.hosts.installation import Installation
from cronq.hosts.outages import Outage
from cronq.interop.adopt import Adoption
from cronq.interop.scheduled import ScheduledEntry, read_all
from cronq.jobs.change_notes import ChangeNote
from cronq.jobs.pause import Pause
from cronq.jobs.spec import JobSpec, make_spec
from cronq.jobs.stored import StoredJob
from cronq.monitor.checks import Finding, check_beat, check_clock, check_redis, check_workers, require_fit
from cronq.runs.delayed import due_at, due_in
from cronq.runs.diff import Difference
from cronq.runs.facts import Answer
from cronq.runs.history import Wanted, newest_of_all, newest_rows
from cronq.runs.run import Run
from cronq.runs.stop import stop_run
from cronq.runs.store import Period

#: Seconds between two looks at a run that is waited for, and at what a drain is to empty.
_POLL_RUN_S, _POLL_REST_S = 0.1, 0.2
#: So many runs of a job are stopped one by one.
_FEW_RUNS = 50


class Cronq(
    Acts, BackfillVerbs, CalendarVerbs, CatchupVerbs, GraphVerbs, GroupVerbs, KeyedVerbs, LockVerbs, SimulationVerbs
):
    """One installation of cronq: the jobs, runs, locks and processes under one prefix of one Redis.

    Nothing is sent to Redis before it is needed.
    """

    @classmethod
    def from_env(cls, *, client: Redis | None = None) -> Cronq:
        """The application that the environment and the config file describe."""
        return cls(config=Config.load(), client=client)

    # Definitions

    def load_jobs(self, modules: Sequence[str] = ()) -> list[DefinitionError]:
        """Import the job modules (default: those of the config). Return what is wrong with them."""
        self.registry.load(modules or self.config.jobs)
        return self.registry.problems

    def sync(self, modules: Sequence[str] = (), *, remove: bool = True, load: bool = True) -> SyncReport:
        """Store the jobs that *modules* define; remove stored ones that these modules defined and no longer do.

        A module that cannot be imported keeps its jobs, a job whose new definition is refused keeps its old one, and
        one that is defined no more stays while it is the parent of another. One that names a calendar that there is
        not is stored all the same, and told of.
        """
        modules = list(modules or self.config.jobs)
        if load:
            self.load_jobs(modules)
        report = self.definitions().sync(modules, remove=remove, by=self.who)
        report.problems += self.calendar_problems_of_definitions()
        return report

    def plan(self, modules: Sequence[str] = ()) -> Plan:
        """What `sync` of the same *modules* would do now; changes nothing."""
        modules = list(modules or self.config.jobs)
        self.load_jobs(modules)
        plan = make_plan(self.definitions(), modules, self.exact_now_s(), self.config.max_args)
        plan.problems += self.calendar_problems_of_definitions()
        return plan

    def add(self, name: str, **options: Any) -> str:
        """Store a job that no module defines, usually a command. Return `created`, `changed` or `same`.

        Raises DefinitionError, also for a calendar that there is not, UnknownParent for such a parent.
        """
        has_schedule = any(options.get(key) is not None for key in ("cron", "every", "at"))
        tz_is_default = has_schedule and "tz" not in options and self.config.tz != "UTC"
        spec = make_spec(name, **(options | {"tz": self.config.tz} if tz_is_default else options))
        self.require_calendars(spec)
        known = self.jobs.find([name]).get(name)
        # An adopted job has the same origin, and its function would be lost for good.
        if isinstance(known, StoredJob) and (known.origin != "cli" or (known.spec.function and spec.command)):
            raise DefinitionError(
                f"this name is taken by the job at {known.source}; choose another", job=name, field="name"
            )
        self.jobs.open_epoch()
        return self.changes().save(spec, source=f"added by {self.who}", origin="cli", tz_is_default=tz_is_default)

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
        source = Source(path, self.config.host, user if user is not None else own_user())
        zone = zone_for(crontab, tz)
        return self.crontabs.bring(crontab, source, tz=zone, options=options, prune=prune, dry=dry_run, by=self.who)

    def export_crontab(self, names: Sequence[str] = (), *, system: bool = False, user: str | None = None) -> list[str]:
        """Jobs (default: all) as the lines of a crontab; those that cron cannot run are comments. Raises UnknownJob."""
        found = [self.jobs.get(name) for name in names or self.jobs.names()]
        user = user if user is not None else own_user()
        return list(write_crontab([job.spec for job in found], system=system, user=user))

    def ghosts(self, modules: Sequence[str] = ()) -> list[StoredJob]:
        """Stored jobs whose definition is gone: from *modules* (default: those of the config), and from crontabs.

        And schedules by key whose job is stored no more.
        """
        modules = list(modules or self.config.jobs)
        self.load_jobs(modules)
        of_modules = self.jobs.find(self.definitions().ghosts(modules)).values()
        return [job for job in of_modules if isinstance(job, StoredJob)] + self.crontabs.ghosts() + self.keyed.orphans()

    def remove(self, name: str, *, force: bool = False) -> int:
        """Remove a job. Return how many queued runs were stopped with it. Schedules of it by key stay, as `ghosts`.

        Raises UnknownJob, and JobInUse when other jobs name it as a parent, unless *force* is given.
        """
        return self.changes().remove(name, by=self.who, force=force)

    def pause(self, name: str, *, note: str = "", until_s: float | None = None) -> Pause:
        """Record the ticks of a job as `paused` from now on."""
        return self.changes().pause(name, by=self.who, note=note, until_s=until_s)

    def resume(self, name: str) -> bool:
        """Let the ticks of a job run again from now on. Return True if it was paused."""
        return self.changes().resume(name)

    def skip(self, name: str, count: int = 1, *, note: str = "") -> list[int]:
        """Record the next *count* ticks of a job that would run as `skipped`. Return them (epoch seconds)."""
        return self.changes().skip(name, count, by=self.who, note=note)

    def undo_skip(self, name: str) -> list[int]:
        """Let the ticks to come run that `skip` named. Return them (epoch seconds)."""
        return self.changes().undo_skip(name, by=self.who)

    # Runs

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
            if not self.guarded.is_known(name_or_run):
                self.jobs.get(name_or_run)
            return self._stop_all(name_or_run)
        return self._stop_each(runs)

    def _stop_all(self, name: str) -> list[str]:
        """Stop all open runs of a job. Of many RQ keeps no record: each would have to be looked for in its queue."""
        if self.runs.count_open(name) <= _FEW_RUNS:
            runs = self.runs.rows(self.runs.active([name])[name])
            # Those that wait first, the last of them to begin with: else each that is stopped would let the next begin.
            return self._stop_each(sorted(runs, key=lambda run: (run.state != "waiting", -(run.tick or 0))))
        stopped, others = self.bulk_stop.stop_open(name, by=self.who, now_s=self.now_s())
        return stopped + self._stop_each(self.runs.rows(others))

    def _stop_each(self, runs: Iterable[Run]) -> list[str]:
        who, now_s, reopen = self.who, self.now_s(), self.requeued.reopen
        return [run.run_id for run in runs if stop_run(self.runs, run, reopen, by=who, now_s=now_s)]

    def _readmitted(self, run_id: str) -> Run | None:
        """The run that was requeued with RQ's tools when its row had ended already."""
        queue = self.client.hget(rq_job(run_id), "origin")
        now_s = self.now_s()
        if queue is None or not self.requeued.readmit(run_id, text(queue), by=self.who, now_s=now_s):
            return None
        return self.runs.find(run_id)

    def history(
        self,
        name: str,
        count: int | None = None,
        outcome: str | None = None,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
    ) -> list[Run]:
        """The newest rows of a job's ledger, newest first: 20, or *count*, or all from *since_s* to *until_s*.

        Both are epoch seconds. Raises UnknownJob when there is neither job nor row.
        """
        rows = newest_rows(self.runs, [name], Wanted(count, outcome, Period(since_s, until_s)))
        if not rows:
            self.jobs.get(name)
        return rows

    def history_of_all(
        self,
        count: int | None = None,
        outcome: str | None = None,
        *,
        since_s: float | None = None,
        until_s: float | None = None,
    ) -> list[Run]:
        """The same of all jobs and guarded runs together, and the ids that workers rejected."""
        names = sorted({*self.jobs.names(), *self.guarded.names()})
        return newest_of_all(self.runs, names, Wanted(count, outcome, Period(since_s, until_s)))

    def why(self, name: str, at: str | datetime | None = None) -> Answer:
        """Why the tick of a job *at* a moment ended as it did; without one the newest, or the trouble of the present.

        A moment without an offset is of the job's zone. Raises UnknownJob, and ValueError for what is no moment.
        """
        return why(self, name, at)

    def diff(self, before: date, after: date, *, tz: str = "UTC") -> list[Difference]:
        """What is worse, or elsewhere, in the runs of the day *after* than in those of the day *before*, job by job.

        Of a day that is not over, as much as has passed is compared. Raises ScheduleError.
        """
        return differences(self.runs, self.jobs.names(), Days(before, after, tz), self.now_s())

    def stats(self, names: Sequence[str] | None = None, newest: int = 20) -> Stats:
        """How long the *newest* runs of these jobs took to begin and to end; without names of all jobs.

        A round trip for each hundred jobs and for each thousand rows.
        """
        return read_stats(self.runs, self.jobs.names() if names is None else names, newest)

    def read_job(self, name: str) -> StoredJob:
        """One stored job. Raises UnknownJob, SpecTooNew, or DefinitionError for a damaged one."""
        return self.jobs.get(name)

    def changes_of(self, name: str) -> list[ChangeNote]:
        """The last 20 changes of a job, newest first; also of one that was removed within the last 30 days."""
        return self.jobs.notes_of(name)

    def job_names(self) -> list[str]:
        """The names of all stored jobs, sorted."""
        return self.jobs.names()

    def active_runs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """For each of these jobs its open runs by id, with their state."""
        return self.runs.active(names)

    def runs_behind(self, job: StoredJob, active: Mapping[str, str]) -> list[Run]:
        """Of *active*, the open runs of a job, those at work; and its last run. One round trip."""
        at_work = [run_id for run_id, state in active.items() if state == "running"]
        return self.runs.rows([*at_work, *([job.state.last_run] if job.state.last_run else [])])

    def read_run(self, run_id: str) -> Run:
        """One row of the ledger. Raises UnknownRun."""
        return self.runs.get(run_id)

    def wait_for(self, run_id: str) -> Run:
        """Wait until a run has an outcome, however long that takes. Raises UnknownRun."""
        while (run := self.read_run(run_id)).outcome is None:
            time.sleep(_POLL_RUN_S)
        return run

    def seems_lost(self) -> bool:
        """Return True if a run was not heard of for `lost_after`, or an id was popped from its queue and not begun."""
        long_ago = self.now_s() - self.config.lost_after
        return bool(self.client.zcount(self.keys.running, "-inf", long_ago)) or self.holds.is_starting()

    def beats(self) -> tuple[list[Heartbeat], float]:
        """Heartbeats of all beats, and the server's time."""
        return self.heartbeats.read("beats")

    def outages(self) -> list[Outage]:
        """Spans of the last 30 days in which no beat made a completed pass, newest first, and why nobody did."""
        return self.outage_notes.read(self.now_s())

    def workers(self) -> tuple[list[Heartbeat], float]:
        """Heartbeats of all workers, and the server's time."""
        return self.heartbeats.read("workers")

    def is_served(self, queue: str) -> bool:
        """Return True if a worker is alive that serves *queue*."""
        workers, now_s = self.workers()
        return any(each.is_alive(now_s) and queue in each.facts.get("queues", ()) for each in workers)

    def current_runs(self, workers: Sequence[Heartbeat]) -> list[str | None]:
        """What each of *workers* is busy with, by id."""
        return self.heartbeats.current_runs(workers)

    def drain(self, *names: str, note: str = "") -> list[str]:
        """Let the workers of these hosts, or these workers, or all, take no more. Return what that holds."""
        workers = {heartbeat.id for heartbeat in self.workers()[0]}
        return self.holds.drain(names, workers, by=self.who, now_s=self.now_s(), note=note)

    def held(self) -> list[Hold]:
        """What workers leave alone at present, oldest first: drains and paused queues."""
        return self.holds.read()

    def end_drains(self, *names: str) -> list[Hold]:
        """Let the workers of these hosts, or these workers, or all, work again. Return what was held."""
        return self.holds.end_drains(names)

    def at_work_on(self, whats: Sequence[str]) -> list[Run]:
        """The runs that are at work on what these drains hold; *whats* as `drain` returns them."""
        return busy_with(self.runs, whats)

    def is_at_rest(self, whats: Sequence[str]) -> bool:
        """Return True if nothing of what these drains hold runs any more, or is about to."""
        return not self.at_work_on(whats) and not self.holds.is_starting()

    def wait_until_at_rest(self, whats: Sequence[str], patience_s: float) -> bool:
        """Wait until nothing of what these drains hold runs; return False when that takes longer than *patience_s*."""
        until = boot_s() + patience_s
        while not self.is_at_rest(whats):
            if boot_s() >= until:
                return False
            time.sleep(_POLL_REST_S)
        return True

    def resume_queue(self, queue: str) -> bool:
        """Let workers take from *queue* again. Return True if it was paused."""
        return self.holds.lift(f"queue:{queue}") > 0

    def pause_queue(self, queue: str, *, note: str = "") -> None:
        """Let no worker take anything from *queue* from now on."""
        self.holds.hold(f"queue:{queue}", by=self.who, now_s=self.now_s(), note=note)

    def queues(self) -> set[str]:
        """The queues into which anything was ever put, and those that living workers serve."""
        workers, now_s = self.workers()
        served = {queue for each in workers if each.is_alive(now_s) for queue in each.facts.get("queues", ())}
        return self.holds.queues() | served

    # Runs for later

    def enqueue_at(
        self, moment: datetime, name: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> str:
        """Make one run that is due at *moment*, which has a time zone. Return its id. Past: due at once."""
        spec, given = self.call_of(name, args, kwargs)
        return self.delayed().put(spec, due_at(moment, name), self.now_s(), given)

    def enqueue_in(
        self,
        delay: float | str | timedelta,
        name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Make one run that is due after *delay*, by the server's clock. Return its id."""
        spec, given = self.call_of(name, args, kwargs)
        now_s = self.now_s()
        return self.delayed().put(spec, due_in(delay, now_s, name), now_s, given)

    def reschedule(self, entry_id: str, moment: datetime) -> None:
        """Let a delayed run, or whatever else rq-scheduler's store holds, be due at *moment*. Raises UnknownRun."""
        run = self.runs.find(entry_id)
        job = run.job if run is not None else None
        self.delayed().move(entry_id, due_at(moment, entry_id), self.now_s(), job)

    def held_back(self) -> list[ScheduledEntry]:
        """All that is due later besides ticks: delayed runs, rq-scheduler's jobs, RQ's own; the next one first."""
        return read_all(self.client, self.keys)

    def adopt(self, entry_id: str, *, name: str | None = None) -> JobSpec:
        """Turn a repeating job of rq-scheduler into a job of ours, which goes on where it stood."""
        config = self.config
        adoption = Adoption(self.client, self.jobs, tz=config.foreign_tz, allow=config.allow, by=self.who)
        return adoption.adopt(entry_id, self.now_s(), name)

    # Checks

    def check_url(self) -> None:
        """Look at the options of the Redis URL, without connecting. Raises ConfigError."""
        try:
            pool = self.client.connection_pool
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError) as error:
            where = f"url {self.config.shown_url!r} (from {self.config.origin('url')})"
            raise ConfigError(f"{where}: {error}") from None

    def check_redis(self) -> Finding:
        """Find out whether Redis is fit for schedules, and when it will be full."""
        return check_redis(self.client, self.growth.read(), allow_eviction=self.config.allow_eviction)

    def check_beats(self, least: int = 1) -> Finding:
        """Find out whether *least* beats are alive and at work."""
        return check_beat(*self.beats(), least)

    def check_workers(self, least: int = 1) -> Finding:
        """Find out whether *least* workers are alive, and none has fallen silent."""
        return check_workers(*self.workers(), least)

    def check_clock(self) -> Finding:
        """Compare the clocks of this host and of the beats with that of Redis."""
        return check_clock(self.client, *self.beats())

    # Processes

    def require_fit_redis(self) -> list[str]:
        """Warnings about this Redis. Raises RedisUnfit when schedules would be lost in it, when a newer cronq keeps its
        data there in a layout that this one does not know, or when it serves others."""
        fit = require_fit(self.client, allow_eviction=self.config.allow_eviction)
        self.jobs.require_known_layout()
        return fit + Installation(self.client, self.keys).settle_in()

    def wait_until_fit(self, stop: threading.Event, log: logging.Logger) -> bool:
        """Wait until Redis answers, and log what is doubtful about it. Return False when told to stop meanwhile.

        Raises RedisUnfit.
        """
        has_said = False
        while not stop.is_set():
            try:
                for warning in self.require_fit_redis():
                    log.warning("REDIS %s", warning)
                offset = self.clock.offset_s if self.now_s() else None
                if offset is not None and abs(offset) > SKEW_WARN_S:
                    log.warning("CLOCK this host's clock differs from Redis by %+.1f s; ticks follow Redis", offset)
                return True
            except (RedisError, OSError) as error:
                if not has_said:
                    words = redis_words(error)
                    log.error("TROUBLE cannot reach Redis at %s: %s; going on trying", self.config.shown_url, words)
                has_said = True
                rest(1.0, stop)  # not stop.wait: a signal handler sets it
        return False

    def beat(self) -> Beat:
        """A beat, ready to `run`; what `registry` holds by now is stored, and restored should Redis lose it."""
        return make_beat(self)


@cache
def default_app() -> Cronq:
    """The application that `.enqueue()` of a decorated function uses: that of the environment."""
    return Cronq.from_env()
