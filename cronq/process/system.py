"""System calls that guarding processes takes: adoption, parent-death signals, /proc, inherited files.

Without prctl or /proc (macOS) these do less, quietly; what follows from that is told in `cronq.process.watchdog`.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, NoReturn

from cronq.clock import boot_s

_prctl = getattr(ctypes.CDLL(None), "prctl", None)
HAS_PRCTL = _prctl is not None
_PR_GET_PDEATHSIG = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 4, 15, 36

_CAP_KILL = 5


def _set(option: int, value: int | bytes) -> None:
    if _prctl is not None:
        argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
        _prctl(option, argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def death_signal() -> int | None:
    """What `die_with_parent` has set, if the kernel still knows it."""
    if _prctl is None:
        return None
    answer = ctypes.c_int(0)
    _prctl(_PR_GET_PDEATHSIG, ctypes.byref(answer))
    return answer.value


def adopt_orphans(wanted: bool) -> None:
    """Whether descendants that lose their parent become children of this process ("subreaper")."""
    _set(_PR_SET_CHILD_SUBREAPER, int(wanted))


def keep_private(wanted: bool) -> None:
    """Whether other processes of the same user are kept from this one's memory, files and environment in /proc."""
    _set(_PR_SET_DUMPABLE, int(not wanted))


def set_name(name: str) -> None:
    """What `ps -o comm` and `top` show of this process; at most 15 bytes."""
    _set(_PR_SET_NAME, name.encode())


def die_with_parent(parent: int | None = None, signum: int = signal.SIGKILL) -> None:
    """Have the kernel send *signum* when this process's parent dies; exits at once if that is no longer *parent*.

    The kernel forgets this when a process changes its user or group: call it again after that.
    """
    expected = os.getppid() if parent is None else parent
    _set(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != expected:  # it died before the kernel knew
        os._exit(1)


def pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when *pid* ends; None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, an old kernel, a sandbox
        return None


def kill(pid: int, signum: int) -> None:
    """Send a signal to a process, or to group -pid; what is gone or another user's is left alone."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        pass


def may_kill_others() -> bool:
    """Whether this process may end those of other users (CAP_KILL); where that cannot be told: being root."""
    try:
        with open("/proc/self/status") as file:
            effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return os.geteuid() == 0
    return bool(effective >> _CAP_KILL & 1)


def is_in_own_session(pid: int) -> bool:
    """Whether *pid* belongs to this process's session; True as well when it is gone."""
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return True


def _read_whole(path: str) -> bytes:
    """What a file of /proc says. `open` would take three times as long, and some are read several times a run."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read = b""
        while piece := os.read(file, 1 << 16):
            read += piece
        return read
    finally:
        os.close(file)


def own_children() -> set[int]:
    """Pids of this process's children, adopted and unreaped ones included. Without /proc: none."""
    try:
        found: set[int] = set()
        for task in os.listdir("/proc/self/task"):  # every thread has its own
            found.update(map(int, _read_whole(f"/proc/self/task/{task}/children").split()))
        return found
    except OSError:  # a kernel without that file, or a thread that has just ended: the long way
        return _children_by_scan()


def descendants(until_boot_s: float) -> set[int]:
    """Pids of this process's children and of all that can be seen below them, looked for no longer than asked."""
    found = new = own_children()
    while new and boot_s() < until_boot_s:
        new = {pid for parent in new for pid in _children_of(parent)} - found
        found = found | new
    return found


def _children_of(pid: int) -> set[int]:
    """Children of the main thread of another process; none when it is gone. Those of other threads come later."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return set(map(int, file.read().split()))
    except OSError:
        return set()


def _children_by_scan() -> set[int]:
    found = set()
    mine = os.getpid()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        try:
            with open(f"/proc/{int(name)}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # the name before it may contain anything
        except (ValueError, OSError):
            continue
        if int(fields[1]) == mine:
            found.add(int(name))
    return found


def _open_fds() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # no /proc behind it
        return range(min(os.sysconf("SC_OPEN_MAX"), 4096))


def mute_inherited_fds(kept: set[int]) -> None:
    """Turn stdin and every socket, pipe and the like except *kept* into /dev/null; files stay, for log handlers.

    Not closed: the objects that own those numbers live on in this process, and one that is dropped later would
    close whatever has its number by then. Nothing beyond 0, 1, 2 survives an exec.
    """
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    for fd in _open_fds():
        if fd < 3 or fd == null or fd in kept:
            continue
        try:
            kind = stat.S_IFMT(os.fstat(fd).st_mode)
            if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK):
                os.dup2(null, fd, inheritable=False)
            os.set_inheritable(fd, False)
        except OSError:  # the listing's own descriptor
            continue
    os.close(null)


def open_standard_fds() -> None:
    """Fill 0, 1, 2 where they are closed, so that no socket gets one of these numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)


def flush_standard_streams() -> bool:
    """Flush stdout and stderr; False when what they held is lost. Never raises: a job may have put anything there."""
    is_kept = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:  # closing it has flushed it
                stream.flush()
        except Exception:  # its reader is gone or the disk full; its descriptor was closed
            is_kept = False
    return is_kept


def forked(become: Callable[[], NoReturn]) -> int:
    """Fork, and be *become* in the new process, which begins with all signals blocked; the pid of that.

    A signal between the fork and its own handlers would run this process's handlers in it.
    """
    flush_standard_streams()  # else it, and each child of it, would print again what is still buffered here
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            become()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def scratch_file() -> BinaryIO:
    """A file without a name, in memory where the system has that: quicker, and a full disk does not end runs."""
    try:
        return os.fdopen(os.memfd_create("cronq-scratch"), "w+b")
    except (AttributeError, OSError):  # not Linux, a sandbox
        return tempfile.TemporaryFile()


def readable(sources: Sequence[Any], timeout_s: float | None) -> list[Any]:
    """Those of *sources* (descriptors, or objects that have one) with something to read, or ended."""
    poller = select.poll()
    by_fd = {source if isinstance(source, int) else source.fileno(): source for source in sources}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poller.poll(None if timeout_s is None else timeout_s * 1000)]


def drain(sock: socket.socket) -> None:
    """Empty a non-blocking socket that serves only to wake a poll."""
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        pass
