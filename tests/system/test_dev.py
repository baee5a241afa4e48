"""`cronq dev` as somebody at a terminal meets it: real processes, and what is left of them afterwards."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from cronq.cli.private_redis import Room, find_server
from cronq.errors import ConfigError, RedisUnavailable
from tests.conftest import RedisServer, find_redis_server

pytestmark = pytest.mark.timing

EVERY_SECOND = """
from cronq import job

@job("* * * * * *")
def hello():
    print("hello there")
"""
LONG_RUN_WITH_A_GRANDCHILD = """
import subprocess, time
from cronq import job

@job("* * * * * *", grace="1s")
def long():
    subprocess.Popen(["setsid", "sleep", "100"])
    print("at work")
    time.sleep(100)
"""
CRONQ = [sys.executable, "-m", "cronq"]


def wait_until(seen: Callable[[], object], what: Callable[[], str] | str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


class Terminal:
    """A directory, a shell environment without any setting of cronq, and the processes started from it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self.marker = f"CRONQ_TEST_MARKER={uuid.uuid4()}"
        path = f"{Path(find_redis_server()).parent}:{os.environ['PATH']}"
        name, _, value = self.marker.partition("=")
        self.env = {"PATH": path, "HOME": str(directory), "LANG": "C.UTF-8", name: value}
        self.log = directory / "dev.log"
        self.dev: subprocess.Popen[bytes] | None = None

    def write(self, source: str, name: str = "jobs.py") -> None:
        (self.directory / name).write_text(source)

    def start_dev(self, *words: str, **env: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.dev = subprocess.Popen(
                [*CRONQ, "dev", *(words or ("jobs",))], cwd=self.directory, env=self.env | env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return self.dev

    def shown(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        def seen() -> bool:
            assert self.dev is not None
            assert self.dev.poll() is None or words in self.shown(), f"it ended: {self.shown()}"
            return words in self.shown()

        wait_until(seen, lambda: f"{words!r} in {self.shown()}")

    def end(self, number: int = signal.SIGINT) -> int:
        assert self.dev is not None
        self.dev.send_signal(number)
        return self.dev.wait(30)

    def cronq(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CRONQ, *words], cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )

    def outcomes(self, name: str) -> list[str | None]:
        answer = self.cronq("history", name, "--json")
        return [row["outcome"] for row in json.loads(answer.stdout)] if answer.returncode == 0 else []

    def leftovers(self) -> dict[int, str]:
        """Every live process that inherited this terminal's environment or works in its directory, by pid."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and self._is_ours(entry):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has just ended
                continue
        return found

    def _is_ours(self, process: Path) -> bool:
        # Redis writes its title over its environment; a zombie has neither environment nor directory.
        is_marked = self.marker.encode() in (process / "environ").read_bytes()
        return is_marked or Path(os.readlink(process / "cwd")).is_relative_to(self.directory)

    def assert_nothing_is_left(self, seconds: float = 5) -> None:
        wait_until(lambda: not self.leftovers(), lambda: f"no process left, but {self.leftovers()}", seconds)

    def close(self) -> None:
        for _ in range(3):
            for pid in self.leftovers():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if self.dev is not None:
            self.dev.wait(10)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "project")
    yield terminal
    terminal.close()


def test_one_command_runs_jobs_and_shows_what_happens_next(terminal: Terminal) -> None:
    terminal.write(EVERY_SECOND)

    terminal.start_dev()
    terminal.wait_for("FINISH hello-")

    shown = terminal.shown()
    assert "redis   private" in shown
    assert "Every second" in shown, "the next runs, in words"
    assert "| hello there" in shown, "the output of the job"
    assert "Traceback" not in shown
    history = terminal.cronq("history", "hello")
    assert history.returncode == 0, history.stderr
    assert "succeeded" in history.stdout, "a second terminal here needs no setting"
    assert stat.S_IMODE((terminal.directory / ".cronq" / "redis").stat().st_mode) == 0o700
    assert terminal.end() == 0
    assert terminal.shown().endswith("stopped 3 processes\n")
    terminal.assert_nothing_is_left(0.5)
    assert not (terminal.directory / ".cronq" / "url").exists()
    assert "hello" not in terminal.cronq("list").stdout, "from now on it asks the default Redis, if there is one"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_stops_in_the_middle_of_a_run_and_leaves_no_process(terminal: Terminal, number: signal.Signals) -> None:
    terminal.write(LONG_RUN_WITH_A_GRANDCHILD)
    terminal.start_dev()
    terminal.wait_for("| at work")
    assert any("sleep 100" in words for words in terminal.leftovers().values())

    begun = time.monotonic()
    assert terminal.dev is not None
    terminal.dev.send_signal(number)
    terminal.wait_for("a run is still at work")
    terminal.end(number)  # the second one does not wait for the run

    assert time.monotonic() - begun < 15
    assert terminal.dev.returncode == 0
    assert " stopped " in terminal.shown(), "the run was ended and recorded, not lost"
    terminal.assert_nothing_is_left(0.5)


def test_killed_outright_it_leaves_no_process_and_starts_again_with_its_data(terminal: Terminal) -> None:
    terminal.write(LONG_RUN_WITH_A_GRANDCHILD + EVERY_SECOND)
    terminal.start_dev()
    terminal.wait_for("| at work")

    terminal.end(signal.SIGKILL)

    terminal.assert_nothing_is_left()
    assert (terminal.directory / ".cronq" / "url").exists(), "which nobody could tidy away"
    unreachable = terminal.cronq("list")
    assert unreachable.returncode == 69
    assert len(unreachable.stderr.splitlines()) == 1
    before = terminal.shown()
    terminal.write(EVERY_SECOND)
    terminal.start_dev()
    wait_until(lambda: "FINISH hello-" in terminal.shown()[len(before) :], "a run after the restart")
    assert terminal.cronq("history", "long", "--json").stdout.count('"run_id"') >= 1
    assert terminal.end() == 0
    terminal.assert_nothing_is_left(0.5)


def test_started_at_once_after_it_was_killed_it_waits_for_its_old_redis(terminal: Terminal) -> None:
    terminal.write(EVERY_SECOND)
    terminal.start_dev()
    terminal.wait_for("FINISH hello-")

    terminal.end(signal.SIGKILL)
    terminal.start_dev()

    wait_until(lambda: terminal.shown().count("START-UP worker") == 2, "the second start")
    assert terminal.end() == 0
    terminal.assert_nothing_is_left(0.5)


def test_a_job_that_prints_without_a_line_s_end_takes_no_memory(terminal: Terminal) -> None:
    terminal.write("""
import os
from cronq import job

@job(name="dump")
def dump():
    for _ in range(100):
        os.write(1, b"x" * 1_000_000)
    os.write(1, b"the last word\\n")
""")
    terminal.start_dev()
    terminal.wait_for("Ctrl-C")
    assert terminal.dev is not None

    def most_kib() -> int:
        status = Path(f"/proc/{terminal.dev.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    before = most_kib()
    terminal.cronq("run", "dump", "--wait")
    terminal.wait_for("the last word")

    assert terminal.shown().count("x") >= 100_000_000
    assert most_kib() - before < 30_000
    terminal.end()


def test_it_ends_when_nobody_reads_its_output(terminal: Terminal) -> None:
    terminal.write(LONG_RUN_WITH_A_GRANDCHILD)

    shell = subprocess.run(
        ["bash", "-c", '"$0" -m cronq dev jobs | { read -r line; echo "$line"; }', sys.executable],
        cwd=terminal.directory, env=terminal.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert shell.stdout.startswith("redis   private")
    assert "Traceback" not in shell.stderr
    assert "BrokenPipe" not in shell.stderr
    terminal.assert_nothing_is_left()


def test_it_ends_in_the_middle_of_a_run_when_its_reader_goes_away(terminal: Terminal) -> None:
    terminal.write(LONG_RUN_WITH_A_GRANDCHILD)

    reader = '"$0" -m cronq dev jobs | while read -r line; do case "$line" in *"at work"*) break; esac; done'
    subprocess.run(
        ["bash", "-c", reader, sys.executable], cwd=terminal.directory, env=terminal.env, timeout=60, check=False
    )

    terminal.assert_nothing_is_left()


def test_a_second_one_in_the_same_directory_says_so_and_harms_nothing(terminal: Terminal) -> None:
    terminal.write(EVERY_SECOND)
    terminal.start_dev()
    terminal.wait_for("FINISH hello-")

    second = terminal.cronq("dev", "jobs")

    assert second.returncode == 75
    assert len(second.stderr.splitlines()) == 1
    assert "another `cronq dev` is running in this directory" in second.stderr
    count = len(terminal.outcomes("hello"))
    assert count
    wait_until(lambda: len(terminal.outcomes("hello")) > count, "the first one goes on")
    assert terminal.end() == 0


@pytest.mark.parametrize("name", ["with spaces & 100% ünïcode?#", "/".join(["a-very-long-path"] * 9)])
def test_it_works_in_any_directory(tmp_path: Path, name: str) -> None:
    terminal = Terminal(tmp_path / name)
    try:
        terminal.write(EVERY_SECOND)

        terminal.start_dev()
        terminal.wait_for("FINISH hello-")

        assert "succeeded" in terminal.outcomes("hello")
        assert terminal.end() == 0
        terminal.assert_nothing_is_left(0.5)
    finally:
        terminal.close()


def test_problems_are_shown_once_and_the_other_jobs_run(terminal: Terminal) -> None:
    bad = '@job("61 * * * *")\ndef wrong(): ...\n@job("* * * * *", kwargs={"a": object()})\ndef odd(a): ...\n'
    terminal.write(EVERY_SECOND + bad)

    terminal.start_dev("jobs", "no_such_module")
    terminal.wait_for("FINISH hello-")

    shown = terminal.shown()
    assert shown.count("job 'wrong' (jobs.py:7): cron: minute 61 is outside 0-59") == 1
    assert shown.count("job 'odd' (jobs.py:9)") == 1
    assert shown.count("no_such_module' cannot be imported") == 1
    terminal.end()


def test_jobs_of_every_queue_run(terminal: Terminal) -> None:
    terminal.write(EVERY_SECOND.replace('"* * * * * *"', '"* * * * * *", queue="reports"'))

    terminal.start_dev()
    terminal.wait_for("FINISH hello-")

    assert "queues  default, reports" in terminal.shown()
    terminal.end()


def test_a_configured_redis_is_used_and_left_alone(terminal: Terminal, redis_server: RedisServer) -> None:
    terminal.write(EVERY_SECOND)

    terminal.start_dev("jobs", "--prefix", "mine", CRONQ_REDIS_URL=redis_server.url)
    terminal.wait_for("FINISH hello-")
    terminal.end()

    assert f"redis   {redis_server.url} (from environment CRONQ_REDIS_URL)" in terminal.shown()
    assert not (terminal.directory / ".cronq" / "redis").exists()
    with Redis.from_url(redis_server.url) as client:
        assert client.sismember("mine:jobs", "hello")
    terminal.assert_nothing_is_left(0.5)


def test_when_its_redis_dies_it_says_so_and_ends(terminal: Terminal) -> None:
    terminal.write(EVERY_SECOND)
    terminal.start_dev()
    terminal.wait_for("FINISH hello-")

    (server,) = [pid for pid, words in terminal.leftovers().items() if "redis-server" in words]
    os.kill(server, signal.SIGKILL)

    assert terminal.dev is not None
    assert terminal.dev.wait(30) == 1
    assert "the private Redis ended by signal 9" in terminal.shown()
    terminal.assert_nothing_is_left(0.5)


@pytest.mark.parametrize("version", [None, "Redis server v=6.0.16 sha=0:0"])
def test_without_a_usable_redis_server_one_line_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    if version is not None:
        _write_program(tmp_path / "redis-server", version)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RedisUnavailable, match=r"install redis-server.*CRONQ_REDIS_URL") as caught:
        find_server()

    assert caught.value.exit_code == 69


def test_valkey_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_program(tmp_path / "valkey-server", "Valkey server v=8.1.1 sha=0:0")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_server() == str(tmp_path / "valkey-server")


@pytest.mark.parametrize(
    ("beside", "on_path", "wanted"),
    [
        ("6.2.14", "7.0.15", "path"),
        ("8.0.1", "7.0.15", "beside"),
        ("7.0.5", "7.0.15", "path"),
        ("7.2.0", "6.0.9", "beside"),
    ],
)
def test_the_newer_of_two_servers_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: str, on_path: str, wanted: str
) -> None:
    for place, version in (("beside", beside), ("path", on_path)):
        (tmp_path / place).mkdir()
        _write_program(tmp_path / place / "redis-server", f"Redis server v={version} sha=0:0 malloc=libc bits=64")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    #: An activated environment is first on PATH and hides the system's server.
    monkeypatch.setenv("PATH", f"{tmp_path / 'beside'}:{tmp_path / 'path'}")

    assert find_server() == str(tmp_path / wanted / "redis-server")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who may give a file away")
def test_the_directory_of_another_user_is_neither_written_to_nor_followed(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.write_text("years of work\n")
    room = tmp_path / ".cronq"
    room.mkdir()
    for name in (".gitignore", "dev.lock"):
        (room / name).symlink_to(diary)
    os.chown(room, 12345, -1)

    with pytest.raises(ConfigError, match="because it belongs to user 12345; run cronq dev in a directory"):
        Room(tmp_path)

    assert diary.read_text() == "years of work\n"


def test_no_link_in_its_directory_is_written_through(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.write_text("years of work\n")
    (tmp_path / ".cronq").mkdir(0o700)
    (tmp_path / ".cronq" / "dev.lock").symlink_to(diary)

    with pytest.raises(ConfigError, match=r"dev\.lock is a link, which is not followed"):
        Room(tmp_path)

    assert diary.read_text() == "years of work\n"


def _write_program(path: Path, answer: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
