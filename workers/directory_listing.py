"""The files of a directory at one tick, stored so that a later tick can be compared with it. Defines no job."""

from __future__ import annotations

import json
import re
from pathlib import Path

from workers import whole_file
from workers.tick import parse_stamp, stamp

_NAME = re.compile(r"listing-([0-9]{8}T[0-9]{6}Z)\.json")


def save(store: Path, tick: int, directory: Path, files: dict[str, int], *, keep: int | None) -> None:
    """Store the listing of *tick* and forget all others, except that of the tick *keep*."""
    whole_file.write(_path(store, tick), json.dumps({"directory": str(directory), "files": files}))
    for old in set(ticks(store)) - {tick, keep}:
        _path(store, old).unlink(missing_ok=True)


def load(store: Path, tick: int, directory: Path) -> dict[str, int] | None:
    """The files of *directory* at *tick*; None when this host has no such listing."""
    try:
        stored = json.loads(_path(store, tick).read_text())
    except FileNotFoundError:
        return None
    return dict(stored["files"]) if stored["directory"] == str(directory) else None


def ticks(store: Path) -> list[int]:
    """The ticks of which there are listings, oldest first."""
    found = (_NAME.fullmatch(path.name) for path in store.iterdir())
    return sorted(parse_stamp(match[1]) for match in found if match)


def _path(store: Path, tick: int) -> Path:
    return store / f"listing-{stamp(tick)}.json"
