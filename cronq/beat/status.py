"""What a beat says of itself, besides being alive: `cronq beats` and `cronq check beat` show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cronq.clock import ServerClock


@dataclass
class BeatStatus:
    """Written by a beat's passes, read by its heartbeat."""

    clock: ServerClock
    won: int = 0  #: ticks that this beat has claimed since it began
    last_pass_s: float | None = None  #: when the last pass read the agenda, server time

    def facts(self) -> dict[str, Any]:
        """The facts that travel with the heartbeat."""
        offset = self.clock.offset_s
        return {
            "clock_offset_s": None if offset is None else round(offset, 3),
            "won": self.won,
            "last_pass": self.last_pass_s,
            "holding": self.clock.holding,
        }
