"""Jobs that hang on one another, whose bodies keep a record outside Redis.

`source` of each second; `gated` waits for it; `joint` runs after both; `flaky` fails at first and is tried again.
"""

from __future__ import annotations

import os
from pathlib import Path

from cronq import current_run, job
from tests.faults.witness import witnessed

#: Each run is executed to its end, whoever is killed: so each has one outcome that is known.
_SAFE = {"on_lost": "rerun", "max_crashes": 50, "grace": 1, "overlap": "allow"}
#: Late ones run as well: on a busy machine two beats may both be late.
_EACH = {"catchup": "all", **_SAFE}


def body() -> str:
    run = current_run()
    assert run is not None
    with witnessed(Path(os.environ["DIARY"]) / "record", run.run_id, run.job, run.attempt) as witness:
        witness.work(0.05)
    return "done"


def stumble() -> None:
    run = current_run()
    assert run is not None
    body()
    if run.attempt == 1:
        raise RuntimeError("at first it fails")


job("* * * * * *", name="source", **_EACH)(body)
job("*/3 * * * * *", name="gated", depends_on="source", **_EACH)(body)
job(name="joint", after=["source", "gated"], **_SAFE)(body)
job("*/4 * * * * *", name="flaky", retries=5, retry_delay=1, **_EACH)(stumble)
