"""Redis away, for some or for all: a body runs once, its outcome is its own, and the worker lives on. Real processes.

The workers of a scene are of several kinds: with the long-lived child or a fork for each run, one or four in a process.

Figures are printed: `pytest -rP tests/faults/test_away.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import RedisServer
from tests.faults.proxy import BLACKHOLE, REFUSE, FaultProxy
from tests.faults.rounds_jobs import KINDS, Kind, job_name, kinds_in_words, queues
from tests.faults.witness import Entry, now_s, read_lives, wrongs
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, installation

LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
LOST_AFTER_S = 3.0
#: Redis answers, and refuses to write: without memory, and as a replica.
FULL, REPLICA = "full", "replica"
#: How long Redis is away, and how.
OUTAGES = [(3.0, BLACKHOLE), (6.5, REFUSE), (6.5, FULL)]
LONG_OUTAGES = [
    (away_s, mode) for away_s in (3.0, 6.5, 12.0, 25.0, 60.0) for mode in (BLACKHOLE, REFUSE, FULL, REPLICA)
    if away_s > 3 or mode in (BLACKHOLE, REFUSE)  # a beat writes every 5 s, and so long it may not notice
]  # fmt: skip


def tell(figures: str) -> None:
    print(figures)  # noqa: T201


class Seen(NamedTuple):
    """What was seen of one scene."""

    wrongs: list[str]
    figures: str


@contextmanager
def site(directory: Path) -> Iterator[Installation]:
    """An installation with a Redis of its own and jobs that keep a record."""
    server = RedisServer()
    settings = {"CRONQ_LOST_AFTER": f"{LOST_AFTER_S:g}s", "CRONQ_JOBS": "tests.faults.rounds_jobs"}
    try:
        with installation(server.url, directory, **settings) as made:
            yield made
    finally:
        server.stop()


def wrongs_of(made: Installation, runs: list[str]) -> list[str]:
    """What is wrong with *runs*, each of which had to succeed at its first attempt."""
    rows = [made.row(run_id) for run_id in runs]
    ledger = [Entry(row.run_id, row.outcome, row.attempt) for row in rows]
    found = wrongs(ledger, read_lives(made.directory / "record"), dict.fromkeys(runs, ("succeeded",)))
    return found + [f"{row.run_id} is at attempt {row.attempt}" for row in rows if row.attempt != 1]


def start_worker(made: Installation, kind: Kind, served: list[str], **environment: str) -> CronqProcess:
    """A worker process of this kind, which others have seen."""
    words = ("-n", str(kind.children), *served)
    return made.worker(*words, CRONQ_ISOLATION=kind.isolation, **environment)


def has_begun(made: Installation, run_id: str) -> bool:
    return any(life.run == run_id for life in read_lives(made.directory / "record"))


# One worker is cut off


def cut_off_one(directory: Path, count: int, kind: Kind) -> Seen:
    """An idle worker on *count* queues is black-holed beside a healthy one, and 20 runs are queued."""
    with site(directory) as made, FaultProxy(made.redis_url) as proxy:
        made.beat()
        served = queues(0)[-count:]
        cut_off = start_worker(made, kind, served, CRONQ_REDIS_URL=proxy.url)
        healthy = made.worker(*served)

        with proxy.outage(BLACKHOLE):
            begun = now_s()
            runs = [made.enqueue(job_name(0, "fail"), 0.05) for _ in range(20)]
            for run_id in runs:
                made.settles(run_id, 60)
            took_s = now_s() - begun
        found = wrongs_of(made, runs)
        if took_s > 60:
            found.append(f"20 runs took {took_s:.0f} s")
        by_cut_off = [run_id for run_id in runs if made.row(run_id).pid == cut_off.pid]
        if by_cut_off:
            found.append(f"the worker that was cut off ran {by_cut_off}")

        healthy.terminate()
        healthy.exit_code()
        later = made.enqueue(job_name(0, "fail"), 0.05)  # for the one that was cut off: it is the only one now
        made.settles(later, 60)
        if not cut_off.is_running or made.row(later).pid != cut_off.pid:
            found.append(f"the worker that was cut off did not come back:\n{cut_off.log}")
        put_back = sum(len(process.lines("PUT BACK")) for process in made.started)
    return Seen(found, f"{count} queue(s), one of two workers cut off: 20 runs in {took_s:.1f} s, {put_back} put back")


# Redis is away for all


@contextmanager
def outage(made: Installation, proxy: FaultProxy, mode: str) -> Iterator[None]:
    """Redis is of no use to anybody meanwhile."""
    if mode in (BLACKHOLE, REFUSE):
        with proxy.outage(mode):
            yield
        return
    if mode == FULL:
        made.client.config_set("maxmemory", 1)
    else:
        made.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        made.client.config_set("maxmemory", 0)
        made.client.execute_command("REPLICAOF", "NO", "ONE")


def take_redis_away(directory: Path, away_s: float, mode: str, kinds: list[Kind]) -> Seen:
    """An outage for beat and workers alike, in the middle of one run and at the end of another."""
    with site(directory) as made, FaultProxy(made.redis_url) as proxy:
        made.environment["CRONQ_REDIS_URL"] = proxy.url
        workers = [start_worker(made, kinds[number], queues(number)) for number in (0, 1, 2)]
        processes = [made.beat(), *workers]
        through = made.enqueue(job_name(0, "fail"), away_s + 3)
        at_end = made.enqueue(job_name(1, "fail"), 1.5)
        until(lambda: has_begun(made, through) and has_begun(made, at_end), what="both bodies")

        with outage(made, proxy, mode):
            time.sleep(away_s)
        back = now_s()
        for run_id in (at_end, through):
            made.settles(run_id, 60)
        after = [made.enqueue(job_name(number, "fail"), 0.05) for number in (0, 1, 2)]
        for run_id in after:
            made.settles(run_id, 60)

        found = wrongs_of(made, [through, at_end, *after])
        found += [f"{each.name} ended:\n{each.log}" for each in processes if not each.is_running]
        found += check_lines(made, processes, at_end, through)
        settled_s = now_s() - back
    return Seen(found, f"away for {away_s:g} s ({mode}): all is settled {settled_s:.1f} s after")


def check_lines(made: Installation, processes: list[CronqProcess], at_end: str, through: str) -> list[str]:
    """Each process says once what it lived through, and the outcome has been decided by the worker itself."""
    found = []
    for run_id, worker in ((through, processes[1]), (at_end, processes[2])):
        row = made.row(run_id)
        if row.decided_by != f"worker {row.worker}" or row.pid != worker.pid:
            found.append(f"{run_id} was decided by {row.decided_by}, run by {row.worker}")
        for word in ("UNHEARD", "UNWRITTEN"):
            if len(worker.lines(word)) > 1:
                found.append(f"{word} said {len(worker.lines(word))} times:\n{worker.log}")
    return found


# All at one time: they mostly wait


def turned(first: int) -> list[Kind]:
    """Three kinds of workers, the first of them number *first*."""
    return [KINDS[(first + place) % len(KINDS)] for place in range(3)]


SCENARIOS: dict[str, Callable[[Path], Seen]] = {
    f"an idle worker on {count} queue(s) is cut off ({kind})": partial(cut_off_one, count=count, kind=kind)
    for count, kind in (product((1, 3), KINDS) if LONG else zip((1, 3), KINDS[1:3], strict=True))
} | {
    f"redis is away for {away_s:g} s, {mode} ({kinds_in_words(kinds)})": partial(
        take_redis_away, away_s=away_s, mode=mode, kinds=kinds
    )
    for number, (away_s, mode) in enumerate(LONG_OUTAGES if LONG else OUTAGES)
    for kinds in ([turned(turn) for turn in range(len(KINDS))] if LONG else [turned(number)])
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Seen]]]:
    with ThreadPoolExecutor(6) as pool:
        yield {name: pool.submit(scene, tmp_path_factory.mktemp("site") / "site") for name, scene in SCENARIOS.items()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_body_runs_once_its_outcome_is_its_own_and_the_worker_lives_on(
    scenes: dict[str, Future[Seen]], name: str
) -> None:
    seen = scenes[name].result()

    tell(seen.figures)
    assert seen.wrongs == []
