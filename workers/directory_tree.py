"""The regular files below a directory, each with the time of its last change. Defines no job."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def walk(directory: Path, *, skip: Path, most: int) -> tuple[dict[str, int], tuple[str, ...]]:
    """Change times (ns) of the regular files by relative name; and what could not be read, as prefixes of names.

    The change time moves with every write, chmod and rename, and unlike the write time nobody can set it back.
    Links are neither followed nor listed. Raises RuntimeError when there are more than *most* files.
    """
    files: dict[str, int] = {}
    unread: list[str] = []

    def skip_unreadable(error: OSError) -> None:
        if Path(error.filename) == directory:
            raise error
        if not isinstance(error, FileNotFoundError):  # what went away meanwhile is deleted, not unreadable
            unread.append(os.path.relpath(error.filename, directory) + os.sep)

    for folder, folders, names in os.walk(directory, onerror=skip_unreadable):
        folders[:] = [name for name in folders if Path(folder, name) != skip]
        for path in (os.path.join(folder, name) for name in names):
            try:
                found = os.lstat(path)
                if stat.S_ISREG(found.st_mode):
                    files[os.path.relpath(path, directory)] = found.st_ctime_ns
            except FileNotFoundError:
                continue
            except OSError as error:  # a directory that may be listed and not entered
                error.filename = folder
                skip_unreadable(error)
        if len(files) > most:
            raise RuntimeError(f"more than {most} files below {directory}; raise CRONQ_DIGEST_MAX_FILES")
    return files, tuple(unread)
