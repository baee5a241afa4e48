"""Jobs with `backfill`, and how they tell what they did: in a file, outside Redis."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cronq import current_run, job


def tell(words: str) -> None:
    """Append one line to the diary of this process's test; whole, also when several processes do."""
    diary = os.open(Path(os.environ["DIARY"]) / "in-order.diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(diary, f"{words}\n".encode())
    finally:
        os.close(diary)


@job("* * * * * *", name="steady", backfill=True, on_lost="rerun", max_crashes=20)
@job("* * * * * *", name="fragile", backfill=True)
def load() -> None:
    """Takes most of the distance of two ticks; fails while a file of the name of its job is there."""
    run = current_run()
    assert run is not None
    tell(f"{run.job} begin {run.tick} {run.attempt}")
    if (Path(os.environ["DIARY"]) / f"fail-{run.job}").exists():
        raise ValueError("no stock left")
    time.sleep(0.3)
    tell(f"{run.job} end {run.tick} {run.attempt}")
