"""The long-lived child itself: it does run after run as its guardian orders, and says after each what it has become.

It judges nothing: whether it stays is its guardian's to decide, who ends it otherwise. What a run leaves in memory for
the next one to find, a fork of its own would not have had: so each run has a fresh context, its own random numbers, and
the garbage of the last one is collected before its answer, with whatever finalizers do.
"""

from __future__ import annotations

import contextvars
import gc
import json
import operator
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from cronq.clock import boot_s
from cronq.process import inventory, once
from cronq.process.inventory import Facts, Look
from cronq.process.line import Line, Message
from cronq.process.result_file import KeptResult, Slate
from cronq.process.system import flush_standard_streams

ChildMain = Callable[[Mapping[str, Any], BinaryIO], int]

#: Killing starts this long before a deadline, so that everything is dead *by* the deadline.
LEAD_S = 0.2
#: How often a child that is late looks whether its deadline was extended.
_LOOK_AGAIN_S = 0.01
#: When collecting the garbage of a run takes longer, what is alive is not gone through again.
_LONG_COLLECTION_S = 0.0003
#: A peak of memory so near to what the next run begins with need not be forgotten before it.
_NEAR_KIB = 128

_leaving: str | None = None


def leave_after_this(why: str) -> None:
    """In a child: the run at work is to be its last, for the reason *why*. That of a fork is that anyway."""
    global _leaving
    _leaving = why


def exit_code(work: Callable[[], int]) -> int:
    """The exit code of *work*, whatever it returns or raises."""
    try:
        code = operator.index(work())
    except SystemExit as leaving:
        if leaving.code is not None and not isinstance(leaving.code, int):
            sys.stderr.write(f"{leaving.code}\n")  # as the interpreter does
            return 1
        code = leaving.code or 0
    return code & 0xFF or int(code != 0)


def wait_while_late(deadline_boot_s: float | None, slate: Slate) -> None:
    """Return if the work may begin by this deadline, in a child; else when it was extended, which *slate* tells.

    When it was not, the watchdog is about to kill this process. Only the watchdog knows: on a busy machine a child
    may come to its work so late that its guardian has renewed the run meanwhile.
    """
    while deadline_boot_s is not None and boot_s() >= deadline_boot_s - LEAD_S:
        time.sleep(_LOOK_AGAIN_S)
        deadline_boot_s = max(deadline_boot_s, slate.deadline_boot_s or 0.0)


class LongLivedChild:
    """One child, from its birth to its end, in its own process; *watchdog_children* is as `Look` wants it."""

    def __init__(self, line: Line, result_fd: int, slate: Slate, watchdog_children: int, child_main: ChildMain) -> None:
        self._line = line
        self._result_fd, self._result_known = result_fd, os.fstat(result_fd)
        self._slate = slate
        self._watchdog_children = watchdog_children
        self._child_main = child_main
        self._pid = os.getpid()
        self._code = 0
        self._is_result_in_file = False
        self._other_threads = 0
        self._result = KeptResult(result_fd, self._result_known, slate)
        self._loop_policy = inventory.loop_policy()
        self._born_with = inventory.referred()  # so that nothing new gets the `id` of what was replaced
        look = self._look()
        self._may_change: set[str] = set()
        self._baseline: Facts = inventory.take(look)
        self._start_rss_kib = look.rss_kib
        self._is_baseline_new = True
        once.absorb = self._absorb

    def serve(self) -> int:
        """Do run after run until the guardian hangs up, or cannot be answered. Return the exit code."""
        global _leaving
        while (order := self._line.receive()) is not None:
            _leaving = None
            self._begin(order)
            began, spent = boot_s(), _spent()
            self._slate.note_begun(began, order.head["run"])
            self._code = contextvars.Context().run(self._work, order.body)
            if os.getpid() != self._pid or not self._answer(order.head, began, spent):
                break
        return self._code

    def _begin(self, order: Message) -> None:
        wait_while_late(order.head["deadline"], self._slate)
        self._slate.empty()
        if self._is_result_in_file:
            os.ftruncate(self._result_fd, 0)
            self._is_result_in_file = False
        inventory.forget_loops(self._loop_policy)
        random.seed(int.from_bytes(os.urandom(32), "big"))  # as Python does after a fork

    def _work(self, body: bytes) -> int:
        result = self._result = KeptResult(self._result_fd, self._result_known, self._slate)
        try:
            return exit_code(lambda: self._child_main(json.loads(body), result))
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            result.flush()
            self._is_result_in_file = result.is_in_file

    def _answer(self, order: Mapping[str, Any], began: float, before: tuple[float, float]) -> bool:
        """Say how the run ended and what this process is like now; False when it cannot be said, and this is the end.

        The result is on the slate meanwhile, where the watchdog finds it if this process ends. Where the *order* asks
        for it, that the work went well is said before the look at this process, which takes some time.
        """
        run = order["run"]
        try:
            if order.get("notes") and not self._code and not _leaving and self._line.is_itself:
                self._line.send({"run": run, "worked": True})
                os.sched_yield()  # the kernel has woken the guardian on this processor, and would let it wait for us
            body = self._result.getvalue()
            _collect_garbage()
            flush_standard_streams()
            after, peak_kib = _spent(), _peak_kib()
            look = self._look()
            rss_kib = look.rss_kib
            is_peak_near = peak_kib <= rss_kib + _NEAR_KIB or inventory.reset_peak()
            facts = inventory.take(look)
            if not self._line.is_itself:  # daemon libraries close all descriptors
                return False
            head = {
                "run": run,
                "code": self._code,
                "leaving": _leaving,
                "begun_boot_s": began,
                "user_s": after[0] - before[0],
                "system_s": after[1] - before[1],
                "max_rss_kib": peak_kib,
                "is_peak_near": is_peak_near,
                "grown_kib": rss_kib - self._start_rss_kib,
                "may_change": sorted(self._may_change),
                "spent": _spent(),
            }
            baseline = inventory.fingerprint(self._baseline) if self._is_baseline_new else b""
            self._line.send(head, baseline=baseline, facts=inventory.fingerprint(facts), body=body)
            self._is_baseline_new = False
            return True
        except BaseException:  # also out of a signal handler that the run has left behind
            return False

    def _look(self) -> Look:
        return Look(self._watchdog_children, self._other_threads)

    @contextmanager
    def _absorb(self, may_change: Collection[str]) -> Iterator[None]:
        """Whatever changes within counts from now on as there from the birth."""
        if os.getpid() != self._pid:
            yield
            return
        look = self._look()
        before, rss_kib = inventory.take(look), look.rss_kib
        yield
        self._other_threads = inventory.count_other_threads()
        look = self._look()
        self._baseline = inventory.absorbed(self._baseline, before, inventory.take(look))
        self._start_rss_kib += max(0, look.rss_kib - rss_kib)
        self._may_change.update(may_change)
        self._is_baseline_new = True


def _peak_kib() -> int:
    """The most memory that this process had, since its birth or `reset_peak`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _spent() -> tuple[float, float]:
    """User and system time of this process and of those it has waited for."""
    own, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + theirs.ru_utime, own.ru_stime + theirs.ru_stime


def _collect_garbage() -> None:
    """Finalizers of a run run within it, and what it has forgotten to close is closed."""
    begun = boot_s()
    gc.collect()
    if boot_s() - begun > _LONG_COLLECTION_S:
        gc.freeze()
