"""Adopting a repeating job of rq-scheduler: in one step, due next when it would have been, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from rq_scheduler import Scheduler

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.errors import Conflict, CronqError, DefinitionError, UnknownRun
from cronq.interop.repeats import RQSchedulerCron
from cronq.jobs.registry import Registry
from tests.redis.foreign_jobs import work

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

STORE = "rq:scheduler:scheduled_jobs"
MODULE = "tests.redis.foreign_jobs"


@pytest.fixture
def app(redis: Redis) -> Cronq:
    config = Config(allow=("tests.redis",), rq_scheduler_tz="Europe/Berlin", host_id="box")
    return Cronq(config=config, registry=Registry(), client=redis)


@pytest.fixture
def now(app: Cronq) -> int:
    return int(app.exact_now_s())


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return Scheduler(connection=redis)


def naive(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC).replace(tzinfo=None)


def test_an_interval_becomes_a_job_with_all_that_it_says(app: Cronq, scheduler: Scheduler, now: int) -> None:
    scheduler.schedule(
        naive(now + 50), work, args=[1, "x"], kwargs={"b": [2]}, interval=60, id="steady", queue_name="low", timeout=30,
        description="keeps on", result_ttl=500,
    )  # fmt: skip

    spec = app.adopt("steady")

    job = app.jobs.get("work")
    assert job.spec == spec
    assert (spec.function, spec.args, spec.kwargs) == (f"{MODULE}:work", (1, "x"), {"b": [2]})
    assert (spec.every, spec.queue, spec.timeout, spec.description, spec.result_ttl) == (60, "low", 30, "keeps on", 500)
    assert job.next_tick is not None
    assert now - 10 <= job.next_tick <= now + 60
    assert job.source.startswith("adopted from rq-scheduler by")
    assert list(scheduler.get_jobs()) == []


def test_a_cron_job_is_due_next_when_it_would_have_been(app: Cronq, scheduler: Scheduler, redis: Redis) -> None:
    scheduler.cron("30 2 * * *", work, id="nightly")
    due = RQSchedulerCron("30 2 * * *", "Europe/Berlin").next_after(app.exact_now_s())
    assert due is not None
    redis.zadd(STORE, {"nightly": due})

    spec = app.adopt("nightly", name="night")

    assert (spec.cron, spec.tz) == ("30 2 * * *", "Europe/Berlin")
    assert app.jobs.get("night").next_tick == due


def test_what_is_due_and_was_not_served_is_a_tick_of_the_new_job(
    app: Cronq, scheduler: Scheduler, redis: Redis, now: int
) -> None:
    minute = now // 60 * 60
    scheduler.cron("* * * * *", work, id="minutely")
    redis.zadd(STORE, {"minutely": minute})

    app.adopt("minutely")

    assert app.jobs.get("work").next_tick == minute
    beat = app.beat()
    beat.epoch, _ = app.jobs.open_epoch()
    assert beat.pass_once(float(now)).codes == {"won": 1}
    beat.do_chores()
    assert redis.llen("rq:queue:default") == 1


def test_one_that_is_served_in_between_is_not_adopted(app: Cronq, scheduler: Scheduler, redis: Redis, now: int) -> None:
    scheduler.schedule(naive(now), work, interval=60, id="steady")
    save = app.jobs._save

    def and_meanwhile(**options: Any) -> Any:
        app.scheduled_stores("beat").once(now + 1)
        return save(**options)

    app.jobs._save = and_meanwhile

    with pytest.raises(Conflict):
        app.adopt("steady")

    assert app.jobs.names() == []
    assert redis.zscore(STORE, "steady") == now + 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"interval": None}, "due once"),
        ({"interval": 5, "repeat": 3}, "ends after 3 more"),
        ({"interval": 5, "args": [object]}, "JSON"),
        ({"interval": 5, "args": [datetime(2026, 1, 1)]}, "args"),
        ({"interval": 5, "queue_name": "a b"}, "queue"),
        ({"interval": 5, "func": "os.getpid"}, "CRONQ_ALLOW=os"),
    ],
)
def test_what_a_job_of_ours_cannot_say_is_refused_and_stays(
    app: Cronq, scheduler: Scheduler, redis: Redis, now: int, options: dict[str, Any], words: str
) -> None:
    options = {"func": work, **options}
    scheduler.schedule(naive(now + 50), options.pop("func"), id="odd", **options)

    with pytest.raises(CronqError, match=words):
        app.adopt("odd")

    assert app.jobs.names() == []
    assert redis.zscore(STORE, "odd") is not None


def test_a_name_that_is_taken_is_refused(app: Cronq, scheduler: Scheduler, now: int) -> None:
    scheduler.schedule(naive(now + 50), work, interval=60, id="one")
    scheduler.schedule(naive(now + 50), work, interval=60, id="two")
    app.adopt("one")

    with pytest.raises(DefinitionError, match="--name"):
        app.adopt("two")

    assert app.adopt("two", name="other").name == "other"


def test_a_command_does_not_take_the_place_of_an_adopted_function(app: Cronq, scheduler: Scheduler, now: int) -> None:
    scheduler.schedule(naive(now + 50), work, interval=60, id="one")
    adopted = app.adopt("one")

    with pytest.raises(DefinitionError, match="taken by the job at adopted from rq-scheduler"):
        app.add("work", command=["true"])

    assert app.jobs.get("work").spec == adopted


def test_an_id_that_nobody_holds_is_unknown(app: Cronq) -> None:
    with pytest.raises(UnknownRun):
        app.adopt("nobody")


def test_both_day_fields_are_refused(app: Cronq, scheduler: Scheduler) -> None:
    scheduler.cron("0 9 13 * 5", work, id="fridays")

    with pytest.raises(CronqError, match="both day fields"):
        app.adopt("fridays")


@pytest.mark.parametrize(
    ("due_s", "fields", "words"),
    [
        (7200, {}, "steady begins only in .*reschedule"),
        (float("inf"), {}, "steady begins only in"),
        (50, {"timeout": "abc"}, "steady cannot be adopted: timeout: 'abc'"),
        (50, {"result_ttl": "x"}, "steady cannot be adopted: result_ttl: 'x'"),
        (50, {"meta": b"junk"}, "steady cannot be adopted: its meta"),
    ],
)
def test_what_cannot_go_on_as_it_is_says_which_entry_and_stays(
    app: Cronq, scheduler: Scheduler, redis: Redis, now: int, due_s: float, fields: dict[str, Any], words: str
) -> None:
    scheduler.schedule(naive(now + 50), work, interval=60, id="steady")
    redis.zadd(STORE, {"steady": now + due_s})
    if fields:
        redis.hset("rq:job:steady", mapping=fields)

    with pytest.raises(CronqError, match=words):
        app.adopt("steady")

    assert app.jobs.names() == []
    assert redis.zscore(STORE, "steady") == now + due_s
