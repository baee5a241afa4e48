"""Jobs and what lies between them, as faces show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cronq.jobs.stored import StoredJob


class Edge(NamedTuple):
    """One job that names another."""

    parent: str
    child: str
    kind: str  #: the option by which it names it: `depends_on` or `after`


@dataclass
class JobGraph:
    """Jobs and what lies between them."""

    jobs: dict[str, StoredJob | None]  #: by name, sorted; None: there is no such job, or it cannot be read
    edges: list[Edge]  #: by parent, then by child
    alone: int = 0  #: how many jobs were left out, because they name no other and none names them
    children: dict[str, list[Edge]] = field(default_factory=dict)  #: by the name of the parent
    parents: dict[str, list[Edge]] = field(default_factory=dict)  #: by the name of the child

    def __post_init__(self) -> None:
        for edge in self.edges:
            self.children.setdefault(edge.parent, []).append(edge)
            self.parents.setdefault(edge.child, []).append(edge)
