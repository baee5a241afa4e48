"""Whether an attempt that has ended is followed by another one, and when: arithmetic, without Redis or a clock.

Only `failed` and `timed_out` are tried again. A run that is `lost` may still be at work: `on_lost` decides about it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cronq.jobs.spec import JobSpec
from cronq.timetext import format_duration

#: Outcomes of an attempt after which a run is tried again.
TRIED_AGAIN = ("failed", "timed_out")


@dataclass(frozen=True)
class Retry:
    """Another attempt of a run, *after_s* seconds after the end of the one before."""

    after_s: float
    retried: int  #: how many retries the run has had with this one
    note: str  #: for people: which retry it is, and when


def next_retry(spec: JobSpec, outcome: str, retried: int) -> Retry | None:
    """The retry of a run of *spec* whose attempt ended in *outcome*, and which had *retried*; None: it ends with that.

    A job with `at_most_once` has none, whatever was stored.
    """
    if outcome not in TRIED_AGAIN or retried >= spec.retries or spec.at_most_once:
        return None
    after_s = spec.retry_delay
    return Retry(after_s, retried + 1, f"retry {retried + 1} of {spec.retries} after {format_duration(after_s)}")
