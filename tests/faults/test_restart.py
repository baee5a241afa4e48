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


def what_is_recorded(made: Installation, until_s: int) -> Said:
    """The same without what `why` looks up at that moment: who is alive, and what is to be done about it."""
    rows, whys = what_is_said(made, until_s)
    of_the_moment = ("text", "next")
    return rows, {tick: {k: v for k, v in why.items() if k not in of_the_moment} for tick, why in whys.items()}


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
            until(lambda: made.app.check_beats().state == 0, 60, lambda: f"{made.app.check_beats()}\n{made.logs}")
            assert what_is_said(made, now_s) == before
    finally:
        server.stop()

    rows, why = before
    told = Counter(row["outcome"] for row in rows)
    assert set(WAYS) <= set(told)
    assert all(row["reason"] and row["decided_by"] for row in rows if row["outcome"])
    assert {document["outcome"] for document in why.values()} >= {
        "missed", "coalesced", "paused", "skipped", "expired", "blocked",
    }  # fmt: skip


def open_runs(made: Installation) -> dict[str, str]:
    """Runs that have not ended, each by a name for how it stands there."""
    app, queue = made.app, "nobody"
    app.add("parent", command=["true"], cron="0 0 1 1 *", queue=queue)
    app.add("child", command=["true"], every="2s", repeat=1, depends_on=("parent",))
    app.add("turns", command=["true"], every="1s", repeat=2, overlap="queue", queue=queue)
    app.add("again", command=["false"], retries=1, retry_delay="1h")
    found = {"queued": app.enqueue("parent"), "waiting for a lock": app.enqueue("exclusive", (0, "waiter"))}
    made.waits(found["waiting for a lock"])
    found["retrying"] = app.enqueue("again")
    until(lambda: made.row(found["retrying"]).state == "retrying", what=lambda: made.logs)
    until(lambda: len(app.history("turns")) == 2 and len(app.history("child")) == 1, what=lambda: made.logs)
    behind, first = app.history("turns")
    (gated,) = app.history("child")
    return found | {
        "queued by its tick": first.run_id, "waiting for its turn": behind.run_id, "waiting for a parent": gated.run_id,
    }  # fmt: skip


def test_what_has_not_ended_is_as_it_was_after_the_death_of_redis_and_goes_on(tmp_path: Path) -> None:
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    try:
        with installation(server.url, tmp_path / "site", CRONQ_LOST_AFTER="3s") as made:
            made.beat()
            made.worker("default")
            with made.app.lock("exclusive", ttl=60):
                runs = open_runs(made)
                states = {name: made.row(run_id).state for name, run_id in runs.items()}
                assert states == {
                    "queued": "queued", "queued by its tick": "queued", "waiting for a lock": "waiting",
                    "waiting for its turn": "waiting", "waiting for a parent": "waiting", "retrying": "retrying",
                }  # fmt: skip
                until_s = int(made.app.now_s()) + 1
                until(lambda: made.app.now_s() > until_s + 1)
                before = what_is_recorded(made, until_s)
                by_hand = {name: made.row(run_id) for name, run_id in runs.items()}

                for process in made.started:
                    process.kill9()
                server.restart()

                assert what_is_recorded(made, until_s) == before
                assert {name: made.row(run_id) for name, run_id in runs.items()} == by_hand
                made.beat()
                made.worker("default")
                until(lambda: made.app.check_beats().state == 0, 60, lambda: f"{made.app.check_beats()}\n{made.logs}")
                assert {name: made.row(run_id).state for name, run_id in runs.items()} == states

            assert made.settles(runs["waiting for a lock"]).outcome == "succeeded"
            made.worker("nobody")  # also for the parent
            for name in ("queued", "queued by its tick", "waiting for its turn", "waiting for a parent"):
                assert made.settles(runs[name]).outcome == "succeeded", name
            assert made.row(runs["retrying"]).state == "retrying"
            assert made.client.zscore(made.app.keys.retries, runs["retrying"]) == by_hand["retrying"].retry_at
    finally:
        server.stop()
