"""What programs put into rq-scheduler's store and RQ's registries: served as it is, once, and executed never."""

from __future__ import annotations

import json
import os
import pickle
import resource
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Callback, Queue, Retry
from rq.job import Job, JobStatus
from rq.registry import ScheduledJobRegistry
from rq.scheduler import RQScheduler
from rq_scheduler import Scheduler

from cronq.app.app import Cronq
from cronq.beat.sweep import Sweep
from cronq.config import Config
from cronq.interop.in_progress import InProgress
from cronq.interop.rq_scheduler import ScheduledStores
from cronq.jobs.registry import Registry
from cronq.runs.timing import Timing
from tests.redis.foreign_jobs import work
from tests.redis.test_rq_contract import assert_same, dump

#: rq-scheduler's cron library warns of its own future.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

STORE = "rq:scheduler:scheduled_jobs"
LOCKS = ("rq:scheduler_lock", "rq:scheduler-lock:default", "rq:scheduler-lock:low", "rq:scheduler-lock:high")


@pytest.fixture
def now(app: Cronq) -> float:
    return app.exact_now_s()


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return Scheduler(queue_name="default", connection=redis)


@pytest.fixture
def serving(app: Cronq) -> ScheduledStores:
    return app.scheduled_stores("beat test")


def naive(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC).replace(tzinfo=None)


def queued(redis: Redis, queue: str = "default") -> list[str]:
    return [each.decode() for each in redis.lrange(f"rq:queue:{queue}", 0, -1)]


def finish(redis: Redis, job_id: str, queue: str = "default") -> None:
    """What a worker leaves, as far as it matters here."""
    redis.lrem(f"rq:queue:{queue}", 0, job_id)
    redis.hset(f"rq:job:{job_id}", "status", "finished")


# As its README uses it


def test_one_job_at_a_time_and_one_after_a_while(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float
) -> None:
    first = scheduler.enqueue_at(naive(now + 5), work, 1, b=2)
    second = scheduler.enqueue_in(timedelta(seconds=60), work, "x")
    assert first in scheduler
    assert [each.id for each in scheduler.get_jobs()] == [first.id, second.id]
    assert len(list(scheduler.get_jobs(until=naive(now + 30)))) == 1
    assert [(each.id, when) for each, when in scheduler.get_jobs(with_times=True, offset=0, length=1)] == [
        (first.id, naive(int(now + 5)))
    ]
    assert (scheduler.count(), scheduler.count(until=timedelta(seconds=30))) == (2, 1)

    serving.once(now + 4)
    assert queued(redis) == []
    serving.once(now + 6)
    assert queued(redis) == [first.id]
    assert first not in scheduler
    serving.once(now + 62)

    assert queued(redis) == [first.id, second.id]
    assert Job.fetch(first.id, connection=redis).args == (1,)
    assert not redis.exists(STORE)


def test_cancel_and_change_of_time(scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float) -> None:
    gone, moved = scheduler.enqueue_at(naive(now + 5), work), scheduler.enqueue_at(naive(now + 5), work)
    scheduler.cancel(gone)
    scheduler.change_execution_time(moved, naive(now + 50))
    assert gone not in scheduler

    serving.once(now + 20)
    assert queued(redis) == []
    serving.once(now + 51)

    assert queued(redis) == [moved.id]


def test_an_interval_goes_on_with_the_same_id_and_keeps_its_step(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float
) -> None:
    start = int(now) + 10
    job = scheduler.schedule(
        naive(start), work, args=[1], interval=60, queue_name="low", meta={"who": "ann"}, id="steady", description="d",
        result_ttl=500,
    )  # fmt: skip

    for step in range(3):
        serving.once(start + 60 * step + 0.7)
        assert queued(redis, "low") == ["steady"]
        finish(redis, "steady", "low")

    assert redis.zscore(STORE, "steady") == start + 180
    read = Job.fetch(job.id, connection=redis)
    assert (read.meta, read.result_ttl, read.description, read.origin) == (
        {"who": "ann", "interval": 60}, 500, "d", "low",
    )  # fmt: skip


def test_what_was_missed_of_an_interval_runs_once_and_then_in_step(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float
) -> None:
    scheduler.schedule(naive(int(now)), work, interval=60, id="steady")

    serving.once(int(now) + 605.5)

    assert queued(redis) == ["steady"]
    assert redis.zscore(STORE, "steady") == int(now) + 660


@pytest.mark.parametrize(("repeat", "runs"), [(3, 3), (1, 1), (0, 1), (None, 6)])
def test_a_repeat_is_counted_as_rq_scheduler_counts(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float, repeat: int | None, runs: int
) -> None:
    scheduler.schedule(naive(int(now)), work, interval=10, repeat=repeat, id="some")

    seen = 0
    for step in range(6):
        serving.once(int(now) + 10 * step + 0.5)
        seen += len(queued(redis))
        finish(redis, "some")

    assert seen == runs
    assert redis.exists(STORE) == (repeat is None)


def test_a_repeating_job_that_is_still_queued_or_at_work_is_not_queued_again(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float
) -> None:
    scheduler.schedule(naive(int(now)), work, interval=10, repeat=3, id="slow")
    serving.once(now + 0.1)
    serving.once(now + 11)
    assert queued(redis) == ["slow"]

    redis.delete("rq:queue:default")
    redis.hset("rq:job:slow", mapping={"status": "started", "started_at": "2020-01-01T00:00:00.000000Z"})
    redis.zadd("rq:wip:default", {"slow:1": now + 500})
    serving.once(now + 21)
    assert queued(redis) == []
    assert redis.zscore(STORE, "slow") is not None

    redis.zadd("rq:wip:default", {"slow:1": now})  # its worker has died
    serving.once(now + 31)
    assert queued(redis) == ["slow"]
    assert Job.fetch("slow", connection=redis).meta["repeat"] == 1  # what was not queued does not count


def test_a_job_that_is_queued_in_name_only_is_queued_again(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float
) -> None:
    scheduler.schedule(naive(int(now)), work, interval=10, id="lost")
    serving.once(now + 0.1)
    redis.delete("rq:queue:default")

    serving.once(now + 11)
    assert queued(redis) == []
    serving.once(now + 101)

    assert queued(redis) == ["lost"]


def test_front_of_the_queue(scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float) -> None:
    scheduler.enqueue_at(naive(now - 9), work, job_id="first")
    scheduler.schedule(naive(now - 8), work, id="second", at_front=True)  # its enqueue_at forgets at_front

    serving.once(now)

    assert queued(redis) == ["second", "first"]


def test_what_depends_on_another_job_waits_for_it(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float
) -> None:
    parent = Queue("high", connection=redis).enqueue(work)
    scheduler.enqueue_at(naive(now - 5), work, job_id="child", depends_on=parent)
    serving.once(now)
    ours = dump_all(redis)

    redis.flushall()
    Queue("high", connection=redis).enqueue(work, job_id=parent.id)
    stock_job(redis, scheduler, now, job_id="child", depends_on=Job.fetch(parent.id, connection=redis))

    assert_same_all(ours, dump_all(redis))


# What is written is what rq-scheduler and RQ write


def dump_all(redis: Redis) -> dict[str, Any]:
    """All of `rq:*` with zsets; locks left out."""
    redis.delete(*LOCKS)
    zsets = {
        key.decode(): [member for member, _ in redis.zrange(key, 0, -1, withscores=True)]
        for key in redis.scan_iter("rq:*")
        if redis.type(key) == b"zset"
    }
    scores = {key: redis.zrange(key, 0, -1, withscores=True) for key in zsets}
    redis.delete(*zsets) if zsets else None
    found = dump(redis)
    return found | {key: ([name for name, _ in pairs], -1) for key, pairs in scores.items()}


def assert_same_all(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for side in (ours, theirs):
        for value, _ in side.values():
            if isinstance(value, dict) and b"data" in value:
                value[b"data"] = zlib.decompress(value[b"data"])
    assert_same(ours, theirs)


def stock_job(redis: Redis, scheduler: Scheduler, now: float, **options: Any) -> None:
    scheduler.enqueue_at(naive(now - 5), work, **options)
    scheduler.enqueue_jobs()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timeout": 30, "job_ttl": 100, "job_result_ttl": 50, "job_description": "d", "meta": {"a": 1}},
        {"queue_name": "low"},
        {"on_success": Callback(work), "on_failure": Callback(work)},
    ],
)
def test_what_is_written_for_a_job_is_what_rq_scheduler_writes(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float, options: dict[str, Any]
) -> None:
    scheduler.enqueue_at(naive(now - 5), work, 1, job_id="same", **options)
    serving.once(now)
    ours = dump_all(redis)

    redis.flushall()
    scheduler.enqueue_at(naive(now - 5), work, 1, job_id="same", **options)
    list(map(scheduler.enqueue_job, scheduler.get_jobs()))

    assert_same_all(ours, dump_all(redis))


def test_what_is_written_for_a_repeating_job_is_what_rq_scheduler_writes(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float
) -> None:
    start = naive(int(now))
    scheduler.schedule(start, work, interval=100, repeat=5, id="same")
    serving.once(now)
    ours, next_ours = dump_all(redis), redis.zscore(STORE, "same")

    redis.flushall()
    scheduler.schedule(start, work, interval=100, repeat=5, id="same")
    scheduler.enqueue_jobs()
    list(scheduler.get_jobs())
    next_theirs = redis.zscore(STORE, "same")
    theirs = dump_all(redis)

    assert next_ours is None  # taken by the dump
    assert next_theirs is not None
    assert abs(next_theirs - int(now) - 100) <= 2
    assert_same_all(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"at_front": True, "ttl": 100, "job_timeout": 5, "retry": Retry(2, [5])}])
def test_what_is_written_for_rqs_own_delayed_jobs_is_what_rq_writes(
    serving: ScheduledStores, redis: Redis, now: float, options: dict[str, Any]
) -> None:
    def make() -> None:
        Queue("low", connection=redis).enqueue_at(
            datetime.fromtimestamp(now - 5, UTC), work, 1, job_id="own", **options
        )

    make()
    serving.once(now)
    assert queued(redis, "low") == ["own"]
    ours = dump_all(redis)

    redis.flushall()
    make()
    stock = RQScheduler(["low"], connection=redis)
    stock._connection = redis
    stock.acquire_locks()
    stock.enqueue_scheduled_jobs()

    assert_same_all(ours, dump_all(redis))


# Cron


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def run_cron(redis: Redis, zone: str, first: str, until: str, expression: str, step_s: int = 300) -> list[str]:
    """Serve a foreign cron job from its first time on, and when it was queued, UTC."""
    app = Cronq(config=Config(rq_scheduler_tz=zone), registry=Registry(), client=redis)
    scheduler = Scheduler(connection=redis)
    job = scheduler.cron(expression, work, id="nightly")
    redis.zadd(STORE, {job.id: at(first)})
    serving, moment, fired = app.scheduled_stores("beat"), at(first) - step_s, []
    while moment < at(until):
        serving.once(moment + 0.2)
        if queued(redis):
            fired.append(f"{datetime.fromtimestamp(moment, UTC):%d %H:%M}")
            finish(redis, job.id)
        moment += step_s
    return fired


NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"


@pytest.mark.parametrize(
    ("zone", "first", "until", "expression", "expected"),
    [
        # forward: 02:30 does not exist on the 8th in New York, on the 29th in Berlin: once, when the gap ends
        (NEW_YORK, "2026-03-07T07:30Z", "2026-03-10T00:00Z", "30 2 * * *", ["07 07:30", "08 07:00", "09 06:30"]),
        (BERLIN, "2026-03-28T01:30Z", "2026-03-31T00:00Z", "30 2 * * *", ["28 01:30", "29 01:00", "30 00:30"]),
        # what rq-scheduler itself wrote for that night: an hour early
        (NEW_YORK, "2026-03-08T06:30Z", "2026-03-09T00:00Z", "30 2 * * *", ["08 07:00"]),
        # back: 01:30 comes twice on 1 November, 02:30 on 25 October
        (NEW_YORK, "2026-10-31T05:30Z", "2026-11-03T00:00Z", "30 1 * * *", ["31 05:30", "01 05:30", "02 06:30"]),
        (BERLIN, "2026-10-24T00:30Z", "2026-10-27T00:00Z", "30 2 * * *", ["24 00:30", "25 00:30", "26 01:30"]),
    ],
)  # fmt: skip
def test_a_cron_job_runs_once_when_clocks_change(
    redis: Redis, zone: str, first: str, until: str, expression: str, expected: list[str]
) -> None:
    assert run_cron(redis, zone, first, until, expression) == expected


def test_an_hourly_cron_job_loses_and_doubles_no_hour(redis: Redis) -> None:
    fired = run_cron(redis, NEW_YORK, "2026-03-08T04:00Z", "2026-03-08T12:00Z", "0 * * * *")

    assert fired == [f"08 {hour:02d}:00" for hour in range(4, 12)]


def test_both_day_fields_have_to_match_as_with_rq_scheduler(redis: Redis) -> None:
    fired = run_cron(redis, "UTC", "2026-11-13T09:00Z", "2026-11-14T00:00Z", "0 9 13 * 5", step_s=3600)

    assert fired == ["13 09:00"]
    assert redis.zscore(STORE, "nightly") == at("2027-08-13T09:00Z")


def test_a_time_that_somebody_gave_a_cron_job_is_kept(redis: Redis) -> None:
    assert run_cron(redis, "Europe/Berlin", "2026-06-01T10:10Z", "2026-06-02T12:00Z", "30 2 * * *") == [
        "01 10:10", "02 00:30",
    ]  # fmt: skip


# Junk and worse


class Trap:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def plant(redis: Redis, job_id: str, now: float, **fields: bytes | str) -> None:
    known: dict[str, Any] = {"data": zlib.compress(pickle.dumps(("x.y", None, (), {}))), "origin": "default"}
    redis.hset(f"rq:job:{job_id}", mapping=known | {"status": "scheduled"} | fields)
    redis.zadd(STORE, {job_id: now - 10})


def aside(redis: Redis, job_id: str) -> str:
    return str(json.loads(redis.hget("cronq:aside", job_id) or b"{}").get("reason"))


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


@pytest.mark.parametrize(
    "wrap", [lambda trap: trap, lambda trap: {"interval": 5, "x": trap}, lambda trap: {"interval": trap}]
)
def test_a_hostile_meta_is_set_aside_and_never_executed(
    serving: ScheduledStores, app: Cronq, redis: Redis, now: float, trap: Path, wrap: Any
) -> None:
    plant(redis, "bad", now, meta=pickle.dumps(wrap(Trap(trap))))
    plant(redis, "good", now + 1)

    serving.once(now)

    assert queued(redis) == ["good"]
    assert "system" in aside(redis, "bad")
    assert not redis.exists(STORE)
    assert [(view.id, view.kind) for view in app.held_back()] == [("bad", "aside")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"meta": b"\x80\x05junk"}, "cannot be read"),
        ({"meta": pickle.dumps([1])}, "not a mapping"),
        ({"meta": pickle.dumps({"interval": "soon"})}, "interval"),
        ({"meta": pickle.dumps({"interval": -5})}, "interval"),
        ({"meta": pickle.dumps({"interval": 5, "repeat": "x"})}, "repeat"),
        ({"meta": pickle.dumps({"cron_string": "every day"})}, "fields"),
        ({"meta": pickle.dumps({"cron_string": "61 * * * *"})}, "61"),
        ({"meta": pickle.dumps({"cron_string": "0 0 1 1 * 2030"})}, "year"),
        ({"origin": ""}, "no queue"),
        ({"ttl": "soon"}, "cannot be read"),
        ({"ttl": "9" * 30}, "cannot be read"),
        ({"dependency_ids": "["}, "cannot be read"),
        ({"dependency_ids": "[1]"}, "cannot be read"),
    ],
)
def test_what_means_nothing_is_set_aside_with_its_reason_once(
    serving: ScheduledStores, redis: Redis, now: float, fields: dict[str, Any], words: str
) -> None:
    plant(redis, "odd", now, **fields)

    serving.once(now)
    reason = aside(redis, "odd")
    redis.delete("cronq:aside")
    serving.once(now + 1)

    assert words in reason
    assert not redis.exists("cronq:aside", STORE, "rq:queue:default")


@pytest.mark.parametrize("score", [float("-inf"), -1e300, 0.0])
@pytest.mark.parametrize("meta", [{}, {"interval": 5}, {"cron_string": "* * * * *"}])
def test_a_time_that_is_none_holds_nothing_up(
    serving: ScheduledStores, redis: Redis, now: float, score: float, meta: dict[str, Any]
) -> None:
    plant(redis, "odd", now, meta=pickle.dumps(meta))
    plant(redis, "good", now + 1)
    redis.zadd(STORE, {"odd": score})

    serving.once(now)

    assert "good" in queued(redis)
    assert not redis.zcount(STORE, "-inf", now)


def test_an_id_that_can_be_none_is_set_aside_and_one_without_a_job_is_dropped(
    serving: ScheduledStores, redis: Redis, now: float
) -> None:
    redis.zadd(STORE, {"a b:c": now - 5, b"\xff\xfe": now - 5, "gone": now - 5, "x" * 2000: now - 5})

    serving.once(now)

    assert not redis.exists(STORE)
    assert {key[:5] for key in redis.hkeys("cronq:aside")} == {b"a b:c", b"\xff\xfe", b"xxxxx"}


DEEP = b"(N" + b"\x85" * 30_000 + b"Nu."  #: {((((None,),),),): None}, deeper than the C stack of some threads


@pytest.mark.parametrize(
    ("meta", "why"),
    [
        (b"\x80\x04}" + DEEP, "nested more than 1,000 deep"),
        (b"\x80\x04}" + b"0}" * 40_000 + DEEP, "bytes in one field"),
        (b'{"a": ' + b"[" * 30_000, "nested more than 100 deep"),
        (b'{"repeat": Infinity, "interval": 5}', "no number"),
    ],
    ids=["deep", "large", "deep JSON", "infinite"],
)
def test_a_meta_that_would_end_its_reader_is_set_aside_and_the_next_entry_is_served(
    scheduler: Scheduler, serving: ScheduledStores, redis: Redis, now: float, meta: bytes, why: str
) -> None:
    poison, good = scheduler.enqueue_at(naive(now - 5), work), scheduler.enqueue_at(naive(now - 1), work)
    redis.hset(poison.key, "meta", meta)

    serving.once(now)

    assert queued(redis) == [good.id]
    assert why in json.loads(redis.hget("cronq:aside", poison.id) or b"")["reason"]


def test_a_large_meta_of_rqs_own_delayed_jobs_is_nobodys_business(
    serving: ScheduledStores, redis: Redis, now: float
) -> None:
    job = Queue("low", connection=redis).enqueue_at(datetime.fromtimestamp(now - 5, UTC), work, meta={"a": "x" * 10**5})

    serving.once(now)

    assert queued(redis, "low") == [job.id]


def test_a_job_of_a_wrong_type_is_set_aside(serving: ScheduledStores, redis: Redis, now: float) -> None:
    redis.set("rq:job:text", "junk")
    redis.zadd(STORE, {"text": now - 5})

    serving.once(now)

    assert "wrong type" in aside(redis, "text")


def test_what_cannot_be_queued_now_does_not_crowd_out_the_rest(
    serving: ScheduledStores, redis: Redis, now: float
) -> None:
    redis.set("rq:queue:bad", "junk")
    for number in range(260):
        plant(redis, f"bad-{number}", now - 100, origin="bad")
    plant(redis, "good", now)

    serving.once(now)

    assert queued(redis) == ["good"]
    assert redis.zcard(STORE) == 260


# Other schedulers


def test_the_locks_are_held_under_one_value_and_renewed(app: Cronq, redis: Redis, now: float) -> None:
    redis.sadd("rq:queues", "rq:queue:default")
    for beat in ("one", "two"):
        app.scheduled_stores(beat).once(now)

    for lock in ("rq:scheduler_lock", "rq:scheduler-lock:default"):
        assert redis.get(lock) == b"cronq beats of cronq"
        assert 30 < redis.ttl(lock) <= 40


def test_stock_schedulers_get_no_lock_beside_beats(
    serving: ScheduledStores, scheduler: Scheduler, redis: Redis, now: float
) -> None:
    redis.sadd("rq:queues", "rq:queue:default")
    serving.once(now)
    stock = RQScheduler(["default"], connection=redis)
    stock._connection = redis

    assert not scheduler.acquire_lock()
    assert stock.acquire_locks() == set()
    scheduler.remove_lock()
    stock.release_locks()
    assert redis.get("rq:scheduler_lock") == redis.get("rq:scheduler-lock:default") == b"cronq beats of cronq"


def test_a_store_that_somebody_else_serves_is_left_alone_until_its_lock_ends(
    serving: ScheduledStores, scheduler: Scheduler, redis: Redis, now: float, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set("rq:scheduler_lock", now)
    redis.set("rq:scheduler-lock:low", "worker-1")
    Queue("low", connection=redis).enqueue_at(datetime.fromtimestamp(now - 5, UTC), work, job_id="own")
    scheduler.enqueue_at(naive(now - 5), work, job_id="theirs")

    for _ in range(3):
        serving.once(now)

    assert queued(redis) == queued(redis, "low") == []
    assert sum("WAITING" in line for line in caplog.messages) == 2
    redis.delete("rq:scheduler_lock", "rq:scheduler-lock:low")
    serving.once(now)
    assert (queued(redis), queued(redis, "low")) == (["theirs"], ["own"])
    assert ScheduledJobRegistry("low", connection=redis).count == 0


def test_an_entry_whose_lock_was_lost_meanwhile_is_not_served(
    serving: ScheduledStores, scheduler: Scheduler, redis: Redis, now: float
) -> None:
    from cronq.interop.rq_scheduler import order_for

    scheduler.enqueue_at(naive(now - 5), work, job_id="theirs")
    entries = serving._look(now, {})
    redis.set("rq:scheduler_lock", "somebody")

    assert serving.serve([order_for(each, now, "UTC") for each in entries], now) == [("held", "")]
    assert queued(redis) == []


def test_what_was_moved_between_reading_and_serving_is_not_served(
    serving: ScheduledStores, scheduler: Scheduler, redis: Redis, now: float
) -> None:
    from cronq.interop.rq_scheduler import order_for

    job = scheduler.enqueue_at(naive(now - 5), work, job_id="theirs")
    entries = serving._look(now, {})
    scheduler.change_execution_time(job, naive(now + 100))

    assert serving.serve([order_for(each, now, "UTC") for each in entries], now) == [("taken", "")]
    assert job in scheduler


def test_what_a_dying_stock_scheduler_left_in_its_store_is_not_run_again(
    serving: ScheduledStores, scheduler: Scheduler, redis: Redis, now: float
) -> None:
    job = scheduler.enqueue_at(naive(now - 5), work, job_id="once")
    scheduler.get_queue_for_job(job).enqueue_job(job)  # and killed before it could remove it
    finish(redis, "once")

    serving.once(now)

    assert queued(redis) == []
    assert not redis.exists(STORE)


def test_switched_off_nothing_is_served_and_no_lock_is_taken(redis: Redis, scheduler: Scheduler, now: float) -> None:
    app = Cronq(config=Config(serve_rq_scheduler=False), registry=Registry(), client=redis)
    scheduler.enqueue_at(naive(now - 5), work)

    beat = app.beat()
    beat.pass_once()
    beat.do_chores()

    assert beat.serving is None
    assert queued(redis) == []
    assert not redis.exists(*LOCKS)


def test_a_worker_that_was_given_up_does_not_come_back_among_those_at_work(app: Cronq, redis: Redis) -> None:
    queue = Queue("default", connection=redis)
    job = queue.enqueue(work, 1)
    job.set_status(JobStatus.STARTED)
    watch = InProgress(redis, app.keys, lost_after_s=3.0)
    with redis.pipeline() as pipe:
        watch.begins(job, "e", 1.0, pipe)
        pipe.execute()
    watch.settle_silent(redis.zrange(app.keys.foreign, 0, -1))

    watch.alive(job, "e", 9.0)

    assert job.get_status(refresh=True) == JobStatus.FAILED
    assert not redis.exists(app.keys.foreign), "else its death would end what another worker has begun"


def bomb() -> bytes:
    """300 MB of zeros, in some hundred kilobytes."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def test_a_lost_job_that_would_unpack_to_all_memory_is_settled_without_being_unpacked(app: Cronq, redis: Redis) -> None:
    queue = Queue("default", connection=redis)
    lost, retried = queue.create_job(work), queue.create_job(work, retry=Retry(max=1))
    waiting = queue.create_job(work, depends_on=lost)
    for job in (lost, retried, waiting):
        job.save()
        redis.hset(job.key, mapping={"status": "started", "data": bomb(), "exc_info": bomb()})
    redis.sadd(lost.dependents_key, waiting.id)
    before = peak_mib()

    watch = InProgress(redis, app.keys, lost_after_s=30)
    watch.settle_silent([f"e:{job.id}:default".encode() for job in (lost, retried)])

    assert peak_mib() - before < 100
    assert [redis.hget(job.key, "status") for job in (lost, retried)] == [b"failed", b"queued"]
    assert redis.hget(retried.key, "data") == bomb()


def test_what_ends_its_workers_before_it_begins_is_set_aside_after_three_put_backs(
    app: Cronq, redis: Redis, now: float
) -> None:
    job = Queue("default", connection=redis).enqueue(work)
    sweep = Sweep(redis, app.keys, app.runs, by="beat test", timing=Timing(30))
    looks = 0
    while redis.lmove("rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT"):
        looks += 1
        sweep.popped.unpop("rq:queue:default", job.id.encode(), now)

    assert looks == 4
    assert redis.hget(job.key, "status") == b"failed"
    assert "popped 4 times by workers that vanished" in str(job.latest_result().exc_string)  # type: ignore[union-attr]
    job.requeue()
    redis.lmove("rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT")
    sweep.popped.unpop("rq:queue:default", job.id.encode(), now)
    assert queued(redis) == [job.id]
