"""The private Redis of `cronq dev`: a unix socket nobody else can open, and an append-only file that survives it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cronq.clock import boot_s
from cronq.config import LEAST_REDIS, PRIVATE_URL_FILE, environment, open_own
from cronq.errors import ConfigError, LockBusy, RedisUnavailable

if TYPE_CHECKING:
    from redis import Redis

_NAMES = ("redis-server", "valkey-server")
#: Bytes of a unix socket address, less what Redis may put behind it.
_LONGEST_PATH = 100
_READY_S = 10.0
_REMEDY = "run cronq dev in a directory of yours"
#: A Redis that a killed `cronq dev` left behind ends by itself within this.
_LEAVING_S = 5.0


def find_server() -> str:
    """The newest redis-server of at least 6.2, else such a valkey-server, beside this Python or on PATH.

    A package brought the one beside this Python, often years behind that of the system, which gets security updates.
    Raises RedisUnavailable with the line that installs one.
    """
    beside = Path(sys.executable).parent
    for name in _NAMES:
        # Not `which` alone: in an activated environment that finds the one beside this Python again.
        on_path = environment().get("PATH", os.defpath).split(os.pathsep)
        named = (shutil.which(name, path=str(directory)) for directory in (beside, *on_path) if directory)
        found = {Path(path).resolve(): path for path in named if path is not None}.values()
        newest = max(found, key=_version, default=None)
        if newest is not None and _version(newest)[:2] >= LEAST_REDIS:
            return newest
    how = "brew install redis" if sys.platform == "darwin" else "apt-get install redis-server"
    raise RedisUnavailable(
        f"found no redis-server 6.2 or newer beside this Python or on PATH: {how}, or set CRONQ_REDIS_URL to a Redis"
    )


def _version(program: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+(?:\.\d+)*)", answer.stdout)
    return tuple(int(part) for part in found[1].split(".")) if found is not None else ()


class Room:
    """The directory `.cronq/` of one `cronq dev`, which has it to itself for as long as its process lives."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / ".cronq"
        self.url_file = directory / PRIVATE_URL_FILE
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror}; {_REMEDY}") from error
        self._folder = open_own(self.path, os.O_RDONLY | os.O_DIRECTORY, remedy=_REMEDY)
        self._write(".gitignore", "*\n")
        self._lock = self._open("dev.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            raise LockBusy(f"another `cronq dev` is running in this directory (pid {pid}); stop it first") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self.url_file.unlink(missing_ok=True)  # of one that was killed

    def tell(self, url: str) -> None:
        """Let every cronq command in this directory find *url*."""
        self.url_file.unlink(missing_ok=True)
        self._write(self.url_file.name, url + "\n")

    def leave(self) -> None:
        """Give it up; the data stays."""
        self.url_file.unlink(missing_ok=True)
        os.close(self._lock)
        os.close(self._folder)

    def _open(self, name: str, flags: int) -> int:
        return open_own(self.path / name, flags, folder=self._folder, remedy=_REMEDY)

    def _write(self, name: str, words: str) -> None:
        with open(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as opened:
            opened.write(words)


class PrivateRedis:
    """A redis-server with its files below *home*, mode 0700, and without a TCP port."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.home.chmod(0o700)
        self.socket = self._socket_path()
        self.url = f"unix://{quote(self.socket)}"
        self.process: subprocess.Popen[bytes] | None = None

    def _socket_path(self) -> str:
        inside = str(self.home.resolve() / "redis.sock")
        if len(os.fsencode(inside)) <= _LONGEST_PATH and inside.isprintable():
            return inside
        name = f"cronq-{os.getuid()}-{hashlib.sha256(os.fsencode(inside)).hexdigest()[:12]}"
        for parent in (tempfile.gettempdir(), "/tmp"):
            room = Path(parent) / name
            if len(os.fsencode(room)) <= _LONGEST_PATH - len("/redis.sock"):
                return str(_own_directory(room) / "redis.sock")
        raise ConfigError("no directory has a path short enough for a unix socket; run cronq dev in a shorter one")

    def start(self, before_exec: Callable[[], None]) -> str:
        """Start it and wait until it answers. Return its version. Raises RedisUnavailable, ConfigError.

        *before_exec* runs in the new process, to tie its life to ours.
        """
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        program = find_server()
        with Redis(unix_socket_path=self.socket, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
            self._clear_out(client)
            self.process = subprocess.Popen(
                [
                    program, "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "700",
                    "--dir", ".", "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
                    "--maxmemory-policy", "noeviction", "--logfile", "redis.log", "--daemonize", "no",
                ],
                cwd=self.home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=before_exec,
            )  # fmt: skip
            self._await(client)
            return str(client.info("server")["redis_version"])

    def _clear_out(self, client: Redis) -> None:
        """Wait for a Redis that a killed `cronq dev` left here: it was told to end, and has its data to write."""
        asked = False
        begun = boot_s()
        while _answers(client):
            if boot_s() - begun > _LEAVING_S and not asked:
                asked = True
                client.shutdown()  # nobody told it: without a parent-death signal (macOS) it lived on
            if boot_s() - begun > 2 * _LEAVING_S:
                raise ConfigError(f"a Redis answers on {self.socket} although no cronq dev runs here; stop it first")
            time.sleep(0.05)

    def _await(self, client: Redis) -> None:
        assert self.process is not None
        begun = boot_s()
        while not _answers(client):
            if self.process.poll() is not None or boot_s() - begun > _READY_S:
                self.stop()
                raise RedisUnavailable(f"the private Redis did not start{self._last_words()}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        log = self.home / "redis.log"
        try:
            lines = log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1].split(' # ')[-1]} (see {os.path.relpath(log)})" if lines else f"; see {log}"

    def stop(self) -> None:
        """End it, with its data on disk."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _answers(client: Redis) -> bool:
    """Return True if a server is there, ready or not."""
    from redis.exceptions import BusyLoadingError, RedisError

    try:
        client.ping()
    except BusyLoadingError:
        return True
    except (RedisError, OSError):
        return False
    return True


def _own_directory(room: Path) -> Path:
    """Make the directory *room*, for us alone. Raises ConfigError when somebody else could have put it there."""
    room.mkdir(mode=0o700, exist_ok=True)
    found = room.lstat()
    if room.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{room} is not ours alone; remove it, or run cronq dev in a shorter path")
    return room
