"""A deploy: beats and workers of the release before beside those of this one, on one Redis. Real processes.

The release before comes out of git, as it was; in a copy of the tree without its history there is nothing to try.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import SPEC_LAYOUT
from cronq.runs.history import Wanted, newest_rows
from tests.system.ledger import faults, read_book, server_s
from tests.system.processes import Processes, until

ROOT = Path(__file__).parents[2]
RELEASE_BEFORE = "39273b9d17ac69aa7a7493428fac54718cd7b48f"
#: Ten jobs that are due every second, one of them exclusive; each run writes its id down, and when it ends.
JOBS = """
from cronq import current_run
from cronq import job
from tests.system.tests_diary import tell

def work():
    tell("begun", current_run().run_id)

def alone():
    tell("alone", f"in {current_run().run_id}")
    tell("alone", f"out {current_run().run_id}")

for number in range(9):
    job(name=f"job-{number}", every="1s", catchup="all", overlap="allow", max_catchup=100)(work)
job(name="alone", every="1s", exclusive=True, overlap="allow")(alone)
"""
NAMES = [*(f"job-{number}" for number in range(9)), "alone"]
TICKS = 11  #: of each job: 110 in all


@pytest.fixture(scope="module")
def release_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the package `cronq` is that of the release before."""
    command = ["git", "archive", RELEASE_BEFORE, "cronq"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"the release before is not in this copy of the repository: {made.stderr.decode().strip()}")
    directory = tmp_path_factory.mktemp("before")
    subprocess.run(["tar", "--extract", "--directory", directory], input=made.stdout, check=True)
    return directory


@pytest.fixture
def processes(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    with Processes(redis_url, tmp_path, DIARY=str(tmp_path), CRONQ_JOBS="jobs") as started:
        started.write_module("jobs", JOBS)
        yield started


@pytest.fixture
def app(redis_url: str, redis: Redis) -> Cronq:
    return Cronq(config=Config(url=redis_url, host_id="test"), registry=Registry(), client=redis)


def start_all(processes: Processes, release_before: Path) -> None:
    """A beat and a worker of either release, the older ones first, as in a deploy."""
    before, now = f"{release_before}:{ROOT}", str(ROOT)
    for path in (before, now):
        for verb in ("beat", "worker"):
            processes.start(verb, PYTHONPATH=path).wait_for_line("START-UP")


@pytest.mark.parametrize("newer_first", [False, True], ids=["the older begins", "the newer begins"])
def test_of_two_releases_on_one_redis_each_tick_runs_once(
    app: Cronq, processes: Processes, release_before: Path, tmp_path: Path, newer_first: bool
) -> None:
    if newer_first:
        processes.start("beat", PYTHONPATH=str(ROOT)).wait_for_line("START-UP")
    start_all(processes, release_before)
    begun = int(server_s(app.client))
    until(lambda: all((app.jobs.mark_of(name) or 0) >= begun + TICKS for name in NAMES), 60, "the ticks")
    for process in processes.started:
        if "beat" in process.name:
            process.terminate()
            assert process.exit_code() == 0, process.log
    until(lambda: not any(app.runs.active(NAMES).values()), 30, "all runs to end")

    book = read_book(app, NAMES)

    assert faults(book) == []
    assert book.size >= 100
    outcomes = {name: set(book.outcomes(name).values()) for name in NAMES}
    assert outcomes.pop("alone") <= {"succeeded", "skipped"}
    assert set().union(*outcomes.values()) == {"succeeded"}
    written = (tmp_path / "begun.diary").read_text().split()
    assert [run_id for run_id, times in Counter(written).items() if times > 1] == []
    assert len(written) == sum(len(book.ticks(name)) for name in NAMES if name != "alone")
    both = (tmp_path / "alone.diary").read_text().split("\n")[:-1]
    assert [line.split()[0] for line in both] == ["in", "out"] * (len(both) // 2)
    broken = [line for process in processes.started for line in process.log.splitlines() if "BROKEN" in line]
    assert broken == []


# The other way round: this release beside one to come

#: A job that both releases define, each as well as it can; and one that is the same in both.
JOBS_OF_TWO = """
from dataclasses import fields
from cronq import current_run
from cronq import job
from cronq.jobs.spec import JobSpec
from tests.system.tests_diary import tell

new = {"patience": 3, "timeout": 600} if "patience" in {field.name for field in fields(JobSpec)} else {}

@job(every="1s", overlap="allow", catchup="all", **new)
def changed():
    tell("changed", current_run().run_id)

@job(every="1s", overlap="allow", catchup="all")
def plain():
    tell("plain", current_run().run_id)
"""


@pytest.fixture(params=["with a layout of its own", "told by the field alone"])
def release_to_come(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A directory in which the package `cronq` is this one, with one option more."""
    shutil.copytree(ROOT / "cronq", tmp_path / "to-come" / "cronq", ignore=shutil.ignore_patterns("__pycache__"))
    flag, field = '    Option("at_most_once", ', '    at_most_once: bool = DEFAULTS["at_most_once"]\n'
    changes = [
        ("options", flag, f'    Option("patience", Kind.NUMBER, 0, "How long it waits.", "N", most=100),\n{flag}'),
        ("spec", field, f"{field}    patience: int = 0\n"),
    ]
    if request.param == "with a layout of its own":
        since = "SINCE: dict[str, int] = {"
        changes.append(("spec", f"SPEC_LAYOUT = {SPEC_LAYOUT}\n", f"SPEC_LAYOUT = {SPEC_LAYOUT + 1}\n"))
        changes.append(("spec", since, f'{since}"patience": {SPEC_LAYOUT + 1}, '))
    for module, before, after in changes:
        path = tmp_path / "to-come" / "cronq" / "jobs" / f"{module}.py"
        text = path.read_text()
        assert text.count(before) == 1, before
        path.write_text(text.replace(before, after))
    return tmp_path / "to-come"


def test_beats_and_workers_leave_what_a_release_to_come_stored_to_it(
    app: Cronq, processes: Processes, release_to_come: Path
) -> None:
    processes.write_module("jobs", JOBS_OF_TWO)
    to_come = f"{release_to_come}:{ROOT}"
    newer_beat = processes.start("beat", PYTHONPATH=to_come)
    newer_beat.wait_for_line("START-UP")
    stored = app.client.hgetall(app.keys.job("changed"))
    assert b'"patience":3' in stored[b"spec"]
    newer_worker = processes.start("worker", PYTHONPATH=to_come)
    newer_worker.wait_for_line("START-UP")
    ours = [processes.start(verb, PYTHONPATH=str(ROOT)) for verb in ("beat", "worker", "beat", "worker")]
    for process in ours:
        process.wait_for_line("START-UP")
    begun = int(server_s(app.client))

    until(lambda: all((app.jobs.mark_of(name) or 0) >= begun + 8 for name in ("changed", "plain")), 60, "the ticks")
    newer_beat.terminate()
    newer_worker.terminate()
    assert (newer_beat.exit_code(), newer_worker.exit_code()) == (0, 0)
    mark = app.jobs.mark_of("changed")
    until(lambda: (app.jobs.mark_of("plain") or 0) >= begun + 11, 60, "ticks of our own")

    assert app.client.hgetall(app.keys.job("changed")) == stored
    assert app.jobs.mark_of("changed") == mark
    rows = [row for row in newest_rows(app.runs, ["changed"], Wanted(1000)) if row.state == "done"]
    assert len(rows) >= 7
    assert {row.outcome for row in rows} == {"succeeded"}
    assert {row.outcome for row in newest_rows(app.runs, ["plain"], Wanted(1000))} <= {"succeeded", None}
    broken = [line for process in processes.started for line in process.log.splitlines() if "BROKEN" in line]
    assert broken == []
