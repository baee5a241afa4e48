"""Reads the lean form of a row whose run ended well: defaults are left out, and its numbers stand in one field.

`lua/parts/lean_row.lua` writes that form, `lua/parts/keep_attempt.lua` undoes it when such a run has another attempt:
the three must say the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from cronq.outcomes import EXECUTED, OUTCOMES

#: Why a run that succeeded did so; its row does not repeat it.
RAN_TO_ITS_END = "it ran to its end"
_NOTHING = "-"
#: Most of these are recorded by the claim alone.
_NEVER_BEGUN = frozenset(OUTCOMES) - frozenset(EXECUTED)


def whole_row(values: Mapping[str, str]) -> Mapping[str, str]:
    """The *values* of a row as they were before it was made lean; unchanged if it is not lean."""
    if values.get("state") != "done":
        return values
    left_out: dict[str, str] = _numbers(values)
    outcome = values.get("outcome")
    if outcome == "succeeded":
        left_out["reason"] = RAN_TO_ITS_END
    worker = values.get("worker") or left_out.get("worker")
    if worker and outcome in EXECUTED:
        left_out["decided_by"] = f"worker {worker}"
    if outcome in _NEVER_BEGUN and "ended_at" in values:  # it was recorded when it was decided
        left_out["queued_at"] = values["ended_at"]
    return left_out | dict(values)


def _numbers(values: Mapping[str, str]) -> dict[str, str]:
    """What the field `facts` holds, by the names of the fields of a whole row.

    Eight words, `-` for none: pid; milliseconds from the tick to the queue, from there to the start, from there to the
    end; most memory in KiB; milliseconds of CPU time of the user, and of the system; the last part of the worker's
    name, whose other parts are host and pid.
    """
    words = values.get("facts", "").split(" ")
    if len(words) != 8:
        return {}
    pid, *numbers, ending = words
    try:
        queued, waited, worked, rss, user, system = (None if word == _NOTHING else int(word) for word in numbers)
        tick_ms = 1000 * int(values.get("tick") or 0)
    except ValueError:
        return {}
    if queued is None or waited is None or worked is None:
        return {}
    moments = {"queued_at": queued, "started_at": queued + waited, "ended_at": queued + waited + worked}
    found = {name: _seconds(tick_ms + offset_ms) for name, offset_ms in moments.items()}
    used = {"user_s": user, "system_s": system}
    found |= {name: _seconds(spent_ms) for name, spent_ms in used.items() if spent_ms is not None}
    if rss is not None:
        found |= {"max_rss_kib": str(rss), "exit_code": "0"}
    if pid != _NOTHING:
        found["pid"] = pid
        if ending != _NOTHING:
            found["worker"] = f"{values.get('host', '')}.{pid}.{ending}"
    return found


def _seconds(milliseconds: int) -> str:
    return repr(milliseconds / 1000)
