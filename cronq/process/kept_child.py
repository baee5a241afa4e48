"""The long-lived child as its guardian sees it: what is known of it, the judgement after each run, and one of its runs.

A run is over with the child's answer when the child is as it was at its birth. When it is not, or when the run ended in
another way than well, the watchdog first kills the child and all it left; so nothing of a run outlives its report, and
nothing of it can reach the next one. Words to the watchdog name the child, not the run: a run sends none once it is
over, and whoever has sent one that ends processes gets no run after it in that child.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from cronq.clock import boot_s
from cronq.errors import WatchdogDied
from cronq.process.inventory import differing
from cronq.process.line import Line, LineGarbled, Message
from cronq.process.pipes import Capture
from cronq.process.watched_child import Child, ChildExit, Conversation, exit_of

log = logging.getLogger("cronq.worker")

_MIB_KIB = 1024


@dataclass(frozen=True)
class ChildLimits:
    """When a clean child is replaced all the same."""

    runs: int = 1000
    life_s: float = 3600.0
    growth_kib: int = 128 * _MIB_KIB  #: memory beyond that at its birth


class KeptChild:
    """One long-lived child; *number* is what its watchdog calls it."""

    def __init__(self, number: int, line: Line, result: BinaryIO, capture: Capture | None, limits: ChildLimits) -> None:
        self.number = number
        self.pid = 0
        self.line = line
        self._result: BinaryIO | None = result
        self.capture = capture
        self.limits = limits
        self.born_boot_s = boot_s()
        self.runs = 0
        self.spent: tuple[float, float] = (0.0, 0.0)  #: user and system time up to its last answer
        self.is_lifting = False  #: the watchdog has not yet said that it forgot the last run's deadline
        self.is_line_up = True
        self.worked = 0  #: the newest run of which it has said that the work went well
        self._baseline = b""

    def give(self, run: int, deadline_boot_s: float | None, body: bytes, *, notes: bool = False) -> bool:
        """Send it an order; False when it is gone, or takes none. With *notes* it says when the work went well."""
        try:
            self.line.send({"run": run, "deadline": deadline_boot_s, "notes": notes}, body=body)
        except OSError:
            self.is_line_up = False
            return False
        self.runs += 1
        return True

    def read_answer(self, run: int) -> Message | None:
        """Its answer to the order *run*, if that is here. After junk the line is closed: then the child ends."""
        if not self.is_line_up:
            return None
        try:
            while (answer := self.line.receive_now()) is not None:
                if answer.head.get("run") != run:
                    raise LineGarbled(f"an answer to {answer.head.get('run')!r} in place of {run}")
                if not answer.head.get("worked"):
                    return answer
                if self.worked == run:
                    raise LineGarbled("it said twice that the work went well")
                self.worked = run
        except EOFError:
            self.is_line_up = False
        except OSError as error:
            log.warning("GARBLED the child %d: %s", self.pid, error)
            self.line.close()
            self.is_line_up = False
        return None

    def judge(self, answer: Message) -> list[str]:
        """Why it cannot do another run; nothing when it can."""
        head = answer.head
        if answer.baseline:
            self._baseline = answer.baseline
        self.spent = tuple(head["spent"])
        if head["leaving"]:
            return [head["leaving"]]
        if head["code"]:
            return ["failed"]
        reasons = []
        if answer.facts != self._baseline:
            found = differing(self._baseline, answer.facts)
            reasons = [name for name in found if name not in head["may_change"]]
        if head["grown_kib"] > self.limits.growth_kib:
            reasons.append("memory")
        if not head["is_peak_near"]:  # the next run would be taken to have had it
            reasons.append("peak")
        if self.runs >= self.limits.runs:
            reasons.append("runs")
        if boot_s() - self.born_boot_s >= self.limits.life_s:
            reasons.append("age")
        return reasons

    def take_result(self) -> BinaryIO:
        """What it left when it ended without an answer; the caller closes it."""
        result, self._result = self._result, None
        return result if result is not None else io.BytesIO()

    def close(self) -> None:
        """It is gone: pass on what it printed last."""
        if self._result is not None:
            self._result.close()
        self.line.close()
        self.is_line_up = False
        if self.capture is not None:
            self.capture.finish()


class Keeper(Conversation, Protocol):
    """What a run in a long-lived child asks of the watchdog."""

    def give(self, run: KeptRun) -> None:
        """Have the order of *run* done by the child that is kept, or a new one. Raises WatchdogDied, CronqError."""

    def drop(self, kept: KeptChild, why: Collection[str] = ()) -> None:
        """That child is gone, for these reasons."""


class KeptRun(Child):
    """One run in the long-lived child: to its guardian it is a child like any other."""

    def __init__(
        self,
        watchdog: Keeper,
        number: int,
        body: bytes,
        deadline_boot_s: float | None,
        patience_s: float,
        *,
        notes: bool = False,
    ) -> None:
        super().__init__(watchdog, 0, io.BytesIO(), deadline_boot_s, None, patience_s)
        self.number = number
        self.body = body
        self.notes = notes  #: whether `has_worked` is to be told
        self._keeper = watchdog
        self._kept: KeptChild | None = None
        self._answer: Message | None = None
        self._reasons: list[str] = []
        self._words = threading.Lock()
        self._is_over = False
        self._is_signalled = False
        self._has_deadline = deadline_boot_s is not None

    def enter(self, kept: KeptChild) -> None:
        """Be done by *kept* from now on."""
        self._kept = kept
        self._run, self.pid = kept.number, kept.pid

    def wait(self, timeout_s: float | None) -> ChildExit | None:
        """As that of any child. After an answer it is also the time until what the run left is dead."""
        until = None if timeout_s is None else boot_s() + timeout_s
        while self._exit is None:
            try:
                word = self._watchdog.listen(self, None if until is None else until - boot_s(), is_wakeable=True)
            except WatchdogDied:
                if self._answer is None:
                    raise
                self._leave({"leftovers": 0, "survivors": ()})  # all that it left has been killed
                break
            if word is None or "worked" in word:
                return None
            if "answer" in word:
                self._heed(word["answer"])
            elif "exit" in word:
                self._mourn(word["exit"])
        return self._exit

    def _heed(self, answer: Message) -> None:
        """The run has been answered: is the child as it was?"""
        kept = self._kept_child
        self._answer, self._reasons = answer, kept.judge(answer)
        with self._words:
            if not self._reasons and (self._is_signalled or self._is_condemned):
                self._reasons = ["signalled"]
            self._is_over = not self._reasons
        if self._reasons:
            self.kill_all()
            return
        if self._has_deadline:
            self._watchdog.say({"verb": "lift", "run": kept.number})
            kept.is_lifting = True
        if kept.capture is not None:
            kept.capture.catch_up()
        self._end(self._told(answer, {"leftovers": 0, "survivors": ()}), io.BytesIO(answer.body))

    def _mourn(self, report: dict[str, Any]) -> None:
        """The child is gone, by itself or because it was to."""
        kept = self._kept_child
        if self._answer is None and (answer := kept.read_answer(self.number)) is not None:
            self._answer, self._reasons = answer, kept.judge(answer) or ["ended"]
        if self._answer is not None:
            self._leave(report)
            return
        has_begun = report["begun_run"] == self.number
        result = kept.take_result() if has_begun else io.BytesIO()
        is_to_end = self._is_signalled or self._is_condemned or self._is_past_deadline()
        self._keeper.drop(kept, ["ended"] if has_begun else [] if is_to_end else ["idle"])
        if not has_begun and not is_to_end:
            self._keeper.give(self)  # it was killed while it was idle; nobody has seen the order
            return
        user_s, system_s = max(0.0, report["user_s"] - kept.spent[0]), max(0.0, report["system_s"] - kept.spent[1])
        figures = {"user_s": user_s, "system_s": system_s, "replaced": "ended"}
        figures["begun_boot_s"] = report["begun_boot_s"] if has_begun else None
        self._end(exit_of(report | figures), result)

    def _leave(self, report: dict[str, Any]) -> None:
        """The run has been answered, and its child is gone with all that it left."""
        assert self._answer is not None
        self._keeper.drop(self._kept_child, self._reasons)
        self._end(self._told(self._answer, report), io.BytesIO(self._answer.body))

    def _told(self, answer: Message, report: dict[str, Any]) -> ChildExit:
        head = answer.head
        return ChildExit(
            status=head["code"],
            ended_by=None,
            leftovers=report["leftovers"],
            max_rss_kib=head["max_rss_kib"],
            user_s=head["user_s"],
            system_s=head["system_s"],
            survivors=tuple(report["survivors"]),
            begun_boot_s=head["begun_boot_s"],
            replaced=",".join(self._reasons) or None,
        )

    def _end(self, exit: ChildExit, result: BinaryIO) -> None:
        with self._words:
            self._is_over = True
        self.result, self._exit = result, exit
        self.result.seek(0)
        self._watchdog.let_go()
        self._watchdog.name_survivors(exit.survivors)

    def _say(self, verb: str, **facts: Any) -> None:
        with self._words:
            if self._is_over:
                return
            self._is_signalled = self._is_signalled or verb == "signal"
            self._has_deadline = self._has_deadline or verb == "extend"
            super()._say(verb, **facts)

    @property
    def _kept_child(self) -> KeptChild:
        if self._kept is None:
            raise RuntimeError("this run was given to no child")
        return self._kept

    def _sources(self) -> Collection[int]:
        kept = self._kept_child
        pipes = kept.capture.sources if kept.capture is not None else ()
        return (*pipes, kept.line.fileno()) if kept.is_line_up and self._answer is None else pipes

    def _read(self, ready: Collection[object]) -> dict[str, Any] | None:
        kept = self._kept_child
        if kept.capture is not None:
            kept.capture.read(ready)
        if self._answer is None and kept.is_line_up and kept.line.fileno() in ready:
            answer = kept.read_answer(self.number)
            if answer is not None:
                return {"answer": answer}
            if kept.worked == self.number and not self.has_worked:
                self.has_worked = True
                return {"worked": True}
        return None

    def _is_held_up(self) -> bool:
        kept = self._kept
        return kept is not None and kept.capture is not None and kept.capture.is_held_up
