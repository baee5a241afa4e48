"""What stands in for Redis when a command is guarded on one host alone: a lock that is a file, and no ledger."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from cronq.clock import Stop, boot_s, rest, wall_s
from cronq.errors import ConfigError
from cronq.runs.exchange import End, Offer, Renewed, Renewing
from cronq.runs.guarded import Busy, Guarded, GuardedStart
from cronq.runs.run import EXEC, Run
from cronq.runs.store import SETTLED
from cronq.worker.desk import Receipt

_LOOK_S = 0.05
#: Where this user may make a directory: the first that there is. Nothing is deleted from the first for its age.
_ROOMS = (Path("/run/lock"), Path("/tmp"))


def lock_directory() -> Path:
    """The directory of this user's lock files, made when there is none. Raises ConfigError for one of somebody else.

    It hangs on no variable: cron, systemd and a shell set TMPDIR and the like differently, and have to find one file.
    """
    uid = os.getuid()
    place = next((room for room in _ROOMS if os.access(room, os.W_OK | os.X_OK)), _ROOMS[-1]) / f"cronq-{uid}"
    place.mkdir(mode=0o700, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o022:
        raise ConfigError(f"{place} is not a directory of this user alone, so no lock in it can be trusted; remove it")
    return place


class LocalGuards:
    """Locks as files, each held by an open descriptor: with the last process that has it open it is free.

    The watchdog has it open as well, so a lock outlives a guardian that is killed until all that it guarded is dead.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: int | None = None

    def begin(self, guarded: Guarded) -> GuardedStart | Busy:
        """Take one of its locks. There is no ledger."""
        taken = None
        for name in guarded.locks:
            if self._take(name):
                taken = name
                break
        if guarded.locks and taken is None:
            return Busy(guarded.locks[0], None)
        now_s = wall_s()
        run = Run(guarded.run_id, guarded.name, None, "running", trigger=EXEC, queued_at=now_s, started_at=now_s)
        return GuardedStart(run, None, None, now_s, boot_s())

    def _take(self, name: str) -> bool:
        path = self._directory / f"{name.replace('/', ':')}.lock"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
                    self._held = fd
                    return True
            except FileNotFoundError:  # deleted between the two looks
                pass
            except BlockingIOError:
                os.close(fd)
                return False
            os.close(fd)  # somebody has deleted that file: another would find a new one free

    def wait_for_release(self, locks: Sequence[str], most_s: float) -> None:
        """Wait a moment: a file wakes nobody."""
        rest(min(most_s, _LOOK_S), Stop())


class LocalDesk:
    """Takes what would be told Redis."""

    def renew(self, renewing: Renewing) -> Renewed:
        """Nobody else can have the run."""
        return Renewed("", None)

    def settle_and_take(self, ends: Sequence[End], offer: Offer | None, queues: Sequence[str]) -> Receipt:
        """Keep nothing of it."""
        return Receipt([SETTLED] * len(ends), None)
