"""What every job of `worker.py` does: nothing or 10 ms of sleep, then one time stamp into a file."""

from __future__ import annotations

import os
import struct
import time

RECORD = struct.Struct("d")


def _stamp() -> None:
    """Append the present moment (CLOCK_MONOTONIC, the same in all processes); whole, whoever else does."""
    fd = os.open(os.environ["BENCH_STAMPS"], os.O_WRONLY | os.O_APPEND)
    os.write(fd, RECORD.pack(time.monotonic()))
    os.close(fd)


def noop() -> None:
    """Nothing."""
    _stamp()


def ten_ms() -> None:
    """Wait 10 ms, as for an answer."""
    time.sleep(0.01)
    _stamp()
