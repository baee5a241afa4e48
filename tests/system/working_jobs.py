"""The jobs that the workers of these tests run, and how they tell what they did: in files, outside Redis.

A job with a schedule is due once a year: its ticks are claimed by the tests.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cronq import Snooze, current_run, job, snooze

YEARLY = "0 0 1 1 *"


def tell(name: str, words: object) -> None:
    """Append one line to a diary; whole, also when several processes do."""
    diary = os.open(Path(os.environ["DIARY"]) / f"{name}.diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(diary, f"{words}\n".encode())
    finally:
        os.close(diary)


# Functions


@job(name="add")
def add(a: int = 1, b: int = 2) -> int:
    time.sleep(0.05)
    return a + b


for _queue in ("high", "nights", "low"):
    job(name=f"add-{_queue}", queue=_queue)(add)


@job(name="fail")
def fail(words: str = "no stock left") -> None:
    check_stock(words)


def check_stock(words: str) -> None:
    raise ValueError(words)


@job(name="fail-once")
def fail_once() -> str:
    run = current_run()
    assert run is not None
    if run.attempt == 1:
        raise ValueError("the first attempt")
    return f"attempt {run.attempt}"


@job(name="try-again", retries=1, retry_delay=1)
@job(name="try-again-or-rerun", retries=1, retry_delay=1, on_lost="rerun")
def try_again(name: str) -> str:
    """Fails in its first attempt, and once more if that is run again."""
    run = current_run()
    assert run is not None
    tell(name, run.attempt)
    if len((Path(os.environ["DIARY"]) / f"{name}.diary").read_text().splitlines()) < 2:
        raise ValueError("not yet")
    return f"attempt {run.attempt}"


@job(name="snooze")
@job(name="snooze-guarded", exclusive=True)
def doze(name: str) -> str | Snooze:
    """Asks for another attempt twice."""
    run = current_run()
    assert run is not None
    tell(name, run.attempt)
    return f"attempt {run.attempt}" if run.attempt > 2 else snooze("500ms")


@job(name="snooze-once", at_most_once=True)
def doze_once() -> Snooze:
    return snooze(1)


@job(name="dawdle", warn_after=1)
def dawdle() -> None:
    time.sleep(2.6)


@job(name="fail-and-pause", pause_after_failures=1)
def fail_and_pause() -> None:
    raise ValueError("no stock left")


@job(name="leave")
def leave(code: int | str | None = None) -> None:
    sys.exit(code)


@job(name="coroutine")
async def coroutine() -> str:
    await asyncio.sleep(0.01)
    return "awaited"


@job(YEARLY, name="about")
@job(YEARLY, name="about-exclusive", exclusive=True)
def about() -> dict[str, object]:
    run = current_run()
    assert run is not None
    return dict(run.__dict__)


@job(name="past")
def past(fail: bool = False) -> list[object]:
    run = current_run()
    assert run is not None
    if fail:
        raise RuntimeError("asked to")
    return [run.failures, run.last_run, run.last_outcome]


@job(name="kill-itself")
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# Commands

_SHOW = """
import json, os, sys
seen = {"arguments": sys.argv[1:], "stdin": sys.stdin.read()}
seen["environment"] = {name: value for name, value in os.environ.items() if name.startswith("CRONQ_")}
with open(os.environ["DIARY"] + "/command.diary", "a") as diary:
    print(json.dumps(seen), file=diary)
"""
job(YEARLY, name="command", command=[sys.executable, "-c", _SHOW, "$(touch x); *", "two words"])
job(name="words", shell=True, command='for word in "$@"; do echo "$word" >> "$DIARY/words.diary"; done')
job(name="shell", shell=True, command='echo "$CRONQ_JOB" | tee -a "$DIARY/shell.diary"; exit 4')
job(name="no-such-command", command=["/nowhere/at-all"])
job(name="not-executable", command=[__file__])


# Long work


@job(name="sleep", grace=2)
@job(name="sleep-nights", queue="nights", grace=2)
@job(name="sleep-again", queue="again", on_lost="rerun", grace=2)
@job(name="sleep-again-exclusive", queue="again", on_lost="rerun", exclusive=True, grace=2)
@job(name="sleep-once", queue="again", at_most_once=True, grace=2)
@job(YEARLY, name="exclusive", exclusive=True, overlap="allow", grace=2)
@job(YEARLY, name="queueing", overlap="queue", grace=2, kwargs={"seconds": 0.2, "name": "queueing"})
@job(YEARLY, name="queueing-long", overlap="queue", grace=2, kwargs={"name": "queueing-long"})
@job(YEARLY, name="latest", overlap="latest", grace=2, kwargs={"seconds": 0.2, "name": "latest"})
@job(YEARLY, name="replacing", overlap="replace", grace=2, kwargs={"name": "replacing"})
def sleep(seconds: float = 1000.0, name: str = "sleep") -> str:
    tell(name, os.getpid())
    time.sleep(seconds)
    tell(f"{name}-ends", os.getpid())
    return "slept"


@job(name="kill-its-worker", queue="again", on_lost="rerun")
def kill_its_worker() -> None:
    tell("kill-its-worker", os.getpid())
    watchdog = os.getppid()
    guardian = int(Path(f"/proc/{watchdog}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guardian, signal.SIGKILL)
    time.sleep(1000)


@job(name="big", kwargs={"text": ""})
def big(text: str) -> int:
    return len(text)


def start_family(name: str) -> None:
    """A plain child, one in a session of its own and their children, deaf to SIGTERM; three of the pids in a diary."""
    script = "trap '' TERM; sleep 1000 & while :; do wait; done"
    plain = subprocess.Popen(["/bin/sh", "-c", script])
    session = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)
    for pid in (os.getpid(), plain.pid, session.pid):
        tell(name, pid)


def hold_the_interpreter(seconds: float) -> float:
    """Be in C code for so long, in one call that lets no other thread run; how long it was.

    By the clock, not by an amount of work measured beforehand: how fast a shared machine works changes meanwhile.
    """
    begun = time.monotonic()
    ctypes.PyDLL(None).sleep(math.ceil(seconds))  # PyDLL keeps the interpreter lock during the call
    return time.monotonic() - begun


@job(name="slow", timeout=1, grace=1)
def slow() -> None:
    tell("slow", os.getpid())
    time.sleep(1000)


@job(name="stop-its-watchdog", timeout=1, grace=0.5)
def stop_its_watchdog() -> None:
    start_family("stop-its-watchdog")
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(1000)


@job(name="busy", timeout=1, grace=1)
def busy() -> None:
    tell("busy", os.getpid())
    sum(range(10**11))


@job(name="deaf", timeout=1, grace=1)
def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell("deaf", os.getpid())
    while True:
        time.sleep(1000)


@job(name="blocked", timeout=1, grace=1)
def blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    tell("blocked", os.getpid())
    while True:
        time.sleep(1000)


@job(name="swallowing", timeout=1, grace=1)
def swallowing() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
    tell("swallowing", os.getpid())
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass


@job(name="family", timeout=1, grace=1)
def family() -> None:
    start_family("family")
    time.sleep(1000)


@job(name="program", timeout=1, grace=1)
def program() -> None:
    """One pid in its diary is its own, the other that of a program deaf to SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run = current_run()
    assert run is not None
    tell("program", os.getpid())
    run.process(["/bin/sh", "-c", 'trap "" TERM; echo $$ >> "$DIARY/program.diary"; while :; do sleep 1000; done'])


@job(name="guarded", exclusive=True, grace=1)
def guarded(seconds: float, held_s: float = 0.0) -> None:
    """Work under a lock, part of the time in C code; with a family, which must not outlive the lock either."""
    start_family("guarded")
    held_s = hold_the_interpreter(held_s)
    tell("guarded-held", held_s)
    time.sleep(max(0.0, seconds - held_s))
    tell("guarded-ends", time.clock_gettime(time.CLOCK_BOOTTIME))


@job(name="fail-once-guarded", exclusive=True, lock="guarded")
def fail_once_guarded() -> str:
    return fail_once()
