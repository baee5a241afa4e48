"""What RQ jobs that are not cronq's call in these tests; they tell what they did in files, outside Redis."""

from __future__ import annotations

import dataclasses
import os
import time
from subprocess import check_output  # noqa: F401  nor this
from typing import Any

from rq import Retry, get_current_job
from tests_diary import tell


@dataclasses.dataclass
class Letter:
    """An argument of a class of ours."""

    to: str

    def send(self, by: str) -> str:
        tell("letters", f"{self.to} {by}")
        return f"sent to {self.to}"


def add(a: int, b: int = 1) -> int:
    tell("added", a + b)
    return a + b


def greet(letter: Letter) -> Letter:
    return Letter(letter.to.upper())


def remember(words: str) -> None:
    job = get_current_job()
    assert job is not None
    job.meta["said"] = words
    job.save_meta()


def fail(words: str = "no luck") -> None:
    tell("failed", words)
    raise ValueError(words)


def fail_oddly() -> None:
    raise ValueError(os.fsdecode(b"caf\xe9") + "\0")


def fail_once() -> str:
    job = get_current_job()
    assert job is not None
    tell("tried", job.id)
    if job.retries_left:
        raise ValueError("not yet")
    return "at last"


def again() -> Any:
    job = get_current_job()
    assert job is not None
    return "done" if job.number_of_retries else Retry(max=2)


def sleep(seconds: float) -> None:
    tell("slept", os.getpid())
    time.sleep(seconds)


def on_success(job: Any, connection: Any, result: Any) -> None:
    tell("callbacks", f"success {result}")


def on_failure(job: Any, connection: Any, kind: Any, value: Any, trace: Any) -> None:
    tell("callbacks", f"failure {value}")


def tick(name: str) -> None:
    tell("ticks", f"{name} {time.time()}")


def handle(job: Any, kind: type[BaseException], error: BaseException, trace: object) -> None:
    """An exception handler, as `rq worker --exception-handler` takes it."""
    tell("handled", f"{os.getpid()} {job.id} {kind.__name__} {error}")


def handle_last(job: Any, *_: object) -> bool:
    """One after which none is called."""
    tell("handled-last", job.id)
    return False


def handle_badly(job: Any, *_: object) -> None:
    """One that fails itself."""
    tell("handled-badly", job.id)
    raise RuntimeError("the pager is out of paper")


def handle_for_ever(job: Any, *_: object) -> None:
    """One that does not come back."""
    tell("handled-for-ever", os.getpid())
    time.sleep(1000)
