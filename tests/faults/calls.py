"""Names the calls that pass a proxy, and fails one of them in one way.

    calls = Calls(client)
    with FaultProxy(url, judge=calls.judge) as proxy:
        ...                                        # a faultless round
        for call in calls.begin():                 # the calls of that round, by name
            failed = calls.fail(call, "lost reply")
            ...                                    # a round in which this one fails
            assert failed.is_set()

A call is what a client sends at once: one command, or a pipeline. Its name says what it does and to what
kind of key, and counts: `evalsha runs/settle #1`, `hgetall cronq:run #2`. Nothing is listed by hand, so a new
call is failed from the day it is there.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Iterable

from redis import Redis

from cronq.db import scripts
from tests.faults.proxy import CUT, LOSE_ANSWER, SWALLOW


def sha_of(script: str) -> bytes:
    """What a call of one of our scripts contains."""
    return hashlib.sha1(scripts.source(script).encode()).hexdigest().encode()


#: The scripts by what a call of theirs contains.
_SCRIPTS = {sha_of(name): name for name in scripts.names()}
#: One call of it is a look for work, or tells of an end and is a look for work.
EXCHANGE = "runs/settle_and_take"
#: What a connection says before anything else: to fail it is to refuse the connection.
_HANDSHAKE = {"hello", "auth", "client", "select", "ping"}
_AT_SCRIPT = ("evalsha", "eval")

_ANSWERS = {
    "READONLY": "READONLY You can't write against a read only replica.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF": "MISCONF Errors writing to the AOF file: No space left on device",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "NOSCRIPT": "NOSCRIPT No matching script. Please use EVAL.",
}
_FAULTS = {"refused": CUT, "time-out": SWALLOW, "lost reply": LOSE_ANSWER}
#: Every way to fail: three of the network, the others answers of Redis.
WAYS = (*_FAULTS, *_ANSWERS)


def load_scripts(client: Redis) -> None:
    """Teach the server our scripts: the first use of one is another call than all later ones."""
    for name in _SCRIPTS.values():
        client.script_load(scripts.source(name))


class Calls:
    """What passes a proxy since `begin`; the `judge` of that proxy.

    With *mark* the calls are counted anew after each call of that name without its number.
    """

    def __init__(self, client: Redis, mark: str = "") -> None:
        self._mark = mark
        self._lock = threading.Lock()
        self._seen: list[str] = []
        self._counts: Counter[str] = Counter()
        self._armed: tuple[str, str, threading.Event] | None = None
        writing = {name for name, facts in client.command().items() if {"write", "denyoom"} & set(facts["flags"])}
        self._writing = writing | set(_AT_SCRIPT)

    @property
    def seen(self) -> list[str]:
        """The names of the calls so far, in their order."""
        with self._lock:
            return list(self._seen)

    def begin(self) -> list[str]:
        """Count anew; the names of the calls so far, each once, in their order."""
        with self._lock:
            seen = list(dict.fromkeys(self._seen))
            self._seen.clear()
            self._counts.clear()
        return seen

    def fail(self, call: str, way: str) -> threading.Event:
        """Fail the next call of this name, once; set when that happened."""
        failed = threading.Event()
        with self._lock:
            self._armed = (call, way, failed)
        return failed

    def disarm(self) -> None:
        """Fail nothing any more."""
        with self._lock:
            self._armed = None

    def cases(self, names: Iterable[str], chance: random.Random, most: int | None) -> list[tuple[str, str]]:
        """(call, way) for *names* in all ways in which each can fail, or a sample as *chance* has it.

        The sample has *most* ways of each script, the lost reply, which alone leaves something that nobody
        knows of, always among them; and one way of any other call.
        """
        found = []
        for name in names:
            ways = [way for way in WAYS if self.can_fail(name, way)]
            if most is not None:
                is_script = name.startswith(_AT_SCRIPT)
                chance.shuffle(ways)
                ways.sort(key=lambda way: is_script and way != "lost reply")
                ways = ways[: most if is_script else 1]
            found += [(name, way) for way in ways]
        return found

    def can_fail(self, call: str, way: str) -> bool:
        """Whether Redis ever answers *call* so."""
        words = {part.split()[0] for part in call.split(" + ")}
        if way == "NOSCRIPT":
            return "evalsha" in words
        return way not in _ANSWERS or way == "LOADING" or bool(words & self._writing)

    def judge(self, request: list[list[bytes]]) -> str | bytes | None:
        name = _name(request)
        if name is None:
            return None
        with self._lock:
            self._counts[name] += 1
            call = f"{name} #{self._counts[name]}"
            self._seen.append(call)
            if name == self._mark:
                self._counts.clear()
            if self._armed is None or self._armed[0] != call:
                return None
            _, way, failed = self._armed
            self._armed = None
        failed.set()
        return _FAULTS[way] if way in _FAULTS else _refusal(request, _ANSWERS[way])


def _name(request: list[list[bytes]]) -> str | None:
    """What this call is called; None for the first words of a connection."""
    names = [_name_of(command) for command in request if command[0].lower() not in (b"multi", b"exec")]
    if names[0].split()[0] in _HANDSHAKE:
        return None
    return " + ".join(dict.fromkeys(names))


def _name_of(command: list[bytes]) -> str:
    verb = command[0].decode().lower()
    if verb in _AT_SCRIPT:
        sha = command[1] if verb == "evalsha" else hashlib.sha1(command[1]).hexdigest().encode()
        name = f"{verb} {_SCRIPTS.get(sha, 'of redis_lock')}"
        return name if not name.endswith(EXCHANGE) or b'"ends": []' in command[-1] else f"{name} of an end"
    if verb == "script":
        return "script load"
    kind = b":".join(command[1].split(b":")[:2]).decode() if len(command) > 1 else ""
    return f"{verb} {kind}".strip()


def _refusal(request: list[list[bytes]], words: str) -> bytes:
    """The answer of a Redis that refuses *request*, a transaction as a whole."""
    answers = {b"multi": b"+OK\r\n", b"exec": b"-EXECABORT Transaction discarded because of previous errors.\r\n"}
    return b"".join(answers.get(command[0].lower(), f"-{words}\r\n".encode()) for command in request)
