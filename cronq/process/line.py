"""The line between a guardian and its long-lived child: orders one way, answers the other, past the watchdog."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Longest time for one send of the guardian; an idle child reads at once unless it is stopped.
SEND_S = 10
_PIECE = 1 << 18
#: No part is longer; the largest result is that of an RQ job.
_MOST = 1 << 27


class LineGarbled(OSError):
    """Something else than this module has written to the line, such as a job that guesses descriptors."""


@dataclass(frozen=True)
class Message:
    """An order (head, body) or an answer, which has facts and at times a new baseline for them as well."""

    head: dict[str, Any]
    baseline: bytes = b""
    facts: bytes = b""
    body: bytes = b""


class Line:
    """One end of it. The other end may close, or die at any byte. No send waits longer than *send_s*."""

    _lengths = struct.Struct("!4sIIII")
    _span = struct.Struct("@ll")  # a `timeval`
    _mark = b"\0cqL"

    def __init__(self, sock: socket.socket, send_s: int | None = None) -> None:
        self._sock = sock
        if send_s is not None:  # with a time-out of Python's own each call would look first whether it may
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, self._span.pack(send_s, 0))
        self._buffer = bytearray()
        self._known = os.fstat(sock.fileno())

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def is_itself(self) -> bool:
        """False when the descriptor was closed behind our back, or is another file by now."""
        try:
            return os.path.samestat(os.fstat(self._sock.fileno()), self._known)
        except OSError:
            return False

    def send(self, head: Mapping[str, Any], *, baseline: bytes = b"", facts: bytes = b"", body: bytes = b"") -> None:
        """Raises OSError, after which the other end may have a part of it."""
        first = json.dumps(head).encode()
        lengths = self._lengths.pack(self._mark, len(first), len(baseline), len(facts), len(body))
        self._sock.sendall(b"".join((lengths, first, baseline, facts, body)))

    def receive(self) -> Message | None:
        """Wait for the next message; None when the other end has closed. Raises LineGarbled."""
        while True:
            message = self._next()
            if message is not None:
                return message
            try:
                data = self._sock.recv(_PIECE)
            except ConnectionError:  # it has closed without having read all, such as junk that a job wrote
                return None
            if not data:
                return None
            self._buffer += data

    def receive_now(self) -> Message | None:
        """The next message if all of it is here. Raises LineGarbled; EOFError when the other end has closed."""
        while True:
            message = self._next()
            if message is not None:
                return message
            try:
                data = self._sock.recv(_PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except ConnectionError:
                raise EOFError from None
            if not data:
                raise EOFError
            self._buffer += data

    def _next(self) -> Message | None:
        start = self._lengths.size
        if len(self._buffer) < start:
            return None
        mark, *sizes = self._lengths.unpack_from(self._buffer)
        if mark != self._mark or max(sizes) > _MOST:
            raise LineGarbled("somebody else has written to the line of a child")
        end = start + sum(sizes)
        if len(self._buffer) < end:
            return None
        parts = []
        for size in sizes:
            parts.append(bytes(self._buffer[start : start + size]))
            start += size
        del self._buffer[:end]
        try:
            head = json.loads(parts[0])
        except ValueError as error:
            raise LineGarbled(str(error)) from None
        return Message(head, *parts[1:])

    def close(self) -> None:
        self._sock.close()
