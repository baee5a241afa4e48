"""Backs up an SQLite database while it is in use and keeps the newest copies; without one, a demo of its own."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from cronq import job
from workers import environment, sqlite_copy, whole_file
from workers.tick import stamp, tick


@job("H * * * *", description="Back up an SQLite database and prove the copy", timeout="15m", exclusive=True)
def backup_sqlite() -> dict[str, object]:
    """Write one copy per tick, however often that runs; a copy that fails its check replaces nothing."""
    demo = environment.home() / "demo.db"
    database = environment.path("CRONQ_BACKUP_DB", demo, kind="file")
    directory = environment.path("CRONQ_BACKUP_DIR", environment.home() / "backups")
    keep = environment.integer("CRONQ_BACKUP_KEEP", 24, least=1)
    directory.mkdir(parents=True, exist_ok=True)
    if database == demo:
        _add_a_row(demo)
    copy = directory / f"{database.stem}-{stamp(tick())}{database.suffix}"
    partial = directory / f"{copy.name}.partial"
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600, exist_ok=False)  # a database may be secret: nobody reads along
        rows = sqlite_copy.verify(partial, sqlite_copy.copy_online(database, partial))
        shutil.copymode(database, partial)
        whole_file.put_in_place(partial, copy)
    except sqlite3.Error as error:
        raise RuntimeError(f"no backup of {database}: {error}; earlier copies are as they were") from error
    finally:
        partial.unlink(missing_ok=True)
    size, removed = copy.stat().st_size, _rotate(database, copy, keep)
    return {"copy": str(copy), "bytes": size, "rows": sum(rows.values()), "removed": removed}


def _rotate(database: Path, newest: Path, keep: int) -> int:
    """Delete all but *keep* copies, and what killed runs left; never *newest*, a link or another's file."""
    stem, suffix = re.escape(database.stem), re.escape(database.suffix)
    ours = re.compile(stem + "-[0-9]{8}T[0-9]{6}Z" + suffix + r"(\.partial)?")
    files = [path.name for path in newest.parent.iterdir() if path.is_file() and not path.is_symlink()]
    found = {name: match[1] for name in sorted(files) if (match := ours.fullmatch(name))}
    others = [name for name, partial in found.items() if not partial and name != newest.name]
    old = others[: max(0, len(others) + 1 - keep)] + [name for name, partial in found.items() if partial]
    for name in old:
        newest.with_name(name).unlink(missing_ok=True)
    return len(old)


def _add_a_row(demo: Path) -> None:
    with closing(sqlite3.connect(demo)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS run (tick INTEGER PRIMARY KEY)")
        database.execute("INSERT OR IGNORE INTO run VALUES (?)", (tick(),))
