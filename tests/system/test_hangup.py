"""SIGHUP: beats and workers begin anew with the code on disk, and no run is cut off for it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.registry import Registry
from tests.system.processes import CronqProcess, Processes, until

#: A job that waits until a file is there, and says which edition of the module it is.
MODULE = """
import pathlib, time
from cronq import job

@job("0 0 1 1 *", name={name!r}, timeout="1m")
def work():
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    return {name!r}
"""


@pytest.fixture
def place(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    with Processes(redis_url, tmp_path, CRONQ_LOST_AFTER="5s") as processes:
        edition(processes, "first")
        yield processes


@pytest.fixture
def app(redis_url: str) -> Iterator[Cronq]:
    with Redis.from_url(redis_url) as client:
        yield Cronq(redis_url, client=client, registry=Registry())


def edition(place: Processes, name: str) -> None:
    """Write the module, with a time of its own: Python looks at that before it takes what it compiled earlier."""
    place.write_module("jobs", MODULE.format(name=name))
    stamp = time.time() + len(name) * 60
    os.utime(place.directory / "jobs.py", (stamp, stamp))


def ends_well(process: CronqProcess) -> None:
    process.terminate()
    assert process.exit_code() == 0, process.log


def test_a_beat_begins_anew_with_the_jobs_of_that_moment(place: Processes, app: Cronq) -> None:
    beat = place.start("beat", "jobs")
    beat.wait_for_line("START-UP")
    assert app.job_names() == ["first"]
    edition(place, "second")

    beat.hang_up()

    beat.wait_for_line("START-UP", count=2)
    beat.wait_for_line("RELOAD begins anew, as SIGHUP asked")
    assert app.job_names() == ["first", "second"]
    until(lambda: [each.pid for each in app.beats()[0]] == [beat.pid], what="its heartbeat")
    ends_well(beat)


def test_a_worker_lets_its_run_end_and_then_has_the_new_code(place: Processes, app: Cronq) -> None:
    app.load_jobs()
    assert place.run("sync", "jobs").exit_code() == 0
    worker = place.start("worker", "-m", "jobs", CRONQ_SHUTDOWN_GRACE="1s")
    worker.wait_for_line("START-UP")
    at_work = app.enqueue("first")
    worker.wait_for_line(f"START {at_work}")
    edition(place, "second")
    assert place.run("sync", "jobs").exit_code() == 0
    behind = app.enqueue("second")

    worker.hang_up()

    worker.wait_for_line("LEAVING after the present run, however long it takes")
    time.sleep(1.5)  # longer than the grace of a worker that is told to end
    assert app.read_run(at_work).state == "running"
    (place.directory / "go").touch()
    worker.wait_for_line("START-UP", count=2)
    assert app.read_run(at_work).outcome == "succeeded"
    assert until(lambda: app.read_run(behind).outcome) == "succeeded"
    assert [each.pid for each in app.workers()[0]] == [worker.pid]
    ends_well(worker)


def test_a_worker_that_is_told_to_end_meanwhile_does_not_begin_anew(place: Processes, app: Cronq) -> None:
    assert place.run("sync", "jobs").exit_code() == 0
    worker = place.start("worker", "-m", "jobs", CRONQ_SHUTDOWN_GRACE="1s")
    worker.wait_for_line("START-UP")
    run_id = app.enqueue("first")
    worker.wait_for_line(f"START {run_id}")

    worker.hang_up()
    worker.wait_for_line("however long it takes")
    worker.terminate()

    assert worker.exit_code() == 0
    assert app.read_run(run_id).outcome == "lost"
    assert len(worker.lines("START-UP")) == 1


def test_two_workers_begin_anew_when_all_of_their_runs_have_ended(place: Processes, app: Cronq) -> None:
    assert place.run("sync", "jobs").exit_code() == 0
    process = place.start("worker", "-m", "jobs", "-n", "2")
    process.wait_for_line("START-UP worker", count=2)
    runs = [app.enqueue("first") for _ in range(2)]
    for run_id in runs:
        process.wait_for_line(f"START {run_id}")
    edition(place, "second")

    process.hang_up()
    process.wait_for_line("LEAVING after the present run", count=2)
    (place.directory / "go").touch()

    process.wait_for_line("START-UP worker", count=4)
    assert [app.read_run(run_id).outcome for run_id in runs] == ["succeeded"] * 2
    assert place.run("sync", "jobs").exit_code() == 0
    again = app.enqueue("second")
    assert until(lambda: app.read_run(again).outcome) == "succeeded"
    ends_well(process)


@pytest.mark.parametrize("words", [("beat", "jobs"), ("worker", "-m", "jobs"), ("worker", "-n", "2", "-m", "jobs")])
def test_many_hangups_and_an_end_at_any_moment_leave_nothing_behind(place: Processes, words: tuple[str, ...]) -> None:
    process = place.start(*words)
    process.wait_for_line("START-UP")

    for pause_s in (0.0, 0.005, 0.05, 0.1, 0.2, 0.4):
        process.hang_up()
        time.sleep(pause_s)

    assert process.is_running
    process.wait_for_line("START-UP", count=2)
    ends_well(process)
    assert "Traceback" not in process.log


def start_with(place: Processes, words: list[str], **options: object) -> subprocess.Popen[bytes]:
    environment = os.environ | {"CRONQ_REDIS_URL": place.redis_url, "PYTHONPATH": str(place.directory)}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "cronq", *words], cwd=place.directory, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.mark.parametrize("words", [["beat", "jobs"], ["worker", "-m", "jobs"], ["worker", "-n", "2", "-m", "jobs"]])
def test_when_its_terminal_is_gone_it_ends_in_order(place: Processes, words: list[str]) -> None:
    ours, its = os.openpty()
    process = start_with(place, words, preexec_fn=lambda: fcntl.ioctl(its, termios.TIOCSCTTY, 0))
    os.close(its)
    with process:
        assert process.stderr is not None
        said = b""
        while b"START-UP" not in said:
            said += process.stderr.read1(4096)  # type: ignore[attr-defined]
        os.close(ours)
        assert process.wait(20) == 0


def test_nohup_keeps_its_meaning(place: Processes) -> None:
    process = start_with(
        place, ["worker", "-n", "2", "-m", "jobs"], preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    with process:
        assert process.stderr is not None
        said = b""
        while said.count(b"START-UP worker") < 2:
            said += process.stderr.read1(4096)  # type: ignore[attr-defined]
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(20) == 0
    assert b"RELOAD" not in rest
