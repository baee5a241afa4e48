"""The JSON document of `cronq why --json`, like those in `views`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cronq.timetext import iso

if TYPE_CHECKING:
    from cronq.runs.facts import Answer, ParentFact


def why_document(answer: Answer) -> dict[str, Any]:
    """`why`."""
    return {
        "job": answer.job,
        "tick": iso(answer.tick),
        "due": answer.due,
        "outcome": answer.outcome,
        "reason": answer.reason,
        "cause": answer.cause,
        "text": answer.text,
        "other": answer.other,
        "next": answer.next,
        "parents": [_parent_row(parent) for parent in answer.parents],
    }


def _parent_row(parent: ParentFact) -> dict[str, Any]:
    """One entry of its `parents`."""
    return {
        "job": parent.name,
        "tick": iso(parent.tick),
        "exists": parent.is_job,
        "then": parent.then,
        "now": parent.state,
        "cause": parent.behind.cause if parent.behind is not None else None,
    }
