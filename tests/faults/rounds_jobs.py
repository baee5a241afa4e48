"""Jobs whose bodies keep a record outside Redis, on queues of their own: three for each round of these tests.

And the kinds of worker processes that run them.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from cronq import current_run, job
from cronq.jobs.spec import JobSpec
from tests.faults.witness import witnessed

#: Rounds at one time; each has its queues, its job and its worker.
ROUNDS = 24
#: Runs that may be at work beside that of a round.
NEIGHBOURS = 2
PRIORITIES = ("high", "normal", "low")
RULES = ("fail", "rerun")
#: Whether this version can run a lost run again.
HAS_RERUN = "on_lost" in {field.name for field in dataclasses.fields(JobSpec)}


class Kind(NamedTuple):
    """How a worker process does its work."""

    isolation: str
    children: int

    def __str__(self) -> str:
        return f"{self.isolation}, {self.children} at a time"


KINDS = [Kind(isolation, children) for children in (1, 4) for isolation in ("clean", "run")]


def kinds_in_words(kinds: list[Kind]) -> str:
    return "; ".join(map(str, kinds))


def queues(number: int) -> list[str]:
    """The queues of a round, in order of priority."""
    return [f"r{number}-{priority}" for priority in PRIORITIES]


def job_name(number: int, on_lost: str, priority: str = "low") -> str:
    return f"round{number}-{priority}-{on_lost}"


def body(seconds: float = 0.3) -> str:
    run = current_run()
    assert run is not None
    with witnessed(Path(os.environ["DIARY"]) / "record", run.run_id, run.job, run.attempt) as witness:
        witness.work(seconds)
    return "done"


def exclusive_name(number: int) -> str:
    """A job of a round that needs a lock of its own."""
    return f"round{number}-exclusive"


def neighbour_name(number: int, place: int) -> str:
    """A job whose run is at work beside that of a round, in the same worker process."""
    return f"round{number}-neighbour{place}"


def child_name(parent: str) -> str:
    """A job that runs after each success of *parent*: on a queue that no worker serves, so that each run stays open."""
    return f"{parent}-child"


def child_of(parent: str) -> None:
    job(name=child_name(parent), after=parent, overlap="allow", queue="nobody")(body)


for _number in range(ROUNDS):
    for _place in range(NEIGHBOURS):
        job(name=neighbour_name(_number, _place), queue=f"r{_number}-low", grace=1, on_lost="rerun")(body)
    child_of(exclusive_name(_number))
    job(name=exclusive_name(_number), queue=f"r{_number}-low", grace=1, exclusive=True)(body)
    for _priority in PRIORITIES:
        for _rule in RULES if HAS_RERUN else RULES[:1]:
            _options = {"on_lost": _rule} if HAS_RERUN else {}
            child_of(job_name(_number, _rule, _priority))
            job(name=job_name(_number, _rule, _priority), queue=f"r{_number}-{_priority}", grace=1, **_options)(body)
