"""No orphan: whatever dies, or stands still, nothing of a child lives on. Real processes, real SIGKILL.

Figures are printed: `pytest -rP tests/system/test_watchdog.py`.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cronq.clock import boot_s
from cronq.process import system as process
from cronq.process import watchdog_process as keeper
from cronq.process.watchdog import Child, ChildExit, Watchdog, WatchdogDied
from tests.system.guarded_family import daemonize, family, flee

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc"), pytest.mark.timing]

ROOT = Path(__file__).parents[2]
#: So many processes that change pid, session and parent without pause for 20 s; the first leaves after 0.3 s.
HOPPER = """
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(int count, char **words) {
  time_t end = time(0) + 20;
  if (fork()) { usleep(300000); return 0; }
  setsid();
  for (int i = 1; i < atoi(words[1]); i++) if (fork() == 0) { setsid(); break; }
  while (time(0) < end) { if (fork() > 0) _exit(0); setsid(); }
}
"""
PRELUDE = """
import os, signal, socket, subprocess, sys, threading, time
import cronq.process.watchdog_process, cronq.process.system, cronq.process.watchdog
from cronq.clock import boot_s
from cronq.process.watchdog import Watchdog, WatchdogDied
from tests.system.guarded_family import family, say
directory = sys.argv[1]
watchdog = Watchdog(family)
"""


def is_running(pid: int) -> bool:
    """A zombie does not run: it only waits for its parent to read its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(fact: Callable[[], Any], within_s: float = 10.0) -> float:
    """Poll until *fact* holds; how long that took, in seconds."""
    begun = boot_s()
    while not fact():
        assert boot_s() - begun < within_s, f"not within {within_s} s"
        time.sleep(0.001)
    return boot_s() - begun


def until_gone(pids: Mapping[str, int], within_s: float = 1.0) -> float:
    def check() -> bool:
        return not any(map(is_running, pids.values()))

    try:
        return until(check, within_s)
    except AssertionError:
        left = {name: pid for name, pid in pids.items() if is_running(pid)}
        pytest.fail(f"after {within_s} s there are still {left}")


def marked(mark: str) -> list[int]:
    """Running processes whose environment or arguments hold *mark*: the guardian, its forks, what they executed."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            known = Path(f"/proc/{name}/environ").read_bytes() + Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in known and int(name) != os.getpid() and is_running(int(name)):
            found.append(int(name))
    return found


def tell(figures: str) -> None:
    sys.stdout.write(figures + "\n")


def sleep(order: Mapping[str, Any], result: BinaryIO) -> int:
    time.sleep(order.get("seconds", 60.0))
    return 0


class Heard:
    """A sink that counts."""

    has_room = True

    def __init__(self) -> None:
        self.size = 0

    def put(self, stream: int, data: bytes) -> None:
        self.size += len(data)

    def settle(self) -> None:
        pass


class Script:
    """A guardian of its own: a Python process that says lines of JSON, whose family is known by pid."""

    def __init__(self, directory: Path, body: str) -> None:
        self.directory = directory
        self.pids: dict[str, int] = {}
        self._text = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + body, str(directory)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        self.pid = self.process.pid

    def hear(self, within_s: float = 20.0) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout is not None
        fd, end = self.process.stdout.fileno(), boot_s() + within_s
        while b"\n" not in self._text:
            assert select.select([fd], [], [], max(0.0, end - boot_s()))[0], "the guardian says nothing"
            data = os.read(fd, 65536)
            assert data, "the guardian ended"
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        facts: dict[str, Any] = json.loads(line)
        self.pids |= {name: value for name, value in facts.items() if name in ("watchdog", "helper")}
        return facts

    def family(self) -> dict[str, int]:
        """Everybody below the guardian, as soon as all are there."""
        path = self.directory / "family"
        until(path.exists)
        self.pids |= json.loads(path.read_text())
        return dict(self.pids)

    def end(self) -> None:
        for pid in (self.pid, *self.pids.values()):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[str], Script]]:
    started: list[Script] = []

    def start(body: str) -> Script:
        started.append(Script(tmp_path, body))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def guard() -> Iterator[Callable[..., Watchdog]]:
    """Starts a watchdog of this very process."""
    started: list[Watchdog] = []

    def start(child_main: Callable[[Mapping[str, Any], BinaryIO], int]) -> Watchdog:
        watchdog = Watchdog(child_main)
        started.append(watchdog)
        watchdog.start()
        return watchdog

    yield start
    for each in started:
        each.close()


def ended(child: Child, within_s: float = 10.0) -> ChildExit:
    end = boot_s() + within_s
    while (ending := child.wait(1.0)) is None:
        assert boot_s() < end, "the child does not end"
    return ending


SPAWN_AND_WAIT = """
watchdog.start()
child = watchdog.spawn({"directory": directory, "stubborn": True})
say(watchdog=watchdog.pid)
child.wait(None)
"""


class TestWhoDies:
    @pytest.mark.parametrize("how", ["pidfd and EOF", "EOF alone", "children by /proc scan", "no prctl"])
    def test_when_the_guardian_is_killed_all_are_gone_within_a_second(
        self, script: Callable[[str], Script], how: str
    ) -> None:
        patch = {
            "pidfd and EOF": "",
            "EOF alone": "cronq.process.watchdog_process.pidfd = lambda pid: None",
            "children by /proc scan": (
                "cronq.process.watchdog_process.own_children = cronq.process.system._children_by_scan"
            ),
            "no prctl": "cronq.process.system._prctl = None; cronq.process.watchdog_process.HAS_PRCTL = False\n"
            "cronq.process.watchdog_process.own_children = lambda: set()",
        }[how]
        guardian = script(patch + SPAWN_AND_WAIT)
        guardian.hear()
        everybody = guardian.family()
        if how == "no prctl":  # all that can be promised there
            everybody = {name: everybody[name] for name in ("child", "plain")}

        os.kill(guardian.pid, signal.SIGKILL)

        tell(f"guardian killed ({how}): all gone after {until_gone(everybody) * 1000:.1f} ms")

    @pytest.mark.parametrize("whom", ["the child too", "its whole process group"])
    def test_when_more_than_the_guardian_is_killed_all_are_gone_within_a_second(
        self, script: Callable[[str], Script], whom: str
    ) -> None:
        guardian = script(SPAWN_AND_WAIT)
        guardian.hear()
        everybody = guardian.family()

        if whom == "the child too":
            os.kill(guardian.pid, signal.SIGKILL)
            os.kill(everybody["child"], signal.SIGKILL)
        else:
            os.killpg(guardian.pid, signal.SIGKILL)

        tell(f"guardian and {whom} killed: all gone after {until_gone(everybody) * 1000:.1f} ms")

    def test_a_fork_of_the_guardian_that_holds_the_socket_does_not_keep_the_family_alive(
        self, script: Callable[[str], Script]
    ) -> None:
        guardian = script("""
watchdog.start()
child = watchdog.spawn({"directory": directory})
helper = os.fork()
if helper == 0:
    while True:
        time.sleep(100)
say(watchdog=watchdog.pid, helper=helper)
child.wait(None)
""")
        guardian.hear()
        everybody = guardian.family()
        helper = everybody.pop("helper")

        os.kill(guardian.pid, signal.SIGKILL)

        until_gone(everybody)
        assert is_running(helper)

    def test_a_guardian_that_dies_within_an_order_takes_its_watchdog_along(
        self, script: Callable[[str], Script]
    ) -> None:
        guardian = script("""
watchdog.start()
watchdog._channel._sock.sendall(watchdog._channel._lengths.pack(10, 3000000) + b"half a fra")
say(watchdog=watchdog.pid)
os.kill(os.getpid(), signal.SIGKILL)
""")
        watchdog = guardian.hear()["watchdog"]

        until_gone({"watchdog": watchdog})

    def test_when_the_watchdog_is_killed_all_are_gone_and_the_next_one_works(
        self, script: Callable[[str], Script]
    ) -> None:
        guardian = script("""
quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
before = subprocess.Popen(["sleep", "1000"], start_new_session=True, **quiet)
watchdog.start()
child = watchdog.spawn({"directory": directory, "stubborn": True})
during = subprocess.Popen(["sleep", "1000"], **quiet)
say(watchdog=watchdog.pid)
try:
    child.wait(None)
except WatchdogDied as error:
    mine = [before.poll() is None, during.poll() is None]
    say(error=str(error), alive=watchdog.alive, mine=mine, children=sorted(cronq.process.system.own_children()))
before.kill(), during.kill(), before.wait(), during.wait()
watchdog.start()
os.remove(directory + "/family")
child = watchdog.spawn({"directory": directory, "leave": True})
exit = child.wait(10)
say(watchdog=watchdog.pid, status=exit.status, leftovers=exit.leftovers)
watchdog.close()
""")
        guardian.hear()
        everybody = guardian.family()

        os.kill(everybody["watchdog"], signal.SIGKILL)

        took = until_gone(everybody)
        facts = guardian.hear()
        assert "died" in facts["error"]
        assert not facts["alive"]
        assert facts["mine"] == [True, True], "the guardian's own children are not the run's"
        assert len(facts["children"]) == 2, "nothing of the run is left, not even a zombie"
        assert guardian.hear()["leftovers"] == 3
        assert guardian.process.wait(10) == 0
        tell(f"watchdog killed: all gone after {took * 1000:.1f} ms")

    def test_a_watchdog_that_hangs_is_killed_with_all_it_guards(self, script: Callable[[str], Script]) -> None:
        guardian = script(
            """
cronq.process.watchdog._PATIENCE_S = 0.5
watchdog.start()
child = watchdog.spawn({"directory": directory, "stubborn": True})
say(watchdog=watchdog.pid)
sys.stdin.readline()
os.kill(watchdog.pid, signal.SIGSTOP)
child.kill_all()
try:
    child.wait(None)
except WatchdogDied as error:
    say(error=str(error), children=sorted(cronq.process.system.own_children()))
""".replace("sys.stdin.readline()", "while not os.path.exists(directory + '/family'): time.sleep(0.01)")
        )
        guardian.hear()
        everybody = guardian.family()

        facts = guardian.hear()

        assert "unreported" in facts["error"]
        assert facts["children"] == []
        until_gone(everybody, 0.1)

    def test_a_stopped_watchdog_s_child_is_dead_at_the_deadline(self, script: Callable[[str], Script]) -> None:
        guardian = script("""
watchdog.start()
deadline = boot_s() + 2.5
child = watchdog.spawn({"directory": directory, "stubborn": True}, deadline_boot_s=deadline)
say(watchdog=watchdog.pid, deadline=deadline)
while not os.path.exists(directory + "/family"): time.sleep(0.01)
os.kill(watchdog.pid, signal.SIGSTOP)
try:
    while child.wait(1.0) is None: pass
except WatchdogDied:
    say(ended=boot_s(), children=sorted(cronq.process.system.own_children()))
""")
        deadline = guardian.hear()["deadline"]
        everybody = guardian.family()

        facts = guardian.hear()

        assert facts["children"] == []
        until_gone(everybody, 0.1)
        assert 0 < facts["ended"] - deadline < 0.5  # a lock ends 0.1 s later; the rest is for a busy machine
        tell(f"watchdog stopped: all gone {(facts['ended'] - deadline) * 1000:.1f} ms after the deadline")

    def test_a_stopped_watchdog_is_noticed_also_while_its_child_prints_without_pause(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def chatter(order: Mapping[str, Any], result: BinaryIO) -> int:
            while True:
                os.write(1, b"x" * 100)

        monkeypatch.setattr("cronq.process.watchdog._PATIENCE_S", 0.5)
        heard = Heard()
        watchdog = Watchdog(chatter, heard)
        watchdog.start()
        try:
            child = watchdog.spawn({})
            until(lambda: child.wait(0.05) or heard.size)
            assert watchdog.pid is not None
            os.kill(watchdog.pid, signal.SIGSTOP)
            child.kill_all()

            with pytest.raises(WatchdogDied, match="unreported"):
                until(lambda: child.wait(0.3), 20)
        finally:
            watchdog.close()
        assert not is_running(child.pid)

    def test_a_stopped_guardian_s_child_is_dead_before_the_deadline(self, script: Callable[[str], Script]) -> None:
        guardian = script("""
watchdog.start()
deadline = boot_s() + 1.5
child = watchdog.spawn({"directory": directory, "stubborn": True}, deadline_boot_s=deadline)
say(watchdog=watchdog.pid, deadline=deadline)
exit = child.wait(None)
say(status=exit.status, ended_by=exit.ended_by, leftovers=exit.leftovers)
watchdog.close()
""")
        deadline = guardian.hear()["deadline"]
        everybody = guardian.family()
        watchdog = everybody.pop("watchdog")

        os.kill(guardian.pid, signal.SIGSTOP)
        until_gone(everybody, 5.0)
        early = deadline - boot_s()

        assert 0 < early < 0.5
        assert is_running(watchdog)
        os.kill(guardian.pid, signal.SIGCONT)
        assert guardian.hear() == {"status": -9, "ended_by": "deadline", "leftovers": 3}
        tell(f"guardian stopped: all gone {early * 1000:.1f} ms before the deadline")

    def test_whenever_one_of_them_is_killed_nothing_stays(self, script: Callable[[str], Script]) -> None:
        chance = random.Random(20261121)
        slowest = 0.0
        for n in range(24):
            mark = f"cronq_test_{os.getpid()}_{n}"
            guardian = script(f"""
os.environ["CRONQ_TEST_MARK"] = {mark!r}  # seen in what is executed from here on
from tests.system.guarded_family import brood
watchdog = Watchdog(brood)
while True:
    watchdog.start()
    say(watchdog=watchdog.pid)
    try:
        while True:
            watchdog.spawn({{}}).wait(None)
    except WatchdogDied:
        pass
""")
            victims = [guardian.hear()["watchdog"]] if n % 3 == 0 else []
            for victim in (*victims, guardian.pid):
                time.sleep(chance.uniform(0, 0.03))  # any moment will do: nothing is waited for
                os.kill(victim, signal.SIGKILL)
                if victim != guardian.pid:
                    guardian.hear()

            slowest = max(slowest, until(lambda mark=mark: not marked(mark), 1.0))  # type: ignore[misc]
        tell(f"killed at {n + 1} random moments: all gone after at most {slowest * 1000:.1f} ms")

    def test_ctrl_c_in_the_terminal_leaves_the_watchdog_and_the_child_to_the_guardian(
        self, script: Callable[[str], Script]
    ) -> None:
        guardian = script("""
watchdog.start()
signal.signal(signal.SIGINT, lambda *_: watchdog.wake())
child = watchdog.spawn({"directory": directory})
say(watchdog=watchdog.pid)
woken = child.wait(None)
say(woken=woken is None, alive=watchdog.alive, running=child.wait(0) is None)
child.signal(signal.SIGTERM)
exit = child.wait(10)
say(status=exit.status, ended_by=exit.ended_by)
watchdog.close()
""")
        guardian.hear()
        everybody = guardian.family()

        os.killpg(guardian.pid, signal.SIGINT)

        assert guardian.hear() == {"woken": True, "alive": True, "running": True}
        assert guardian.hear() == {"status": -15, "ended_by": None}
        until_gone(everybody)
        assert guardian.process.wait(10) == 0

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP])
    def test_the_watchdog_ignores_what_a_terminal_or_a_supervisor_sends(
        self, guard: Callable[..., Watchdog], signum: signal.Signals
    ) -> None:
        watchdog = guard(lambda order, result: 7)
        assert watchdog.pid is not None
        ended(watchdog.spawn({}))  # by now it has its handlers

        os.kill(watchdog.pid, signum)

        assert ended(watchdog.spawn({})).status == 7


class TestKilling:
    @pytest.mark.parametrize("busy", [True, False])
    def test_kill_all_ends_a_child_that_no_signal_reaches_and_all_its_descendants(
        self, guard: Callable[..., Watchdog], tmp_path: Path, busy: bool
    ) -> None:
        watchdog = guard(family)
        child = watchdog.spawn({"directory": str(tmp_path), "stubborn": True, "busy": busy})
        until((tmp_path / "family").exists)
        pids = json.loads((tmp_path / "family").read_text())
        child.signal(signal.SIGTERM)
        until(lambda: not is_running(pids["plain"]))
        assert child.wait(0.1) is None

        begun = boot_s()
        child.kill_all()
        ending = ended(child)

        tell(f"kill_all, {busy=}: reported after {(boot_s() - begun) * 1000:.1f} ms")
        assert not any(map(is_running, pids.values()))
        assert (ending.status, ending.ended_by, ending.leftovers) == (-9, "guardian", 2)
        assert ending.survivors == ()

    def test_what_a_child_leaves_behind_is_killed_before_its_end_is_reported(
        self, guard: Callable[..., Watchdog], tmp_path: Path
    ) -> None:
        watchdog = guard(family)

        ending = ended(watchdog.spawn({"directory": str(tmp_path), "leave": True}))

        pids = json.loads((tmp_path / "family").read_text())
        assert not any(map(is_running, pids.values()))
        assert (ending.status, ending.ended_by, ending.leftovers) == (0, None, 3)

    def test_a_process_that_forks_and_leaves_for_ever_is_caught(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(flee)

        for _ in range(5):
            begun = boot_s()
            ending = ended(watchdog.spawn({}))
            tell(f"fleeing process caught after {(boot_s() - begun) * 1000:.1f} ms")
            assert ending.survivors == ()
            assert ending.leftovers >= 1  # one that was killed may just have forked the next

    @pytest.mark.skipif(shutil.which("cc") is None, reason="it takes a compiled program to fork that fast")
    def test_many_processes_that_fork_and_leave_for_ever_are_caught_too(
        self, guard: Callable[..., Watchdog], tmp_path: Path
    ) -> None:
        (tmp_path / "hop.c").write_text(HOPPER)
        hopper = str(tmp_path / "hop")
        subprocess.run(["cc", "-O1", "-o", hopper, str(tmp_path / "hop.c")], check=True)
        watchdog = guard(lambda order, result: os.execv(hopper, [hopper, order["count"]]))

        try:
            for count in ("1", "64"):
                child = watchdog.spawn({"count": count})
                begun = boot_s()
                ending = ended(child)
                tell(f"{count} hopping processes caught after {(boot_s() - begun) * 1000:.1f} ms")
                assert ending.survivors == ()
                assert marked(hopper) == []
                assert boot_s() - begun < 0.3 + 2 * keeper.SWEEP_S
        finally:
            for pid in marked(hopper):
                process.kill(pid, signal.SIGKILL)

    @pytest.mark.parametrize("who", ["session", "child"])
    def test_what_cannot_be_killed_is_named_and_holds_nobody_up(
        self,
        guard: Callable[..., Watchdog],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        who: str,
    ) -> None:
        def kill_but_one(pid: int, signum: int) -> None:
            if abs(pid) != json.loads((tmp_path / "family").read_text())[who]:
                process.kill(pid, signum)

        monkeypatch.setattr(keeper, "SWEEP_S", 0.3)
        monkeypatch.setattr(keeper, "kill", kill_but_one)
        watchdog = guard(lambda order, result: family(order, result) if "directory" in order else 4)
        child = watchdog.spawn({"directory": str(tmp_path)})
        until((tmp_path / "family").exists)
        pids = json.loads((tmp_path / "family").read_text())

        try:
            child.kill_all()
            ending = ended(child)
            begun = boot_s()
            after = ended(watchdog.spawn({}))
            took = boot_s() - begun
        finally:
            os.kill(pids[who], signal.SIGKILL)

        assert (ending.status, ending.ended_by, ending.survivors) == (-9, "guardian", (pids[who],))
        told = [message for message in caplog.messages if not message.startswith("THREADS")]  # of tests before this one
        assert told == [f"SURVIVORS pids {pids[who]} cannot be killed"], "once, whatever runs later"
        assert (after.status, after.leftovers) == (4, 0)
        assert took < 0.3
        until(lambda: ended(watchdog.spawn({})).survivors == ())

    def test_a_signal_reaches_the_ordinary_children_of_the_child(
        self, guard: Callable[..., Watchdog], tmp_path: Path
    ) -> None:
        watchdog = guard(family)
        child = watchdog.spawn({"directory": str(tmp_path), "stubborn": True})
        until((tmp_path / "family").exists)
        pids = json.loads((tmp_path / "family").read_text())

        child.signal(signal.SIGTERM)  # the child itself ignores it

        until(lambda: not is_running(pids["plain"]))
        assert is_running(pids["child"])
        assert is_running(pids["daemon"])

    def test_a_signal_right_after_the_spawn_is_not_lost(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(sleep)

        for _ in range(50):
            child = watchdog.spawn({})
            child.signal(signal.SIGTERM)
            assert ended(child).status == -15

    def test_words_to_a_child_that_is_gone_do_nothing_to_the_next(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(lambda order, result: 3)
        first = watchdog.spawn({})
        until(
            lambda: watchdog._heard or process.readable([watchdog._channel], 0)
        )  # its end is reported, and not yet read
        first.signal(signal.SIGKILL)
        first.kill_all()
        first.extend(0.0)
        assert ended(first).status == 3

        second = watchdog.spawn({})
        first.signal(signal.SIGKILL)
        first.kill_all()
        first.extend(0.0)

        assert ended(second).status == 3

    def test_extensions_from_another_thread_move_the_deadline(self, guard: Callable[..., Watchdog]) -> None:
        def live(order: Mapping[str, Any], result: BinaryIO) -> int:
            while True:
                os.pwrite(result.fileno(), f"{boot_s():20.6f}".encode(), 0)
                time.sleep(0.001)

        watchdog = guard(live)
        begun = boot_s()
        child = watchdog.spawn({}, deadline_boot_s=begun + 1.0)
        deadlines: list[float] = []

        def renew() -> None:
            while boot_s() < begun + 1.5:
                deadlines.append(boot_s() + 1.0)
                child.extend(deadlines[-1])
                time.sleep(0.05)

        thread = threading.Thread(target=renew)
        thread.start()
        ending = ended(child)
        thread.join()
        early = deadlines[-1] - float(child.result.read())

        tell(f"deadline: the child died {early * 1000:.1f} ms before it")
        assert (ending.status, ending.ended_by) == (-9, "deadline")
        assert 0 < early < 0.5

    def test_a_lifted_deadline_is_none(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(sleep)
        child = watchdog.spawn({"seconds": 1.2}, deadline_boot_s=boot_s() + 1.0)

        child.extend(None)

        assert ended(child).status == 0

    def test_past_its_deadline_nothing_begins(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(lambda order, result: result.write(b"ran"))

        child = watchdog.spawn({}, deadline_boot_s=boot_s() - 1)

        assert ended(child).ended_by == "deadline"
        assert child.result.read() == b""

    def test_one_that_begins_late_begins_by_the_deadline_that_was_extended_meanwhile(
        self, guard: Callable[..., Watchdog], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(order: Mapping[str, Any], result: BinaryIO) -> int:
            result.write(b"ran")
            return 0

        def come_late(name: str) -> None:
            if name == "cronq-child":  # on a busy machine, between its fork and its work
                time.sleep(0.6)

        monkeypatch.setattr(keeper, "set_name", come_late)
        child = guard(run).spawn({}, deadline_boot_s=boot_s() + 0.5)

        child.extend(boot_s() + 60)

        assert (ended(child).status, child.result.read()) == (0, b"ran")


class TestTheChild:
    @pytest.mark.parametrize(
        ("what", "status", "words"),
        [
            ("return 0", 0, ""),
            ("return 7", 7, ""),
            ("return 256", 1, ""),
            ("raise KeyError('gone')", 1, "KeyError: 'gone'"),
            ("sys.exit(5)", 5, ""),
            ("sys.exit()", 0, ""),
            ("sys.exit('no luck')", 1, "no luck"),
            ("return 'nonsense'", 1, "TypeError"),
            ("os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
            ("os.kill(os.getpid(), signal.SIGINT)", -2, ""),
            ("os.kill(os.getpid(), signal.SIGSEGV)", -11, ""),
            ("os.execvp('sh', ['sh', '-c', 'exit 9'])", 9, ""),
        ],
    )
    def test_its_end_is_told_as_it_was(
        self, guard: Callable[..., Watchdog], tmp_path: Path, what: str, status: int, words: str
    ) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            names: dict[str, Any] = {}
            exec(f"import os, signal, sys\ndef work():\n    {order['what']}", names)
            return names["work"]()  # type: ignore[no-any-return]

        watchdog = guard(child_main)
        with (tmp_path / "err").open("wb") as stderr:
            ending = ended(watchdog.spawn({"what": what}, stderr=stderr.fileno()))

        assert (ending.status, ending.ended_by, ending.leftovers) == (status, None, 0)
        assert words in (tmp_path / "err").read_text()
        assert bool(words) == bool((tmp_path / "err").read_text())

    def test_what_it_used_is_told(self, guard: Callable[..., Watchdog]) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            block = bytearray(os.urandom(1)) * 100_000_000
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
            return len(block) & 0

        ending = ended(guard(child_main).spawn({}))

        inherited_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the child was forked from this process
        assert 100_000 < ending.max_rss_kib < 300_000 + inherited_kib
        assert 0.2 < ending.user_s + ending.system_s < 2.0

    def test_when_it_took_up_its_work_is_told_by_its_own_clock(self, guard: Callable[..., Watchdog]) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            result.write(repr(boot_s()).encode())
            return 0

        watchdog = guard(child_main)
        assert watchdog.pid is not None
        for held_s in (0.0, 0.5):
            os.kill(watchdog.pid, signal.SIGSTOP)
            waker = threading.Timer(held_s, os.kill, (watchdog.pid, signal.SIGCONT))
            asked = boot_s()
            waker.start()
            child = watchdog.spawn({})
            ending = ended(child)
            waker.join()

            assert ending.begun_boot_s is not None
            assert asked + held_s <= ending.begun_boot_s <= float(child.result.read()) <= ending.begun_boot_s + 0.2

    @pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.execvp('true', ['true'])"])
    def test_when_it_took_up_its_work_is_told_however_it_ends(self, guard: Callable[..., Watchdog], end: str) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            os.closerange(0, 1024)
            exec(order["end"])
            return 0

        watchdog = guard(child_main)
        asked = boot_s()
        ending = ended(watchdog.spawn({"end": end}))

        assert ending.begun_boot_s is not None
        assert asked < ending.begun_boot_s < boot_s()

    def test_one_that_came_too_late_never_took_up_its_work(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(sleep)
        assert ended(watchdog.spawn({"seconds": 0})).begun_boot_s is not None

        assert ended(watchdog.spawn({}, deadline_boot_s=boot_s() + 0.1)).begun_boot_s is None

    def test_a_large_order_arrives_and_a_large_result_comes_back(self, guard: Callable[..., Watchdog]) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            result.write(order["text"][::-1].encode())
            return 0

        watchdog = guard(child_main)
        text = "".join(random.Random(1).choices("abcä€", k=3_000_000))
        begun = boot_s()
        child = watchdog.spawn({"text": text})

        assert ended(child).status == 0
        tell(f"order of 3 MB and back: {(boot_s() - begun) * 1000:.0f} ms")
        assert child.result.read().decode() == text[::-1]

    def test_a_full_disk_does_not_keep_a_result_from_coming_back(
        self, guard: Callable[..., Watchdog], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def disk_full(*_: object, **__: object) -> BinaryIO:
            raise OSError(errno.ENOSPC, "No space left on device")

        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            result.write(b"here")
            return 0

        monkeypatch.setattr(tempfile, "TemporaryFile", disk_full)
        child = guard(child_main).spawn({})

        assert ended(child).status == 0
        assert child.result.read() == b"here"

    def test_its_output_goes_where_the_order_says(self, guard: Callable[..., Watchdog]) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            os.write(1, b"to stdout\n")
            sys.stderr.flush()
            os.execvp("sh", ["sh", "-c", "echo from a command; echo to stderr >&2"])

        watchdog = guard(child_main)
        (out, out_in), (err, err_in) = os.pipe(), os.pipe()
        child = watchdog.spawn({}, stdout=out_in, stderr=err_in)
        os.close(out_in)
        os.close(err_in)

        with os.fdopen(out, "rb") as stdout, os.fdopen(err, "rb") as stderr:  # each ends: nobody else holds it
            assert stdout.read() == b"to stdout\nfrom a command\n"
            assert stderr.read() == b"to stderr\n"
        assert ended(child).status == 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, of whom /proc tells the tests all the same")
    def test_only_the_watchdog_is_kept_from_others_of_its_user(self, script: Callable[[str], Script]) -> None:
        guardian = script("""
watchdog = Watchdog(lambda order, result: time.sleep(60) or 0)
os.setgid(65534), os.setuid(65534)
watchdog.start()
child = watchdog.spawn({})
until = boot_s() + 10
owner = lambda pid: os.stat(f"/proc/{pid}/environ").st_uid
while owner(child.pid) == 0 and boot_s() < until: time.sleep(0.01)
say(watchdog=owner(watchdog.pid), child=owner(child.pid))
child.end()
watchdog.close()
""")
        assert guardian.hear() == {"watchdog": 0, "child": 65534}

    def test_the_watchdog_loads_nothing_once_it_is_loaded(self, script: Callable[[str], Script]) -> None:
        """A deploy may have replaced the environment since, and the guardian may have become a user it is closed to."""
        guardian = script("""
watchdog = Watchdog(lambda order, result: 0)
sys.path.clear(), sys.path_importer_cache.clear(), sys.meta_path.clear()
watchdog.start()
ending = watchdog.spawn({}).wait(10)
say(status=ending and ending.status)
watchdog.close()
""")
        assert guardian.hear() == {"status": 0}

    def test_it_sees_no_socket_or_pipe_of_the_guardian_and_reads_nothing(self, guard: Callable[..., Watchdog]) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            files = {}
            for name in os.listdir("/proc/self/fd"):
                if int(name) > 2 and int(name) != result.fileno() and os.path.exists(f"/proc/self/fd/{name}"):
                    files[name] = os.readlink(f"/proc/self/fd/{name}")
            result.write(json.dumps([files, sys.stdin is None or os.read(0, 1).decode()]).encode())
            if "command" in order:
                result.flush()
                os.execvp("sh", ["sh", "-c", "echo /proc/self/fd/*; cat; grep -E 'Sig(Blk|Ign)' /proc/self/status"])
            return 0

        with socket.create_server(("127.0.0.1", 0)) as early, socket.socket() as bare:
            ends = os.pipe()
            os.set_inheritable(ends[1], True)
            watchdog = guard(child_main)
            with socket.create_server(("127.0.0.1", 0)) as late, open(__file__) as late_file:
                child = watchdog.spawn({})
                assert ended(child).status == 0
                files, read = json.loads(child.result.read())
                out, out_in = os.pipe()
                command = watchdog.spawn({"command": True}, stdout=out_in)
                os.close(out_in)
                with os.fdopen(out) as stdout:
                    lines = stdout.read().splitlines()
                assert ended(command).status == 0
            assert {early, bare, late, late_file}
            for end in ends:
                os.close(end)

        assert read == ""
        assert not [link for link in files.values() if link.startswith(("socket:", "pipe:", "anon_inode:"))]
        assert __file__ not in files.values()
        assert lines[0].split() in (
            [f"/proc/self/fd/{n}" for n in (0, 1, 2)],
            [f"/proc/self/fd/{n}" for n in (0, 1, 2, 3)],  # the shell's own, of the directory it lists
        )
        ours = sum(1 << (number - 1) for number in signal.valid_signals())  # the others are the C library's own
        assert [int(line.split()[1], 16) & ours for line in lines[1:]] == [0, 0], "no signal is blocked or ignored"

    def test_log_files_opened_before_the_start_still_work(self, guard: Callable[..., Watchdog], tmp_path: Path) -> None:
        with (tmp_path / "log").open("w", buffering=1) as file:
            watchdog = guard(lambda order, result: file.write("from the child\n"))
            ended(watchdog.spawn({}))

        assert (tmp_path / "log").read_text() == "from the child\n"

    def test_it_leads_a_group_has_defaults_and_its_own_random_numbers(self, guard: Callable[..., Watchdog]) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in ("self", os.getppid())]
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)]
            is_clean = not blocked and all(handler == signal.SIG_DFL for handler in handlers)
            is_clean = is_clean and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)  # pytest-timeout has set one
            facts = [os.getpgrp() == os.getpid(), names, is_clean, random.random()]
            result.write(json.dumps(facts).encode())
            return 0

        watchdog = guard(child_main)
        seen = []
        for _ in range(2):
            child = watchdog.spawn({})
            assert ended(child).status == 0
            seen.append(json.loads(child.result.read()))

        assert seen[0][:3] == [True, ["cronq-child", "cronq-watchdog"], True]
        assert seen[0][3] != seen[1][3]

    def test_a_broken_pipe_is_an_exception_to_python_and_a_signal_to_commands(
        self, guard: Callable[..., Watchdog]
    ) -> None:
        def child_main(order: Mapping[str, Any], result: BinaryIO) -> int:
            read_end, write_end = os.pipe()
            os.close(read_end)
            try:
                os.write(write_end, b"x")
            except BrokenPipeError:
                os.dup2(write_end, 1)
                os.execvp("sh", ["sh", "-c", "exec yes"])
            return 1

        assert ended(guard(child_main).spawn({})).status == -signal.SIGPIPE


class TestTheGuardian:
    def test_wake_ends_the_present_wait_and_otherwise_the_next(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(sleep)
        child = watchdog.spawn({})
        begun = boot_s()
        thread = threading.Timer(0.1, child.wake)
        thread.start()
        assert child.wait(30) is None
        thread.join()
        child.wake()
        child.wake()
        assert child.wait(30) is None
        assert boot_s() - begun < 5

        assert child.wait(0.05) is None, "two wakes are one"

    def test_hundreds_of_spawns_leave_nothing_behind_and_are_fast(self, guard: Callable[..., Watchdog]) -> None:
        def fds(pid: int) -> int:
            return len(os.listdir(f"/proc/{pid}/fd"))

        watchdog = guard(lambda order, result: 0)
        assert watchdog.pid is not None
        ended(watchdog.spawn({}))
        before = fds(os.getpid()), fds(watchdog.pid), process.own_children()
        took = []
        for _ in range(200):
            begun = time.perf_counter()
            ended(watchdog.spawn({}))
            took.append((time.perf_counter() - begun) * 1000)

        tell(f"spawn to exit: median {statistics.median(took):.2f} ms, best {min(took):.2f}, worst {max(took):.2f}")
        assert (fds(os.getpid()), fds(watchdog.pid), process.own_children()) == before
        assert Path(f"/proc/{watchdog.pid}/task/{watchdog.pid}/children").read_text() == ""

    def test_one_child_at_a_time(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(sleep)
        child = watchdog.spawn({})

        with pytest.raises(RuntimeError, match="one child at a time"):
            watchdog.spawn({})

        child.kill_all()
        ended(child)
        watchdog.spawn({})

    def test_an_order_that_is_not_json_changes_nothing(self, guard: Callable[..., Watchdog]) -> None:
        watchdog = guard(lambda order, result: 0)

        with pytest.raises(TypeError):
            watchdog.spawn({"when": object()})

        assert ended(watchdog.spawn({})).status == 0

    def test_close_ends_the_child_and_can_be_repeated_and_start_works_after_it(
        self, guard: Callable[..., Watchdog], tmp_path: Path
    ) -> None:
        before = process.own_children()
        watchdog = guard(family)
        watchdog.start()  # it runs already
        child = watchdog.spawn({"directory": str(tmp_path), "stubborn": True})
        until((tmp_path / "family").exists)

        watchdog.close()
        watchdog.close()

        assert not any(map(is_running, json.loads((tmp_path / "family").read_text()).values()))
        assert process.own_children() == before
        assert (watchdog.alive, watchdog.pid) == (False, None)
        for attempt in (lambda: child.wait(1), lambda: watchdog.spawn({})):
            with pytest.raises(WatchdogDied):
                attempt()
        watchdog.start()
        assert ended(watchdog.spawn({"directory": str(tmp_path), "leave": True})).leftovers == 3

    def test_a_watchdog_found_dead_is_an_error_at_once_and_can_be_replaced(
        self, guard: Callable[..., Watchdog], caplog: pytest.LogCaptureFixture
    ) -> None:
        watchdog = guard(lambda order, result: 6)
        assert watchdog.pid is not None
        os.kill(watchdog.pid, signal.SIGKILL)
        until(lambda: not watchdog.alive)

        with pytest.raises(WatchdogDied):
            watchdog.spawn({})

        caplog.clear()  # of what threads of other tests may have caused
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        watchdog.start()
        stop.set()
        thread.join()
        [said] = [record.getMessage() for record in caplog.records]
        assert said.startswith("THREADS ")
        assert "while the watchdog is forked" in said
        assert ended(watchdog.spawn({})).status == 6

    def test_an_exception_out_of_a_signal_handler_during_a_spawn_leaves_no_child_unowned(
        self, guard: Callable[..., Watchdog], tmp_path: Path
    ) -> None:
        watchdog = guard(family)
        assert watchdog.pid is not None
        ended(watchdog.spawn({"directory": str(tmp_path), "leave": True}))
        os.kill(watchdog.pid, signal.SIGSTOP)  # so that the answer does not come first

        def handle(*_: object) -> None:
            raise InterruptedError("out of a handler")

        previous = signal.signal(signal.SIGUSR1, handle)
        thread = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        thread.start()
        try:
            with pytest.raises(InterruptedError):
                watchdog.spawn({"directory": str(tmp_path)})
        finally:
            thread.join()
            signal.signal(signal.SIGUSR1, previous)

        assert not watchdog.alive


def test_children_are_found_with_and_without_the_kernel_s_list() -> None:
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        try:
            assert sleeper.pid in process.own_children()
            assert process._children_by_scan() == process.own_children()
        finally:
            sleeper.kill()


def test_a_daemon_is_really_out_of_reach_of_its_parent_and_group(tmp_path: Path) -> None:
    """A negative control: without a watchdog the family's daemon does survive."""
    daemonize(tmp_path / "daemon")
    daemon = int((tmp_path / "daemon").read_text())
    try:
        assert daemon not in process.own_children()
        assert os.getsid(daemon) != os.getsid(0)
    finally:
        os.kill(daemon, signal.SIGKILL)
