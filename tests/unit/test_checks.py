"""What the checks find, from heartbeats alone."""

from __future__ import annotations

from cronq.hosts.heartbeats import Heartbeat
from cronq.monitor.checks import CRITICAL, OK, WARNING, check_workers

NOW = 1_000_000.0


def worker(name: str, age_s: float) -> Heartbeat:
    return Heartbeat(id=name, host="box", pid=7, started_at=1.0, seen_at=NOW - age_s, facts={})


def test_workers_that_are_alive_are_fine() -> None:
    found = check_workers([worker("a", 1), worker("b", 4)], NOW)

    assert found.line == "CRONQ OK - 2 workers are alive | 'workers'=2;;1:"


def test_too_few_workers_are_critical() -> None:
    found = check_workers([worker("a", 1)], NOW, least=2)

    assert found.state == CRITICAL
    assert found.text.startswith("1 worker is alive, 2 needed")


def test_a_worker_that_stands_still_is_told_by_name() -> None:
    found = check_workers([worker("a", 1), worker("b", 300), worker("c", 100)], NOW)

    assert found.state == WARNING
    assert "c (pid 7 on box) and 1 more was not heard of for 1m40s" in found.text
    assert check_workers([worker("a", 1)], NOW).state == OK
