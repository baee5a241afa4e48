"""Children that cannot outlive their guardian: one small process between a guardian and the work it guards.

    guardian G ── watchdog W ── child C ── whatever C starts

W is forked while G has one thread, or by G's nursery (`cronq.process.nursery`), and does all further forking, so no
child is ever forked from a process with threads. W is a *subreaper*: a descendant that loses its parent (a daemon, a
`setsid`) becomes W's own child, so "kill my children until there are none" reaches all of them. Who dies, and what
follows:

    C ends           W kills what C left behind, then reports; nothing of a run outlives its report
    G dies           W hears it (a pidfd, and EOF on the socket), kills everything, ends
    W dies           C dies with it (parent-death signal), C's orphans fall to G, also a subreaper, which kills them
                     (`cronq.process.household` tells them from G's other watchdogs)
    G stands still   W enforces the last deadline it was told, on a clock that counts suspended time
    W stands still   G waits 10 s for a death that it ordered, 0.05 s at a deadline; then W dies by its hand, as above

W is in a session of its own, so a terminal's Ctrl-C or Ctrl-Z and a `kill -9` of G's process group pass it by; C
leads a process group in that session, without a terminal. stdin is /dev/null, unless the watchdog was given another.
Sockets and pipes that G had when W was forked are /dev/null to W and C, later ones are unknown to them; files (a log
handler's) stay open.

C is forked for one order, or it is long-lived (`spawn(is_reusable=True)`) and gets order after order over a line of its
own to G, past W. The table holds for it as well, also between two orders: it dies with W, and with G, whose end of the
line closes. After each run G decides by what C says of itself whether it may do another; else W ends it with all it
has left, before the end of that run is told (`cronq.process.kept_child`). One that is killed while it is idle is
replaced at the next order.

A command with `run_as` changes its user in C, so G and W stay root and can kill it (`cronq.worker.command`).

Out of reach: what runs as another user while W is not root (sudo), what a daemon of the system starts on C's
behalf (docker, systemd-run, at), and orphans of a C whose G and W are killed in the same instant. On a machine
just resumed from suspension a passed deadline is noticed within 0.25 s. Without prctl (macOS) only C and its
process group are killed, and C outlives a W that is killed alone until G waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from cronq.clock import boot_s
from cronq.errors import CronqError, WatchdogDied
from cronq.process.channel import Channel
from cronq.process.household import HOUSEHOLD
from cronq.process.kept_child import ChildLimits, KeptChild, KeptRun
from cronq.process.line import SEND_S, Line
from cronq.process.longlived import ChildMain
from cronq.process.nursery import Nursery
from cronq.process.pipes import Capture, Sink
from cronq.process.system import (
    HAS_PRCTL,
    die_with_parent,
    drain,
    forked,
    kill,
    open_standard_fds,
    own_children,
    readable,
    scratch_file,
)
from cronq.process.watchdog_process import SWEEP_S, keep
from cronq.process.watched_child import Child, ChildExit

__all__ = ["Child", "ChildExit", "ChildLimits", "Watchdog", "WatchdogDied", "die_with_parent"]

log = logging.getLogger("cronq.worker")

#: How long W may leave an order unanswered, or a death that was ordered unreported, before it counts as hung.
_PATIENCE_S = 10.0
#: Whether the system shows what a run may leave in a long-lived child, and to whom orphans fall.
CAN_KEEP = HAS_PRCTL and os.path.exists(f"/proc/self/task/{os.getpid()}/children")
DEFAULT_LIMITS = ChildLimits()
#: Pids in one line of the log.
_MOST_NAMED = 20


class Watchdog:
    """Starts children that die with this process. One child at a time.

    *child_main(order, result_file)* runs in the child; what it returns is the exit code. An exception that
    escapes it is printed and makes that 1; SystemExit means what it always means. `os.exec*` inside it is fine.
    What children print goes to *sink*; without one they print where this process does. *stdin* is what children read
    that are forked for one order. *nursery* forks the watchdog
    itself once this process has threads; its *child_main* is to be the same.
    `start`, `spawn`, `close` and `Child.wait` belong to one thread; other watchdogs of this process may have others.
    """

    def __init__(
        self,
        child_main: ChildMain,
        sink: Sink | None = None,
        nursery: Nursery | None = None,
        *,
        stdin: int | None = None,
        limits: ChildLimits = DEFAULT_LIMITS,
    ) -> None:
        self._child_main = child_main
        self._stdin = stdin
        self._sink = sink
        self._nursery = nursery
        self._limits = limits
        self._kept: KeptChild | None = None
        self.replaced: Counter[str] = Counter()  #: why long-lived children were replaced, by reason, and how often
        self._pid: int | None = None
        self._channel: Channel | None = None
        self._wakers: tuple[socket.socket, socket.socket] | None = None
        self._sending = threading.Lock()
        self._heard: deque[dict[str, Any]] = deque()
        self._runs = 0
        self._run_sink: Sink | None = None
        self._child: Child | None = None
        self._kin: set[int] = set()
        self._survivors: set[int] = set()

    @property
    def pid(self) -> int | None:
        """W's process id; None before `start` and after `close`."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether W runs. When it does not: `start` again."""
        return self._pid is not None and HOUSEHOLD.is_alive(self._pid)

    def start(self) -> None:
        """Fork W, unless it runs. Call it before this process has threads, or give it a nursery.

        Else it goes on and says so in the log: a lock that another thread held at that moment stays locked in every
        later child.
        """
        if self.alive:
            return
        self.close()
        open_standard_fds()
        self._wakers = socket.socketpair()
        for waker in self._wakers:
            waker.setblocking(False)
        ours, theirs = socket.socketpair()
        pid = self._nursery.fork_watchdog(theirs) if self._nursery is not None else None
        self._pid = HOUSEHOLD.admit(lambda: self._fork(theirs)) if pid is None else pid
        theirs.close()
        self._channel = Channel(ours)

    def _fork(self, theirs: socket.socket) -> int:
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate()[1:])
            log.warning("THREADS %s run while the watchdog is forked: a lock that one holds stays locked in it", names)
        guardian = os.getpid()
        return forked(lambda: keep(theirs, self._child_main, guardian))

    def spawn(
        self,
        order: Mapping[str, Any],
        *,
        deadline_boot_s: float | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        sink: Sink | None = None,
        is_reusable: bool = False,
        notes: bool = False,
    ) -> Child:
        """Start a child on *order* (JSON); everything of it is dead by *deadline_boot_s* unless extended.

        For that, killing begins 0.2 s earlier.
        *sink* takes what it prints instead of the watchdog's own; *stdout* and *stderr* are file descriptors, which
        stay the caller's and are read by nobody here. With *is_reusable* the long-lived child does it, which is forked
        when there is none and replaced when a run leaves it otherwise than it was; given descriptors, or where the
        system does not show what a run leaves, it is a fork of its own all the same. With *notes* the long-lived child
        says when its work went well (`Child.has_worked`), before the look at what it has left. Raises WatchdogDied when
        W is gone or does not answer: call `start`, then try again. CronqError when W could not fork.
        """
        if self._pid is None:
            raise WatchdogDied("there is no watchdog: start one first")
        if self._child is not None:
            raise RuntimeError("a watchdog guards one child at a time: wait for the other one first")
        body = json.dumps(order).encode()
        sink = sink or self._sink
        self._runs += 1
        if is_reusable and CAN_KEEP and stdout is None and stderr is None:
            return self._begin_kept(KeptRun(self, self._runs, body, deadline_boot_s, _PATIENCE_S, notes=notes), sink)
        self._end_kept()
        capture = Capture(sink) if sink is not None else None
        files = {"stdout": stdout, "stderr": stderr} if capture is None else capture.writers
        given = {name: fd for name, fd in ({"stdin": self._stdin} | files).items() if fd is not None}
        result = scratch_file()  # the child object closes it
        child = Child(self, self._runs, result, deadline_boot_s, capture, _PATIENCE_S)
        self._child = child
        try:
            word = self._have_forked(child, body, {"result": result.fileno()} | given, capture)
        except BaseException:  # a signal handler's too: whatever became of the order, nothing of it may run on
            self._bury()
            raise
        if "error" in word:
            self._child = None
            child._end_capture()
            raise CronqError(f"the watchdog could not start a child: {word['error']}")
        child.pid = word["pid"]
        return child

    def _have_forked(
        self, child: Child, body: bytes, files: Mapping[str, int], capture: Capture | None
    ) -> dict[str, Any]:
        """W's answer to the order to fork *child* with these *files*. Raises WatchdogDied."""
        self._kin = own_children()
        header = {"verb": "spawn", "run": child._run, "deadline": child.deadline_boot_s, "files": list(files)}
        self.say(header, body, list(files.values()))
        if capture is not None:
            capture.begin()
        word = self.listen(child, _PATIENCE_S, is_wakeable=False)
        if word is None:
            raise WatchdogDied(f"the watchdog (pid {self._pid}) left an order unanswered for {_PATIENCE_S:g} s")
        return word

    # The long-lived child

    def _begin_kept(self, run: KeptRun, sink: Sink | None) -> KeptRun:
        kept = self._kept
        if kept is not None and (sink is None) != (kept.capture is None):
            self._end_kept()
        self._run_sink, self._child = sink, run
        try:
            self.give(run)
        except CronqError:
            if self._pid is None:  # it is W that is gone
                raise
            self._child = None
            raise
        except BaseException:  # a signal handler's too: whatever became of the order, nothing of it may run on
            self._bury()
            raise
        return run

    def give(self, run: KeptRun) -> None:
        """Have the order of *run* done by the child that is kept, or a new one. Raises WatchdogDied, CronqError."""
        if self._kept is not None and not self._is_ready(self._kept, run):
            self.drop(self._kept, ["idle"])
        is_new = self._kept is None
        kept = self._kept or self._fork_kept(run)
        self._kept = kept
        if kept.capture is not None and self._run_sink is not None:
            kept.capture.sink = self._run_sink
        run.enter(kept)
        if run.deadline_boot_s is not None and not is_new:
            run.extend(run.deadline_boot_s)
        if not kept.give(run.number, run.deadline_boot_s, run.body, notes=run.notes):
            self.say({"verb": "kill", "run": kept.number})  # unless it is dead: then its end is reported anyway

    def _is_ready(self, kept: KeptChild, run: KeptRun) -> bool:
        """Wait until W has forgotten the deadline of the run before; False when it had ended the child by then."""
        run.enter(kept)
        while kept.is_lifting:
            word = self.listen(run, _PATIENCE_S, is_wakeable=False)
            if word is None:
                raise WatchdogDied(f"the watchdog (pid {self._pid}) left a word unanswered for {_PATIENCE_S:g} s")
            if "exit" in word:
                return False
            kept.is_lifting = "lifted" not in word
        return True

    def _fork_kept(self, run: KeptRun) -> KeptChild:
        ours, theirs = socket.socketpair()
        with theirs:
            capture = Capture(self._run_sink) if self._run_sink is not None else None
            result = scratch_file()
            self._runs += 1  # one count for all that W guards
            kept = KeptChild(self._runs, Line(ours, SEND_S), result, capture, self._limits)
            run.enter(kept)
            writers = capture.writers if capture is not None else {}
            try:
                word = self._have_forked(
                    run, b"", {"result": result.fileno(), "line": theirs.fileno()} | writers, capture
                )
            except BaseException:
                kept.close()
                raise
        if "error" in word:
            kept.close()
            raise CronqError(f"the watchdog could not start a child: {word['error']}")
        kept.pid = word["pid"]
        return kept

    def drop(self, kept: KeptChild, why: Collection[str] = ()) -> None:
        """That child is gone, and W has said so."""
        self.replaced.update(why)
        kept.close()
        if self._kept is kept:
            self._kept = None

    def _end_kept(self) -> None:
        """End the idle long-lived child: W guards one child at a time. Raises WatchdogDied."""
        kept = self._kept
        if kept is None:
            return
        self._child = idle = KeptRun(self, -1, b"", None, _PATIENCE_S)
        idle.enter(kept)
        idle.kill_all()
        while idle.wait(1.0) is None:
            pass
        self.replaced["fork"] += 1

    def let_go(self) -> None:
        """The child has ended: `spawn` may begin another."""
        self._child = None

    def wake(self) -> None:
        """Make the present or the next `Child.wait` return early; from any thread or signal handler."""
        if self._wakers is not None:
            try:
                self._wakers[1].send(b"\0")
            except OSError:  # full: the wish is known already. Closed: nobody waits
                pass

    def close(self) -> None:
        """End W and all that it guards; nothing happens when there is none."""
        if self._pid is None:
            return
        self._disconnect()  # the same to W as the death of this process
        self._await_end(SWEEP_S + 1)
        self._bury()

    def say(self, header: dict[str, Any], body: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Send a frame; thread-safe. One that fails half-way ends the conversation, which `listen` will notice."""
        with self._sending:
            if self._channel is not None:
                try:
                    self._channel.send(header, body, fds)
                except OSError:
                    self._channel.hang_up()

    def listen(self, child: Child, timeout_s: float | None, *, is_wakeable: bool) -> dict[str, Any] | None:
        """W's next word about *child*; None at the time-out or when woken. Raises WatchdogDied."""
        begun = boot_s()
        until = begun + (timeout_s if timeout_s is not None else float("inf"))
        while True:
            while self._heard:
                word = self._heard.popleft()
                if word["run"] == child._run:
                    return word
            if self._channel is None or self._wakers is None:
                raise WatchdogDied("the watchdog of this child is gone, and the child with it")
            step_s, is_due = child._step_s(until), child._is_due()
            wakers = [self._wakers[0]] if is_wakeable else []
            ready = readable([self._channel, *wakers, *child._sources()], step_s)
            said = child._read(ready)
            if said is not None:
                return said
            if self._channel in ready:
                self._receive()
                continue
            # A stopped W looks like a busy one. Counted in waits, not by the clock: after a suspension of the machine
            # both processes resume late.
            waited_s, begun = min(boot_s() - begun, max(step_s, 0.01)), boot_s()
            if is_due and child._loses_patience(waited_s):
                self._mourn("left a death unreported")
            if self._wakers[0] in ready:
                drain(self._wakers[0])
                return None
            if begun >= until:
                return None

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            self._heard.extend(frame.header for frame in self._channel.receive())
        except (EOFError, OSError):
            self._mourn("died")

    def _mourn(self, what: str) -> NoReturn:
        pid = self._pid
        self._bury()
        raise WatchdogDied(f"the watchdog (pid {pid}) {what}; its child was killed. Start it again")

    def _disconnect(self) -> None:
        with self._sending:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _bury(self) -> None:
        """End W if it still runs, then what it guarded. Afterwards a new one may start."""
        self._disconnect()
        if self._pid is None:
            return
        if self.alive:
            kill(self._pid, signal.SIGKILL)
            # W's children become ours in its last moment, which is after the socket has closed: wait for that.
            self._await_end(SWEEP_S)
        if self._child is not None or self._kept is not None:
            self._kill_orphans()
        if self._child is not None:
            self._child._end_capture()
        if self._kept is not None:
            self.drop(self._kept)
        HOUSEHOLD.bury(self._pid)
        for waker in self._wakers or ():
            waker.close()
        self._heard.clear()
        self._pid = self._child = self._wakers = None

    def name_survivors(self, pids: Collection[int]) -> None:
        """Say once of each process that it was not ended: W names it again after each later run."""
        new, self._survivors = set(pids) - self._survivors, set(pids)
        if new:
            log.error("SURVIVORS pids %s cannot be killed", ", ".join(map(str, sorted(new)[:_MOST_NAMED])))

    def _await_end(self, seconds: float) -> None:
        until = boot_s() + seconds
        while self.alive and boot_s() < until:
            time.sleep(0.001)

    def _kill_orphans(self) -> None:
        """Kill what fell to this process when W died, generation by generation."""
        child = self._child
        if not HAS_PRCTL and child is not None and child.pid:
            kill(-child.pid, signal.SIGKILL)
        left = HOUSEHOLD.kill_orphans(self._kin, boot_s() + SWEEP_S)
        if left:
            self.name_survivors(left)
