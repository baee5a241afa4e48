"""What is different between the runs of a job on two days: arithmetic only, no Redis and no clock.

A tick has its counterpart at the same time of day. Where few ticks have one (`every="7m"` falls elsewhere each day) the
days are compared as wholes: how many runs there were, and how long the middle one took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from cronq.outcomes import BAD, EXECUTED
from cronq.runs.run import Run
from cronq.timetext import format_duration

Kind = Literal["not_run", "failed", "slower", "moved"]

#: So many times as long, and by at least a second: below that the machine's moods are all one sees.
_TIMES_AS_LONG = 3.0
_LEAST_LONGER_S = 1.0
#: With counterparts for a smaller part of the ticks the days are compared as wholes.
_LEAST_MATCHED = 0.5

#: The time of day at which a tick is due, by which it is found again on another day.
TimeOfDay = Callable[[int], str]


@dataclass(frozen=True)
class Difference:
    """One kind of difference of one job."""

    job: str
    kind: Kind
    count: int  #: how many ticks it concerns
    first: (
        int | None
    )  #: the first of them on the later day; None when there the tick does not exist, or for a whole day
    text: str


def day_differences(job: str, before: Iterable[Run], after: Iterable[Run], time_of_day: TimeOfDay) -> list[Difference]:
    """What is worse, or elsewhere, in the runs of *after* than in those of the day *before*; [] when nothing is.

    Runs without a tick and open ones are left out: they are not what a schedule promises, or not over.
    """
    first, second = (_by_time(runs, time_of_day) for runs in (before, after))
    matched = len(first.keys() & second.keys())
    if matched >= _LEAST_MATCHED * max(len(first), len(second)) or not (first and second):
        found = [*_not_run(job, first, second), *_failed(job, first, second), *_slower(job, first, second)]
    else:
        found = _of_wholes(job, list(first.values()), list(second.values()))
    return [*found, *_moved(job, first.values(), second.values())]


def _by_time(runs: Iterable[Run], time_of_day: TimeOfDay) -> dict[tuple[str, int], Run]:
    """Runs of ticks by time of day, oldest first; a time that a clock change repeats is numbered."""
    seen: Counter[str] = Counter()
    found = {}
    for run in sorted((run for run in runs if run.tick is not None), key=lambda run: run.tick or 0):
        time = time_of_day(run.tick or 0)
        if run.outcome is not None:
            found[time, seen[time]] = run
        seen[time] += 1
    return found


def _not_run(
    job: str, first: Mapping[tuple[str, int], Run], second: Mapping[tuple[str, int], Run]
) -> Iterable[Difference]:
    ran = [key for key, run in first.items() if run.outcome in EXECUTED]
    without = [key for key in ran if key not in second]
    unserved = [second[key] for key in ran if key in second and second[key].outcome not in EXECUTED]
    if unserved:
        outcomes = Counter(run.outcome for run in unserved)
        words = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        yield Difference(job, "not_run", len(unserved), unserved[0].tick, f"{words}: {unserved[0].reason}")
    if without:
        yield Difference(job, "not_run", len(without), None, f"no tick at {_few([time for time, _ in without])}")


def _failed(
    job: str, first: Mapping[tuple[str, int], Run], second: Mapping[tuple[str, int], Run]
) -> Iterable[Difference]:
    failed = [
        run for key, run in second.items() if run.outcome in BAD and (key not in first or first[key].outcome not in BAD)
    ]
    if failed:
        yield Difference(job, "failed", len(failed), failed[0].tick, f"{failed[0].outcome}: {failed[0].reason}")


def _slower(
    job: str, first: Mapping[tuple[str, int], Run], second: Mapping[tuple[str, int], Run]
) -> Iterable[Difference]:
    slower = [
        (before_s, after_s, run)
        for key, run in second.items()
        if key in first
        and (before_s := first[key].duration_s) is not None
        and (after_s := run.duration_s) is not None
        and _is_longer(before_s, after_s)
    ]
    if slower:
        before_s, after_s, _ = max(slower, key=lambda each: each[1] - each[0])
        yield Difference(job, "slower", len(slower), slower[0][2].tick, _longer(before_s, after_s))


def _moved(job: str, first: Iterable[Run], second: Iterable[Run]) -> Iterable[Difference]:
    """Hosts none of which served the job before: in a pool of workers each run may be elsewhere."""
    was, now = ([run for run in runs if run.host and run.outcome in EXECUTED] for runs in (first, second))
    hosts = {run.host for run in was}
    moved = [run for run in now if run.host not in hosts]
    if hosts and moved:
        text = (
            f"on {_few(sorted({run.host or '' for run in moved}))}; was on {_few(sorted(host or '' for host in hosts))}"
        )
        yield Difference(job, "moved", len(moved), moved[0].tick, text)


def _of_wholes(job: str, first: Sequence[Run], second: Sequence[Run]) -> list[Difference]:
    """Differences of two days of which few ticks fall on the same times."""
    found: list[Difference] = []
    was, now = ([run for run in runs if run.outcome in EXECUTED] for runs in (first, second))
    if len(now) < len(was) - 1:  # one tick more or less is where the days were cut
        found.append(Difference(job, "not_run", len(was) - len(now), None, f"{len(was)} runs, then {len(now)}"))
    failures = [sum(run.outcome in BAD for run in runs) for runs in (was, now)]
    if failures[1] > failures[0]:
        last = next(run for run in reversed(now) if run.outcome in BAD)
        text = f"{failures[0]} failures, then {failures[1]}; the last {last.outcome}: {last.reason}"
        found.append(Difference(job, "failed", failures[1] - failures[0], None, text))
    took = [[run.duration_s for run in runs if run.duration_s is not None] for runs in (was, now)]
    if all(took) and _is_longer(before_s := median(took[0]), after_s := median(took[1])):
        found.append(Difference(job, "slower", len(now), None, f"in the middle {_longer(before_s, after_s)}"))
    return found


def _is_longer(before_s: float, after_s: float) -> bool:
    return after_s >= _TIMES_AS_LONG * before_s and after_s - before_s >= _LEAST_LONGER_S


def _longer(before_s: float, after_s: float) -> str:
    return f"took {format_duration(after_s)}; was {format_duration(before_s)}"


def _few(words: Sequence[str]) -> str:
    shown = ", ".join(words[:3])
    return shown if len(words) <= 3 else f"{shown} and {len(words) - 3} more"
