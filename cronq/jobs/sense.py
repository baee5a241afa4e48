"""Options of a job that mean nothing together, or contradict each other: refused where they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cronq.errors import DefinitionError
from cronq.jobs.in_order import check_backfill
from cronq.jobs.options import DEFAULTS
from cronq.jobs.parents import check_triggered
from cronq.timetext import format_duration


def check_sense(values: Mapping[str, Any]) -> None:
    """Refuse options that do not fit together. *values* are all options of a job by name. Raises DefinitionError.

    Stored specs are not checked for this, so that old ones go on.
    """
    check_triggered(values)
    check_backfill(values)
    if values["lock"] is not None and not values["exclusive"]:
        raise DefinitionError(f"{values['lock']!r} is only taken with exclusive=True; add that", field="lock")
    both = [name for name in values["only"] if name in values["except_"]]
    if both:
        raise DefinitionError(f"{both[0]!r} stands in only, too: no tick would run; choose one", field="except_")
    if values["at_most_once"] and values["on_lost"] == "rerun":
        problem = "True, and on_lost='rerun' would start a run twice; leave one of them out"
        raise DefinitionError(problem, field="at_most_once")
    if values["at_most_once"] and values["retries"]:
        problem = "True, and retries would start a run more than once; leave one of them out"
        raise DefinitionError(problem, field="at_most_once")
    if values["isolation"] == "clean" and values["command"] is not None:
        problem = "'clean' means nothing for a command: each run has a process of its own; leave it out"
        raise DefinitionError(problem, field="isolation")
    _check_backoff(values["backoff"], values["retry_delay"], values["max_retry_delay"])
    _check_spans(values)
    keep, most = values["keep"], values["max_catchup"]
    if values["catchup"] == "all" and keep < most:
        problem = f"{keep} rows are fewer than max_catchup={most}, and catchup='all' needs a row for each tick it runs"
        raise DefinitionError(f"{problem}; raise keep or lower max_catchup", field="keep")


def _check_spans(values: Mapping[str, Any]) -> None:
    """Refuse a span that another one makes senseless."""
    warn_after, timeout, ttl, jitter = (values[key] for key in ("warn_after", "timeout", "ttl", "jitter"))
    if warn_after is not None and warn_after >= timeout:
        problem = f"{format_duration(warn_after)} is not shorter than timeout={format_duration(timeout)}"
        raise DefinitionError(
            f"{problem}, which would end the run first; lower it or raise timeout", field="warn_after"
        )
    if ttl is not None and jitter is not None and ttl < jitter:
        problem = f"{format_duration(ttl)} is shorter than jitter={format_duration(jitter)}: a run could expire "
        raise DefinitionError(f"{problem}before it is queued; raise ttl or lower jitter", field="ttl")


def _check_backoff(backoff: float, retry_delay_s: float, most_s: float) -> None:
    """Refuse a longest delay that means nothing, or that is shorter than the first."""
    given = format_duration(most_s)
    if backoff == 1:
        if most_s != DEFAULTS["max_retry_delay"]:
            raise DefinitionError(f"{given} means nothing without backoff; add that", field="max_retry_delay")
    elif most_s < retry_delay_s:
        problem = f"{given} is shorter than retry_delay={format_duration(retry_delay_s)}; raise it"
        raise DefinitionError(problem, field="max_retry_delay")
