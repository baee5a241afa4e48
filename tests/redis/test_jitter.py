"""Jitter through the beat: the agenda says when a tick is due to be queued, all else is about the tick."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.upcoming import upcoming_ticks
from cronq.app.views import job_row
from cronq.jobs.calendar import NO_CALENDARS
from cronq.jobs.spec import JobSpec, make_spec
from tests.redis.test_finished import changes

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR = 60, 3600


@pytest.fixture
def spec(app: Cronq) -> JobSpec:
    """An hourly job, and the delay of its next tick is some minutes."""
    spec = make_spec("invoices", command=["true"], cron="0 * * * *", jitter="30m", overlap="allow")
    assert changes(app, T - 10.0).save(spec, source="here:1", origin="test") == "created"
    assert due(spec, T) > T + 2 * MINUTE
    return spec


def due(spec: JobSpec, tick: int) -> int:
    found = spec.due_s(tick)
    assert found is not None
    return found


def ledger(app: Cronq) -> dict[int, str]:
    rows = app.history("invoices", 100)
    return {(row.tick - T) // HOUR: row.outcome or row.state for row in rows if row.tick is not None}


def on_agenda(redis: Redis) -> float | None:
    return redis.zscore("cronq:agenda", "invoices")  # type: ignore[return-value]


def test_a_tick_is_queued_when_its_delay_is_over_under_its_own_time(app: Cronq, redis: Redis, spec: JobSpec) -> None:
    assert on_agenda(redis) == due(spec, T)
    beat = app.beat()
    result = beat.pass_once(due(spec, T) - 0.5)
    assert ledger(app) == {}
    assert result.wait_s <= 0.6

    beat.pass_once(due(spec, T) + 0.2)

    (row,) = app.history("invoices", 10)
    assert (row.run_id, row.tick, row.trigger) == ("invoices-20260105T070000Z", T, "schedule")
    assert row.queued_at == due(spec, T) + 0.2
    assert on_agenda(redis) == due(spec, T + HOUR)


def test_list_and_next_tell_the_tick(app: Cronq, spec: JobSpec) -> None:
    job = app.jobs.get("invoices")

    assert job_row(job, {}, T + MINUTE)["next"] == "2026-01-05T07:00:00Z"
    assert job_row(job, {}, T + 2.0 * MINUTE)["status"] == "never", "it is not late while its delay lasts"
    for now_s in (T - 5.0, T + MINUTE):
        assert [each.tick for each in upcoming_ticks([job], now_s, 2, NO_CALENDARS)] == [T, T + HOUR]
    assert [each.tick for each in upcoming_ticks([job], due(spec, T) + 1.0, 1, NO_CALENDARS)] == [T + HOUR]


def test_what_beats_look_at_again_stays_where_it_was(app: Cronq, redis: Redis, spec: JobSpec) -> None:
    chores = {each.name: each for each in app.beat().chores}

    chores["audit"].work(T + 1.0)
    assert on_agenda(redis) == due(spec, T)
    redis.zrem("cronq:agenda", "invoices")
    chores["audit"].work(T + 2.0)
    assert on_agenda(redis) == due(spec, T)

    redis.zadd("cronq:agenda", {"invoices": T})  # as a beat that knew no jitter would have it
    app.beat().pass_once(T + 1.0)
    assert ledger(app) == {}
    assert on_agenda(redis) == due(spec, T)


def test_a_lost_mark_skips_no_tick_whose_delay_lasts(app: Cronq, redis: Redis, spec: JobSpec) -> None:
    app.beat().pass_once(due(spec, T) + 0.5)
    redis.hdel("cronq:job:invoices:state", "mark")

    beat = app.beat()
    for second in (1.0, 2.0):
        beat.pass_once(due(spec, T + HOUR) + second)

    assert ledger(app) == {0: "queued", 1: "queued"}


@pytest.mark.parametrize(
    "change",
    [
        lambda changes, spec: changes.pause("invoices", by="ann"),
        lambda changes, spec: changes.save(
            make_spec("invoices", command=["true"], cron="30 * * * *"), source="here:1", origin="test"
        ),
    ],
    ids=["pause", "edit"],
)
def test_a_tick_whose_delay_lasts_when_the_job_changes_is_recorded(
    app: Cronq, spec: JobSpec, change: Callable[..., object]
) -> None:
    change(changes(app, T + 30.0), spec)

    assert ledger(app) == {0: "missed"}


def test_a_tick_whose_delay_lasts_can_be_skipped(app: Cronq, spec: JobSpec) -> None:
    assert changes(app, T + 30.0).skip("invoices", 1, by="ann") == [T]

    app.beat().pass_once(due(spec, T) + 0.5)

    assert ledger(app) == {0: "skipped"}


def test_ticks_of_an_outage_are_caught_up_and_the_next_waits_for_its_delay(app: Cronq, spec: JobSpec) -> None:
    now = T + 3 * HOUR + 1.0
    assert due(spec, T + 3 * HOUR) > now

    app.beat().pass_once(now)

    assert ledger(app) == {0: "coalesced", 1: "coalesced", 2: "queued"}


def test_a_job_without_jitter_is_due_at_its_time(app: Cronq, redis: Redis) -> None:
    plain = make_spec("invoices", command=["true"], cron="0 * * * *")
    changes(app, T - 10.0).save(plain, source="here:1", origin="test")

    assert on_agenda(redis) == T
