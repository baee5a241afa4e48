"""What a child leaves for its guardian: a file, and memory beside it for a child that has closed all its files.

The memory also tells when the child began, which costs neither side a system call, and by when it is to be dead.
"""

from __future__ import annotations

import io
import mmap
import os
import struct

#: What a child can leave without a descriptor; a result of the largest size fits.
_SLATE_BYTES = 1 << 21


class ResultFile(io.BytesIO):
    """What the work leaves, in the descriptor *fd* from `flush` on: in *slate* when the work has closed that."""

    def __init__(self, fd: int, slate: Slate) -> None:
        super().__init__()
        self._fd, self._known = fd, os.fstat(fd)
        self._slate = slate
        self._sent = 0

    def fileno(self) -> int:
        """The descriptor, for work that tells as it goes."""
        return self._fd

    def flush(self) -> None:
        """Hand over all that was written; what is not handed over is lost with this process."""
        data = self.getvalue()
        if not _write_to(self._fd, data[self._sent :], self._known):
            self._slate.write(data)
        self._sent = len(data)


class KeptResult(io.BytesIO):
    """What one run of a long-lived child leaves, in *slate* from `flush` on, or in *fd* when that has no room for it.

    Its guardian gets it with the child's answer; it is read from here only when the child ends without one.
    """

    def __init__(self, fd: int, known: os.stat_result, slate: Slate) -> None:
        super().__init__()
        self._fd, self._known, self._slate = fd, known, slate
        self._owner = os.getpid()
        self.is_in_file = False

    def flush(self) -> None:
        """Keep all that was written, whatever becomes of this process. A fork of it keeps nothing."""
        if os.getpid() != self._owner:
            return
        data = self.getvalue()
        if not self._slate.write(data):
            self._slate.empty()
            self.is_in_file = _write_to(self._fd, data, self._known, at_the_beginning=True)


class Slate:
    """Memory that this process shares with its children: when the work began, what it leaves without descriptors.

    Daemon libraries close all of them. A mapping survives that, and costs next to nothing until something is written.
    """

    _length = 8
    _mark = struct.Struct("=dQ")
    _begun = _SLATE_BYTES - _mark.size  # at the end, where a result of the largest size does not come
    _moment = struct.Struct("=d")
    _deadline = _begun - _moment.size

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLATE_BYTES)

    @property
    def begun_boot_s(self) -> float | None:
        """When the work began, as `note_begun` was told; None before that."""
        return self._mark.unpack_from(self._memory, self._begun)[0] or None

    @property
    def begun_run(self) -> int:
        """Which run of a long-lived child that was; 0 before its first one."""
        return int(self._mark.unpack_from(self._memory, self._begun)[1])

    def note_begun(self, now_boot_s: float, run: int = 0) -> None:
        """In the child, as the last thing before the work begins; 0.0 in the watchdog, before there is a child."""
        self._mark.pack_into(self._memory, self._begun, now_boot_s, run)

    @property
    def deadline_boot_s(self) -> float | None:
        """By when the child is to be dead, as far as the watchdog was told by now; None: it knows of no such moment."""
        return self._moment.unpack_from(self._memory, self._deadline)[0] or None

    def note_deadline(self, deadline_boot_s: float | None) -> None:
        """In the watchdog. What a child writes there itself changes only when it begins."""
        self._moment.pack_into(self._memory, self._deadline, deadline_boot_s or 0.0)

    def empty(self) -> None:
        """In a long-lived child, before the work of a run begins: what is here is that of the run before."""
        self._memory[: self._length] = bytes(self._length)

    def write(self, data: bytes) -> bool:
        """In the child; False when it has no room for *data*. Who is killed half-way has written nothing."""
        end = self._length + len(data)
        if end > self._deadline:
            return False
        self.empty()  # what was there must not be taken for the beginning of what comes
        self._memory[self._length : end] = data
        self._memory[: self._length] = len(data).to_bytes(self._length)
        return True

    def copy_to(self, fd: int) -> None:
        """In the watchdog, when the child is dead: move what is there, if anything, to the file *fd*."""
        size = int.from_bytes(self._memory[: self._length])
        if size:
            self._memory[: self._length] = bytes(self._length)
            try:
                os.ftruncate(fd, 0)
                os.pwrite(fd, self._memory[self._length : self._length + size], 0)
            except OSError:  # no memory for it: the run has left no result
                pass


def _write_to(fd: int, data: bytes, known: os.stat_result, *, at_the_beginning: bool = False) -> bool:
    """Write all of it, unless *fd* is closed or another file than the *known* one by now."""
    try:
        if not os.path.samestat(os.fstat(fd), known):
            return False
        if at_the_beginning:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        return True
    except OSError:
        return False
