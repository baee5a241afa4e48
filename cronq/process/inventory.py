"""What a long-lived child looks like between two runs: one small check for each kind of dirt that a run may leave.

The child looks and reports; its guardian compares that with what was reported at the birth of the child, and judges.
What a check returns can be hashed: a number for each is all that travels. One look takes less than 0.1 ms.

What a program keeps in its own modules is not looked at: caches there are what a long-lived child is for.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import gc
import hashlib  # noqa: F401 - `random` asks for it when it is seeded
import locale
import logging
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

from cronq.clock import boot_s
from cronq.config import living_environment
from cronq.process.system import death_signal

Facts = dict[str, Any]

#: How long a thread that has ended may still be seen by the system, and how often that is looked at.
_THREAD_ENDS_S = 0.005
_STEP_S = 0.0001
_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
#: Also children that send no SIGCHLD.
_ANY_CHILD = os.WEXITED | os.WNOHANG | os.WNOWAIT | 0x40000000
_MOST_READ = 1 << 16


class Look:
    """One look at this process, whose watchdog is its parent; *watchdog_children* lists the children of that.

    That is a descriptor of the kernel's list, opened by the watchdog: whoever is not root may not be allowed to open
    that of another process.
    """

    def __init__(self, watchdog_children: int, other_threads: int) -> None:
        self.watchdog_children = watchdog_children
        #: Threads that are none of Python's, such as those of a library for numbers, made once per child.
        self.other_threads = other_threads
        self.status = read_proc("/proc/self/status")

    def lines(self, first: bytes, after: bytes) -> bytes:
        """The lines of /proc/self/status from *first* to before *after*."""
        begin = self.status.index(b"\n%b:" % first)
        return self.status[begin : self.status.index(b"\n%b:" % after, begin)]

    def number(self, name: bytes) -> int:
        """The number that a line of /proc/self/status begins with."""
        begin = self.status.index(b"\n%b:" % name) + len(name) + 2
        return int(self.status[begin : self.status.index(b"\n", begin)].split()[0])

    @property
    def rss_kib(self) -> int:
        """How much memory this process has."""
        return self.number(b"VmRSS")


def read_proc(path: str) -> bytes:
    """What a small file of /proc says."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_READ)
    finally:
        os.close(file)


def threads(look: Look) -> tuple[int, ...]:
    """Threads, by the system's numbers: Python's and any other."""
    if look.number(b"Threads") == 1:
        return (os.getpid(),)
    until = None
    while True:
        found = tuple(sorted(map(int, os.listdir("/proc/self/task"))))
        if len(found) <= threading.active_count() + look.other_threads:
            return found
        now = boot_s()
        until = until or now + _THREAD_ENDS_S
        if now >= until:
            return found
        time.sleep(_STEP_S)  # one that was joined just now is still ending


def processes(look: Look) -> tuple[int, ...]:
    """Children of this process, then those of the watchdog, to which orphans fall. The order closes a race:

    a child that ends between the two looks has been seen in the first one, and what it left behind falls to the
    watchdog before it is gone from the first, so the second sees it. In the kernel's list newcomers come last; as this
    process is in it throughout, no later one is passed over.
    """
    found = _own_children()
    orphans = list(map(int, os.pread(look.watchdog_children, _MOST_READ, 0).split()))
    orphans.remove(os.getpid())
    return (*found, *orphans)


def _own_children() -> list[int]:
    try:
        os.waitid(os.P_ALL, 0, _ANY_CHILD)
    except ChildProcessError:  # the one sure word that there is none
        return []
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        found += map(int, read_proc(f"/proc/self/task/{task}/children").split())
    return found or [-1]


def waited(look: Look) -> tuple[float, ...]:
    """What the children used that it has waited for: their peak of memory cannot be told from that of later ones."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime, used.ru_stime, used.ru_maxrss, used.ru_minflt, used.ru_nvcsw, used.ru_nivcsw


def descriptors(look: Look) -> tuple[tuple[int, int, int], ...]:
    """Open descriptors: the number, and which file it is."""
    found: list[tuple[int, int, int]] = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            seen = os.fstat(fd)
        except OSError:  # the listing's own
            continue
        found.append((fd, seen.st_dev, seen.st_ino))
    found.sort()
    return tuple(found)


def streams(look: Look) -> tuple[Any, ...]:
    """The flags of 0, 1 and 2, and Python's objects for them."""
    objects = (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return (
        *(fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (0, 1, 2)),
        *map(id, objects),
        *(each is None or each.closed for each in objects),
    )


def directory(look: Look) -> tuple[int, ...]:
    """The current directory, and which one is the root."""
    here, root = os.stat("."), os.stat("/")
    return here.st_dev, here.st_ino, root.st_dev, root.st_ino


def umask(look: Look) -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def signals(look: Look) -> tuple[Any, ...]:
    """Which signals are blocked, ignored and handled, by what, and who is woken by them."""
    wakes = signal.set_wakeup_fd(-1)
    if wakes != -1:
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    masks = look.lines(b"SigBlk", b"CapInh")
    return masks, tuple([id(signal.getsignal(signum)) for signum in _caught(masks)]), wakes


@functools.lru_cache(maxsize=8)
def _caught(masks: bytes) -> list[int]:
    bits = int(masks.rpartition(b":")[2], 16)
    return [signum for signum in range(1, signal.NSIG) if bits >> (signum - 1) & 1]


def timers(look: Look) -> tuple[bool, ...]:
    """Whether alarms are set."""
    return tuple([signal.getitimer(timer) != (0.0, 0.0) for timer in _TIMERS])


def limits(look: Look) -> tuple[Any, ...]:
    """Resource limits, niceness, scheduling and processors."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    processors = look.lines(b"Cpus_allowed", b"voluntary_ctxt_switches")
    return tuple(map(resource.getrlimit, _LIMITS)), nice, os.sched_getscheduler(0), processors


def locale_set(look: Look) -> str:
    """The locale, to Python and to C."""
    return locale.setlocale(locale.LC_ALL)


def path(look: Look) -> tuple[Any, ...]:
    """Where modules are found, and the words that the program was given."""
    return tuple(map(str, sys.path)), tuple(map(id, sys.meta_path)), tuple(map(id, sys.path_hooks)), tuple(sys.argv)


def environment(look: Look) -> tuple[int, int]:
    """The environment, as one number."""
    variables = living_environment()
    return id(variables), hash(frozenset(getattr(variables, "_data", variables).items()))


def event_loop(look: Look) -> tuple[bool, bool, int]:
    """An event loop that runs, or was left open; and the kind of loops that are made."""
    policy, loop = loop_policy(), None
    if policy is not None:
        loop = getattr(getattr(policy, "_local", None), "_loop", None)
    is_left = loop is not None and not loop.is_closed()
    kind = 0 if policy is None or type(policy) is _default_policy() else id(type(policy))
    return asyncio._get_running_loop() is not None, is_left, kind


def identity(look: Look) -> tuple[Any, ...]:
    """User, groups, capabilities, process group and session, and that it dies with its watchdog."""
    users, groups = look.lines(b"Uid", b"FDSize"), look.lines(b"Groups", b"VmPeak")
    return users, groups, look.lines(b"CapInh", b"Cpus_allowed"), death_signal()


def hooks(look: Look) -> tuple[Any, ...]:
    """What Python calls by itself, and its settings for all code."""
    return (
        *map(id, _called()),
        sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold(), gc.get_debug(),
        len(gc.callbacks), socket.getdefaulttimeout(), hash(tuple(warnings.filters)),
    )  # fmt: skip


def _called() -> tuple[Any, ...]:
    return (
        sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook, threading.excepthook, sys.gettrace(),
        sys.getprofile(), warnings.showwarning, warnings.formatwarning,
    )  # fmt: skip


def log_handlers(look: Look) -> tuple[Any, ...]:
    """Handlers and level of the root logger: one handler more for each run would write each line so often."""
    root = logging.root
    return root.level, tuple(map(id, root.handlers)), tuple(map(id, root.filters)), root.manager.disable


#: Every check by the word that history, log and counters have for it; `once_per_child(may_change=…)` takes the same.
CHECKS: Mapping[str, Callable[[Look], Any]] = {
    "threads": threads,
    "processes": processes,
    "waited": waited,
    "descriptors": descriptors,
    "streams": streams,
    "directory": directory,
    "umask": umask,
    "signals": signals,
    "timers": timers,
    "limits": limits,
    "locale": locale_set,
    "path": path,
    "environment": environment,
    "event_loop": event_loop,
    "identity": identity,
    "hooks": hooks,
    "logging": log_handlers,
}


#: Facts that are several members, which come and go by themselves.
_MEMBERS = ("threads", "processes", "descriptors")
_PRINTS = struct.Struct(f"={len(CHECKS)}q")


def take(look: Look) -> Facts:
    """Look at everything, first at what may change by itself. What cannot be looked at is a fact as well."""
    facts: Facts = {}
    for name, check in CHECKS.items():
        try:
            facts[name] = check(look)
        except Exception as error:  # a job may have left anything in `sys` or `os`
            facts[name] = f"cannot be told: {type(error).__name__}"
    return facts


def fingerprint(facts: Facts) -> bytes:
    """A number for each fact, in the order of `CHECKS`; equal for equal facts of one process."""
    return _PRINTS.pack(*map(hash, facts.values()))


def differing(print_before: bytes, print_after: bytes) -> list[str]:
    """The names of the checks whose facts are not the same."""
    pairs = zip(_PRINTS.unpack(print_before), _PRINTS.unpack(print_after), strict=True)
    return [name for name, (before, after) in zip(CHECKS, pairs, strict=True) if before != after]


def absorbed(baseline: Facts, before: Facts, after: Facts) -> Facts:
    """*baseline* with what changed from *before* to *after*, and with nothing that had changed earlier."""
    result = dict(baseline)
    for name, later in after.items():
        old, earlier = baseline[name], before[name]
        if later == earlier:
            continue
        if name in _MEMBERS and all(isinstance(each, tuple) for each in (old, earlier, later)):
            result[name] = tuple(sorted({*old} - ({*earlier} - {*later}) | ({*later} - {*earlier})))
        elif earlier == old:
            result[name] = later
    return result


def _default_policy() -> Any:
    return getattr(asyncio, "_DefaultEventLoopPolicy", None) or asyncio.DefaultEventLoopPolicy


def forget_loops(born_with: Any) -> None:
    """Let the next run find asyncio as this child found it, whose policy was *born_with*.

    `asyncio.run` leaves behind that there once was a loop, and then `get_event_loop` refuses to make one.
    """
    events = cast(Any, asyncio.events)
    events._event_loop_policy = born_with
    local = getattr(born_with, "_local", None)
    if local is not None:
        local._loop, local._set_called = None, False


def referred() -> list[Any]:
    """The objects whose `id` stands in facts: while somebody has them, none is freed and no other gets its place."""
    return [
        *map(signal.getsignal, signal.valid_signals()),
        *(sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__),
        *_called(),
        *(*sys.meta_path, *sys.path_hooks, *logging.root.handlers, *logging.root.filters),
        living_environment(),
    ]


def count_other_threads() -> int:
    """Threads of this process that are none of Python's."""
    return max(0, len(os.listdir("/proc/self/task")) - threading.active_count())


def loop_policy() -> Any:
    """What makes event loops, and what `forget_loops` is to restore; None before the first one."""
    return getattr(asyncio.events, "_event_loop_policy", None)


def reset_peak() -> bool:
    """Have the peak of this process's memory count from now; False where the system does not let it."""
    try:
        file = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(file, b"5") == 1
    except OSError:
        return False
    finally:
        os.close(file)
