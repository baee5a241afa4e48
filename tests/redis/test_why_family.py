"""`why` on parents and on changes of jobs: what it gathers from Redis, and one level behind it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cronq.app.app import Cronq
from cronq.definitions.changes import Changes
from cronq.errors import UnknownJob
from cronq.jobs.spec import make_spec
from cronq.runs.run import Ending, Settlement, Start
from cronq.timetext import iso
from tests.run_ids import run_id_of

MINUTE, HOUR = 60, 3600
QUEUE = "rq:queue:default"


class Scene:
    """Jobs that people make at times of our choice, a beat, and a worker that does what the test says.

    Minute 0 is a full hour, some hours ago by the server's clock: what happens there is over.
    """

    def __init__(self, app: Cronq) -> None:
        self.app = app
        self.client = app.client
        self.begin = int(app.now_s()) // HOUR * HOUR - 10 * HOUR

    def s(self, minute: float) -> float:
        return self.begin + minute * MINUTE

    def iso(self, minute: float) -> str:
        return iso(int(self.s(minute))) or ""

    def changes(self, minute: float, by: str = "ann@box") -> Changes:
        app = self.app
        return Changes(app.jobs, app.claimer(by), app.bulk_stop, app.calendars, lambda: self.s(minute), 86400)

    def save(self, minute: float, name: str, by: str = "ann@box", **options: Any) -> None:
        spec = make_spec(name, command=["true"], **options)
        self.changes(minute, by).save(spec, source="here:1", origin="cli")

    def look(self, minute: float) -> None:
        self.app.beat().pass_once(now_s=self.s(minute) + 0.1)

    def work(self, run_id: str, minute: float, outcome: str = "succeeded", reason: str = "because") -> None:
        self.client.lrem(QUEUE, 1, run_id)
        start = Start("w", "box", 1, f"e-{run_id}", 90, self.s(minute) + 1)
        assert self.app.runs.start(self.app.runs.get(run_id), start).code == "started"
        ending = Ending(Settlement(outcome, reason), "w", self.s(minute) + 6, execution=f"e-{run_id}")
        assert self.app.runs.settle(self.app.runs.get(run_id), ending)

    def id(self, job: str, minute: float) -> str:
        return run_id_of(job, int(self.s(minute)))


@pytest.fixture
def scene(app: Cronq) -> Scene:
    return Scene(app)


@pytest.fixture
def family(scene: Scene) -> Scene:
    """An hourly load, a report ten minutes later that waits for it, and publish, after both."""
    scene.save(0, "load", cron="0 * * * *")
    scene.save(0, "report", cron="10 * * * *", depends_on="load")
    scene.save(0, "publish", after=["load", "report"])
    scene.look(60)
    return scene


# Parents


def test_a_run_that_waits_names_the_parent_and_why_that_one_has_not_succeeded(family: Scene) -> None:
    family.look(70)
    queued = family.app.why("report", family.iso(70))
    family.work(family.id("load", 60), 75, "failed", "ValueError: no money")

    answer = family.app.why("report", family.iso(70))

    assert queued.cause == answer.cause == "waits_for_parents"
    assert f"load of {family.iso(60)}, which is queued. load-" in queued.text
    assert "no worker is alive that serves the queue default" in queued.text
    assert queued.next == "cronq worker default"
    assert (
        f"load of {family.iso(60)}, which failed. {family.id('load', 60)} failed: ValueError: no money" in answer.text
    )
    assert answer.next == f"cronq backfill load --tick {family.iso(60)}"
    assert answer.other == "load"


def test_a_blocked_tick_names_the_parent_as_it_stood_and_what_became_of_it(family: Scene) -> None:
    family.look(70)
    family.work(family.id("load", 60), 75, "failed", "ValueError: no money")
    family.look(130)
    family.app.mark_success("load", int(family.s(60)))

    answer = family.app.why("report", family.iso(70))

    assert (answer.cause, answer.outcome, answer.other) == ("blocked", "blocked", "load")
    assert f"its parent load of {family.iso(60)} had failed. {family.id('load', 60)} succeeded" in answer.text
    assert answer.next == f"cronq why load --at {family.iso(60)}"


def test_a_parent_whose_tick_nobody_has_taken_is_explained_by_that(family: Scene) -> None:
    family.save(71, "other", cron="5 * * * *")
    family.save(71, "report", cron="10 * * * *", depends_on=["load", "other"], overlap="allow")
    family.work(family.id("load", 60), 75)
    family.client.zrem(family.app.keys.agenda, "other")  # as if no beat came to it
    family.look(130)

    answer = family.app.why("report", family.iso(130))

    assert answer.cause == "waits_for_parents"
    assert f"other of {family.iso(125)}, which has no run yet" in answer.text


def test_a_parent_that_is_no_job_any_more_says_since_when(family: Scene) -> None:
    family.look(70)
    family.changes(75).remove("load", by="ben@box", force=True)

    answer = family.app.why("report", family.iso(70))

    assert answer.cause == "no_parent"
    assert f"load, which is no job (removed at {family.iso(75)} by ben@box)" in answer.text
    assert [(parent.name, parent.is_job) for parent in answer.parents] == [("load", False)]


def test_a_job_after_others_says_which_of_them_it_lacks(family: Scene) -> None:
    first = family.app.why("publish")
    family.work(family.id("load", 60), 75)
    second = family.app.why("publish")

    assert (first.cause, first.due) == ("after", False)
    assert "report has not succeeded since; load has not succeeded since" in first.text
    assert second.cause == "after"
    assert "since it was made. load has, but report has not succeeded since" in second.text
    assert second.next == "cronq why report"


def test_a_job_after_others_is_asked_for_by_the_minute_in_which_it_was_started(family: Scene) -> None:
    family.look(70)
    family.work(family.id("load", 60), 75)
    family.work(family.id("report", 70), 76)
    (run,) = family.app.history("publish")
    assert run.tick is not None
    minute = iso(run.tick // 60 * 60) or ""

    assert family.app.why("publish", minute).tick == run.tick
    assert family.app.why("publish", minute).cause == "no_worker"
    assert family.app.why("publish").cause == "no_worker"
    other = family.app.why("publish", iso(run.tick // 60 * 60 - HOUR))
    assert (other.cause, other.tick) == ("after", None)
    assert f"Before that it never was, then at {iso(run.tick)}" in other.text


# Changes


def test_a_moment_before_the_job_was_made_says_who_made_it_when(family: Scene) -> None:
    answer = family.app.why("load", family.iso(-60))

    assert answer.cause == "created_later"
    assert f"load was made only at {family.iso(0)} by ann@box" in answer.text


def test_an_edit_explains_the_ticks_on_both_sides_of_it(family: Scene) -> None:
    family.save(75, "load", by="beat web-1.7", cron="30 * * * *")

    assert family.app.why("load", family.iso(30)).cause == "edited"
    assert f"became 30 * * * * at {family.iso(75)} by beat web-1.7" in family.app.why("load", family.iso(30)).text
    before = family.app.why("load", family.iso(60))
    assert before.cause == "no_worker"
    after = family.app.why("load", family.iso(120))
    assert after.cause == "edited"
    assert f"was changed from 0 * * * * to 30 * * * * at {family.iso(75)} by beat web-1.7" in after.text


def test_a_job_whose_schedule_was_taken_away_is_explained_by_that(family: Scene) -> None:
    family.save(75, "load")

    answer = family.app.why("load", family.iso(120))

    assert answer.cause == "edited"
    assert f"was changed from 0 * * * * to none at {family.iso(75)}" in answer.text


def test_a_removed_job_says_who_removed_it_and_explains_its_runs(family: Scene) -> None:
    family.changes(75).remove("load", by="ben@box", force=True)

    asked = family.app.why("load")
    run = family.app.why("load", family.iso(60))

    assert asked.cause == "removed"
    assert (
        f"it was removed at {family.iso(75)} by ben@box. Its last run was {family.id('load', 60)}, stopped"
        in asked.text
    )
    assert (run.cause, run.outcome) == ("stopped", "stopped")
    assert f"The job was removed at {family.iso(75)}" in run.text
    assert family.app.why("load", family.iso(30)).cause == "removed"
    with pytest.raises(UnknownJob):
        family.app.why("lead")


def test_a_failure_names_the_edit_since_the_last_run_that_succeeded(scene: Scene) -> None:
    scene.save(0, "load", cron="0 * * * *")
    for minute, outcome in ((60, "succeeded"), (120, "timed_out"), (180, "timed_out"), (240, "succeeded")):
        if minute == 120:
            scene.save(90, "load", by="ben@box", cron="0 * * * *", timeout=5.0)
        scene.look(minute)
        scene.work(scene.id("load", minute), minute, outcome)

    for minute in (120, 180):  # also when a later one has succeeded
        answer = scene.app.why("load", scene.iso(minute))
        assert answer.cause == "edited"
        assert (
            f"Its run of {scene.iso(60)} succeeded; after that the job was changed at {scene.iso(90)} by" in answer.text
        )
        assert "by ben@box (timeout)" in answer.text


@pytest.mark.timing
def test_a_tick_of_long_ago_among_a_thousand_rows_and_twenty_changes_is_explained_at_once(scene: Scene) -> None:
    scene.save(0, "load", cron="* * * * *", overlap="allow", keep=2000)
    scene.save(0, "report", cron="* * * * *", depends_on="load", keep=2000)
    for minute in range(1, 501):
        scene.look(minute)
        if minute % 25 == 0:
            scene.save(minute + 0.5, "report", cron="* * * * *", depends_on="load", keep=2000 + minute)
    began = time.perf_counter()

    answer = scene.app.why("report", scene.iso(3))

    assert time.perf_counter() - began < 0.1
    assert answer.cause == "blocked"
