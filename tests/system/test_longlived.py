"""A child that does many runs: whatever one leaves, the next finds a clean one, and each run has its own end."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cronq.clock import boot_s
from cronq.errors import CronqError
from cronq.process import inventory
from cronq.process.inventory import CHECKS
from cronq.process.kept_child import ChildLimits
from cronq.process.once import KINDS, once_per_child
from cronq.process.system import own_children
from cronq.process.watchdog import Child, ChildExit, Watchdog, WatchdogDied
from tests.system import dirty_jobs
from tests.system.dirty_jobs import DIRT
from tests.system.test_watchdog import Script, ended, is_running, script, tell, until, until_gone

__all__ = ["script"]
pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc"), pytest.mark.timing]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another")


class Paper:
    """A sink that keeps all."""

    has_room = True

    def __init__(self) -> None:
        self.text = b""

    def put(self, stream: int, data: bytes) -> None:
        self.text += data

    def settle(self) -> None:
        pass


class Guarded:
    """A watchdog of this process and what its children print."""

    def __init__(self, limits: ChildLimits) -> None:
        self.paper = Paper()
        self.watchdog = Watchdog(dirty_jobs.main, self.paper, limits=limits)
        self.watchdog.start()
        self.number = 0

    def begin(self, do: str, deadline: float | None = None, *, notes: bool = False, **order: Any) -> Child:
        self.number += 1
        order |= {"do": do, "number": self.number}
        return self.watchdog.spawn(order, deadline_boot_s=deadline, is_reusable=True, notes=notes)

    def run(self, do: str, **order: Any) -> tuple[ChildExit, Any, int]:
        """How it ended, what it left (checked to be its own), and the pid of the child that did it."""
        child = self.begin(do, **order)
        ending = ended(child)
        return ending, self.value(child), child.pid

    def value(self, child: Child) -> Any:
        raw = child.result.read()
        if not raw:
            return None
        number, value = json.loads(raw)
        assert number == self.number, "the result of another run"
        return value

    def assert_clean(self, *, but: int = 0) -> int:
        """The next run finds nothing, ends well, and its child stays. Returns the pid, which is not *but*."""
        ending, found, pid = self.run("nothing", state=True)
        assert (ending.status, ending.replaced, ending.leftovers, ending.ended_by) == (0, None, 0, None)
        again, same, second = self.run("nothing", state=True)
        assert (again.status, again.replaced, second) == (0, None, pid)
        assert found == same
        assert pid != but
        assert found["variables"] == []
        assert found["kept"] == 0
        assert found["threads"] == 1
        assert found["usr1"] == "0"
        return pid

    def descendants(self) -> set[int]:
        assert self.watchdog.pid is not None
        listed = Path(f"/proc/{self.watchdog.pid}/task/{self.watchdog.pid}/children").read_text()
        return set(map(int, listed.split()))


@pytest.fixture
def guarded() -> Iterator[Callable[..., Guarded]]:
    made: list[Guarded] = []

    def make(**limits: Any) -> Guarded:
        made.append(Guarded(ChildLimits(**limits)))
        return made[-1]

    yield make
    for each in made:
        each.watchdog.close()


class TestDirt:
    @pytest.mark.parametrize(("kind", "job"), [(kind, job.__name__) for kind, jobs in DIRT.items() for job in jobs])
    def test_each_kind_is_seen_and_the_next_run_finds_a_clean_child(
        self, guarded: Callable[..., Guarded], kind: str, job: str
    ) -> None:
        if job == "change_the_user_and_back" and os.geteuid() != 0:
            pytest.skip("only root may become another")
        ours = guarded(growth_kib=32 * 1024)
        first = ours.assert_clean()

        ending, _, pid = ours.run(job)

        assert pid == first
        assert ending.status == 0
        assert ending.ended_by is None
        assert ending.replaced is not None
        assert kind in ending.replaced.split(",")
        assert ours.descendants() == set(), "its end was told before what it left was dead"
        assert not is_running(pid)
        ours.assert_clean(but=pid)

    def test_there_is_a_check_for_each_kind_that_may_be_named(self) -> None:
        assert tuple(CHECKS) == KINDS
        assert set(DIRT) == {*KINDS, "memory"}

    @pytest.mark.parametrize("job", ["end_threads", "open_a_file_in_a_cycle", "use_asyncio", "nothing"])
    def test_what_a_run_has_tidied_up_is_no_dirt(self, guarded: Callable[..., Guarded], job: str) -> None:
        ours = guarded()
        first = ours.assert_clean()

        endings = [ours.run(job) for _ in range(5)]

        assert {(ending.status, ending.replaced, pid) for ending, _, pid in endings} == {(0, None, first)}

    def test_each_run_has_its_own_context_and_random_numbers(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()

        found = [ours.run("bump_context")[1] for _ in range(3)]

        assert [each[:2] for each in found] == [["fresh", 28]] * 3
        assert len({each[2] for each in found}) == 3

    def test_a_clean_child_is_replaced_after_its_runs_or_its_time(self, guarded: Callable[..., Guarded]) -> None:
        few = guarded(runs=3)
        short = guarded(life_s=0.0)

        replaced = [few.run("nothing")[0].replaced for _ in range(6)]

        assert replaced == [None, None, "runs"] * 2
        assert short.run("nothing")[0].replaced == "age"

    def test_a_finalizer_runs_within_its_run(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()

        ours.run("finalize", text="one")

        assert ours.paper.text == b"the end of one"

    def test_that_the_work_went_well_is_said_before_it_is_looked_at_what_is_left(
        self, guarded: Callable[..., Guarded]
    ) -> None:
        ours = guarded()
        ours.run("nothing")

        child = ours.begin("linger", notes=True, seconds=1.0)
        assert child.wait(10) is None
        assert child.has_worked
        assert child.wait(0.1) is None

        assert ended(child).status == 0
        assert ours.value(child) is None

    @pytest.mark.parametrize(("do", "notes"), [("nothing", False), ("fail", True), ("exit_at_once", True)])
    def test_it_is_not_said_to_whom_does_not_ask_and_not_of_what_went_wrong(
        self, guarded: Callable[..., Guarded], do: str, notes: bool
    ) -> None:
        ours = guarded()
        ours.run("nothing")

        child = ours.begin(do, notes=notes, code=3)

        ended(child)
        assert not child.has_worked


class TestEnds:
    @pytest.mark.parametrize(
        ("job", "status", "replaced"),
        [
            ("fail", 3, "failed"),
            ("raise_an_error", 1, "failed"),
            ("exit_at_once", 7, "ended"),
            ("crash", -signal.SIGSEGV, "ended"),
            ("be_killed", -signal.SIGKILL, "ended"),
            ("become_a_command", 9, "ended"),
            ("leave", 0, "snoozed"),
        ],
    )
    def test_after_any_end_but_a_good_one_the_child_is_replaced(
        self, guarded: Callable[..., Guarded], job: str, status: int, replaced: str
    ) -> None:
        ours = guarded()
        first = ours.assert_clean()

        ending, _, pid = ours.run(job)

        assert (ending.status, ending.replaced, ending.ended_by, pid) == (status, replaced, None, first)
        ours.assert_clean(but=first)

    def test_exit_code_0_by_os_exit_is_that_of_a_fork(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        ours.assert_clean()

        ending, value, _ = ours.run("exit_at_once", code=0)

        assert (ending.status, value, ending.replaced) == (0, None, "ended")

    @pytest.mark.parametrize("job", ["close_all", "close_all_and_open"])
    def test_a_run_that_closes_all_descriptors_is_told_as_that_of_a_fork(
        self, guarded: Callable[..., Guarded], job: str
    ) -> None:
        ours = guarded()
        first = ours.assert_clean()

        child = ours.begin(job)
        ending = ended(child)

        assert (ending.status, ending.replaced) == (0, "ended")
        assert json.loads(child.result.read()) == [ours.number, None]
        ours.assert_clean(but=first)

    def test_junk_on_its_line_changes_no_result(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        first = ours.assert_clean()

        ending, value, _ = ours.run("write_to_all_descriptors", state=True)

        assert (ending.status, ending.replaced) == (0, "ended")
        assert value["kept"] == 0
        ours.assert_clean(but=first)

    @pytest.mark.parametrize("job", ["return_in_a_fork", "raise_in_a_fork"])
    def test_a_fork_that_comes_back_from_the_job_answers_nothing(
        self, guarded: Callable[..., Guarded], job: str
    ) -> None:
        ours = guarded()
        ours.assert_clean()

        ending, value, _ = ours.run(job)

        assert (ending.status, value) == (0, "the child")
        ours.assert_clean()

    @pytest.mark.parametrize("size", [10, 300_000, 5_000_000])
    def test_results_of_any_size_come_back_and_none_of_another_run(
        self, guarded: Callable[..., Guarded], size: int
    ) -> None:
        ours = guarded()

        for _ in range(2):
            assert len(ours.run("large", size=size)[1]) == size
            assert ours.run("nothing")[1] is None
        ending, value, _ = ours.run("exit_at_once")

        assert (ending.status, value) == (7, None)

    def test_a_large_order_arrives(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()

        for _ in range(2):
            ours.run("speak", text="x" * 3_000_000)
            assert len(ours.paper.text) == 6_000_001
            ours.paper.text = b""


class TestFigures:
    def test_they_are_those_of_the_run(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        idle = ours.run("nothing")[0]

        busy, big, after = ours.run("spend", seconds=0.3)[0], ours.run("swell", mib=100)[0], ours.run("nothing")[0]
        ours.run("spend", seconds=0.5)
        killed = ours.run("be_killed")[0]

        assert 0.25 < busy.user_s + busy.system_s < 0.6
        assert busy.max_rss_kib < idle.max_rss_kib + 10_000
        assert big.max_rss_kib > idle.max_rss_kib + 100_000
        assert after.max_rss_kib < idle.max_rss_kib + 10_000
        assert after.user_s + after.system_s < 0.1
        assert killed.user_s + killed.system_s < 0.1
        assert killed.max_rss_kib < idle.max_rss_kib + 10_000

    def test_where_the_kernel_forgets_no_peak_the_child_is_replaced_and_the_figures_are_the_same(
        self, guarded: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inventory, "reset_peak", lambda: False)
        ours = guarded()
        idle = ours.run("nothing")[0]

        big, after = ours.run("swell", mib=100)[0], ours.run("nothing")[0]

        assert (idle.replaced, big.replaced, after.replaced) == (None, "peak", None)
        assert big.max_rss_kib > idle.max_rss_kib + 100_000
        assert after.max_rss_kib < idle.max_rss_kib + 10_000

    def test_begun_is_when_the_child_took_up_this_run(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        for job in ("nothing", "nothing", "be_killed", "fail"):
            before = boot_s()
            ending = ours.run(job)[0]

            assert ending.begun_boot_s is not None
            assert before < ending.begun_boot_s < boot_s()

    def test_what_a_run_prints_is_there_when_it_has_ended_and_is_no_other_run_s(
        self, guarded: Callable[..., Guarded]
    ) -> None:
        ours = guarded()
        for number in range(20):
            ours.paper.text = b""
            ours.run("speak", text=f"run {number}\n" * number)

            assert sorted(ours.paper.text) == sorted(b"!" + f"run {number}\n".encode() * number * 2)


class TestSignalsAndDeadlines:
    def test_one_that_was_told_to_end_and_ended_well_does_no_further_run(
        self, guarded: Callable[..., Guarded], tmp_path: Path
    ) -> None:
        ours = guarded()
        first = ours.assert_clean()
        child = ours.begin("heed_term", file=str(tmp_path / "there"))
        until((tmp_path / "there").exists)

        child.signal(signal.SIGTERM)
        ending = ended(child)

        assert (ending.status, ending.replaced) == (0, "signalled")
        ours.assert_clean(but=first)

    def test_words_after_the_end_of_a_run_do_not_reach_the_next(
        self, guarded: Callable[..., Guarded], tmp_path: Path
    ) -> None:
        ours = guarded()
        first = ours.begin("nothing")
        ended(first)
        second = ours.begin("take_long", seconds=0.5, file=str(tmp_path / "there"))
        until((tmp_path / "there").exists)

        first.signal(signal.SIGKILL)
        first.extend(boot_s() - 10)
        first.kill_all()

        ending = ended(second)
        assert (ending.status, ending.replaced, second.pid) == (0, None, first.pid)

    def test_kills_ordered_at_the_last_moment_hit_no_other_run(self, guarded: Callable[..., Guarded]) -> None:
        """From another thread, at any moment around the end of runs, as the renewal of a lock does."""
        ours = guarded()
        current: list[Child] = []
        condemned: set[int] = set()
        past: list[Child] = []
        stop = threading.Event()

        def kill_now_and_then() -> None:
            while not stop.wait(random.random() * 0.004):
                if current:
                    condemned.add(id(current[0]))
                    current[0].kill_all()

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        try:
            for _ in range(400):
                child = ours.begin("nothing")
                current[:] = [child]
                ending = ended(child)
                assert ending.status == 0 or (ending.status == -signal.SIGKILL and id(child) in condemned)
                past.append(child)  # so that no other gets its id
        finally:
            stop.set()
            killer.join()
        ours.assert_clean()

    def test_its_deadline_ends_it_and_is_not_that_of_the_next(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        first = ours.assert_clean()

        late = ended(ours.begin("take_long", deadline=boot_s() + 0.5))
        within = [ended(ours.begin("take_long", deadline=boot_s() + 0.5, seconds=0.1)) for _ in range(3)]
        after = ended(ours.begin("take_long", seconds=1.0))

        assert (late.status, late.ended_by, late.replaced) == (-signal.SIGKILL, "deadline", "ended")
        assert {(each.status, each.replaced) for each in [*within, after]} == {(0, None)}
        ours.assert_clean(but=first)

    def test_a_deadline_that_passes_as_the_run_ends_hits_no_other_run(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        for _ in range(30):
            seconds = random.uniform(0.0, 0.02)
            child = ours.begin("take_long", deadline=boot_s() + 0.2 + 0.01, seconds=seconds)
            assert ended(child).status in (0, -signal.SIGKILL)

            after = ended(ours.begin("take_long", seconds=0.02))

            assert (after.status, after.ended_by) == (0, None)

    def test_extensions_hold_for_it(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        ours.assert_clean()
        child = ours.begin("take_long", deadline=boot_s() + 0.5, seconds=1.0)

        child.extend(boot_s() + 10)

        assert ended(child).status == 0

    def test_past_its_deadline_nothing_begins(self, guarded: Callable[..., Guarded], tmp_path: Path) -> None:
        ours = guarded()
        ours.assert_clean()

        ending = ended(ours.begin("take_long", deadline=boot_s(), file=str(tmp_path / "there"), seconds=0.0))

        assert (ending.status, ending.ended_by, ending.begun_boot_s) == (-signal.SIGKILL, "deadline", None)
        assert not (tmp_path / "there").exists()
        ours.assert_clean()

    def test_one_that_begins_late_begins_by_the_deadline_that_was_extended_meanwhile(
        self, guarded: Callable[..., Guarded]
    ) -> None:
        ours = guarded()
        pid = ours.assert_clean()
        os.kill(pid, signal.SIGSTOP)  # a busy machine: it reads the order only when the first deadline is over
        child = ours.begin("take_long", deadline=boot_s() + 0.5, seconds=0.0)
        child.extend(boot_s() + 60)
        time.sleep(0.6)

        os.kill(pid, signal.SIGCONT)

        assert (ended(child).status, child.pid) == (0, pid)
        ours.assert_clean()


class TestWhoDies:
    def test_one_that_is_killed_while_idle_is_replaced_silently(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        for signum in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            pid = ours.assert_clean()

            os.kill(pid, signum)

            ours.assert_clean(but=pid)

    def test_one_that_is_stopped_while_idle_and_killed_with_an_order_unread_lets_another_do_it(
        self, guarded: Callable[..., Guarded]
    ) -> None:
        ours = guarded()
        pid = ours.assert_clean()
        os.kill(pid, signal.SIGSTOP)
        child = ours.begin("nothing", state=True)
        assert child.wait(0.1) is None

        os.kill(pid, signal.SIGKILL)
        ending = ended(child)

        assert (ending.status, ending.replaced) == (0, None)
        assert ours.value(child)["kept"] == 0
        assert child.pid != pid

    @pytest.mark.parametrize("whom", ["guardian", "watchdog", "guardian and child", "guardian and watchdog"])
    @pytest.mark.parametrize("when", ["idle", "at work"])
    def test_whoever_dies_takes_it_along_within_a_second(
        self, script: Callable[[str], Script], whom: str, when: str
    ) -> None:
        guardian = script(f"""
from tests.system import dirty_jobs
watchdog = Watchdog(dirty_jobs.main)
watchdog.start()
child = watchdog.spawn({{"do": "nothing"}}, is_reusable=True)
assert child.wait(10).replaced is None
if {when == "at work"}:
    watchdog.spawn({{"do": "take_long"}}, is_reusable=True)
say(watchdog=watchdog.pid, helper=child.pid)
while True: time.sleep(100)
""")
        facts = guardian.hear()
        pids = {"child": facts["helper"]} | ({"watchdog": facts["watchdog"]} if "guardian" in whom else {})

        for name, pid in (("guardian", guardian.pid), ("watchdog", facts["watchdog"]), ("child", facts["helper"])):
            if name in whom:
                with suppress(ProcessLookupError):  # the one before has taken it along
                    os.kill(pid, signal.SIGKILL)

        tell(f"{whom} killed, child {when}: all gone after {until_gone(pids) * 1000:.1f} ms")

    @pytest.mark.parametrize("when", ["idle", "at work"])
    def test_a_watchdog_that_dies_is_an_error_and_the_next_one_works(
        self, guarded: Callable[..., Guarded], when: str
    ) -> None:
        ours = guarded()
        pid = ours.assert_clean()
        assert ours.watchdog.pid is not None
        if when == "at work":
            child = ours.begin("take_long")
            os.kill(ours.watchdog.pid, signal.SIGKILL)
            with pytest.raises(WatchdogDied):
                until(lambda: child.wait(1.0))
        else:
            os.kill(ours.watchdog.pid, signal.SIGKILL)
            until(lambda: not ours.watchdog.alive)
        until(lambda: not is_running(pid), 1.0)

        ours.watchdog.close()
        ours.watchdog.start()

        ours.assert_clean(but=pid)

    def test_a_watchdog_that_dies_while_it_ends_what_a_run_left_takes_no_answer_back(
        self, guarded: Callable[..., Guarded], tmp_path: Path
    ) -> None:
        ours = guarded()
        ours.assert_clean()
        assert ours.watchdog.pid is not None
        child = ours.begin("leave_a_daemon", file=str(tmp_path / "there"))
        os.kill(ours.watchdog.pid, signal.SIGSTOP)
        assert child.wait(0.5) is None
        os.kill(ours.watchdog.pid, signal.SIGKILL)

        ending = ended(child)

        assert (ending.status, ending.replaced) == (0, "processes,waited")
        assert not is_running(int((tmp_path / "there").read_text()))
        assert own_children() & {child.pid} == set()

    def test_a_child_of_another_kind_ends_the_idle_one_and_is_none(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()
        first = ours.assert_clean()

        fork = ours.watchdog.spawn({"do": "nothing"})
        ending = ended(fork)

        assert (ending.status, ending.replaced) == (0, None)
        assert not is_running(first)
        ours.assert_clean(but=fork.pid)

    def test_close_ends_it_and_leaves_nothing_open(self, guarded: Callable[..., Guarded]) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            ours = guarded()
            pid = ours.assert_clean()
            ours.run("fail")
            ours.assert_clean()

            ours.watchdog.close()

            assert not is_running(pid)
            del ours
        assert len(os.listdir("/proc/self/fd")) <= before + 3


class TestOncePerChild:
    def test_what_it_makes_stays_and_is_made_once(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded(growth_kib=32 * 1024)
        first, _, pid = ours.run("use_pool")

        later = [ours.run("use_pool") for _ in range(3)]

        assert (first.status, first.replaced) == (0, None)
        assert {(value, each, ending.replaced) for ending, value, each in later} == {(pid, pid, None)}

    def test_what_comes_besides_it_is_dirt_all_the_same(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()

        dirty = ours.run("use_pool", dirty=True)
        ours.assert_clean()
        more = [ours.run("use_pool", more=more)[0].replaced for more in (False, True)]

        assert dirty[0].replaced == "environment"
        assert more == [None, "descriptors"]

    def test_what_it_names_may_change_later(self, guarded: Callable[..., Guarded]) -> None:
        ours = guarded()

        found = [ours.run("use_growing_pool") for _ in range(3)]

        assert [(ending.replaced, value) for ending, value, _ in found] == [(None, 1), (None, 2), (None, 3)]

    def test_outside_a_child_it_is_once_per_process(self) -> None:
        made: list[int] = []
        make = once_per_child(lambda: made.append(os.getpid()) or len(made))

        assert [make(), make()] == [1, 1]
        if (pid := os.fork()) == 0:
            os._exit(make() - 2)
        assert os.waitpid(pid, 0)[1] == 0

    def test_one_that_fails_is_tried_again(self) -> None:
        tries: list[int] = []

        @once_per_child
        def make() -> int:
            tries.append(1)
            return 1 // (len(tries) - 1)

        with pytest.raises(ZeroDivisionError):
            make()
        assert (make(), make(), len(tries)) == (1, 1, 2)

    def test_a_word_that_is_no_kind_is_refused(self) -> None:
        with pytest.raises(CronqError, match="none of threads"):
            once_per_child(may_change=["sockets"])


def test_runs_mixed_at_random_are_each_told_as_they_were(guarded: Callable[..., Guarded]) -> None:
    """10,000 runs with CRONQ_LONG_TESTS=1."""
    count = 10_000 if os.environ.get("CRONQ_LONG_TESTS") else 300
    rng = random.Random(20261127)
    ours = guarded(growth_kib=32 * 1024, runs=100)
    ends = {"fail": 3, "raise_an_error": 1, "exit_at_once": 7, "crash": -11, "be_killed": -9, "become_a_command": 9}
    dirt = {job.__name__: kind for kind, jobs in DIRT.items() for job in jobs}
    odd = ["close_all", "close_all_and_open", "write_to_all_descriptors", "return_in_a_fork", "raise_in_a_fork"]
    ours.assert_clean()
    begun_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    replaced = 0
    for _ in range(count):
        fate = rng.random()
        if fate < 0.5:
            assert ours.run("nothing", state=True)[1]["kept"] == 0
        elif fate < 0.55:
            text = f"run {ours.number}\n"
            ours.paper.text = b""
            ours.run("speak", text=text)
            assert sorted(ours.paper.text) == sorted(b"!" + text.encode() * 2)
        elif fate < 0.75:
            job = rng.choice([name for name in dirt if name != "change_the_user_and_back" or os.geteuid() == 0])
            ending = ours.run(job)[0]
            assert ending.status == 0, job
            assert dirt[job] in (ending.replaced or ""), job
            replaced += 1
        elif fate < 0.9:
            job = rng.choice(list(ends))
            assert ours.run(job)[0].status == ends[job], job
            replaced += 1
        elif fate < 0.95:
            child = ours.begin("take_long", seconds=rng.choice([0.0, 60.0]))
            child.wait(rng.random() * 0.01)
            rng.choice([child.kill_all, lambda: child.signal(signal.SIGTERM)])()  # noqa: B023
            assert ended(child).status in (0, -signal.SIGKILL, -signal.SIGTERM)
        else:
            assert ours.run(rng.choice(odd))[0].status == 0
        if rng.random() < 0.02:
            os.kill(ours.assert_clean(), signal.SIGKILL)
    ours.assert_clean()
    assert len(ours.descendants()) == 1, "the child that stays, and nobody else"
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun_kib
    tell(f"{count} runs, {replaced} dirty or failed; the guardian grew by {grown_kib} KiB")
    assert grown_kib < 20_000


def test_it_is_many_times_cheaper_than_a_fork_each(guarded: Callable[..., Guarded]) -> None:
    ours = guarded()
    ours.assert_clean()
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(5):
        for is_reusable in times:
            begun = time.perf_counter()
            for _ in range(40):
                ended(ours.watchdog.spawn({"do": "nothing"}, is_reusable=is_reusable))
            times[is_reusable].append((time.perf_counter() - begun) / 40)
    kept, forked = min(times[True]), min(times[False])
    tell(f"a run in a long-lived child {kept * 1e6:.0f} us, in a fork {forked * 1e6:.0f} us")
    assert kept < forked / 2
