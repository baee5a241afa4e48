"""Gathers what is known of a tick, and has `runs/why` say why it ended as it did."""

from __future__ import annotations

from datetime import UTC, datetime

from cronq.app.parts import Parts
from cronq.jobs.stored import StoredJob
from cronq.runs.history import Wanted, newest_rows
from cronq.runs.run import Run
from cronq.runs.why import Answer, Facts, Gap, asked_tick, explain, late_tick
from cronq.schedule.moment import parse_moment_s
from cronq.schedule.zone import Zone, find_zone
from cronq.timetext import DAY_S


def why(parts: Parts, name: str, at: str | datetime | None = None) -> Answer:
    """Why the tick of a job *at* a moment ended as it did; without one the newest, or the trouble of the present.

    A moment without an offset is of the job's zone. A few round trips. Raises UnknownJob, and ValueError for what is no
    moment.
    """
    job, now_s = parts.jobs.get(name), parts.now_s()
    at_s, left_out = _moment(at, job) if at is not None else (None, None)
    run: Run | None = None
    if left_out is not None:
        tick = None
    elif at_s is not None:
        tick = asked_tick(job, at_s)
        run = parts.runs.run_at(name, tick if tick is not None else at_s)
        tick = run.tick if run is not None else tick  # of the schedule of then, when the job was edited since
    else:
        tick = late_tick(job, now_s)
        newest = newest_rows(parts.runs, [name], Wanted(1)) if tick is None else []
        run = newest[0] if newest else None
        tick = run.tick if run is not None else tick
    beats, _ = parts.heartbeats.read("beats")
    queue = run.queue if run is not None else job.spec.queue
    return explain(
        Facts(
            job=job,
            now_s=now_s,
            tick=tick,
            at_s=at_s,
            left_out=left_out,
            run=run,
            other=_in_its_way(parts, run),
            awaited=parts.runs.find(job.waits_for) if job.waits_for is not None else None,
            gaps=[Gap(each.from_s, each.to_s, each.why, each.words) for each in parts.outage_notes.read(now_s)],
            beats=sum(each.is_alive(now_s) for each in beats),
            is_served=_is_served(parts, queue, now_s),
            place=_place(parts, name, tick) if run is None else None,
            held_by=_held_by(parts, queue),
        )
    )


def _moment(at: str | datetime, job: StoredJob) -> tuple[int, str | None]:
    """*at* as epoch seconds; and as it was written, when it is a local time that the clocks leave out."""
    zone = find_zone(job.spec.tz)
    try:
        return parse_moment_s(at, zone), None
    except ValueError:
        left_out_s = _left_out_s(at, zone)
        if left_out_s is None:
            raise
        return left_out_s, at if isinstance(at, str) else at.isoformat()


def _left_out_s(at: str | datetime, zone: Zone) -> int | None:
    """The instant at which a clock that was not set forward would show *at*; None when it is no time left out."""
    try:
        local = datetime.fromisoformat(at.strip()) if isinstance(at, str) else at
    except ValueError:
        return None
    local_s = int(local.replace(tzinfo=UTC).timestamp())
    if local.tzinfo is not None or zone.instant_of(local_s) is not None:
        return None
    return local_s - zone.stretch_at(local_s - DAY_S).offset_s


def _in_its_way(parts: Parts, run: Run | None) -> Run | None:
    """The earlier run for which a tick was skipped."""
    cause = run.cause if run is not None else None
    return parts.runs.find(cause.other) if cause is not None and cause.code == "overlap" and cause.other else None


def _place(parts: Parts, name: str, tick: int | None) -> int | None:
    """The place of a tick that nobody has claimed in the catch-up line; None when it does not stand there."""
    return None if tick is None else parts.catchup_line.numbers([(name, tick)])[0]


def _is_served(parts: Parts, queue: str, now_s: float) -> bool:
    workers, _ = parts.heartbeats.read("workers")
    return any(each.is_alive(now_s) and queue in each.facts.get("queues", ()) for each in workers)


def _held_by(parts: Parts, queue: str) -> str | None:
    """Who paused *queue*, or drained all workers, and why; None when nobody did."""
    held = {hold.what: hold for hold in parts.holds.read()}
    if f"queue:{queue}" in held:
        return f"queue {queue} is {held[f'queue:{queue}']}"
    return f"all workers are drained, {held['all']}" if "all" in held else None
