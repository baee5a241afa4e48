"""A settled row takes little, and whoever reads it notices nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.run import Ending, Run, Settlement, Start

T = 1767596400
RUN = "invoices-20260105T070000Z"
WORKER = "web-1.example.com.4242.ab12"
Store = Callable[..., JobSpec]
GOOD = Settlement(
    "succeeded", "it ran to its end", exit_code=0, max_rss_kib=34_512, user_s=0.123, system_s=0.004, start_ms=12
)


@pytest.fixture
def running(app: Cronq, store: Store) -> Run:
    spec = store("invoices", mark=T - 1)
    claim = TickClaim(spec, app.jobs.version_of("invoices"), Decision(T, None, "due", "schedule", T + 60))
    app.claimer("beat web-1.example.com.7").claim_due([claim], "token", T + 0.25)
    begin(app)
    return app.runs.get(RUN)


def begin(app: Cronq, **changes: Any) -> str:
    facts: dict[str, Any] = {"worker": WORKER, "host": "web-1.example.com", "pid": 4242, "execution": "e" * 32}
    facts |= {"lease_s": 90, "now_s": T + 1.125} | changes
    return app.runs.start(app.runs.get(RUN), Start(**facts)).code


def settle(app: Cronq, settlement: Settlement = GOOD, **options: Any) -> Run:
    facts: dict[str, Any] = {"by": f"worker {WORKER}", "now_s": T + 63.5, "execution": "e" * 32} | options
    assert app.runs.settle(app.runs.get(RUN), Ending(settlement, **facts))
    return app.runs.get(RUN)


def size(redis: Redis, run_id: str = RUN) -> int:
    return redis.memory_usage(f"cronq:run:{run_id}") or 0


def test_a_good_run_is_read_as_it_was_written(app: Cronq, running: Run) -> None:
    run = settle(app)

    assert run == replace(
        running, state="done", outcome="succeeded", reason="it ran to its end", decided_by=f"worker {WORKER}",
        ended_at=T + 63.5, exit_code=0, max_rss_kib=34_512, user_s=0.123, system_s=0.004, start_ms=12,
    )  # fmt: skip
    assert (run.queued_at, run.started_at, run.lateness_s, run.duration_s) == (T + 0.25, T + 1.125, 1.125, 62.375)


def test_the_row_of_a_good_run_takes_at_most_300_bytes(app: Cronq, running: Run, redis: Redis) -> None:
    settle(app)

    assert size(redis) <= 300


def test_the_row_of_a_skipped_tick_takes_at_most_300_bytes_and_tells_when(
    app: Cronq, running: Run, redis: Redis
) -> None:
    spec = app.jobs.get("invoices").spec
    claim = TickClaim(spec, app.jobs.version_of("invoices"), Decision(T + 60, None, "due", "schedule", None))

    app.claimer("beat web-1.example.com.7").claim_due([claim], "token", T + 60.5)

    row = app.runs.get("invoices-20260105T070100Z")
    assert (row.outcome, row.trigger, row.queue, row.queued_at, row.ended_at) == (
        "skipped", "schedule", "default", T + 60.5, T + 60.5,
    )  # fmt: skip
    assert size(redis, row.run_id) <= 300


def test_facts_have_the_eight_words_that_releases_before_can_read(app: Cronq, running: Run, redis: Redis) -> None:
    settle(app)

    *words, name = (redis.hget(f"cronq:run:{RUN}", "facts") or b"").split(b" ")
    assert words == [b"4242", b"250", b"875", b"62375", b"34512", b"123", b"4"]
    assert name.startswith(b"ab12+")


def test_facts_of_a_release_before_are_read_and_restored(app: Cronq, running: Run, redis: Redis) -> None:
    before = settle(app)
    redis.hset(f"cronq:run:{RUN}", "facts", "4242 250 875 62375 34512 123 4 ab12")
    redis.hset(f"rq:job:{RUN}", "status", "queued")

    read = app.runs.get(RUN)
    begin(app, now_s=T + 100, execution="f" * 32)

    assert read == replace(before, start_ms=None)
    assert app.runs.get(RUN).attempts[0].decided_by == before.decided_by


def test_what_is_not_usual_is_kept(app: Cronq, running: Run, redis: Redis) -> None:
    settlement = replace(GOOD, result='{"sent":3}', fence=7, signal="SIGTERM")
    redis.hset(f"cronq:run:{RUN}", mapping={"trigger": "catchup", "queue": "nightly", "of_a_later_version": "x"})

    run = settle(app, settlement, by="ann@box")

    assert (run.trigger, run.queue, run.result, run.fence, run.signal, run.decided_by) == (
        "catchup", "nightly", '{"sent":3}', 7, "SIGTERM", "ann@box",
    )  # fmt: skip
    assert run.worker == WORKER
    assert redis.hget(f"cronq:run:{RUN}", "of_a_later_version") == b"x"


@pytest.mark.parametrize("worker", ["night-shift", "web-1.example.com.4242", "web-1.example.com.4242.a b", ""])
def test_a_worker_may_have_any_name(app: Cronq, store: Store, worker: str) -> None:
    store("invoices", mark=T - 1)
    app.claimer("beat").give(app.jobs.get("invoices").spec, T + 0.25, run_id=RUN)
    begin(app, worker=worker)

    run = settle(app, by=f"worker {worker}")

    assert (run.worker or "", run.decided_by, run.start_ms) == (worker, f"worker {worker}", 12)


@pytest.mark.parametrize(
    "damage", [{"queued_at": "nan"}, {"started_at": ""}, {"tick": "x"}, {"pid": "1 2"}, {"pid": ""}]
)
def test_numbers_that_are_none_keep_no_run_from_being_settled(
    app: Cronq, running: Run, redis: Redis, damage: dict[str, str]
) -> None:
    redis.hset(f"cronq:run:{RUN}", mapping=damage)

    run = settle(app)

    assert (run.state, run.outcome, run.ended_at) == ("done", "succeeded", T + 63.5)


def test_a_good_run_that_is_put_back_tells_of_its_first_attempt(app: Cronq, running: Run, redis: Redis) -> None:
    before = settle(app)
    redis.hset(f"rq:job:{RUN}", "status", "queued")

    assert begin(app, now_s=T + 100, execution="f" * 32) == "started"
    again = app.runs.get(RUN)
    settled = settle(app, now_s=T + 101, execution="f" * 32)

    (first,) = again.attempts
    assert (first.attempt, first.outcome, first.reason, first.decided_by, first.host, first.pid) == (
        1, "succeeded", before.reason, before.decided_by, before.host, before.pid,
    )  # fmt: skip
    assert (first.started_at, first.ended_at, first.exit_code) == (before.started_at, before.ended_at, 0)
    assert (again.state, again.outcome, again.attempt, again.queued_at) == ("running", None, 2, before.queued_at)
    assert (again.max_rss_kib, again.start_delay_s) == (None, None)
    assert (settled.attempt, settled.attempts, settled.duration_s) == (2, (first,), 1.0)


def test_a_run_that_may_be_started_once_is_known_to_have_been(app: Cronq, running: Run, redis: Redis) -> None:
    settle(app)
    redis.hset(f"rq:job:{RUN}", "status", "queued")

    assert begin(app, once=True, execution="f" * 32) == "begun"


@pytest.mark.parametrize(
    "facts",
    ["", "1 2 3", "x 1 1 1 1 1 1 a", "1 x 1 1 - - - -", "1 - 1 1 1 1 1 -", "1 9e99 1 1 1 1 1 -", "1 1 1 1 - - - +"],
)
def test_facts_that_cannot_be_read_are_left_out(facts: str) -> None:
    run = Run.from_hash(RUN, {"job": "a", "tick": str(T), "state": "done", "outcome": "succeeded", "facts": facts})

    assert (run.outcome, run.reason) == ("succeeded", "it ran to its end")
