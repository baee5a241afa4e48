"""The housekeeping jobs, called as plain functions on real files."""

from __future__ import annotations

import contextvars
import gzip
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cronq.errors import ConfigError
from cronq.run_context import CurrentRun, enter_run
from workers import directory_tree, log_archive, sqlite_copy
from workers.directory_digest import digest_directory
from workers.disk_watch import free_percent, watch_disks
from workers.log_pruning import prune_logs
from workers.sqlite_backup import backup_sqlite

JOBS = (backup_sqlite, prune_logs, watch_disks, digest_directory)
ROOT = Path(__file__).parents[2]
TICK = 1795244400  # 2026-11-21T07:00:00Z
HOUR_S, DAY_S = 3600, 86400


@pytest.fixture(autouse=True)
def fresh_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory and no settings."""
    for name in [name for name in os.environ if name.startswith("CRONQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_run(function: Callable[[], Any], tick: int | None, previous_success: int | None = None) -> Any:
    """Call *function* the way a worker does."""

    def inside() -> Any:
        name = getattr(function, "__name__", "job")
        enter_run(CurrentRun(name, f"{name}-x", tick, 1, "here", None, previous_success))
        return function()

    return contextvars.copy_context().run(inside)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# All of them


def test_naming_the_package_registers_all_jobs_with_descriptions() -> None:
    program = (
        "import json; from cronq.jobs.registry import REGISTRY; REGISTRY.load(['workers']); "
        "print(json.dumps([len(REGISTRY.problems), {n: d.spec.description for n, d in REGISTRY.definitions.items()}]))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    problems, descriptions = json.loads(done.stdout)
    assert problems == 0
    assert set(descriptions) == {"backup_sqlite", "prune_logs", "watch_disks", "digest_directory"}
    assert all(descriptions.values())


@pytest.mark.parametrize("job", JOBS)
def test_on_a_fresh_machine_a_job_succeeds_and_touches_only_its_own_directory(
    job: Callable[[], Any], fresh_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_DISK_SPACE_PERCENT", "0")  # the machine of a test may be full

    by_hand, on_schedule = job(), as_run(job, TICK)

    assert json.loads(json.dumps(by_hand)) == by_hand
    assert set(by_hand) == set(on_schedule)
    assert set(names(fresh_machine)) <= {".cronq"}
    assert all(names(path) == ["workers"] for path in fresh_machine.iterdir())


def test_every_module_is_short() -> None:
    too_long = [path.name for path in (ROOT / "workers").glob("*.py") if len(path.read_text().splitlines()) >= 60]

    assert too_long == []


@pytest.mark.parametrize(
    ("job", "name", "value", "allowed"),
    [
        (backup_sqlite, "CRONQ_BACKUP_KEEP", "0", "from 1"),
        (backup_sqlite, "CRONQ_BACKUP_KEEP", "many", "whole number"),
        (backup_sqlite, "CRONQ_BACKUP_DB", "no/such.db", "existing file"),
        (prune_logs, "CRONQ_LOG_DIR", "no/such", "existing directory"),
        (prune_logs, "CRONQ_LOG_COMPRESS_DAYS", "-1", "from 1"),
        (prune_logs, "CRONQ_LOG_DELETE_DAYS", "6", "from 7"),
        (prune_logs, "CRONQ_LOG_PATTERNS", ":", "names nothing"),
        (watch_disks, "CRONQ_DISK_SPACE_PERCENT", "100", "below 100"),
        (watch_disks, "CRONQ_DISK_INODES_PERCENT", "nan", "percentage"),
        (digest_directory, "CRONQ_DIGEST_MAX_FILES", "1e3", "whole number"),
        (digest_directory, "CRONQ_DIGEST_DIR", "no/such", "existing directory"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_that_names_it_and_what_is_allowed(
    job: Callable[[], Any], name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        job()

    assert name in str(caught.value)
    assert value in str(caught.value)
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_setting_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRONQ_BACKUP_KEEP", "")

    assert backup_sqlite()["removed"] == 0


# The SQLite backup


@pytest.fixture
def shop(fresh_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of some hundred pages, and a directory for its backups."""
    path = fresh_machine / "data" / "shop.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE sale (text)")
        database.execute('CREATE TABLE "the ""till""" (text)')
        database.executemany("INSERT INTO sale VALUES (?)", [("x" * 500,)] * 2000)
        database.executemany('INSERT INTO "the ""till""" VALUES (?)', [("x" * 500,)] * 2000)
    monkeypatch.setenv("CRONQ_BACKUP_DB", str(path))
    monkeypatch.setenv("CRONQ_BACKUP_DIR", str(fresh_machine / "backups"))
    return path


@pytest.fixture
def backups(fresh_machine: Path) -> Path:
    return fresh_machine / "backups"


def sales(path: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        tables = ("sale", '"the ""till"""')
        first, second = (database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)
        return first, second


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Meanwhile a thread commits about a thousand times a second, each time one row to both tables."""
    stop, began = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=30)) as database:
            while not stop.wait(0.001):
                with database:
                    database.execute("INSERT INTO sale VALUES ('new')")
                    database.execute('INSERT INTO "the ""till""" VALUES (\'new\')')
                began.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert began.wait(30)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_backup_holds_every_row_under_a_name_with_the_tick(shop: Path, backups: Path) -> None:
    result = as_run(backup_sqlite, TICK)

    assert names(backups) == ["shop-20261121T070000Z.db"]
    assert sales(backups / "shop-20261121T070000Z.db") == (2000, 2000)
    assert result["rows"] == 4000
    assert result["copy"] == str(backups / "shop-20261121T070000Z.db")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_that_is_written_all_the_time_is_copied_in_one_consistent_state(
    mode: str, shop: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_copy, "STEP_PAGES", 1)
    with closing(sqlite3.connect(shop)) as database:
        database.execute(f"PRAGMA journal_mode={mode}")

    with writing(shop):
        as_run(backup_sqlite, TICK)

    first, second = sales(backups / "shop-20261121T070000Z.db")
    assert first == second > 2000
    assert names(backups) == ["shop-20261121T070000Z.db"]
    assert sales(shop)[0] >= first


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_commit_after_every_step_neither_mixes_states_nor_keeps_the_backup_from_its_end(
    mode: str, shop: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    class Disturbed(sqlite3.Connection):
        """Between any two steps of its backup somebody commits."""

        def backup(self, target: sqlite3.Connection, *, progress: Any = None, **options: Any) -> None:
            def disturb(*state: int) -> None:
                steps.append(state)
                with closing(sqlite3.connect(shop)) as writer, writer:
                    writer.execute("INSERT INTO sale VALUES ('new')")
                progress(*state)

            super().backup(target, progress=disturb if progress else None, **options)

    monkeypatch.setattr(sqlite_copy, "STEP_PAGES", 10)
    monkeypatch.setattr(
        sqlite_copy,
        "_open",
        lambda path, _options: sqlite3.connect(path, factory=Disturbed, isolation_level=None),
    )
    with closing(sqlite3.connect(shop)) as database:
        database.execute(f"PRAGMA journal_mode={mode}")

    as_run(backup_sqlite, TICK)

    # With a write-ahead log the copy is the state at its beginning; without, it starts over a few times and then
    # takes the last state in one step.
    copied, sold = sales(backups / "shop-20261121T070000Z.db")[0], sales(shop)[0]
    assert (copied, sold > 2000) == ((2000 if mode == "wal" else sold), True)
    assert len(steps) < 100


def test_the_same_tick_run_again_leaves_one_copy_with_what_is_there_now(shop: Path, backups: Path) -> None:
    as_run(backup_sqlite, TICK)
    with closing(sqlite3.connect(shop)) as database, database:
        database.execute("INSERT INTO sale VALUES ('new')")

    as_run(backup_sqlite, TICK)

    assert names(backups) == ["shop-20261121T070000Z.db"]
    assert sales(backups / "shop-20261121T070000Z.db") == (2001, 2000)


def test_rotation_keeps_the_newest_and_every_file_of_others(
    shop: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_BACKUP_KEEP", "2")
    backups.mkdir()
    foreign = [
        "shop-20200101T000000Z.db.gz", "shop-20200101T000000Z.sql", "shop-2020.db", "shop.db", "notes.txt",
        "workshop-20200101T000000Z.db", "shop-20200101T000000Z_db", "shop-20200101T000000Z.db-wal",
    ]  # fmt: skip
    for name in foreign:
        (backups / name).write_text("mine")
    (backups / "shop-20190101T000000Z.db").mkdir()
    (backups / "shop-20180101T000000Z.db").symlink_to(backups / "notes.txt")

    removed = [as_run(backup_sqlite, TICK + hour * HOUR_S)["removed"] for hour in range(4)]

    assert removed == [0, 0, 1, 1]
    copies = ["shop-20261121T090000Z.db", "shop-20261121T100000Z.db"]
    assert names(backups) == sorted([*foreign, *copies, "shop-20190101T000000Z.db", "shop-20180101T000000Z.db"])


def test_a_late_run_of_an_old_tick_does_not_delete_what_it_just_wrote(
    shop: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_BACKUP_KEEP", "2")
    for hour in (1, 2):
        as_run(backup_sqlite, TICK + hour * HOUR_S)

    as_run(backup_sqlite, TICK)

    assert names(backups) == ["shop-20261121T070000Z.db", "shop-20261121T090000Z.db"]


def test_a_damaged_database_fails_the_run_and_replaces_no_good_copy(
    shop: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_BACKUP_KEEP", "1")
    as_run(backup_sqlite, TICK)
    good = (backups / "shop-20261121T070000Z.db").read_bytes()
    with shop.open("r+b") as file:
        file.seek(4096 * 100)
        file.write(b"\xff" * 4096 * 20)

    for tick in (TICK, TICK + HOUR_S):
        with pytest.raises(RuntimeError, match=r"no backup of .*shop\.db") as caught:
            as_run(backup_sqlite, tick)

    assert "\n" not in str(caught.value)
    assert names(backups) == ["shop-20261121T070000Z.db"]
    assert (backups / "shop-20261121T070000Z.db").read_bytes() == good


@pytest.mark.parametrize("content", [b"", b"this was never a database" * 100])
def test_a_file_that_is_emptied_or_no_database_is_no_backup(content: bytes, shop: Path, backups: Path) -> None:
    shop.write_bytes(content)

    with pytest.raises(RuntimeError, match=r"0 rows in 0 tables|not a database"):
        as_run(backup_sqlite, TICK)

    assert names(backups) == []
    assert shop.read_bytes() == content


def test_a_copy_that_lacks_rows_is_refused(shop: Path) -> None:
    expected = {"sale": 2000, 'the "till"': 2001}

    with pytest.raises(sqlite3.DatabaseError, match="only 4000 rows"):
        sqlite_copy.verify(shop, expected)


def test_what_a_killed_backup_left_is_no_copy_and_goes_with_the_next_run(shop: Path, backups: Path) -> None:
    backups.mkdir()
    for stamp in ("20261121T060000Z", "20261121T070000Z"):
        (backups / f"shop-{stamp}.db.partial").write_bytes(b"half")

    as_run(backup_sqlite, TICK)

    assert names(backups) == ["shop-20261121T070000Z.db"]


def test_a_copy_is_as_private_as_its_database(shop: Path, backups: Path) -> None:
    shop.chmod(0o640)

    as_run(backup_sqlite, TICK)

    assert (backups / "shop-20261121T070000Z.db").stat().st_mode & 0o777 == 0o640


def test_odd_characters_in_the_name_of_a_database_do_no_harm(
    shop: Path, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = shop.rename(shop.with_name("shop+(1)? #%41.db"))
    monkeypatch.setenv("CRONQ_BACKUP_DB", str(odd))
    monkeypatch.setenv("CRONQ_BACKUP_KEEP", "1")

    for hour in range(2):
        as_run(backup_sqlite, TICK + hour * HOUR_S)

    assert names(backups) == ["shop+(1)? #%41-20261121T080000Z.db"]


# Pruning logs


@pytest.fixture
def logs(fresh_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = fresh_machine / "log"
    directory.mkdir()
    monkeypatch.setenv("CRONQ_LOG_DIR", str(directory))
    return directory


def a_log(path: Path, *, days: float, text: str = "a line\n" * 1000) -> Path:
    """A file last written so many days before TICK."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (TICK - days * DAY_S, TICK - days * DAY_S))
    return path


def prune() -> Any:
    return as_run(prune_logs, TICK)


def test_an_old_log_becomes_an_archive_with_its_time_mode_and_content(logs: Path) -> None:
    a_log(logs / "app.log", days=8).chmod(0o640)
    a_log(logs / "deep" / "er" / "app.log.1", days=8, text="rotated")
    a_log(logs / "young.log", days=6)
    a_log(logs / "app.conf", days=800)

    result = prune()

    assert names(logs) == ["app.conf", "app.log-20261113T070000Z.gz", "deep", "young.log"]
    archive = logs / "app.log-20261113T070000Z.gz"
    assert gzip.decompress(archive.read_bytes()) == b"a line\n" * 1000
    assert archive.stat().st_mtime == TICK - 8 * DAY_S
    assert archive.stat().st_mode & 0o777 == 0o640
    assert gzip.decompress((logs / "deep/er/app.log.1-20261113T070000Z.gz").read_bytes()) == b"rotated"
    assert (result["compressed"], result["deleted"], result["in_use"]) == (2, 0, 0)


def test_a_log_that_somebody_holds_open_for_writing_is_left_alone(logs: Path) -> None:
    log = a_log(logs / "quiet.log", days=100)

    with log.open("a") as writer:
        held = prune()
        writer.write("still here")
    os.utime(log, (TICK - 100 * DAY_S, TICK - 100 * DAY_S))
    released = prune()

    assert (held["compressed"], held["in_use"]) == (0, 1)
    assert (released["compressed"], released["in_use"]) == (1, 0)
    (archive,) = logs.iterdir()
    assert gzip.decompress(archive.read_bytes()).endswith(b"still here")


def test_a_log_that_is_only_being_read_is_compressed(logs: Path) -> None:
    log = a_log(logs / "quiet.log", days=100)

    with log.open():
        assert prune()["compressed"] == 1


def test_a_log_that_grew_since_it_was_looked_at_is_left_alone(logs: Path) -> None:
    log = a_log(logs / "app.log", days=8)
    looked_at = log.stat()
    with log.open("a") as file:
        file.write("one more")
    folder = os.open(logs, os.O_RDONLY)

    try:
        assert log_archive.compress("app.log", folder, looked_at) is None
    finally:
        os.close(folder)

    assert names(logs) == ["app.log"]


def test_archives_older_than_their_limit_go_and_only_those_of_logs(logs: Path) -> None:
    for name in ("app.log-20261001T070000Z.gz", "app.log.3.gz", "app.log-20261001.xz", "data.gz", "data.tar.gz"):
        a_log(logs / name, days=31)
    a_log(logs / "app.log-20261025T070000Z.gz", days=27)

    result = prune()

    assert names(logs) == ["app.log-20261025T070000Z.gz", "data.gz", "data.tar.gz"]
    assert result["deleted"] == 3


def test_links_out_of_the_directory_are_not_touched(logs: Path, fresh_machine: Path) -> None:
    outside = a_log(fresh_machine / "outside" / "other.log", days=100)
    a_log(fresh_machine / "outside" / "other.log.1.gz", days=100)
    (logs / "file.log").symlink_to(outside)
    (logs / "folder").symlink_to(outside.parent)
    (logs / "broken.log").symlink_to(fresh_machine / "nothing")
    os.mkfifo(logs / "pipe.log")
    for name in ("file.log", "broken.log", "pipe.log"):
        os.utime(logs / name, (0, 0), follow_symlinks=False)

    result = prune()

    assert names(outside.parent) == ["other.log", "other.log.1.gz"]
    assert names(logs) == ["broken.log", "file.log", "folder", "pipe.log"]
    assert (result["compressed"], result["deleted"]) == (0, 0)


def test_a_directory_given_as_a_link_is_tidied_where_it_is(
    logs: Path, fresh_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_log(logs / "app.log", days=8)
    (fresh_machine / "link").symlink_to(logs)
    monkeypatch.setenv("CRONQ_LOG_DIR", str(fresh_machine / "link"))

    assert prune()["compressed"] == 1


def test_half_an_archive_of_a_killed_run_is_made_anew(logs: Path) -> None:
    a_log(logs / "app.log", days=8)
    (logs / "app.log-20261113T070000Z.gz.partial").write_bytes(b"\x1f\x8bhalf")
    a_log(logs / "gone.log-20261001T070000Z.gz.partial", days=31)

    prune()

    assert names(logs) == ["app.log-20261113T070000Z.gz"]
    assert gzip.decompress((logs / "app.log-20261113T070000Z.gz").read_bytes()) == b"a line\n" * 1000


def test_a_run_killed_before_it_removed_the_log_is_finished_by_the_next(logs: Path) -> None:
    log = a_log(logs / "app.log", days=8)
    prune()
    a_log(log, days=8)

    prune()

    assert names(logs) == ["app.log-20261113T070000Z.gz"]


def test_a_name_used_again_gets_an_archive_of_its_own(logs: Path) -> None:
    a_log(logs / "app.log", days=9, text="first")
    prune()
    a_log(logs / "app.log", days=8, text="second")
    prune()

    texts = [gzip.decompress((logs / name).read_bytes()) for name in names(logs)]
    assert texts == [b"first", b"second"]


def test_one_log_that_cannot_be_tidied_fails_the_run_after_the_others_are_done(logs: Path) -> None:
    for name in ("a.log", "b.log", "c.log"):
        a_log(logs / name, days=8)
    (logs / "b.log-20261113T070000Z.gz").mkdir()

    with pytest.raises(RuntimeError, match=r"1 could not be tidied.*b\.log") as caught:
        prune()

    assert "\n" not in str(caught.value)
    assert names(logs) == [
        "a.log-20261113T070000Z.gz", "b.log", "b.log-20261113T070000Z.gz", "c.log-20261113T070000Z.gz",
    ]  # fmt: skip
    assert (logs / "b.log").read_text() == "a line\n" * 1000


def test_patterns_and_days_can_be_set(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRONQ_LOG_PATTERNS", "*.out:*.err")
    monkeypatch.setenv("CRONQ_LOG_COMPRESS_DAYS", "1")
    monkeypatch.setenv("CRONQ_LOG_DELETE_DAYS", "2")
    a_log(logs / "app.log", days=100)
    a_log(logs / "a.out", days=1.5)
    a_log(logs / "b.err-20261001T070000Z.gz", days=2.5)

    prune()

    assert names(logs) == ["a.out-20261119T190000Z.gz", "app.log"]


# Watching disks


def a_filesystem(
    *, blocks: int = 1000, free: int = 500, available: int = 450, files: int = 1000, ifree: int = 100, flag: int = 0
) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, blocks, free, available, files, ifree, ifree, flag, 255))


def test_enough_room_succeeds_and_says_how_much(fresh_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRONQ_DISK_PATHS", str(fresh_machine))
    monkeypatch.setenv("CRONQ_DISK_SPACE_PERCENT", "0")

    result = watch_disks()

    assert 0 <= result[str(fresh_machine)]["space"] <= 100  # type: ignore[index]


def test_too_little_room_fails_in_one_line_with_path_percentage_and_limit(
    fresh_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRONQ_DISK_PATHS", f"{fresh_machine}:/no/such/disk")
    monkeypatch.setenv("CRONQ_DISK_SPACE_PERCENT", "99.999")
    monkeypatch.setenv("CRONQ_DISK_INODES_PERCENT", "0")

    with pytest.raises(RuntimeError) as caught:
        watch_disks()

    low, missing = str(caught.value).split("; ", 1)
    assert low.startswith(f"{fresh_machine} has ")
    assert low.endswith("% space free, the limit is 99.999 %")
    assert missing.startswith("/no/such/disk cannot be read")


def test_room_is_counted_as_for_ordinary_users() -> None:
    assert free_percent(a_filesystem()) == {"space": pytest.approx(100 * 450 / 950), "inodes": 10}


def test_a_full_filesystem_has_no_room() -> None:
    assert free_percent(a_filesystem(free=50, available=0, ifree=0)) == {"space": 0, "inodes": 0}


def test_a_filesystem_without_a_number_of_inodes_is_watched_for_space_only() -> None:
    assert set(free_percent(a_filesystem(files=0, ifree=0))) == {"space"}


def test_what_cannot_run_out_is_not_watched() -> None:
    assert free_percent(a_filesystem(blocks=0, free=0, available=0, files=0, ifree=0)) == {}
    assert free_percent(a_filesystem(free=0, available=0, ifree=0, flag=os.ST_RDONLY)) == {}


# The digest of a directory


@pytest.fixture
def watched(fresh_machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = fresh_machine / "watched"
    (directory / "sub").mkdir(parents=True)
    for name in ("kept", "edited", "removed", "sub/moved"):
        (directory / name).write_text(name)
    monkeypatch.setenv("CRONQ_DIGEST_DIR", str(directory))
    return directory


@pytest.fixture
def report(fresh_machine: Path) -> Path:
    return fresh_machine / ".cronq/workers/digest/report.txt"


def edit(path: Path) -> None:
    """Write until the clock of the filesystem has moved on."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_text("other")


def change_something(watched: Path) -> None:
    (watched / "added").write_text("")
    edit(watched / "edited")
    (watched / "removed").unlink()
    (watched / "sub/moved").rename(watched / "sub/there")


ALL_CHANGES = ["+ added", "+ sub/there", "~ edited", "- removed", "- sub/moved"]


def test_the_first_run_counts_files_and_calls_none_new(watched: Path, report: Path) -> None:
    result = as_run(digest_directory, TICK)

    assert result == {"since": None, "files": 4, "new": 0, "changed": 0, "deleted": 0, "first": []}
    assert "nothing to compare with" in report.read_text()


def test_a_run_tells_what_changed_since_the_tick_of_the_last_success(watched: Path, report: Path) -> None:
    as_run(digest_directory, TICK)
    change_something(watched)

    result = as_run(digest_directory, TICK + 300, TICK)

    assert (result["since"], result["files"]) == ("2026-11-21T07:00:00Z", 4)
    assert (result["new"], result["changed"], result["deleted"]) == (2, 1, 2)
    assert result["first"] == ALL_CHANGES
    head, *lines = report.read_text().splitlines()
    assert "from 2026-11-21T07:00:00Z to 2026-11-21T07:05:00Z" in head
    assert lines == ALL_CHANGES


def test_a_run_after_which_nothing_changed_leaves_the_last_report(watched: Path, report: Path) -> None:
    as_run(digest_directory, TICK)
    change_something(watched)
    as_run(digest_directory, TICK + 300, TICK)
    written = report.read_text()

    result = as_run(digest_directory, TICK + 600, TICK + 300)

    assert result["first"] == []
    assert report.read_text() == written


def test_what_a_run_told_that_did_not_succeed_is_told_again(watched: Path) -> None:
    as_run(digest_directory, TICK)
    change_something(watched)
    as_run(digest_directory, TICK + 300, TICK)

    result = as_run(digest_directory, TICK + 600, TICK)

    assert result["first"] == ALL_CHANGES


def test_called_as_a_plain_function_it_compares_with_its_own_last_listing(
    watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_run(digest_directory, int(time.time()) - 300)
    change_something(watched)

    assert digest_directory()["first"] == ALL_CHANGES


def test_only_the_listings_that_can_be_asked_for_are_kept(watched: Path, report: Path) -> None:
    for number in range(4):
        as_run(digest_directory, TICK + 300 * number, TICK + 300 * (number - 1) if number else None)

    assert names(report.parent) == ["listing-20261121T071000Z.json", "listing-20261121T071500Z.json", "report.txt"]


def test_without_the_listing_of_that_tick_the_time_of_change_decides(watched: Path) -> None:
    now = int(time.time())

    earlier = as_run(digest_directory, now, now - HOUR_S)
    later = as_run(digest_directory, now + 2 * HOUR_S, now + HOUR_S)

    assert (earlier["new"], earlier["changed"], earlier["deleted"]) == (0, 4, 0)
    assert later["changed"] == 0


def test_the_listing_of_another_directory_is_not_compared_with(
    watched: Path, fresh_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_run(digest_directory, TICK)
    (fresh_machine / "other").mkdir()
    monkeypatch.setenv("CRONQ_DIGEST_DIR", str(fresh_machine / "other"))

    assert as_run(digest_directory, TICK + 300, TICK)["deleted"] == 0


def test_links_are_neither_followed_nor_listed(watched: Path, fresh_machine: Path) -> None:
    (watched / "up").symlink_to(fresh_machine)
    (watched / "link").symlink_to(watched / "kept")

    assert as_run(digest_directory, TICK)["files"] == 4


def test_a_name_of_odd_characters_stays_on_its_line(watched: Path, report: Path) -> None:
    as_run(digest_directory, TICK)
    Path(os.fsdecode(os.fsencode(watched) + b"/a\n- b\xff\x1b[2J")).write_text("")

    result = as_run(digest_directory, TICK + 300, TICK)

    assert result["first"] == [r"+ a\n- b\udcff\x1b[2J"]
    assert report.read_text().splitlines()[1:] == result["first"]
    assert as_run(digest_directory, TICK + 600, TICK + 300)["first"] == []


def test_its_own_files_are_no_change(monkeypatch: pytest.MonkeyPatch, fresh_machine: Path) -> None:
    monkeypatch.setenv("CRONQ_DIGEST_DIR", str(fresh_machine))

    assert [as_run(digest_directory, TICK + n, TICK + n - 1)["files"] for n in range(3)] == [0, 0, 0]


def test_a_directory_of_too_many_files_is_refused(watched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRONQ_DIGEST_MAX_FILES", "3")

    with pytest.raises(RuntimeError, match=r"more than 3 files below .*CRONQ_DIGEST_MAX_FILES"):
        as_run(digest_directory, TICK)


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_what_cannot_be_read_for_a_while_is_not_called_deleted(mode: int, watched: Path) -> None:
    as_run(digest_directory, TICK)
    (watched / "sub").chmod(mode)
    if os.access(watched / "sub", os.X_OK):
        pytest.skip("root may read everything")
    unreadable = as_run(digest_directory, TICK + 300, TICK)
    (watched / "sub").chmod(0o700)

    assert unreadable["first"] == []
    assert as_run(digest_directory, TICK + 600, TICK + 300)["first"] == []


def test_a_directory_that_cannot_be_read_at_all_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        directory_tree.walk(tmp_path / "gone", skip=tmp_path, most=10)
