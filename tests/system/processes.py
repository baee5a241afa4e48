"""Real `cronq` processes for tests: with an environment and a directory of their own, and dead when the test ends.

with Processes(redis_url, tmp_path) as processes:
    processes.write_module("jobs", "...")
    beat = processes.start("beat", "jobs")
    beat.wait_for_line("START-UP")
    beat.kill9()
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: Runs `python -m cronq ARGUMENTS` on a host whose own clock is wrong by the first argument, in seconds.
_ON_A_WRONG_CLOCK = """
import runpy, sys, time
shift_s = float(sys.argv.pop(1))
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + shift_s
time.time_ns = lambda: right_ns() + round(shift_s * 1e9)
import cronq.clock
assert abs(cronq.clock.wall_s() - right() - shift_s) < 60, "cronq reads this host's clock in another way"
sys.argv[0] = "cronq"
runpy.run_module("cronq", run_name="__main__", alter_sys=True)
"""


def until(fact: Callable[[], T], within_s: float = 30.0, what: str | Callable[[], str] = "") -> T:
    """Poll until *fact* holds, and answer it; *what* to say when it never does."""
    end = time.monotonic() + within_s
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > end:
            words = what() if callable(what) else what
            raise AssertionError(f"not within {within_s:g} s: {words or fact}")
        time.sleep(0.01)


class CronqProcess:
    """One process, by its pid; stdout and stderr go to files."""

    def __init__(self, name: str, command: list[str], directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has said on stderr so far."""
        return self._err.read_text(errors="replace")

    @property
    def output(self) -> str:
        """What it has written to stdout so far."""
        return self._out.read_text(errors="replace")

    def lines(self, word: str) -> list[str]:
        """The lines of its log that contain *word*."""
        return [line for line in self.log.splitlines() if word in line]

    def wait_for_line(self, word: str, count: int = 1, within_s: float = 30.0) -> str:
        """Wait until *count* lines of its log contain *word*; the last of them."""

        def found() -> list[str]:
            lines = self.lines(word)
            assert lines[count - 1 :] or self.is_running, f"{self.name} ended without {word!r}:\n{self.log}"
            return lines[count - 1 :]

        return until(found, within_s, lambda: f"{count} x {word!r} in the log of {self.name}:\n{self.log}")[0]

    def kill9(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end; `exit_code` waits for that."""
        self._signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Ask it to begin anew."""
        self._signal(signal.SIGHUP)

    def suspend(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._signal(number)

    def exit_code(self, within_s: float = 30.0) -> int:
        """Wait for its end; its code, negative for a signal."""
        return self._process.wait(within_s)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running:  # polled just now, so its pid is nobody else's yet
            os.kill(self.pid, number)


class Processes:
    """The processes of one test; all of them are dead when its block ends, whatever happened in it."""

    def __init__(self, redis_url: str, directory: Path, **environment: str) -> None:
        self.redis_url = redis_url
        self.directory = directory
        self.environment = environment
        self.started: list[CronqProcess] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.kill9()

    def write_module(self, name: str, text: str) -> None:
        """A module that the processes can import by *name*, as if it lay in the current directory."""
        (self.directory / f"{name}.py").write_text(text)

    def start(self, *arguments: str, clock_shift_s: float | None = None, **environment: str) -> CronqProcess:
        """Start `cronq ARGUMENTS`; upper-case *environment* is added, `clock_shift_s` makes its host's clock wrong."""
        command = [sys.executable, "-m", "cronq"]
        if clock_shift_s is not None:
            command = [sys.executable, "-c", _ON_A_WRONG_CLOCK, str(clock_shift_s)]
        name = f"{len(self.started)}-{arguments[0]}"
        process = CronqProcess(name, [*command, *arguments], self.directory, self._environment(environment))
        self.started.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> CronqProcess:
        """Run `cronq ARGUMENTS` to its end."""
        process = self.start(*arguments, **environment)
        process.exit_code(60)
        return process

    def _environment(self, more: Mapping[str, Any]) -> dict[str, str]:
        """Nothing of the environment of the tests but where programs are: a setting there must not matter here."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
        ours = {
            "HOME": str(self.directory),
            "PYTHONDONTWRITEBYTECODE": "1",  # a module may be written anew within the same second
            "CRONQ_REDIS_URL": self.redis_url,
            "CRONQ_HOST_ID": "box",
        }
        return kept | ours | self.environment | dict(more)
