"""The settings of the jobs, read anew at each run. Defines no job.

A variable that is unset or empty means the default; a bad one raises ConfigError in one line.
"""

from __future__ import annotations

import os
from pathlib import Path

from cronq.errors import ConfigError


def home() -> Path:
    """The directory for what the jobs keep for themselves."""
    return path("CRONQ_WORKERS_DIR", Path(".cronq/workers"))


def path(name: str, default: Path, *, kind: str = "any") -> Path:
    """An absolute path; one that somebody set must exist when *kind* is "file" or "directory"."""
    text = os.environ.get(name)
    found = Path(text).expanduser().absolute() if text else default.absolute()
    if text and kind != "any" and not (found.is_file() if kind == "file" else found.is_dir()):
        raise ConfigError(f"{name}={text!r} is not an existing {kind}; name one that this worker can reach")
    return found


def words(name: str, default: str) -> list[str]:
    """A list written like PATH, with `:` between."""
    text = os.environ.get(name) or default
    if not text.strip(":"):
        raise ConfigError(f"{name}={text!r} names nothing; write what it stands for, with ':' between, or unset it")
    return [word for word in text.split(":") if word]


def integer(name: str, default: int, *, least: int, most: int = 1_000_000_000) -> int:
    """A whole number from *least* to *most*."""
    text = (os.environ.get(name) or str(default)).strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and least <= int(text) <= most):
        raise ConfigError(f"{name}={text!r} is not a whole number from {least:,} to {most:,}")
    return int(text)


def percent(name: str, default: float) -> float:
    """A number from 0 (never fails) to below 100."""
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:  # also refuses nan
        raise ConfigError(f"{name}={text!r} is not a percentage from 0 to below 100, such as {default:g}")
    return value
