"""Files that are there whole or not at all, also after a power cut. Defines no job."""

from __future__ import annotations

import os
from pathlib import Path


def put_in_place(partial: Path, path: Path) -> None:
    """Give the finished file *partial* of the same directory the name *path*, in place of what had it."""
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def write(path: Path, text: str) -> None:
    """Replace the content of *path* by *text*."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    put_in_place(partial, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
