"""What runs print goes where their worker's own words go, whole, and no run can do anything to the worker's files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cronq.process.pipes import STDERR, STDOUT, Outlet, WholeLines
from tests.conftest import RedisServer
from tests.system.processes import CronqProcess
from tests.system.worker_processes import Installation, installation

LEFT_OUT = re.compile(r"cronq: [\d,]+ bytes of output were left out")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with the jobs of `printing_jobs` and a worker whose output goes to files."""
    server = RedisServer()
    try:
        directory = tmp_path_factory.mktemp("shop")
        with installation(server.url, directory, CRONQ_JOBS="printing_jobs", CRONQ_LOST_AFTER="60s") as made:
            made.worker()
            yield made
    finally:
        server.stop()


@pytest.fixture
def worker(shop: Installation) -> CronqProcess:
    return shop.started[-1]


@pytest.fixture
def piped(redis_server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., tuple[Installation, int, int]]]:
    """Starts an installation whose worker writes both streams into one pipe: its reading end, and the worker's pid."""
    started: list[subprocess.Popen[bytes]] = []
    with installation(redis_server.url, tmp_path, CRONQ_JOBS="printing_jobs", CRONQ_LOST_AFTER="60s") as made:

        def start() -> tuple[Installation, int, int]:
            reader, writer = os.pipe()
            process = subprocess.Popen(
                [sys.executable, "-m", "cronq", "worker"], cwd=tmp_path, env=made._environment({}),
                stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, start_new_session=True,
            )  # fmt: skip
            os.close(writer)
            started.append(process)
            return made, reader, process.pid

        yield start
        for process in started:
            process.kill()
            process.wait()


def test_functions_and_commands_print_into_the_worker_s_streams(shop: Installation, worker: CronqProcess) -> None:
    for count in (3, 20_000):
        run = shop.result("print", count)
        worker.wait_for_line(f"FINISH {run.run_id} succeeded")
        assert worker.output.endswith("".join(f"line {number}\n" for number in range(count)))
    run = shop.result("report")

    assert run.outcome == "succeeded"
    assert worker.output.endswith("".join(f"{number:090d}\n" for number in range(1, 12_001)))


def test_output_stands_in_the_log_before_the_end_of_its_run(shop: Installation, worker: CronqProcess) -> None:
    for _ in range(10):
        run = shop.result("print")
        worker.wait_for_line(f"FINISH {run.run_id}")
        lines = [line for line in worker.log.splitlines() if run.run_id in line or line == "on stderr"][-3:]
        assert ["START" in lines[0], lines[1], "FINISH" in lines[2]] == [True, "on stderr", True]


def test_the_last_words_of_a_run_that_is_killed_are_kept(shop: Installation, worker: CronqProcess) -> None:
    run = shop.result("print-and-die")

    worker.wait_for_line(f"FINISH {run.run_id}")
    assert run.signal == "SIGKILL"
    assert worker.output.endswith("x" * 60_000 + "the tail\n")


def test_what_a_run_leaves_behind_with_its_output_open_holds_up_nobody(
    shop: Installation, worker: CronqProcess
) -> None:
    run = shop.result("leave-a-daemon")

    assert (run.outcome, (run.duration_s or 99) < 5) == ("succeeded", True)
    assert worker.output.endswith("left one\n")


@pytest.mark.parametrize("job", ["change-flags", "change-flags-command"])
def test_flags_that_a_run_gives_its_output_are_its_own(
    piped: Callable[..., tuple[Installation, int, int]], job: str
) -> None:
    shop, reader, pid = piped()
    heard = bytearray()

    def read() -> None:  # slowly: a pipe is full most of the time
        while piece := os.read(reader, 16_384):
            heard.extend(piece)
            time.sleep(0.01)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert shop.result(job).outcome == "succeeded"
    with Path(f"/proc/{pid}/fdinfo/1").open() as file:
        flags = int(next(line for line in file if line.startswith("flags:")).split()[1], 8)
    run = shop.result("report")

    assert not flags & os.O_NONBLOCK
    assert (run.outcome, run.reason) == ("succeeded", "it ran to its end")
    os.kill(pid, signal.SIGTERM)
    thread.join(20)
    assert heard.count(b"\n0") + heard.startswith(b"0") >= 11_990, "no line of it is lost"
    for number in (1, 6_000, 12_000):
        assert f"{number:090d}\n".encode() in heard
    assert f"FINISH {run.run_id} succeeded".encode() in heard


@pytest.mark.timing
def test_a_worker_whose_output_nobody_reads_still_keeps_its_timeouts(redis_server: RedisServer, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with (
        installation(redis_server.url, tmp_path, CRONQ_JOBS="printing_jobs", CRONQ_LOST_AFTER="60s") as shop,
        (tmp_path / "log").open("wb") as log,
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "cronq", "worker"], cwd=tmp_path, env=shop._environment({}),
            stdin=subprocess.DEVNULL, stdout=writer, stderr=log, start_new_session=True,
        )  # fmt: skip
        os.close(writer)
        try:
            for _ in range(2):
                run = shop.result("dump")
                assert run.outcome == "succeeded"
                assert run.duration_s is not None
                assert run.duration_s < 5 + 1 + 5  # until the reader counts as stuck; the rest is for a busy machine
            heard = bytearray()

            def read() -> None:
                while piece := os.read(reader, 65_536):
                    heard.extend(piece)

            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            shop.result("print")
            process.terminate()
            assert process.wait(20) == 0
            thread.join(20)
        finally:
            process.kill()
            process.wait()
            os.close(reader)
    said = heard.decode()
    assert LEFT_OUT.search(said)
    assert said.endswith("line 0\nline 1\nline 2\n")
    assert 1_000_000 < len(said) < 4_000_000, "what waits is bounded"


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can become another user")
class TestRunAs:
    def test_a_command_of_another_user_has_nothing_of_the_worker_s(
        self, shop: Installation, worker: CronqProcess
    ) -> None:
        run = shop.result("look")

        worker.wait_for_line(f"FINISH {run.run_id}")
        assert run.outcome == "succeeded", worker.log
        words = worker.output.splitlines()
        files = [word for word in words[-10:] if word.startswith(("/", "pipe:", "socket:", "anon"))]
        mine = set()
        for fd in os.listdir(f"/proc/{worker.pid}/fd"):
            with suppress(FileNotFoundError):  # the worker works on, and may have closed it
                mine.add(os.readlink(f"/proc/{worker.pid}/fd/{fd}"))
        assert len(files) >= 3
        assert not (set(files) & mine) - {"/dev/null"}
        assert words[-3:] == ["by-name", "?", "nobody"]

    def test_it_cannot_empty_the_worker_s_log(self, shop: Installation, worker: CronqProcess) -> None:
        worker.wait_for_line(f"FINISH {shop.result('look').run_id}")
        before = len(worker.output)
        assert before

        assert shop.result("wipe").outcome == "failed"
        assert len(worker.output) >= before


def test_several_runs_at_once_print_whole_lines(redis_server: RedisServer, tmp_path: Path) -> None:
    with installation(redis_server.url, tmp_path, CRONQ_JOBS="printing_jobs", CRONQ_LOST_AFTER="60s") as made:
        worker = made.start("worker", "-n", "4")
        runs = [made.enqueue("print-in-pieces", name, 200) for name in ("one", "two", "three", "four")]
        begun = [made.begins(run_id).worker for run_id in runs]
        assert len(set(begun)) == 4
        assert [made.settles(run_id).outcome for run_id in runs] == ["succeeded"] * 4
        worker.terminate()
        assert worker.exit_code() == 0

        lines = worker.output.splitlines()
        assert len(lines) == 800
        for name in ("one", "two", "three", "four"):
            own = [line for line in lines if line.startswith(f"{name} ")]
            assert own == [f"{name} {'x' * 100 * (n % 5)} {n} {name}" for n in range(200)]
        assert lines != sorted(lines, key=lambda line: line.split()[0]), "they printed at the same time"


def test_a_line_that_does_not_end_is_not_kept_for_ever() -> None:
    said: list[bytes] = []

    class Heard(Outlet):
        def put(self, stream: int, data: bytes) -> None:
            said.append(data)

    lines = WholeLines(Heard())
    for _ in range(20):
        lines.put(STDOUT, b"x" * 10_000)
    lines.put(STDERR, b"a\nb\nc")
    lines.settle()

    assert b"".join(said) == b"x" * 70_000 + b"x" * 70_000 + b"a\nb\n" + b"x" * 60_000 + b"\n" + b"c\n"
    assert said[-3:] == [b"a\nb\n", b"x" * 60_000 + b"\n", b"c\n"]
