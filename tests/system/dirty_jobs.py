"""What a child is told to do by `test_longlived.py`: each kind of dirt, by name, and how a run may end."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import decimal
import gc
import json
import locale
import logging
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from cronq.process import longlived
from cronq.process.once import once_per_child
from tests.system.guarded_family import flee

kept: list[Any] = []
word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="fresh")


def leave_a_thread(order: Mapping[str, Any]) -> None:
    threading.Thread(target=time.sleep, args=(100,), daemon=True).start()


def leave_a_thread_of_c(order: Mapping[str, Any]) -> None:
    entry = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(
        ctypes.cast(ctypes.CDLL(None).pause, ctypes.c_void_p).value
    )
    kept.append(entry)
    ctypes.CDLL(None).pthread_create(ctypes.byref(ctypes.c_ulong()), None, entry, None)


def end_threads(order: Mapping[str, Any]) -> None:
    for _ in range(20):
        thread = threading.Thread(target=time.sleep, args=(0.0001,))
        thread.start()
        thread.join()


def leave_a_child(order: Mapping[str, Any]) -> None:
    kept.append(subprocess.Popen(["sleep", "1000"]))


def leave_a_zombie(order: Mapping[str, Any]) -> None:
    if os.fork() == 0:
        os._exit(0)


def leave_a_daemon(order: Mapping[str, Any]) -> None:
    """setsid and two forks, and nobody is left that has waited for anything."""
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            tell_pid(order)
            time.sleep(1000)
        os._exit(0)
    os.wait()


def leave_a_sibling(order: Mapping[str, Any]) -> None:
    """A process that is the child of the watchdog at once: CLONE_PARENT."""
    pid = ctypes.CDLL(None).syscall(56, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        ctypes.CDLL(None).pause()


def leave_one_that_flees(order: Mapping[str, Any]) -> None:
    flee(order, sys.stdin.buffer)


def wait_for_a_process(order: Mapping[str, Any]) -> None:
    subprocess.run(["true"], check=True)


def open_a_file(order: Mapping[str, Any]) -> None:
    kept.append(tempfile.TemporaryFile())  # noqa: SIM115


def open_a_file_in_a_cycle(order: Mapping[str, Any]) -> None:
    cycle: list[Any] = [tempfile.TemporaryFile()]  # noqa: SIM115
    cycle.append(cycle)


def replace_a_file(order: Mapping[str, Any]) -> None:
    """The same numbers are open as before."""
    fd = os.open("/proc/self/status", os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)


def close_all(order: Mapping[str, Any]) -> None:
    os.closerange(0, 4096)


def close_all_and_open(order: Mapping[str, Any]) -> None:
    os.closerange(0, 4096)
    kept.extend(socket.socketpair() for _ in range(50))


def make_stdout_not_block(order: Mapping[str, Any]) -> None:
    os.set_blocking(1, False)


def replace_stdout(order: Mapping[str, Any]) -> None:
    sys.stdout = sys.stderr


def close_stdin(order: Mapping[str, Any]) -> None:
    sys.stdin = None  # type: ignore[assignment]


def change_directory(order: Mapping[str, Any]) -> None:
    os.chdir("/")


def set_umask(order: Mapping[str, Any]) -> None:
    os.umask(0o123)


def handle_a_signal(order: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGUSR1, print)


def replace_a_handler(order: Mapping[str, Any]) -> None:
    """SIGPIPE has one from the beginning."""
    signal.signal(signal.SIGPIPE, print)


def ignore_term(order: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def block_a_signal(order: Mapping[str, Any]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def be_woken_by_signals(order: Mapping[str, Any]) -> None:
    a, b = socket.socketpair()
    kept.extend((a, b))
    b.setblocking(False)
    signal.set_wakeup_fd(b.fileno())


def set_an_alarm(order: Mapping[str, Any]) -> None:
    signal.alarm(1000)


def set_a_timer(order: Mapping[str, Any]) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000.0)


def limit_files(order: Mapping[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def be_nice(order: Mapping[str, Any]) -> None:
    os.nice(1)


def stay_on_one_processor(order: Mapping[str, Any]) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def set_locale(order: Mapping[str, Any]) -> None:
    locale.setlocale(locale.LC_ALL, "C" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8")


def extend_path(order: Mapping[str, Any]) -> None:
    sys.path.insert(0, "/nowhere")


def set_a_variable(order: Mapping[str, Any]) -> None:
    os.environ["DIRT"] = "1"


def replace_the_environment(order: Mapping[str, Any]) -> None:
    os.environ = dict(os.environ)  # type: ignore[assignment] # noqa: B003


def leave_a_loop(order: Mapping[str, Any]) -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())


def change_the_group(order: Mapping[str, Any]) -> None:
    os.setpgid(0, os.getppid())


def change_the_user_and_back(order: Mapping[str, Any]) -> None:
    """The kernel forgets by it that this process is to die with the watchdog."""
    os.seteuid(1)
    os.seteuid(0)


def set_a_hook(order: Mapping[str, Any]) -> None:
    sys.excepthook = print  # type: ignore[assignment]


def trace(order: Mapping[str, Any]) -> None:
    sys.settrace(lambda *_: None)


def raise_recursion(order: Mapping[str, Any]) -> None:
    sys.setrecursionlimit(5000)


def stop_collecting(order: Mapping[str, Any]) -> None:
    gc.disable()


def set_a_time_out(order: Mapping[str, Any]) -> None:
    socket.setdefaulttimeout(5)


def filter_warnings(order: Mapping[str, Any]) -> None:
    warnings.simplefilter("ignore")


def add_a_handler(order: Mapping[str, Any]) -> None:
    logging.getLogger().addHandler(logging.NullHandler())


def grow(order: Mapping[str, Any]) -> None:
    kept.append(b"x" * (64 << 20))


#: By the kind that each of them is.
DIRT: dict[str, list[Callable[[Mapping[str, Any]], None]]] = {
    "threads": [leave_a_thread, leave_a_thread_of_c],
    "processes": [leave_a_child, leave_a_zombie, leave_a_daemon, leave_a_sibling, leave_one_that_flees],
    "waited": [wait_for_a_process],
    "descriptors": [open_a_file, replace_a_file],
    "streams": [make_stdout_not_block, replace_stdout, close_stdin],
    "directory": [change_directory],
    "umask": [set_umask],
    "signals": [handle_a_signal, replace_a_handler, ignore_term, block_a_signal, be_woken_by_signals],
    "timers": [set_an_alarm, set_a_timer],
    "limits": [limit_files, be_nice, stay_on_one_processor],
    "locale": [set_locale],
    "path": [extend_path],
    "environment": [set_a_variable, replace_the_environment],
    "event_loop": [leave_a_loop],
    "identity": [change_the_group, change_the_user_and_back],
    "hooks": [set_a_hook, trace, raise_recursion, stop_collecting, set_a_time_out, filter_warnings],
    "logging": [add_a_handler],
    "memory": [grow],
}


# How a run may end


def fail(order: Mapping[str, Any]) -> int:
    return 3


def raise_an_error(order: Mapping[str, Any]) -> None:
    raise ValueError("on purpose")


def exit_at_once(order: Mapping[str, Any]) -> None:
    os._exit(order.get("code", 7))


def crash(order: Mapping[str, Any]) -> None:
    ctypes.string_at(0)


def be_killed(order: Mapping[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def become_a_command(order: Mapping[str, Any]) -> None:
    os.execvp("sh", ["sh", "-c", "exit 9"])


def take_long(order: Mapping[str, Any]) -> None:
    tell_pid(order)
    time.sleep(order.get("seconds", 60.0))


def heed_term(order: Mapping[str, Any]) -> None:
    """End well although it was told to end."""
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: heard.append(signum))
    tell_pid(order)
    while not heard:
        time.sleep(0.01)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def return_in_a_fork(order: Mapping[str, Any]) -> str:
    """Both the child and its fork come back from the job."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "the child" if pid else "the fork"


def raise_in_a_fork(order: Mapping[str, Any]) -> str:
    if (pid := os.fork()) == 0:
        raise RuntimeError("in the fork")
    os.waitpid(pid, 0)
    return "the child"


def leave(order: Mapping[str, Any]) -> None:
    longlived.leave_after_this("snoozed")


# What leaves nothing


def spend(order: Mapping[str, Any]) -> None:
    until = time.process_time() + order["seconds"]
    while time.process_time() < until:
        pass


def swell(order: Mapping[str, Any]) -> None:
    b"x" * (order["mib"] << 20)


def speak(order: Mapping[str, Any]) -> None:
    sys.stdout.write(order["text"])
    sys.stderr.write("!" + order["text"])


def write_to_all_descriptors(order: Mapping[str, Any]) -> None:
    """What a job does that guesses which descriptor is its own."""
    for fd in range(3, 40):
        try:
            os.write(fd, b"junk that is no answer, and long enough to be read as one")
        except OSError:
            pass


def use_asyncio(order: Mapping[str, Any]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.get_event_loop().close()
    asyncio.set_event_loop(None)

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    return asyncio.run(work())


def bump_context(order: Mapping[str, Any]) -> list[Any]:
    seen = [word.get(), decimal.getcontext().prec, random.random()]
    word.set("used")
    decimal.getcontext().prec = 5
    return seen


def finalize(order: Mapping[str, Any]) -> None:
    class Last:
        def __del__(self) -> None:
            os.write(1, b"the end of " + order["text"].encode())

    cycle: list[Any] = [Last()]
    cycle.append(cycle)


def linger(order: Mapping[str, Any]) -> None:
    """Ends at once, and leaves what takes some time when it is collected."""

    class Last:
        def __del__(self) -> None:
            time.sleep(order["seconds"])

    cycle: list[Any] = [Last()]
    cycle.append(cycle)


def large(order: Mapping[str, Any]) -> str:
    return "x" * order["size"]


def nothing(order: Mapping[str, Any]) -> None:
    pass


@once_per_child
def pool() -> list[Any]:
    os.environ["POOL"] = "1"
    thread = threading.Thread(target=time.sleep, args=(100,), daemon=True)
    thread.start()
    return [os.getpid(), socket.socketpair(), thread, b"x" * (64 << 20), subprocess.Popen(["sleep", "1000"])]


@once_per_child(may_change=("descriptors", "threads"))
def growing_pool() -> list[Any]:
    return []


def use_pool(order: Mapping[str, Any]) -> int:
    if order.get("dirty"):
        os.environ["DIRT"] = "1"
    made: int = pool()[0]
    if order.get("more"):
        kept.append(socket.socketpair())
    return made


def use_growing_pool(order: Mapping[str, Any]) -> int:
    growing_pool().append(socket.socketpair())
    leave_a_thread(order)
    return len(growing_pool())


def tell_pid(order: Mapping[str, Any]) -> None:
    if "file" in order:
        with open(order["file"] + ".part", "w") as file:
            file.write(str(os.getpid()))
        os.rename(order["file"] + ".part", order["file"])


def state() -> dict[str, Any]:
    """What a run finds of what others may have left."""
    return {
        "cwd": os.getcwd(),
        "umask": os.umask(0o22) if os.umask(0o22) is not None else None,
        "threads": threading.active_count(),
        "variables": sorted({"DIRT", "POOL"} & set(os.environ)),
        "files": sorted(os.listdir("/proc/self/fd")),
        "usr1": f"{signal.getsignal(signal.SIGUSR1):d}",
        "kept": len(kept),
        "path": sys.path[0],
    }


def main(order: Mapping[str, Any], result: BinaryIO) -> int:
    """Do what the order names, and leave its value."""
    value = globals()[order["do"]](order)
    if order["do"] == "fail":
        return int(value)
    if order.get("state"):
        value = state()
    result.write(json.dumps([order.get("number"), value]).encode())
    return 0
