"""Watchdogs for a process that has threads: a process with one thread forks them on demand.

    guardian G ─┬─ nursery
                ├─ watchdog ── child
                └─ watchdog ── child

A fork of a process with threads has one of them only, and whatever lock another held stays locked in it for ever. So
the nursery is forked while G has one thread, and forks whatever watchdog is needed later, with the modules of that
moment. It forks twice: the process in between ends at once, and the watchdog falls to G, which adopts orphans, as if G
had forked it. When the nursery dies, nothing else does; only the next watchdog has to be forked by G itself.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import time
import traceback
from contextlib import suppress
from typing import NoReturn

from cronq.process.channel import Channel
from cronq.process.household import HOUSEHOLD
from cronq.process.longlived import ChildMain
from cronq.process.system import (
    HAS_PRCTL,
    forked,
    keep_private,
    kill,
    mute_inherited_fds,
    open_standard_fds,
    pidfd,
    readable,
    set_name,
)
from cronq.process.watchdog_process import keep

log = logging.getLogger("cronq.worker")

#: How long the nursery may leave an order unanswered before it counts as hung.
_PATIENCE_S = 2.0
#: Between two looks of a new watchdog at who its parent is.
_STEP_S = 0.0005


class _NurseryDied(Exception):
    """The nursery is gone, or did not answer."""


class Nursery:
    """Forks watchdogs whose children run *child_main*, for all threads of this process."""

    def __init__(self, child_main: ChildMain) -> None:
        self._child_main = child_main
        self._pid: int | None = None
        self._channel: Channel | None = None
        self._closing = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Its process id; None before `start`, after `close`, and when it was found dead."""
        return self._pid

    def start(self) -> None:
        """Fork it. Call it before this process has threads; without prctl (macOS) there is none."""
        if not HAS_PRCTL or self._pid is not None:
            return
        if threading.active_count() > 1:
            names = ", ".join(thread.name for thread in threading.enumerate()[1:])
            log.warning("THREADS %s: started when the job modules were imported; the jobs will not have them", names)
        open_standard_fds()
        ours, theirs = socket.socketpair()
        guardian = os.getpid()
        self._pid = HOUSEHOLD.admit(lambda: forked(lambda: _nurse(theirs, self._child_main, guardian)))
        theirs.close()
        self._channel = Channel(ours)

    def fork_watchdog(self, sock: socket.socket) -> int | None:
        """Have a watchdog forked that talks through *sock*; its pid. It is a child of this process, and admitted.

        None when there is no nursery any more. Raises OSError when it could not fork.
        """
        if self._channel is None:
            return None
        try:
            return HOUSEHOLD.admit(lambda: self._ask(sock))  # which lets in one thread at a time
        except _NurseryDied as error:
            log.warning("NURSERY %s: from now on this process forks watchdogs itself", error)
            self.close()
            return None

    def close(self) -> None:
        """End it; nothing happens when there is none. The watchdogs that it has forked stay."""
        with self._closing:
            if self._channel is None or self._pid is None:
                return
            self._channel.close()
            if HOUSEHOLD.is_alive(self._pid):
                kill(self._pid, signal.SIGKILL)
            while HOUSEHOLD.is_alive(self._pid):
                time.sleep(_STEP_S)
            HOUSEHOLD.bury(self._pid)
            self._channel = self._pid = None

    def _ask(self, sock: socket.socket) -> int:
        channel = self._channel
        if channel is None:
            raise _NurseryDied("is gone")
        try:
            channel.send({"files": ["socket"]}, fds=[sock.fileno()])
            if channel not in readable([channel], _PATIENCE_S):
                raise _NurseryDied(f"(pid {self._pid}) left an order unanswered for {_PATIENCE_S:g} s")
            (frame,) = channel.receive()
        except (OSError, EOFError):
            raise _NurseryDied(f"(pid {self._pid}) died") from None
        if "error" in frame.header:
            raise OSError(frame.header["error"])
        return int(frame.header["pid"])


def _nurse(sock: socket.socket, child_main: ChildMain, guardian: int) -> NoReturn:
    """Be the nursery of process *guardian*, just forked from it with all signals blocked, until it is gone."""
    try:
        os.setsid()  # out of reach of the terminal
        set_name("cronq-nursery")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, nobody could be waited for
        channel, guardian_fd = Channel(sock), pidfd(guardian)
        mute_inherited_fds({channel.fileno()} if guardian_fd is None else {channel.fileno(), guardian_fd})
        keep_private(True)
        gc.freeze()  # no collection of a watchdog or a child touches, and thereby copies, the pages that all share
        sources = [channel] if guardian_fd is None else [channel, guardian_fd]
        with suppress(EOFError, OSError):
            while os.getppid() == guardian and guardian_fd not in readable(sources, None):
                for frame in channel.receive():
                    channel.send(_forked_twice(frame.fds[0], child_main, guardian))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _forked_twice(fd: int, child_main: ChildMain, guardian: int) -> dict[str, object]:
    """Fork a watchdog that falls to *guardian*, and say its pid."""
    reader, writer = os.pipe()
    try:
        middle = os.fork()
        if middle == 0:
            _be_between(fd, writer, child_main, guardian)
        os.waitpid(middle, 0)
        os.set_blocking(reader, False)
        return {"pid": int(os.read(reader, 20))}
    except (OSError, ValueError) as error:  # without a word the second fork has failed
        return {"error": f"the nursery could not fork a watchdog: {error}"}
    finally:
        for each in (reader, writer, fd):
            os.close(each)


def _be_between(fd: int, writer: int, child_main: ChildMain, guardian: int) -> NoReturn:
    try:
        between = os.getpid()
        pid = os.fork()
        if pid == 0:
            while os.getppid() == between:
                time.sleep(_STEP_S)
            keep(socket.socket(fileno=fd), child_main, guardian)
        os.write(writer, str(pid).encode())
    finally:
        os._exit(0)
