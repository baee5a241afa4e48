"""Why: one golden answer for each cause."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cronq.jobs.change_notes import ChangeNote
from cronq.jobs.pause import Pause
from cronq.jobs.spec import make_spec
from cronq.jobs.stored import JobState, StoredJob
from cronq.runs.cause import Cause
from cronq.runs.facts import Answer, Facts, Gap, ParentFact, Redeploy
from cronq.runs.run import Run
from cronq.runs.why import asked_tick, explain, late_tick

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
MADE = ChangeNote(T - 2 * HOUR, "ann@box", "job_created")
MOVED = ChangeNote(T + 60.0, "ben@box", "job_changed", ("cron",), {"cron": "0 * * * *"})
GONE = ChangeNote(T + 600.0, "ann@box", "job_removed")
EXPORT = Answer(
    "export", T - HOUR, True, "failed", "ValueError: no money", "failed",
    "export-20260105T060000Z failed: ValueError: no money", "cronq history export --json",
)  # fmt: skip
EXPORT_RUN = replace(RUN, run_id="export-20260105T060000Z", job="export", tick=T - HOUR, outcome="failed")
FAILED_PARENT = ParentFact("export", T - HOUR, "failed", run=EXPORT_RUN, behind=EXPORT)
NO_PARENT = ParentFact("pump", T - HOUR, "stopped", is_job=False, removal=GONE)
WAITS_FOR_PARENTS = Cause("waits_for_parents", "export")
GATED = open_run("waiting", reason="waits for its parent export of 2026-01-05T06:00:00Z", cause=WAITS_FOR_PARENTS)
GOLDEN: dict[str, tuple[Facts, str]] = {
    "in_order": (
        facts(None, job=IN_ORDER, awaited=FAILED_BEFORE),
        "the tick of invoices at 2026-01-05T07:00:00Z waits for invoices-1, and so does 1 before it: its ticks run "
        "in "
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
        facts(never_begun("blocked", "it waited for its parent"), parents=[FAILED_PARENT]),
        f"{TICK} did not run: when its next tick fell due, its parent export of 2026-01-05T06:00:00Z had failed. "
        "export-20260105T060000Z failed: ValueError: no money. Next: cronq why export --at 2026-01-05T06:00:00Z",
    ),
    "waits_for_parents": (
        facts(GATED, parents=[FAILED_PARENT]),
        f"{ID} waits for its parent export of 2026-01-05T06:00:00Z, which failed. export-20260105T060000Z failed: "
        "ValueError: no money. Its next tick blocks it at 2026-01-05T08:00:00Z, in 58m20s. "
        "Next: cronq backfill export --tick 2026-01-05T06:00:00Z",
    ),
    "no_parent": (
        facts(GATED, parents=[NO_PARENT, FAILED_PARENT]),
        f"{ID} waits for its parents pump, which is no job (removed at 2026-01-05T07:10:00Z by ann@box); export of "
        "2026-01-05T06:00:00Z, which failed. Its next tick blocks it at 2026-01-05T08:00:00Z, in 58m20s. "
        "Next: cronq graph invoices",
    ),
    "after": (
        facts(
            tick=None,
            job=a_job(cron=None, next_tick=None, after=["export", "load"]),
            parents=[replace(FAILED_PARENT, tick=None), ParentFact("load", has_come=True)],
        ),
        "invoices runs after export and load, when each of them has succeeded since it was made. load has, but "
        "export has "
        "not succeeded since. export-20260105T060000Z failed: ValueError: no money. Next: cronq why export",
    ),
    "edited": (
        facts(tick=None, at_s=T - HOUR // 2, job=a_job(cron="30 * * * *"), notes=[MOVED, MADE]),
        "invoices was not due at 2026-01-05T06:30:00Z: its schedule was 0 * * * * then, and became 30 * * * * at "
        "2026-01-05T07:01:00Z by ben@box. Next: cronq show invoices",
    ),
    "deployed": (
        facts(
            ended("failed", "KeyError: 'vat'"),
            last_good=replace(RUN, tick=T - HOUR, started_at=T - HOUR + 1.0),
            redeploy=Redeploy(T - 600.0, "web-1", (("revision", "5d0e9b8", "7f3a2c1"), ("cronq", "0.1.0", "0.2.0"))),
        ),
        f"{ID} failed: KeyError: 'vat'. Its run of 2026-01-05T06:00:00Z succeeded; after that the workers of web-1 "
        "were "
        "started with revision 7f3a2c1 in place of 5d0e9b8 and cronq 0.2.0 in place of 0.1.0 at "
        "2026-01-05T06:50:00Z. "
        "Next: cronq history invoices --json",
    ),
    "created_later": (
        facts(tick=T - 3 * HOUR, at_s=T - 3 * HOUR, notes=[MADE]),
        "invoices was made only at 2026-01-05T05:00:00Z by ann@box: there was no such job at 2026-01-05T04:00:00Z. "
        "Next: cronq show invoices",
    ),
    "removed": (
        facts(tick=None, job=a_job(cron=None, next_tick=None), notes=[GONE, MADE], removal=GONE),
        "there is no job invoices any more: it was removed at 2026-01-05T07:10:00Z by ann@box. Next: cronq history "
        "invoices",
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
        "the tick of invoices at 2026-01-05T07:00:00Z is 1m40s late, and held by the catch-up rate: it is about "
        "number "
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
        facts(
            never_begun("paused", "paused since 2026-01-05T06:00:00Z by ann@box: moving house"),
            job=replace(a_job(), state=JobState(T, Pause(since=T - 3600.0, by="ann@box", note="moving house"))),
        ),
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
        "the ledger has no row of invoices for 2026-01-05T06:00:00Z: it is older than keep=1000 holds, or the job "
        "was "
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


# Parents


def test_a_run_that_waits_for_a_parent_which_is_at_work_says_what_that_does_and_needs_nothing() -> None:
    running = replace(EXPORT_RUN, state="running", outcome=None)
    behind = replace(EXPORT, cause="running", words="export-20260105T060000Z is running", next="cronq show export")
    parent = replace(FAILED_PARENT, run=running, behind=behind)

    answer = explain(facts(GATED, parents=[parent]))

    assert answer.cause == "waits_for_parents"
    assert answer.other == "export"
    assert answer.text.startswith(
        f"{ID} waits for its parent export of 2026-01-05T06:00:00Z, which is running. export-20260105T060000Z is "
        "running. "
    )
    assert answer.next == "cronq show export"


def test_a_gate_that_nobody_has_opened_yet_is_left_to_the_beats() -> None:
    parent = replace(FAILED_PARENT, run=replace(EXPORT_RUN, outcome="succeeded"))

    assert explain(facts(GATED, parents=[parent])).text == (
        f"{ID} waits for its parent export of 2026-01-05T06:00:00Z, which has succeeded: a beat lets it go within "
        "seconds. Next: cronq beats"
    )


def test_many_parents_are_counted() -> None:
    parents = [FAILED_PARENT, *(ParentFact(f"p{number}", T) for number in range(9))]

    assert (
        "; p3 of 2026-01-05T07:00:00Z, which has no run yet; and 5 more." in explain(facts(GATED, parents=parents)).text
    )


def test_a_blocked_tick_says_how_each_parent_stood_and_which_is_no_job_any_more() -> None:
    unknown = ParentFact("load", None)
    answer = explain(facts(never_begun("blocked", "…"), parents=[NO_PARENT, unknown, FAILED_PARENT]))

    assert answer.text == (
        f"{TICK} did not run: when its next tick fell due, its parents had not succeeded: pump of "
        "2026-01-05T06:00:00Z had "
        "been stopped; load had not succeeded since; export of 2026-01-05T06:00:00Z had failed. pump is no job "
        "(removed at "
        "2026-01-05T07:10:00Z by ann@box). Next: cronq graph invoices"
    )


def test_a_blocked_tick_of_an_older_release_has_its_words() -> None:
    answer = explain(facts(never_begun("blocked", "the job parent had not succeeded")))

    assert answer.text == f"{TICK} did not run: the job parent had not succeeded. Next: cronq show invoices"


def test_a_job_whose_ticks_run_in_order_is_never_blocked() -> None:
    answer = explain(facts(GATED, job=a_job(backfill=True), parents=[FAILED_PARENT]))

    assert "blocks it" not in answer.text


AFTER = {"job": a_job(cron=None, next_tick=None, after=["export"]), "tick": None}


def test_a_job_after_others_whose_last_run_is_over_says_what_is_missing_only_when_some_parents_have_come() -> None:
    run = ended("succeeded", "it ran to its end")
    missing, come = ParentFact("export"), ParentFact("load", has_come=True)

    quiet = explain(facts(run, job=AFTER["job"], parents=[missing]))
    waiting = explain(facts(run, job=AFTER["job"], parents=[missing, come]))

    assert quiet.cause == "succeeded"
    assert waiting.cause == "after"
    assert (
        "since its own last start at 2026-01-05T07:00:00Z. load has, but export has not succeeded since" in waiting.text
    )


def test_a_job_after_others_at_a_moment_says_when_it_was_started_instead() -> None:
    around = replace(RUN, tick=T - HOUR), replace(RUN, tick=T + HOUR)

    def told(*around: Run | None) -> str:
        return explain(facts(at_s=T, around=around, **AFTER)).text

    assert "invoices was not started at 2026-01-05T07:00:00Z: it runs after export, when that has succeeded" in told(
        *around
    )
    assert "Before that it was started at 2026-01-05T06:00:00Z, then at 2026-01-05T08:00:00Z. Next: " in told(*around)
    assert "Before that it never was, then at 2026-01-05T08:00:00Z" in told(None, around[1])
    assert "Before that it was started at 2026-01-05T06:00:00Z, then not again" in told(around[0], None)
    assert "It has not been started yet" in told(None, None)


def test_a_parent_that_need_only_have_ended_is_told_so() -> None:
    job = a_job(cron=None, next_tick=None, after=["export"], on_parent_failure="run")

    assert (
        "when that has ended since it was made. export has not ended since"
        in explain(facts(tick=None, job=job, parents=[ParentFact("export")])).text
    )


# Changes


@pytest.mark.parametrize(
    ("at_s", "cron", "words"),
    [
        (T + HOUR, "30 * * * *", "was changed from 0 * * * * to 30 * * * * at 2026-01-05T07:01:00Z by ben@box"),
        (T + HOUR + 60, "30 * * * *", None),  # due by neither
        (T - 60, "30 * * * *", None),
    ],
)  # fmt: skip
def test_a_moment_that_an_edit_explains(at_s: int, cron: str, words: str | None) -> None:
    answer = explain(facts(tick=None, at_s=at_s, job=a_job(cron=cron), notes=[MOVED, MADE]))

    assert answer.cause == ("edited" if words is not None else "not_due")
    assert words is None or words in answer.text


def test_a_tick_of_an_older_schedule_says_which() -> None:
    run = never_begun("skipped", "Mon 2026-01-05 is in the calendar holidays")

    answer = explain(facts(run, job=a_job(cron="30 * * * *"), notes=[MOVED, MADE]))

    assert answer.cause == "calendar"
    assert "Its schedule was 0 * * * * then, and was changed at 2026-01-05T07:01:00Z by ben@box. Next:" in answer.text


def test_a_failure_after_an_edit_names_it_unless_a_run_succeeded_since() -> None:
    failed = ended("failed", "ValueError: no money")
    edit = ChangeNote(T - 60.0, "ben@box", "job_changed", ("kwargs", "timeout"))
    good = replace(RUN, run_id="invoices-1", tick=T - HOUR, started_at=T - HOUR + 1.0, outcome="succeeded")

    answer = explain(facts(failed, notes=[edit, MADE], last_good=good))
    later = explain(facts(failed, notes=[edit, MADE], last_good=replace(good, started_at=T - 1.0)))

    assert answer.cause == "edited"
    assert answer.text == (
        f"{ID} failed: ValueError: no money. Its run of 2026-01-05T06:00:00Z succeeded; after that the job was "
        "changed at "
        "2026-01-05T06:59:00Z by ben@box (kwargs, timeout). Next: cronq history invoices --json"
    )
    assert later.cause == "failed"


def test_a_deploy_and_an_edit_between_the_runs_are_both_told() -> None:
    edit = ChangeNote(T - 60.0, "beat web-1.7", "job_changed", ("timeout",))
    good = replace(RUN, tick=T - HOUR, started_at=T - HOUR + 1.0)
    deploy = Redeploy(T - 90.0, "web-1", (("code", "0a", "0b"),))

    answer = explain(facts(ended("failed", "x"), notes=[edit, MADE], last_good=good, redeploy=deploy))

    assert answer.cause == "deployed"
    assert (
        "code 0b in place of 0a at 2026-01-05T06:58:30Z, and the job was changed at 2026-01-05T06:59:00Z" in answer.text
    )


def test_between_removal_and_return_there_was_no_job() -> None:
    back = ChangeNote(T + 1200.0, "ben@box", "job_created")

    late = replace(back, at_s=T + 2.5 * HOUR)

    answer = explain(facts(tick=T + HOUR, at_s=T + HOUR, notes=[late, GONE, MADE]))
    other = explain(facts(tick=None, at_s=T + 900, notes=[back, GONE, MADE]))

    assert (answer.cause, other.cause) == ("removed", "not_due")
    assert "And there was no job invoices at 2026-01-05T07:15:00Z: it was removed at 2026-01-05T07:10:00Z" in other.text
    assert answer.text == (
        "there was no job invoices at 2026-01-05T08:00:00Z: it was removed at 2026-01-05T07:10:00Z by ann@box, and "
        "made "
        "again at 2026-01-05T09:30:00Z by ben@box. Next: cronq show invoices"
    )


def test_a_definition_that_was_lost_is_no_removal() -> None:
    mended = ChangeNote(T + 1200.0, "beat b", "job_created", words="it was lost or damaged")

    assert explain(facts(tick=None, at_s=T + 900, notes=[mended, MADE])).cause == "not_due"


def test_what_is_not_known_any_more_is_said_so() -> None:
    many = [ChangeNote(T - float(number), "ann@box", "job_paused") for number in range(20)]

    kept = explain(facts(None, tick=T - HOUR, at_s=T - HOUR, notes=many))
    due = explain(facts(None, tick=None, at_s=T - HOUR + 60, notes=many))

    words = "What was changed before 2026-01-05T06:59:41Z is not known any more: the last 20 changes are kept"
    assert (kept.cause, due.cause) == ("not_kept", "not_due")
    assert words in kept.text
    assert words in due.text
    assert words not in explain(facts(None, tick=None, at_s=T - HOUR + 60, notes=many[:19])).text


def test_a_run_of_a_removed_job_is_explained_as_ever() -> None:
    failed = ended("failed", "ValueError: no money")

    answer = explain(facts(failed, at_s=T, notes=[GONE, MADE], removal=GONE))

    assert answer.cause == "failed"
    assert answer.text == (
        f"{ID} failed: ValueError: no money. The job was removed at 2026-01-05T07:10:00Z. Next: cronq history invoices"
    )


# What stands behind a run in the way


def test_a_run_that_waits_behind_another_says_what_that_one_is_at() -> None:
    waiting = open_run("waiting", reason="waits for the run invoices-1", cause=Cause("waits_for_run", "invoices-1"))
    other = open_run("queued", run_id="invoices-1", queue="default")

    answer = explain(facts(waiting, other=other, is_served=False))
    over = explain(facts(waiting, other=replace(other, outcome="failed")))

    assert (answer.cause, answer.other) == ("waits_for_run", "invoices-1")
    assert answer.text == (
        f"{ID} waits for the run invoices-1. invoices-1 is queued since 2026-01-05T07:00:00Z: no worker is alive "
        "that "
        "serves the queue default. Next: cronq worker default"
    )
    assert over.text == f"{ID} waits for the run invoices-1. Next: cronq show invoices"


def test_a_run_that_waits_for_its_lock_says_who_holds_it() -> None:
    waiting = open_run("waiting", reason="its lock is busy", cause=Cause("waits_for_lock", "nights"))

    answer = explain(facts(waiting, lock_holder="vacuum-1 on web-2 since 2026-01-05T06:00:00Z"))

    assert answer.text == (
        f"{ID} waits for a worker to begin it: its lock is busy. The lock nights is held by vacuum-1 on web-2 since "
        "2026-01-05T06:00:00Z. Next: cronq show invoices"
    )


# The present


PAUSE = Pause(since=T - 60.0, by="ann@box", note="moving house")


def test_a_job_that_is_paused_says_so_though_its_last_run_was_before_that() -> None:
    job = replace(a_job(), state=JobState(T - HOUR, PAUSE))
    good = ended("succeeded", "it ran to its end")

    answer = explain(facts(good, job=job))

    assert (answer.cause, answer.outcome) == ("paused", "succeeded")
    assert answer.text == (
        "invoices is paused since 2026-01-05T06:59:00Z by ann@box: moving house: its ticks are recorded, and do "
        "not run. "
        f"Before that {ID} was the last: succeeded. Next: cronq resume invoices"
    )
    assert explain(facts(good, job=job, at_s=T)).cause == "succeeded"
    assert explain(facts(tick=None, job=job)).cause == "paused"
    assert explain(facts(open_run("running"), job=job)).cause == "running"
    over = replace(job, state=JobState(T - HOUR, replace(PAUSE, until=T + 5.0)))
    assert explain(facts(good, job=over)).cause == "succeeded"


@pytest.mark.parametrize("pause", [None, replace(PAUSE, until=T + 5.0)])
def test_a_tick_under_a_pause_that_is_over_can_be_run_by_hand(pause: Pause | None) -> None:
    run = never_begun("paused", "paused since 2026-01-05T06:00:00Z by ann@box: moving house")
    job = replace(a_job(), state=JobState(T, pause))

    answer = explain(facts(run, job=job, at_s=T))

    assert (answer.cause, answer.next) == ("paused", "cronq run invoices --force --tick 2026-01-05T07:00:00Z")


def test_a_tick_to_come_that_will_not_run_says_why() -> None:
    answer = explain(facts(tick=T + HOUR, at_s=T + HOUR, excluded="Mon 2026-01-05 is in the calendar holidays"))

    assert answer.cause == "not_yet"
    assert "in 58m20s, but will not run then: Mon 2026-01-05 is in the calendar holidays. Next:" in answer.text


def test_a_job_that_has_no_tick_to_come_says_so() -> None:
    answer = explain(facts(tick=None, job=a_job(next_tick=None)))

    assert answer.text == "invoices has had no tick yet; none is to come by 0 * * * *. Next: cronq next invoices"


def test_the_ticks_around_a_moment_are_those_of_the_schedule_of_then() -> None:
    answer = explain(facts(tick=None, at_s=T - 60, job=a_job(cron="30 * * * *"), notes=[MOVED, MADE]))

    assert answer.text.startswith(
        "invoices (0 * * * *, UTC) was not due at 2026-01-05T06:59:00Z: its tick before was at "
    )
    assert "2026-01-05T06:00:00Z, the one after is at 2026-01-05T07:00:00Z" in answer.text
