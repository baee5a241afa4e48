"""One log made into one archive beside it, by names relative to an open directory. Defines no job."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from contextlib import suppress

from workers.log_writer import has_writer
from workers.tick import stamp

#: How the names of archives end: those of `compress`, one it was killed over, and those of other programs.
ENDING = re.compile(r"-[0-9]{8}T[0-9]{6}Z\.gz(\.partial)?$|\.(gz|bz2|xz|zst)$")


def compress(name: str, folder: int, log: os.stat_result) -> int | None:
    """Replace the log *name* by `<name>-<time of its last write>.gz`; bytes saved, or None while it is in use.

    The archive gets its name once it is whole and on disk, and the log goes after that: killed in between, the
    next call makes the same archive again. Time, mode and owner stay those of the log.
    """
    archive = f"{name}-{stamp(log.st_mtime)}.gz"
    partial = f"{archive}.partial"
    # The name may have become a link or a pipe since it was looked at: follow none, wait for none.
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as source:
        if _is_in_use(source.fileno(), log):
            return None
        try:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=folder)
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder), "wb") as target:
                with gzip.GzipFile(name, "wb", fileobj=target, mtime=0) as packed:
                    shutil.copyfileobj(source, packed, 1 << 20)
                target.flush()
                os.fchown(target.fileno(), log.st_uid, log.st_gid)
                os.fchmod(target.fileno(), log.st_mode & 0o777)
                os.utime(target.fileno(), ns=(log.st_atime_ns, log.st_mtime_ns))
                os.fsync(target.fileno())
                size = os.fstat(target.fileno()).st_size
            if _is_in_use(source.fileno(), log):  # somebody came back to it meanwhile
                return None
            os.rename(partial, archive, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=folder)
    os.fsync(folder)
    os.unlink(name, dir_fd=folder)
    return log.st_size - size


def _is_in_use(descriptor: int, log: os.stat_result) -> bool:
    now = os.fstat(descriptor)
    same = (now.st_ino, now.st_size, now.st_mtime_ns) == (log.st_ino, log.st_size, log.st_mtime_ns)
    return not same or has_writer(descriptor)
