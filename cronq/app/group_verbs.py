"""The verbs of an application about groups of hosts, and the checks that look at them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from cronq.app.parts import Parts
from cronq.hosts.groups import Groups, GroupsByName, check_group_name, hosts_of, read_groups_file
from cronq.monitor.checks import Finding
from cronq.monitor.group_checks import check_groups, check_hosts, groups_in_crontab


class GroupVerbs(Parts):
    """Verbs of `Cronq` about groups."""

    @cached_property
    def groups(self) -> Groups:
        """The groups in Redis."""
        return Groups(self.client, self.keys, self.config.keep_events)

    def set_group(self, name: str, entries: Iterable[str]) -> bool:
        """Store a group of hosts and groups, in place of one of that name. Return False if it was the same already.

        Commands that run on a host which is no longer in it are stopped within two seconds. Raises DefinitionError.
        """
        return bool(self.groups.set({name: tuple(entries)}, by=self.who))

    def remove_groups(self, names: Sequence[str]) -> list[str]:
        """Remove groups. Return the names of those that there were."""
        for name in names:
            check_group_name(name)
        return self.groups.remove(names, by=self.who)

    def import_groups(self, raw: bytes) -> list[str]:
        """Store the groups of a JSON document in place of all. Return the names of those that are another now.

        Raises DefinitionError for a document that is wrong anywhere, and then nothing has changed.
        """
        return self.groups.set(read_groups_file(raw), by=self.who, replace_all=True)

    def hosts_of_group(self, name: str) -> list[str]:
        """The hosts in a group and in those that are in it. Raises UnknownGroup."""
        return hosts_of(self.groups.read(), name)

    def read_groups(self) -> GroupsByName:
        """All groups, by name."""
        return self.groups.read()

    def check_groups(self, crontabs: Sequence[tuple[str, bytes]] = ()) -> Finding:
        """Whether the groups that lines of *crontabs* (path and text) name are there."""
        used = [each for path, raw in crontabs for each in groups_in_crontab(path, raw)]
        return check_groups(self.groups.read(), used)

    def check_hosts(self) -> Finding:
        """Whether each group has a host of which a beat or a worker was heard lately."""
        beats, now_s = self.heartbeats.read("beats")
        workers, _ = self.heartbeats.read("workers")
        alive = {each.host for each in (*beats, *workers) if each.is_alive(now_s)}
        return check_hosts(self.groups.read(), alive)
