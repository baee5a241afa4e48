"""What a run prints: a pipe of its own for stdout and for stderr, emptied by its guardian.

A run that held the worker's own files could change their flags for all later runs, empty the worker's log and read its
terminal. What comes out of the pipes goes to a `Sink`; the worker's is an `Outlet`, its own stdout and stderr. Where a
process has several workers, each puts `WholeLines` before it.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Collection
from typing import Protocol

from cronq.clock import boot_s
from cronq.process.system import readable

STDOUT, STDERR = 1, 2

#: One read of a pipe; and what a job may have made of its pipe's capacity, which is read at the end without waiting.
_PIECE = 1 << 16
_MOST_TAIL = 1 << 20
#: Of a line that does not end so much is held back while others may print.
_LONGEST_LINE = 1 << 16
#: One write: the kernel does not mix up what others write meanwhile, and its progress is seen.
_WRITE = 4096
#: Bytes that wait for a slow reader; beyond it the job waits with them.
_MOST_WAITING = 1 << 20
#: Nothing could be written for so long: the reader counts as stuck, and what would have to wait is left out.
_STUCK_S = 5.0
#: How long the end of a run waits for its output to be out, for the sake of order in the log.
_SETTLE_S = 1.0


class Sink(Protocol):
    """Where output goes. No method blocks longer than a moment, whoever reads there."""

    @property
    def has_room(self) -> bool:
        """Whether `put` may be called; while not, the job's pipe fills and the job waits."""
        ...

    def put(self, stream: int, data: bytes) -> None:
        """Take what was printed to *stream*, STDOUT or STDERR."""
        ...

    def settle(self) -> None:
        """The run is over: nothing more comes of it."""
        ...


class Outlet:
    """This process's own stdout and stderr, written by a thread of its own: whoever reads them may stand still.

    Nothing is lost while the reader is only slow. When it takes nothing for 5 s, further output is left out, and a line
    says how much.
    """

    def __init__(self, *, stuck_s: float = _STUCK_S) -> None:
        self._stuck_s = stuck_s
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._taken = self._written = 0  # bytes, ever
        self._left_out = 0
        self._moved = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def has_room(self) -> bool:
        """False while the reader is slow and enough waits for it; who is stuck holds nobody up."""
        return self._size < _MOST_WAITING or self._is_stuck

    @property
    def _is_stuck(self) -> bool:
        return self._size > 0 and boot_s() - self._moved > self._stuck_s

    def put(self, stream: int, data: bytes) -> None:
        """Queue *data* to be written; returns at once."""
        with self._changed:
            if self._size >= _MOST_WAITING and self._is_stuck:
                self._left_out += len(data)
                return
            if self._left_out:
                note = f"\ncronq: {self._left_out:,} bytes of output were left out: nobody read them\n".encode()
                self._left_out = 0
                self._add(stream, note)
            self._add(stream, data)
            if self._thread is None:  # only now: most workers' jobs print nothing
                self._thread = threading.Thread(target=self._write, name="cronq-output", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, most_s: float = _SETTLE_S) -> None:
        """Wait until all of now is written, but not for a reader that is stuck, and for *most_s* at most."""
        if self._size:
            with self._changed:
                goal = self._taken  # what others print meanwhile is not waited for
                self._changed.wait_for(lambda: self._written >= goal or self._is_stuck, most_s)

    def _add(self, stream: int, data: bytes) -> None:
        if not self._size:
            self._moved = boot_s()
        self._waiting.append((stream, data))
        self._size += len(data)
        self._taken += len(data)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                stream, data = self._waiting.popleft()
            begin = 0
            while begin < len(data):
                end = begin + _WRITE
                if end < len(data):  # at a line's end where there is one: the worker's log lines come between
                    end = data.rfind(b"\n", begin, end) + 1 or end
                count = _write_some(stream, data[begin:end])
                begin += count
                if count:
                    with self._changed:
                        self._moved = boot_s()
                        self._size -= count
                        self._written += count
                        self._changed.notify_all()


class WholeLines:
    """The sink of one of several children that share an outlet: it hands on whole lines, so that they do not mix.

    A line is held back until it ends, or is too long, or its run is over; then it gets an end. One thread uses it.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._held = {STDOUT: bytearray(), STDERR: bytearray()}

    @property
    def has_room(self) -> bool:
        """As of the outlet."""
        return self._outlet.has_room

    def put(self, stream: int, data: bytes) -> None:
        """Queue the lines that *data* completes."""
        held = self._held[stream]
        end = len(held) + data.rfind(b"\n") + 1 if b"\n" in data else 0
        held += data
        if not end and len(held) >= _LONGEST_LINE:
            end = len(held)
        if end:
            self._outlet.put(stream, bytes(held[:end]))
            del held[:end]

    def settle(self) -> None:
        """Queue what is left, as lines; wait for a moment until it is written."""
        for stream, held in self._held.items():
            if held:
                self._outlet.put(stream, bytes(held) + b"\n")
                held.clear()
        self._outlet.settle()


class Capture:
    """The pipes of one run, from the guardian's side; all methods belong to the thread that waits for its child."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink  #: of the run at work
        self._readers: dict[int, int] = {}
        self.writers: dict[str, int] = {}  #: for the child, until `begin`
        for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
            reader, self.writers[name] = os.pipe()
            os.set_blocking(reader, False)
            self._readers[reader] = stream

    @property
    def sources(self) -> Collection[int]:
        """The descriptors to wait for; none while the sink has no room."""
        return tuple(self._readers) if self.sink.has_room else ()

    @property
    def is_held_up(self) -> bool:
        """Whether the job's output waits for the sink, which nothing announces."""
        return bool(self._readers) and not self.sink.has_room

    def begin(self) -> None:
        """The child has its ends, or there is none: keep none of them."""
        for fd in self.writers.values():
            os.close(fd)
        self.writers = {}

    def read(self, ready: Collection[object]) -> None:
        """Pass on one piece of each pipe that is *ready*."""
        for reader in [fd for fd in self._readers if fd in ready]:
            self._read(reader)

    def catch_up(self) -> None:
        """Pass on what a run has printed that is over; the pipes stay for the next run of its child."""
        for reader in readable(list(self._readers), 0):
            self._read_tail(reader)
        self.sink.settle()

    def finish(self) -> None:
        """Pass on what is still in the pipes, without waiting for whoever may still hold their other ends."""
        self.begin()
        for reader in list(self._readers):
            self._read_tail(reader)
            if reader in self._readers:
                os.close(reader)
        self._readers = {}
        self.sink.settle()

    def _read_tail(self, reader: int) -> None:
        read = 0
        while read < _MOST_TAIL and (count := self._read(reader)):
            read += count

    def _read(self, reader: int) -> int:
        try:
            data = os.read(reader, _PIECE)
        except BlockingIOError:  # empty, and somebody holds the other end
            return 0
        if data:
            self.sink.put(self._readers[reader], data)
        else:
            os.close(reader)
            del self._readers[reader]
        return len(data)


def _write_some(fd: int, data: bytes) -> int:
    """Write a part of *data*; what cannot be written at all counts as written."""
    try:
        return os.write(fd, data)
    except BlockingIOError:  # somebody who shares this file has made it so
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        poller.poll(1000)
        return 0
    except OSError:  # nobody reads any more, or the disk is full: there is no other place for it
        return len(data)
