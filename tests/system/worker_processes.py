"""An installation with real workers: an application to look at it with, its processes, and what its jobs wrote."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.run import Run
from tests.run_ids import run_id_of
from tests.system.processes import CronqProcess, Processes, until

#: Where `working_jobs` is, the module of jobs that the workers import; and the top, for modules under `tests.`.
_HERE = Path(__file__).parent
_PATH = os.pathsep.join((str(_HERE), str(_HERE.parents[1])))


def is_alive(pid: int) -> bool:
    """Whether *pid* still runs; a zombie does not."""
    try:
        return _stat(pid)[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    """The parent of a process; 0 when that is gone."""
    try:
        return int(_stat(pid)[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def descendants(pid: int) -> set[int]:
    """All living processes below *pid*."""
    below: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                below.setdefault(int(_stat(int(entry.name))[1]), set()).add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: set[int] = set()
    new = {pid}
    while new:
        new = set().union(*(below.get(each, set()) for each in new)) - found
        found |= new
    return {each for each in found if is_alive(each)}


def _stat(pid: int) -> list[str]:
    """State, parent, … of a process; its name, which may hold anything, is left out."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Installation(Processes):
    """One installation of cronq with the jobs of `working_jobs`; *settings* are its `CRONQ_…` variables."""

    def __init__(self, url: str, directory: Path, **settings: str) -> None:
        directory.mkdir(exist_ok=True)
        settings = {"CRONQ_JOBS": "working_jobs", **settings}
        super().__init__(url, directory, PYTHONPATH=_PATH, PYTHONUNBUFFERED="1", DIARY=str(directory), **settings)
        self.client = Redis.from_url(url)
        config = Config.load({"CRONQ_REDIS_URL": url, "CRONQ_HOST_ID": "box", **settings}, directory)
        self.app = Cronq(config=config, registry=Registry(), client=self.client)

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            below = descendants(process.pid) if process.is_running else set()
            process.kill9()
            for pid in below:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.client.close()

    # Processes

    def start_rq(self, *words: str, **environment: str) -> CronqProcess:
        """Start RQ's own command line."""
        command = [str(Path(sys.executable).parent / "rq"), *words, "--url", self.redis_url]
        return self._start(f"rq-{words[0]}", command, environment)

    def start_python(self, script: str, **environment: str) -> CronqProcess:
        """Start a script of one's own, in the same environment."""
        return self._start("script", [sys.executable, "-c", script], environment)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> CronqProcess:
        directory, settings = self.directory, self._environment(environment)
        process = CronqProcess(f"{len(self.started)}-{name}", command, directory, settings)
        self.started.append(process)
        return process

    def run_rq(self, *words: str) -> CronqProcess:
        """Run RQ's own command line to its end."""
        process = self.start_rq(*words)
        assert process.exit_code(60) == 0, process.log + process.output
        return process

    def worker(self, *queues: str, **environment: str) -> CronqProcess:
        """A `cronq worker` that takes runs."""
        return self.ready(self.start("worker", *queues, **environment))

    def ready(self, process: CronqProcess) -> CronqProcess:
        """Wait until a worker is seen by others."""

        def is_seen() -> bool:
            assert process.is_running, process.log
            return any(beat.pid == process.pid for beat in self.app.workers()[0])

        until(is_seen, what=lambda: f"the heartbeat of {process.name}:\n{process.log}")
        return process

    def beat(self, **environment: str) -> CronqProcess:
        process = self.start("beat", **environment)
        process.wait_for_line("START-UP")
        return process

    # Runs

    def enqueue(self, job: str, *args: object) -> str:
        """Queue a run by hand; its id."""
        return self.app.enqueue(job, args)

    def enqueue_odd(self, job: str, *args: object) -> str:
        """Queue a run by hand which its worker has to look at closely before it starts it; its id."""
        queue = f"queue:{self.app.jobs.get(job).spec.queue}"
        self.app.holds.hold(queue, by="test", now_s=self.app.now_s())
        run_id = self.enqueue(job, *args)
        self.client.hdel(f"rq:job:{run_id}", "status")
        self.app.holds.lift(queue)
        return run_id

    def claim_tick(self, job: str) -> str:
        """Queue the run of one tick of a scheduled job, as a beat does; its id."""
        known = self.app.jobs.get(job)
        assert known.state.mark is not None
        tick = known.state.mark + 1
        claim = TickClaim(known.spec, known.version, Decision(tick, None, "", "schedule", None))
        (answer,) = self.app.claimer("beat").claim_due([claim], f"token-{tick}", float(tick))
        assert answer.code == "won", answer
        return run_id_of(job, tick)

    def row(self, run_id: str) -> Run:
        return self.app.runs.get(run_id)

    def begins(self, run_id: str, within_s: float = 30.0) -> Run:
        """Wait until a run is at work; its row."""
        return self._waits_for(run_id, "running", within_s)

    def waits(self, run_id: str) -> Run:
        """Wait until a run waits for its lock; its row."""
        return self._waits_for(run_id, "waiting", 30.0)

    def settles(self, run_id: str, within_s: float = 30.0, attempt: int = 1) -> Run:
        """Wait until this attempt of a run has its outcome; its row."""
        return self._waits_for(run_id, "done", within_s, attempt)

    def result(self, job: str, *args: object) -> Run:
        """Queue a run by hand and wait for its outcome; its row."""
        return self.settles(self.enqueue(job, *args))

    def _waits_for(self, run_id: str, state: str, within_s: float, attempt: int = 1) -> Run:
        def look() -> Run | None:
            row = self.row(run_id)
            return row if row.state == state and row.attempt >= attempt else None

        return until(look, within_s, lambda: f"{state}: {self.row(run_id)}\n{self.logs}")  # type: ignore[return-value]

    @property
    def logs(self) -> str:
        return "\n".join(f"--- {process.name}\n{process.log}" for process in self.started)

    # What jobs wrote, outside Redis

    def diary(self, name: str) -> list[str]:
        """The lines that jobs wrote under this name."""
        path = self.directory / f"{name}.diary"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self, name: str, count: int = 1) -> list[int]:
        """Wait for *count* pids in a diary."""
        until(lambda: len(self.diary(name)) >= count, what=lambda: f"{count} pids in {name}\n{self.logs}")
        return [int(line) for line in self.diary(name)]


@contextmanager
def installation(url: str, directory: Path, **settings: str) -> Iterator[Installation]:
    """An installation with its jobs stored, and nothing running yet; all that is started is dead at the end."""
    with Installation(url, directory, **settings) as made:
        synced = made.run("sync")
        assert synced.exit_code() == 0, synced.log
        for name in made.app.jobs.names():  # ticks to claim, without waiting for them
            key = made.app.keys.state(name)
            made.client.hset(key, "mark", int(made.client.hget(key, "mark") or 0) - 3600)
        yield made
