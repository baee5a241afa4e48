"""Places in the code of a user, such as `jobs.py:12`, and errors there in one line."""

from __future__ import annotations

import os
import traceback


def in_words(error: BaseException) -> str:
    """The kind of *error* and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def place_of(error: BaseException) -> str | None:
    """file:line where the import went wrong, in the module that was being imported and not in what it calls."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{short_path(error.filename)}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    imported = [frame.filename for frame in frames if frame.name == "<module>"]
    lines = [frame.lineno for frame in frames if imported and frame.filename == imported[-1]]
    return f"{short_path(imported[-1])}:{lines[-1]}" if lines else None


def short_path(path: str) -> str:
    """Relative to the current directory when it is below that."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return path
    return path if relative.startswith("..") else relative
