"""Groups: named sets of hosts and of other groups, kept in Redis. Owner of the key `groups`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text, texts
from cronq.db.faults import broken_key
from cronq.db.keys import Keys
from cronq.errors import DefinitionError, UnknownGroup

#: Names of hosts and of groups: what a host may be called, without what would end a word.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_MOST_ENTRIES = 10_000

#: By the name of each group its entries, as they were given.
GroupsByName = Mapping[str, tuple[str, ...]]


def check_group_name(name: str) -> str:
    """Return *name*. Raises DefinitionError for one that no group and no host can have."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(f"group {name!r:.80}: use 1 to 253 letters, digits and _.- for groups and hosts")
    return name


def checked_group(name: str, entries: Iterable[str]) -> tuple[str, ...]:
    """The entries of the group *name*, each once. Raises DefinitionError."""
    check_group_name(name)
    found = tuple(dict.fromkeys(entries))
    if len(found) > _MOST_ENTRIES:
        raise DefinitionError(f"group {name!r}: {len(found):,} entries, and {_MOST_ENTRIES:,} are allowed")
    for entry in found:
        if not isinstance(entry, str) or not _NAME.fullmatch(entry):
            raise DefinitionError(f"group {name!r}: {entry!r:.80} is no name of a host or a group")
    return found


def hosts_of(groups: GroupsByName, name: str) -> list[str]:
    """The hosts in a group and in those that are in it, by name, each once. Raises UnknownGroup.

    An entry that is the name of a group is that group; a group that is in itself adds nothing.
    """
    if name not in groups:
        raise UnknownGroup(f"there is no group {name!r}; see `cronq group list`")
    hosts: set[str] = set()
    seen, open_ = {name}, [name]
    while open_:
        for entry in groups[open_.pop()]:
            if entry in seen:
                continue
            seen.add(entry)
            if entry in groups:
                open_.append(entry)
            else:
                hosts.add(entry)
    return sorted(hosts)


class Groups:
    """Reads and writes the groups; each change is one atomic step."""

    def __init__(self, client: Redis, keys: Keys, keep_events: int) -> None:
        self._client = client
        self._keys = keys
        self._keep_events = keep_events
        self._set: Any = scripts.load(client, "hosts/set_groups")

    def read(self) -> dict[str, tuple[str, ...]]:
        """All groups, by name."""
        found = texts(self._client.hgetall(self._keys.groups))
        return {name: tuple(found[name].split()) for name in sorted(found)}

    def set(self, groups: GroupsByName, *, by: str, replace_all: bool = False) -> list[str]:
        """Store *groups* in place of those of the same names, or of all. Return the names of what has changed.

        Raises DefinitionError, and then nothing has changed; KeyBroken.
        """
        checked = {name: " ".join(checked_group(name, entries)) for name, entries in groups.items()}
        return self._write(checked, (), by=by, replace_all=replace_all)

    def remove(self, names: Collection[str], *, by: str) -> list[str]:
        """Remove groups. Return the names of those that there were."""
        return self._write({}, names, by=by, replace_all=False)

    def _write(self, groups: Mapping[str, str], gone: Collection[str], *, by: str, replace_all: bool) -> list[str]:
        document = {"groups": groups, "gone": list(gone), "all": replace_all, "by": by, "events": self._keep_events}
        try:
            changed: Any = self._set(keys=[self._keys.groups, self._keys.events], args=[json.dumps(document)])
        except Exception as error:
            broken = broken_key(error)
            if broken is None:
                raise
            raise broken from None
        return sorted(text(name) for name in changed)


def read_groups_file(raw: bytes) -> dict[str, tuple[str, ...]]:
    """The groups of a JSON document `{"groups": {"name": ["host", …] or "host"}}`. Raises DefinitionError."""
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise DefinitionError(f"this is no JSON: {error}") from None
    found = document.get("groups") if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise DefinitionError('it needs the form {"groups": {"NAME": ["HOST or GROUP", …], …}}')
    groups = {}
    for name, entries in found.items():
        entries = [entries] if isinstance(entries, str) else entries
        if not isinstance(entries, list):
            raise DefinitionError(f"group {name!r:.80}: {entries!r:.80} is neither a list of names nor one name")
        groups[name] = checked_group(name, entries)
    return groups
