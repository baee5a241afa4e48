"""What the ledger says survives the death of every process, and of a Redis that writes to its disk. Real processes."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cronq.app.why_view import why_document
from cronq.timetext import iso
from tests.conftest import RedisServer
from tests.faults.test_leftovers import WAYS
from tests.system.processes import until
from tests.system.worker_processes import Installation, installation

Said = tuple[Any, dict[str, Any]]


def what_is_said(made: Installation, until_s: int) -> Said:
    """What `cronq history --json` prints of the time up to *until_s*, and what `why` says of each of these ticks."""
    printed = made.run("history", "--json", "--until", str(iso(until_s)), "-n", "10000")
    assert printed.exit_code() == 0, printed.log
    rows = json.loads(printed.output)
    ticks = [(row["job"], row["tick"]) for row in rows if row["tick"] is not None]
    return rows, {f"{job} {tick}": why_document(made.app.why(job, tick)) for job, tick in ticks}


def test_each_outcome_and_its_reason_survive_the_death_of_all_processes_and_of_redis(tmp_path: Path) -> None:
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    try:
        with installation(server.url, tmp_path / "site", CRONQ_LOST_AFTER="3s") as made:
            made.beat()
            made.worker("default", "high", "low")
            with ThreadPoolExecutor(len(WAYS)) as pool:
                ended = dict(zip(WAYS, pool.map(lambda way: way(made), WAYS.values()), strict=True))
            assert {outcome: run.outcome for outcome, run in ended.items()} == {outcome: outcome for outcome in WAYS}
            now_s = int(made.app.now_s()) + 1  # the newest of these runs was queued in this very second, perhaps
            until(lambda: made.app.now_s() > now_s + 1)
            before = what_is_said(made, now_s)

            for process in made.started:
                process.kill9()
            server.restart()

            assert what_is_said(made, now_s) == before
            made.beat()
            made.worker("default", "high", "low")
            until(lambda: made.app.check_beats().state == 0)
            assert what_is_said(made, now_s) == before
    finally:
        server.stop()

    rows, why = before
    told = Counter(row["outcome"] for row in rows)
    assert set(WAYS) <= set(told)
    assert all(row["reason"] and row["decided_by"] for row in rows if row["outcome"])
    assert {document["outcome"] for document in why.values()} >= {"missed", "coalesced", "paused", "skipped", "expired"}
