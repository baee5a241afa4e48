"""The watchdog process itself.

Who dies when, and why, is told in `cronq.process.watchdog`. Everything here runs after a fork and ends in `os._exit`:
the guardian's `finally` blocks and atexit handlers are not ours to run.
"""

from __future__ import annotations

import gc
import json
import os
import resource  # noqa: F401 - os.wait4 loads it at its first call, when a deploy may have replaced the environment
import signal
import socket
import sys
import traceback
from math import inf
from typing import Any, NoReturn

from cronq.clock import boot_s
from cronq.process.channel import Channel, Frame
from cronq.process.line import Line
from cronq.process.longlived import LEAD_S, ChildMain, LongLivedChild, exit_code, wait_while_late
from cronq.process.result_file import ResultFile, Slate
from cronq.process.system import (
    HAS_PRCTL,
    adopt_orphans,
    descendants,
    die_with_parent,
    drain,
    flush_standard_streams,
    keep_private,
    kill,
    mute_inherited_fds,
    own_children,
    pidfd,
    readable,
    set_name,
)

#: What SIGKILL has not ended by then (a hung disk, another user) is reported and given up.
SWEEP_S = 2.0
#: Longest poll while a deadline is set: poll time-outs stand still while the machine is suspended.
_STEP_S = 0.25

#: The dead that are reaped before the living, and the deadline, are looked at again.
_MOST_REAPED = 200

#: Signals whose effect can be changed, except those that report a fault of the process itself.
_SIGNALS = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT,
    signal.SIGTRAP, signal.SIGSYS,
}  # fmt: skip
#: Python ignores these and raises exceptions instead; a command would inherit that.
_MADE_EXCEPTIONS = {signal.SIGPIPE, signal.SIGXFSZ}


class WatchdogProcess:
    """The watchdog process: one thread, one child at a time, and every descendant that child ever has."""

    def __init__(self, channel: Channel, child_main: ChildMain) -> None:
        self._channel = channel
        self._child_main = child_main
        self._pid = os.getpid()
        self._guardian = pidfd(os.getppid())
        self._run = 0
        self._child: int | None = None
        self._deadline: float | None = None
        self._end: dict[str, Any] | None = None  # of a child that is reaped but not yet reported
        self._kills = 0
        self._given_up: set[int] = set()
        self._has_more_dead = False
        self._slate = Slate()
        self._own_children = _open_list_of_children()  # for long-lived children to look at
        self._result: int | None = None
        # A death must end the poll, and none may be missed between two polls: the C-level handler writes a byte.
        self._deaths, self._deaths_in = socket.socketpair()
        for end in (self._deaths, self._deaths_in):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.set_wakeup_fd(self._deaths_in.fileno(), warn_on_full_buffer=False)

    def kept_fds(self) -> set[int]:
        """The descriptors this process needs."""
        fds = {self._channel.fileno(), self._deaths.fileno(), self._deaths_in.fileno()}
        return fds | {fd for fd in (self._guardian, self._own_children) if fd is not None}

    def serve(self) -> None:
        """Obey until the guardian is gone.

        EOF alone would not tell: a process that the guardian forked without exec holds its end of the socket.
        """
        sources = [self._channel, self._deaths, *([] if self._guardian is None else [self._guardian])]
        while True:
            step_s = None
            if self._deadline is not None:
                step_s = max(0.0, min(_STEP_S, self._deadline - LEAD_S - boot_s()))
            ready = readable(sources, step_s)
            if self._guardian is not None and self._guardian in ready:
                return
            try:
                if self._channel in ready:
                    for frame in self._channel.receive():
                        self._obey(frame)
                drain(self._deaths)
                self._look()
            except (EOFError, ConnectionError, TimeoutError):
                return

    def _obey(self, frame: Frame) -> None:
        header = frame.header
        if header["verb"] == "spawn":
            self._spawn(frame)
        elif self._child is None or header["run"] != self._run:
            pass  # a late word about an earlier child, such as its lock's last renewal
        elif header["verb"] == "extend":
            self._set_deadline(header["deadline"])
            if header["deadline"] is None:  # from now on there is none: one that comes late need not wait for another
                self._slate.note_deadline(inf)
        elif header["verb"] == "lift":
            self._set_deadline(None)
            self._channel.send({"run": self._run, "lifted": True})
        elif header["verb"] == "signal":
            kill(-self._child, header["signum"])  # it is not reaped, so the number still is its group's
        elif header["verb"] == "kill":
            self._finish("guardian")

    def _look(self) -> None:
        """Comes after the words: an extension that has arrived counts, however late this process read it."""
        self._reap()
        if self._child is None:
            return
        if self._end is not None:
            self._finish(None)
        elif self._is_past_deadline():
            self._finish("deadline")

    def _set_deadline(self, deadline_boot_s: float | None) -> None:
        self._deadline = deadline_boot_s
        self._slate.note_deadline(deadline_boot_s)

    def _is_past_deadline(self) -> bool:
        return self._deadline is not None and boot_s() >= self._deadline - LEAD_S

    def _finish(self, reason: str | None) -> None:
        """Kill all there is, then report the child's end."""
        self._reap()
        if self._end is not None:
            reason = None  # the child was faster than its killer
        self.sweep()
        killed = {"status": -signal.SIGKILL, "max_rss_kib": 0, "user_s": 0.0, "system_s": 0.0}
        report: dict[str, Any] = self._end or killed  # without an end it is one of the survivors
        report["ended_by"] = reason if report["status"] == -signal.SIGKILL else None
        report["leftovers"] = self._kills
        report["survivors"] = sorted(self._given_up)
        report["begun_boot_s"], report["begun_run"] = self._slate.begun_boot_s, self._slate.begun_run
        self._child = self._deadline = self._end = None
        if self._result is not None:
            self._slate.copy_to(self._result)
            os.close(self._result)
            self._result = None
        self._channel.send({"run": self._run, "exit": report})

    def sweep(self) -> None:
        """SIGKILL and reap all descendants; those that 2 s do not end are given up, here and in later sweeps.

        Orphans arrive generation by generation, as their parents are reaped; only ECHILD proves that none is
        left. The child's group goes first, in one call: within it even a process that forks without pause
        cannot escape. Once the child is reaped its number could be another's, which is risked without prctl.

        In a *flood*, of processes that fork, begin a session and leave, the dead come faster than they are reaped. Then
        the kernel reaps them, and rounds without a pause kill each process together with all that is seen below it.
        """
        self._kills = 0
        if self._child is not None and (self._end is None or not HAS_PRCTL):
            kill(-self._child, signal.SIGKILL)
        give_up_at = boot_s() + SWEEP_S
        is_flood = False
        while self._reap():
            if self._has_more_dead and not is_flood and (self._child is None or self._end is not None):
                is_flood = True
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            if self._has_more_dead and is_flood and boot_s() < give_up_at:
                continue
            targets = (descendants(give_up_at) if is_flood else own_children()) - self._given_up
            if not targets and self._given_up:
                break
            if boot_s() >= give_up_at:
                self._given_up |= targets
                break
            for pid in targets:
                kill(pid, signal.SIGKILL)
            self._kills += len(targets) if is_flood else 0  # they are not reaped here, and so not counted there
            readable([self._deaths], 0.0 if is_flood else 0.02)
            drain(self._deaths)
        if is_flood:
            signal.signal(signal.SIGCHLD, _do_nothing)

    def _reap(self) -> bool:
        """Collect the dead, a bounded number at a time; whether any child is left.

        Without the bound it would not return while processes die as fast as they are reaped.
        """
        self._has_more_dead = False
        for _ in range(_MOST_REAPED):
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._given_up.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            if pid == self._child:
                rss_kib = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
                times = {"user_s": usage.ru_utime, "system_s": usage.ru_stime}
                self._end = {"status": code, "max_rss_kib": rss_kib, **times}
            elif code == -signal.SIGKILL:
                self._kills += 1
        self._has_more_dead = True
        _wake(self._deaths_in)  # the others are for the next round
        return True

    def _spawn(self, frame: Frame) -> None:
        header = frame.header
        self._run, self._end = header["run"], None
        self._set_deadline(header["deadline"])
        answer: dict[str, Any] = {"run": self._run}
        self._slate.note_begun(0.0)
        try:
            if len(frame.fds) != len(header["files"]):
                raise OSError("too many open files")
            self._child = os.fork()
            if self._child == 0:
                self._become_child(frame)
            answer["pid"] = self._child
            os.setpgid(self._child, self._child)  # here as well as there: a signal may be ordered before it ran
        except OSError as error:
            if "pid" not in answer:  # else it was faster, and has become a command or ended since
                self._child = self._deadline = None
                answer["error"] = str(error)
        if self._child is not None:
            self._result = frame.fds.pop(0)
        for fd in frame.fds:
            os.close(fd)
        self._channel.send(answer)

    def _become_child(self, frame: Frame) -> NoReturn:
        code = 1
        try:
            os.setpgid(0, 0)
            die_with_parent(self._pid)
            set_name("cronq-child")
            keep_private(False)  # its core dumps and debuggers are the user's affair
            is_kept = "line" in frame.header["files"]
            self._let_go(but_list=is_kept)
            files = dict(zip(frame.header["files"], frame.fds, strict=True))
            if "stdin" in files:
                os.dup2(files["stdin"], 0)
                os.close(files["stdin"])
            for name, number in (("stdout", 1), ("stderr", 2)):
                if name in files:
                    _redirect(name, number, files[name])
            if is_kept:
                code = self._live_long(files["line"], files["result"])
            else:
                wait_while_late(self._deadline, self._slate)
                self._slate.note_begun(boot_s())
                code = self._work(frame.body, files["result"])
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                flush_standard_streams()
            finally:
                os._exit(code)

    def _work(self, body: bytes, result_fd: int) -> int:
        """The exit code of the work; Python itself has reseeded `random` after the fork."""
        left = ResultFile(result_fd, self._slate)
        try:
            return exit_code(lambda: self._child_main(json.loads(body), left))
        finally:
            left.flush()

    def _live_long(self, line_fd: int, result_fd: int) -> int:
        assert self._own_children is not None, "the guardian looks first whether there is such a list"
        line = Line(socket.socket(fileno=line_fd))
        return LongLivedChild(line, result_fd, self._slate, self._own_children, self._child_main).serve()

    def _let_go(self, *, but_list: bool) -> None:
        """Give up the watchdog's signals and files. Timers and alarms did not survive the fork anyway."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for signum in _MADE_EXCEPTIONS:
            # To Python an empty handler is as good as ignoring, and exec resets it: commands die of SIGPIPE again.
            signal.signal(signum, _do_nothing)
        for end in (self._channel, self._deaths, self._deaths_in):
            end.close()
        for fd in (self._guardian, None if but_list else self._own_children):
            if fd is not None:
                os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())


def keep(sock: socket.socket, child_main: ChildMain, guardian: int) -> NoReturn:
    """Be the watchdog of process *guardian*, just forked from it with all signals blocked, until it is gone."""
    keeper = None
    try:
        os.setsid()  # out of reach of the terminal's Ctrl-C and Ctrl-Z, and of a `kill -9` of the guardian's group
        adopt_orphans(True)
        set_name("cronq-watchdog")
        # This process blocks them instead of ignoring them: its children begin with the default handlers, and a signal
        # that reaches one of them before it has let go of the watchdog's files waits until it has.
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        keeper = WatchdogProcess(Channel(sock), child_main)
        mute_inherited_fds(keeper.kept_fds())
        keep_private(True)
        gc.freeze()  # no child's collection touches, and thereby copies, the pages shared with its ancestors
        signal.pthread_sigmask(signal.SIG_SETMASK, _SIGNALS - {signal.SIGCHLD})
        if os.getppid() == guardian:  # else it died before its pidfd was opened
            keeper.serve()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            if keeper is not None:
                keeper.sweep()
        finally:
            os._exit(0)


def _redirect(name: str, number: int, fd: int) -> None:
    """Make *fd* the standard stream *number*, to commands and to Python, whose own object may be another file."""
    os.dup2(fd, number)
    os.close(fd)
    stream = getattr(sys, name)
    try:
        is_there = stream.fileno() == number
    except (AttributeError, OSError, ValueError):  # None (it was closed when Python started), or not a file
        is_there = False
    if not is_there:
        raw = os.fdopen(number, "w", buffering=1, errors="backslashreplace", closefd=False)
        setattr(sys, name, raw)


def _open_list_of_children() -> int | None:
    try:
        return os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # not Linux, or a kernel without that file
        return None


def _wake(waker: socket.socket) -> None:
    try:
        waker.send(b"\0")
    except BlockingIOError:  # full: it will be read anyway
        pass


def _do_nothing(*_: object) -> None:
    """Handle a signal by having a handler."""
