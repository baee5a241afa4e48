"""What `why` says of changes of a job: a tick from before it was made, by another schedule, or after its removal."""

from __future__ import annotations

from cronq.jobs.change_notes import MOST_NOTES, ChangeNote, spec_at
from cronq.jobs.spec import JobSpec
from cronq.runs.facts import Facts, Redeploy, Told, when
from cronq.runs.run import Run

_SHOW = "cronq show {name}"


def tick_in(spec: JobSpec, at_s: int) -> int | None:
    """The tick of *spec* that somebody means who says *at_s*: the one in that second, or the last in that minute."""
    schedule = spec.schedule
    if schedule is None:
        return None
    tick = schedule.last_until(at_s if at_s % 60 else at_s + 59)
    return tick if tick is not None and tick >= at_s else None


def not_there(facts: Facts) -> Told | None:
    """A moment at which there was no such job; None: there was, or nobody knows."""
    at_s, name = facts.at_s, facts.job.spec.name
    later = [note for note in facts.notes if at_s is not None and note.at_s > at_s]
    earlier = facts.notes[len(later) :]
    if at_s is None or not later or later[-1].what != "job_created":
        return None
    made = later[-1]
    if not earlier:
        return "created_later", f"{name} was made only at {_by(made)}: there was no such job at {when(at_s)}", _SHOW
    if earlier[0].what != "job_removed":
        return None  # its definition was lost meanwhile
    words = f"there was no job {name} at {when(at_s)}: it was removed at {_by(earlier[0])}, and made again at "
    return "removed", f"{words}{_by(made)}", _SHOW


def edited(facts: Facts) -> Told | None:
    """A moment at which the job was not due, but would have been by the schedule before or after an edit."""
    at_s, spec = facts.at_s, facts.job.spec
    if at_s is None:
        return None
    then, note = spec_at(spec, facts.notes, at_s)
    not_due = f"{spec.name} was not due at {when(at_s)}: "
    if note is not None:
        after, _ = spec_at(spec, facts.notes, note.at_s)
        if tick_in(after, at_s) is not None or tick_in(spec, at_s) is not None:
            words = f"{not_due}its schedule was {_schedule(then)} then, and became {_schedule(after)} at {_by(note)}"
            return "edited", words, _SHOW
    for earlier in facts.notes:
        if earlier.was is not None and earlier.at_s <= at_s:
            before, _ = spec_at(spec, facts.notes, earlier.at_s - 0.001)
            if tick_in(before, at_s) is None:
                return None
            words = f"{not_due}its schedule was changed from {_schedule(before)} to {_schedule(then)} at {_by(earlier)}"
            return "edited", words, _SHOW
    return None


def by_schedule_of_then(facts: Facts, tick: int) -> str:
    """What is to be added of a tick that the schedule of today does not have; "" of any other."""
    then, note = spec_at(facts.job.spec, facts.notes, tick)
    if note is None or tick_in(facts.job.spec, tick) is not None or tick_in(then, tick) is None:
        return ""
    return f". Its schedule was {_schedule(then)} then, and was changed at {_by(note)}"


def forgotten(facts: Facts, at_s: float) -> str:
    """What is to be added where older changes than are kept might explain more; "" elsewhere."""
    if len(facts.notes) < MOST_NOTES or facts.notes[-1].at_s <= at_s:
        return ""
    oldest = when(facts.notes[-1].at_s)
    return f". What was changed before {oldest} is not known any more: the last {MOST_NOTES} changes are kept"


def since_last_good(facts: Facts, run: Run) -> tuple[str, str] | None:
    """What was changed between the last run that succeeded and *run*, which did not: a cause and words, or None."""
    good = facts.last_good
    begun_s = run.started_at or run.queued_at or run.tick
    if good is None or begun_s is None:
        return None
    good_s = good.started_at or good.tick or 0.0
    between = [note for note in facts.notes if note.what == "job_changed" and good_s < note.at_s <= begun_s]
    told = []
    if facts.redeploy is not None:
        told.append(_redeployed(facts.redeploy))
    if between:
        newest = between[0]
        options = f" ({', '.join(newest.options)})" if newest.options else ""
        times = f" {len(between)} times, last" if len(between) > 1 else ""
        told.append(f"the job was changed{times} at {_by(newest)}{options}")
    if not told:
        return None
    words = f"its run of {when(good.tick or good.started_at)} succeeded; after that {', and '.join(told)}"
    return "deployed" if facts.redeploy is not None else "edited", words


def _redeployed(redeploy: Redeploy) -> str:
    changes = " and ".join(f"{what} {now} in place of {before}" for what, before, now in redeploy.changes)
    return f"the workers of {redeploy.host} were started with {changes} at {when(redeploy.at_s)}"


def removed(facts: Facts, note: ChangeNote) -> Told:
    """A job that is no more."""
    name, run = facts.job.spec.name, facts.run
    words = f"there is no job {name} any more: it was removed at {_by(note)}"
    if facts.at_s is not None and facts.at_s > note.at_s:
        return "removed", words, "cronq history {name}"
    if run is None:
        asked = f", and its history has nothing of {when(facts.at_s)}" if facts.at_s is not None else ""
        return "removed", f"{words}{asked}", "cronq history {name}"
    return "removed", f"{words}. Its last run was {run.run_id}, {run.outcome or run.state}", "cronq history {name}"


def _by(note: ChangeNote) -> str:
    return f"{when(note.at_s)}{f' by {note.by}' if note.by else ''}"


def _schedule(spec: JobSpec) -> str:
    if spec.schedule is None:
        return "none"
    return f"{spec.schedule}" if spec.tz == "UTC" else f"{spec.schedule} {spec.tz}"
