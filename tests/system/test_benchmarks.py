"""Each benchmark runs, with small numbers, and says as JSON what others rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
#: All at once: what they measure here is of no use, and they mostly wait.
COMMANDS = {
    "claim": "claim.py --jobs 20 --rounds 1 --only cronq,rq_cron,huey,floor",
    "enqueue": "enqueue_many.py --runs 20 --rounds 1",
    "worker": "worker.py --jobs 5 --rounds 1 --only cronq,rq",
    "punctuality": "punctuality.py --jobs 5 --served 2 --children 2 --seconds 2 --beats 2",
    "idle": "idle.py --jobs 1,50 --seconds 0.3 --settle 1 --only beat,huey",
    "scale": "scale.py --jobs 100,300 --rows 1000,2000 --beats 1 --rounds 1 --due 3 --seconds 1",
    "memory": "memory.py --runs 5 --keep 10",
    "simulate": "simulate.py --days 1 --jobs 8",
    "exec": "exec.py --calls 1 --rounds 1",
    "stages": "stages.py --runs 10 --rounds 1",
}
#: Not installed with cronq.
PEERS = {"huey"}


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    """By name what each benchmark printed."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(BENCHMARKS / words.split()[0]), "--json", *words.split()[1:]],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for name, words in COMMANDS.items()
    }  # fmt: skip
    try:
        found = {name: (*process.communicate(timeout=170), process.returncode) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    assert {name: told for name, (_, told, code) in found.items() if code} == {}
    return {name: json.loads(printed) for name, (printed, _, _) in found.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_says_on_which_machine_it_ran_and_holds_figures_against_others(
    documents: dict[str, Any], name: str
) -> None:
    machine = documents[name]["machine"]

    assert {"cpu", "cores", "load_start", "load_end", "python", "redis_server", "packages"} <= machine.keys()
    assert documents[name]["comparisons"]
    for line in documents[name]["comparisons"]:
        assert {"what", "system", "figure", "unit", "against", "ratio", "lowest", "highest", "met"} <= line.keys()


def test_the_worker_benchmark_keeps_its_keys(documents: dict[str, Any]) -> None:
    found = documents["worker"]

    for kind in ("noop", "ten_ms"):
        assert found[kind]["cronq"] > 0
        assert found[kind]["rq"] > 0
        assert found[f"{kind}_cronq_to_rq"] > 0
        ratio = found["ratios"][kind]["cronq/rq"]
        assert ratio["lowest"] <= ratio["median"] <= ratio["highest"]
    assert 0 < found["round_trips"]["cronq"] < found["round_trips"]["rq"]
    assert found["commands"]["cronq"] > 0


def test_who_is_not_installed_costs_only_its_own_line(documents: dict[str, Any]) -> None:
    for name in ("claim", "idle"):
        assert documents[name]["skipped"].keys() <= PEERS
    assert documents["worker"]["skipped"].keys() <= PEERS


def test_the_claim_benchmark_keeps_its_keys(documents: dict[str, Any]) -> None:
    found = documents["claim"]

    assert min(found["cronq"], found["rq_cron"], found["floor"]) > 0
    assert found["ratios"]["rq_cron"]["rounds"] == 1


def test_punctuality_counts_each_tick_once_though_a_beat_is_killed(documents: dict[str, Any]) -> None:
    found = documents["punctuality"]["beats"]["2"]

    assert found["ticks"] == 5 * 2
    assert found["kills"] == 1
    for late_ms in (found["push_ms"], found["body_ms"], found["after_kill_ms"]):
        assert 0 < late_ms["p50"] <= late_ms["p99"] <= late_ms["max"]


def test_idling_has_round_trips_processor_and_memory(documents: dict[str, Any]) -> None:
    for jobs in ("1", "50"):
        assert documents["idle"]["idle"][f"beat, {jobs} jobs"].keys() == {
            "round_trips_per_s", "core_percent", "memory_mb",
        }  # fmt: skip


def test_scale_says_what_a_due_job_costs_and_whether_that_is_flat(documents: dict[str, Any]) -> None:
    found = documents["scale"]

    assert found["jobs"]["again"].keys() == found["jobs"]["first"].keys() == {"100", "300"}
    assert found["rows"]["again"]["2000"].keys() == {"us", "beat", "redis", "clock"}
    assert found["beats"]["1"]["us"] > 0
    assert found["is_flat"] in (True, False)


def test_memory_is_counted_by_kind_of_key(documents: dict[str, Any]) -> None:
    for runs in ("succeeded", "failed"):
        assert documents["memory"][runs]["right_after"]["row"] > 0


def test_one_command_runs_them_and_prints_one_table() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "enqueue"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert "enqueue_many" in done.stdout
    assert "targets missed" in done.stdout
