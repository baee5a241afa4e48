"""Jobs that share a child, or not, and what they leave in it; RQ jobs among them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from cronq import Snooze, current_run, job, once_per_child, snooze

kept: list[Any] = []
count = 0


def state() -> dict[str, Any]:
    """What a run finds: who it is, and what others may have left."""
    global count
    count += 1
    run = current_run()
    return {
        "pid": os.getpid(),
        "count": count,
        "threads": threading.active_count(),
        "cwd": os.getcwd(),
        "run_id": run.run_id if run is not None else None,
    }


@job(name="clean")
def clean() -> dict[str, Any]:
    return state()


@job(name="locked", exclusive=True)
def locked() -> dict[str, Any]:
    return state() | {"fence": current_run().fence}  # type: ignore[union-attr]


@job(name="alone", isolation="run")
def alone() -> dict[str, Any]:
    return state()


@job(name="shared", isolation="clean")
def shared() -> dict[str, Any]:
    return state()


@job(name="recall")
def recall(fails: bool = False) -> dict[str, Any]:
    run = current_run()
    assert run is not None
    if fails:
        raise ValueError("this one is to fail")
    return {"last_run": run.last_run, "last_outcome": run.last_outcome, "failures": run.failures}


@job(name="linger")
@job(name="linger-again", on_lost="rerun")
def linger(seconds: float, midway: str | None = None) -> None:
    """Goes on in a finalizer when its work is done; makes the file *midway* meanwhile."""

    class Last:
        def __del__(self) -> None:
            if midway is not None:
                time.sleep(0.05)
                Path(midway).touch()
            time.sleep(seconds)

    cycle: list[Any] = [Last()]
    cycle.append(cycle)


@job(name="nap")
def nap(seconds: float) -> None:
    time.sleep(seconds)


@job(name="leak")
def leak(what: str = "thread") -> dict[str, Any]:
    if what == "thread":
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    elif what == "socket":
        kept.append(socket.socketpair())
    elif what == "process":
        kept.append(subprocess.Popen(["sleep", "1000"], start_new_session=True))
    elif what == "cwd":
        os.chdir("/")
    return state()


@job(name="end")
def end(how: str = "error") -> Snooze | None:
    if how == "error":
        raise ValueError("on purpose")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "snooze" and current_run().attempt == 1:  # type: ignore[union-attr]
        return snooze(0)
    if how == "hang":
        time.sleep(1000)
    return None


@job(name="slow", timeout=1, grace=0)
def slow() -> None:
    time.sleep(1000)


@once_per_child
def pool() -> list[Any]:
    return [socket.socketpair(), threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()]


@job(name="pooled")
def pooled() -> dict[str, Any]:
    pool()
    return state()


def rq_job(how: str = "well") -> int:
    """Called by RQ jobs that are not cronq's."""
    if how == "leak":
        kept.append(socket.socketpair())
    if how == "fail":
        raise ValueError("on purpose")
    return os.getpid()
