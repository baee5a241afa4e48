"""Queued runs against RQ's records: what was deleted or lost there is noticed, what is on its way is left alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
from redis import Redis
from rq import Queue
from rq.job import Job

from cronq.app.app import Cronq
from cronq.beat import open_runs
from cronq.beat import reconcile as compare
from cronq.beat.reconcile import Reconcile
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Settlement, Start
from cronq.runs.store import Started

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
QUEUE = "rq:queue:default"
POPPED = "rq:queue:default:intermediate"


@pytest.fixture
def run(app: Cronq, store: Store) -> str:
    """A queued run."""
    store("invoices", mark=T, exclusive=True)
    return app.enqueue("invoices")


@pytest.fixture
def reconcile(app: Cronq) -> Reconcile:
    """One without patience: what is in no list at two looks has vanished."""
    return Reconcile(app.client, app.keys, app.runs, by="beat box.1", patience_s=0.0)


def look(reconcile: Reconcile, times: int = 1) -> None:
    for _ in range(times):
        reconcile.once(T + 60)


def outcome(app: Cronq, run_id: str) -> tuple[str | None, str | None, str | None]:
    row = app.runs.get(run_id)
    return row.outcome, row.reason, row.decided_by


def start(app: Cronq, run_id: str) -> Started:
    return app.runs.start(
        app.runs.get(run_id), Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=T + 1)
    )


# What people do with RQ's tools


def test_a_queued_run_whose_rq_job_was_deleted_is_stopped(app: Cronq, run: str, reconcile: Reconcile) -> None:
    Job.fetch(run, connection=app.client).delete()

    look(reconcile)

    assert outcome(app, run) == ("stopped", "removed from its queue", "rq")
    assert app.runs.active(["invoices"]) == {"invoices": {}}


def test_all_runs_of_an_emptied_queue_are_stopped(app: Cronq, run: str, reconcile: Reconcile, store: Store) -> None:
    store("other", mark=T, queue="nights")
    runs = [run, app.enqueue("invoices")]
    spared = app.enqueue("other")
    Queue("default", connection=app.client).empty()

    look(reconcile)

    assert [outcome(app, each)[:2] for each in runs] == [("stopped", "removed from its queue")] * 2
    assert app.runs.get(spared).state == "queued"


def test_a_run_that_was_deleted_counts_neither_as_success_nor_as_failure(
    app: Cronq, run: str, reconcile: Reconcile
) -> None:
    Job.fetch(run, connection=app.client).delete()

    look(reconcile)

    assert app.jobs.get("invoices").state.streak == 0


def test_a_run_that_was_cancelled_is_stopped(app: Cronq, run: str, reconcile: Reconcile) -> None:
    Job.fetch(run, connection=app.client).cancel()

    look(reconcile)

    assert outcome(app, run) == ("stopped", "cancelled with RQ's tools", "rq")
    assert app.client.zscore("rq:canceled:default", run) is not None


def test_a_run_that_a_stock_worker_gave_up_before_it_began_has_failed(
    app: Cronq, run: str, reconcile: Reconcile
) -> None:
    app.client.lpop(QUEUE)
    app.client.hset(f"rq:job:{run}", "status", "failed")

    look(reconcile)

    assert outcome(app, run)[:2] == ("failed", "RQ has it as failed, and it never began here: see RQ's record")
    assert app.client.exists(f"rq:results:{run}") == 0, "RQ's own record has the reason"


# What vanished


def test_a_run_that_is_in_no_list_is_put_back_at_the_head_of_its_queue(
    app: Cronq, run: str, reconcile: Reconcile
) -> None:
    later = app.enqueue("invoices")
    app.client.lrem(QUEUE, 1, run)

    look(reconcile)
    assert app.client.lrange(QUEUE, 0, -1) == [later.encode()], "one look proves nothing"
    look(reconcile)

    assert app.client.lrange(QUEUE, 0, -1) == [run.encode(), later.encode()]
    assert app.runs.get(run).state == "queued"


def test_a_deleted_queue_comes_back_under_its_name(app: Cronq, run: str, reconcile: Reconcile) -> None:
    app.client.delete(QUEUE, "rq:queues")

    look(reconcile, 2)

    assert Queue.all(connection=app.client)[0].job_ids == [run]
    assert start(app, run).code == "started"


def test_a_run_is_put_back_only_once(app: Cronq, run: str, reconcile: Reconcile) -> None:
    app.client.delete(QUEUE)
    look(reconcile, 2)
    app.client.delete(QUEUE)

    look(reconcile, 2)

    assert outcome(app, run)[:2] == ("lost", "it vanished from its queue again after it had been put back")


def test_a_run_must_be_missing_for_a_while(app: Cronq, run: str) -> None:
    patient = Reconcile(app.client, app.keys, app.runs, by="beat box.1", patience_s=60.0)
    app.client.delete(QUEUE)

    look(patient, 3)

    assert app.client.llen(QUEUE) == 0


def test_what_was_missing_before_an_outage_must_be_missing_for_a_while_again(
    app: Cronq, run: str, reconcile: Reconcile
) -> None:
    app.client.delete(QUEUE)
    look(reconcile)
    reconcile.outage()

    look(reconcile)

    assert app.client.llen(QUEUE) == 0


def test_two_beats_put_a_run_back_once(app: Cronq, run: str, reconcile: Reconcile) -> None:
    other = Reconcile(app.client, app.keys, app.runs, by="beat box.2", patience_s=0.0)
    app.client.delete(QUEUE)

    for _ in range(3):
        look(reconcile)
        look(other)

    assert app.client.lrange(QUEUE, 0, -1) == [run.encode()]
    assert app.runs.get(run).state == "queued"


def test_a_run_that_a_stock_worker_popped_and_lost_is_put_back(app: Cronq, run: str, reconcile: Reconcile) -> None:
    app.client.lpop(QUEUE)
    app.client.hset(f"rq:job:{run}", "status", "started")
    app.client.zadd("rq:wip:default", {f"{run}:e": T + 59})

    look(reconcile, 2)

    assert app.client.lrange(QUEUE, 0, -1) == [run.encode()]
    assert Job.fetch(run, connection=app.client).get_status() == "queued"


# What is only on its way


def test_a_run_that_a_worker_has_just_popped_is_left_to_it(app: Cronq, run: str, reconcile: Reconcile) -> None:
    app.client.lmove(QUEUE, POPPED, "LEFT", "RIGHT")

    look(reconcile, 3)

    assert (app.client.llen(QUEUE), app.client.lrange(POPPED, 0, -1)) == (0, [run.encode()])
    assert start(app, run) == Started("started", 1)


def test_a_run_that_a_stock_worker_is_about_to_begin_is_left_to_it(app: Cronq, run: str, reconcile: Reconcile) -> None:
    app.client.lpop(QUEUE)
    app.client.hset(f"rq:job:{run}", "status", "started")
    app.client.zadd("rq:wip:default", {f"{run}:e": T + 120})

    look(reconcile, 3)

    assert app.client.llen(QUEUE) == 0
    assert app.runs.get(run).state == "queued"


def test_a_run_that_has_begun_is_none_of_its_business(app: Cronq, run: str, reconcile: Reconcile) -> None:
    app.client.lmove(QUEUE, POPPED, "LEFT", "RIGHT")
    start(app, run)
    Job.fetch(run, connection=app.client).delete()

    look(reconcile, 3)

    assert app.runs.get(run).state == "running"


def test_a_run_that_waits_for_its_lock_is_none_of_its_business(app: Cronq, run: str, reconcile: Reconcile) -> None:
    app.client.lmove(QUEUE, POPPED, "LEFT", "RIGHT")
    app.runs.park(app.runs.get(run), "invoices", T + 1)

    look(reconcile, 3)

    assert (app.runs.get(run).state, app.client.llen(QUEUE)) == ("waiting", 0)


#: What may happen to a run between its being found and its being judged, and how it stands afterwards.
MEANWHILE: dict[str, tuple[Callable[[Cronq, str], object], str]] = {
    "popped": (lambda app, run: app.client.lpush(POPPED, run), "queued"),
    "started": (start, "running"),
    "set aside": (lambda app, run: app.runs.park(app.runs.get(run), "invoices", T + 1), "waiting"),
    "stopped": (lambda app, run: app.stop(run), "done"),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_what_happens_between_the_looks_is_seen_before_anything_is_pushed(
    app: Cronq, run: str, reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The list is read while the run is on its way from one to the other: it seems to be in none."""
    happen, state = MEANWHILE[what]
    app.client.delete(QUEUE)
    look(reconcile)
    ask = reconcile._look

    def just_before(run_ids: list[str], now_s: float) -> object:
        happen(app, run)
        return ask(run_ids, now_s)

    monkeypatch.setattr(reconcile, "_look", just_before)
    look(reconcile)

    assert app.client.llen(QUEUE) == 0
    assert app.runs.get(run).state == state


def test_a_run_claimed_after_the_lists_were_read_is_not_missed(
    app: Cronq, run: str, reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, known = reconcile._read_lists, {}
    monkeypatch.setattr(reconcile, "_read_lists", lambda queue: known.setdefault(queue, read(queue)))
    look(reconcile)
    late = app.enqueue("invoices")

    look(reconcile, 3)

    assert app.client.lrange(QUEUE, 0, -1) == [run.encode(), late.encode()]


def test_while_workers_are_busy_no_run_is_pushed_twice(
    app: Cronq, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Two beats without patience look on while runs go through every step, some by way of a lock."""
    store("busy", mark=T, overlap="allow")
    runs = [app.enqueue("busy") for _ in range(300)]
    begun: list[str] = []
    ended = threading.Event()

    def work() -> None:
        while True:
            raw = app.client.lmove(QUEUE, POPPED, "LEFT", "RIGHT")
            if raw is None:
                if all(run.state == "done" for run in app.runs.rows(runs)):
                    return
                app.runs.wake_waiter("busy")
                continue
            run = app.runs.get(raw.decode())
            if random.random() < 0.2:
                app.runs.park(run, "busy", T + 1)
                continue
            if start(app, run.run_id).code == "started":
                begun.append(run.run_id)
                app.runs.settle(
                    run, Ending(Settlement("succeeded", "why"), by="w", now_s=T + 9, attempt=1, execution="e")
                )

    def watch(by: str) -> None:
        reconcile = Reconcile(app.client, app.keys, app.runs, by=by, patience_s=0.0)
        while not ended.is_set():
            reconcile.once(T + 60)

    workers = [threading.Thread(target=work) for _ in range(2)]
    beats = [threading.Thread(target=watch, args=(f"beat box.{number}",)) for number in range(2)]
    for thread in (*beats, *workers):
        thread.start()
    for worker in workers:
        worker.join(60)
    ended.set()
    for beat in beats:
        beat.join(60)

    assert sorted(begun) == sorted(runs)
    assert {(run.outcome, run.attempt) for run in app.runs.rows(runs)} == {("succeeded", 1)}
    assert "PUT BACK" not in caplog.text


def test_a_run_that_was_requeued_and_then_deleted_keeps_its_outcome(app: Cronq, run: str, reconcile: Reconcile) -> None:
    start(app, run)
    app.runs.settle(
        app.runs.get(run), Ending(Settlement("failed", "why"), by="w", now_s=T + 9, attempt=1, execution="e")
    )
    job = Job.fetch(run, connection=app.client)
    job.requeue()
    job.delete()

    look(reconcile, 3)

    assert outcome(app, run)[:2] == ("failed", "why")


# Bounds and damage


@pytest.mark.parametrize("few", [2, 20])
def test_a_pass_ends_and_the_next_goes_on_where_it_ended(
    app: Cronq, store: Store, reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(open_runs, "_BATCH", 2)
    monkeypatch.setattr(compare, "_MOST_BATCHES", 2)
    monkeypatch.setattr(open_runs, "_JOBS", 3)
    monkeypatch.setattr(open_runs, "_FEW_RUNS", few)
    names = [f"job-{number}" for number in range(7)]
    for name in names:
        store(name, mark=T)
    runs = [app.enqueue(name) for name in names for _ in range(3)]
    Queue("default", connection=app.client).empty()

    def settled() -> int:
        return sum(app.runs.get(each).state == "done" for each in runs)

    look(reconcile)
    assert 0 < settled() <= 6  # a small set comes as a whole
    look(reconcile, 12)

    assert settled() == len(runs)


def test_of_a_list_that_is_too_long_nothing_is_called_missing(
    app: Cronq, run: str, reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_LONGEST_LIST", 2)
    app.client.lrem(QUEUE, 1, run)
    app.client.rpush(QUEUE, "a", "b", "c")

    look(reconcile, 3)
    assert app.client.llen(QUEUE) == 3
    app.client.rpop(QUEUE)
    look(reconcile, 2)

    assert app.client.lindex(QUEUE, 0) == run.encode()


@pytest.mark.parametrize(
    "key", [QUEUE, POPPED, "rq:queues", "rq:wip:default", "cronq:events", "rq:job:{run}", "cronq:run:{run}"]
)
def test_nothing_is_written_when_a_key_has_a_wrong_type(
    app: Cronq, run: str, reconcile: Reconcile, redis: Redis, key: str
) -> None:
    key = key.format(run=run)
    redis.delete(QUEUE)
    look(reconcile)
    redis.delete(key)
    redis.set(key, "junk")

    look(reconcile, 3)

    assert redis.get(key) == b"junk"
    assert key == QUEUE or redis.llen(QUEUE) == 0


def test_a_job_whose_active_set_is_of_a_wrong_type_keeps_no_other_from_being_looked_at(
    app: Cronq, run: str, store: Store, reconcile: Reconcile, redis: Redis
) -> None:
    store("broken", mark=T)
    redis.set(app.keys.active("broken"), "junk")
    Job.fetch(run, connection=redis).delete()

    look(reconcile)

    assert app.runs.get(run).outcome == "stopped"
