"""Judges jobs by their parents, against all that would be stored: parents that there are not, cycles, parents that go.

What the script that stores a job refuses in the same step (`lua/jobs/save`) is found here for many at once, with an
order in which each can be stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from cronq.errors import DefinitionError
from cronq.jobs.graph import Parents, parents_first, refused_cycle, refused_parent, with_options
from cronq.jobs.spec import JobSpec
from cronq.jobs.store import JobStore

#: Refusals that look for the name which may have been meant: among 10,000 names that takes a while.
_MOST_SUGGESTED = 5


@dataclass
class Judgement:
    """Which of the jobs that were judged may be stored."""

    accepted: dict[str, None]  #: parents first
    problems: list[DefinitionError] = field(default_factory=list)  #: one a cycle, and one a parent that there is not


class Family:
    """What is stored of parents and children, read as far as it is asked for."""

    def __init__(self, jobs: JobStore) -> None:
        self.jobs = jobs
        self._parents: dict[str, Parents | None] = {}  #: None: there is no such job

    def parents_of(self, name: str) -> Parents:
        """The parents that a stored job has."""
        return self._parents.get(name) or {}

    def is_stored(self, name: str) -> bool:
        """Return True if there is a job of that name."""
        return self._parents.get(name) is not None

    def read(self, names: Iterable[str], but: Collection[str] = ()) -> None:
        """Read the stored jobs *names* and all their ancestors, those of *but* left out; a round trip a generation."""
        wanted = set(names)
        while todo := [name for name in wanted if name not in self._parents and name not in but]:
            found = self.jobs.parents_of(todo)
            self._parents |= {name: found.get(name) for name in todo}
            wanted = {parent for parents in found.values() for parent in parents}


def judge_alone(specs: Mapping[str, JobSpec]) -> Judgement:
    """Judge *specs* as if nothing were stored and each parent outside of them existed: what is left are cycles."""
    order, cycles = parents_first(specs, lambda name: [each for each in specs[name].parents if each in specs])
    refused = {name for cycle in cycles for name in cycle}
    told = [refused_cycle(with_options(each, lambda name: specs[name].parents), each[0]) for each in cycles]
    return Judgement(dict.fromkeys(name for name in order if name not in refused), told)


def judge(specs: Mapping[str, JobSpec], jobs: JobStore, bad: Collection[str] = ()) -> Judgement:
    """Judge *specs*, which are to be stored in place of what is; of jobs in *bad* the definition was refused already.

    What is refused counts as it is stored. No round trip when none of *specs* names a parent outside of them.
    """
    stored, refused = Family(jobs), dict[str, DefinitionError | None]()
    stored.read({parent for spec in specs.values() for parent in spec.parents if parent not in specs}, but=specs)
    while True:
        look = _Look(specs, stored, refused, bad)
        found = look.refusals()
        if not found:
            accepted = dict.fromkeys(name for name in look.order if name in specs and name not in refused)
            return Judgement(accepted, [problem for problem in refused.values() if problem is not None])
        refused |= found
        stored.read(specs)


@dataclass
class _Look:
    """One look at *specs* where what is *refused* stays as it is stored."""

    specs: Mapping[str, JobSpec]
    stored: Family
    refused: Mapping[str, DefinitionError | None]
    bad: Collection[str]
    order: list[str] = field(default_factory=list)

    def refusals(self) -> dict[str, DefinitionError | None]:
        """What else is to be refused; None for a job whose refusal another one tells."""
        found: dict[str, DefinitionError | None] = {}
        self.order, cycles = parents_first(self.specs, self._parents_of)
        for cycle in cycles:
            members = [name for name in cycle if self._is_judged(name) and name not in found]
            for number, name in enumerate(members):
                found[name] = None if number else self._refused_cycle(cycle, name)
        for name in self.order:
            if self._is_judged(name) and name not in found and (unknown := self._unknown(name, found)) is not None:
                parent, option = unknown
                names = [*self.specs, *self.stored.jobs.names()] if len(found) < _MOST_SUGGESTED else ()
                found[name] = refused_parent(name, parent, option, names, {*self.bad, *self.refused, *found})
        return found

    def _refused_cycle(self, cycle: list[str], name: str) -> DefinitionError:
        first = cycle.index(name)
        return refused_cycle(with_options([*cycle[first:], *cycle[:first]], self._parents_of), name)

    def _is_judged(self, name: str) -> bool:
        return name in self.specs and name not in self.refused

    def _parents_of(self, name: str) -> Parents:
        return self.specs[name].parents if self._is_judged(name) else self.stored.parents_of(name)

    def _unknown(self, name: str, found: Collection[str]) -> tuple[str, str] | None:
        for parent, options in self.specs[name].parents.items():
            if self._is_judged(parent) and parent not in found:
                continue
            if parent in found:
                self.stored.read(self.specs)
            if not self.stored.is_stored(parent):
                return parent, options[0]
        return None


@dataclass
class Farewell:
    """Of the jobs that are to go: those that may, and why others stay."""

    going: list[str] = field(default_factory=list)  #: children first
    kept: dict[str, DefinitionError] = field(default_factory=dict)  #: by name; the error is that of a child that stays


def part_with(names: Iterable[str], specs: Mapping[str, JobSpec], jobs: JobStore) -> Farewell:
    """Decide which of the stored jobs *names* may be removed where *specs* are stored: none whose child stays."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return Farewell()
    children = jobs.children_of(wanted)
    stored = Family(jobs)
    stored.read({*wanted, *(child for each in children.values() for child in each)})

    def parents_of(name: str) -> Parents:
        return specs[name].parents if name in specs else stored.parents_of(name)

    staying = {child for each in children.values() for child in each if stored.is_stored(child)}
    going, kept = set(wanted), dict[str, DefinitionError]()
    todo = [name for name in {**dict.fromkeys(specs), **dict.fromkeys(sorted(staying))} if name not in going]
    for child in todo:  # which grows meanwhile
        for parent, options in parents_of(child).items():
            if parent in going:
                going.discard(parent)
                todo.append(parent)
                problem = f"nothing defines {parent!r} any more, and it stays for this job; take it out here"
                problem += "" if child in specs else f", remove this job with `cronq rm {child}`"
                kept[parent] = DefinitionError(f"{problem}, or define it again", job=child, field=options[0])
    order, _ = parents_first(wanted, parents_of)
    return Farewell([name for name in reversed(order) if name in going], kept)
