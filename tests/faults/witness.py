"""What ran when, told by the job bodies themselves in a file outside Redis, and held against the ledger.

    with witnessed(run_id, job, attempt):      # in a body: a line when it begins, signs of life, a line at its end
        ...
    wrongs(ledger, read_lives(path), expected)  # all that was doubled, lost or overlapping, in words

The bodies need not be cronq's: the naive workers of these tests keep the same record, and are found out.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from cronq.app.app import Cronq

_SIGN_S = 0.02


@contextmanager
def witnessed(path: Path, run_id: str, job: str, attempt: int) -> Iterator[Witness]:
    """Keep the record of one body; what kills the body leaves it without an end."""
    witness = Witness(path, run_id, job, attempt)
    witness.say("begin")
    yield witness
    witness.say("end")


class Witness:
    """Writes the record of one body: whole lines, also when several processes write."""

    def __init__(self, path: Path, run_id: str, job: str, attempt: int) -> None:
        self._path = path
        self._facts = {"run": run_id, "job": job, "attempt": attempt, "pid": os.getpid()}

    def say(self, what: str) -> None:
        line = json.dumps({"what": what, "at": now_s()} | self._facts) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def work(self, seconds: float) -> None:
        """Be at work for so long, with a sign of life every 20 ms."""
        end = now_s() + seconds
        while (left := end - now_s()) > 0:
            time.sleep(min(left, _SIGN_S))
            self.say("sign")


def wrong_triggers(app: Cronq, parents: Iterable[str], child_name: Callable[[str], str]) -> list[str]:
    """Which of the jobs that run after *parents* were not started once for each success, in words; stops their runs."""
    found = []
    for parent in sorted(set(parents)):
        successes = sum(run.outcome == "succeeded" for run in app.history(parent, 1_000))
        started = len(app.history(child_name(parent), 1_000))
        app.stop(child_name(parent))
        if started != successes:
            found.append(f"{parent} succeeded {successes} times, and {child_name(parent)} was started {started} times")
    return found


def now_s() -> float:
    """The clock of the record, the same for all processes of this machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Life:
    """One execution of one body."""

    run: str
    job: str
    attempt: int
    pid: int
    begun: float
    last: float  #: its last sign of life
    is_whole: bool = False  #: it came to its end


class Record:
    """The record at *path*, of which each look reads only what has come since the last one; any thread may look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read = 0
        self._lives: list[Life] = []
        self._open: dict[tuple[str, int, int], Life] = {}

    def lives(self) -> list[Life]:
        """The executions that are on record, in the order in which they began."""
        with self._lock:
            if self._path.exists():
                with self._path.open("rb") as file:
                    file.seek(self._read)
                    whole, _, _ = file.read().rpartition(b"\n")
                if whole:
                    self._read += len(whole) + 1
                    for line in whole.splitlines():
                        self._add(json.loads(line))
            return list(self._lives)

    def _add(self, said: dict[str, Any]) -> None:
        key = (said["run"], said["attempt"], said["pid"])
        if said["what"] == "begin":
            self._open[key] = Life(said["run"], said["job"], said["attempt"], said["pid"], said["at"], said["at"])
            self._lives.append(self._open[key])
            return
        self._open[key].last = said["at"]
        self._open[key].is_whole = said["what"] == "end"


def read_lives(path: Path) -> list[Life]:
    """The executions that are on record, in the order in which they began."""
    return Record(path).lives()


@dataclass(frozen=True)
class Entry:
    """What a ledger says of one run."""

    run: str
    outcome: str | None  #: None while it is open
    attempt: int = 1


def wrongs(ledger: Iterable[Entry], lives: Iterable[Life], expected: Mapping[str, Iterable[str]]) -> list[str]:
    """All that contradicts the promises, in words; *expected* are the outcomes that each run may have."""
    entries = list(ledger)
    by_run: dict[str, list[Life]] = defaultdict(list)
    for life in lives:
        by_run[life.run].append(life)
    found = [f"{run} ran and was never asked for" for run in sorted(set(by_run) - set(expected))]
    times = Counter(entry.run for entry in entries)
    for run, outcomes in expected.items():
        if times[run] != 1:
            found.append(f"{run} is in the ledger {times[run]} times")
            continue
        entry = next(entry for entry in entries if entry.run == run)
        found += _of_outcome(entry, set(outcomes), by_run[run])
        found += _of_bodies(entry, by_run[run])
    return found + _overlaps(life for each in by_run.values() for life in each)


def _of_outcome(entry: Entry, outcomes: set[str], lives: list[Life]) -> list[str]:
    if entry.outcome is None:
        return [f"{entry.run} has no outcome"]
    if entry.outcome not in outcomes:
        return [f"{entry.run} is {entry.outcome}, not {' or '.join(sorted(outcomes))}"]
    whole = [life.attempt for life in lives if life.is_whole]
    if entry.outcome == "succeeded" and entry.attempt not in whole:
        return [f"{entry.run} succeeded, but the body of attempt {entry.attempt} did not come to its end"]
    return []


def _of_bodies(entry: Entry, lives: list[Life]) -> list[str]:
    found = []
    for attempt, times in Counter(life.attempt for life in lives).items():
        if times > 1:
            found.append(f"attempt {attempt} of {entry.run} ran {times} times")
        if attempt > entry.attempt:
            found.append(f"attempt {attempt} of {entry.run} ran, the ledger knows {entry.attempt}")
    return found


def _overlaps(lives: Iterable[Life]) -> list[str]:
    """Executions of one job that were at work at one time."""
    by_job: dict[str, list[Life]] = defaultdict(list)
    for life in lives:
        by_job[life.job].append(life)
    return [
        f"{job}: pids {one.pid} ({one.run}) and {two.pid} ({two.run}) were at work at one time"
        for job, each in by_job.items()
        for one, two in combinations(each, 2)
        if one.begun <= two.last and two.begun <= one.last
    ]
