"""The graph of jobs, in which each points to its parents: an order to take them in, its cycles, and what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from cronq.errors import DefinitionError, JobInUse, UnknownParent

#: By parent: the options that name it, see `JobSpec.parents`.
Parents = Mapping[str, Sequence[str]]
_WORDS = {"depends_on": ("depends on", "on"), "after": ("runs after", "after")}
#: Steps of a longer cycle that are left out of a message: neither its first nor its last ones.
_MOST_STEPS = 12
#: Children that a refusal names.
_MOST_NAMED = 5


def parents_first(
    names: Iterable[str], parents_of: Callable[[str], Iterable[str]]
) -> tuple[list[str], list[list[str]]]:
    """*names* and all their ancestors, each after its parents, else in the order given; and the cycles among them.

    Each cycle is a list of jobs of which each is a child of the next, and the last of the first. Without the jobs of
    these cycles there is none; of cycles that share jobs not all are told.
    """
    order: list[str] = []
    cycles: list[list[str]] = []
    circling: set[str] = set()
    place: dict[str, int] = {}  # on the path to where we are; -1 when it is done
    for start in names:
        if start in place:
            continue
        path, todo = [start], [iter(parents_of(start))]
        place[start] = 0
        while path:
            parent = next(todo[-1], None)
            if parent is None:
                todo.pop()
                order.append(path.pop())
                place[order[-1]] = -1
            elif parent not in place:
                place[parent] = len(path)
                path.append(parent)
                todo.append(iter(parents_of(parent)))
            elif place[parent] >= 0 and not {parent, path[-1]} <= circling:
                cycles.append(path[place[parent] :])
                circling.update(cycles[-1])
    return order, cycles


def with_options(cycle: Sequence[str], parents_of: Callable[[str], Parents]) -> list[tuple[str, str]]:
    """The jobs of *cycle*, each with the option by which it names the next."""
    return [
        (name, parents_of(name)[parent][0])
        for name, parent in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True)
    ]  # fmt: skip


def cycle_text(cycle: Sequence[tuple[str, str]]) -> str:
    """`a depends on b, b on c, c runs after a`: jobs with the option by which each names the next."""
    steps = list(_steps(cycle))
    if len(steps) > _MOST_STEPS:
        half = _MOST_STEPS // 2
        steps[half:-half] = [f"… {len(steps) - 2 * half:,} more …"]
    return ", ".join(steps)


def _steps(cycle: Sequence[tuple[str, str]]) -> Iterator[str]:
    before = ""
    for (name, option), (parent, _) in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
        whole, short = _WORDS.get(option, (option, option))
        yield f"{name} {short if option == before else whole} {parent}"
        before = option


def refused_cycle(cycle: Sequence[tuple[str, str]], job: str) -> DefinitionError:
    """The refusal of *job*, one of those in *cycle*."""
    field = dict(cycle).get(job)
    return DefinitionError(f"{cycle_text(cycle)}; none of them would run, so take one out", job=job, field=field)


def refused_parent(job: str, parent: str, option: str, names: Iterable[str], bad: Collection[str]) -> UnknownParent:
    """The refusal of *job*, which names a *parent* that there is not; there are *names*, and *bad* were refused too."""
    if parent in bad:
        remedy = "its own definition was refused, mend that first"
    else:
        close = difflib.get_close_matches(parent, names, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "see `cronq list`"
    return UnknownParent(f"there is no job {parent!r}; {remedy}", job=job, field=option)


def in_use(name: str, children: Iterable[str]) -> JobInUse:
    """The refusal to remove the job *name*, which *children* name."""
    named = list(children)
    more = f" and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    words = f"{', '.join(named[:_MOST_NAMED])}{more}" or "another job"
    return JobInUse(f"job {name!r} is a parent of {words}; remove or change these first, or `cronq rm --force {name}`")
