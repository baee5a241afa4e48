"""A child as its guardian sees it, and how it ended. `cronq.process.watchdog` tells who dies when."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, BinaryIO, Protocol

from cronq.clock import boot_s
from cronq.errors import WatchdogDied
from cronq.process.pipes import Capture

log = logging.getLogger("cronq.worker")

#: How long W may leave a death at a deadline unreported, which it begins 0.2 s earlier: after it the lock may be
#: somebody else's.
_LAST_PATIENCE_S = 0.05
#: How soon the output of a job is looked at again that waits for a slow reader.
_HELD_UP_S = 0.02


@dataclass(frozen=True)
class ChildExit:
    """How a child ended. The figures include the descendants it waited for, not the leftovers.

    Of a command `max_rss_kib` is at least the size of the process that became it.
    """

    status: int  #: exit code, or -n for signal n
    ended_by: str | None  #: "deadline", "guardian" (kill_all), None: by itself or by a signal sent to it
    leftovers: int  #: descendants that had to be killed besides the child itself
    max_rss_kib: int
    user_s: float
    system_s: float
    survivors: tuple[int, ...] = ()  #: pids that SIGKILL did not end within 2 s
    begun_boot_s: float | None = None  #: boot clock when the child took up its work; None: it did not come to that
    #: Why a long-lived child was replaced after this run: kinds of dirt, or how the run ended, with commas between.
    #: None when it stays, and for a fork of its own.
    replaced: str | None = None


def exit_of(report: Mapping[str, Any]) -> ChildExit:
    """How a child ended, as its watchdog reports it."""
    known = {field.name: report[field.name] for field in fields(ChildExit) if field.name in report}
    return ChildExit(**known | {"survivors": tuple(report["survivors"])})


class Conversation(Protocol):
    """What a child asks of the watchdog that runs it."""

    def wake(self) -> None:
        """Let a `listen` return, from any thread or a signal handler."""

    def say(self, header: dict[str, Any]) -> None:
        """Send one word to W; thread-safe."""

    def listen(self, child: Child, timeout_s: float | None, *, is_wakeable: bool) -> dict[str, Any] | None:
        """The next word of W about *child*; None when there is none in time, or `wake` was called."""

    def let_go(self) -> None:
        """The child has ended: another may begin."""

    def name_survivors(self, pids: Collection[int]) -> None:
        """Say in the log whom SIGKILL did not end."""


class Child:
    """One running child. `wait` belongs to one thread; all else may be called from any, and never raises."""

    def __init__(
        self,
        watchdog: Conversation,
        run: int,
        result: BinaryIO,
        deadline_boot_s: float | None,
        capture: Capture | None,
        patience_s: float,
    ) -> None:
        self.pid = 0
        #: Its work went well, and what it has left is looked at. Only told of a long-lived child that was asked to.
        self.has_worked = False
        self.notes = False  #: whether it was asked to
        #: Where `child_main` wrote; stands at its beginning after the exit, closed when this object is dropped.
        self.result = result
        self._run = run
        self._watchdog = watchdog
        self._deadline = deadline_boot_s
        self._exit: ChildExit | None = None
        self._is_condemned = False
        self._capture = capture
        self._patience_s = patience_s
        self._last_patience_s = _LAST_PATIENCE_S

    @property
    def deadline_boot_s(self) -> float | None:
        """By when all of it is to be dead, as far as the watchdog was told."""
        return self._deadline

    def signal(self, signum: int) -> None:
        """Send *signum* to the child's process group; nothing happens once it ended.

        W does it: only the parent of a process knows that the pid is still that process. Not for use in a
        signal handler (it takes a lock); call `wake` there.
        """
        self._say("signal", signum=int(signum))

    def extend(self, deadline_boot_s: float | None) -> None:
        """Replace the deadline; None lifts it. A word that does not arrive leaves the earlier deadline."""
        self._deadline = deadline_boot_s
        self._say("extend", deadline=deadline_boot_s)

    def kill_all(self) -> None:
        """SIGKILL the child and every descendant, now; `wait` then tells what became of it."""
        self._is_condemned = True
        self._say("kill")

    def end(self) -> None:
        """Kill the child and every descendant, and return when they are dead; belongs to the thread that waits."""
        self.kill_all()
        try:
            while self.wait(1.0) is None:
                pass
        except WatchdogDied as error:  # it took the child along
            log.warning("%s", error)

    def wake(self) -> None:
        """Make the present or the next `wait` return early; also from a signal handler."""
        self._watchdog.wake()

    def wait(self, timeout_s: float | None) -> ChildExit | None:
        """The exit, or None when the child still runs after *timeout_s*, was woken or `has_worked`. Then call it again.

        Raises WatchdogDied when W is gone or hangs; the child and its descendants are dead by then, but how
        the child ended is not known, and its result may be whole.
        """
        if self._exit is None:
            word = self._watchdog.listen(self, timeout_s, is_wakeable=True)
            if word is not None:
                self._exit = exit_of(word["exit"])
                self.result.seek(0)  # the offset is shared with the child, which left it at the end
                self._watchdog.let_go()
                self._end_capture()
                self._watchdog.name_survivors(self._exit.survivors)
        return self._exit

    def _say(self, verb: str, **facts: Any) -> None:
        if self._exit is None:
            self._watchdog.say({"verb": verb, "run": self._run, **facts})

    def _sources(self) -> Collection[int]:
        """What besides W is to be listened to: the child's output."""
        return self._capture.sources if self._capture is not None else ()

    def _read(self, ready: Collection[object]) -> dict[str, Any] | None:
        """Read what is *ready* of it; what the child itself says, when it says something."""
        if self._capture is not None:
            self._capture.read(ready)
        return None

    def _is_held_up(self) -> bool:
        return self._capture is not None and self._capture.is_held_up

    def _end_capture(self) -> None:
        if self._capture is not None:
            self._capture.finish()
            self._capture = None

    def _is_due(self) -> bool:
        """Whether W should have reported the end of this child by now."""
        return self._is_condemned or self._is_past_deadline()

    def _is_past_deadline(self) -> bool:
        deadline = self._deadline  # another thread may lift it
        return self.pid != 0 and deadline is not None and boot_s() >= deadline

    def _step_s(self, until: float) -> float:
        """How long to wait before the next look at the time."""
        deadline, now = self._deadline, boot_s()
        if deadline is not None and self.pid:
            until = min(until, deadline if now < deadline else now + _LAST_PATIENCE_S)
        if self._is_held_up():
            until = min(until, now + _HELD_UP_S)
        return max(0.0, min(1.0, until - now))

    def _loses_patience(self, waited_s: float) -> bool:
        """Count the time for which W has left a death that is due unreported; whether that was too long."""
        self._patience_s -= waited_s
        if self._is_past_deadline():
            self._last_patience_s -= waited_s
        return min(self._patience_s, self._last_patience_s) <= 0

    def __del__(self) -> None:
        self.result.close()
