"""Jobs with `backfill`, whose ticks run in order, one at a time: what contradicts that is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cronq.errors import DefinitionError
from cronq.jobs.options import DEFAULTS, DURATIONS
from cronq.timetext import format_duration

#: How a run ends without its work being done, as `lua/parts/in_order.lua` has it: the later ticks wait.
HALTING = frozenset({"failed", "timed_out", "stopped", "lost", "expired", "blocked"})
#: What says otherwise of late ticks, or of ticks that meet, than `backfill`; and what that says.
_CONTRADICTIONS = {
    "catchup": "every tick runs",
    "window": "a tick runs however late",
    "max_catchup": "every tick runs",
    "ttl": "a tick runs however late",
    "overlap": "a tick waits for the one before it anyway",
    "pause_after_failures": "a tick that fails halts the later ones anyway",
}


def check_backfill(values: Mapping[str, Any]) -> None:
    """Refuse what does not fit with `backfill`. *values* are all options of a job by name. Raises DefinitionError."""
    for key, words in _CONTRADICTIONS.items() if values["backfill"] else ():
        value = values[key]
        if value != DEFAULTS[key]:
            told = format_duration(value) if key in DURATIONS else repr(value)
            raise DefinitionError(f"{told}, and with backfill=True {words}; leave one of them out", field=key)
