"""What faces ask about parents and children: whose job is whose, and in which order they go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cronq.app.graph import Edge, JobGraph
from cronq.app.parts import Parts
from cronq.definitions.family import Family
from cronq.errors import DefinitionError, UnknownJob
from cronq.jobs.graph import Parents, parents_first
from cronq.jobs.stored import StoredJob


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

    def children_of(self, name: str) -> list[str]:
        """The names of the jobs that name the job *name* as a parent, sorted."""
        return list(self.jobs.children_of([name])[name])

    def graph(self, names: Iterable[str] = ()) -> JobGraph:
        """All jobs that have parents or children; with *names* these jobs, their ancestors and their descendants.

        A round trip for 1,000 jobs, and for each generation. Raises UnknownJob.
        """
        wanted = list(names)
        if wanted:
            parents, alone = self._relatives(wanted), 0
        else:
            stored = self.jobs.parents_of(self.jobs.names())
            named = {parent for each in stored.values() for parent in each}
            parents = {name: each for name, each in stored.items() if each or name in named}
            parents |= {name: {} for name in named if name not in stored}
            alone = len(stored) - sum(name in stored for name in parents)
        found = self.jobs.find(sorted(parents))
        jobs = {name: job if isinstance(job := found.get(name), StoredJob) else None for name in sorted(parents)}
        return JobGraph(jobs, sorted(_edges(parents)), alone)

    def _relatives(self, names: list[str]) -> dict[str, Parents]:
        """The parents of *names*, of their ancestors and of their descendants, as far as they are among these."""
        family = Family(self.jobs)
        family.read(names)
        for name in names:
            if not family.is_stored(name):
                raise UnknownJob(f"there is no job {name!r}; see `cronq list`")
        descendants, newest = dict.fromkeys(names), list(names)
        while newest:
            born = self.jobs.children_of(newest)
            newest = list(dict.fromkeys(child for each in born.values() for child in each if child not in descendants))
            descendants |= dict.fromkeys(newest)
        family.read(descendants)
        ancestors, _ = parents_first(names, family.parents_of)
        known = descendants.keys() | ancestors
        return {
            name: {parent: kinds for parent, kinds in family.parents_of(name).items() if parent in known}
            for name in known
        }


def _edges(parents: Mapping[str, Parents]) -> Iterator[Edge]:
    for child, named in parents.items():
        for parent, kinds in named.items():
            yield from (Edge(parent, child, kind) for kind in kinds)
