"""Jobs whose ticks come to an end: each tick once, nothing before and after, and then they are finished."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.upcoming import upcoming_ticks
from cronq.app.views import job_document
from cronq.definitions.changes import Changes
from cronq.jobs.calendar import NO_CALENDARS
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import decide

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
    assert upcoming_ticks([app.jobs.get("a")], T + 10 * MINUTE, 5, NO_CALENDARS) == []


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


# So many ticks


def test_a_job_has_as_many_ticks_as_repeat_says_and_is_finished(app: Cronq, redis: Redis) -> None:
    added(app, T, cron="* * * * *", overlap="allow", repeat=3)
    passes(app, 1, 2)
    assert job_document(app.jobs.get("a"), {}, T + 2 * MINUTE)["ticks"] == 2
    assert [each.tick for each in upcoming_ticks([app.jobs.get("a")], T + 2.5 * MINUTE, 5, NO_CALENDARS)] == [
        T + 3 * MINUTE
    ]

    passes(app, 3, 8)

    assert ticks(app) == [1, 2, 3]
    assert redis.zscore("cronq:agenda", "a") is None
    redis.delete("cronq:job:a:active")
    assert status(app, T + 8 * MINUTE) == "finished"


def test_ticks_count_from_the_start(app: Cronq) -> None:
    added(app, T, cron="* * * * *", overlap="allow", repeat=2, start="2026-01-05T07:04")

    passes(app, 1, 9)

    assert ticks(app) == [4, 5]


def test_ticks_that_are_skipped_paused_or_missed_count(app: Cronq) -> None:
    added(app, T, cron="* * * * *", repeat=5)
    passes(app, 1, 2)  # the first runs, and the second meets it
    changes(app, T + 2.5 * MINUTE).pause("a", by="ann")
    passes(app, 3, 3)
    changes(app, T + 4.5 * MINUTE).resume("a")

    passes(app, 5, 9)

    found = {(row.tick or 0) - T: row.outcome or row.state for row in app.history("a", 20)}
    assert found == {60: "queued", 120: "skipped", 180: "paused", 240: "paused", 300: "skipped"}


def test_what_no_beat_saw_counts_too_and_of_many_the_first_are_meant(app: Cronq) -> None:
    added(app, T, cron="* * * * *", repeat=30, keep=10)

    passes(app, 100, 101)

    assert app.jobs.get("a").state.ticks == 30
    assert ticks(app)[-1] == 30
    assert max(ticks(app)) == 30


def test_two_beats_that_look_at_once_agree_on_the_count(app: Cronq) -> None:
    spec = added(app, T, cron="* * * * *", overlap="allow", catchup="all", repeat=3)
    version = app.jobs.version_of("a")
    claims = [TickClaim(spec, version, each) for each in decide(spec, T, None, T + 2 * MINUTE)]
    app.claimer("first").claim_due(claims[:1], "one", T + 2 * MINUTE)

    answers = app.claimer("second").claim_due(claims, "two", T + 2 * MINUTE)

    assert [each.code for each in answers] == ["old", "won"]
    assert app.jobs.get("a").state.ticks == 2
    passes(app, 3, 6)
    assert ticks(app) == [1, 2, 3]


def test_a_claim_that_is_sent_again_counts_once(app: Cronq) -> None:
    spec = added(app, T, cron="* * * * *", repeat=3)
    version = app.jobs.version_of("a")
    claims = [TickClaim(spec, version, each) for each in decide(spec, T, None, T + MINUTE)]

    answers = [app.claimer("beat").claim_due(claims, "token", T + MINUTE)[0].code for _ in range(2)]

    assert answers == ["won", "mine"]
    assert app.jobs.get("a").state.ticks == 1


def test_a_larger_repeat_gives_more_ticks_and_without_it_the_count_is_forgotten(app: Cronq) -> None:
    spec = added(app, T, cron="* * * * *", overlap="allow", repeat=2)
    passes(app, 1, 4)

    changes(app, T + 4.5 * MINUTE).save(replace(spec, repeat=3), source="here:1", origin="test")
    passes(app, 5, 7)
    assert ticks(app) == [1, 2, 5]

    changes(app, T + 7.5 * MINUTE).save(replace(spec, repeat=None), source="here:1", origin="test")
    changes(app, T + 7.6 * MINUTE).save(replace(spec, repeat=1), source="here:1", origin="test")
    passes(app, 8, 10)
    assert ticks(app) == [1, 2, 5, 8]


def test_an_audit_and_a_repair_leave_it_finished(app: Cronq, redis: Redis) -> None:
    added(app, T, cron="* * * * *", overlap="allow", repeat=1)
    passes(app, 1, 2)
    (audit,) = [each for each in app.beat().chores if each.name == "audit"]

    audit.work(T + 9.0 * MINUTE)
    assert redis.zscore("cronq:agenda", "a") is None

    redis.zadd("cronq:agenda", {"a": T + 5 * MINUTE})  # as somebody may have planted it
    passes(app, 6, 7)
    assert redis.zscore("cronq:agenda", "a") is None
    assert ticks(app) == [1]


@pytest.mark.parametrize("count", ["junk", "-5", "1e300", ""])
def test_a_count_that_cannot_be_read_silences_nothing(app: Cronq, redis: Redis, count: str) -> None:
    added(app, T, cron="* * * * *", overlap="allow", repeat=2)
    redis.hset("cronq:job:a:state", "ticks", count)

    passes(app, 1, 2)

    assert ticks(app) == [1, 2]


def test_a_state_of_a_wrong_type_is_claimed_by_half_of_nothing(app: Cronq, redis: Redis) -> None:
    spec = added(app, T, cron="* * * * *", repeat=2)
    claims = [TickClaim(spec, app.jobs.version_of("a"), each) for each in decide(spec, T, None, T + MINUTE)]
    redis.delete("cronq:job:a:state")
    redis.rpush("cronq:job:a:state", "junk")
    before = sorted(redis.keys())

    assert app.claimer("beat").claim_due(claims, "token", T + MINUTE)[0].code == "broken"

    assert sorted(redis.keys()) == before
