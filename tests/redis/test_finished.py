"""Jobs whose ticks come to an end: each tick once, nothing before and after, and then they are finished."""

from __future__ import annotations

from dataclasses import replace

from redis import Redis

from cronq.app.app import Cronq
from cronq.app.upcoming import upcoming_ticks
from cronq.app.views import job_document
from cronq.definitions.changes import Changes
from cronq.jobs.spec import JobSpec, make_spec

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60


def changes(app: Cronq, now_s: float) -> Changes:
    return Changes(app.jobs, app.claimer("ann@box"), app.bulk_stop, app.calendars, lambda: now_s, 86400)


def added(app: Cronq, now_s: float, name: str = "a", **options: object) -> JobSpec:
    spec = make_spec(name, command=["true"], **options)
    assert changes(app, now_s).save(spec, source="here:1", origin="test") == "created"
    return spec


def passes(app: Cronq, first: int, last: int) -> None:
    """A beat looks every 20 s, from one minute after T to another."""
    beat = app.beat()
    for second in range(first * MINUTE, last * MINUTE + 1, 20):
        beat.pass_once(T + second)


def ticks(app: Cronq, name: str = "a") -> list[int]:
    """Minutes after T of the ticks in the ledger."""
    return sorted((row.tick - T) // MINUTE for row in app.history(name, 1000) if row.tick is not None)


def status(app: Cronq, now_s: float, name: str = "a") -> str:
    job = app.jobs.get(name)
    return job.status(app.active_runs([name])[name], now_s)


def test_only_ticks_from_the_start_to_the_end_are_recorded(app: Cronq, redis: Redis) -> None:
    added(app, T, cron="* * * * *", overlap="allow", start="2026-01-05T07:03", end="2026-01-05T07:05")
    assert app.jobs.get("a").next_tick == T + 3 * MINUTE

    passes(app, 1, 10)

    assert ticks(app) == [3, 4, 5]
    assert redis.zscore("cronq:agenda", "a") is None
    assert status(app, T + 10 * MINUTE) == "waiting"
    redis.delete("cronq:job:a:active")
    assert status(app, T + 10 * MINUTE) == "finished"
    document = job_document(app.jobs.get("a"), {}, T + 10 * MINUTE)
    assert (document["status"], document["next"]) == ("finished", None)
    assert document["meaning"] == "Every minute, from 2026-01-05T07:03:00Z on, until 2026-01-05T07:05:00Z"
    assert upcoming_ticks([app.jobs.get("a")], T + 10 * MINUTE) == []


def test_a_job_with_a_date_runs_once(app: Cronq, redis: Redis) -> None:
    added(app, T, at="2026-01-05T08:02", tz="Europe/Berlin")

    passes(app, 1, 6)

    assert ticks(app) == [2]
    redis.delete("cronq:job:a:active")
    assert status(app, T + 6 * MINUTE) == "finished"


def test_a_date_that_no_beat_saw_is_caught_up(app: Cronq) -> None:
    added(app, T, at="2026-01-05T07:02")

    passes(app, 30, 31)

    (row,) = app.history("a", 10)
    assert (row.tick, row.state, row.trigger) == (T + 2 * MINUTE, "queued", "catchup")


def test_a_job_that_is_added_after_its_end_is_finished_at_once(app: Cronq) -> None:
    added(app, T, at="2026-01-05T06:59")

    passes(app, 1, 3)

    assert ticks(app) == []
    assert status(app, T + 3 * MINUTE) == "finished"


def test_an_edit_gives_a_finished_job_ticks_again_but_none_of_the_past(app: Cronq) -> None:
    spec = added(app, T, cron="* * * * *", overlap="allow", end="2026-01-05T07:01")
    passes(app, 1, 5)

    changes(app, T + 5.5 * MINUTE).save(replace(spec, end=T + 7 * MINUTE), source="here:1", origin="test")
    passes(app, 6, 9)

    assert ticks(app) == [1, 6, 7]


def test_an_audit_leaves_a_finished_job_off_the_agenda(app: Cronq, redis: Redis) -> None:
    added(app, T, at="2026-01-05T07:01")
    passes(app, 1, 2)
    beat = app.beat()
    (audit,) = [each for each in beat.chores if each.name == "audit"]

    audit.work(T + 9.0 * MINUTE)

    assert redis.zscore("cronq:agenda", "a") is None


def test_a_pause_that_ends_after_the_end_is_recorded_to_the_end(app: Cronq) -> None:
    added(app, T, cron="* * * * *", end="2026-01-05T07:03")
    changes(app, T + 0.5 * MINUTE).pause("a", by="ann")
    passes(app, 1, 5)

    assert changes(app, T + 5.5 * MINUTE).resume("a")
    passes(app, 6, 8)

    assert {row.outcome for row in app.history("a", 10)} == {"paused"}
    assert ticks(app) == [1, 2, 3]
    assert status(app, T + 8 * MINUTE) == "finished"
