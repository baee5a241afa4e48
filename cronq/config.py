"""Settings, and where each came from. The only module that reads the environment and the config files.

Order: a flag of the command line, then `CRONQ_…` in the environment, then `cronq.toml` or `[tool.cronq]` of
`pyproject.toml` in the current directory, then the default. Without a URL, a private Redis that `cronq dev` runs
in the current directory is used.
"""

from __future__ import annotations

import errno
import getpass
import os
import pwd
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cronq.errors import ConfigError, ScheduleError
from cronq.schedule.zone import find_zone, iana_name, machine_zone_name
from cronq.sentinel_url import is_sentinel_url, parse_sentinel_url
from cronq.timetext import format_duration, parse_duration_s

DEFAULT_URL = "redis://127.0.0.1:6379/0"
#: The oldest Redis that knows every command of our scripts.
LEAST_REDIS = (6, 2)
#: Redis URLs under names that other tools set, in falling order.
URL_NAMES = ("CRONQ_REDIS_URL", "RQ_REDIS_URL", "REDIS_URL")
#: Where `cronq dev` leaves word of its private Redis, so that `cronq list` beside it finds the same.
PRIVATE_URL_FILE = ".cronq/url"
_LONGEST_URL = 4096
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True)
class Config:
    """All settings of one process; durations are seconds."""

    url: str = DEFAULT_URL
    prefix: str = "cronq"  #: first part of every key; one installation a database
    host_id: str = ""  #: this machine's name in groups and ledgers; empty: its full name
    jobs: tuple[str, ...] = ()  #: modules that define jobs
    tz: str = "UTC"  #: IANA name of the zone of jobs that name none, when they are stored
    lock_ttl: float = 30.0
    lost_after: float = 30.0  #: a run unheard of for so long is lost
    shutdown_grace: float = 20.0  #: from the signal to a worker until its present run is ended
    keep_rows_for: float = 30 * 86400.0  #: life of a row of the ledger
    keep_events: int = 10_000
    max_args: int = 1_000_000  #: bytes of the arguments of one run; one Redis thread serves everybody
    batch: int = 250  #: ticks claimed per round trip
    catchup_rate: float = 20.0  #: late runs queued a second, all beats together; 0: all at once
    publish_rq_cron: bool = True  #: tell tools that show RQ's cron of our schedules
    serve_rq_scheduler: bool = True  #: beats serve rq-scheduler's store and RQ's own registries of scheduled jobs
    rq_scheduler_tz: str = ""  #: zone of rq-scheduler's cron strings; empty: this machine's
    allow: tuple[str, ...] = ()  #: modules whose functions workers run for RQ jobs that are not cronq's; `*`: any
    webhook_allow_private: bool = False  #: webhooks of RQ jobs may lead into private networks
    revision: str = ""  #: which revision of the jobs' code this process runs, for `cronq why`
    isolation: str = "clean"  #: of jobs that say nothing: `clean`, runs share a child while it is clean, or `run`
    child_runs: int = 1000  #: so many runs, and a clean child is replaced all the same
    child_life: float = 3600.0  #: the same after so long
    child_memory: int = 128  #: and when it has grown by so many MiB
    no_commands: bool = False  #: workers refuse jobs that are commands: those are code that stands in Redis
    allow_eviction: bool = False  #: go on although Redis may evict keys, and so lose or double runs
    log_level: str = "info"
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def host(self) -> str:
        """The name of this machine; looked up once, when first needed, because DNS may be slow."""
        return self.host_id or socket.getfqdn() or socket.gethostname()

    @cached_property
    def foreign_tz(self) -> str:
        """The zone in which rq-scheduler's cron strings are read."""
        return self.rq_scheduler_tz or process_zone_name()

    @property
    def shown_url(self) -> str:
        """The URL without its password, for logs and messages."""
        return hide_password(self.url)

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
        **flags: Any,
    ) -> Config:
        """Read all places. Raises ConfigError naming the setting, its place and what is allowed."""
        environ = os.environ if environ is None else environ
        from_file, file_name = _read_file(directory or Path.cwd())
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for item in fields(cls):
            if item.name == "origins":
                continue
            found = _look_up(item.name, flags, environ, from_file, file_name)
            if found is None:
                origins[item.name] = "default"
                continue
            raw, origin = found
            values[item.name] = _convert(item.name, raw, item.default, origin)
            origins[item.name] = origin
        if "url" not in values:
            private = _private_url(directory or Path.cwd())
            if private is not None:
                values["url"], origins["url"] = private, PRIVATE_URL_FILE
        config = cls(**values, origins=origins)
        config._check()
        return config

    def _check(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(f"prefix {self.prefix!r} (from {self.origin('prefix')}): use 1 to 40 of A-Z a-z 0-9 _ -")
        for name, least in (
            ("lock_ttl", 2),
            ("lost_after", 1),
            ("shutdown_grace", 0),
            ("keep_rows_for", 60),
            ("child_life", 1),
        ):
            shown = format_duration(getattr(self, name))
            if getattr(self, name) < least:
                raise ConfigError(f"{name} {shown} (from {self.origin(name)}): at least {format_duration(least)}")
        for name, most in (
            ("keep_events", 1_000_000), ("batch", 1_000_000), ("max_args", 100_000_000), ("child_runs", 1_000_000),
            ("child_memory", 1_000_000),
        ):  # fmt: skip
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} {getattr(self, name)} (from {self.origin(name)}): from 1 to {most:,}")
        if self.catchup_rate and not 0.01 <= self.catchup_rate <= 10_000:
            where = f"catchup_rate {self.catchup_rate:g} (from {self.origin('catchup_rate')})"
            raise ConfigError(f"{where}: runs a second from 0.01 to 10,000, or none")
        if self.isolation not in ("clean", "run"):
            raise ConfigError(f"isolation {self.isolation!r} (from {self.origin('isolation')}): clean or run")
        if self.log_level.lower() not in ("debug", "info", "warning", "error"):
            raise ConfigError(
                f"log_level {self.log_level!r} (from {self.origin('log_level')}): debug, info, warning or error"
            )
        for name in ("tz", "rq_scheduler_tz"):
            try:
                find_zone(getattr(self, name) or "UTC")
            except ScheduleError as error:
                raise ConfigError(f"{name} (from {self.origin(name)}): {error.problem}") from None
        where = f"url {self.shown_url!r} (from {self.origin('url')})"
        if is_sentinel_url(self.url):
            try:
                parse_sentinel_url(self.url)
            except ValueError as error:
                raise ConfigError(f"{where}: {error}") from None
        elif not self.url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigError(f"{where}: starts with redis://, rediss://, unix:// or redis+sentinel://")

    def origin(self, name: str) -> str:
        """Where the value of the setting *name* came from."""
        return self.origins.get(name, "default")


def _look_up(
    name: str, flags: Mapping[str, Any], environ: Mapping[str, str], from_file: Mapping[str, Any], file_name: str
) -> tuple[Any, str] | None:
    flag = flags.get(name)
    if flag is not None and flag != ():
        return flag, "command line"
    variables = URL_NAMES if name == "url" else (f"CRONQ_{name.upper()}",)
    for variable in variables:
        if environ.get(variable):
            return environ[variable], f"environment {variable}"
    if name in from_file:
        return from_file[name], file_name
    return None


def _read_file(directory: Path) -> tuple[dict[str, Any], str]:
    for file_name, table in (("cronq.toml", None), ("pyproject.toml", "cronq")):
        path = directory / file_name
        if not path.is_file():
            continue
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file_name}: {error}; mend the file") from None
        tools = document.get("tool", {})
        values = document if table is None else tools.get(table) if isinstance(tools, dict) else tools
        if values is None:
            continue
        if not isinstance(values, dict):
            raise ConfigError(f"{file_name}: [tool.cronq] is not a table; mend the file")
        known = {item.name for item in fields(Config)} - {"origins"}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"{file_name}: there is no setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return dict(values), file_name
    return {}, ""


def _private_url(directory: Path) -> str | None:
    """The URL of the Redis that a `cronq dev` in this directory has started; None when there is none.

    Raises ConfigError when another user could have written the file that holds it.
    """
    path = directory / PRIVATE_URL_FILE
    if not os.path.lexists(path):
        return None
    remedy = "remove it, or name the Redis with --url or CRONQ_REDIS_URL"
    folder = open_own(path.parent, os.O_RDONLY | os.O_DIRECTORY, remedy=remedy)
    try:
        with open(open_own(path, os.O_RDONLY | os.O_NONBLOCK, folder=folder, remedy=remedy), "rb") as opened:
            return opened.read(_LONGEST_URL).decode("utf-8", "replace").strip() or None
    except OSError:
        return None
    finally:
        os.close(folder)


def open_own(path: Path, flags: int, *, remedy: str, folder: int | None = None) -> int:
    """Open *path*, or its last part below the open directory *folder*, and return the descriptor; follows no link.

    Raises ConfigError unless the file belongs to this user or to root and nobody else may write it: what another user
    puts into a shared directory must neither configure us nor lead us to other files. A file that this call creates
    can be read by its owner alone.
    """
    try:
        name = path if folder is None else path.name
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise ConfigError(f"{path} is a link, which is not followed; {remedy}") from None
        raise ConfigError(f"cannot open {path}: {error.strerror}; {remedy}") from None
    found = os.fstat(descriptor)
    if found.st_uid in (os.geteuid(), 0) and not found.st_mode & 0o022:
        return descriptor
    os.close(descriptor)
    whose = "others may write it" if found.st_uid in (os.geteuid(), 0) else f"it belongs to {_user(found.st_uid)}"
    raise ConfigError(f"{path} is not trusted, because {whose}; {remedy}")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _convert(name: str, raw: Any, default: Any, origin: str) -> Any:
    try:
        if name in ("jobs", "allow"):
            words = raw.replace(",", " ").split() if isinstance(raw, str) else raw
            if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
                raise ValueError("is not a list of module names")
            return tuple(words)
        if name == "catchup_rate":
            return _rate(raw)
        if isinstance(default, bool):
            return _truth(raw)
        if isinstance(default, int):
            return _whole(raw)
        if isinstance(default, float):
            return parse_duration_s(raw)
        if not isinstance(raw, str):
            raise ValueError("is not text")
        return _utf8(raw)
    except (ValueError, TypeError) as error:
        shown = hide_password(str(raw)) if name == "url" else raw
        raise ConfigError(f"{name} {shown!r} (from {origin}): {error}") from None


def _utf8(raw: str) -> str:
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    return raw


def _whole(raw: Any) -> int:
    if type(raw) is int or (isinstance(raw, str) and raw.strip().isdecimal()):
        return int(raw)
    raise ValueError("is not a whole number")


def _rate(raw: Any) -> float:
    """So many a second; 0 for `none`."""
    if isinstance(raw, str) and raw.strip().lower() == "none":
        return 0.0
    try:
        return float(raw if not isinstance(raw, bool) else "")
    except (TypeError, ValueError):
        raise ValueError("is neither a number, as of runs a second, nor none") from None


def _truth(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("is neither true nor false")


#: `user:password@`; up to the last `@`, so that a password that should have been quoted does not show either.
_USER_INFO = re.compile(r"^(\s*(?:[a-z+]+://)?[^:@/]*:(?!//)).*@", re.DOTALL | re.IGNORECASE)
#: `secret@`: a user without a password is seldom meant, a password whose colon was forgotten often.
_LONE_USER = re.compile(r"^(\s*(?:[a-z+]+://)?)[^:@/?#]+@(?:.*@)?", re.DOTALL | re.IGNORECASE)
_FIELD = re.compile(r"([?&])([^=&#]*)=[^&#]*")


def hide_password(url: str) -> str:
    """*url* with `***` in place of its password; secrets must not reach logs or `ps`."""
    hidden = _USER_INFO.sub(r"\1***@", url) if _LONE_USER.match(url) is None else _LONE_USER.sub(r"\1***@", url)
    return _FIELD.sub(lambda field: f"{field[1]}{field[2]}=***" if _is_secret(field[2]) else field[0], hidden)


def _is_secret(name: str) -> bool:
    """Return True if a field of a URL is a password: `password`, `ssl_password`, also written `pass%77ord`."""
    return "password" in unquote(name).lower()


def person(host: str) -> str:
    """Who is at the keyboard, for the ledger: `ann@host`."""
    try:
        return f"{getpass.getuser()}@{host}"
    except (OSError, KeyError):
        return f"uid {os.getuid()}@{host}"


def process_zone_name() -> str:
    """The IANA name of the zone that this process lives in: that of TZ, else the machine's, else UTC."""
    return iana_name(os.environ.get("TZ", "")) or machine_zone_name() or "UTC"


def living_environment() -> Any:
    """This process's environment itself, to see that it is as it was; nothing is read from it here."""
    return os.environ


def environment() -> dict[str, str]:
    """A copy of this process's environment, for a command job."""
    return dict(os.environ)
