"""One copy of an SQLite database in use, and the proof that it can be read back. Defines no job."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

STEP_PAGES, RESTARTS = 1000, 3  # after how many pages writers get a turn; how often that may void the copy


class _StartedOver(Exception): ...


def copy_online(database: Path, target: Path) -> dict[str, int] | None:
    """Fill the empty file *target*; the rows of each table, or None when somebody wrote meanwhile."""
    last, restarts = float("inf"), 0

    def count_restarts(status: int, remaining: int, _total: int) -> None:
        nonlocal last, restarts
        restarts += status == sqlite3.SQLITE_OK and remaining >= last  # waiting for a lock is not starting over
        last = remaining
        if restarts > RESTARTS:
            raise _StartedOver

    # Read-write, because only so SQLite can recover what a crashed writer left; never creates the file.
    with closing(_open(database, "mode=rw")) as source, closing(_open(target, "mode=rw")) as copy:
        copy.execute("PRAGMA journal_mode=MEMORY")  # no second file to leave behind when killed
        if source.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            source.execute("BEGIN")  # one snapshot, which hinders no writer; in other modes it would
        version, rows = source.execute("PRAGMA data_version").fetchone(), _rows(source)
        try:
            source.backup(copy, pages=STEP_PAGES, progress=count_restarts)
        except _StartedOver:
            source.backup(copy)  # in one step: writers wait for it, but it comes to an end
        return rows if version == source.execute("PRAGMA data_version").fetchone() else None


def verify(copy: Path, expected: dict[str, int] | None) -> dict[str, int]:
    """The rows of each table. Raises sqlite3.DatabaseError unless *copy* is sound and holds what is *expected*."""
    with closing(_open(copy, "mode=ro&immutable=1")) as database:  # immutable: leaves no -wal beside it
        verdict = " ".join(str(database.execute("PRAGMA integrity_check(1)").fetchone()[0]).split())
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"integrity check of the copy: {verdict}")
        rows = _rows(database)
    if not rows or expected not in (None, rows):  # an emptied file is a sound database too
        raise sqlite3.DatabaseError(f"the copy holds only {sum(rows.values())} rows in {len(rows)} tables")
    return rows


def _open(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, isolation_level=None, timeout=30)


def _rows(database: sqlite3.Connection) -> dict[str, int]:
    # Virtual tables have no root page, and counting them may need a module that is not here.
    quoted = """SELECT name, '"' || replace(name, '"', '""') || '"' FROM sqlite_master"""
    tables = database.execute(f"{quoted} WHERE type = 'table' AND rootpage > 0").fetchall()
    return {name: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for name, table in tables}
