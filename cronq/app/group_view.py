"""A group of hosts, as faces show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cronq.hosts.groups import hosts_of

if TYPE_CHECKING:
    from cronq.hosts.groups import GroupsByName


def group_row(groups: GroupsByName, name: str) -> dict[str, Any]:
    """One row of `group list`."""
    return {"name": name, "entries": list(groups[name]), "hosts": hosts_of(groups, name)}
