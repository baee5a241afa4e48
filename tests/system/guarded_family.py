"""What the processes of `test_watchdog.py` run: a child with every kind of descendant, and how they tell their pids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO


def say(**facts: Any) -> None:
    """One line of JSON to the test."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def daemonize(pid_file: Path) -> None:
    """A daemon as the books have it: setsid, forked twice, so that it is nobody's child and in no group of ours."""
    if (middle := os.fork()) == 0:
        os.setsid()
        if (daemon := os.fork()) == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(100)
        write(pid_file, str(daemon))
        os._exit(0)
    os.waitpid(middle, 0)


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").rename(path)


def family(order: Mapping[str, Any], result: BinaryIO) -> int:
    """Start a plain child, a setsid child and a daemon; leave their pids in `directory`; then do as told."""
    directory = Path(order["directory"])
    plain = subprocess.Popen(["sleep", "1000"])
    session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    daemonize(directory / "daemon")
    pids = {
        "child": os.getpid(),
        "plain": plain.pid,
        "session": session.pid,
        "daemon": int((directory / "daemon").read_text()),
    }
    if order.get("stubborn"):  # only now: a command inherits what is ignored
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    write(directory / "family", json.dumps(pids))
    if order.get("leave"):
        os._exit(0)
    if order.get("busy"):
        sum(range(10**12))  # C code: no handler of Python's runs, and no other thread
    while True:
        time.sleep(100)


def brood(order: Mapping[str, Any], result: BinaryIO) -> int:
    """Be busy starting processes of every kind for a few milliseconds, then leave them."""
    for _ in range(3):
        subprocess.Popen(["sleep", "1000"])
        if os.fork() == 0:
            os.setsid()
            subprocess.Popen(["sleep", "1000"], start_new_session=True)
            os._exit(0)
    os._exit(0)


def flee(order: Mapping[str, Any], result: BinaryIO) -> int:
    """Leave behind a process that changes its pid, session and parent for ever."""
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork():
                os._exit(0)
    return 0
