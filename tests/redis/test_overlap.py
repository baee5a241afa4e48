"""A tick that is due while an earlier run of its job is open: what each rule of `overlap` makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.beat.beat import Beat
from cronq.beat.sweep import Sweep
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.lost import settle_or_rerun
from cronq.runs.overlap import read_wish
from cronq.runs.retry import next_retry
from cronq.runs.run import Ending, Run, Settlement, Start
from cronq.runs.timing import Timing
from tests.run_ids import run_id_of

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
QUEUE = "rq:queue:default"


class Scene:
    """A job `a` that is due each minute, a beat, and a worker that does what the test says."""

    def __init__(self, app: Cronq, store: Store) -> None:
        self.app = app
        self.client = app.client
        self.store = store
        self.beat = app.beat()

    def define(self, overlap: str, **options: object) -> None:
        self.store("a", mark=T, overlap=overlap, **options)

    def tick(self, number: int, beat: Beat | None = None) -> str:
        """Let the tick of minute *number* come. Returns the id of its run."""
        tick = T + MINUTE * number
        (beat or self.beat).pass_once(now_s=tick + 0.1)
        return run_id_of("a", tick)

    def ticks(self, first: int, last: int) -> list[str]:
        return [self.tick(number) for number in range(first, last + 1)]

    def queued(self) -> list[str]:
        return [run_id.decode() for run_id in self.client.lrange(QUEUE, 0, -1)]

    def run(self, run_id: str) -> Run:
        return self.app.runs.get(run_id)

    def states(self, *run_ids: str) -> list[str]:
        return [self.run(run_id).state for run_id in run_ids]

    def begin(self) -> str:
        """Let a worker begin the next run of the queue."""
        raw: bytes = self.client.lmove(QUEUE, f"{QUEUE}:intermediate", "LEFT", "RIGHT")
        run_id = raw.decode()
        start = Start(worker="w", host="box", pid=1, execution=f"e-{run_id}", lease_s=90, now_s=self.app.now_s())
        assert self.app.runs.start(self.run(run_id), start).code == "started"
        return run_id

    def end(self, run_id: str, outcome: str = "succeeded") -> None:
        ending = Ending(Settlement(outcome, "because"), "w", self.app.now_s(), execution=f"e-{run_id}")
        assert self.app.runs.settle(self.run(run_id), ending)

    def work_off(self) -> list[str]:
        """Begin and end runs until there are none. Never is a second one queued beside one that is at work."""
        done = []
        while self.queued():
            assert len(self.queued()) == 1
            done.append(self.begin())
            assert self.queued() == []
            self.end(done[-1])
        return done

    def sweep(self) -> None:
        Sweep(self.client, self.app.keys, self.app.runs, by="beat box.1", timing=Timing(30.0)).once()

    def walk(self) -> None:
        next(chore for chore in self.beat.chores if chore.name == "waiting").work(T)

    def words(self) -> list[str]:
        """What the event stream tells, without what was queued and settled by hand here."""
        events = self.client.xrange(self.app.keys.events)
        return [f"{fields[b'type'].decode()} {fields[b'run'].decode()}" for _, fields in events if b"run" in fields]

    def nothing_waits(self) -> bool:
        return not self.client.exists("cronq:behind", "cronq:job:a:behind", "cronq:job:a:active")


@pytest.fixture
def scene(app: Cronq, store: Store) -> Scene:
    return Scene(app, store)


# queue


def test_with_queue_a_tick_waits_behind_the_run_before_it_and_says_for_which(scene: Scene) -> None:
    scene.define("queue")
    first, second, third = scene.ticks(1, 3)

    assert scene.queued() == [first]
    assert scene.states(first, second, third) == ["queued", "waiting", "waiting"]
    assert scene.run(second).reason == f"waits for the run {first}"
    assert scene.run(third).reason == f"waits for the run {second}"
    assert scene.run(third).queued_at is None
    assert scene.client.hget(f"rq:job:{second}", "status") == b"deferred"
    assert f"parked {second}" in scene.words()


SECOND = {
    "skip": ["queued", "skipped"], "allow": ["queued", "queued"], "queue": ["queued", "waiting"],
    "latest": ["coalesced", "queued"], "replace": ["coalesced", "queued"],
}  # fmt: skip


@pytest.mark.parametrize("other", SECOND)
@pytest.mark.parametrize("rule", SECOND)
def test_a_rule_means_the_same_whatever_that_of_the_job_is_which_was_claimed_before(
    scene: Scene, rule: str, other: str
) -> None:
    scene.define(other)
    scene.store("b", mark=T, overlap=rule)

    scene.ticks(1, 2)

    for name, each in (("a", other), ("b", rule)):
        found = reversed(scene.app.history(name))
        assert [run.outcome or run.state for run in found] == SECOND[each]


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "timed_out", "stopped", "lost"])
def test_with_queue_whatever_ends_a_run_queues_the_next_alone(scene: Scene, outcome: str) -> None:
    scene.define("queue")
    first, second, third = scene.ticks(1, 3)
    scene.begin()

    scene.end(first, outcome)

    assert scene.queued() == [second]
    assert scene.states(second, third) == ["queued", "waiting"]
    run = scene.run(second)
    assert run.reason is None
    assert run.queued_at == pytest.approx(scene.app.now_s(), abs=5)
    record = scene.client.hmget(f"rq:job:{second}", "status", "enqueued_at")
    assert record[0] == b"queued"
    assert record[1] != scene.client.hget(f"rq:job:{third}", "enqueued_at")
    assert scene.words()[-1] == f"woken {second}"


def test_with_queue_100_ticks_without_a_worker_run_one_after_the_other_when_one_comes(scene: Scene) -> None:
    scene.define("queue")
    runs = scene.ticks(1, 100)

    assert scene.queued() == runs[:1]
    assert scene.work_off() == runs
    assert {run.outcome for run in scene.app.runs.rows(runs)} == {"succeeded"}
    assert scene.nothing_waits()


def test_with_skip_100_ticks_without_a_worker_leave_one_run(scene: Scene) -> None:
    scene.define("skip")
    runs = scene.ticks(1, 100)

    assert scene.work_off() == runs[:1]
    assert {run.outcome for run in scene.app.runs.rows(runs[1:])} == {"skipped"}


def test_with_queue_two_beats_at_once_make_each_run_once(scene: Scene, redis_url: str) -> None:
    scene.define("queue")
    beats = [Cronq(config=scene.app.config, registry=scene.app.registry).beat() for _ in range(2)]

    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 30):
            list(pool.map(lambda beat, number=number: scene.tick(number, beat), beats))

    runs = [run_id_of("a", T + MINUTE * number) for number in range(1, 30)]
    assert scene.queued() == runs[:1]
    assert scene.work_off() == runs
    woken = [word for word in scene.words() if word.startswith(("queued", "woken"))]
    assert len(woken) == len(set(woken)) == 29


def test_with_queue_several_missed_ticks_of_catchup_all_queue_up_in_order(scene: Scene) -> None:
    scene.define("queue", catchup="all", window="10d")
    scene.tick(5)
    runs = [run_id_of("a", T + MINUTE * number) for number in range(1, 6)]

    assert scene.queued() == runs[:1]
    assert scene.states(*runs) == ["queued", *["waiting"] * 4]
    assert scene.work_off() == runs


def test_with_queue_runs_by_hand_neither_wait_nor_make_wait(scene: Scene) -> None:
    scene.define("queue")
    by_hand = scene.app.enqueue("a")
    first, second = scene.ticks(1, 2)

    also_by_hand = scene.app.enqueue("a")

    assert scene.queued() == [by_hand, first, also_by_hand]
    scene.app.stop(by_hand)
    assert scene.states(second) == ["waiting"]


def test_stopping_a_run_that_waits_lets_the_one_behind_it_wait_for_the_one_before(scene: Scene) -> None:
    scene.define("queue")
    first, second, third = scene.ticks(1, 3)

    assert scene.app.stop(second) == [second]

    assert scene.run(second).outcome == "stopped"
    assert scene.run(third).reason == f"waits for the run {first}"
    assert scene.work_off() == [first, third]
    assert scene.nothing_waits()


def test_stopping_a_run_that_is_queued_queues_the_next(scene: Scene) -> None:
    scene.define("queue")
    first, second = scene.ticks(1, 2)

    scene.app.stop(first)

    assert scene.queued() == [second]


def test_stopping_what_stands_in_a_queue_gives_the_next_its_turn_and_leaves_that(scene: Scene) -> None:
    scene.define("queue")
    first, second, third = scene.ticks(1, 3)
    scene.client.rpush(QUEUE, "an RQ job of somebody")  # because of it the queue is looked through again

    now_s = scene.app.now_s()
    stopped = scene.app.bulk_stop.stop_queued("default", now_s, by="ann", reason="ann stopped it", now_s=now_s)

    assert stopped == [first]
    assert scene.states(second, third) == ["queued", "waiting"]
    assert scene.queued() == ["an RQ job of somebody", second]


@pytest.mark.parametrize("count", [3, 60])  # one by one, and in bulk
def test_stopping_a_job_stops_all_that_waits_and_lets_nothing_begin(scene: Scene, count: int) -> None:
    scene.define("queue")
    runs = scene.ticks(1, count)

    assert sorted(scene.app.stop("a")) == runs

    assert {run.outcome for run in scene.app.runs.rows(runs)} == {"stopped"}
    scene.sweep()
    assert not any(word.startswith("woken") for word in scene.words())
    assert scene.nothing_waits()


def test_removing_a_job_stops_what_waits_and_a_new_one_of_that_name_begins_anew(scene: Scene) -> None:
    scene.define("queue")
    runs = scene.ticks(1, 3)
    scene.begin()

    changes = scene.app.changes()
    changes.now_s = lambda: T + 3.5 * MINUTE  # the ticks to come are not past
    changes.remove("a", by="ann")
    assert [run.outcome for run in scene.app.runs.rows(runs[1:])] == ["stopped", "stopped"]
    scene.define("queue")
    later = scene.tick(4)

    assert scene.states(later) == ["waiting"]  # the one at work was not removed
    scene.end(runs[0])
    assert scene.queued() == [later]


def test_a_run_that_is_rerun_goes_on_before_those_that_wait(scene: Scene) -> None:
    scene.define("queue")
    first, second = scene.ticks(1, 2)
    scene.begin()
    lost = Ending(Settlement("lost", "gone"), "beat box.1", scene.app.now_s(), execution=f"e-{first}")

    assert scene.app.runs.rerun(scene.run(first), lost, 3) == "queued"

    scene.sweep()
    assert scene.states(second) == ["waiting"]
    assert scene.work_off() == [first, second]


def test_what_is_behind_a_run_whose_worker_fell_silent_is_queued_with_its_end(scene: Scene) -> None:
    scene.define("queue")
    first, second = scene.ticks(1, 2)
    scene.begin()
    scene.client.zadd("cronq:running", {first: scene.app.now_s() - 100})
    sweep = Sweep(scene.client, scene.app.keys, scene.app.runs, by="beat box.1", timing=Timing(30.0))
    sweep.once()

    sweep._settle_all_lost([first.encode()], scene.app.now_s() - 30, scene.app.now_s())

    assert scene.run(first).outcome == "lost"
    assert scene.queued() == [second]


def end_without_a_turn(scene: Scene, run_id: str) -> None:
    """As a process of the release before ends a run: it knows nothing of those that wait."""
    scene.client.hset(f"cronq:run:{run_id}", mapping={"state": "done", "outcome": "failed"})
    scene.client.hdel("cronq:job:a:active", run_id)


def lose_its_row(scene: Scene, run_id: str) -> None:
    scene.client.delete(f"cronq:run:{run_id}")


@pytest.mark.parametrize("lose", [end_without_a_turn, lose_its_row], ids=lambda lose: lose.__name__)
def test_a_sweep_queues_what_waits_for_a_run_that_is_gone(
    scene: Scene, lose: Callable[[Scene, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    scene.define("queue")
    first, second, third = scene.ticks(1, 3)
    scene.begin()
    lose(scene, first)

    scene.sweep()

    assert scene.queued() == [second]
    assert scene.states(third) == ["waiting"]
    assert f"WOKEN {second}" in caplog.text
    caplog.clear()
    scene.sweep()
    assert scene.queued() == [second]
    assert not caplog.records


def test_a_sweep_leaves_what_waits_for_a_run_that_is_open(scene: Scene) -> None:
    scene.define("queue")
    first, second = scene.ticks(1, 2)

    scene.sweep()
    scene.begin()
    scene.sweep()

    assert scene.states(first, second) == ["running", "waiting"]


@pytest.mark.parametrize("lost", ["cronq:behind", "cronq:job:a:behind", "both"])
@pytest.mark.parametrize("how", ["deleted", "overwritten"])
def test_runs_are_lined_up_again_when_the_lists_of_them_are_lost(scene: Scene, lost: str, how: str) -> None:
    scene.define("queue")
    runs = scene.ticks(1, 3)
    keys = ["cronq:behind", "cronq:job:a:behind"] if lost == "both" else [lost]
    scene.client.delete(*keys)
    if how == "overwritten":
        for key in keys:
            scene.client.set(key, "junk")

    scene.walk()
    scene.walk()

    assert scene.work_off() == runs
    assert scene.nothing_waits()


@pytest.mark.parametrize("key", ["cronq:behind", "cronq:job:a:behind"])
def test_a_key_of_a_wrong_type_is_moved_aside_and_the_tick_comes_all_the_same(scene: Scene, key: str) -> None:
    scene.define("queue")
    first = scene.tick(1)
    scene.client.set(key, "junk")

    scene.tick(2)
    second = scene.tick(2)

    assert scene.states(first, second) == ["queued", "waiting"]
    assert scene.work_off() == [first, second]


def test_a_run_ends_though_the_next_cannot_be_queued_and_a_beat_queues_it_later(scene: Scene) -> None:
    scene.define("queue")
    first, second = scene.ticks(1, 2)
    scene.begin()
    scene.client.set(QUEUE, "junk")

    scene.end(first)

    assert scene.states(first, second) == ["done", "waiting"]
    scene.client.delete(QUEUE)
    scene.sweep()
    assert scene.queued() == [second]


def test_a_job_that_allowed_more_at_once_waits_for_all_of_them_when_it_queues(scene: Scene) -> None:
    scene.define("allow")
    first, second = scene.ticks(1, 2)
    job = scene.app.jobs.get("a")
    spec = JobSpec.from_json(job.spec.to_json().replace("allow", "queue"))
    scene.app.jobs.save(spec, source="here:1", origin="test", expected=job.version)
    third = scene.tick(3)
    assert (scene.begin(), scene.begin()) == (first, second)

    scene.end(second)
    assert scene.states(third) == ["waiting"]

    scene.end(first)
    assert scene.queued() == [third]


def test_history_shows_what_waits_and_why(scene: Scene) -> None:
    scene.define("queue")
    first, second = scene.ticks(1, 2)

    newest = scene.app.history("a")[0]

    assert (newest.run_id, newest.state, newest.reason) == (second, "waiting", f"waits for the run {first}")


# latest


def test_with_latest_the_newest_tick_takes_the_place_of_one_that_was_not_begun(scene: Scene) -> None:
    scene.define("latest")
    other = scene.app.enqueue("a")
    first = scene.tick(1)
    behind = scene.app.enqueue("a")

    second = scene.tick(2)

    assert scene.queued() == [other, second, behind]
    run = scene.run(first)
    assert (run.state, run.outcome, run.reason) == ("done", "coalesced", f"the run {second} took its place")
    assert run.decided_by == scene.run(second).decided_by
    assert not scene.client.exists(f"rq:job:{first}")
    assert 0 < scene.client.ttl(f"cronq:run:{first}") <= scene.app.runs.row_ttl_s
    assert scene.app.runs.active(["a"])["a"].keys() == {other, behind, second}
    assert f"coalesced {first}" in scene.words()


def test_with_latest_one_run_at_most_waits_behind_the_one_at_work(scene: Scene) -> None:
    scene.define("latest")
    first = scene.tick(1)
    scene.begin()

    *others, last = scene.ticks(2, 50)

    assert scene.queued() == []
    assert {run.outcome for run in scene.app.runs.rows(others)} == {"coalesced"}
    assert (scene.run(last).state, scene.run(last).reason) == ("waiting", f"waits for the run {first}")
    assert scene.run(first).outcome is None
    scene.end(first)
    assert scene.work_off() == [last]
    assert scene.nothing_waits()


def test_with_latest_100_ticks_without_a_worker_leave_the_newest_run(scene: Scene) -> None:
    scene.define("latest")
    *others, last = scene.ticks(1, 100)

    assert scene.work_off() == [last]
    assert {run.outcome for run in scene.app.runs.rows(others)} == {"coalesced"}
    assert len(scene.app.runs.rows(others)) == 99
    assert scene.nothing_waits()


def test_with_latest_a_run_that_a_worker_has_taken_is_not_overtaken(scene: Scene) -> None:
    scene.define("latest")
    first = scene.tick(1)
    scene.client.lmove(QUEUE, f"{QUEUE}:intermediate", "LEFT", "RIGHT")

    second = scene.tick(2)
    third = scene.tick(3)

    assert scene.states(first, third) == ["queued", "waiting"]
    assert scene.run(second).outcome == "coalesced"
    assert scene.run(third).reason == f"waits for the run {first}"


def test_with_latest_a_run_that_is_to_be_rerun_is_not_overtaken(scene: Scene) -> None:
    scene.define("latest")
    first = scene.tick(1)
    scene.begin()
    lost = Ending(Settlement("lost", "gone"), "beat box.1", scene.app.now_s(), execution=f"e-{first}")
    assert scene.app.runs.rerun(scene.run(first), lost, 3) == "queued"

    second = scene.tick(2)

    assert scene.states(first, second) == ["queued", "waiting"]


def test_with_latest_a_run_that_rq_jobs_depend_on_is_not_overtaken(scene: Scene) -> None:
    scene.define("latest")
    first = scene.tick(1)
    scene.client.sadd(f"rq:job:{first}:dependents", "somebody")

    second = scene.tick(2)

    assert scene.states(first, second) == ["queued", "waiting"]


def test_with_latest_a_run_that_waits_for_its_lock_is_overtaken(scene: Scene) -> None:
    scene.define("latest", exclusive=True)
    first = scene.tick(1)
    scene.client.lmove(QUEUE, f"{QUEUE}:intermediate", "LEFT", "RIGHT")
    assert scene.app.runs.park(scene.run(first), "a", scene.app.now_s())

    second = scene.tick(2)

    assert scene.run(first).outcome == "coalesced"
    assert scene.queued() == [second]
    assert not scene.app.runs.wake_waiter("a")


def test_with_latest_a_job_that_moved_to_another_queue_leaves_the_old_one(scene: Scene) -> None:
    scene.define("latest")
    first = scene.tick(1)
    job = scene.app.jobs.get("a")
    moved = make_spec("a", function=job.spec.function, cron="* * * * *", overlap="latest", queue="other")
    scene.app.jobs.save(moved, source="here:1", origin="test", expected=job.version)

    second = scene.tick(2)

    assert scene.queued() == []
    assert scene.client.lrange("rq:queue:other", 0, -1) == [second.encode()]
    assert scene.run(first).outcome == "coalesced"


def test_with_latest_one_tick_overtakes_a_hundred_of_a_pile_and_the_next_the_rest(scene: Scene) -> None:
    scene.define("allow")
    runs = scene.ticks(1, 150)
    job = scene.app.jobs.get("a")
    spec = JobSpec.from_json(job.spec.to_json().replace("allow", "latest"))
    scene.app.jobs.save(spec, source="here:1", origin="test", expected=job.version)

    waits = scene.tick(151)
    assert len(scene.queued()) == 50
    assert scene.states(waits) == ["waiting"]
    last = scene.tick(152)

    assert scene.queued() == [last]
    assert {run.outcome for run in scene.app.runs.rows([*runs, waits])} == {"coalesced"}


@pytest.mark.parametrize("number", [1, 20])
def test_with_latest_only_the_newest_of_many_missed_ticks_of_catchup_all_remains(scene: Scene, number: int) -> None:
    scene.define("latest", catchup="all", window="10d")
    scene.tick(1)
    scene.begin()

    last = scene.tick(1 + number)

    between = [run_id_of("a", T + MINUTE * each) for each in range(2, 1 + number)]
    assert all(scene.app.read_run(run_id).outcome == "coalesced" for run_id in between)
    assert scene.states(last) == ["waiting"]


def test_with_latest_ticks_that_are_claimed_at_once_leave_the_newest(scene: Scene) -> None:
    scene.define("latest")
    spec, version = scene.app.jobs.get("a").spec, scene.app.jobs.version_of("a")
    due = [TickClaim(spec, version, Decision(T + MINUTE * n, None, "due", "schedule", T + MINUTE * (n + 1)))
           for n in range(1, 5)]  # fmt: skip

    answers = scene.app.claimer("b").claim_due(due, "t", T + 300.0)

    assert [answer.detail for answer in answers] == ["queued"] * 4
    assert scene.queued() == [run_id_of("a", T + MINUTE * 4)]
    assert len(scene.app.runs.active(["a"])["a"]) == 1


def test_with_latest_two_beats_at_once_leave_the_newest(scene: Scene) -> None:
    scene.define("latest")
    beats = [Cronq(config=scene.app.config, registry=scene.app.registry).beat() for _ in range(2)]

    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 30):
            list(pool.map(lambda beat, number=number: scene.tick(number, beat), beats))

    assert scene.work_off() == [run_id_of("a", T + MINUTE * 29)]


def test_with_latest_a_user_who_may_not_set_in_a_list_queues_at_the_end(scene: Scene, redis_url: str) -> None:
    scene.define("latest")
    first = scene.tick(1)
    by_hand = scene.app.enqueue("a")
    rights = {"keys": ["*"], "channels": ["*"], "commands": ["+@all", "-lset"]}
    scene.client.acl_setuser("narrow", enabled=True, nopass=True, **rights)
    try:
        with Redis.from_url(redis_url, username="narrow", password="x") as narrow:
            scene.beat = Cronq(config=scene.app.config, registry=scene.app.registry, client=narrow).beat()
            second = scene.tick(2)
    finally:
        scene.client.acl_deluser("narrow")

    assert scene.queued() == [by_hand, second]
    assert scene.run(first).outcome == "coalesced"


# replace


def test_with_replace_the_run_at_work_is_asked_to_stop_and_the_new_one_waits_for_its_end(scene: Scene) -> None:
    scene.define("replace")
    first = scene.tick(1)
    scene.begin()

    second = scene.tick(2)

    wish = scene.client.get(f"cronq:stop:{first}").decode()
    assert read_wish(wish) == (scene.run(second).decided_by, f"replaced by the run {second}")
    assert 0 < scene.client.ttl(f"cronq:stop:{first}") <= 86400
    assert scene.states(first, second) == ["running", "waiting"]
    assert scene.run(second).reason == f"waits for the run {first}, which is to stop"
    assert scene.queued() == []
    scene.end(first, "stopped")
    assert scene.queued() == [second]
    assert scene.work_off() == [second]
    assert scene.nothing_waits()


def test_with_replace_what_waits_for_the_end_of_the_run_at_work_is_overtaken(scene: Scene) -> None:
    scene.define("replace")
    first = scene.tick(1)
    scene.begin()

    *others, last = scene.ticks(2, 30)

    assert {run.outcome for run in scene.app.runs.rows(others)} == {"coalesced"}
    assert scene.client.get(f"cronq:stop:{first}").decode().endswith(f"(replaced by the run {others[0]})")
    scene.end(first, "stopped")
    assert scene.work_off() == [last]


def test_with_replace_a_person_who_asked_first_is_named(scene: Scene) -> None:
    scene.define("replace")
    first = scene.tick(1)
    scene.begin()
    scene.app.runs.ask_to_stop(first, "ann@box")

    scene.tick(2)

    assert scene.client.get(f"cronq:stop:{first}") == b"ann@box"


def test_with_replace_100_ticks_without_a_worker_leave_the_newest_run(scene: Scene) -> None:
    scene.define("replace")
    *others, last = scene.ticks(1, 100)

    assert scene.work_off() == [last]
    assert {run.outcome for run in scene.app.runs.rows(others)} == {"coalesced"}
    assert not scene.client.keys("cronq:stop:*")


def test_with_replace_a_run_that_is_to_be_rerun_is_stopped_for_the_new_one(scene: Scene) -> None:
    scene.define("replace")
    first = scene.tick(1)
    scene.begin()
    lost = Ending(Settlement("lost", "gone"), "beat box.1", scene.app.now_s(), execution=f"e-{first}")
    assert scene.app.runs.rerun(scene.run(first), lost, 3) == "queued"

    second = scene.tick(2)

    run = scene.run(first)
    assert (run.outcome, run.reason, run.attempt) == ("stopped", f"replaced by the run {second}", 2)
    assert scene.queued() == [second]


def test_with_replace_a_run_that_vanishes_while_it_is_to_stop_ends_as_replaced(scene: Scene) -> None:
    scene.define("replace", on_lost="rerun")
    first = scene.tick(1)
    scene.begin()
    second = scene.tick(2)
    lost = Ending(Settlement("lost", "gone"), "beat box.1", scene.app.now_s(), execution=f"e-{first}")

    assert settle_or_rerun(scene.app.runs, scene.run(first), lost, 3) == "stopped"

    assert scene.run(first).reason == f"replaced by the run {second}"
    assert scene.queued() == [second]


def test_with_replace_only_the_newest_of_many_missed_ticks_of_catchup_all_remains(scene: Scene) -> None:
    scene.define("replace", catchup="all", window="10d")
    first = scene.tick(1)
    scene.begin()

    last = scene.tick(20)

    between = [run_id_of("a", T + MINUTE * each) for each in range(2, 20)]
    assert {run.outcome for run in scene.app.runs.rows(between)} == {"coalesced"}
    assert scene.states(first, last) == ["running", "waiting"]
    assert scene.client.get(f"cronq:stop:{first}").decode().endswith(f"(replaced by the run {last})")


def test_with_replace_two_beats_at_once_leave_the_newest(scene: Scene) -> None:
    scene.define("replace")
    beats = [Cronq(config=scene.app.config, registry=scene.app.registry).beat() for _ in range(2)]
    first = scene.tick(1)
    scene.begin()

    with ThreadPoolExecutor(2) as pool:
        for number in range(2, 20):
            list(pool.map(lambda beat, number=number: scene.tick(number, beat), beats))

    scene.end(first, "stopped")
    assert scene.work_off() == [run_id_of("a", T + MINUTE * 19)]


def test_with_replace_a_stock_worker_is_told_by_rqs_own_command(scene: Scene) -> None:
    scene.define("replace")
    first = scene.tick(1)
    now_s = scene.app.now_s()
    start = Start(worker="w", host="box", pid=1, execution="e", lease_s=3600, now_s=now_s, stock=True)
    assert scene.app.runs.start(scene.run(first), start).code == "started"
    scene.tick(2)

    with scene.client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("rq:pubsub:w")
        heard.get_message(timeout=1)
        scene.sweep()
        message = heard.get_message(timeout=1)

    assert message is not None
    assert json.loads(message["data"])["command"] == "stop-job"
    assert json.loads(message["data"])["job_id"] == first


# Retries


def fail_with_a_retry(scene: Scene, run_id: str) -> None:
    scene.begin()
    retry = next_retry(scene.app.jobs.get("a").spec, "failed", 0, run_id=run_id, attempt=1)
    assert retry is not None
    now_s = scene.app.now_s()
    ending = Ending(Settlement("failed", "because"), "w", now_s, execution=f"e-{run_id}", retry=retry)
    assert scene.app.runs.end(scene.run(run_id), ending) == "retrying"


@pytest.mark.parametrize("rule", ["queue", "latest"])
def test_a_run_that_is_retried_keeps_the_next_waiting(scene: Scene, rule: str) -> None:
    scene.define(rule, retries=3)
    first = scene.tick(1)
    fail_with_a_retry(scene, first)

    second = scene.tick(2)
    scene.sweep()

    assert scene.states(first, second) == ["retrying", "waiting"]
    scene.app.stop(first)
    assert scene.queued() == [second]


def test_with_replace_a_run_that_is_to_be_retried_is_stopped_for_the_new_one(scene: Scene) -> None:
    scene.define("replace", retries=3)
    first = scene.tick(1)
    fail_with_a_retry(scene, first)

    second = scene.tick(2)

    run = scene.run(first)
    assert (run.outcome, run.reason) == ("stopped", f"replaced by the run {second}")
    assert scene.queued() == [second]
    assert not scene.client.exists("cronq:retries")
