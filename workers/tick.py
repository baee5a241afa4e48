"""The instant a job runs for, and how file names spell it. Defines no job."""

from __future__ import annotations

import time

from cronq import current_run
from cronq.timetext import iso, parse_instant


def tick() -> int:
    """Epoch seconds: the tick of this run, so that a rerun finds its own files; without one, now."""
    run = current_run()
    return run.tick if run is not None and run.tick is not None else int(time.time())


def stamp(epoch_s: float) -> str:
    """`20261121T070000Z`: sorts by time."""
    return str(iso(int(epoch_s))).replace("-", "").replace(":", "")


def parse_stamp(text: str) -> int:
    """The epoch seconds of a stamp."""
    return int(parse_instant(text))
