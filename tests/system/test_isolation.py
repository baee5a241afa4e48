"""Runs that share a child, in real workers: whatever one leaves, the next finds nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.command import send_stop_job_command
from rq.job import Job, JobStatus

from cronq.runs.run import Run
from tests.conftest import RedisServer
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation, is_alive


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a worker, shared by these tests."""
    server = RedisServer()
    try:
        directory = tmp_path_factory.mktemp("shop")
        with installation(
            server.url, directory, CRONQ_JOBS="isolated_jobs", CRONQ_ALLOW="isolated_jobs", CRONQ_LOG_LEVEL="debug"
        ) as made:
            made.worker()
            made.beat()
            yield made
    finally:
        server.stop()


@pytest.fixture
def worker(shop: Installation) -> CronqProcess:
    return shop.started[1]


def found(run: Run) -> dict[str, Any]:
    assert run.outcome == "succeeded", run
    value: dict[str, Any] = json.loads(run.result or "null")
    assert value["run_id"] == run.run_id
    return value


def history(shop: Installation, job: str) -> dict[str, Any]:
    process = shop.run("history", job, "-n", "1", "--json")
    assert process.exit_code() == 0
    (row,) = json.loads(process.output)
    return row  # type: ignore[no-any-return]


def fresh(shop: Installation, before: dict[str, Any]) -> dict[str, Any]:
    """The next run finds nothing of *before*, in another child; returns what it found."""
    after = found(shop.result("clean"))
    assert (after["count"], after["threads"], after["cwd"]) == (1, 1, str(shop.directory))
    assert after["pid"] != before["pid"]
    return after


def test_runs_share_a_child_as_long_as_each_leaves_it_as_it_was(shop: Installation) -> None:
    shop.result("end", "error")
    runs = [shop.result(job) for job in ("clean", "locked", "shared", "clean", "locked")]

    seen = [found(run) for run in runs]
    assert len({each["pid"] for each in seen}) == 1
    assert [each["count"] for each in seen] == [1, 2, 3, 4, 5]
    assert seen[1]["fence"] == runs[1].fence
    assert seen[4]["fence"] > seen[1]["fence"]
    assert all(run.replaced is None for run in runs)
    assert all((run.user_s or 0) + (run.system_s or 0) < 0.5 for run in runs)
    assert all(run.start_delay_s is not None for run in runs)


@pytest.mark.parametrize(
    ("what", "reason"),
    [("thread", "threads"), ("socket", "descriptors"), ("process", "processes"), ("cwd", "directory")],
)
def test_what_a_run_leaves_is_gone_before_its_end_is_told(
    shop: Installation, worker: CronqProcess, what: str, reason: str
) -> None:
    before = found(shop.result("clean"))
    run = shop.result("leak", what)

    assert found(run)["pid"] == before["pid"]
    assert reason in (run.replaced or "").split(",")
    assert not is_alive(before["pid"])
    assert history(shop, "leak")["replaced"] == run.replaced
    assert worker.wait_for_line(f"REPLACED the child {before['pid']} after {run.run_id}: {run.replaced}")
    fresh(shop, before)


@pytest.mark.parametrize(
    ("how", "outcome"), [("error", "failed"), ("kill", "failed"), ("hang", "stopped"), ("snooze", "succeeded")]
)
def test_after_any_outcome_but_success_the_next_run_has_another_child(
    shop: Installation, how: str, outcome: str
) -> None:
    before = found(shop.result("clean"))

    run_id = shop.enqueue("end", how)
    if how == "hang":
        shop.begins(run_id)
        shop.app.stop(run_id)
    run = shop.settles(run_id, attempt=2 if how == "snooze" else 1)

    assert (run.outcome, run.replaced) == (outcome, None)
    after = found(shop.result("clean"))
    assert after["pid"] != before["pid"]
    assert after["count"] == 1


def test_after_a_time_out_the_next_run_has_another_child(shop: Installation) -> None:
    before = found(shop.result("clean"))

    assert shop.result("slow").outcome == "timed_out"

    fresh(shop, before)


def test_isolation_run_is_a_process_for_each_run(shop: Installation) -> None:
    before = found(shop.result("clean"))

    alone = [found(shop.result("alone")) for _ in range(2)]

    assert len({before["pid"], *(each["pid"] for each in alone)}) == 3
    assert [each["count"] for each in alone] == [1, 1]


def test_what_is_made_once_per_child_stays(shop: Installation) -> None:
    runs = [shop.result("pooled") for _ in range(3)]

    assert len({found(run)["pid"] for run in runs}) == 1
    assert [run.replaced for run in runs] == [None] * 3
    shop.result("end", "error")


def test_rq_jobs_share_a_child_likewise(shop: Installation) -> None:
    queue = Queue("default", connection=shop.client)

    def run(how: str) -> Job:
        job = queue.enqueue("isolated_jobs.rq_job", how)
        until(lambda: job.get_status() in (JobStatus.FINISHED, JobStatus.FAILED), what=lambda: shop.logs)
        return job

    first, second, leak, third, failed, fourth = (run(how) for how in ("well", "well", "leak", "well", "fail", "well"))

    pids = [job.return_value() for job in (first, second, leak, third, fourth)]
    assert pids[0] == pids[1] == pids[2]
    assert len(set(pids)) == 3
    assert failed.get_status() == JobStatus.FAILED


def test_workers_count_why_children_were_replaced(shop: Installation, worker: CronqProcess) -> None:
    shop.result("leak", "thread")

    def counted() -> bool:
        process = shop.run("workers", "--json")
        assert process.exit_code() == 0
        (row,) = [row for row in json.loads(process.output) if row["pid"] == worker.pid]
        return "threads" in row["replaced"] and all(n > 0 for n in row["replaced"].values())

    until(counted, within_s=20)


def test_with_cronq_isolation_run_only_who_asks_shares_a_child(tmp_path: Path, redis_url: str) -> None:
    with installation(redis_url, tmp_path / "shop", CRONQ_JOBS="isolated_jobs", CRONQ_ISOLATION="run") as shop:
        shop.worker()

        plain = [found(shop.result("clean"))["pid"] for _ in range(2)]
        shared = [found(shop.result("shared"))["pid"] for _ in range(2)]

        assert plain[0] != plain[1]
        assert shared[0] == shared[1]


def test_a_worker_that_leaves_takes_its_idle_child_along(tmp_path: Path, redis_url: str) -> None:
    with installation(redis_url, tmp_path / "shop", CRONQ_JOBS="isolated_jobs") as shop:
        worker = shop.worker()
        pid = found(shop.result("clean"))["pid"]
        below = descendants(worker.pid)
        assert pid in below

        worker.terminate()

        assert worker.exit_code() == 0, worker.log
        assert not any(map(is_alive, below))


def queued_at_once(shop: Installation, *runs: tuple[str, list[object]]) -> list[str]:
    """Queue these runs so that a worker finds them all at once; their ids."""
    shop.app.holds.hold("queue:default", by="test", now_s=shop.app.now_s())
    ids = [shop.app.enqueue(job, args) for job, args in runs]
    shop.app.holds.lift("queue:default")
    return ids


def test_a_run_knows_how_the_one_just_before_it_ended_however_close_they_are(tmp_path: Path, redis_url: str) -> None:
    fails = [number % 5 in (2, 3) for number in range(40)]
    with installation(redis_url, tmp_path / "shop", CRONQ_JOBS="isolated_jobs") as shop:
        shop.worker()
        ids = queued_at_once(shop, *(("recall", [each]) for each in fails))
        shop.settles(ids[-1], 60)
        rows = [shop.row(run_id) for run_id in ids]

    assert [row.outcome == "failed" for row in rows] == fails
    in_a_row = 0
    for before, row in pairwise(rows):
        in_a_row = in_a_row + 1 if before.outcome == "failed" else 0
        if row.outcome == "succeeded":
            told = json.loads(row.result or "")
            assert told == {"last_run": before.run_id, "last_outcome": before.outcome, "failures": in_a_row}


@pytest.mark.timing
def test_a_run_that_lingers_after_its_work_holds_up_no_other(tmp_path: Path, redis_url: str) -> None:
    with installation(redis_url, tmp_path / "shop", CRONQ_JOBS="isolated_jobs") as shop:
        shop.worker()
        before, slow, after = queued_at_once(shop, ("clean", []), ("linger", [10.0]), ("clean", []))
        shop.settles(before)
        shop.begins(slow)
        shop.worker()

        assert shop.settles(after, 8).outcome == "succeeded"
        assert shop.row(slow).state == "running"
        assert shop.settles(slow, 15).outcome == "succeeded"
        assert [shop.row(run_id).attempt for run_id in (before, slow, after)] == [1, 1, 1]


@pytest.mark.timing
def test_a_run_is_stopped_that_was_taken_while_another_lingers(tmp_path: Path, redis_url: str) -> None:
    with installation(redis_url, tmp_path / "shop", CRONQ_JOBS="isolated_jobs") as shop:
        shop.worker()
        _, slow, after = queued_at_once(shop, ("clean", []), ("linger", [3.0]), ("nap", [30.0]))
        shop.begins(after)  # to Redis, for a second
        assert shop.row(slow).state == "running"

        send_stop_job_command(shop.client, after)

        assert shop.settles(after, 20).outcome == "stopped"
        assert shop.row(slow).outcome == "succeeded"


def test_no_other_run_is_taken_before_the_end_of_one_that_would_be_done_again(tmp_path: Path, redis_url: str) -> None:
    midway = tmp_path / "midway"
    with installation(redis_url, tmp_path / "shop", CRONQ_JOBS="isolated_jobs", CRONQ_LOST_AFTER="2s") as shop:
        worker = shop.worker()
        _, slow, after = queued_at_once(shop, ("clean", []), ("linger-again", [1.0, str(midway)]), ("clean", []))
        until(midway.exists, what=lambda: worker.log)
        worker.kill9()
        shop.beat()
        shop.worker()

        assert shop.settles(slow, 30).attempt == 2
        row = shop.settles(after)
        assert (row.outcome, row.attempt) == ("succeeded", 1)
