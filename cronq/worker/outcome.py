"""What a child's end means: from how it ended, what it left and what was asked of it, to the outcome of its run."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from typing import Any

from cronq.process.watchdog import ChildExit
from cronq.runs.run import RAN_TO_ITS_END, Settlement
from cronq.safetext import storable
from cronq.timetext import format_duration

_MOST_SHOWN = 10_000
_MOST_TRACEBACK = 20_000


def judge(
    ended: ChildExit,
    left: Mapping[str, Any],
    *,
    fence: int | None,
    told: tuple[str, str] | None,
    at_deadline: str,
    start_ms: int | None = None,
) -> Settlement:
    """What became of a run whose child has *ended* and *left* a result file.

    *fence* is the token of its lock, *told* the outcome and reason for which the guardian told the child to end (None
    when it did not), *at_deadline* the reason if the watchdog ended the child at its deadline, *start_ms* how long
    after the start of the run it began.
    """
    common: dict[str, Any] = {
        "exit_code": ended.status if ended.status >= 0 else 128 - ended.status,
        "fence": fence,
        "max_rss_kib": ended.max_rss_kib,
        "user_s": round(ended.user_s, 3),
        "system_s": round(ended.system_s, 3),
        "start_ms": start_ms,
        "signal": _signal_name(-ended.status) if ended.status < 0 else None,
    }
    if ended.ended_by == "deadline":
        return Settlement("lost", at_deadline, **common)
    if told is not None:
        outcome, reason = told
        return Settlement(outcome, storable(reason), **common)
    if ended.status == 0 and type(left.get("snooze")) is float:
        reason = f"it asked for another attempt after {format_duration(left['snooze'])}"
        return Settlement("stopped", reason, snooze_s=left["snooze"], **common)
    if ended.status == 0:
        value = left.get("value")
        shown = None if value is None else json.dumps(value)[:_MOST_SHOWN]
        notes = left.get("notes")
        reason = "; ".join([RAN_TO_ITS_END, *map(storable, notes if isinstance(notes, list) else ())])
        return Settlement("succeeded", reason, result=shown, return_value=value, replaced=ended.replaced, **common)
    if ended.status < 0:
        name = _signal_name(-ended.status)
        return Settlement("failed", f"ended by signal {-ended.status} ({name})", error=f"ended by {name}", **common)
    reason = storable(left.get("error") or f"exit code {ended.status}")
    error = storable(left.get("traceback") or reason, _MOST_TRACEBACK)
    return Settlement("failed", reason, error=error, **common)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
