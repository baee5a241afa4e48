"""A paused queue: one run waits in it, and the ticks that come meanwhile say who paused it, and why."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Start

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
Store = Callable[..., JobSpec]


def outcomes(app: Cronq) -> list[str]:
    return [run.outcome or run.state for run in reversed(app.history("invoices"))]


@pytest.mark.parametrize("queue", ["default", "nights"])
def test_ticks_behind_a_run_that_waits_in_a_paused_queue_are_paused_with_who_and_why(
    app: Cronq, store: Store, redis: Redis, queue: str
) -> None:
    store("invoices", mark=T, queue=queue)
    app.pause_queue(queue, note="moving house")
    beat = app.beat()

    for minute in (1, 2, 3):
        beat.pass_once(now_s=T + minute * MINUTE + 0.5)

    assert outcomes(app) == ["queued", "paused", "paused"]
    reason = app.history("invoices")[0].reason
    by = app.who
    assert reason == (
        f"the queue {queue} is paused by {by}: moving house; the run invoices-20260105T070100Z waits in it"
    )
    assert redis.llen(f"rq:queue:{queue}") == 1

    app.resume_queue(queue)
    beat.pass_once(now_s=T + 4 * MINUTE + 0.5)
    assert outcomes(app)[-1] == "skipped"


def test_behind_a_run_that_works_already_a_tick_is_skipped_though_its_queue_is_paused(app: Cronq, store: Store) -> None:
    store("invoices", mark=T)
    beat = app.beat()
    beat.pass_once(now_s=T + MINUTE + 0.5)
    (run,) = app.history("invoices")
    app.runs.start(run, Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=T + MINUTE + 1))
    app.pause_queue("default")

    beat.pass_once(now_s=T + 2 * MINUTE + 0.5)

    assert outcomes(app) == ["running", "skipped"]


@pytest.mark.parametrize("other", ["reports", "Default"])
def test_another_queue_that_is_paused_pauses_nothing(app: Cronq, store: Store, other: str) -> None:
    store("invoices", mark=T)
    app.pause_queue(other)
    beat = app.beat()

    for minute in (1, 2):
        beat.pass_once(now_s=T + minute * MINUTE + 0.5)

    assert outcomes(app) == ["queued", "skipped"]


@pytest.mark.parametrize("planted", [b"junk", b"{}", b"[]", b'{"by": 5, "note": {}}', b"\xff"])
def test_a_hold_that_cannot_be_read_still_holds(app: Cronq, store: Store, redis: Redis, planted: bytes) -> None:
    store("invoices", mark=T)
    redis.hset("cronq:holds", "queue:default", planted)
    beat = app.beat()

    for minute in (1, 2):
        beat.pass_once(now_s=T + minute * MINUTE + 0.5)

    reason = app.history("invoices")[0].reason or ""
    assert outcomes(app) == ["queued", "paused"]
    assert reason.startswith("the queue default is paused by somebody; the run ")


def test_holds_of_a_wrong_type_hold_nobody(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T)
    redis.set("cronq:holds", "junk")
    beat = app.beat()

    for minute in (1, 2):
        beat.pass_once(now_s=T + minute * MINUTE + 0.5)

    assert outcomes(app) == ["queued", "skipped"]
