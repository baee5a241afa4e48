"""The jobs of `punctuality.py`: due each second; some have a body that notes when it begins, the others nobody runs."""

from __future__ import annotations

import os
import struct
import time

from cronq import current_run, job

#: Number of the job, its tick, and the moment at which the body began.
RECORD = struct.Struct("Iqd")
_JOBS, _SERVED = int(os.environ.get("BENCH_JOBS", "10")), int(os.environ.get("BENCH_SERVED", "2"))
SERVED, UNSERVED = "served", "unserved"


def served(jobs: int, count: int) -> range:
    """The numbers of the *count* jobs that are executed: spread over all of them, for names decide who comes first."""
    step = jobs // count
    return range(0, step * count, step)


def body(number: int) -> None:
    """The clock first, then everything else."""
    begun = time.time()
    run = current_run()
    fd = os.open(os.environ["BENCH_STAMPS"], os.O_WRONLY | os.O_APPEND)
    os.write(fd, RECORD.pack(number, run.tick, begun))  # whole, whoever else does
    os.close(fd)


for _number in range(_JOBS):
    # Each tick runs, however late and whatever the ones before do: the lateness is what is measured.
    job(
        "* * * * * *", name=f"job-{_number:05d}", kwargs={"number": _number}, overlap="allow", catchup="all", keep=100,
        queue=SERVED if _number in served(_JOBS, _SERVED) else UNSERVED,
    )(body)  # fmt: skip
