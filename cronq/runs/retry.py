"""Whether an attempt that has ended is followed by another one, and when: arithmetic, without Redis or a clock.

Only `failed` and `timed_out` are tried again. A run that is `lost` may still be at work: `on_lost` decides about it.
A job may also ask for the next attempt itself: it snoozes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import inf

from cronq.jobs.spec import JobSpec
from cronq.run_context import MOST_SNOOZED_S
from cronq.timetext import format_duration

#: Outcomes of an attempt after which a run is tried again.
TRIED_AGAIN = ("failed", "timed_out")
#: A run that asks for its next attempt itself has no more than these.
MOST_ATTEMPTS = 1000
#: By how much of itself a growing delay is shortened at most, so that what failed together does not come back together.
_JITTER = 0.1


@dataclass(frozen=True)
class Retry:
    """Another attempt of a run, *after_s* seconds after the end of the one before."""

    after_s: float
    retried: int  #: how many retries the run has had with this one
    note: str  #: for people: which retry it is, and when
    is_snooze: bool = False  #: the job asked for it: the attempt before was no failure


def next_retry(spec: JobSpec, outcome: str, retried: int, *, run_id: str, attempt: int) -> Retry | None:
    """The retry of a run of *spec* whose *attempt* ended in *outcome*, and which had *retried* retries.

    None: it ends with that. A job with `at_most_once` has none, whatever was stored.
    """
    if outcome not in TRIED_AGAIN or retried >= spec.retries or spec.at_most_once:
        return None
    after_s = delay_s(spec, retried, run_id=run_id, attempt=attempt)
    return Retry(after_s, retried + 1, f"retry {retried + 1} of {spec.retries} after {format_duration(after_s)}")


def next_snooze(spec: JobSpec, after_s: float, retried: int, *, attempt: int, snoozed_s: float) -> Retry | str:
    """The next attempt of a run whose *attempt* asked for it after *after_s*; or why it has none, in words.

    *retried* is how many retries it had, which stays; *snoozed_s* since when it has asked for such attempts.
    """
    if spec.at_most_once:
        return "its job asks for at_most_once"
    if attempt >= MOST_ATTEMPTS:
        return f"it had {MOST_ATTEMPTS:,} attempts"
    if snoozed_s + after_s > MOST_SNOOZED_S:
        return f"it would be put off for more than {format_duration(MOST_SNOOZED_S)}"
    return Retry(after_s, retried, f"it asked for another attempt after {format_duration(after_s)}", is_snooze=True)


def delay_s(spec: JobSpec, retried: int, *, run_id: str, attempt: int) -> float:
    """Seconds from the end of *attempt* to the next, of a run that had *retried* retries; the same for the same run."""
    if spec.backoff == 1:
        return spec.retry_delay
    try:
        grown = spec.retry_delay * spec.backoff**retried
    except OverflowError:
        grown = inf
    longest = min(grown, max(spec.max_retry_delay, spec.retry_delay))
    return round(longest * (1 - _JITTER * _share(f"{run_id} {attempt}")), 3)


def _share(words: str) -> float:
    """A number from 0 to 1 that follows from *words* alone."""
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4]) / 2**32
