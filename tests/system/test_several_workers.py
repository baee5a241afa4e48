"""Several workers in one process: all take part, what dies alone is replaced alone, nothing outlives the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from rq import Worker
from rq.command import send_shutdown_command
from rq.job import Job, JobStatus

from cronq.runs.run import Run
from tests.conftest import RedisServer
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation, is_alive

QUEUES = ("high", "nights", "low")
#: `cronq worker`, one of whose workers ends with an exception when there is a file `fail`: the first that sees it.
#: With a file `fail-always` each of them does, as it begins.
FAILING = """
import os, sys
from cronq.__main__ import main
from cronq.worker.worker import GuardedWorker
begin, beat = GuardedWorker.meet_redis, GuardedWorker.beat_heart
class Broken(BaseException):
    pass
def meet_redis(self):
    begin(self)
    if os.path.exists("fail-always"):
        raise Broken("as it began")
def beat_heart(self):
    try:
        os.remove("fail")
    except FileNotFoundError:
        beat(self)
    else:
        raise Broken("at work")
GuardedWorker.meet_redis, GuardedWorker.beat_heart = meet_redis, beat_heart
sys.argv[1:] = {words!r}
main()
"""


@pytest.fixture
def own(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without any worker yet."""
    with installation(redis_server.url, tmp_path_factory.mktemp("own"), CRONQ_LOST_AFTER="3s") as made:
        yield made


def members(made: Installation, process: CronqProcess, count: int = 2) -> dict[str, int]:
    """Wait until *count* living workers of *process*, or below it, are seen by others; their pids by name."""

    def seen() -> dict[str, int]:
        assert process.is_running, process.log
        pids = {beat.id: beat.pid for beat in made.app.workers()[0] if is_alive(beat.pid)}
        return pids if len(pids) == count else {}

    return until(seen, what=lambda: f"{count} workers:\n{process.log}")


def two_workers(made: Installation, *words: str) -> CronqProcess:
    process = made.start("worker", "-n", "2", *words)
    members(made, process)
    return process


def failing(made: Installation, *words: str) -> CronqProcess:
    return made.start_python(FAILING.format(words=["worker", *words]))


def all_gone(pids: set[int], within_s: float = 30.0) -> None:
    until(
        lambda: not any(map(is_alive, pids)),
        within_s,
        what=lambda: f"the end of {[each for each in pids if is_alive(each)]}",
    )


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def two_at_work(made: Installation, seconds: float = 1000.0) -> list[tuple[Run, int]]:
    """Two runs that sleep, and the pids of their children."""
    found = []
    for number in range(2):
        run = made.begins(made.enqueue("sleep", seconds, f"sleeper-{number}"))
        (pid,) = made.pids(f"sleeper-{number}")
        found.append((run, pid))
    return found


# Who takes part


def test_all_work_at_the_same_time_and_each_is_a_worker_of_its_own(own: Installation) -> None:
    process = two_workers(own, *QUEUES)
    one, other = own.begins(own.enqueue("sleep-nights")), own.begins(own.enqueue("sleep-nights"))

    known = members(own, process)
    assert set(known) == {one.worker, other.worker}
    assert set(known.values()) == {one.pid, other.pid} == {process.pid}
    assert one.worker != other.worker
    assert {each.name for each in Worker.all(connection=own.client)} == {one.worker, other.worker}
    assert [each.get_current_job_id() for each in Worker.all(connection=own.client) if each.name == one.worker] == [
        one.run_id
    ]
    assert "2 workers" in own.run_rq("info").output

    own.app.stop("sleep-nights")
    for run in (one, other):
        own.settles(run.run_id)
    runs = [own.result(f"add-{queue}") for queue in QUEUES]
    assert [run.outcome for run in runs] == ["succeeded"] * 3


def test_exclusive_jobs_and_commands_share_a_process_as_they_share_a_host(own: Installation) -> None:
    own.beat()
    process = own.start("worker", "-n", "4")
    members(own, process, 4)
    waiting = [own.enqueue("guarded", 0.3) for _ in range(4)]
    others = [own.enqueue(name) for name in ("add", "words", "fail-once-guarded", "add")]

    ends = [own.settles(run_id) for run_id in waiting]

    assert [run.outcome for run in ends] == ["succeeded"] * 4
    spans = sorted((run.started_at or 0.0, run.ended_at or 0.0) for run in ends)
    assert all(before[1] <= after[0] + 0.01 for before, after in pairwise(spans))
    assert [own.settles(run_id).outcome for run_id in others] == ["succeeded", "succeeded", "failed", "succeeded"]


def test_one_of_them_is_drained_by_its_name_and_all_of_them_by_their_host(own: Installation) -> None:
    process = two_workers(own)
    drained, other = members(own, process)
    assert own.run("drain", drained).exit_code() == 0
    process.wait_for_line("SUSPENDED")

    assert {own.result("add").worker for _ in range(4)} == {other}

    assert own.run("drain", "box").exit_code() == 0
    process.wait_for_line("SUSPENDED", count=2)
    run_id = own.enqueue("add")
    for name in ("box", drained):
        assert own.run("drain", "--end", name).exit_code() == 0
    assert own.settles(run_id).outcome == "succeeded"


def test_what_is_queued_at_once_begins_at_once_and_one_connection_hears_of_it(own: Installation) -> None:
    process = own.start("worker", "-n", "4")
    members(own, process, 4)
    until(lambda: len(own.client.client_list(_type="pubsub")) == 1, what="one subscription")
    own.result("add")

    runs = own.app.enqueue_many("sleep", [((0.5,), {}) for _ in range(4)])
    begun = [own.begins(run_id) for run_id in runs]

    assert len({run.worker for run in begun}) == 4
    assert max(run.started_at or 0.0 for run in begun) - min(run.started_at or 0.0 for run in begun) < 0.5
    assert [own.settles(run_id).outcome for run_id in runs] == ["succeeded"] * 4
    process.terminate()
    assert process.exit_code() == 0
    assert own.client.client_list(_type="pubsub") == []


# How they end


def test_told_to_end_they_let_their_runs_end_and_leave_nothing_behind(own: Installation) -> None:
    process = two_workers(own)
    runs = [own.begins(own.enqueue("sleep", 2)) for _ in range(2)]
    family = descendants(process.pid)
    waiting = own.enqueue("add")
    process.terminate()

    assert process.exit_code() == 0, process.log
    assert [own.row(run.run_id).outcome for run in runs] == ["succeeded"] * 2
    assert own.row(waiting).state == "queued"
    assert own.app.workers()[0] == []
    assert Worker.all(connection=own.client) == []
    all_gone(family)


def test_what_has_not_ended_when_the_grace_is_over_is_ended(own: Installation) -> None:
    process = own.start("worker", "-n", "2", CRONQ_SHUTDOWN_GRACE="1s")
    members(own, process)
    runs = two_at_work(own)

    process.terminate()

    assert process.exit_code() == 0, process.log
    assert [own.row(run.run_id).outcome for run, _ in runs] == ["lost"] * 2
    assert not any(is_alive(child) for _, child in runs)


def test_a_second_signal_ends_all_runs(own: Installation) -> None:
    process = two_workers(own)
    runs = two_at_work(own)
    process.terminate()
    process.wait_for_line("LEAVING", count=3)  # the process, and each worker

    process.terminate()

    assert process.exit_code() == 0, process.log
    assert not any(is_alive(child) for _, child in runs)
    assert [own.row(run.run_id).outcome for run, _ in runs] == ["stopped"] * 2


def test_ctrl_c_is_one_signal_although_the_terminal_sends_it_to_the_whole_group(own: Installation) -> None:
    process = two_workers(own)
    runs = [own.begins(own.enqueue("sleep", 2)) for _ in range(2)]

    os.killpg(process.pid, signal.SIGINT)

    assert process.exit_code() == 0, process.log
    assert [own.row(run.run_id).outcome for run in runs] == ["succeeded"] * 2


def test_an_outcome_that_one_of_them_could_not_write_is_told_by_exit_code_1(tmp_path: Path) -> None:
    server = RedisServer()
    try:
        with installation(server.url, tmp_path / "own", CRONQ_SHUTDOWN_GRACE="1s") as made:
            process = two_workers(made)
            made.begins(made.enqueue("sleep", 2))
            os.kill(server.pid, signal.SIGSTOP)
            process.wait_for_line("UNHEARD")
            process.terminate()
            process.wait_for_line("LEAVING")
            process.terminate()
            code = process.exit_code(60)
            os.kill(server.pid, signal.SIGCONT)
            assert process.lines("ABANDONED")
            assert code == 1
    finally:
        server.stop()


def test_rqs_shutdown_command_ends_one_of_them_and_another_takes_its_place(own: Installation) -> None:
    process = two_workers(own)
    run = own.begins(own.enqueue("sleep", 1))
    told, other = sorted(members(own, process), key=lambda name: name == run.worker)

    send_shutdown_command(own.client, told)

    assert f"worker {told} with code 0" in process.wait_for_line("RESTART")
    until(lambda: told not in members(own, process))
    assert other in members(own, process)
    assert own.settles(run.run_id).outcome == "succeeded"
    process.terminate()
    assert process.exit_code() == 0


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


# What dies alone


def test_a_worker_that_fails_is_started_anew_and_no_other_notices(own: Installation) -> None:
    process = failing(own, "-n", "2")
    before = members(own, process)
    run = own.begins(own.enqueue("sleep", 8))

    (own.directory / "fail").touch()

    line = process.wait_for_line("RESTART")
    (victim,) = (name for name in before if f"worker {name} with code 1" in line)
    assert f"FAILED worker {victim}: Broken: at work" in process.log
    until(lambda: set(members(own, process)) - set(before), what="a new worker")
    if victim != run.worker:
        assert own.settles(run.run_id).outcome == "succeeded"
    runs = [own.begins(own.enqueue("sleep", 0.5)) for _ in range(2)]
    assert victim not in {each.worker for each in runs}
    process.terminate()
    assert process.exit_code() == 0, process.log


def test_workers_that_fail_as_they_begin_do_not_spin_and_the_process_ends_with_1(own: Installation) -> None:
    (own.directory / "fail-always").touch()
    process = failing(own, "-n", "2")
    process.wait_for_line("RESTART", count=6)

    process.terminate()

    assert process.exit_code() == 1
    pauses = [line.rsplit("starts in ", 1)[1] for line in process.lines("RESTART")]
    assert pauses[:6] == ["0.5s", "0.5s", "1s", "1s", "2s", "2s"]
    assert len(process.lines("FAILED")) == len(process.lines("RESTART"))


def test_a_burst_of_which_one_fails_replaces_nobody_and_says_so_with_its_code(own: Installation) -> None:
    runs = [own.enqueue("add") for _ in range(4)]
    (own.directory / "fail").touch()

    burst = failing(own, "--burst", "-n", "2")

    assert burst.exit_code() == 1
    assert len(burst.lines("ENDED")) == 2
    assert burst.lines("RESTART") == []
    assert [own.row(run_id).outcome for run_id in runs] == ["succeeded"] * 4


def test_a_child_or_a_watchdog_that_is_killed_is_replaced_alone(own: Installation) -> None:
    process = two_workers(own)
    (run, child), (other, neighbour) = two_at_work(own)
    others = {neighbour, parent_of(neighbour)}

    os.kill(parent_of(child), signal.SIGKILL)

    assert own.settles(run.run_id).outcome == "lost"
    all_gone({child}, 1.0)
    again = own.begins(own.enqueue("sleep", 1000.0, "again"))
    (pid,) = own.pids("again")
    assert again.worker == run.worker
    os.kill(pid, signal.SIGKILL)
    assert own.settles(again.run_id).outcome == "failed"
    assert own.result("add").outcome == "succeeded"

    assert all(map(is_alive, others))
    assert own.row(other.run_id).state == "running"
    assert process.lines("RESTART") == process.lines("THREADS") == []
    own.app.stop(other.run_id)
    assert own.settles(other.run_id).outcome == "stopped"


# What dies together


def test_when_the_process_is_killed_all_below_it_are_gone_within_a_second(own: Installation) -> None:
    process = two_workers(own)
    runs = two_at_work(own)
    family = descendants(process.pid)
    assert {child for _, child in runs} < family

    process.kill9()

    all_gone(family, 1.0)
    own.beat()
    assert [own.settles(run.run_id).outcome for run, _ in runs] == ["lost"] * 2


def test_when_the_process_stands_still_no_child_outlives_its_lock(redis_server: RedisServer, tmp_path: Path) -> None:
    with installation(redis_server.url, tmp_path / "own", CRONQ_LOCK_TTL="2s") as made:
        process = two_workers(made)
        made.begins(made.enqueue("guarded", 1000.0))
        pids = set(made.pids("guarded", 3))
        until(lambda: made.client.exists(made.app.keys.lock("guarded")))

        process.suspend()

        until(lambda: not made.client.exists(made.app.keys.lock("guarded")), what="the end of the lock")
        assert not any(map(is_alive, pids))
        process.resume()


# RQ's own pool of processes


def test_rqs_own_worker_pool_runs_our_class_on_three_queues(own: Installation) -> None:
    pool = own.start_rq("worker-pool", "--worker-class", "cronq.Worker", "-n", "2", *QUEUES)
    pids = set(members(own, pool).values())
    runs = [own.result(f"add-{queue}") for queue in QUEUES]
    family = descendants(pool.pid)

    pool.terminate()

    assert pool.exit_code() == 0, pool.log
    assert [run.outcome for run in runs] == ["succeeded"] * 3
    assert {run.pid for run in runs} <= pids
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
