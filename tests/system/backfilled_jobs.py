"""Jobs of which past ticks are run, and how they tell what they did: in a file, outside Redis."""

from __future__ import annotations

import os
import time
from pathlib import Path

from cronq import current_run, job


def tell(words: object) -> None:
    """Append one line to the diary of this process's test; whole, also when several processes do."""
    diary = os.open(Path(os.environ["DIARY"]) / "etl.diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(diary, f"{words}\n".encode())
    finally:
        os.close(diary)


@job("0 7 * * *", name="etl", tz="Europe/Amsterdam")
@job("0 7 * * *", name="etl-rerun", on_lost="rerun", max_crashes=10)
def etl() -> None:
    """Says which day it did; fails while a file of that name is there."""
    run = current_run()
    assert run is not None
    begin, end = run.interval
    assert begin is not None
    assert end == run.tick
    if (Path(os.environ["DIARY"]) / f"fail-{run.tick}").exists():
        raise ValueError("no such day")
    tell(f"begin {run.tick} {run.attempt}")
    time.sleep(0.1)
    tell(f"end {run.tick} {run.attempt} {end - begin}")
