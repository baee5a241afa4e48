"""Deploys: since when the workers of a host run other code than before. Owner of their key.

Each worker notes at its start what it runs; what its host's last one noted already is not noted again. So it is known
which code did a run of the past, as far back as the notes go.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import read_json, seconds
from cronq.db.keys import Keys
from cronq.errors import BadValue

#: How many are kept; a host that is new each time, as in a cluster of containers, notes one at each start.
_MOST = 500
#: Files and bytes that are looked at, at most.
_MOST_FILES, _MOST_BYTES = 5_000, 50_000_000
#: Folders whose modules are not the user's own.
_FOREIGN = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Deploy:
    """What workers of a host run, and since when (epoch seconds)."""

    at_s: float
    host: str
    modules: tuple[str, ...]  #: that define jobs, as the worker was given them
    revision: str  #: as `CRONQ_REVISION` names it; "" when that is not set
    code: str  #: a hash of the source of these modules; "" when there is none
    version: str  #: of cronq

    def has(self, module: str) -> bool:
        """Return True if *module* is one of those that define jobs, or is within one."""
        return any(module == each or module.startswith(f"{each}.") for each in self.modules)

    def is_other_than(self, other: Deploy) -> bool:
        """Return True if it runs other code; what one of them does not know makes no difference."""
        mine, theirs = (self.revision, self.code, self.version), (other.revision, other.code, other.version)
        return any(a != b for a, b in zip(mine, theirs, strict=True) if a and b)


def code_mark(modules: Iterable[str], folder: str) -> str:
    """A hash of the source of *modules*, which are imported, and of what else came with them; "" when there is none.

    That is the packages they stand in, and whatever was imported from below *folder*; but nothing that is installed.
    """
    tops = tuple({module.partition(".")[0] for module in modules})
    files = set()
    for name, module in list(sys.modules.items()):
        path = _source_of(module)
        if path is None or not path.endswith(".py") or any(part in path for part in _FOREIGN):
            continue
        is_own = name.partition(".")[0] in tops or (bool(tops) and path.startswith(f"{folder}{os.sep}"))
        if is_own and name.partition(".")[0] != "cronq":
            files.add((name, path))
    found, left = hashlib.sha256(), _MOST_BYTES
    for name, path in sorted(files)[:_MOST_FILES]:
        try:
            source = Path(path).read_bytes()[:left]
        except OSError:
            continue
        left -= len(source)
        found.update(f"{name}\0{len(source)}\0".encode())
        found.update(source)
    return found.hexdigest()[:8] if files else ""


def _source_of(module: object) -> str | None:
    """The file that *module* came from. It is not asked itself: a lazy one would be imported by that."""
    try:
        path = object.__getattribute__(module, "__dict__").get("__file__")
    except AttributeError:  # not every entry of `sys.modules` is a module
        return None
    return path if isinstance(path, str) else None


class Deploys:
    """Notes and reads deploys."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._note: Any = scripts.load(client, "hosts/note_deploy")

    def note(self, deploy: Deploy) -> bool:
        """Note what a worker runs; return True if its host ran something else before, or nothing. One step."""
        document = {
            "at": round(deploy.at_s, 3),
            "host": deploy.host,
            "modules": " ".join(deploy.modules),
            "revision": deploy.revision,
            "code": deploy.code,
            "version": deploy.version,
        }
        return bool(self._note(keys=[self.keys.deploys], args=[json.dumps(document), _MOST]))

    def read(self) -> list[Deploy]:
        """All that are kept, newest first."""
        found: Any = self.client.lrange(self.keys.deploys, 0, -1)
        return [deploy for raw in found if (deploy := _deploy(raw)) is not None]


def deploy_at(deploys: Sequence[Deploy], host: str, module: str | None, moment_s: float) -> Deploy | None:
    """What a worker of *host* that serves *module* ran at that moment; None when that is not known.

    *deploys* are newest first. Without a *module*, as of a command, it is what any worker of the host ran.
    """
    there = [each for each in deploys if each.host == host and each.at_s <= moment_s]
    return next((each for each in there if module is None or each.has(module)), None)


def _deploy(raw: Any) -> Deploy | None:
    """The deploy of an entry; None when it cannot be read."""
    try:
        values = read_json(raw)
        at_s = seconds(float(values["at"]))
        words = [str(values[name]) for name in ("host", "revision", "code", "version")]
        return None if at_s is None else Deploy(at_s, words[0], tuple(str(values["modules"]).split()), *words[1:])
    except (BadValue, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
