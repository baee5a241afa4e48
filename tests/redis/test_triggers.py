"""Jobs with `after`: they run each time that all their parents have succeeded since they were last started."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from cronq.app.app import Cronq
from cronq.db import scripts
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.run import Ending, Run, Settlement, describe_run
from cronq.timetext import tick_stamp
from tests.redis.test_gates import MINUTE, Scene, T
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]


class Triggers(Scene):
    """Jobs `a` and `b` of each minute, and jobs that run after others."""

    def __init__(self, app: Cronq, store: Store) -> None:
        super().__init__(app, store)
        for name in ("a", "b"):
            store(name, mark=T)
        self.minute = 0

    def after(self, name: str, *parents: str, **options: object) -> None:
        spec = make_spec(name, function="tests.redis.conftest:work", after=list(parents), **options)
        held = self.app.jobs.version_of(name)
        self.app.jobs.save(spec, source="here:1", origin="test", expected=held, mark=T)

    def runs_of(self, job: str) -> list[Run]:
        """All of its runs, newest first."""
        return self.app.history(job)

    def do(self, *jobs: str, outcome: str = "succeeded") -> None:
        """Let a worker do a run of each of these jobs, by hand."""
        for job in jobs:
            run_id = self.app.enqueue(job)
            self.begin(run_id)
            self.end(run_id, outcome)


@pytest.fixture
def scene(app: Cronq, store: Store) -> Triggers:
    return Triggers(app, store)


def test_each_success_of_the_only_parent_starts_the_child(scene: Triggers) -> None:
    scene.after("child", "a")
    tick = T + MINUTE
    scene.look(tick)
    scene.work("a", tick)

    (run,) = scene.runs_of("child")

    assert (run.state, run.trigger, run.reason) == ("queued", "after", f"after the run {run_id_of('a', tick)}")
    assert run.tick is not None
    assert abs(run.tick - scene.app.now_s()) < 5
    assert run.run_id == f"child-{tick_stamp(run.tick)}"
    assert run.run_id in scene.queued()
    assert scene.client.hget(f"rq:job:{run.run_id}", "description") == describe_run("child", run.tick, "").encode()
    assert scene.app.jobs.mark_of("child") == run.tick


def test_with_several_parents_it_starts_when_all_have_succeeded_since_its_last_start(scene: Triggers) -> None:
    scene.after("child", "a", "b")
    scene.do("a", "a")
    assert scene.runs_of("child") == []
    scene.do("b")
    assert len(scene.runs_of("child")) == 1, "a, a, b: one run, at the success of b"
    scene.do("b")
    assert len(scene.runs_of("child")) == 1
    (run,) = scene.runs_of("child")
    scene.begin(run.run_id)
    scene.end(run.run_id)
    scene.do("a")
    assert len(scene.runs_of("child")) == 2


def test_two_starts_in_one_second_are_two_ticks(scene: Triggers) -> None:
    scene.after("child", "a", overlap="allow")
    scene.do("a", "a", "a")
    ticks = [run.tick for run in scene.runs_of("child")]
    assert ticks == sorted({tick for tick in ticks if tick is not None}, reverse=True)
    assert len(ticks) == 3


def test_what_the_parents_did_before_the_job_was_there_does_not_count(scene: Triggers) -> None:
    scene.after("first", "a")  # from now on the successes of a are counted
    scene.do("a", "a")
    scene.after("late", "a", "b")
    scene.do("b")
    assert scene.runs_of("late") == []
    scene.do("a")
    assert len(scene.runs_of("late")) == 1


def test_saving_it_again_forgets_nothing_and_an_edit_keeps_what_is_still_named(scene: Triggers) -> None:
    scene.after("child", "a", "b")
    scene.do("a")
    scene.after("child", "a", "b", description="edited")
    scene.do("b")
    assert len(scene.runs_of("child")) == 1
    scene.app.stop("child")
    scene.do("a")
    scene.after("child", "a")
    scene.do("b")
    assert len(scene.runs_of("child")) == 1, "b is no parent any more"


def test_a_failure_starts_nothing_unless_it_is_to_count(scene: Triggers) -> None:
    scene.after("strict", "a")
    scene.after("lenient", "a", on_parent_failure="run")
    scene.do("a", outcome="failed")
    assert scene.runs_of("strict") == []
    assert len(scene.runs_of("lenient")) == 1


def test_a_paused_job_records_that_it_would_have_run(scene: Triggers) -> None:
    scene.after("child", "a")
    pause = scene.app.pause("child", note="holiday")
    scene.do("a")
    (run,) = scene.runs_of("child")
    assert (run.outcome, run.reason) == ("paused", pause.reason)
    scene.app.resume("child")
    scene.do("a")
    assert [run.state for run in scene.runs_of("child")] == ["queued", "done"]


def test_overlap_goes_by_the_rule_of_the_job(scene: Triggers) -> None:
    scene.after("skips", "a")
    scene.after("waits", "a", overlap="queue")
    scene.do("a", "a")
    assert [run.outcome for run in scene.runs_of("skips")] == ["skipped", None]
    newest, oldest = scene.runs_of("waits")
    assert (newest.state, newest.reason) == ("waiting", f"waits for the run {oldest.run_id}")
    scene.begin(oldest.run_id)
    scene.end(oldest.run_id)
    assert newest.run_id in scene.queued()


def test_a_chain_of_twenty_runs_by_itself(scene: Triggers) -> None:
    names = ["a", *(f"link{number}" for number in range(20))]
    for parent, name in pairwise(names):
        scene.after(name, parent)
    scene.do("a")
    for name in names[1:]:
        (run,) = scene.runs_of(name)
        assert scene.queued() == [run.run_id]
        scene.begin(run.run_id)
        scene.end(run.run_id)


def test_a_fan_of_two_hundred_is_started_in_one_step(scene: Triggers) -> None:
    for number in range(200):
        scene.after(f"child{number}", "a")
    scene.do("a")
    assert len(scene.queued()) == 200


def test_a_success_that_a_person_marked_counts(scene: Triggers) -> None:
    scene.after("child", "a")
    scene.look(T + MINUTE)
    scene.work("a", T + MINUTE, "failed")
    scene.app.mark_success("a", T + MINUTE)
    assert len(scene.runs_of("child")) == 1


def test_a_child_that_cannot_be_started_is_started_by_a_beat_once_its_keys_are_mended(scene: Triggers) -> None:
    scene.after("child", "a")
    scene.client.set("cronq:job:child:active", "damaged")
    scene.do("a")
    assert scene.client.smembers("cronq:untriggered") == {b"child"}
    scene.sweep.once()
    assert scene.client.smembers("cronq:untriggered") == {b"child"}
    scene.client.delete("cronq:job:child:active")
    scene.sweep.once()
    assert scene.client.exists("cronq:untriggered") == 0
    assert [run.state for run in scene.runs_of("child")] == ["queued"]


def lose_state(scene: Triggers, job: str) -> None:
    """As when the job is removed with --force and added again, or its state was damaged."""
    for field in ("successes", "endings"):
        scene.client.hdel(f"cronq:job:{job}:state", field)


def test_a_parent_that_was_removed_and_came_back_counts_anew(scene: Triggers) -> None:
    scene.after("child", "a", "b")
    scene.do("a", "b", "a")
    scene.app.stop("child")
    lose_state(scene, "a")
    scene.do("b", "a")
    assert len(scene.runs_of("child")) == 2


def test_a_parent_that_came_back_has_not_succeeded_by_that(scene: Triggers) -> None:
    scene.after("child", "a", "b")
    scene.after("lenient", "a", "b", on_parent_failure="run")
    scene.do("a", "b")
    scene.app.stop("child")
    scene.app.stop("lenient")
    lose_state(scene, "a")
    scene.do("b")
    assert len(scene.runs_of("child")) == len(scene.runs_of("lenient")) == 1
    scene.do("a", outcome="failed")
    assert len(scene.runs_of("child")) == 1
    assert len(scene.runs_of("lenient")) == 2


def test_the_first_success_of_a_parent_that_came_back_counts(scene: Triggers) -> None:
    scene.after("child", "a", overlap="allow")
    scene.do("a")
    lose_state(scene, "a")
    scene.do("a")
    assert len(scene.runs_of("child")) == 2


def test_a_job_whose_state_was_lost_is_started_all_the_same(scene: Triggers) -> None:
    scene.after("child", "a", overlap="allow")
    scene.do("a")
    scene.client.delete("cronq:job:child:state")
    scene.do("a")
    assert len(scene.runs_of("child")) == 2


def test_a_state_of_a_wrong_type_is_moved_aside_and_the_job_goes_on(scene: Triggers) -> None:
    scene.after("child", "a")
    scene.client.delete("cronq:job:child:state")
    scene.client.set("cronq:job:child:state", "damaged")
    scene.do("a")
    assert scene.runs_of("child") == []
    assert scene.beat.audit is not None
    scene.beat.audit.work(scene.app.now_s())
    scene.sweep.once()
    scene.do("a")  # what the parents did is counted from when the state was mended
    assert len(scene.runs_of("child")) == 1
    assert scene.client.exists("cronq:untriggered") == 0


def spoil(scene: Triggers, key: str) -> None:
    """Put something of another type there."""
    scene.client.delete(key)
    scene.client.set(key, "damaged")


@pytest.mark.parametrize(
    "damage",
    [
        *(partial(spoil, key=f"cronq:job:child:{kind}") for kind in ("active", "runs", "behind", "template")),
        partial(spoil, key="cronq:job:a:children"),
        lambda scene: scene.client.hset("cronq:job:child", "trigger", "{"),
        lambda scene: scene.client.hset("cronq:job:child", "trigger", '{"after": 5}'),
        lambda scene: scene.client.hset("cronq:job:child", "trigger", '{"after": ["a"], "queue": "default"}'),
        lambda scene: scene.client.hdel("cronq:job:child:template", "data"),
    ],
    ids=["active", "runs", "behind", "template", "children", "junk", "no list", "half", "template's data"],
)
def test_a_damaged_key_silences_no_job_that_runs_after_others(
    scene: Triggers, caplog: pytest.LogCaptureFixture, damage: Callable[[Triggers], None]
) -> None:
    scene.after("child", "a")
    damage(scene)
    scene.do("a")
    assert scene.runs_of("child") == []

    assert scene.beat.audit is not None
    scene.beat.audit.work(scene.app.now_s())
    scene.beat.audit.work(scene.app.now_s())
    scene.sweep.once()

    assert [run.state for run in scene.runs_of("child")] == ["queued"]
    assert scene.client.exists("cronq:untriggered") == 0
    assert [line for line in caplog.messages if line.startswith("BROKEN job=")]


def test_a_trigger_that_was_lost_is_made_again(scene: Triggers) -> None:
    scene.after("child", "a")
    scene.client.hdel("cronq:job:child", "trigger")
    assert scene.beat.audit is not None
    scene.beat.audit.work(scene.app.now_s())

    scene.do("a")

    assert len(scene.runs_of("child")) == 1


def test_a_sound_job_is_not_called_broken(scene: Triggers, caplog: pytest.LogCaptureFixture) -> None:
    scene.after("child", "a", "b", queue="nightly", overlap="queue", keep=50)
    scene.do("a")
    assert scene.beat.audit is not None
    scene.beat.audit.work(scene.app.now_s())
    scene.sweep.once()

    assert [line for line in caplog.messages if "child" in line] == []
    assert scene.runs_of("child") == []


def test_that_a_job_cannot_be_started_is_said_once(scene: Triggers, caplog: pytest.LogCaptureFixture) -> None:
    scene.after("child", "a")
    spoil(scene, "cronq:job:child:active")
    scene.do("a")
    for _ in range(3):
        scene.sweep.once()

    (line,) = [line for line in caplog.messages if line.startswith("BROKEN")]
    assert "job=child" in line


@pytest.mark.parametrize("mark", ["1e17", "1e300", "inf", "nan", "-inf", "-1", "x"])
def test_a_mark_beyond_sense_keeps_neither_the_job_nor_redis_busy(scene: Triggers, mark: str) -> None:
    scene.after("child", "a", overlap="allow")
    scene.client.hset("cronq:job:child:state", "mark", mark)
    scene.do("a", "a", "a")
    ticks = [run.tick for run in scene.runs_of("child")]
    assert len(set(ticks)) == 3
    assert all(tick is not None and abs(tick - scene.app.now_s()) < 10 for tick in ticks)


def test_a_count_that_is_no_number_starts_again(scene: Triggers) -> None:
    scene.after("child", "a", overlap="allow")
    scene.do("a")
    scene.client.hset("cronq:job:a:state", "successes", "x")
    scene.do("a", "a")
    assert len(scene.runs_of("child")) == 3


def test_a_job_that_cannot_be_started_leaves_no_half_of_a_tick_each_time(scene: Triggers) -> None:
    scene.after("child", "a")
    card = json.loads(scene.client.hget("cronq:job:child", "trigger") or b"")
    scene.client.hset("cronq:job:child", "trigger", json.dumps({**card, "keep": "many"}))
    scene.do("a")
    scene.sweep.once()
    scene.sweep.once()
    assert scene.runs_of("child") == []
    scene.after("child", "a")  # a sync stores it anew
    scene.sweep.once()
    assert len(scene.runs_of("child")) == 1


@pytest.mark.parametrize(
    "epoch", [0, 951782399, 951782400, 1709164800, 1767596461, 4107542399, 4107542400, 32503679999]
)
def test_moments_are_written_as_python_writes_them(app: Cronq, epoch: int) -> None:
    part = scripts.source("runs/trigger").split("local item")[0]
    found = app.client.eval(f"{part} return {{tick_stamp({epoch}), in_description({epoch})}}", 0)
    assert [each.decode() for each in found] == [tick_stamp(epoch), describe_run("", epoch, "")]


def test_a_run_that_was_called_lost_and_then_succeeds_has_ended_once(scene: Triggers) -> None:
    """Its guardian was cut off alone and is back: for those that count successes only this is the first one."""
    scene.after("strict", "a")
    scene.after("lenient", "a", on_parent_failure="run")
    run_id = scene.app.enqueue("a")
    scene.begin(run_id)
    lost = Ending(Settlement("lost", "not heard of"), "beat b", scene.app.now_s())
    assert scene.app.runs.settle(scene.app.runs.get(run_id), lost)
    assert [len(scene.runs_of(name)) for name in ("strict", "lenient")] == [0, 1]

    ending = Ending(Settlement("succeeded", "because"), "w", scene.app.now_s(), execution=f"e-{run_id}")
    assert scene.app.runs.settle(replace(scene.app.runs.get(run_id), state="running"), ending)

    assert scene.app.runs.get(run_id).outcome == "succeeded"
    assert [len(scene.runs_of(name)) for name in ("strict", "lenient")] == [1, 1]
