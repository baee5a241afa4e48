"""Jobs with `depends_on`: what a tick waits for, what lets it go, and what becomes of it when nothing does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis
from rq.job import Job

from cronq.app.app import Cronq
from cronq.beat.sweep import Sweep
from cronq.beat.waiting import WaitingWalk
from cronq.jobs.quarantine import Quarantine
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.run import Ending, Run, Settlement, Start
from cronq.runs.timing import Timing
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR = 60, 3600
QUEUE = "rq:queue:default"


class Scene:
    """Jobs, a beat, and a worker that does what the test says."""

    def __init__(self, app: Cronq, store: Store) -> None:
        self.app = app
        self.client = app.client
        self.store = store
        self.beat = app.beat()
        self.sweep = Sweep(app.client, app.keys, app.runs, by="beat b", timing=Timing(30.0))

    def look(self, at_s: float) -> None:
        """Let a beat look at what is due at *at_s*."""
        self.beat.pass_once(now_s=at_s + 0.1)

    def queued(self) -> list[str]:
        return sorted(run_id.decode() for run_id in self.client.lrange(QUEUE, 0, -1))

    def run(self, job: str, tick: int) -> Run:
        return self.app.runs.get(run_id_of(job, tick))

    def state(self, job: str, tick: int) -> str:
        run = self.run(job, tick)
        return run.outcome or run.state

    def begin(self, run_id: str) -> None:
        assert self.client.lrem(QUEUE, 1, run_id) == 1, f"{run_id} is not queued"
        self.client.rpush(f"{QUEUE}:intermediate", run_id)
        start = Start(worker="w", host="box", pid=1, execution=f"e-{run_id}", lease_s=90, now_s=self.app.now_s())
        assert self.app.runs.start(self.app.runs.get(run_id), start).code == "started"

    def end(self, run_id: str, outcome: str = "succeeded") -> None:
        ending = Ending(Settlement(outcome, "because"), "w", self.app.now_s(), execution=f"e-{run_id}")
        assert self.app.runs.settle(self.app.runs.get(run_id), ending)

    def work(self, job: str, tick: int, outcome: str = "succeeded") -> None:
        """Let a worker do the run of this tick."""
        self.begin(run_id_of(job, tick))
        self.end(run_id_of(job, tick), outcome)

    def leftovers(self) -> set[str]:
        """Keys that tell of waiting runs."""
        found = {key.decode() for key in self.client.keys("*gated*")}
        return found | {name.decode() for name in self.client.smembers("cronq:gated")}


@pytest.fixture
def scene(app: Cronq, store: Store) -> Scene:
    return Scene(app, store)


def test_a_tick_waits_until_its_parent_has_succeeded(scene: Scene) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent")
    tick = T + MINUTE

    scene.look(tick)

    assert scene.queued() == [run_id_of("parent", tick)]
    assert scene.state("child", tick) == "waiting"
    assert scene.run("child", tick).reason == "waits for its parent parent of 2026-01-05T07:01:00Z"
    scene.work("parent", tick)
    assert scene.queued() == [run_id_of("child", tick)]
    assert scene.run("child", tick).reason is None
    scene.work("child", tick)
    assert scene.state("child", tick) == "succeeded"
    assert scene.leftovers() == set()


def test_a_parent_that_has_succeeded_before_keeps_nothing_waiting(scene: Scene) -> None:
    scene.store("parent", mark=T - HOUR, cron="0 * * * *")
    scene.store("child", mark=T, depends_on="parent")
    scene.look(T)
    scene.work("parent", T)

    scene.look(T + MINUTE)

    assert scene.queued() == [run_id_of("child", T + MINUTE)]


def test_the_tick_that_counts_is_the_parents_latest_by_its_own_schedule(scene: Scene) -> None:
    """Hourly parent, child at ten past: it waits for the parent of this hour, though only the last one has run."""
    scene.store("parent", mark=T - HOUR, cron="0 * * * *")
    scene.store("child", mark=T, cron="10 * * * *", depends_on="parent")
    scene.look(T)
    scene.work("parent", T)
    scene.look(T + 10 * MINUTE)
    scene.work("child", T + 10 * MINUTE)

    scene.look(T + HOUR)
    scene.begin(run_id_of("parent", T + HOUR))  # and takes its time
    scene.look(T + HOUR + 10 * MINUTE)

    assert scene.state("child", T + HOUR + 10 * MINUTE) == "waiting"
    scene.end(run_id_of("parent", T + HOUR))
    assert scene.queued() == [run_id_of("child", T + HOUR + 10 * MINUTE)]


def test_its_own_next_tick_blocks_a_tick_that_still_waits(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent")
    scene.look(T + MINUTE)
    scene.work("parent", T + MINUTE, "failed")

    scene.look(T + 2 * MINUTE)

    first = scene.run("child", T + MINUTE)
    assert (first.outcome, first.reason) == (
        "blocked",
        "it waited for its parent parent of 2026-01-05T07:01:00Z (failed) until its next tick fell due",
    )
    assert f"BLOCKED {first.run_id}: {first.reason}" in caplog.messages
    assert scene.client.exists(f"rq:job:{first.run_id}") == 0
    assert scene.state("child", T + 2 * MINUTE) == "waiting"
    assert scene.client.ttl(f"cronq:run:{first.run_id}") > 0


@pytest.mark.parametrize("repair", ["requeue", "next tick", "by hand", "mark"])
def test_a_repaired_parent_lets_its_children_run_without_any_command(scene: Scene, repair: str) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, cron="1 * * * *", depends_on="parent")
    tick = T + MINUTE
    scene.look(tick)
    scene.work("parent", tick, "failed")
    assert scene.state("child", tick) == "waiting"

    if repair == "requeue":
        Job.fetch(run_id_of("parent", tick), connection=scene.client).requeue()
        scene.work("parent", tick)
    elif repair == "next tick":
        scene.look(tick + MINUTE)
        scene.work("parent", tick + MINUTE)
    elif repair == "by hand":
        run_id = scene.app.enqueue("parent")
        scene.begin(run_id)
        scene.end(run_id)
    else:
        scene.app.mark_success("parent", tick)

    assert scene.queued() == [run_id_of("child", tick)]
    assert scene.leftovers() == set()


def test_all_parents_must_have_succeeded(scene: Scene) -> None:
    for name in ("a", "b", "c"):
        scene.store(name, mark=T)
    scene.store("child", mark=T, depends_on=["a", "b", "c"])
    tick = T + MINUTE
    scene.look(tick)
    for name in ("b", "a"):
        scene.work(name, tick)
    assert scene.run("child", tick).reason == "waits for its parent c of 2026-01-05T07:01:00Z"
    scene.work("c", tick)
    assert scene.queued() == [run_id_of("child", tick)]


def test_a_chain_of_twenty_runs_from_one_end_to_the_other(scene: Scene) -> None:
    names = [f"link{number}" for number in range(20)]
    for parent, name in zip([None, *names], names, strict=False):
        scene.store(name, mark=T, depends_on=[parent] if parent else ())
    tick = T + MINUTE
    scene.look(tick)
    for name in names:
        assert scene.queued() == [run_id_of(name, tick)]
        scene.work(name, tick)
    assert scene.queued() == []
    assert scene.leftovers() == set()


def test_a_fan_of_two_hundred_is_let_go_in_one_step(scene: Scene) -> None:
    scene.store("parent", mark=T)
    for number in range(200):
        scene.store(f"child{number}", mark=T, depends_on="parent")
    tick = T + MINUTE
    scene.look(tick)
    assert scene.queued() == [run_id_of("parent", tick)]
    scene.work("parent", tick)
    assert len(scene.queued()) == 200
    assert scene.leftovers() == set()


def test_a_tick_that_waits_for_a_parent_does_not_count_for_overlap(scene: Scene) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent", overlap="skip")
    scene.look(T + MINUTE)
    scene.look(T + 2 * MINUTE)
    assert scene.state("child", T + MINUTE) == "blocked"
    assert scene.state("child", T + 2 * MINUTE) == "waiting"


def test_a_tick_that_was_let_go_waits_for_an_earlier_run_where_the_rule_lets_it(scene: Scene) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent", overlap="queue")
    first, second = T + MINUTE, T + 2 * MINUTE
    scene.look(first)
    scene.work("parent", first)
    scene.begin(run_id_of("child", first))
    scene.look(second)
    assert scene.state("child", second) == "waiting"
    scene.work("parent", second)
    assert scene.run("child", second).reason == f"waits for the run {run_id_of('child', first)}"
    scene.end(run_id_of("child", first))
    assert scene.queued() == [run_id_of("child", second)]


def test_caught_up_ticks_wait_side_by_side(scene: Scene) -> None:
    """With catchup="all" the ticks of an outage all run once the parent has come so far."""
    scene.store("parent", mark=T, catchup="all")
    scene.store("child", mark=T, catchup="all", depends_on="parent")
    scene.look(T + 3 * MINUTE)
    ticks = [T + MINUTE * number for number in (1, 2, 3)]
    assert [scene.state("child", tick) for tick in ticks] == ["waiting"] * 3
    for tick in ticks:
        scene.work("parent", tick)
        scene.work("child", tick)
    scene.look(T + 4 * MINUTE)
    assert [scene.state("child", tick) for tick in ticks] == ["succeeded"] * 3


def test_a_parent_that_is_not_there_keeps_its_children_waiting_and_then_blocks_them(scene: Scene) -> None:
    scene.store("nobody", mark=T)
    scene.store("child", mark=T, depends_on="nobody")
    scene.app.remove("nobody", force=True)
    scene.look(T + MINUTE)
    assert scene.run("child", T + MINUTE).reason == (
        "waits for its parent nobody, since 2026-01-05T07:00:00Z, which is no job"
    )
    scene.look(T + 2 * MINUTE)
    assert scene.state("child", T + MINUTE) == "blocked"


def test_a_parent_without_a_schedule_must_have_succeeded_since_the_tick_before(scene: Scene) -> None:
    scene.app.jobs.save(
        make_spec("parent", function="tests.redis.conftest:work"), source="here:1", origin="test", expected="", mark=T
    )
    scene.store("child", mark=T, depends_on="parent")
    scene.look(T + MINUTE)
    assert scene.state("child", T + MINUTE) == "waiting"
    run_id = scene.app.enqueue("parent")
    scene.begin(run_id)
    scene.end(run_id)
    assert scene.queued() == [run_id_of("child", T + MINUTE)]


def test_a_tick_of_the_parent_that_its_calendar_excludes_is_not_waited_for(scene: Scene) -> None:
    scene.app.set_calendar("closed", dates=["2026-01-05"])
    scene.store("parent", mark=T - 24 * HOUR, cron="0 6 * * *", except_=["closed"])
    scene.store("child", mark=T, cron="30 7 * * *", depends_on="parent")
    scene.client.hset("cronq:job:parent:state", "success_tick", T - 25 * HOUR)  # Sunday's, at six
    scene.look(T + 30 * MINUTE)
    assert scene.queued() == [run_id_of("child", T + 30 * MINUTE)]


def test_a_run_that_somebody_stops_while_it_waits_leaves_nothing(scene: Scene) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent")
    tick = T + MINUTE
    scene.look(tick)
    scene.app.stop(run_id_of("child", tick))
    assert scene.state("child", tick) == "stopped"
    scene.work("parent", tick)
    assert scene.queued() == []
    assert not {key for key in scene.leftovers() if key.startswith("cronq:job")}


def test_the_sweep_lets_go_what_nobody_did_and_drops_what_waits_no_more(scene: Scene) -> None:
    """The parent is settled by a process that knows no gates; another child was removed meanwhile."""
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent")
    scene.store("gone", mark=T, depends_on="parent")
    tick = T + MINUTE
    scene.look(tick)
    scene.app.remove("gone")
    scene.client.hset("cronq:job:parent:state", "success_tick", tick)

    scene.sweep.once()

    assert run_id_of("child", tick) in scene.queued()
    assert scene.leftovers() == set()


def test_what_a_run_waits_for_is_listed_again_when_the_lists_are_lost(scene: Scene, redis: Redis) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent")
    tick = T + MINUTE
    scene.look(tick)
    redis.delete("cronq:gated", "cronq:job:parent:gated")
    redis.hdel("cronq:job:child:state", "gated")

    walk = WaitingWalk(redis, scene.app.keys, Quarantine(redis, scene.app.keys), "waiting")
    for _ in range(5):
        walk.once(tick + 1.0)
    scene.work("parent", tick)

    assert scene.queued() == [run_id_of("child", tick)]


def test_an_excluded_tick_among_caught_up_ones_blocks_none_of_them(scene: Scene) -> None:
    scene.app.set_calendar("off", weekly=["mon 07:02-07:03"])
    scene.store("parent", mark=T, cron="5 * * * *")
    scene.store("child", mark=T, catchup="all", except_=["off"], depends_on="parent")
    ticks = [T + minutes * MINUTE for minutes in range(1, 5)]

    scene.look(ticks[-1])

    assert [scene.state("child", tick) for tick in ticks] == ["waiting", "skipped", "waiting", "waiting"]
    scene.look(ticks[-1] + MINUTE)
    assert [scene.state("child", tick) for tick in ticks] == ["blocked", "skipped", "blocked", "blocked"]


def test_a_parent_that_has_had_all_its_ticks_keeps_nobody_waiting(scene: Scene) -> None:
    scene.store("parent", mark=T, repeat=1)
    scene.store("child", mark=T, depends_on="parent")
    scene.look(T + MINUTE)
    scene.work("parent", T + MINUTE)
    scene.work("child", T + MINUTE)

    scene.look(T + 2 * MINUTE)

    assert scene.state("child", T + 2 * MINUTE) == "queued"


def test_of_runs_by_hand_the_one_that_began_last_counts_in_whatever_order_they_end(scene: Scene) -> None:
    scene.store("parent", mark=T)
    first, second = scene.app.enqueue("parent"), scene.app.enqueue("parent")
    scene.begin(first)
    scene.begin(second)
    began = scene.app.runs.get(second).started_at
    assert scene.app.runs.get(first).started_at != began
    scene.end(second)
    scene.end(first)
    assert float(scene.client.hget("cronq:job:parent:state", "success_given") or 0) == began


@pytest.mark.parametrize("needs", ['{"parent": [%d, {}, {}]}', '{"parent": ["x", null, 5], "y": 1}', "[[1]]", "{"])
def test_damaged_needs_of_one_run_harm_no_other(scene: Scene, needs: str) -> None:
    tick = T + MINUTE
    scene.store("parent", mark=T, cron="1 * * * *")
    scene.store("a_damaged", mark=T, depends_on="parent")
    scene.store("child", mark=T, cron="1 * * * *", depends_on="parent")
    scene.look(tick)
    row = f"cronq:run:{run_id_of('a_damaged', tick)}"
    scene.client.hset(row, "needs", needs.replace("%d", str(tick)))

    scene.look(tick + MINUTE)
    scene.work("parent", tick)

    assert scene.state("child", tick) == "queued"
    assert scene.state("a_damaged", tick) == "blocked"
    assert scene.state("a_damaged", tick + MINUTE) == "queued"


@pytest.mark.parametrize("gated", ['[{"a": 1}, null, 5, "x y"]', '{"a": 1}', "x"])
def test_a_damaged_list_of_waiting_runs_silences_no_job(scene: Scene, gated: str) -> None:
    scene.store("parent", mark=T)
    scene.store("child", mark=T, depends_on="parent")
    scene.client.hset("cronq:job:child:state", "gated", gated)
    scene.look(T + MINUTE)
    scene.work("parent", T + MINUTE)
    assert scene.state("child", T + MINUTE) == "queued"


def test_a_run_whose_job_is_being_removed_is_not_let_go(scene: Scene) -> None:
    """Its runs are stopped piece by piece, and a parent may succeed in between."""
    tick = T + MINUTE
    scene.store("parent", mark=T)
    scene.store("child", mark=T, cron="1 * * * *", depends_on="parent")
    scene.look(tick)
    child = run_id_of("child", tick)
    for key in ("job:child", "job:child:state", "job:child:template"):
        scene.client.delete(f"cronq:{key}")
    scene.client.rename("cronq:job:child:active", "cronq:removed:child:active")

    scene.work("parent", tick)
    assert scene.queued() == []
    assert scene.client.exists("cronq:job:child:active") == 0
    scene.store("child", mark=T, cron="1 * * * *", depends_on="parent")  # it came back at once
    scene.sweep.once()
    assert scene.app.runs.get(child).state == "waiting"
    assert scene.queued() == []


def test_of_very_many_parents_a_reason_names_some(scene: Scene) -> None:
    parents = [f"p{number:03}" for number in range(200)]
    for name in parents:
        scene.store(name, mark=T)
    scene.store("child", mark=T, depends_on=parents)
    scene.look(T + MINUTE)
    reason = scene.run("child", T + MINUTE).reason or ""
    assert reason.endswith("p019 of 2026-01-05T07:01:00Z and 180 others")
    for name in parents:
        scene.work(name, T + MINUTE)
    assert scene.queued() == [run_id_of("child", T + MINUTE)]
