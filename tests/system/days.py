"""Days that pass in seconds: a beat in this process and a real worker, both on a clock that the test sets.

with Days(redis_url, tmp_path) as days:
    days.deploy("2026-01-04T09:00", "@job(at='10:00')\\ndef foo(): work()")
    days.pass_at("2026-01-04T10:30")
    assert days.ledger("foo") == {"2026-01-04T10:00": "succeeded"}

Only the clock is not real: everything in Redis is done by the code of the beat, of the worker, and of the command line.
The server's own clock must be later than all of these days, as it is from March 2026 on.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from cronq.app.app import Cronq
from cronq.beat.beat import Beat, PassResult
from cronq.clock import ServerClock
from cronq.config import Config
from cronq.jobs.registry import Registry
from tests.system.processes import CronqProcess, Processes, until

#: Runs `python -m cronq ARGUMENTS` with the clock that stands in the file of the first argument.
_ON_THAT_CLOCK = """
import runpy, sys
from pathlib import Path
import cronq.clock
path = Path(sys.argv.pop(1))
def observe(self, *reading): self.offset_s = 0.0
cronq.clock.ServerClock.observe = observe
cronq.clock.ServerClock.now_s = lambda self: float(path.read_text())
sys.argv[0] = "cronq"
runpy.run_module("cronq", run_name="__main__", alter_sys=True)
"""

#: What jobs of these days can do: write down that they ran, and fail, wait or ask as the test has told.
_HEAD = """
import json, os, time
from pathlib import Path
from cronq import current_run, job

def work():
    run = current_run()
    with open("diary", "a") as diary:
        print(json.dumps({"job": run.job, "tick": run.tick, "attempt": run.attempt}), file=diary)
    while Path(f"hold-{run.job}").exists():
        time.sleep(0.01)
    told = Path("fail").read_text().split() if Path("fail").exists() else []
    if run.job in told or f"{run.job}@{run.tick}" in told:
        raise NameError("Trouble!!")

"""


#: A worker that vanished is missed after so many seconds of ours, whatever the clock of these days says.
_LOST_AFTER_S = 3


class _SetClock(ServerClock):
    """A clock that stands where the file says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def observe(self, server_s: float, boot: float | None = None, wall: float | None = None) -> str | None:
        self.offset_s = 0.0
        return None

    def now_s(self) -> float:
        return float(self.path.read_text())


def epoch(moment: str) -> int:
    """Epoch seconds of `2026-01-04T10:30`, in UTC."""
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())


def shown(tick: int | None) -> str:
    """The other way round."""
    return "" if tick is None else datetime.fromtimestamp(tick, UTC).strftime("%Y-%m-%dT%H:%M")


class Days(Processes):
    """One installation on a clock of its own."""

    def __init__(self, redis_url: str, directory: Path, **environment: str) -> None:
        super().__init__(redis_url, directory, CRONQ_LOST_AFTER=f"{_LOST_AFTER_S}s", **environment)
        self.clock_file = directory / "clock"
        self.client = Redis.from_url(redis_url)
        config = Config(url=redis_url, host_id="box", lost_after=_LOST_AFTER_S, publish_rq_cron=False)
        self.app = Cronq(config=config, registry=Registry(), client=self.client)
        self.app.clock = _SetClock(self.clock_file)
        self._beat: Beat | None = None
        self.worker: CronqProcess | None = None

    def __exit__(self, *_: object) -> None:
        if self._beat is not None:  # it leaves no thread behind
            ended = threading.Event()
            ended.set()
            self._beat.run(ended)
        super().__exit__()
        self.client.close()

    def set_clock(self, moment: str | int) -> None:
        fresh = self.clock_file.with_suffix(".new")
        fresh.write_text(str(float(epoch(moment) if isinstance(moment, str) else moment)))
        os.replace(fresh, self.clock_file)

    def cronq(self, *words: str) -> CronqProcess:
        """Start a command of cronq on the clock of these days."""
        command = [sys.executable, "-c", _ON_THAT_CLOCK, str(self.clock_file), *words]
        process = CronqProcess(f"{len(self.started)}-{words[0]}", command, self.directory, self._environment({}))
        self.started.append(process)
        return process

    def say(self, *words: str, code: int = 0) -> str:
        """What a command of cronq prints, to its end."""
        process = self.cronq(*words)
        assert process.exit_code(60) == code, process.log
        return process.output + process.log

    def deploy(self, moment: str, text: str, *, workers: int = 1) -> None:
        """Store the jobs that *text* defines, which may call `work()`, and start workers that know them."""
        self.set_clock(moment)
        self.write_module("jobs", _HEAD + text)
        self.say("sync", "jobs")
        if self.worker is not None:
            self.worker.terminate()
            assert self.worker.exit_code() == 0, self.worker.log
        self.worker = self.cronq("worker", "-m", "jobs", "-n", str(workers))
        self.worker.wait_for_line("START-UP worker", count=workers)

    def pass_at(self, moment: str, *, rounds: int = 3) -> None:
        """Passes of the beat at that moment, and all that workers do of it."""
        self.set_clock(moment)
        for _ in range(rounds):
            self.beat()
            self.wait_until_idle()

    def beat(self) -> PassResult:
        """One pass of a beat with all of its chores."""
        if self._beat is None:
            self._beat = self.app.beat()
        result = self._beat.pass_once(now_s=self.app.clock.now_s())
        for chore in self._beat.chores:
            chore.due_boot = 0.0
        self._beat.do_chores()
        return result

    def wait_until_idle(self, but: Iterable[str] = ()) -> None:
        """Wait until nothing is queued or at work, *but* these jobs."""
        names = [name for name in self.app.job_names() if name not in set(but)]

        def is_idle() -> bool:
            return not {"queued", "running"} & {
                state for runs in self.app.active_runs(names).values() for state in runs.values()
            }

        until(is_idle, what=lambda: f"idle: {self.app.active_runs(names)}\n{self.worker.log if self.worker else ''}")

    # What jobs are told, and what they did

    def let_fail(self, *what: str) -> None:
        """These jobs (`foo`) or ticks (`foo@2026-01-04T10:00`) fail from now on, and no others."""
        words = [f"{job}@{epoch(tick)}" if tick else job for job, _, tick in (each.partition("@") for each in what)]
        (self.directory / "fail").write_text(" ".join(words))

    def hold(self, job: str) -> None:
        """Runs of this job go on until `let_go`."""
        (self.directory / f"hold-{job}").touch()

    def let_go(self, job: str) -> None:
        (self.directory / f"hold-{job}").unlink()

    def diary(self, job: str | None = None) -> list[str]:
        """The ticks that were executed, in order, each attempt: of one job, or `job@tick` of all."""
        path = self.directory / "diary"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if job is None:
            return [f"{line['job']}@{shown(line['tick'])}" for line in lines]
        return [shown(line["tick"]) for line in lines if line["job"] == job]

    def ledger(self, job: str) -> dict[str, str]:
        """What became of each tick of a job, oldest first: its outcome, or its state while it has none."""
        rows = self.app.history(job, since_s=0)
        return {shown(run.tick): run.outcome or run.state for run in reversed(rows) if run.tick is not None}

    def shown(self, job: str) -> dict[str, Any]:
        """`cronq show --json`."""
        document: dict[str, Any] = json.loads(self.cronq_json("show", job))
        return document

    def cronq_json(self, *words: str) -> str:
        process = self.cronq(*words, "--json")
        assert process.exit_code(60) == 0, process.log
        return process.output
