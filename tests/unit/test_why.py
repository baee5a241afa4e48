"""Why: one golden answer for each cause."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cronq.jobs.spec import make_spec
from cronq.jobs.stored import JobState, StoredJob
from cronq.runs.run import Run
from cronq.runs.why import Facts, Gap, asked_tick, explain, late_tick

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR = 60, 3600
ID = "invoices-20260105T070000Z"
RUN = Run(ID, "invoices", T, "done", queued_at=T + 0.5, started_at=T + 2.0, ended_at=T + 62.0, host="web-1", worker="w")
GAP = Gap(T - HOUR, T + HOUR, "no_beat", "no beat was alive")
AWAY = Gap(T - HOUR, T + HOUR, "redis_away", "Redis was away, as a beat saw that lived")
HELD = Gap(T - 5, None, "clock_jumped", "the clock jumped, and the beats held")
STILL = Gap(T - 5, None, "stood_still", "the beats lived and stood still")


def a_job(mark: int = T, next_tick: int | None = T + HOUR, **options: Any) -> StoredJob:
    options = {"cron": "0 * * * *"} | options
    known = {name: value for name, value in options.items() if value is not None}
    spec = make_spec("invoices", function="jobs:invoices", **known)
    return StoredJob(spec, "v", "jobs.py:1", "jobs", JobState(mark, None), next_tick)


def facts(run: Run | None = None, **more: Any) -> Facts:
    known: dict[str, Any] = {"job": a_job(), "now_s": T + 100.0, "tick": T, "run": run, "beats": 1}
    return Facts(**known | more)


def ended(outcome: str, reason: str, **more: Any) -> Run:
    return replace(RUN, outcome=outcome, reason=reason, **more)


def never_begun(outcome: str, reason: str) -> Run:
    return ended(outcome, reason, started_at=None, host=None, worker=None)


def open_run(state: str, **more: Any) -> Run:
    return replace(RUN, **{"state": state, "started_at": None, "ended_at": None, "host": None} | more)


LATE = "the tick of invoices at 2026-01-05T07:00:00Z has been due for 1m40s and no beat has taken it"
TICK = "the tick at 2026-01-05T07:00:00Z"
QUEUED = f"{ID} is queued since 2026-01-05T07:00:00Z"
GAP_IN_SPRING = facts(
    None, tick=None, at_s=1774747800, left_out="2026-03-29T02:30", job=a_job(cron="30 2 * * *", tz="Europe/Amsterdam")
)
IN_ORDER = replace(a_job(T - HOUR, T, backfill=True), state=JobState(T - 2 * HOUR, None))
FAILED_BEFORE = replace(RUN, run_id="invoices-1", tick=T - 2 * HOUR, outcome="failed", reason="ValueError: no money")
GOLDEN: dict[str, tuple[Facts, str]] = {
    "in_order": (
        facts(None, job=IN_ORDER, awaited=FAILED_BEFORE),
        "the tick of invoices at 2026-01-05T07:00:00Z waits for invoices-1, and so does 1 before it: its ticks run in "
        "order, and that failed: ValueError: no money. Next: cronq backfill invoices --tick 2026-01-05T05:00:00Z",
    ),
    "succeeded": (
        facts(ended("succeeded", "it ran to its end")),
        f"{ID} succeeded: it began at 2026-01-05T07:00:02Z, 2s after its tick and took 1m. "
        "Next: cronq history invoices",
    ),
    "failed": (
        facts(ended("failed", "ValueError: no money", attempt=2)),
        f"{ID} failed in attempt 2: ValueError: no money. Next: cronq history invoices --json",
    ),
    "timed_out": (
        facts(ended("timed_out", "it ran past its timeout of 1m")),
        f"{ID} was ended after 1m: it ran past its timeout of 1m. Next: cronq show invoices",
    ),
    "stopped": (
        facts(ended("stopped", "asked to", decided_by="ann@box")),
        f"{ID} was stopped by ann@box: asked to. Next: cronq run invoices",
    ),
    "lost": (
        facts(ended("lost", "its worker vanished")),
        f"{ID} was lost: its worker vanished; it was the worker w on web-1. Next: cronq workers",
    ),
    "expired": (
        facts(never_begun("expired", "its ttl of 5m was over")),
        f"{ID} was not begun: its ttl of 5m was over. Next: cronq workers",
    ),
    "blocked": (
        facts(never_begun("blocked", "the job parent had not succeeded")),
        f"{TICK} did not run: the job parent had not succeeded. Next: cronq show invoices",
    ),
    "overlap": (
        facts(never_begun("skipped", "the run invoices-1 was still running")),
        f"{TICK} was skipped, because the run invoices-1 was still running. Next: cronq show invoices",
    ),
    "lock_busy": (
        facts(never_begun("skipped", "its lock is busy")),
        f"{ID} was skipped: its lock is busy. Next: cronq history invoices",
    ),
    "calendar": (
        facts(never_begun("skipped", "Mon 2026-01-05 is in the calendar holidays")),
        f"{TICK} was skipped: Mon 2026-01-05 is in the calendar holidays. Next: cronq calendar list",
    ),
    "skip": (
        facts(never_begun("skipped", "skipped by ann@box: the calendar of the lock is wrong")),
        f"{TICK} was skipped by ann@box: the calendar of the lock is wrong. Next: cronq next invoices",
    ),
    "skipped": (
        facts(never_begun("skipped", "somebody said so")),
        f"{TICK} was skipped: somebody said so. Next: cronq history invoices",
    ),
    "held": (
        facts(None, job=a_job(T - HOUR), place=12),
        "the tick of invoices at 2026-01-05T07:00:00Z is 1m40s late, and held by the catch-up rate: it is about number "
        "12 in line. Next: cronq catchup",
    ),
    "missed": (
        facts(never_begun("missed", "no beat took it in time; catchup is skip")),
        f"{TICK} was missed: no beat took it in time; catchup is skip. Next: cronq history invoices",
    ),
    "coalesced": (
        facts(never_begun("coalesced", "a later one was taken in its place")),
        f"{TICK} did not run: a later one was taken in its place. Next: cronq history invoices",
    ),
    "no_beat": (
        facts(never_begun("missed", "no beat took it in time"), gaps=[GAP]),
        f"{TICK} was missed: no beat took it in time. No beat was alive from 2026-01-05T06:00:00Z to "
        "2026-01-05T08:00:00Z. Next: cronq check beat --least 2",
    ),
    "redis_away": (
        facts(never_begun("coalesced", "a later one was taken in its place"), gaps=[AWAY]),
        f"{TICK} did not run: a later one was taken in its place. Redis was away, as a beat saw that lived from "
        "2026-01-05T06:00:00Z to 2026-01-05T08:00:00Z. Next: cronq check redis",
    ),
    "clock_jumped": (
        facts(None, job=a_job(T - HOUR), gaps=[HELD]),
        f"{LATE}: the clock jumped, and the beats held since 2026-01-05T06:59:55Z. Next: cronq check clock",
    ),
    "stood_still": (
        facts(None, job=a_job(T - HOUR), gaps=[STILL]),
        f"{LATE}: the beats lived and stood still since 2026-01-05T06:59:55Z. Next: cronq check beat",
    ),
    "pending": (
        facts(None, job=a_job(T - HOUR), beats=2),
        f"{LATE}, though 2 beats are alive: their logs say why. Next: cronq check beat",
    ),
    "paused": (
        facts(never_begun("paused", "paused since 2026-01-05T06:00:00Z by ann@box: moving house")),
        f"{TICK} did not run: the job was paused since 2026-01-05T06:00:00Z by ann@box: moving house. "
        "Next: cronq resume invoices",
    ),
    "queue_paused": (
        facts(never_begun("paused", "the queue nights is paused by ann@box; the run x waits in it")),
        f"{TICK} did not run: the queue nights is paused by ann@box; the run x waits in it. "
        "Next: cronq resume --queue nights",
    ),
    "queue_held": (
        facts(open_run("queued"), held_by="queue default is held by ann@box: a deploy", is_served=False),
        f"{QUEUED}: queue default is held by ann@box: a deploy. Next: cronq resume --queue default",
    ),
    "no_worker": (
        facts(open_run("queued"), is_served=False),
        f"{QUEUED}: no worker is alive that serves the queue default. Next: cronq worker default",
    ),
    "queue_busy": (
        facts(open_run("queued")),
        f"{QUEUED}: the workers of the queue default have not come to it yet. Next: cronq workers",
    ),
    "waits_for_lock": (
        facts(open_run("waiting", reason="its lock is busy")),
        f"{ID} waits for a worker to begin it: its lock is busy. Next: cronq show invoices",
    ),
    "waits_for_run": (
        facts(open_run("waiting", reason="waits for the run invoices-1")),
        f"{ID} waits for the run invoices-1. Next: cronq show invoices",
    ),
    "waits": (facts(open_run("waiting")), f"{ID} waits for its time. Next: cronq delayed"),
    "running": (
        facts(open_run("running", started_at=T + 2.0, host="web-1")),
        f"{ID} is running since 2026-01-05T07:00:02Z on web-1, for 1m38s. Next: cronq show invoices",
    ),
    "retrying": (
        facts(open_run("retrying", reason="exit code 1", retry_at=T + 300.0)),
        f"attempt 1 of {ID} did not succeed (exit code 1); the next is due at 2026-01-05T07:05:00Z. "
        "Next: cronq history invoices",
    ),
    "not_due": (
        facts(None, tick=None, at_s=T + 90, job=a_job(tz="Europe/Amsterdam")),
        "invoices (0 * * * *, Europe/Amsterdam) was not due at 2026-01-05T07:01:30Z: its tick before was at "
        "2026-01-05T07:00:00Z, the one after is at 2026-01-05T08:00:00Z. Next: cronq next invoices",
    ),
    "dst_gap": (
        GAP_IN_SPRING,
        "2026-03-29T02:30 does not exist in Europe/Amsterdam: the clocks go forward over it, and dst='debian' says "
        "what becomes of ticks there. Of invoices its tick before was at 2026-03-29T01:00:00Z, the one after is at "
        "2026-03-30T00:30:00Z. Next: cronq explain '30 2 * * *' --tz Europe/Amsterdam --dst debian",
    ),
    "not_yet": (
        facts(None, tick=T + HOUR),
        "invoices is due at 2026-01-05T08:00:00Z, in 58m20s. Next: cronq next invoices",
    ),
    "never": (
        facts(None, tick=None),
        "invoices has had no tick yet; its first is at 2026-01-05T08:00:00Z. Next: cronq next invoices",
    ),
    "no_schedule": (
        facts(None, tick=None, job=a_job(cron=None, next_tick=None)),
        "invoices has no schedule: it runs only when somebody asks for it. Next: cronq run invoices",
    ),
    "not_kept": (
        facts(None, tick=T - HOUR),
        "the ledger has no row of invoices for 2026-01-05T06:00:00Z: it is older than keep=1000 holds, or the job was "
        "made, changed or resumed after it. Next: cronq history invoices",
    ),
    "unknown": (
        facts(ended("postponed", "a later version says so")),
        f"{ID} is postponed: a later version says so. Next: cronq history invoices",
    ),
}


@pytest.mark.parametrize("cause", GOLDEN)
def test_each_cause_has_its_answer(cause: str) -> None:
    known, text = GOLDEN[cause]

    answer = explain(known)

    assert (answer.cause, answer.text) == (cause, text)
    assert answer.job == "invoices"
    assert answer.outcome == (known.run.outcome if known.run is not None else None)
    assert answer.due == (known.tick is not None)


def test_every_cause_of_the_pages_has_an_answer_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "why.md").read_text()
    told = [word for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)]

    assert set(told) - {"cause"} == set(GOLDEN)


def test_without_a_beat_a_late_tick_says_since_when() -> None:
    gap = Gap(T - 5, None, "no_beat", "no beat was alive")

    answer = explain(facts(None, job=a_job(T - HOUR), beats=0, gaps=[gap]))

    assert answer.cause == "no_beat"
    assert answer.text == f"{LATE}: no beat is alive since 2026-01-05T06:59:55Z. Next: cronq beat"


def test_a_tick_that_was_skipped_for_a_run_which_no_worker_takes_says_so() -> None:
    other = open_run("queued", run_id="invoices-1")
    skipped = never_begun("skipped", "the run invoices-1 was still queued")

    answer = explain(facts(skipped, other=other, is_served=False))

    assert answer.cause == "overlap"
    assert answer.text == (
        f"{TICK} was skipped, because the run invoices-1 was still queued. invoices-1 is queued since "
        "2026-01-05T07:00:00Z: no worker is alive that serves the queue default. Next: cronq worker default"
    )


@pytest.mark.parametrize(("at", "tick"), [(T, T), (T - 59, None), (T + 1, None), (T + 60, None)])
def test_a_moment_of_a_minute_means_the_tick_in_it(at: int, tick: int | None) -> None:
    assert asked_tick(a_job(), at) == tick


def test_a_tick_with_seconds_is_found_by_its_minute() -> None:
    assert asked_tick(a_job(cron="30 0 * * * *"), T) == T + 30
    assert asked_tick(a_job(cron="30 0 * * * *"), T + 30) == T + 30
    assert asked_tick(a_job(cron=None), T) is None


def test_only_a_tick_that_is_late_is_a_trouble() -> None:
    assert late_tick(a_job(T - HOUR, T), T + 61.0) == T
    assert late_tick(a_job(T - HOUR, T), T + 59.0) is None
    assert late_tick(a_job(T - HOUR, None), T + 61.0) is None


def test_a_tick_in_order_whose_predecessor_is_open_says_what_that_one_does() -> None:
    before = replace(FAILED_BEFORE, outcome=None, state="running", ended_at=None)

    answer = explain(facts(None, job=IN_ORDER, awaited=before))

    assert answer.cause == "in_order"
    assert "its ticks run in order. invoices-1 is running since " in answer.text


def test_a_failure_that_halts_its_job_says_so_and_how_to_run_it_again() -> None:
    failed = ended("failed", "ValueError: no money")

    answer = explain(facts(failed, job=a_job(T, backfill=True)))

    assert answer.cause == "failed"
    assert answer.text == (
        f"{ID} failed: ValueError: no money. Its later ticks wait until it has succeeded. "
        "Next: cronq backfill invoices --tick 2026-01-05T07:00:00Z"
    )


def test_a_run_of_a_backfill_says_so() -> None:
    run = ended("succeeded", "it ran to its end", trigger="backfill", queued_at=T + 5 * HOUR, started_at=T + 5 * HOUR)

    assert (
        "succeeded: it began at 2026-01-05T12:00:00Z, by a backfill of 2026-01-05T12:00:00Z" in explain(facts(run)).text
    )
