"""Several workers under one process: all take part, the dead are replaced, nothing is left when any of them dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from rq import Worker
from rq.job import Job, JobStatus

from tests.conftest import RedisServer
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation, is_alive

QUEUES = ("high", "nights", "low")
#: A pool whose only member dies as it starts, and says so.
DYING = """
import logging, sys, threading
from cronq.process.pool import Pool
logging.basicConfig(format="%(message)s", level="INFO", stream=sys.stderr)
def serve():
    print("born", flush=True)
    return 3
sys.exit(Pool(1, serve).run(threading.Event()))
"""


@pytest.fixture
def own(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without any worker yet."""
    with installation(redis_server.url, tmp_path_factory.mktemp("own"), CRONQ_LOST_AFTER="3s") as made:
        yield made


def members(made: Installation, pool: CronqProcess, count: int = 2) -> list[int]:
    """Wait until *count* living workers of the pool are seen by others; their pids."""

    def seen() -> list[int]:
        assert pool.is_running, pool.log
        pids = [beat.pid for beat in made.app.workers()[0] if is_alive(beat.pid)]
        return pids if len(pids) == count else []

    return until(seen, what=lambda: f"{count} workers:\n{pool.log}")


def pool_of_two(made: Installation, *words: str) -> CronqProcess:
    pool = made.start("worker", "-n", "2", *words)
    members(made, pool)
    return pool


def all_gone(pids: set[int]) -> None:
    until(lambda: not any(map(is_alive, pids)), what=lambda: f"the end of {[each for each in pids if is_alive(each)]}")


def test_all_members_work_at_the_same_time_and_each_is_a_worker_of_its_own(own: Installation) -> None:
    pool = pool_of_two(own, *QUEUES)
    one, other = own.begins(own.enqueue("sleep-nights")), own.begins(own.enqueue("sleep-nights"))

    assert {one.pid, other.pid} == set(members(own, pool))
    assert one.worker != other.worker
    assert {each.name for each in Worker.all(connection=own.client)} == {one.worker, other.worker}

    own.app.stop("sleep-nights")
    for run in (one, other):
        own.settles(run.run_id)
    runs = [own.result(f"add-{queue}") for queue in QUEUES]
    assert [run.outcome for run in runs] == ["succeeded"] * 3


def test_a_pool_told_to_end_lets_the_runs_end_and_leaves_nothing_behind(own: Installation) -> None:
    pool = pool_of_two(own)
    family = descendants(pool.pid)
    runs = [own.begins(own.enqueue("sleep", 2)) for _ in range(2)]
    waiting = own.enqueue("add")
    pool.terminate()

    assert pool.exit_code() == 0, pool.log
    assert [own.row(run.run_id).outcome for run in runs] == ["succeeded"] * 2
    assert own.row(waiting).state == "queued"
    assert own.app.workers()[0] == []
    all_gone(family)


def test_a_second_signal_reaches_the_members_too(own: Installation) -> None:
    pool = pool_of_two(own)
    run = own.begins(own.enqueue("sleep"))
    (child,) = own.pids("sleep")
    pool.terminate()
    pool.wait_for_line("LEAVING", count=2)  # the pool, and the member that is at work

    pool.terminate()

    assert pool.exit_code() == 0, pool.log
    assert not is_alive(child)
    assert own.row(run.run_id).state != "running"


def test_ctrl_c_is_one_signal_to_each_member_although_the_terminal_sends_it_to_the_whole_group(
    own: Installation,
) -> None:
    pool = pool_of_two(own)
    run = own.begins(own.enqueue("sleep", 2))

    os.killpg(pool.pid, signal.SIGINT)

    assert pool.exit_code() == 0, pool.log
    assert own.row(run.run_id).outcome == "succeeded"


def test_a_member_that_is_killed_is_replaced_and_said_so_in_one_line(own: Installation) -> None:
    pool = pool_of_two(own)
    victim, other = members(own, pool)

    os.kill(victim, signal.SIGKILL)

    line = pool.wait_for_line("RESTART")
    assert f"(pid {victim}) by signal 9 after" in line
    until(lambda: [pid for pid in members(own, pool) if pid not in (victim, other)], what="a new member")
    runs = [own.begins(own.enqueue("sleep", 0.5)) for _ in range(2)]
    assert victim not in {run.pid for run in runs}
    pool.terminate()
    assert pool.exit_code() == 0, pool.log


def test_a_member_that_dies_as_it_starts_does_not_spin_and_a_pool_that_it_leaves_ends_with_1(own: Installation) -> None:
    pool = own.start_python(DYING)
    pool.wait_for_line("RESTART", count=3)
    pauses = [line.rsplit("starts in ", 1)[1] for line in pool.lines("RESTART")]

    pool.terminate()

    assert pauses[:3] == ["0.5s", "1s", "2s"]
    assert pool.exit_code() == 1
    assert pool.output.count("born") == pool.log.count("RESTART")


def test_when_the_pool_is_killed_its_members_end_in_an_orderly_way(own: Installation) -> None:
    pool = pool_of_two(own)
    family = descendants(pool.pid)
    run = own.begins(own.enqueue("sleep", 3))
    family |= descendants(pool.pid)

    pool.kill9()

    assert own.settles(run.run_id).outcome == "succeeded"
    all_gone(family)
    assert own.app.workers()[0] == []


@pytest.mark.parametrize("count", [1, 3])
def test_a_burst_ends_when_the_queues_are_empty_with_0_also_when_runs_failed(own: Installation, count: int) -> None:
    runs = [own.enqueue(name) for name in ("add-high", "fail", "add-low", "kill-itself", "add", "add")]

    burst = own.run("worker", "--burst", "-n", str(count), "high", "default", "low")

    assert burst.exit_code() == 0, burst.log
    assert [own.row(run_id).outcome for run_id in runs] == [
        "succeeded", "failed", "succeeded", "failed", "succeeded", "succeeded",
    ]  # fmt: skip
    assert burst.lines("RESTART") == []
    assert own.app.workers()[0] == []


def test_a_burst_whose_member_died_replaces_nobody_and_says_so_with_its_code(own: Installation) -> None:
    run_id = own.enqueue("sleep")
    burst = own.start("worker", "--burst", "-n", "2")
    victim = own.begins(run_id).pid
    assert victim is not None

    os.kill(victim, signal.SIGKILL)

    assert burst.exit_code() == 1
    (line,) = burst.lines("by signal 9")
    assert f"(pid {victim})" in line
    assert burst.lines("RESTART") == []


def test_rqs_own_worker_pool_runs_our_class_on_three_queues(own: Installation) -> None:
    pool = own.start_rq("worker-pool", "--worker-class", "cronq.Worker", "-n", "2", *QUEUES)
    pids = members(own, pool)
    runs = [own.result(f"add-{queue}") for queue in QUEUES]
    family = descendants(pool.pid)

    pool.terminate()

    assert pool.exit_code() == 0, pool.log
    assert [run.outcome for run in runs] == ["succeeded"] * 3
    assert {run.pid for run in runs} <= set(pids)
    jobs = [Job.fetch(run.run_id, connection=own.client) for run in runs]
    assert [job.get_status() for job in jobs] == [JobStatus.FINISHED] * 3
    assert own.client.keys("rq:queue:*") == []
    all_gone(family)


def test_a_run_under_rqs_own_worker_pool_has_its_guardian(own: Installation) -> None:
    pool = own.start_rq("worker-pool", "--worker-class", "cronq.Worker", "-n", "2", "default")
    members(own, pool)
    run = own.begins(own.enqueue("sleep"))
    (child,) = own.pids("sleep")
    assert run.pid is not None

    os.kill(run.pid, signal.SIGKILL)

    all_gone({child})
