"""Jobs that say, leave and close whatever Python lets them; see `test_what_jobs_say.py`."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from cronq import job


class Odd(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Leaving(Exception):
    """An exception whose text would end the process."""

    def __str__(self) -> str:
        sys.exit(0)


class Unshown:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def fail_in_a_circle() -> NoReturn:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def fail_after_many() -> NoReturn:
    error: Exception = ValueError("the root")
    for number in range(5000):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    raise error


NOT_UTF8 = os.fsdecode(b"caf\xe9.txt")
FAILURES: dict[str, Any] = {
    "surrogate": lambda: ValueError(f"cannot read {NOT_UTF8}"),
    "nul": lambda: ValueError("a\0b"),
    "ten megabytes": lambda: ValueError("x" * 10_000_000),
    "bytes": lambda: ValueError(b"\xff\xfe"),
    "no text": Odd,
    "ends the process": Leaving,
    "nothing": ValueError,
}


@job(name="fail-oddly", on_lost="rerun")
def fail_oddly(how: str) -> None:
    raise FAILURES[how]()


job(name="fail-in-a-circle")(fail_in_a_circle)
job(name="fail-after-many")(fail_after_many)


@job(name="exit-oddly")
def exit_oddly() -> None:
    sys.exit(Unshown())  # type: ignore[arg-type]


@job(name="deep")
def deep(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


@job(name="unshown")
def unshown() -> Unshown:
    return Unshown()


@job(name="surrogate-result")
def surrogate_result() -> dict[str, str]:
    return {"name": NOT_UTF8, "nul": "a\0b"}


@job(name="close")
def close(what: str) -> str:
    sys.stdout.write("written before\n")
    if what == "stdout":
        sys.stdout.close()
    elif what == "descriptor 2":
        os.close(2)
    elif what == "all descriptors":
        sys.stdout.flush()
        os.closerange(0, 4096)
    elif what == "all, and opened others":
        sys.stdout.flush()
        os.closerange(0, 4096)
        for number in range(30):
            os.open(f"{os.environ['DIARY']}/other-{number}", os.O_RDWR | os.O_CREAT)
    elif what == "stdout, and left text in it":
        sys.stdout = os.fdopen(1, "w", closefd=False)
        os.close(1)
        sys.stdout.write("never seen\n")
    elif what == "stdout for ever":
        sys.stdout = None  # type: ignore[assignment]
    elif what == "stdout for an odd thing":
        sys.stdout = object()  # type: ignore[assignment]
    return "done"


@job(name="close-and-fail")
def close_and_fail() -> None:
    os.closerange(0, 4096)
    raise LookupError("no such shelf")
