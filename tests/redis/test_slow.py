"""Runs that take longer than `warn_after`: told of once in an attempt, and shown while they are at work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.views import job_row
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.run import Ending, Run, Settlement
from cronq.worker.active_run import ActiveRun, StopRequest
from tests.redis.conftest import renewed
from tests.redis.test_failures_in_a_row import T, started
from tests.redis.test_planted_values import WRONG

Store = Callable[..., JobSpec]


@pytest.fixture
def running(app: Cronq, store: Store) -> Run:
    store("invoices", mark=T - 1, warn_after="10s", on_lost="rerun")
    return app.runs.get(started(app, 0))


def renew(app: Cronq, run: Run, *, slow: bool) -> str:
    return renewed(app, run, "e", T + 20.0, slow=slow)


def told(redis: Redis) -> int:
    return [fields[b"type"] for _, fields in redis.xrange("cronq:events")].count(b"slow")


def shown(app: Cronq) -> str | None:
    found = job_row(app.jobs.get("invoices"), app.active_runs(["invoices"])["invoices"], T + 20.0)["slow"]
    assert found is None or isinstance(found, str)
    return found


def test_it_is_told_of_once_however_often_that_is_sent(app: Cronq, redis: Redis, running: Run) -> None:
    renew(app, running, slow=False)
    assert (told(redis), shown(app)) == (0, None)

    assert [renew(app, running, slow=True) for _ in range(3)] == ["", "", ""]

    assert (told(redis), shown(app)) == (1, running.run_id)


@pytest.mark.parametrize("outcome", ["succeeded", "timed_out", "lost"])
def test_when_it_has_ended_nothing_is_slow_any_more(app: Cronq, redis: Redis, running: Run, outcome: str) -> None:
    renew(app, running, slow=True)

    assert app.runs.settle(running, Ending(Settlement(outcome, "why"), by="w", now_s=T + 30.0, execution="e"))

    assert shown(app) is None
    assert redis.hget("cronq:job:invoices:state", "slow") is None
    assert redis.hget(f"cronq:run:{running.run_id}", "slow") is None


def test_the_next_attempt_is_told_of_anew(app: Cronq, redis: Redis, running: Run) -> None:
    renew(app, running, slow=True)
    lost = Ending(Settlement("lost", "why"), by="w", now_s=T + 30.0, attempt=1, execution="e")
    assert app.runs.rerun(running, lost, 3) == "queued"
    assert shown(app) is None
    again = app.runs.get(running.run_id)
    redis.hset(f"cronq:run:{running.run_id}", mapping={"state": "running", "execution": "e"})

    renew(app, again, slow=True)

    assert told(redis) == 2


def test_of_a_run_that_is_not_this_attempts_any_more_nothing_is_told(app: Cronq, redis: Redis, running: Run) -> None:
    assert app.runs.settle(running, Ending(Settlement("stopped", "why"), by="ann", now_s=T + 30.0))

    assert renew(app, running, slow=True) == "settled"

    assert told(redis) == 0


@pytest.mark.parametrize("key", ["cronq:events", "cronq:job:invoices:state"])
def test_a_key_of_a_wrong_type_hides_nothing_from_the_guardian(
    app: Cronq, redis: Redis, running: Run, key: str
) -> None:
    app.runs.ask_to_stop(running.run_id, "ann")
    redis.delete(key)
    WRONG["list"](redis, key)

    assert renew(app, running, slow=True).startswith("stop ann")

    assert redis.zscore("cronq:running", running.run_id) == T + 20.0


def test_a_guardian_notices_it_at_the_first_look_after_it_and_once() -> None:
    spec = make_spec("a", command=["true"], warn_after="10s")
    active = ActiveRun(Run("a-m00000001", "a", None, "running"), spec, StopRequest(), "w", "e", None, begun_boot=100.0)

    assert [active.becomes_slow(now) for now in (100.0, 109.9, 110.0, 111.0)] == [False, False, True, False]
    plain = ActiveRun(active.run, make_spec("a", command=["true"]), StopRequest(), "w", "e", None)
    assert plain.becomes_slow(10**6) is False
