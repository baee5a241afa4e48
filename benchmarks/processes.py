"""What processes use, with all that they have started: processor time and memory, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def family_of(pid: int) -> list[int]:
    """The process and its living descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*"):
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:  # it has ended
                continue
    return found


def main_thread_s(pid: int) -> float:
    """Seconds of processor time of a process's first thread, exact to the microsecond once it has gone to sleep."""
    time.sleep(0.001)  # what it does at this moment is not in the figure yet
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def processor_s_of(pid: int) -> float:
    """Seconds of processor time, those of descendants included that live or have been waited for."""
    ticks = 0
    for each in family_of(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_A_SECOND


def memory_mb_of(pid: int) -> float:
    """Memory of the process and its descendants; what several share counts once."""
    kib = 0
    for each in family_of(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024
