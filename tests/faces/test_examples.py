"""Every example of the pages does what the page says: each block is executed, in order, one scene for all pages.

A block under `<!-- not executed: REASON -->` is left out. A word like `hello-m1f0c2a9e` stands for the id that the
command before it has printed, `RUN_ID` for that of a run that failed.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis
from rq_scheduler import Scheduler

from tests.conftest import RedisServer
from tests.faces.test_docs import PAGES

BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>sh|console|python)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
#: Commands that go on until they are told to end, and a word of what they say once they have begun.
LASTING = {
    "cronq beat": "START-UP",
    "cronq worker": "START-UP",
    "cronq dev": "NEXT",
    "rq worker-pool": "Starting worker pool",
    "rq worker": "Listening|started",
    "python -m cronq.dashboard": "dashboard on",
}
#: The job that the page about rq-scheduler adopts.
ADOPTED = "7d1f0c2a-9e"
MAILING = "def nightly():\n    print('mailed')\n"
PYTHON = Path(sys.executable)


def handles_term(pid: int) -> bool:
    """Whether a process is ready to be told to end: some say that they have begun before they are."""
    (mask,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) & 1 << (signal.SIGTERM - 1))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Scene:
    """A directory with the jobs of the README, a Redis, and a beat and a worker at work."""

    directory: Path
    server: RedisServer
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    newest_id: str = ""
    failed_id: str = ""

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("CRONQ_")}
        return clean | {
            "CRONQ_REDIS_URL": self.server.url,
            "CRONQ_JOBS": "jobs",
            "CRONQ_ALLOW": "mailing",
            "CRONQ_SHUTDOWN_GRACE": "2s",
            "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.directory),
            "PORT": str(free_port()),
            "NO_COLOR": "1",
        }

    def start(self, command: str) -> subprocess.Popen[bytes]:
        environment = self.environment
        if command.startswith("cronq dev"):  # it brings a Redis of its own
            del environment["CRONQ_REDIS_URL"]
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.directory, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, command: str) -> str:
        """One command to its end; a lasting one until it has begun. What it printed."""
        command = re.sub(r"\b[a-z_]+-m[0-9a-f]{8}\b", lambda _: self.newest_id, command).replace(
            "RUN_ID", self.failed_id
        )
        for words, begun in LASTING.items():
            if command == words or command.startswith(f"{words} "):
                return self.begin_and_end(command, begun)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=self.directory, env=self.environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        for found in re.findall(r"^[a-z_]+-m[0-9a-f]{8}$", done.stdout, re.MULTILINE):
            self.newest_id = found
        return done.stdout + done.stderr

    def begin_and_end(self, command: str, begun: str) -> str:
        process = self.start(command)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        said, deadline = "", time.monotonic() + 30
        while not (re.search(begun, said) and handles_term(process.pid)):
            said += (process.stdout.read() or b"").decode(errors="replace")
            assert process.poll() is None, f"{command}\n{said}"
            assert time.monotonic() < deadline, f"{command}\n{said}"
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, f"{command}\n{said}"
        return said

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()
        self.server.stop()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("examples"), RedisServer())
    try:
        (example,) = [found["text"] for found in BLOCK.finditer(PAGES["README"]) if found["mark"] == "example"]
        (scene.directory / "jobs.py").write_text(example)
        (scene.directory / "mailing.py").write_text(MAILING)
        scene.run("cronq sync jobs")
        with Redis.from_url(scene.server.url) as client:
            sys.path.insert(0, str(scene.directory))
            from datetime import UTC, datetime, timedelta

            import mailing

            soon = datetime.now(UTC) + timedelta(minutes=5)
            Scheduler(connection=client).schedule(soon, mailing.nightly, interval=600, id=ADOPTED)
        for command in ("cronq beat", "cronq worker"):
            scene.start(f"{command} > {command.replace(' ', '-')}.log 2>&1")
        scene.run("cronq add broken --every 30d -- false; cronq run broken --wait || test $? = 1")
        scene.failed_id = scene.newest_id
        yield scene
    finally:
        scene.close()


def blocks() -> list[tuple[str, str, str]]:
    """(where, kind, text) of each block that is to be executed."""
    found = []
    for page, text in PAGES.items():
        for number, block in enumerate(BLOCK.finditer(text), 1):
            mark = block["mark"] or ""
            if not mark.startswith(("not executed", "run command", "test command")):
                found.append((f"{page}-{number}", "module" if mark == "example" else block["kind"], block["text"]))
    return found


def test_what_is_not_executed_says_why() -> None:
    for text in PAGES.values():
        for block in BLOCK.finditer(text):
            if (block["mark"] or "").startswith("not executed"):
                assert re.fullmatch(r"not executed: .{10,}", block["mark"])


@pytest.mark.parametrize(("where", "kind", "text"), blocks(), ids=[block[0] for block in blocks()])
def test_the_example_does_what_it_says(where: str, kind: str, text: str, scene: Scene) -> None:
    if kind == "module":
        (scene.directory / "example.py").write_text(text)
        scene.run("cronq check-config example")
    elif kind == "python":
        (scene.directory / "call.py").write_text(text)
        scene.run("python call.py")
    elif kind == "sh":
        for line in text.splitlines():
            scene.run(line)
    else:
        for shown in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = shown.partition("\n")
            said = scene.run(command)
            for heading in re.findall(r"^[A-Z]{2,}(?: +[A-Z]{2,})+$", output, re.MULTILINE):
                assert heading.split() in [line.split() for line in said.splitlines()], said
