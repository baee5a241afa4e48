"""`why` on what beats and workers left in Redis: the facts behind the answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from cronq.app.app import Cronq
from cronq.errors import UnknownJob
from cronq.hosts.outages import Pass
from cronq.jobs.spec import JobSpec
from cronq.timetext import iso

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR, DAY = 60, 3600, 86400
Store = Callable[..., JobSpec]


def test_a_queued_run_without_a_worker(app: Cronq, store: Store) -> None:
    store("invoices", mark=T, queue="nights")
    app.beat().pass_once(now_s=T + MINUTE + 0.5)

    answer = app.why("invoices", "2026-01-05T07:01")

    assert (answer.cause, answer.outcome, answer.due, answer.tick) == ("no_worker", None, True, T + MINUTE)
    app.pause_queue("nights", note="a deploy")
    assert app.why("invoices", "2026-01-05T07:01").text.endswith(
        f"queue nights is held by {app.who}: a deploy. Next: cronq resume --queue nights"
    )


def test_a_skipped_tick_names_the_run_and_what_that_one_waits_for(app: Cronq, store: Store) -> None:
    store("invoices", mark=T)
    beat = app.beat()
    beat.pass_once(now_s=T + MINUTE + 0.5)
    beat.pass_once(now_s=T + 2 * MINUTE + 0.5)

    answer = app.why("invoices", "2026-01-05T07:02:00Z")

    assert answer.cause == "overlap"
    assert "the run invoices-20260105T070100Z was still queued" in answer.text
    assert "no worker is alive that serves the queue default" in answer.text


def test_the_present_trouble_comes_before_the_newest_tick(app: Cronq, store: Store) -> None:
    now = int(app.now_s())
    spec = store("invoices", mark=now - 600)
    assert spec.schedule is not None

    answer = app.why("invoices")

    assert answer.cause == "no_beat"
    assert answer.tick == spec.schedule.next_after(now - 600)


@pytest.mark.timing
def test_an_outage_explains_a_missed_tick_of_thirty_days_ago_at_once(app: Cronq, store: Store) -> None:
    begin = int(app.now_s()) // MINUTE * MINUTE - 30 * DAY + HOUR
    store("invoices", mark=begin, catchup="skip", window="40d", keep=100_000, overlap="allow")
    app.outage_notes.note(Pass(begin + 5.0, "beat a", begin + 1.0))
    beat = app.beat()
    for hour in range(1, 30 * 24 - 2):
        now_s = begin + hour * HOUR + 30.5
        beat.pass_once(now_s=now_s)
        app.outage_notes.note(Pass(now_s, f"beat {hour}", now_s))
    asked = iso(begin + 5 * MINUTE) or ""
    began = time.perf_counter()

    answer = app.why("invoices", asked)

    assert time.perf_counter() - began < 0.1
    assert (answer.cause, answer.outcome) == ("no_beat", "missed")
    assert f"No beat was alive from {iso(begin + 5)} to {iso(begin + HOUR + 30)}" in answer.text


def test_times_that_clocks_leave_out_and_words_that_are_no_time(app: Cronq, store: Store) -> None:
    store("invoices", mark=T, cron="30 2 * * *", tz="Europe/Amsterdam")

    answer = app.why("invoices", "2026-03-29T02:30")

    assert (answer.cause, answer.due, answer.tick) == ("dst_gap", False, None)
    assert "its tick before was at 2026-03-29T01:00:00Z" in answer.text
    for words in ("yesterday", "2026-13-01T00:00", "07:00", "2026-03-29", "", "9999-12-31T23:00-23:00"):
        with pytest.raises(ValueError, match=r"date with a time|between the years"):
            app.why("invoices", words)
    with pytest.raises(UnknownJob):
        app.why("nobody")


def test_a_job_edited_since_explains_the_ticks_it_had(app: Cronq, store: Store) -> None:
    spec = store("invoices", mark=T, catchup="skip")
    app.beat().pass_once(now_s=T + 30 * MINUTE + 0.5)

    changed, version = replace(spec, cron="0 3 * * *"), app.jobs.version_of("invoices")
    app.jobs.save(changed, source="here:1", origin="test", expected=version)

    assert app.why("invoices", "2026-01-05T07:07Z").cause == "missed"
    assert app.why("invoices", "2026-01-05T06:07Z").cause == "not_due"


def test_a_run_that_waits_for_its_lock_says_who_holds_it(app: Cronq, store: Store) -> None:
    store("invoices", mark=int(app.now_s()), exclusive=True, lock="nights")
    run_id = app.enqueue("invoices")
    app.client.lmove("rq:queue:default", "rq:queue:default:intermediate")
    with app.lock("nights"):
        assert app.runs.park(app.runs.get(run_id), "nights", app.now_s())
        held = app.why("invoices")
    free = app.why("invoices")

    assert (held.cause, held.other) == ("waits_for_lock", "nights")
    assert f"The lock nights is held by pid {os.getpid()} on box since " in held.text
    assert free.cause == "waits_for_lock"
    assert "is held by" not in free.text


def test_a_run_that_waits_behind_another_says_what_that_one_is_at(app: Cronq, store: Store) -> None:
    store("invoices", mark=T, overlap="queue")
    beat = app.beat()
    beat.pass_once(now_s=T + MINUTE + 0.5)
    beat.pass_once(now_s=T + 2 * MINUTE + 0.5)

    answer = app.why("invoices", "2026-01-05T07:02:00Z")

    assert (answer.cause, answer.other) == ("waits_for_run", "invoices-20260105T070100Z")
    assert "invoices-20260105T070100Z is queued since" in answer.text
    assert answer.next == "cronq worker default"


def test_a_tick_to_come_that_will_not_run_says_why(app: Cronq, store: Store) -> None:
    now = int(app.now_s())
    store("invoices", mark=now, cron="0 * * * *")
    (tick,) = app.skip("invoices", note="a holiday")

    answer = app.why("invoices", iso(tick))

    assert answer.cause == "not_yet"
    assert f"but will not run then: skipped by {app.who}: a holiday" in answer.text
