"""Several watchdogs in one process: what becomes of one is no matter of the others. Real processes, real SIGKILL."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cronq.clock import boot_s
from cronq.process import system
from cronq.process.watchdog import Child, ChildExit, Watchdog, WatchdogDied
from tests.system.guarded_family import daemonize, family
from tests.system.processes import until
from tests.system.worker_processes import is_alive

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc"), pytest.mark.timing]


@pytest.fixture
def guard() -> Iterator[Callable[..., Watchdog]]:
    """Starts watchdogs of this very process."""
    started: list[Watchdog] = []

    def start(child_main: Callable[[Mapping[str, Any], BinaryIO], int]) -> Watchdog:
        watchdog = Watchdog(child_main)
        started.append(watchdog)
        watchdog.start()
        return watchdog

    yield start
    for each in started:
        each.close()


def family_of(watchdog: Watchdog, directory: Path) -> tuple[Child, dict[str, int]]:
    """A child that stays, with every kind of descendant; and the pids of all."""
    directory.mkdir()
    child = watchdog.spawn({"directory": str(directory), "stubborn": True})
    until((directory / "family").exists)
    pids: dict[str, int] = json.loads((directory / "family").read_text())
    return child, pids


def ended(child: Child) -> ChildExit:
    return until(lambda: child.wait(1.0))  # type: ignore[return-value]


def kill(watchdog: Watchdog) -> None:
    assert watchdog.pid is not None
    os.kill(watchdog.pid, signal.SIGKILL)


def all_gone(pids: Mapping[str, int], within_s: float = 1.0) -> None:
    until(lambda: not any(map(is_alive, pids.values())), within_s, lambda: f"the end of {pids}")


@pytest.mark.parametrize("which", ["the first", "the last"])
def test_when_one_is_killed_only_its_own_child_dies(guard: Callable[..., Watchdog], tmp_path: Path, which: str) -> None:
    pair = [guard(family), guard(family)]
    victim, other = pair if which == "the first" else reversed(pair)
    child, pids = family_of(victim, tmp_path / "victim")
    neighbour, others = family_of(other, tmp_path / "other")
    later = guard(lambda order, result: 5)

    kill(victim)

    with pytest.raises(WatchdogDied):
        child.wait(None)
    assert not any(map(is_alive, pids.values()))
    assert all(map(is_alive, others.values()))
    assert (other.alive, later.alive) == (True, True)
    assert ended(later.spawn({})).status == 5
    victim.start()
    assert ended(victim.spawn({"directory": str(tmp_path / "victim"), "leave": True})).leftovers == 3
    neighbour.kill_all()
    ending = ended(neighbour)
    assert (ending.status, ending.ended_by, ending.leftovers) == (-9, "guardian", 3)


def test_when_all_are_killed_at_once_every_thread_finds_its_own_dead(
    guard: Callable[..., Watchdog], tmp_path: Path
) -> None:
    watchdogs = [guard(family) for _ in range(3)]
    children, families = zip(*(family_of(each, tmp_path / str(n)) for n, each in enumerate(watchdogs)), strict=True)

    def mourn(child: Child, pids: Mapping[str, int]) -> list[str]:
        with pytest.raises(WatchdogDied):
            child.wait(None)
        return [name for name, pid in pids.items() if is_alive(pid)]

    with ThreadPoolExecutor(3) as threads:
        mourners = [threads.submit(mourn, *each) for each in zip(children, families, strict=True)]
        for each in watchdogs:
            kill(each)
        assert [each.result(10) for each in mourners] == [[], [], []]

    for number, each in enumerate(watchdogs):
        each.start()
        assert ended(each.spawn({"directory": str(tmp_path / str(number)), "leave": True})).status == 0


def test_when_one_was_closed_what_another_leaves_still_falls_to_this_process(
    guard: Callable[..., Watchdog], tmp_path: Path
) -> None:
    first, second = guard(family), guard(family)
    child, pids = family_of(second, tmp_path / "second")
    first.close()

    kill(second)

    with pytest.raises(WatchdogDied):
        child.wait(None)
    assert not any(map(is_alive, pids.values()))


def test_when_all_are_closed_daemons_of_this_process_are_its_own_affair_again(
    guard: Callable[..., Watchdog], tmp_path: Path
) -> None:
    for each in [guard(family), guard(family)]:
        each.close()

    daemonize(tmp_path / "daemon")

    daemon = int((tmp_path / "daemon").read_text())
    try:
        assert daemon not in system.own_children()
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_whichever_is_killed_at_whatever_moment_no_neighbour_notices_and_nothing_stays(
    guard: Callable[..., Watchdog],
) -> None:
    """Four threads run child after child, each with a daemon; watchdogs are killed at random."""

    def work(order: Mapping[str, Any], result: BinaryIO) -> int:
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        os.waitpid(middle, 0)
        result.write(str(order["number"]).encode())
        time.sleep(0.005)
        return 0

    chance = random.Random(20261127)
    watchdogs = [guard(work) for _ in range(4)]
    stop = threading.Event()
    killed = [0, 0, 0, 0]
    deaths = [0, 0, 0, 0]
    done = [0, 0, 0, 0]

    def run(place: int) -> None:
        watchdog, number = watchdogs[place], 0
        while not stop.is_set():
            number += 1
            try:
                if not watchdog.alive:
                    watchdog.close()
                    deaths[place] += 1
                    watchdog.start()
                child = watchdog.spawn({"number": number})
                ending = ended(child)
            except WatchdogDied:
                continue
            assert (ending.status, ending.ended_by, ending.leftovers) == (0, None, 1)
            assert int(child.result.read()) == number
            done[place] += 1

    with ThreadPoolExecutor(4) as threads:
        workers = [threads.submit(run, place) for place in range(4)]
        end = boot_s() + 4
        while boot_s() < end and not any(each.done() for each in workers):
            victim = chance.randrange(4)
            pid = watchdogs[victim].pid
            if pid is not None and is_alive(pid):
                os.kill(pid, signal.SIGKILL)
                killed[victim] += 1
            time.sleep(chance.uniform(0.005, 0.06))
        stop.set()
        for each in workers:
            each.result(20)

    assert sum(killed) > 20
    assert min(done) > 5
    assert all(dead <= kills for dead, kills in zip(deaths, killed, strict=True)), (killed, deaths)
    for each in watchdogs:
        each.close()
    assert system.own_children() == set()
