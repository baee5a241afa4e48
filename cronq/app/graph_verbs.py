"""What faces ask about parents and children: whose job is whose, and in which order they go."""

from __future__ import annotations

from collections.abc import Iterable

from cronq.app.parts import Parts
from cronq.errors import DefinitionError
from cronq.jobs.graph import parents_first


class GraphVerbs(Parts):
    """Verbs of `Cronq` about the jobs that jobs name in `depends_on` and `after`."""

    def parent_problems_of_definitions(self) -> list[DefinitionError]:
        """What is wrong with the parents that the jobs of `registry` name, where Redis decides it."""
        return self.definitions().judge().problems

    def children_first(self, names: Iterable[str]) -> list[str]:
        """*names* in an order in which they can be removed; those that are no job stay among them."""
        wanted = list(dict.fromkeys(names))
        parents = self.jobs.parents_of(wanted)
        order, _ = parents_first(reversed(wanted), lambda name: parents.get(name, ()))
        return [name for name in reversed(order) if name in wanted]
