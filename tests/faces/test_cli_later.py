"""`run --in`, `run --at`, `delayed`, `reschedule`, `adopt`, `stop`: what is due later, on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq_scheduler import Scheduler

from cronq import Cronq
from tests.faces.conftest import Answer
from tests.redis.foreign_jobs import work

Cli = Callable[..., Answer]
KEYS = {"id", "kind", "job", "queue", "due", "repeats", "note"}
STORE = "rq:scheduler:scheduled_jobs"


@pytest.fixture
def tidy(app: Cronq) -> str:
    app.add("tidy", command=["true"])
    return "tidy"


def test_a_run_for_later_is_made_shown_moved_and_stopped(cronq: Cli, app: Cronq, tidy: str) -> None:
    made = cronq("run", tidy, "--in", "5m")
    run_id = made.out.strip()
    assert (made.code, made.err) == (0, "")
    assert re.fullmatch(r"tidy-m[0-9a-f]{8}", run_id)

    shown = cronq("delayed").out
    assert "in 5m" in shown
    assert run_id in shown
    assert "delayed until" in cronq("history", tidy).out

    assert cronq("reschedule", run_id, "--in", "2h").code == 0
    assert "in 2h" in cronq("delayed").out

    stopped = cronq("stop", run_id)
    assert (stopped.code, stopped.out) == (0, f"{run_id}\n")
    assert app.runs.get(run_id).outcome == "stopped"
    assert cronq("delayed").err == "cronq: nothing is held back\n"


def test_at_a_moment_is_utc_unless_it_says_otherwise(cronq: Cli, redis: Redis, tidy: str) -> None:
    for text in ("2030-01-01T00:00", "2030-01-01T01:00+01:00"):
        assert cronq("run", tidy, "--at", text).code == 0

    assert {score for _, score in redis.zrange(STORE, 0, -1, withscores=True)} == {
        datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    }


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "tidy", "--in", "soon"), 2),
        (("run", "tidy", "--at", "soon"), 2),
        (("run", "tidy", "--at", "0001-01-01T00:00+14:00"), 2),
        (("run", "tidy", "--at", "9999-12-31T23:59-14:00"), 2),
        (("run", "tidy", "--in", "5m", "--at", "2030-01-01"), 2),
        (("run", "tidy", "--in", "6000w"), 78),
        (("run", "nobody", "--in", "5m"), 2),
        (("reschedule", "tidy-m00000000", "--in", "5m"), 2),
        (("reschedule", "tidy-m00000000"), 2),
        (("adopt", "nothing"), 2),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(
    cronq: Cli, redis: Redis, tidy: str, words: tuple[str, ...], code: int
) -> None:
    said = cronq(*words)

    assert said.code == code
    assert said.complaint.startswith("cronq: ")
    assert not redis.exists(STORE)


def test_delayed_json_has_all_that_is_held_back(cronq: Cli, app: Cronq, redis: Redis, tidy: str) -> None:
    start = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=50)
    Scheduler(connection=redis).schedule(start, work, [1], interval=60, repeat=3, id="steady", queue_name="low")
    Queue("other", connection=redis).enqueue_in(timedelta(seconds=70), work, job_id="own")
    redis.zadd(STORE, {"ghost": start.replace(tzinfo=UTC).timestamp() + 100})
    redis.hset("cronq:aside", "odd", json.dumps({"store": "", "reason": "its meta means nothing"}))
    run_id = cronq("run", tidy, "--in", "60s").out.strip()

    found: list[dict[str, Any]] = json.loads(cronq("delayed", "--json").out)

    assert all(set(each) == KEYS for each in found)
    assert [(each["id"], each["kind"], each["job"], each["queue"], each["repeats"]) for each in found] == [
        ("steady", "rq-scheduler", "tests.redis.foreign_jobs.work", "low", "every 60s, 3 left"),
        (run_id, "run", "tidy", "default", None),
        ("own", "rq", "tests.redis.foreign_jobs.work", "other", None),
        ("ghost", "rq-scheduler", None, None, None),
        ("odd", "aside", None, None, None),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[0]["due"])
    assert found[-1]["note"] == "its meta means nothing"
    assert cronq("delayed").out.count("\n") == 6


def test_stop_takes_a_foreign_job_out_of_rq_schedulers_store(cronq: Cli, app: Cronq, redis: Redis) -> None:
    Scheduler(connection=redis).schedule(datetime(2030, 1, 1), work, interval=60, id="steady")

    assert cronq("stop", "steady").out == "steady\n"

    assert not redis.exists(STORE)
    assert cronq("stop", "steady").code == 2


def test_a_foreign_job_is_moved_as_well(cronq: Cli, app: Cronq, redis: Redis) -> None:
    Scheduler(connection=redis).enqueue_at(datetime(2030, 1, 1), work, job_id="once")

    assert cronq("reschedule", "once", "--at", "2031-01-01").code == 0

    assert redis.zscore(STORE, "once") == datetime(2031, 1, 1, tzinfo=UTC).timestamp()
    assert not redis.exists("cronq:run:once")


def test_a_number_that_is_no_time_is_shown_as_such(cronq: Cli, app: Cronq, redis: Redis) -> None:
    Scheduler(connection=redis).schedule(datetime(2030, 1, 1), work, interval=60, id="steady")
    redis.zadd(STORE, {"steady": 1e300, "never": float("inf"), "always": float("-inf")})

    found = json.loads(cronq("delayed", "--json").out)

    assert {view["id"]: (view["due"], view["note"].split()[0]) for view in found} == {
        "steady": (None, "1e+300"), "never": (None, "inf"), "always": (None, "-inf")
    }  # fmt: skip
    assert "1e+300 is no time; reschedule or stop it" in cronq("delayed").out
    assert cronq("reschedule", "steady", "--in", "5m").code == 0
    assert "in 5m" in cronq("delayed").out


def test_a_store_of_a_wrong_type_is_shown_and_hides_nothing(cronq: Cli, app: Cronq, redis: Redis) -> None:
    Queue("low", connection=redis).enqueue_in(timedelta(hours=1), work)
    for key in (STORE, "cronq:aside"):
        redis.set(key, "junk")

    lines = cronq("delayed").out.splitlines()[1:]

    assert len(lines) == 3
    for key in (STORE, "cronq:aside"):
        assert any(key in line and "cannot be read: WRONGTYPE" in line for line in lines)
