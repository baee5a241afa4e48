"""`cronq check groups` and `cronq check hosts`: groups that are named and not there, or whose hosts are all silent."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cronq.hosts.groups import GroupsByName, hosts_of
from cronq.monitor.checks import CRITICAL, OK, Finding

#: How many a finding names.
_MOST_NAMED = 10
_CALL = re.compile(r"\bcronq\b.*\bexec\b")


class UsedGroup(NamedTuple):
    """A group that a line of a crontab names."""

    group: str
    where: str  #: path and number of the line


def groups_in_crontab(path: str, raw: bytes) -> list[UsedGroup]:
    """The groups that `cronq exec --group …` names in the lines of a crontab."""
    found = []
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        if line.lstrip().startswith("#") or not _CALL.search(line):
            continue
        words = iter(_words(line))
        for word in words:
            if word == "--":
                break
            if word == "--group":
                found.append(UsedGroup(next(words, ""), f"{path}:{number}"))
            elif word.startswith("--group="):
                found.append(UsedGroup(word.removeprefix("--group="), f"{path}:{number}"))
    return found


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line.partition("cronq")[2])
    except ValueError:  # a quotation that does not end
        return line.split()


def check_groups(groups: GroupsByName, used: Sequence[UsedGroup]) -> Finding:
    """CRITICAL when a group is named that there is not: what names it does not run."""
    unknown = [f"{each.group!r} ({each.where})" for each in used if each.group not in groups]
    performance = f"'groups'={len(groups)} 'unknown'={len(unknown)};;0"
    if unknown:
        return Finding(CRITICAL, f"there is no group {_named(unknown)}; `cronq group set` stores one", performance)
    return Finding(OK, f"{len(groups)} groups, and all that are named are there", performance)


def check_hosts(groups: GroupsByName, alive: Collection[str]) -> Finding:
    """CRITICAL when a group has hosts and none of them is *alive*. An empty group is meant to run nowhere."""
    hosts = {name: hosts_of(groups, name) for name in groups}
    silent = [name for name, members in hosts.items() if members and not set(members) & set(alive)]
    performance = f"'groups'={len(groups)} 'silent'={len(silent)};;0 'hosts'={len(alive)}"
    if silent:
        words = "no beat or worker was heard of on any host of the group"
        return Finding(CRITICAL, f"{words} {_named(silent)}", performance)
    return Finding(OK, f"each of {len(groups)} groups has a host that is alive, or none at all", performance)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
