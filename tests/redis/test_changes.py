"""Adding, editing, pausing, resuming and removing: no tick fires from before the change, and none goes unrecorded."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
from redis import Redis
from rq import Queue

from cronq.app.app import Cronq
from cronq.definitions.changes import Changes
from cronq.errors import CronqError, DefinitionError, UnknownJob
from cronq.jobs.registry import Definition
from cronq.jobs.spec import JobSpec, make_spec

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
Store = Callable[..., JobSpec]
At = Callable[[float], Changes]


@pytest.fixture
def at(app: Cronq) -> At:
    """Changes that ann makes at a moment of our choice."""
    return lambda moment: Changes(app.jobs, app.claimer("ann@box"), app.bulk_stop, app.calendars, lambda: moment, 86400)


def outcomes(app: Cronq, name: str) -> dict[int, str]:
    """By minutes after T: the outcome of the tick, or its state while it is open."""
    rows = [row for row in app.history(name, 1000) if row.tick is not None]
    found = {(row.tick - T) // MINUTE: row.outcome or row.state for row in rows if row.tick is not None}
    assert len(found) == len(rows)
    return dict(sorted(found.items()))


def edited(spec: JobSpec, **options: object) -> JobSpec:
    fixed = {"cron": spec.cron, "catchup": spec.catchup, "overlap": spec.overlap}
    return make_spec(spec.name, function=spec.function, **{**fixed, **options})


# Adding


def test_a_new_job_starts_with_the_tick_after_the_moment_it_was_added(app: Cronq, at: At) -> None:
    spec = make_spec("invoices", command=["true"], cron="* * * * *", catchup="all")

    at(T + 0.9).save(spec, source="here:1", origin="test")
    app.beat().pass_once(now_s=T + 59.9)
    assert outcomes(app, "invoices") == {}
    app.beat().pass_once(now_s=T + 60.1)

    assert outcomes(app, "invoices") == {1: "queued"}


def test_a_clock_that_was_read_late_lets_no_tick_run_from_before_the_job_was_added(app: Cronq, redis: Redis) -> None:
    app.now_s()
    moment = redis.time()[0]
    app.clock.observe(moment - 3.0)  # a reading that took three seconds to arrive

    app.add("invoices", every="1s", catchup="all", overlap="allow", command=["true"])

    mark = app.jobs.get("invoices").state.mark
    assert mark is not None
    assert mark >= moment


# Editing


def test_an_edited_schedule_fires_nothing_from_before_the_edit(app: Cronq, store: Store, at: At) -> None:
    spec = store("invoices", mark=T, catchup="all", overlap="allow")

    at(T + 200).save(edited(spec, cron="*/2 * * * *"), source="here:2", origin="test")
    app.beat().pass_once(now_s=T + 239)
    assert app.client.llen("rq:queue:default") == 0
    app.beat().pass_once(now_s=T + 240)

    assert outcomes(app, "invoices") == {1: "missed", 2: "missed", 3: "missed", 4: "queued"}
    row = app.runs.run_at("invoices", T + 180)
    assert row is not None
    assert (row.reason, row.decided_by) == ("the job was changed before a beat took it", "ann@box")


def test_a_job_that_catches_up_more_by_its_new_rule_does_so_only_from_then_on(app: Cronq, store: Store, at: At) -> None:
    spec = store("invoices", mark=T, catchup="skip", overlap="allow")

    at(T + 200).save(edited(spec, catchup="all"), source="here:2", origin="test")
    app.beat().pass_once(now_s=T + 400)

    assert outcomes(app, "invoices") == dict.fromkeys((1, 2, 3), "missed") | dict.fromkeys((4, 5, 6), "queued")


def test_an_edit_that_leaves_the_schedule_alone_costs_no_catch_up(app: Cronq, store: Store, at: At) -> None:
    spec = store("invoices", mark=T, catchup="all", overlap="allow")

    answer = at(T + 200).save(edited(spec, description="monthly"), source="here:2", origin="test")
    app.beat().pass_once(now_s=T + 200)

    assert answer == "changed"
    assert outcomes(app, "invoices") == {1: "queued", 2: "queued", 3: "queued"}


def test_a_job_without_its_schedule_leaves_the_agenda_and_one_that_gets_it_back_starts_then(
    app: Cronq, store: Store, at: At
) -> None:
    spec = store("invoices", mark=T)

    at(T + 90).save(edited(spec, cron=None), source="here:2", origin="test")
    assert app.client.zcard(app.keys.agenda) == 0
    at(T + 250).save(edited(spec), source="here:3", origin="test")
    app.beat().pass_once(now_s=T + 300)

    assert outcomes(app, "invoices") == {1: "missed", 5: "queued"}


# Pausing and resuming


def test_a_pause_runs_nothing_from_before_it_and_records_what_falls_into_it(app: Cronq, store: Store, at: At) -> None:
    store("invoices", mark=T, catchup="all", overlap="allow")

    at(T + 90).pause("invoices", by="ann@box", note="the bank is closed")
    app.beat().pass_once(now_s=T + 200)

    assert outcomes(app, "invoices") == {1: "missed", 2: "paused", 3: "paused"}
    row = app.runs.run_at("invoices", T + 120)
    assert row is not None
    assert row.reason == "paused since 2026-01-05T07:01:30Z by ann@box: the bank is closed"
    assert app.client.llen("rq:queue:default") == 0


def test_ticks_of_a_pause_stay_paused_when_the_job_is_resumed(app: Cronq, store: Store, at: At) -> None:
    store("invoices", mark=T, catchup="all", overlap="allow")
    at(T + 30).pause("invoices", by="ann@box")

    assert at(T + 200).resume("invoices") is True
    app.beat().pass_once(now_s=T + 239)
    assert app.client.llen("rq:queue:default") == 0
    app.beat().pass_once(now_s=T + 240)

    assert outcomes(app, "invoices") == {1: "paused", 2: "paused", 3: "paused", 4: "queued"}


def test_a_pause_with_an_end_lets_the_ticks_after_it_run(app: Cronq, store: Store, at: At) -> None:
    store("invoices", mark=T, catchup="all", overlap="allow")

    at(T + 30).pause("invoices", by="ann@box", until_s=T + 150.0)
    app.beat().pass_once(now_s=T + 240)

    assert outcomes(app, "invoices") == {1: "paused", 2: "paused", 3: "queued", 4: "queued"}


@pytest.mark.parametrize(
    ("until_s", "problem"),
    [
        (math.inf, "inf is no moment"), (math.nan, "nan is no moment"), (-math.inf, "-inf is no moment"),
        (T * 1000.0, "is no moment before the year 9999 in epoch seconds"), (253_402_300_799.0, "before the year 9999"),
        (T - 60.0, "2026-01-05T06:59:00Z is past"), (T + 30.0, "is past"), (-1.0, "is no moment"),
    ],
)  # fmt: skip
def test_a_pause_that_does_not_end_at_a_moment_to_come_is_refused_and_changes_nothing(
    app: Cronq, store: Store, at: At, until_s: float, problem: str
) -> None:
    store("invoices", mark=T)
    before = app.jobs.get("invoices")

    with pytest.raises(DefinitionError, match=f"job 'invoices': until: .*{problem}") as refused:
        at(T + 30).pause("invoices", by="ann@box", until_s=until_s)

    assert "\n" not in str(refused.value)
    assert app.jobs.get("invoices") == before


def test_an_edited_job_stays_paused(app: Cronq, store: Store, at: At) -> None:
    spec = store("invoices", mark=T)
    at(T + 30).pause("invoices", by="ann@box")

    at(T + 90).save(edited(spec, cron="*/2 * * * *"), source="here:2", origin="test")
    app.beat().pass_once(now_s=T + 250)

    assert outcomes(app, "invoices") == {1: "paused", 2: "paused", 4: "paused"}


def test_a_job_that_is_not_paused_is_left_alone_by_resume(app: Cronq, store: Store, at: At) -> None:
    store("invoices", mark=T, catchup="all", overlap="allow")

    assert at(T + 200).resume("invoices") is False
    app.beat().pass_once(now_s=T + 200)

    assert outcomes(app, "invoices") == {1: "queued", 2: "queued", 3: "queued"}


# Removing


def test_a_removed_job_records_its_last_ticks_and_leaves_nothing_but_its_ledger_and_its_mark(
    app: Cronq, store: Store, at: At, redis: Redis
) -> None:
    store("invoices", mark=T)

    at(T + 200).remove("invoices", by="ann@box")
    app.beat().pass_once(now_s=T + 300)

    assert outcomes(app, "invoices") == {1: "missed", 2: "missed", 3: "missed"}
    row = app.runs.run_at("invoices", T + 180)
    assert row is not None
    assert row.reason == "the job was removed before a beat took it"
    left = {key.decode() for key in redis.scan_iter("cronq:job*")} | {n.decode() for n in redis.smembers("cronq:jobs")}
    assert left == {app.keys.runs("invoices"), app.keys.changes("invoices"), app.keys.state("invoices")}
    assert redis.hgetall(app.keys.state("invoices")) == {b"mark": b"%d" % (T + 180)}
    assert 0 < redis.ttl(app.keys.state("invoices")) <= 86400
    assert 0 < redis.ttl(app.keys.changes("invoices")) <= 86400
    assert redis.zcard(app.keys.agenda) == 0


def test_a_removed_job_takes_its_queued_runs_along(app: Cronq, store: Store, at: At) -> None:
    store("invoices", mark=T)
    app.beat().pass_once(now_s=T + 60)

    stopped = at(T + 61).remove("invoices", by="ann@box")

    assert stopped == 1
    assert outcomes(app, "invoices") == {1: "stopped"}
    assert Queue("default", connection=app.client).jobs == []


def test_a_job_that_cannot_be_read_can_still_be_removed(app: Cronq, store: Store, at: At) -> None:
    store("invoices", mark=T)
    app.client.hset(app.keys.job("invoices"), "spec", "{")

    at(T + 61).remove("invoices", by="ann@box")

    assert app.jobs.names() == []


def test_a_job_that_is_not_there_cannot_be_removed(app: Cronq) -> None:
    with pytest.raises(UnknownJob, match="there is no job 'invoices'"):
        app.remove("invoices")


def test_a_job_that_comes_back_fires_nothing_old_and_has_its_whole_ledger_for_good(
    app: Cronq, store: Store, at: At, redis: Redis
) -> None:
    spec = store("invoices", mark=T, catchup="all", overlap="allow")
    app.beat().pass_once(now_s=T + 60)
    at(T + 90).remove("invoices", by="ann@box")
    assert redis.ttl(app.keys.runs("invoices")) > 0

    at(T + 200).save(spec, source="here:1", origin="test")
    app.beat().pass_once(now_s=T + 240)

    assert outcomes(app, "invoices") == {1: "stopped", 4: "queued"}
    for key in (app.keys.runs("invoices"), app.keys.active("invoices")):
        assert redis.ttl(key) == -1


def test_a_removed_job_does_not_come_back_from_a_beat_whose_code_still_defines_it(
    app: Cronq, store: Store, at: At
) -> None:
    spec = store("invoices", mark=T)
    app.registry.add(Definition(spec, "jobs.py:3", "jobs", None))
    beat = app.beat()
    beat.pass_once(now_s=T + 30)

    at(T + 40).remove("invoices", by="ann@box")
    app.client.zadd(app.keys.agenda, {"invoices": T + 60})  # as a beat does that began its pass before
    beat.pass_once(now_s=T + 61)

    assert app.jobs.names() == []
    assert app.client.zcard(app.keys.agenda) == 0


# Several people at once


def test_changes_that_meet_are_made_one_after_the_other(app: Cronq, store: Store, redis_url: str) -> None:
    store("invoices", mark=app.client.time()[0])
    refused: list[CronqError] = []

    def toggle(who: str) -> None:
        changes = app.changes(who)
        for _ in range(20):
            try:
                changes.pause("invoices", by=who)
                changes.resume("invoices")
            except CronqError as error:
                refused.append(error)

    threads = [threading.Thread(target=toggle, args=(who,)) for who in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == []
    app.resume("invoices")
    job = app.jobs.get("invoices")
    assert job.state.pause is None
    assert job.next_tick is not None


def test_a_run_of_another_job_that_waits_for_the_lock_is_woken_though_the_job_of_that_name_is_removed(
    app: Cronq, store: Store, at: At, redis: Redis
) -> None:
    store("a", mark=T, exclusive=True)
    store("b", mark=T, exclusive=True, lock="a")
    waiter = app.enqueue("b")
    redis.delete("rq:queue:default")
    app.runs.park(app.runs.get(waiter), "a", T + 1)

    at(T + 2).remove("a", by="ann@box")

    assert app.runs.get(waiter).state == "waiting"
    assert app.runs.wake_waiter("a")
    assert redis.lrange("rq:queue:default", 0, -1) == [waiter.encode()]
