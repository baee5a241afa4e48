"""How long RQ's own records of a run live: long enough that RQ's tools show about the newest runs of its job."""

from __future__ import annotations

from cronq.jobs.options import AUTO
from cronq.jobs.spec import JobSpec
from cronq.timetext import DAY_S

#: RQ's tools then show about so many runs; no record lives shorter or longer than these seconds.
_RESULTS = (20, 3600, 7 * DAY_S)
_FAILURES = (100, DAY_S, 30 * DAY_S)
#: From here the distance between two ticks is taken when no tick is given: 2024-01-01 00:00 UTC, a Monday.
_SOME_MOMENT = 1704067200


def result_life_s(spec: JobSpec, tick: int | None = None) -> int:
    """Seconds that RQ keeps its record of a run that succeeded. Without a *tick* the job's usual rhythm decides."""
    return _life_s(spec, tick, spec.result_ttl, _RESULTS)


def failure_life_s(spec: JobSpec, tick: int | None = None) -> int:
    """Seconds that RQ keeps its record of a run that failed. Without a *tick* the job's usual rhythm decides."""
    return _life_s(spec, tick, spec.failure_ttl, _FAILURES)


def _life_s(spec: JobSpec, tick: int | None, asked: float | str, rule: tuple[int, int, int]) -> int:
    if asked != AUTO:
        return int(asked)
    runs, least_s, most_s = rule
    distance_s = _distance_s(spec, tick)
    return int(most_s if distance_s is None else max(least_s, min(most_s, runs * distance_s)))


def _distance_s(spec: JobSpec, tick: int | None) -> int | None:
    """From *tick*, else from some tick of the job, to the one after it; None when no other comes."""
    schedule = spec.schedule
    if schedule is None:
        return None
    first = tick if tick is not None else schedule.next_after(_SOME_MOMENT)
    second = None if first is None else schedule.next_after(first)
    return None if first is None or second is None else second - first
