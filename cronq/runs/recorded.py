"""What the rows of a day say of a job: how long its runs took, which ticks were paused or skipped, when no beat passed.

Arithmetic only: no Redis and no clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from cronq.jobs.in_order import HALTING
from cronq.jobs.pause import Pause
from cronq.jobs.skip import Skip, Skips
from cronq.outcomes import EXECUTED
from cronq.runs.run import Run
from cronq.runs.scene import Outage, RunByHand, Work
from cronq.timetext import parse_instant

#: Outcomes of runs that took as long as they take.
_TOOK_THEIR_TIME = ("succeeded", "failed", "timed_out")
#: A tick that was claimed so soon was found by a beat in its time.
_IN_TIME_S = 1.5
#: Where the length of a run comes from, in words.
BASES = {
    "run": "as that day",
    "day": "the median of that day",
    "newest": "the median of its newest runs",
    "none": "no run of it is known",
}


@dataclass(frozen=True)
class Past:
    """What the ledger knows of one job, runs without a tick among it."""

    runs: Sequence[Run] = ()  #: of the day, and of the day before as far as they may reach into it
    newest: Sequence[Run] = ()  #: its newest ones, when those took no time that is known

    @property
    def by_tick(self) -> dict[int, Run]:
        """Its runs by tick, the oldest first."""
        return {run.tick: run for run in sorted(self.runs, key=lambda run: run.tick or 0) if run.tick is not None}


class Usual(NamedTuple):
    """How long a run of a job takes, None when that is not known; and where that comes from, a word of `BASES`."""

    duration_s: float | None
    basis: str


def usual_length(past: Past, day_s: int) -> Usual:
    """How long a run of a job took in the middle: of the day that begins at *day_s*, else of all that are known."""
    for basis, runs in (
        ("day", [run for run in past.runs if run.tick is not None and run.tick >= day_s]),
        ("newest", [*past.runs, *past.newest]),
    ):
        took = [run.duration_s for run in runs if run.outcome in _TOOK_THEIR_TIME and run.duration_s is not None]
        if took:
            return Usual(round(median(took), 3), basis)
    return Usual(None, "none")


def works_of(runs: Mapping[int, Run], usual_s: float, now_s: float) -> dict[int, Work]:
    """What each of *runs*, by tick, did; not of those that did nothing, whose place a run of the usual length takes."""
    found = {tick: _work(run, usual_s, now_s) for tick, run in runs.items()}
    return {tick: work for tick, work in found.items() if work is not None}


def _work(run: Run, usual_s: float, now_s: float) -> Work | None:
    if run.outcome == "expired":
        return Work(usual_s, wait_s=_between(run.queued_at, run.ended_at))
    began = run.attempts[0].started_at if run.attempts else run.started_at
    if run.started_at is None or began is None:
        return None
    wait_s = _wait_s(run, began)
    before_s = _between(began, run.started_at)
    if run.outcome is None:  # it is at work still
        return Work(max(usual_s, _between(run.started_at, now_s)), "succeeded", before_s, wait_s)
    if run.outcome not in EXECUTED or run.duration_s is None:
        return None
    if not is_whole(run):
        return Work(max(usual_s, run.duration_s), "succeeded", before_s, wait_s)
    return Work(run.duration_s, run.outcome, before_s, wait_s)


def is_whole(run: Run) -> bool:
    """Return True if *run* took as long as it would anyway: it was not replaced, and is not at work still."""
    replaced = run.outcome == "stopped" and (run.reason or "").startswith("replaced by the run ")
    return run.outcome in EXECUTED and not replaced


def _wait_s(run: Run, began_s: float) -> float:
    """How long it waited for a worker, and the moment that a beat took to find its tick, if that came in its time."""
    delay_s = _between(run.tick, began_s if run.attempts else run.queued_at)
    queue_s = 0.0 if run.attempts else _between(run.queued_at, began_s)
    return queue_s + (delay_s if delay_s < _IN_TIME_S else 0.0)


def _between(begin_s: float | None, end_s: float | None) -> float:
    return 0.0 if begin_s is None or end_s is None else max(0.0, round(end_s - begin_s, 3))


def pauses_of(runs: Iterable[Run]) -> list[Pause]:
    """The pauses of a job, as far as its ticks tell, oldest first; each ends with the last tick that it covered."""
    found: dict[str, Pause] = {}
    for run in runs:
        words = run.reason or ""
        if run.outcome != "paused" or run.tick is None or not words.startswith("paused since "):
            continue  # of a paused queue it says otherwise
        since, _, rest = words.removeprefix("paused since ").partition(" ")
        try:
            since_s = parse_instant(since.rstrip(":"))
        except ValueError:
            continue
        by, note = _by_and_note(rest if not since.endswith(":") else f": {rest}")
        found[words] = Pause(since_s, by, note, run.tick + 1)
    return list(found.values())


def skips_of(runs: Iterable[Run]) -> Skips:
    """The ticks of a job that somebody skipped by name."""
    found = []
    for run in runs:
        words = run.reason or ""
        if run.outcome == "skipped" and run.tick is not None and (words + " ").startswith(("skipped ", "skipped: ")):
            found.append(Skip((run.tick,), *_by_and_note(words.removeprefix("skipped").lstrip(" "))))
    return tuple(found)


def passed_ticks(runs: Mapping[int, Run]) -> set[int]:
    """Ticks of a job, of *runs* by tick and in order, that ended badly, and after which others ran all the same."""
    last = max((tick for tick, run in runs.items() if run.outcome in EXECUTED), default=0)
    return {tick for tick, run in runs.items() if run.outcome in HALTING and tick < last}


def by_hand(runs: Iterable[Run]) -> list[RunByHand]:
    """The runs of a job that had no tick and have ended: jobs that wait for it look at them, too."""
    return [
        RunByHand(run.started_at, run.ended_at, run.outcome)
        for run in runs
        if run.tick is None and run.outcome in EXECUTED and run.started_at is not None and run.ended_at is not None
    ]


def _by_and_note(words: str) -> tuple[str, str]:
    """Who, and the note, of `by ann@box: moving`, `by ann@box`, `: moving` or nothing."""
    by, colon, note = words.partition(": ")
    return by.removeprefix("by "), note if colon else ""


def without_beats(outages: Iterable[tuple[float, float]], runs: Iterable[Run], near_s: float) -> list[Outage]:
    """When no beat passed, by what beats noted and by the rows of *runs*.

    They note a pass only each *near_s* seconds: a tick of those seconds that was claimed in its time shows that one was
    still there.
    """
    in_time = sorted(run.tick for run in runs if run.tick is not None and _was_claimed_in_time(run))
    found = []
    for from_s, to_s in outages:
        place = bisect_right(in_time, min(from_s + near_s, to_s))
        last_s = max(from_s, in_time[place - 1]) if place else from_s
        if int(to_s) > int(last_s) + 1:
            found.append(Outage(int(last_s) + 1, int(to_s)))
    return found


def _was_claimed_in_time(run: Run) -> bool:
    return run.queued_at is not None and run.attempt == 1 and run.queued_at - (run.tick or 0) < _IN_TIME_S
