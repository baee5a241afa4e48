"""Ranges: rows of the ledger that hold many ticks, and how they are read back as single ones.

From `due.LEAST_OF_RANGE` on, consecutive ticks that ended alike share the row of the newest. It says which is the
oldest, how many there are, and by which schedule: so they can be listed though the job was edited since.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from heapq import heappop, heappush
from math import ceil, floor
from typing import Any, NamedTuple

from cronq.db.decode import read_json
from cronq.errors import BadValue, CronqError
from cronq.jobs.options import DEFAULTS
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Run, tick_run_id
from cronq.schedule.schedule import Schedule, parse_schedule
from cronq.timetext import iso

_WORDS = ("cron", "every", "at", "anchor", "tz", "dst")


def schedule_words(spec: JobSpec) -> str:
    """The schedule of *spec* as JSON; defaults are left out."""
    words = {name: getattr(spec, name) for name in _WORDS}
    return json.dumps({name: word for name, word in words.items() if word != DEFAULTS[name]}, separators=(",", ":"))


def single_ticks(
    rows: Iterable[Run], outcome: str | None = None, since_s: float | None = None, until_s: float | None = None
) -> Iterator[Run]:
    """The runs of *rows*, newest first as these are; each range as its single ticks, which are made when asked for.

    A tick that has a row of its own, too, is that. With an *outcome* ticks that ended otherwise may be left out. Ticks
    after *until_s* are left out, and those before *since_s* of ranges.
    """
    told = ""
    for run in _merged(rows, outcome, since_s, until_s):
        if run.run_id != told:
            told = run.run_id
            yield run


def _merged(rows: Iterable[Run], outcome: str | None, since_s: float | None, until_s: float | None) -> Iterator[Run]:
    """The same, but for a tick that several rows know: the row of its own comes first."""
    waiting: list[tuple[float, int, Run, Iterator[Run]]] = []  # of each range its next tick, the newest one first
    for number, row in enumerate(rows):
        while waiting and -waiting[0][0] > _place(row):
            yield _next_of(waiting)
        is_after = until_s is not None and row.tick is not None and row.tick > until_s
        if row.first is not None and outcome in (None, others_of(row).outcome):
            _put(waiting, number, ticks_of(row, since_s, until_s))
        elif not is_after:
            yield row if row.first is None else _alone(row)
    while waiting:
        yield _next_of(waiting)


def _next_of(waiting: list[tuple[float, int, Run, Iterator[Run]]]) -> Run:
    _, number, run, others = heappop(waiting)
    _put(waiting, number, others)
    return run


def _put(waiting: list[tuple[float, int, Run, Iterator[Run]]], number: int, runs: Iterator[Run]) -> None:
    run = next(runs, None)
    if run is not None:
        heappush(waiting, (-_place(run), number, run, runs))


def _place(run: Run) -> float:
    return run.tick if run.tick is not None else run.queued_at or 0.0


def ticks_of(row: Run, since_s: float | None = None, until_s: float | None = None) -> Iterator[Run]:
    """The ticks of a range, newest first, each as the run it would be with a row of its own; of a period if given.

    Of a row whose schedule cannot be read only the newest is known, which says so.
    """
    assert row.tick is not None
    schedule = _schedule(row)
    if schedule is None:
        words = f"{row.reason}; one of {row.count or 0:,} ticks since {iso(row.first)}, the others cannot be listed"
        yield _alone(row, reason=words)
        return
    newest = row.tick if until_s is None else min(row.tick, floor(until_s))
    oldest, others = max(row.first or row.tick, ceil(since_s or 0)), others_of(row)
    if newest == row.tick:
        yield _alone(row)
    tick = schedule.last_until(min(newest, row.tick - 1))
    while tick is not None and tick >= oldest:
        yield replace(others, run_id=tick_run_id(row.job, tick), tick=tick)
        tick = schedule.last_until(tick - 1)


def tick_of(row: Run, tick: int) -> Run | None:
    """One tick of a range, or the run of a row that holds a single one; None when *tick* is not in it."""
    if tick == row.tick:
        return _alone(row)
    schedule = _schedule(row)
    if schedule is None or row.first is None or row.tick is None or not row.first <= tick < row.tick:
        return None
    if schedule.last_until(tick) != tick:
        return None
    return replace(others_of(row), run_id=tick_run_id(row.job, tick), tick=tick)


class Part(NamedTuple):
    """A part of the ticks of a range: its oldest and its newest, and how many they are."""

    first: int
    tick: int
    ticks: int


def parts_without(row: Run, tick: int, own: Collection[int] = ()) -> tuple[Part | None, Part | None]:
    """What is left of a range before *tick* and after it, which is one of its ticks; None where nothing is.

    *own* are ticks before it that have rows of their own: none of them is the newest of a part. Raises ValueError for a
    row whose schedule cannot be read.
    """
    schedule, first, newest = _schedule(row), row.first, row.tick
    if schedule is None or first is None or newest is None:
        raise ValueError(f"{row.run_id} is no range that can be read")
    before, after = schedule.last_until(tick - 1), schedule.next_after(tick)
    while before is not None and before in own:
        before = schedule.last_until(before - 1)
    has_before = before is not None and before >= first
    return (
        Part(first, before, schedule.count(first - 1, before)) if has_before and before is not None else None,
        Part(after, newest, schedule.count(after - 1, newest)) if after is not None and after <= newest else None,
    )


def _alone(row: Run, **facts: Any) -> Run:
    """The newest tick of a range by itself."""
    return replace(row, first=None, count=None, schedule=None, **facts)


def others_of(row: Run) -> Run:
    """What the ticks of a range before the newest have in common, under the id and the tick of that one.

    A newest one that was run again was alone in that.
    """
    was: Any = row.attempts[0] if row.attempts else row
    return Run(
        row.run_id,
        row.job,
        row.tick,
        "done",
        outcome=was.outcome,
        reason=was.reason,
        cause=was.cause,
        decided_by=was.decided_by,
        trigger="schedule",
        queue=row.queue,
        queued_at=was.ended_at,
        ended_at=was.ended_at,
    )


def _schedule(row: Run) -> Schedule | None:
    """The schedule of a range; None when it cannot be read."""
    try:
        words: Mapping[str, Any] = read_json(row.schedule or "")
        return parse_schedule(seed=row.job, **{name: words[name] for name in _WORDS if name in words})
    except (BadValue, CronqError, TypeError, ValueError, OverflowError):
        return None
