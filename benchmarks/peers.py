"""One round of each system: make jobs due, hand out the pass that queues them, check what it did.

Every system is a context manager `(url, jobs, due)`. Up to its `yield` it registers the jobs and makes them
due at `due` (not timed); it yields the system's own scheduling pass, a callable without arguments, which the
driver times; after the `yield` it checks that exactly those jobs were queued and that their next due times
moved on. Libraries are imported inside, so that one that is not installed only costs its own line.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from redis import Redis

ZONES = (
    "Africa/Cairo", "Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi", "America/Bogota",
    "America/Chicago", "America/Denver", "America/Halifax", "America/Los_Angeles",
    "America/Mexico_City", "America/New_York", "America/Phoenix", "America/Santiago",
    "America/Sao_Paulo", "America/St_Johns", "Asia/Bangkok", "Asia/Dhaka", "Asia/Dubai",
    "Asia/Hong_Kong", "Asia/Jakarta", "Asia/Karachi", "Asia/Kathmandu", "Asia/Kolkata",
    "Asia/Manila", "Asia/Seoul", "Asia/Shanghai", "Asia/Singapore", "Asia/Tehran", "Asia/Tokyo",
    "Australia/Adelaide", "Australia/Brisbane", "Australia/Sydney", "Europe/Amsterdam",
    "Europe/Athens", "Europe/Istanbul", "Europe/Kyiv", "Europe/London", "Europe/Madrid",
    "Pacific/Auckland", "UTC",
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """One job: its schedule in a zone, and one that fires as often for systems without zones (UTC)."""

    name: str
    expression: str
    zone: str
    utc_expression: str


#: The timed pass of a system.
Pass = Callable[[], object]
Peer = Callable[[str, Sequence[Spec], datetime], AbstractContextManager[Pass]]


def noop() -> None:
    """What every job would run; nothing runs it here."""


# -- the jobs --------------------------------------------------------------------------------------


def equal_specs(count: int, due: datetime) -> list[Spec]:
    """*count* jobs of one schedule, every minute."""
    return [Spec(f"job-{i:06d}", "* * * * *", "UTC", "* * * * *") for i in range(count)]


def distinct_specs(count: int, due: datetime) -> list[Spec]:
    """*count* jobs, no two with one expression, spread over `ZONES`, all of which fire at *due*.

    Each lists two to four further minutes, and every other job also one to four further hours.
    """
    rng = random.Random(count)  # the same shapes in every round, only shifted to *due*
    seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    specs: list[Spec] = []
    while len(specs) < count:
        minutes = tuple(sorted(rng.sample(range(1, 60), rng.randint(2, 4))))
        hours = tuple(sorted(rng.sample(range(1, 24), rng.randint(1, 4)))) if len(specs) % 2 else ()
        if (minutes, hours) in seen:
            continue
        seen.add((minutes, hours))
        zone = ZONES[len(specs) % len(ZONES)]
        local = due.astimezone(ZoneInfo(zone))
        name = f"job-{len(specs):06d}"
        specs.append(
            Spec(name, _expression(local, minutes, hours), zone, _expression(due, minutes, hours)),
        )
    return specs


def _expression(due: datetime, minutes: tuple[int, ...], hours: tuple[int, ...]) -> str:
    """A cron expression that fires at *due*, and at those offsets from its minute and hour."""
    minute_field = ",".join(str(m) for m in sorted((due.minute + offset) % 60 for offset in (0, *minutes)))
    hour_field = ",".join(str(h) for h in sorted((due.hour + offset) % 24 for offset in (0, *hours)))
    return f"{minute_field} {hour_field if hours else '*'} * * *"


# -- checks ----------------------------------------------------------------------------------------


def check(truth: bool, text: str) -> None:
    """Raise AssertionError(*text*) unless *truth*, also under `python -O`."""
    if not truth:
        raise AssertionError(text)


def check_list(client: Redis, key: str, count: int) -> list[bytes]:
    """The entries of the list *key*, which must be *count* different ones."""
    entries: Any = client.lrange(key, 0, -1)
    check(len(entries) == len(set(entries)) == count, f"{key}: {len(entries)} queued, not {count}")
    return list(entries)


def check_rq_jobs(client: Redis, count: int) -> None:
    """RQ's default queue holds *count* jobs, each with its hash."""
    pipeline = client.pipeline(transaction=False)
    for job_id in check_list(client, "rq:queue:default", count):
        pipeline.exists(b"rq:job:" + job_id)
    check(sum(pipeline.execute()) == count, "queued jobs without a hash")


def check_moved_on(client: Redis, key: str, count: int, due: datetime) -> None:
    """All *count* members of the sorted set *key* have a next time at least a minute after *due*."""
    moved = client.zcount(key, due.timestamp() + 60, "+inf")
    check(moved == count, f"{key}: {moved} next times of {count} moved on")


# -- cronq -----------------------------------------------------------------------------------------


@contextmanager
def cronq_round(url: str, jobs: Sequence[Spec], due: datetime) -> Iterator[Pass]:
    """cronq: one pass of the real beat, from the agenda to the claims.

    A beat that has run for a minute: the minute before was claimed by the same beat, so that the specs are in its
    cache, as the peers have their jobs in memory.
    """
    from cronq.app.app import Cronq
    from cronq.config import Config
    from cronq.jobs.spec import make_spec

    tick = int(due.timestamp())
    with Redis.from_url(url) as client:
        app = Cronq(config=Config(url=url), client=client)
        keys = app.keys
        beat = app.beat()
        app.jobs.open_epoch()
        for job in jobs:
            spec = make_spec(job.name, function="benchmarks.peers:noop", cron=job.expression, tz=job.zone or "UTC")
            app.jobs.save(spec, source="benchmark", origin="cli", expected="", mark=tick - 61, next_tick=tick - 60)
        while beat.pass_once(now_s=tick - 60 + 0.5).wait_s == 0.0:
            pass
        client.delete(keys.agenda, "rq:queue:default")
        with client.pipeline(transaction=False) as pipe:
            for job in jobs:
                pipe.delete(keys.active(job.name))
                pipe.hset(keys.state(job.name), "mark", tick - 1)
                pipe.zadd(keys.agenda, {job.name: tick})
            for key in client.scan_iter("rq:job:*", count=1000):
                pipe.delete(key)
            pipe.execute()

        def all_passes() -> None:
            while beat.pass_once().wait_s == 0.0:  # more is due than one pass takes: the beat's loop goes on at once
                pass

        yield all_passes

        check_rq_jobs(client, len(jobs))
        check_moved_on(client, keys.agenda, len(jobs), due)
        rows = [app.runs.run_at(job.name, tick) for job in jobs]
        check(all(row is not None and row.state == "queued" for row in rows), "cronq: a tick is not in the ledger")


# -- the peers -------------------------------------------------------------------------------------


@contextmanager
def rq_cron(url: str, jobs: Sequence[Spec], due: datetime) -> Iterator[Pass]:
    """`rq cron`: `CronScheduler.enqueue_jobs()`. It keeps next times in memory, in UTC."""
    from rq.cron import CronScheduler

    with Redis.from_url(url) as client:
        scheduler = CronScheduler(connection=client, logging_level="WARNING")
        for job in jobs:
            cron_job = scheduler.register(noop, queue_name="default", cron=job.utc_expression, name=job.name)
            cron_job.next_enqueue_time = due
        client.ping()

        yield scheduler.enqueue_jobs

        check_rq_jobs(client, len(jobs))
        next_times = [job.next_enqueue_time or due for job in scheduler.get_jobs()]
        check(min(next_times) >= due + timedelta(minutes=1), "rq cron: next times did not move on")


@contextmanager
def rq_scheduler(url: str, jobs: Sequence[Spec], due: datetime) -> Iterator[Pass]:
    """rq-scheduler: `Scheduler.enqueue_jobs()`. Stored jobs, the machine's own zone."""
    from rq_scheduler import Scheduler

    with Redis.from_url(url) as client:
        scheduler = Scheduler(connection=client)
        for job in jobs:
            rq_job = scheduler.cron(job.utc_expression, noop, id=job.name, queue_name="default")
            scheduler.change_execution_time(rq_job, due)

        yield scheduler.enqueue_jobs

        check_rq_jobs(client, len(jobs))
        check_moved_on(client, scheduler.scheduled_jobs_key, len(jobs), due)


@contextmanager
def redbeat(url: str, jobs: Sequence[Spec], due: datetime) -> Iterator[Pass]:
    """Celery beat with RedBeat: `RedBeatScheduler.tick()`, its lock held, messages to the Redis broker."""
    from celery import Celery, signals
    from celery.beat import Service
    from celery.schedules import crontab
    from redbeat import RedBeatScheduler, RedBeatSchedulerEntry

    app = Celery("benchmark", broker=url.replace("unix://", "redis+socket://", 1), set_as_current=False)
    app.conf.update(redbeat_redis_url=url, result_expires=None)
    task = app.task(noop, name="noop")
    with closing(app), Redis.from_url(url) as client:
        service = Service(app, scheduler_cls=RedBeatScheduler)
        scheduler = service.scheduler
        signals.beat_init.send(sender=service)  # RedBeat takes its lock here
        for job in jobs:
            schedule = crontab.from_string(job.utc_expression)
            last_run = due - timedelta(minutes=1)
            RedBeatSchedulerEntry(job.name, task.name, schedule, last_run_at=last_run, app=app).save()
        scheduler.send_task(task.name, producer=scheduler.producer)  # connects and declares the queue
        client.delete("celery")
        try:
            yield scheduler.tick

            check_list(client, "celery", len(jobs))
            early = timedelta(seconds=1)  # RedBeat cuts fractions off and so notes the second before
            check_moved_on(client, app.redbeat_conf.schedule_key, len(jobs), due - early)
        finally:
            scheduler.close()


@contextmanager
def apscheduler(url: str, jobs: Sequence[Spec], due: datetime) -> Iterator[Pass]:
    """APScheduler 3 with `RedisJobStore`: `_process_jobs()`, what its loop calls at each wake-up.

    It has no queue: due jobs go to an executor of the process, here one that only counts them.
    """
    from apscheduler.executors.base import BaseExecutor
    from apscheduler.jobstores.redis import RedisJobStore
    from apscheduler.schedulers.base import BaseScheduler
    from apscheduler.triggers.cron import CronTrigger

    class CountingExecutor(BaseExecutor):
        submitted: list[str]

        def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
            self.submitted.append(job.id)

    class SteppedScheduler(BaseScheduler):
        """The real scheduler, without a thread or loop of its own."""

        def wakeup(self) -> None:
            pass

        def shutdown(self, wait: bool = True) -> None:
            super().shutdown(wait)

    executor = CountingExecutor()
    executor.submitted = []
    store = RedisJobStore(unix_socket_path=url.removeprefix("unix://"))
    scheduler = SteppedScheduler(timezone="UTC", jobstores={"default": store}, executors={"default": executor})
    scheduler.start(paused=True)
    for job in jobs:
        trigger = CronTrigger.from_crontab(job.expression, timezone=job.zone)
        scheduler.add_job(noop, trigger, id=job.name, next_run_time=due)
    scheduler.resume()
    try:
        yield scheduler._process_jobs

        check(sorted(executor.submitted) == [job.name for job in jobs], "APScheduler: not all submitted")
        check_moved_on(store.redis, store.run_times_key, len(jobs), due)
    finally:
        scheduler.shutdown()


@contextmanager
def huey(url: str, jobs: Sequence[Spec], due: datetime) -> Iterator[Pass]:
    """huey: the consumer's `Scheduler.loop(now)`. It matches the minute; no next times, no zones."""
    from huey import RedisHuey, crontab
    from huey.consumer import Scheduler

    app = RedisHuey("benchmark", url=url)
    for job in jobs:
        minute, hour, day, month, day_of_week = job.utc_expression.split()
        app.periodic_task(crontab(minute, hour, day, month, day_of_week), name=job.name)(noop)
    stopped = threading.Event()
    stopped.set()  # so that the loop's sleep after the pass returns at once
    now = due.replace(tzinfo=None)

    def loop() -> None:
        # Made here because a scheduler older than its interval (1 s) skips its first loop.
        Scheduler(app, stopped, interval=1, periodic=True).loop(now)

    with closing(app.storage.conn) as client:
        client.ping()

        yield loop

        messages = check_list(client, app.storage.queue_key, len(jobs))
        queued = sorted(app.deserialize_task(message).name for message in messages)
        check(queued == [job.name for job in jobs], "huey: not each job was queued")


# -- the floor -------------------------------------------------------------------------------------

BATCH = 250
#: Lines of replies per tick: ten commands, and the id that XADD answers takes two.
REPLY_LINES = 11
DEDUP_TTL_S = 176_400
RUN_TTL_S = 2_592_000
RESULT_TTL_S = 604_800
TOKEN = "host.example:4242:0123456789abcdef"


def encode(*words: object) -> bytes:
    """One command as RESP."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def rq_job_fields(client: Redis, due: datetime) -> dict[str, Any]:
    """The hash that RQ itself would write for a queued run."""
    from rq.job import Job, JobStatus

    job = Job.create(
        "cronq.perform",
        args=("job-000000", "{}"),
        id="template",
        connection=client,
        description="",
        timeout=3600,
        result_ttl=RESULT_TTL_S,
        failure_ttl=RUN_TTL_S,
        origin="default",
        status=JobStatus.QUEUED,
        meta={"cronq_job": "job-000000"},
    )
    job.enqueued_at = due
    return job.to_dict()


def floor_commands(job: Spec, tick: int, rq_fields: dict[str, Any]) -> bytes:
    """Every write that one claimed tick is, as separate commands."""
    run_id = f"{job.name}-{datetime.fromtimestamp(tick, UTC):%Y%m%dT%H%M%SZ}"
    run = {
        "job": job.name, "tick": tick, "state": "queued", "trigger": "schedule",
        "queue": "default", "queued_at": f"{tick}.25", "decided_by": "host.example:4242",
    }  # fmt: skip
    description = f"{job.name} @ {datetime.fromtimestamp(tick, UTC):%Y-%m-%d %H:%M} UTC"
    fields = rq_fields | {"description": description}
    event = ("type", "queued", "job", job.name, "run", run_id)
    commands: tuple[tuple[object, ...], ...] = (
        ("SET", f"cronq:dedup:{job.name}:{tick}", TOKEN, "NX", "EX", DEDUP_TTL_S),
        ("HSET", f"cronq:run:{run_id}", *(word for item in run.items() for word in item)),
        ("HSET", f"rq:job:{run_id}", *(word for item in fields.items() for word in item)),
        ("SADD", "rq:queues", "rq:queue:default"),
        ("RPUSH", "rq:queue:default", run_id),
        ("ZADD", f"cronq:job:{job.name}:runs", tick, run_id),
        ("HSET", f"cronq:job:{job.name}:active", run_id, "queued"),
        ("HSET", f"cronq:job:{job.name}:state", "mark", tick),
        ("ZADD", "cronq:agenda", tick + 60, job.name),
        ("XADD", "cronq:events", "MAXLEN", "~", 10_000, "*", *event),
    )
    return b"".join(encode(*command) for command in commands)


@contextmanager
def floor(url: str, jobs: Sequence[Spec], due: datetime) -> Iterator[Pass]:
    """The writes of cronq's claim and nothing else: encoded beforehand, 250 ticks a batch, one socket."""
    tick = int(due.timestamp())
    with (
        Redis.from_url(url) as client,
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection,
    ):
        pipeline = client.pipeline(transaction=False)
        for job in jobs:  # what is there before a claim
            pipeline.zadd("cronq:agenda", {job.name: tick})
            pipeline.hset(f"cronq:job:{job.name}:state", "mark", tick - 60)
        pipeline.execute()
        rq_fields = rq_job_fields(client, due)
        encoded = [floor_commands(job, tick, rq_fields) for job in jobs]
        batches = [
            (b"".join(encoded[i : i + BATCH]), REPLY_LINES * len(encoded[i : i + BATCH]))
            for i in range(0, len(encoded), BATCH)
        ]
        connection.connect(url.removeprefix("unix://"))
        replies: list[bytes] = []

        def send() -> None:
            for batch, lines in batches:
                connection.sendall(batch)
                while lines > 0:
                    replies.append(connection.recv(65536))
                    lines -= replies[-1].count(b"\n")

        yield send

        answers = b"".join(replies).splitlines()
        check(len(answers) == REPLY_LINES * len(jobs), "floor: replies missing")
        check(not any(answer.startswith(b"-") for answer in answers), "floor: an error among the replies")
        check_rq_jobs(client, len(jobs))
        check_moved_on(client, "cronq:agenda", len(jobs), due)
        check(client.xlen("cronq:events") > 0, "floor: no events")
