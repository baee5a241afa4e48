"""Schedules of one job by key, in Redis: made, followed, claimed, removed."""

from __future__ import annotations

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.errors import DefinitionError, UnknownJob
from cronq.jobs.decorator import job
from tests.faces.conftest import pass_at
from tests.redis.conftest import work

MODULE = work.__module__


@pytest.fixture
def report(app: Cronq) -> str:
    """A job that is only run by hand, defined by this process and stored."""
    app.registry.enqueuer = lambda: app
    job(name="report", registry=app.registry, queue="slow", timeout="5m")(work)
    assert app.sync([MODULE], load=False).created == ["report"]
    return "report"


def _define_anew(app: Cronq, **options: object) -> None:
    app.registry.definitions.clear()
    job(name="report", registry=app.registry, **options)(work)  # type: ignore[call-overload]


def test_it_is_made_changed_and_removed_by_its_key(app: Cronq, report: str) -> None:
    handle = work.jobs[report]  # type: ignore[attr-defined]

    assert handle.schedule("user-42", cron="0 7 * * *", tz="Asia/Tokyo", kwargs={"user": 42}) == "created"
    assert handle.schedule("user-42", cron="0 7 * * *", tz="Asia/Tokyo", kwargs={"user": 42}) == "same"
    assert handle.schedule("user-42", cron="0 8 * * *", kwargs={"user": 42}) == "changed"
    (found,) = app.schedules(report).items()
    assert (found[0], found[1].spec.cron, found[1].spec.tz) == ("user-42", "0 8 * * *", "UTC")
    assert [handle.unschedule("user-42") for _ in range(2)] == [True, False]
    assert app.schedules(report) == {}


def test_each_has_ticks_arguments_and_a_pause_of_its_own(app: Cronq, report: str) -> None:
    now = int(app.now_s())
    for user in (1, 2):
        app.schedule(report, f"user-{user}", cron="* * * * * *", kwargs={"user": user})
    app.pause("report--user-2")
    for user in (1, 2):
        app.quarantine.restore_mark(f"report--user-{user}", now - 1, now)

    pass_at(app, now)

    (one,), (two,) = (app.history(f"report--user-{user}") for user in (1, 2))
    assert (one.state, one.queue) == ("queued", "slow")
    assert two.outcome == "paused"
    assert app.jobs.get("report--user-1").spec.args_json == '[[],{"user":1}]'


def test_they_follow_their_job_at_each_sync_and_plan_says_so(app: Cronq, report: str) -> None:
    app.schedule(report, "a", every="1h")
    app.schedule(report, "b", every="1h", queue="vip")
    _define_anew(app, queue="fast", timeout="9m")

    planned = {each.spec.name: {item.name for item in each.fields} for each in app.plan([MODULE]).changes}
    report_of_sync = app.sync([MODULE], load=False)

    assert planned == {
        "report": {"queue", "timeout"},
        "report--a": {"queue", "timeout"},
        "report--b": {"timeout"},
    }
    assert sorted(report_of_sync.changed) == sorted(planned)
    stored = app.schedules(report)
    assert [(key, each.spec.queue, each.spec.timeout) for key, each in stored.items()] == [
        ("a", "fast", 540.0), ("b", "vip", 540.0),
    ]  # fmt: skip
    assert app.sync([MODULE], load=False).changed == []


def test_a_sync_that_finds_the_job_no_more_leaves_them_as_ghosts(app: Cronq, report: str) -> None:
    app.schedule(report, "a", every="1h")
    app.registry.definitions.clear()

    assert app.sync([MODULE], load=False).removed == ["report"]

    assert [ghost.spec.name for ghost in app.ghosts([MODULE])] == ["report--a"]


def test_what_cannot_be_changes_nothing(app: Cronq, report: str, redis: Redis) -> None:
    app.add("report--mine", command=["true"])
    before = sorted(redis.keys("*"))

    with pytest.raises(DefinitionError, match="is taken by the job at added by"):
        app.schedule(report, "mine", every="1h")
    with pytest.raises(DefinitionError, match="is not a key"):
        app.schedule(report, "a b", every="1h")
    with pytest.raises(UnknownJob):
        app.schedule("nothing", "a", every="1h")
    assert app.unschedule(report, "mine") is False

    assert sorted(redis.keys("*")) == before


def test_arguments_must_fit_the_function(app: Cronq) -> None:
    def letter(user: int) -> None:
        pass

    app.registry.definitions.clear()
    letter.__qualname__ = "letter"
    job(name="letter", registry=app.registry)(letter)
    app.sync([MODULE], load=False)

    with pytest.raises(DefinitionError, match="user"):
        app.schedule("letter", "a", every="1h")
    with pytest.raises(DefinitionError, match="user"):
        app.schedule("letter", "a", every="1h", kwargs={"usr": 1})
    assert app.schedule("letter", "a", every="1h", kwargs={"user": 1}) == "created"
