"""How a guardian and its watchdog talk: frames with open files, over a socket whose other end may die at any byte."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Longest time for one send; the other side reads at once unless it is stopped.
_SEND_S = 10.0


@dataclass(frozen=True)
class Frame:
    """One message: a small JSON header, raw bytes, and the open files that the header's `files` names."""

    header: dict[str, Any]
    body: bytes
    fds: list[int]


class Channel:
    """Frames over a stream socket; the other end may die at any byte. One sender and one receiver at a time."""

    _lengths = struct.Struct("!II")

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(_SEND_S)
        self._sock = sock
        self._buffer = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, header: Mapping[str, Any], body: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Raises OSError, after which the other end may have half a frame: hang up then."""
        head = json.dumps(header).encode()
        data = self._lengths.pack(len(head), len(body)) + head + body
        sent = socket.send_fds(self._sock, [data], list(fds)) if fds else 0
        self._sock.sendall(memoryview(data)[sent:])

    def receive(self) -> list[Frame]:
        """The frames completed by what has arrived, perhaps none. Raises EOFError, or OSError for a reset."""
        data, fds, _, _ = socket.recv_fds(self._sock, 1 << 18, 8)
        for fd in fds:  # not by MSG_CMSG_CLOEXEC: Python drops the flags given to recv_fds
            os.set_inheritable(fd, False)
        if not data:
            raise EOFError
        self._buffer += data
        self._fds += fds
        frames: list[Frame] = []
        start = self._lengths.size
        while len(self._buffer) >= start:
            head_size, body_size = self._lengths.unpack_from(self._buffer)
            middle, end = start + head_size, start + head_size + body_size
            if len(self._buffer) < end:
                break
            header = json.loads(self._buffer[start:middle])
            # By number, for one read may return an earlier frame without files and the beginning of one with.
            count = len(header.get("files", ()))
            frames.append(Frame(header, bytes(self._buffer[middle:end]), self._fds[:count]))
            del self._buffer[:end], self._fds[:count]
        return frames

    def hang_up(self) -> None:
        """End the conversation, for both sides and without closing: another thread may be about to use it."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other end was first
            pass

    def close(self) -> None:
        self._sock.close()
