"""What is told of late runs that the catch-up rate holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class HeldRun(NamedTuple):
    """A late run that is held: its tick (epoch seconds), its place in the line (1 is next), and when its turn comes."""

    job: str
    tick: int
    priority: int
    place: int
    due_in_s: float  #: from now, about


@dataclass(frozen=True)
class CatchupReading:
    """The line of held runs, the next one first."""

    runs: list[HeldRun]
    per_s: float  #: so many are let through in a second; 0: all at once
    done_in_s: float  #: from now until the last of the whole line has its turn, about


class DroppedTicks(NamedTuple):
    """Ticks of one job (epoch seconds) that were held, and are recorded `missed`."""

    job: str
    ticks: int  #: how many
    first: int
    last: int
