"""Compresses logs that nobody writes to any more and deletes old archives, inside one directory only."""

from __future__ import annotations

import os
import stat
from collections import Counter
from fnmatch import fnmatchcase

from cronq import job
from workers import environment, log_archive
from workers.tick import tick


@job("H H * * *", description="Compress old logs, delete older archives", timeout="2h", exclusive=True, tags=["logs"])
def prune_logs() -> dict[str, object]:
    """Counts of what was done. A file that cannot be tidied hinders no other; the run fails at its end."""
    now, own = tick(), environment.home() / "logs"
    directory = environment.path("CRONQ_LOG_DIR", own, kind="directory").resolve()
    patterns = environment.words("CRONQ_LOG_PATTERNS", "*.log:*.log.[0-9]*:*.log-[0-9]*")
    compress_days = environment.integer("CRONQ_LOG_COMPRESS_DAYS", 7, least=1)
    delete_days = environment.integer("CRONQ_LOG_DELETE_DAYS", 30, least=compress_days)
    compress_before, delete_before = now - compress_days * 86400, now - delete_days * 86400
    if directory == own.resolve():
        own.mkdir(parents=True, exist_ok=True)
        (own / "demo.log").write_text("something to compress while CRONQ_LOG_DIR is not set\n" * 100)
        os.utime(own / "demo.log", (compress_before - 1, compress_before - 1))
    done: Counter[str] = Counter(compressed=0, deleted=0, in_use=0, bytes_freed=0)
    faults: list[str] = []
    # fwalk follows no links and works below open directories, which nobody can swap for a link half-way.
    for folder, _, names, descriptor in os.fwalk(directory, onerror=lambda error: faults.append(str(error))):
        for name in names:
            if any(fnmatchcase(log_archive.ENDING.sub("", name), pattern) for pattern in patterns):
                try:
                    _tidy(name, descriptor, compress_before, delete_before, done)
                except FileNotFoundError:  # somebody else tidies too
                    continue
                except OSError as error:
                    faults.append(f"{os.path.join(folder, name)!r}: {error.strerror}")
    if faults:
        raise RuntimeError(f"{len(faults)} could not be tidied, the rest was: {'; '.join(faults[:3])}")
    return {"directory": str(directory), **done}


def _tidy(name: str, folder: int, compress_before: float, delete_before: float, done: Counter[str]) -> None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    is_archive = log_archive.ENDING.search(name)
    if not stat.S_ISREG(found.st_mode) or found.st_mtime >= (delete_before if is_archive else compress_before):
        return
    if is_archive:
        os.unlink(name, dir_fd=folder)
        done.update(deleted=1, bytes_freed=found.st_size)
    elif (saved := log_archive.compress(name, folder, found)) is None:
        done.update(in_use=1)
    else:
        done.update(compressed=1, bytes_freed=saved)
