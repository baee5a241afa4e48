"""What a person says of ticks that have ended, and of how a job did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.views import run_row
from cronq.errors import Conflict, UnknownJob, UnknownRun
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Run, Settlement, Start
from tests.faces.conftest import pass_at

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400


def run_tick(app: Cronq, tick: int, outcome: str) -> Run:
    """Let a beat claim the tick of `a`, and its run end so."""
    pass_at(app, tick + 1)
    run = app.runs.run_at("a", tick)
    assert run is not None
    start = Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=tick + 2.0)
    assert app.runs.start(run, start).code == "started"
    assert app.runs.settle(run, Ending(Settlement(outcome, "why", error="E"), "worker w", tick + 3.0))
    return app.runs.get(run.run_id)


def state(app: Cronq) -> tuple[object, ...]:
    known = app.read_job("a").state
    return known.streak, known.last_run, known.last_outcome, known.success_tick


def last_event(app: Cronq) -> dict[str, str]:
    ((_, fields),) = app.client.xrevrange(app.keys.events, count=1)
    return {name.decode(): value.decode() for name, value in fields.items()}


def test_the_newest_tick_succeeds_after_all_and_its_attempt_is_kept(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    run_tick(app, T + 60, "failed")
    failed = run_tick(app, T + 120, "failed")
    assert state(app) == (-2, failed.run_id, "failed", None)

    marked = app.mark_success("a")

    assert marked is not None
    assert (marked.run_id, marked.tick) == (failed.run_id, T + 120)
    assert (marked.outcome, marked.reason, marked.decided_by) == ("succeeded", f"marked by {app.who}", app.who)
    assert marked.attempt == 2
    (before,) = marked.attempts
    assert (before.outcome, before.reason, before.error, before.decided_by) == ("failed", "why", "E", "worker w")
    assert before.started_at == T + 122
    assert marked.started_at is None
    assert state(app) == (0, failed.run_id, "succeeded", T + 120)
    assert app.client.ttl(app.keys.run(marked.run_id)) > 0
    assert last_event(app) == {"type": "succeeded", "job": "a", "run": marked.run_id, "by": app.who}
    assert app.mark_success("a") is None
    assert run_row(app.history("a")[0])["attempts"][0]["outcome"] == "failed"


def test_a_tick_of_ones_choice_is_marked_and_later_ones_stay_the_last(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    first = run_tick(app, T + 60, "failed")
    second = run_tick(app, T + 120, "succeeded")

    marked = app.mark_success("a", T + 60)

    assert marked is not None
    assert marked.run_id == first.run_id
    assert state(app) == (1, second.run_id, "succeeded", T + 120)


@pytest.mark.parametrize("length", [1, 10])
def test_a_missed_tick_is_marked_also_in_the_midst_of_others(app: Cronq, store: Store, length: int) -> None:
    store("a", mark=T, catchup="skip")
    pass_at(app, T + 60 * length + 300)
    before = {run.tick: run.outcome for run in app.history("a", 100)}
    tick = T + 60 * ((length + 1) // 2)
    assert before[tick] == "missed"

    marked = app.mark_success("a", tick)

    assert marked is not None
    assert [each.outcome for each in marked.attempts] == ["missed"]
    assert {run.tick: run.outcome for run in app.history("a", 100)} == before | {tick: "succeeded"}
    assert app.mark_success("a", tick) is None


def test_a_missed_tick_is_meant_when_it_is_the_newest(app: Cronq, store: Store) -> None:
    store("a", mark=T, catchup="skip", cron="0 * * * *")
    pass_at(app, T + 3600 * 10 + 1800)
    newest = app.history("a")[0].tick

    marked = app.mark_success("a")

    assert marked is not None
    assert marked.tick == newest
    assert [run.outcome for run in app.history("a", 100)] == ["succeeded", *["missed"] * 9]


def test_an_open_run_is_not_marked(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T)
    pass_at(app, T + 61)
    before = redis.hgetall(app.keys.run("a-20260105T070100Z"))

    with pytest.raises(Conflict, match="a-20260105T070100Z is queued"):
        app.mark_success("a")

    assert redis.hgetall(app.keys.run("a-20260105T070100Z")) == before


def test_a_run_that_rqs_tools_requeued_is_open(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T)
    run = run_tick(app, T + 60, "failed")
    redis.hset(f"rq:job:{run.run_id}", "status", "queued")

    with pytest.raises(Conflict, match="is queued"):
        app.mark_success("a")


def test_what_is_not_there_is_named(app: Cronq, store: Store) -> None:
    store("a", mark=T)

    with pytest.raises(UnknownRun, match="'a' has no tick yet that ran, or should have"):
        app.mark_success("a")
    with pytest.raises(UnknownRun, match="has no tick 2026-01-05T07:01:00Z; see `cronq history a`"):
        app.mark_success("a", T + 60)
    for act in (app.mark_success, app.reset):
        with pytest.raises(UnknownJob):
            act("nobody")


def test_a_call_that_is_sent_again_has_marked_it(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    run = run_tick(app, T + 60, "failed")

    answers = [app.amendments.mark_success("a", run.tick, by="ann@box", now_s=T + 500.0) for _ in range(2)]

    assert [each.attempt for each in answers if each is not None] == [2, 2]


# Resetting


def test_a_job_that_is_reset_forgets_how_it_did_and_keeps_its_history(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    run_tick(app, T + 60, "succeeded")
    run_tick(app, T + 120, "failed")
    before = app.read_job("a")

    assert app.reset("a")

    job = app.read_job("a")
    assert state(app) == (0, None, None, None)
    assert (job.state.mark, job.next_tick, job.version) == (before.state.mark, before.next_tick, before.version)
    assert job.status({}, T + 125) == "never"
    assert [run.outcome for run in app.history("a")] == ["failed", "succeeded"]
    assert last_event(app) == {"type": "job_reset", "job": "a", "by": app.who}

    assert not app.reset("a")


def test_a_reset_ends_the_pause_that_failures_set_and_no_other(app: Cronq, store: Store) -> None:
    store("a", mark=T, pause_after_failures=1)
    run_tick(app, T + 60, "failed")
    pause = app.read_job("a").state.pause
    assert pause is not None

    assert app.reset("a")
    assert app.read_job("a").state.pause is None
    assert not [run for run in app.history("a", 100) if run.state != "done"]

    app.pause("a")
    assert not app.reset("a")
    assert app.read_job("a").state.pause is not None
