"""What kept a run from its work stands in its row as data, and the words that people read follow from it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.calendar import make_calendar
from cronq.jobs.spec import JobSpec
from cronq.runs.cause import Cause, Parent
from cronq.runs.run import Ending, Run, Settlement, Start
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
QUEUE = "rq:queue:default"


class Scene:
    """Jobs, a beat, and a worker that does what the test says."""

    def __init__(self, app: Cronq, store: Store) -> None:
        self.app = app
        self.client = app.client
        self.store = store
        self.beat = app.beat()

    def look(self, minute: int) -> None:
        """Let a beat look at what is due so many minutes after T."""
        self.beat.pass_once(now_s=T + minute * MINUTE + 0.1)

    def close(self, day: str) -> None:
        self.app.calendars.set(make_calendar("holidays", [day]), by="ann@box", now_s=T)

    def run(self, minute: int, job: str = "a") -> Run:
        run = self.app.runs.run_at(job, T + minute * MINUTE)
        assert run is not None
        return run

    def raw(self, minute: int, job: str = "a") -> dict[bytes, bytes]:
        return dict(self.client.hgetall(self.app.keys.run(run_id_of(job, T + minute * MINUTE))))

    def begin(self, minute: int, job: str = "a") -> str:
        run_id = run_id_of(job, T + minute * MINUTE)
        self.client.lrem(QUEUE, 1, run_id)
        start = Start(worker="w", host="box", pid=1, execution=f"e-{run_id}", lease_s=90, now_s=self.app.now_s())
        assert self.app.runs.start(self.app.runs.get(run_id), start).code == "started"
        return run_id

    def end(self, run_id: str, outcome: str = "succeeded") -> None:
        ending = Ending(Settlement(outcome, "because"), "w", self.app.now_s(), execution=f"e-{run_id}")
        assert self.app.runs.settle(self.app.runs.get(run_id), ending)


@pytest.fixture
def scene(app: Cronq, store: Store) -> Scene:
    return Scene(app, store)


def id_of(minute: int, job: str = "a") -> str:
    return run_id_of(job, T + minute * MINUTE)


# Ticks that did not run


@pytest.mark.parametrize("doing", ["queued", "running"])
def test_a_tick_that_is_skipped_for_an_earlier_run_says_which_and_what_that_did(
    scene: Scene, caplog: pytest.LogCaptureFixture, doing: str
) -> None:
    scene.store("a", mark=T)
    scene.look(1)
    if doing == "running":
        scene.begin(1)
    with caplog.at_level(logging.INFO, "cronq.beat"):
        scene.look(2)

    run = scene.run(2)
    assert (run.outcome, run.cause) == ("skipped", Cause("overlap", id_of(1), state=doing))
    assert run.reason == f"the run {id_of(1)} was still {doing}"
    assert b"reason" not in scene.raw(2)
    assert f"SKIPPED job=a tick=2026-01-05T07:02:00Z: {run.reason}" in caplog.text


def test_a_tick_whose_place_a_later_one_took_says_which(scene: Scene) -> None:
    scene.store("a", mark=T, overlap="latest")
    scene.look(1)
    scene.look(2)

    run = scene.run(1)
    assert (run.outcome, run.cause) == ("coalesced", Cause("coalesced", id_of(2)))
    assert run.reason == f"the run {id_of(2)} took its place"
    assert b"reason" not in scene.raw(1)


def test_a_tick_behind_a_paused_queue_says_which_queue_and_run(scene: Scene) -> None:
    scene.store("a", mark=T)
    scene.look(1)
    scene.app.pause_queue("default", note="a deploy")
    scene.look(2)

    assert scene.run(2).cause == Cause("queue_paused", "default", run_id=id_of(1))


def test_a_tick_that_somebody_skips_and_one_that_a_calendar_excludes_say_so(scene: Scene) -> None:
    scene.close("2026-01-05")
    scene.store("a", mark=T, except_="holidays")
    scene.store("b", mark=T)
    scene.app.client.hset(
        scene.app.keys.state("b"), "skips", f'[{{"ticks":[{T + MINUTE}],"by":"ann","note":"","at":5}}]'
    )
    scene.look(1)

    assert scene.run(1).cause == Cause("calendar", "holidays")
    assert scene.run(1, "b").cause == Cause("skip")


def test_each_tick_of_a_range_has_the_cause_of_all(scene: Scene) -> None:
    scene.close("2026-01-05")
    scene.store("a", mark=T, except_="holidays")
    scene.look(30)

    assert scene.client.zcard(scene.app.keys.runs("a")) == 1
    assert {run.cause for run in scene.app.history("a", 100)} == {Cause("calendar", "holidays")}


def test_a_tick_that_leaves_its_range_takes_the_cause_along(scene: Scene) -> None:
    scene.close("2026-01-05")
    scene.store("a", mark=T, except_="holidays")
    scene.look(30)
    scene.app.mark_success("a", T + 10 * MINUTE)

    run = scene.run(10)
    assert (run.outcome, run.cause) == ("succeeded", None)
    assert [attempt.cause for attempt in run.attempts] == [Cause("calendar", "holidays")]
    assert scene.run(9).cause == scene.run(11).cause == Cause("calendar", "holidays")


def test_a_skipped_tick_that_is_marked_keeps_why_as_an_earlier_attempt(scene: Scene) -> None:
    scene.store("a", mark=T)
    scene.look(1)
    scene.look(2)

    scene.app.mark_success("a", T + 2 * MINUTE)

    run = scene.run(2)
    assert (run.outcome, run.cause) == ("succeeded", None)
    assert run.attempts[0].reason == f"the run {id_of(1)} was still queued"
    assert b"cause" not in scene.raw(2)


@pytest.mark.parametrize(
    ("options", "makes"),
    [
        ({}, "overlap"),
        ({"overlap": "latest"}, "coalesced"),
        ({"except_": "holidays"}, "calendar"),
    ],
)
def test_the_row_of_such_a_tick_takes_at_most_300_bytes(
    scene: Scene, redis: Redis, options: dict[str, str], makes: str
) -> None:
    scene.close("2026-01-05")
    scene.store("invoices", mark=T, **options)
    scene.look(1)
    scene.look(2)

    run = scene.run(1 if makes == "coalesced" else 2, "invoices")
    assert run.cause is not None
    assert run.cause.code == makes
    assert (redis.memory_usage(scene.app.keys.run(run.run_id)) or 0) <= 300


# Runs that wait


def test_a_run_that_waits_behind_another_says_which_until_its_turn_has_come(scene: Scene) -> None:
    scene.store("a", mark=T, overlap="queue")
    for minute in (1, 2, 3):
        scene.look(minute)
    assert scene.run(2).cause == Cause("waits_for_run", id_of(1))
    assert scene.run(3).cause == Cause("waits_for_run", id_of(2))

    scene.app.stop(id_of(2))
    assert scene.run(3).cause == Cause("waits_for_run", id_of(1))
    assert scene.run(2).cause is None
    scene.end(scene.begin(1))

    assert (scene.run(3).state, scene.run(3).cause) == ("queued", None)
    assert b"cause" not in scene.raw(3)


def test_a_run_behind_one_that_an_older_release_made_wait_follows_its_words(scene: Scene) -> None:
    scene.store("a", mark=T, overlap="queue")
    for minute in (1, 2, 3):
        scene.look(minute)
    for minute in (2, 3):
        scene.client.hdel(scene.app.keys.run(id_of(minute)), "cause")
    assert scene.run(3).cause == Cause("waits_for_run", id_of(2))

    scene.app.stop(id_of(2))

    assert scene.run(3).cause == Cause("waits_for_run", id_of(1))
    assert scene.run(3).reason == f"waits for the run {id_of(1)}"


def test_a_run_that_waits_for_its_lock_says_which(scene: Scene) -> None:
    scene.store("a", mark=T, exclusive=True, lock="nights")
    run_id = scene.app.enqueue("a")
    scene.client.lmove(QUEUE, f"{QUEUE}:intermediate")

    assert scene.app.runs.park(scene.app.runs.get(run_id), "nights", scene.app.now_s())

    assert scene.app.runs.get(run_id).cause == Cause("waits_for_lock", "nights")
    scene.app.runs.wake_waiter("nights")
    assert scene.app.runs.get(run_id).cause is None


def test_a_run_that_waits_for_parents_says_which_and_of_when(scene: Scene) -> None:
    scene.store("load", mark=T)
    scene.store("pump", mark=T)
    scene.store("a", mark=T, depends_on=["load", "pump"])
    scene.app.changes().remove("pump", by="ann@box", force=True)
    scene.look(1)

    parents = (Parent("load", T + MINUTE), Parent("pump", None))
    assert scene.run(1).cause == Cause("waits_for_parents", "load", parents=parents)
    scene.end(scene.begin(1, "load"))
    assert scene.run(1).cause == Cause("waits_for_parents", "pump", parents=parents[1:])


def test_a_blocked_tick_says_by_which_parents_and_how_they_stood(scene: Scene) -> None:
    scene.store("load", mark=T)
    scene.store("pump", mark=T)
    scene.store("a", mark=T, depends_on=["load", "pump"])
    scene.app.changes().remove("pump", by="ann@box", force=True)
    scene.look(1)
    scene.end(scene.begin(1, "load"), "failed")
    scene.look(2)

    run = scene.run(1)
    assert run.outcome == "blocked"
    parents = (Parent("load", T + MINUTE, "failed"), Parent("pump", None))
    assert run.cause == Cause("blocked", "load", parents=parents)
    assert run.reason == (
        "it waited for its parents load of 2026-01-05T07:01:00Z (failed), pump, since 2026-01-05T07:00:00Z, which is "
        "no job (not run) until its next tick fell due"
    )
