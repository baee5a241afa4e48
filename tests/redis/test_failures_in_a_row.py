"""A job whose runs keep failing: it is paused in the step that records the last of them, and once."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.views import job_row
from cronq.beat.sweep import Sweep
from cronq.definitions.changes import Changes
from cronq.jobs.spec import JobSpec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.run import Ending, Settlement, Start
from cronq.runs.timing import Timing
from tests.redis.test_planted_values import WRONG

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
Store = Callable[..., JobSpec]


def changes(app: Cronq, now_s: float) -> Changes:
    return Changes(app.jobs, app.claimer("ann@box"), app.bulk_stop, app.calendars, lambda: now_s, 86400)


def started(app: Cronq, minute: int) -> str:
    """The run of that tick, claimed by a beat and begun by a worker."""
    now_s = T + minute * MINUTE + 0.5
    app.beat().pass_once(now_s)
    run = app.runs.run_at("invoices", T + minute * MINUTE)
    assert run is not None
    assert run.state == "queued", f"{run.outcome}: {run.reason}"
    app.client.lmove("rq:queue:default", "rq:queue:default:intermediate")
    start = Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=now_s, seen_s=now_s)
    assert app.runs.start(run, start).code == "started"
    return run.run_id


def ended(app: Cronq, minute: int, outcome: str = "failed") -> None:
    run = app.runs.get(started(app, minute))
    ending = Ending(Settlement(outcome, "because"), by="worker w", now_s=T + minute * MINUTE + 5.25, execution="e")
    assert app.runs.settle(run, ending)


def recorded(app: Cronq, minute: int) -> tuple[str | None, str | None]:
    app.beat().pass_once(T + minute * MINUTE + 0.5)
    run = app.runs.run_at("invoices", T + minute * MINUTE)
    assert run is not None
    return run.outcome, run.reason


def pauses_told(redis: Redis) -> int:
    return [fields[b"type"] for _, fields in redis.xrange("cronq:events")].count(b"job_paused")


def test_so_many_failures_in_a_row_pause_the_job_and_its_next_ticks_say_why(
    app: Cronq, redis: Redis, store: Store
) -> None:
    store("invoices", mark=T - 1, pause_after_failures=3)

    for minute, outcome in enumerate(("failed", "timed_out")):
        ended(app, minute, outcome)
    assert app.jobs.get("invoices").state.pause is None
    ended(app, 2)

    job = app.jobs.get("invoices")
    row = job_row(job, {}, T + 3 * MINUTE)
    assert (row["status"], row["streak"]) == ("paused", -3)
    assert row["paused"] == {
        "since": "2026-01-05T07:02:05Z", "by": "cronq", "note": "paused after 3 failures in a row", "until": None,
    }  # fmt: skip
    words = "paused since 2026-01-05T07:02:05Z by cronq: paused after 3 failures in a row"
    assert recorded(app, 3) == ("paused", words)
    assert pauses_told(redis) == 1


def test_a_success_begins_the_count_anew_and_a_stopped_run_leaves_it_as_it_is(app: Cronq, store: Store) -> None:
    store("invoices", mark=T - 1, pause_after_failures=2)

    for minute, outcome in enumerate(("failed", "succeeded", "failed", "stopped")):
        ended(app, minute, outcome)
    assert app.jobs.get("invoices").state.pause is None

    ended(app, 4)
    assert app.jobs.get("invoices").state.pause is not None


def test_a_job_without_the_option_goes_on(app: Cronq, store: Store) -> None:
    store("invoices", mark=T - 1)

    for minute in range(5):
        ended(app, minute)

    assert app.jobs.get("invoices").state.pause is None


def test_after_it_is_resumed_it_takes_as_many_failures_again(app: Cronq, redis: Redis, store: Store) -> None:
    store("invoices", mark=T - 1, pause_after_failures=2)
    ended(app, 0)
    ended(app, 1)
    assert changes(app, T + 2 * MINUTE - 30).resume("invoices")

    ended(app, 2)
    assert app.jobs.get("invoices").state.pause is None
    ended(app, 3)

    pause = app.jobs.get("invoices").state.pause
    assert pause is not None
    assert pause.note == "paused after 2 failures in a row"
    assert pauses_told(redis) == 2


def test_a_success_after_it_was_resumed_forgets_the_failures_before(app: Cronq, store: Store) -> None:
    store("invoices", mark=T - 1, pause_after_failures=3)
    for minute in range(3):
        ended(app, minute)
    changes(app, T + 3 * MINUTE - 30).resume("invoices")
    ended(app, 3, "succeeded")

    for minute in (4, 5):
        ended(app, minute)
    assert app.jobs.get("invoices").state.pause is None
    ended(app, 6)
    assert app.jobs.get("invoices").state.pause is not None


def test_a_run_that_the_sweep_settles_as_lost_counts_too(app: Cronq, redis: Redis, store: Store) -> None:
    store("invoices", mark=T - 1, pause_after_failures=2)
    ended(app, 0)
    started(app, 1)
    sweep = Sweep(redis, app.keys, app.runs, by="beat box.1", timing=Timing(0.0))
    sweep.once(T + 1.0)

    sweep.once(T + 2 * MINUTE - 5.0)

    job = app.jobs.get("invoices")
    assert job.state.last_outcome == "lost"
    assert job.state.pause is not None
    assert recorded(app, 2)[0] == "paused"
    assert pauses_told(redis) == 1


def test_a_tick_that_was_decided_before_does_not_slip_through(app: Cronq, store: Store) -> None:
    """The beat had read the job while it was not paused yet: it decides anew."""
    spec = store("invoices", mark=T - 1, pause_after_failures=1, overlap="allow")
    tick = T + MINUTE
    claim = TickClaim(spec, app.jobs.version_of("invoices"), Decision(tick, None, "due", "schedule", tick + MINUTE))
    ended(app, 0)

    assert [each.code for each in app.claimer("beat").claim_due([claim], "token", tick + 0.5)] == ["stale"]

    assert app.runs.run_at("invoices", tick) is None
    assert recorded(app, 1)[0] == "paused"


@pytest.mark.parametrize(
    "pause", ["junk", "5", '{"since": 1}', '{"since": 1, "until": null}', '{"since": 1, "until": true}',
              '{"since": 1, "until": [5]}', '{"since": 1, "until": "7"}', '{"since": 1, "until": 1e300}'],
)  # fmt: skip
def test_whatever_pause_is_planted_each_tick_is_recorded(app: Cronq, redis: Redis, store: Store, pause: str) -> None:
    store("invoices", mark=T - 1)
    redis.hset("cronq:job:invoices:state", "pause", pause)

    app.beat().pass_once(T + 0.5)

    assert app.runs.run_at("invoices", T) is not None


def test_a_pause_of_a_person_stays_and_one_that_is_over_is_replaced(app: Cronq, redis: Redis, store: Store) -> None:
    store("invoices", mark=T - 1, pause_after_failures=1)
    run_id = started(app, 0)
    changes(app, T + 1.0).pause("invoices", by="ann", note="on holiday", until_s=T + 3.0)
    run = app.runs.get(run_id)
    by_then = redis.hget("cronq:job:invoices:state", "pause")
    assert app.runs.settle(run, Ending(Settlement("failed", "x"), by="w", now_s=T + 2.0, execution="e"))
    assert redis.hget("cronq:job:invoices:state", "pause") == by_then

    ended(app, 1)

    pause = app.jobs.get("invoices").state.pause
    assert pause is not None
    assert (pause.by, pause.note) == ("cronq", "paused after 2 failures in a row")


def test_the_option_can_be_taken_away_again(app: Cronq, store: Store) -> None:
    spec = store("invoices", mark=T - 1, pause_after_failures=1)
    version = app.jobs.version_of("invoices")
    plain = JobSpec(name="invoices", function=spec.function, cron=spec.cron)
    app.jobs.save(plain, source="here:1", origin="test", expected=version)

    ended(app, 0)

    assert app.jobs.get("invoices").state.pause is None


@pytest.mark.parametrize("key", ["cronq:job:invoices", "cronq:job:invoices:state", "cronq:events"])
def test_a_key_of_a_wrong_type_pauses_nothing_by_half_and_settles_the_run(
    app: Cronq, redis: Redis, store: Store, key: str
) -> None:
    store("invoices", mark=T - 1, pause_after_failures=1)
    run = app.runs.get(started(app, 0))
    redis.delete(key)
    WRONG["list" if key != "cronq:events" else "hash"](redis, key)

    assert app.runs.settle(run, Ending(Settlement("failed", "because"), by="w", now_s=T + 5.0, execution="e"))

    assert app.runs.get(run.run_id).outcome == "failed"
    if key == "cronq:job:invoices":  # nobody knows how many it may be
        assert redis.hmget("cronq:job:invoices:state", "pause", "streak") == [None, b"-1"]
    elif key == "cronq:events":  # nothing hangs on the event
        assert json.loads(redis.hget("cronq:job:invoices:state", "pause") or "")["by"] == "cronq"
