"""Which of several idle workers of one process a message wakes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from cronq.clock import boot_s
from cronq.worker.waking import LOOK_EVERY_S, Sleepers, Waking
from tests.system.processes import until

#: Nothing is asked: there are no rivals.
NOBODY: Any = None


class Sleeper:
    """A thread that waits as an idle worker does; *finds* says what its looks find."""

    def __init__(self, sleepers: Sleepers, names: Sequence[str] = ("high", "low")) -> None:
        client: Any = None  # nothing is asked: there are no rivals
        self.waking = Waking(client)
        self.waking.join(sleepers)
        self.looks = 0
        self.finds: list[bool] = []
        self._names = names
        self._end = boot_s() + 10.0
        self._thread = threading.Thread(target=self._wait)

    def start(self) -> None:
        self._thread.start()
        until(lambda: self.waking.is_waiting)

    def _wait(self) -> None:
        self.waking.begin(self._names)
        while self.waking.is_time(self._names, self._end):
            self.looks += 1
            if self.finds and self.finds.pop(0):
                self.waking.end(has_found=True)
                return
        self.waking.end(has_found=False)

    def stop(self) -> None:
        self._end = 0.0
        self.waking.woken.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def is_at_work(self) -> bool:
        return not self._thread.is_alive()


@pytest.fixture
def four() -> Iterator[tuple[Sleepers, list[Sleeper]]]:
    """Four idle workers; whatever they look at is empty, unless a test says otherwise."""
    sleepers = Sleepers()
    made = [Sleeper(sleepers) for _ in range(4)]
    for each in made:
        each.start()
    yield sleepers, made
    for each in made:
        each.stop()


def looks(made: list[Sleeper]) -> int:
    return sum(each.looks for each in made)


def all_wait(made: list[Sleeper]) -> None:
    until(lambda: all(each.is_at_work or (each.waking.is_waiting and not each.waking.woken.is_set()) for each in made))


def test_one_message_makes_one_of_them_look(four: tuple[Sleepers, list[Sleeper]]) -> None:
    sleepers, made = four

    sleepers.hear("low")

    until(lambda: looks(made) == 1)
    all_wait(made)
    assert looks(made) == 1


def test_of_a_queue_that_nobody_serves_nobody_hears(four: tuple[Sleepers, list[Sleeper]]) -> None:
    sleepers, made = four

    sleepers.hear("other")

    assert not any(each.waking.woken.is_set() for each in made)
    assert looks(made) == 0


def test_when_there_is_more_than_the_message_told_of_as_many_look_as_there_is_work(
    four: tuple[Sleepers, list[Sleeper]],
) -> None:
    sleepers, made = four
    for each in made[:3]:
        each.finds = [True]

    sleepers.hear("low")

    until(lambda: looks(made) == 4)
    all_wait(made)
    assert [each.is_at_work for each in made] == [True, True, True, False]
    assert looks(made) == 4, "the last one finds nothing, and wakes nobody"


def test_each_message_wakes_another_one_while_the_first_has_not_looked_yet() -> None:
    sleepers = Sleepers()
    made = [Sleeper(sleepers) for _ in range(3)]
    for each in made:
        each.waking.begin(["low"])
        each.waking._is_waiting = True

    for expected in (1, 2, 3, 3):
        sleepers.hear("low")
        assert sum(each.waking.woken.is_set() for each in made) == expected


def test_who_looks_just_now_looks_again_when_nobody_waits() -> None:
    sleepers = Sleepers()
    busy, looking = Sleeper(sleepers), Sleeper(sleepers)
    busy.waking.begin(["low"])
    busy.waking.end(has_found=True)
    looking.waking.begin(["low"])

    sleepers.hear("low")

    assert looking.waking.woken.is_set()
    assert not busy.waking.woken.is_set()


def test_a_worker_that_has_parted_is_not_woken(four: tuple[Sleepers, list[Sleeper]]) -> None:
    sleepers, made = four
    for each in made[:2]:
        each.waking.part()

    for expected in (1, 2, 3):
        sleepers.hear("low")
        until(lambda expected=expected: looks(made) == expected)  # type: ignore[misc]
        all_wait(made)

    assert [bool(each.looks) for each in made[:2]] == [False, False]


def test_only_workers_of_other_processes_are_rivals() -> None:
    sleepers = Sleepers()
    made = [Sleeper(sleepers) for _ in range(3)]

    made[0].waking.count_rivals(3)
    made[1].waking.count_rivals(5)

    assert made[0].waking._rivals == 0
    assert made[1].waking._rivals == 2


def test_while_no_message_comes_one_of_them_looks_for_all() -> None:
    sleepers = Sleepers()
    four = [Waking(NOBODY) for _ in range(4)]
    for each in four:
        each.join(sleepers)
        each.begin(["low"])
        assert each.is_due(), "its first look"
        each.end(has_found=False)

    for each in four:
        each.begin(["low"])

    assert not any(each.is_due() for each in four), "somebody has just looked"
    assert four[0].next_look_boot_s() <= boot_s() + LOOK_EVERY_S

    sleepers._looked.clear()
    assert sum(each.is_due() for each in four) == 1, "a second later"


def test_who_has_just_done_something_looks_whatever_others_saw() -> None:
    sleepers = Sleepers()
    busy, idle = Waking(NOBODY), Waking(NOBODY)
    for each in (busy, idle):
        each.join(sleepers)
        each.begin(["low"])
        assert each.is_due()
    idle.end(has_found=False)
    busy.end(has_found=True)

    busy.begin(["low"])

    assert busy.is_due()


def test_what_an_idle_worker_finds_without_a_message_lets_the_next_one_look() -> None:
    sleepers = Sleepers()
    finder, sibling = Waking(NOBODY), Waking(NOBODY)
    for each in (finder, sibling):
        each.join(sleepers)
        each.begin(["low"])
        each.end(has_found=False)
        each.begin(["low"])
    sibling._is_waiting = True

    finder.end(has_found=True)

    assert sibling.woken.is_set()
