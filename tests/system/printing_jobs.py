"""Jobs that print in every way; see `test_output.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from cronq import job


@job(name="print")
def print_words(lines: int = 3) -> None:
    for number in range(lines):
        sys.stdout.write(f"line {number}\n")
    sys.stderr.write("on stderr\n")


@job(name="print-in-pieces")
def print_in_pieces(name: str, lines: int) -> None:
    """Each line in three writes, with time for others between them; the last one does not end."""
    for number in range(lines):
        for piece in (f"{name} ", "x" * 100 * (number % 5), f" {number} {name}" + "\n" * (number < lines - 1)):
            os.write(1, piece.encode())
            time.sleep(0.001)


@job(name="print-and-die")
def print_and_die() -> None:
    os.write(1, b"x" * 60_000 + b"the tail\n")
    os.kill(os.getpid(), signal.SIGKILL)


@job(name="leave-a-daemon")
def leave_a_daemon() -> None:
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os.write(1, b"left one\n")


@job(name="change-flags")
def change_flags() -> None:
    os.set_blocking(1, False)
    os.set_blocking(2, False)


_CHANGE = "import os; os.set_blocking(1, False); os.set_blocking(2, False)"
job(name="change-flags-command", command=[sys.executable, "-c", _CHANGE])
job(name="report", command=["seq", "-f", "%090.0f", "12000"])
job(name="dump", timeout=20, grace=1, command=["head", "-c", "5000000", "/dev/zero"])
_LOOK = "readlink /proc/self/fd/*; echo by-name > /dev/stdout; ps -o tty= -p $$; id -un"
job(name="look", run_as="nobody", shell=True, command=_LOOK)
_WIPE = "import os; os.ftruncate(1, 0)"
job(name="wipe", run_as="nobody", command=["/usr/bin/env", "python3", "-c", _WIPE])
