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
from cronq.process import nursery as nursery_module
from cronq.process import system
from cronq.process.nursery import Nursery
from cronq.process.watchdog import Child, ChildExit, Watchdog, WatchdogDied
from tests.system.guarded_family import daemonize, family
from tests.system.processes import until
from tests.system.worker_processes import is_alive

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc"), pytest.mark.timing]


ChildMain = Callable[[Mapping[str, Any], BinaryIO], int]
Guard = Callable[[ChildMain], Watchdog]


@pytest.fixture(params=["forked here", "forked by a nursery"])
def guard(request: pytest.FixtureRequest) -> Iterator[Guard]:
    """Starts watchdogs of this very process."""
    started: list[Watchdog] = []
    nurseries: dict[ChildMain, Nursery] = {}

    def start(child_main: ChildMain) -> Watchdog:
        if request.param == "forked by a nursery" and child_main not in nurseries:
            nurseries[child_main] = Nursery(child_main)
            nurseries[child_main].start()
        watchdog = Watchdog(child_main, None, nurseries.get(child_main))
        started.append(watchdog)
        watchdog.start()
        return watchdog

    yield start
    for watchdog in started:
        watchdog.close()
    for nursery in nurseries.values():
        nursery.close()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """A nursery of this very process, whose watchdogs run `work`."""
    made = Nursery(work)
    made.start()
    yield made
    made.close()


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
def test_when_one_is_killed_only_its_own_child_dies(guard: Guard, tmp_path: Path, which: str) -> None:
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


def test_when_all_are_killed_at_once_every_thread_finds_its_own_dead(guard: Guard, tmp_path: Path) -> None:
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


def test_when_one_was_closed_what_another_leaves_still_falls_to_this_process(guard: Guard, tmp_path: Path) -> None:
    first, second = guard(family), guard(family)
    child, pids = family_of(second, tmp_path / "second")
    first.close()

    kill(second)

    with pytest.raises(WatchdogDied):
        child.wait(None)
    assert not any(map(is_alive, pids.values()))


def test_when_all_are_closed_daemons_of_this_process_are_its_own_affair_again(nursery: Nursery, tmp_path: Path) -> None:
    for each in [Watchdog(work), Watchdog(work), of(nursery)]:
        each.start()
        each.close()
    nursery.close()

    daemonize(tmp_path / "daemon")

    daemon = int((tmp_path / "daemon").read_text())
    try:
        assert daemon not in system.own_children()
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_whichever_is_killed_at_whatever_moment_no_neighbour_notices_and_nothing_stays(
    guard: Guard,
) -> None:
    """Four threads run child after child, each with a daemon; watchdogs are killed at random."""

    def brief(order: Mapping[str, Any], result: BinaryIO) -> int:
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
    watchdogs = [guard(brief) for _ in range(4)]
    others = system.own_children() - {each.pid for each in watchdogs}
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
        end = boot_s() + 60  # on a busy machine it takes long until each has done enough between two deaths
        while boot_s() < end and (sum(killed) <= 40 or min(done) <= 5) and not any(each.done() for each in workers):
            victim = chance.randrange(4)
            pid = watchdogs[victim].pid
            if pid is not None and is_alive(pid):
                os.kill(pid, signal.SIGKILL)
                killed[victim] += 1
            time.sleep(chance.uniform(0.005, 0.06))
        stop.set()
        for each in workers:
            each.result(20)

    assert sum(killed) > 40
    assert min(done) > 5
    assert all(dead <= kills for dead, kills in zip(deaths, killed, strict=True)), (killed, deaths)
    for each in watchdogs:
        each.close()
    assert system.own_children() - others == set()


# The nursery

#: What a module of the user's may hold.
LOCK = threading.Lock()


def work(order: Mapping[str, Any], result: BinaryIO) -> int:
    """Take the lock; whether it was free."""
    result.write(str(LOCK.acquire(timeout=2.0)).encode())
    return 0


def of(nursery: Nursery) -> Watchdog:
    watchdog = Watchdog(work, None, nursery)
    watchdog.start()
    return watchdog


def test_a_lock_that_a_thread_holds_is_free_in_the_children_of_a_new_watchdog(
    nursery: Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    watchdog = of(nursery)
    caplog.clear()  # of what threads of other tests may have caused
    free, held = threading.Event(), threading.Event()

    def hold() -> None:
        with LOCK:
            held.set()
            free.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        kill(watchdog)
        until(lambda: not watchdog.alive)
        watchdog.start()
        child = watchdog.spawn({})
        assert ended(child).status == 0
        assert child.result.read() == b"True"
    finally:
        free.set()
        thread.join()
        watchdog.close()
    assert caplog.messages == []


def test_its_watchdogs_are_children_of_this_process_and_leave_nothing_with_it(nursery: Nursery) -> None:
    assert nursery.pid is not None
    others = system.own_children()  # servers of earlier tests, and the nursery
    watchdogs = [of(nursery) for _ in range(3)]
    fds = len(os.listdir(f"/proc/{nursery.pid}/fd"))

    assert {each.pid for each in watchdogs} <= system.own_children()
    for each in watchdogs:
        each.close()
    for _ in range(20):
        of(nursery).close()

    assert Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children").read_text() == ""
    assert len(os.listdir(f"/proc/{nursery.pid}/fd")) == fds
    assert nursery.pid in others
    assert system.own_children() == others


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_it_dies_or_hangs_nobody_notices_and_the_next_watchdog_is_forked_here(
    nursery: Nursery, number: signal.Signals, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery_module, "_PATIENCE_S", 0.3)
    others = system.own_children() - {nursery.pid}
    first = of(nursery)
    second = of(nursery)
    child = first.spawn({})
    pid = nursery.pid
    assert pid is not None

    os.kill(pid, number)

    assert ended(child).status == 0
    kill(second)
    until(lambda: not second.alive)
    second.start()
    assert ended(second.spawn({})).status == 0
    assert [line.split()[0] for line in caplog.messages if "nursery" in line.lower()] == ["NURSERY"]
    assert nursery.pid is None
    assert not is_alive(pid)
    first.close()
    second.close()
    assert system.own_children() == others


def test_no_signal_of_a_terminal_or_a_supervisor_ends_it(nursery: Nursery) -> None:
    assert nursery.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(nursery.pid, number)

    watchdog = of(nursery)

    assert nursery.pid is not None
    watchdog.close()


def test_when_this_process_is_killed_nursery_and_watchdogs_are_gone_within_a_second(tmp_path: Path) -> None:
    guardian = os.fork()
    if guardian == 0:
        try:
            nursery = Nursery(family)
            nursery.start()
            watchdogs = [Watchdog(family, None, nursery) for _ in range(2)]
            for number, each in enumerate(watchdogs):
                each.start()
                (tmp_path / str(number)).mkdir()
                each.spawn({"directory": str(tmp_path / str(number)), "stubborn": True})
            (tmp_path / "known").write_text(json.dumps([nursery.pid, *(each.pid for each in watchdogs)]))
            signal.pause()
        finally:
            os._exit(1)
    paths = [tmp_path / "known", tmp_path / "0" / "family", tmp_path / "1" / "family"]
    until(lambda: all(path.exists() and path.read_text() for path in paths))
    known, *families = (json.loads(path.read_text()) for path in paths)
    pids = dict(enumerate([*known, *families[0].values(), *families[1].values()]))
    assert all(map(is_alive, pids.values()))

    os.kill(guardian, signal.SIGKILL)

    all_gone(pids)
    os.waitpid(guardian, 0)
