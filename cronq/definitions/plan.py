"""What a sync would do: the jobs that it would add, change and remove, and what becomes of their next ticks.

It reads, and changes nothing. The rules are those of `sync` and `changes`: a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from cronq.definitions.keyed import KeyedSchedules
from cronq.definitions.sync import Definitions
from cronq.errors import BadValue, CronqError, DefinitionError
from cronq.jobs.calendar import NO_CALENDARS, Calendars
from cronq.jobs.skip import skip_of
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import JobState, StoredJob
from cronq.runs.due import decide_closed, excluded, ticks_to_run
from cronq.schedule.schedule import WallSchedule
from cronq.schedule.surprises import oddities
from cronq.timetext import DAY_S

#: A schedule without a tick in this time never fires, as far as anybody is concerned.
_NEVER_S = 5 * 366 * DAY_S
#: Ticks that are looked at to find one that runs, when the next one will not.
_MOST_LOOKED_AT = 10_000


@dataclass(frozen=True)
class FieldChange:
    """One option of a job that would change."""

    name: str
    old: Any
    new: Any


@dataclass(frozen=True)
class PlannedChange:
    """What a sync would do to one job. Ticks are epoch seconds."""

    action: str  #: `add`, `change` or `remove`
    spec: JobSpec  #: as it would be; of a removed job as it is
    source: str  #: where it is defined; of a removed job where it was
    fields: tuple[FieldChange, ...] = ()
    next_before: int | None = None
    next_after: int | None = None
    next_run: int | None = None  #: the first tick from `next_after` on that will run; None: none, as far as it is near
    pending: int = 0  #: ticks that are due already and would be recorded instead of run
    state: JobState | None = None  #: of a job that there is: its pause, its skips, and how many ticks it has had
    renamed: str | None = None  #: the removed or added job that looks like the same one under another name
    tz_is_default: bool = False  #: CRONQ_TZ decides the zone
    notes: tuple[str, ...] = ()


@dataclass
class Plan:
    """What a sync would do: its changes in the order of their names."""

    changes: list[PlannedChange] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)  #: a job, and what is odd about when it fires
    problems: list[CronqError] = field(default_factory=list)


def make_plan(definitions: Definitions, modules: Sequence[str], now_s: float, max_args: int) -> Plan:
    """What `definitions.sync(modules, remove=True)` would do at *now_s* (server time)."""
    definitions.jobs.require_known_layout()
    judgement, now = definitions.judge(), int(now_s)
    plan = Plan(problems=[*definitions.problems(), *judgement.problems])
    defined = {name: job for name, job in definitions.known().items() if name in judgement.accepted}
    stored = definitions.jobs.find(defined)
    sound: list[str] = []
    for name, (spec, place, _, tz_is_default) in defined.items():
        known = stored.get(name)
        try:
            spec.args_for_run(None, max_args)
            change = _planned(spec, place, known, now, definitions)
        except DefinitionError as problem:
            plan.problems.append(problem.at(job=name, place=place))
            continue
        except CronqError as problem:
            plan.problems.append(problem)
            continue
        sound.append(name)
        if change is None:
            plan.same.append(name)
        else:
            plan.changes.append(replace(change, tz_is_default=tz_is_default))
        is_new_schedule = not isinstance(known, StoredJob) or known.spec.when != spec.when
        plan.warnings += [(name, words) for words in _warnings(spec, now, is_new_schedule, tz_is_default)]
    specs = {name: defined[name].spec for name in sound}
    plan.changes += _of_keyed(specs, now, definitions)
    farewell = definitions.farewell(modules, specs)
    plan.problems += farewell.kept.values()
    for job in definitions.jobs.find(farewell.going).values():
        if isinstance(job, StoredJob):
            pending, _ = _given_up(job, now, definitions)
            plan.changes.append(PlannedChange("remove", job.spec, job.source, (), job.next_tick, pending=pending))
    looks_at_calendars = any(change.spec.calendars for change in plan.changes)
    calendars = definitions.changes.calendars.read_sound() if looks_at_calendars else NO_CALENDARS
    changes = [_with_next_run(change, calendars) for change in plan.changes]
    plan.changes = sorted(_with_renames(changes), key=lambda change: change.spec.name)
    return plan


def _planned(
    spec: JobSpec, place: str, known: StoredJob | CronqError | None, now: int, definitions: Definitions
) -> PlannedChange | None:
    """What saving *spec* would change; None: nothing. Raises what saving it would raise."""
    if isinstance(known, StoredJob):
        return _changed(spec, place, known, now, definitions)
    following = spec.next_after(now, 0)
    if known is None:
        return PlannedChange("add", spec, place, next_after=following)
    if not isinstance(known, DefinitionError | BadValue):
        raise known  # of a newer cronq, or a key of a wrong type
    action = "change" if definitions.jobs.version_of(spec.name) else "add"
    return PlannedChange(
        action, spec, place, next_after=following, notes=("what is stored is damaged; it is replaced",)
    )


def _of_keyed(jobs: dict[str, JobSpec], now: int, definitions: Definitions) -> list[PlannedChange]:
    """What would change in the schedules by key of *jobs*, which follow them."""
    behind = KeyedSchedules(definitions.jobs, definitions.changes).behind(jobs)
    found = [_changed(spec, job.source, job, now, definitions) for job, spec in behind]
    return [change for change in found if change is not None]


def _changed(spec: JobSpec, place: str, known: StoredJob, now: int, definitions: Definitions) -> PlannedChange | None:
    is_new_mark, is_edit = known.state.mark is None, known.spec.when != spec.when
    if not is_new_mark and known.spec.to_json() == spec.to_json():
        return None
    notes = ["its mark is missing; it is set to the moment of the sync"] if is_new_mark else []
    if known.state.pause is not None and known.state.pause.covers(now):
        notes.append("it is paused, and stays paused")
    following, pending = known.next_tick, 0
    if is_new_mark:
        following = spec.next_after(now, 0)
    elif is_edit:
        pending, had = _given_up(known, now, definitions)
        following = spec.next_after(now, had)
    differences = _differences(known.spec, spec)
    return PlannedChange(
        "change", spec, place, differences, known.next_tick, following, pending=pending, state=known.state,
        notes=tuple(notes),
    )  # fmt: skip


def _with_next_run(change: PlannedChange, calendars: Calendars) -> PlannedChange:
    """*change* with the next tick that will run; and with a note, when a calendar or somebody skips the next one.

    The ticks that somebody skips are instants: they stay whatever is edited, as a pause does.
    """
    spec, tick = change.spec, change.next_after
    if tick is None:
        return change
    pause, skips, had = (state.pause, state.skips, state.ticks) if (state := change.state) else (None, (), 0)
    most = _MOST_LOOKED_AT if spec.repeat is None else spec.repeat - had - change.pending
    found = ticks_to_run(spec, tick - 1, 1, pause, calendars, skips, most)
    reason = excluded(spec, tick, pause, calendars, skips)
    notes = change.notes
    if reason is not None and reason.outcome == "skipped":
        by = skip_of(skips, tick) is not None
        notes = (*notes, f"its next tick is {reason.reason}" if by else f"its next tick is skipped: {reason.reason}")
    return replace(change, next_run=found[0] if found else None, notes=notes)


def _differences(old: JobSpec, new: JobSpec) -> tuple[FieldChange, ...]:
    pairs = [(item.name, getattr(old, item.name), getattr(new, item.name)) for item in fields(JobSpec)]
    return tuple(FieldChange(name, before, after) for name, before, after in pairs if before != after)


def _given_up(job: StoredJob, now: int, definitions: Definitions) -> tuple[int, int]:
    """How many ticks of *job* no beat has taken yet, and how many it has had with these, if `repeat` counts them."""
    mark, had = job.state.mark, job.state.ticks
    if mark is None:
        return 0, had
    calendars = definitions.changes.calendars.read_sound() if job.spec.calendars else NO_CALENDARS
    decisions = decide_closed(job.spec, mark, job.state.pause, now, calendars, "", had=had)
    return sum(each.ticks for each in decisions), (decisions[-1].number or had) if decisions else had


def _warnings(spec: JobSpec, now: int, is_new: bool, tz_is_default: bool) -> list[str]:
    """What is odd about when *spec* fires; of a schedule that stays only that it never does."""
    if spec.schedule is None:
        return []
    following = spec.schedule.next_after(now)
    may_end = not isinstance(spec.schedule, WallSchedule)  # and has perhaps come to its end as it was meant to
    if (following is None or following > now + _NEVER_S) and (is_new or not may_end):
        return [f"never fires: {spec.schedule} has no tick in the next five years"]
    if tz_is_default and spec.every is not None and spec.at is None:
        return []  # that the zone makes no difference is no surprise to who named none
    return oddities(spec.schedule, now) if is_new else []


def _with_renames(changes: list[PlannedChange]) -> list[PlannedChange]:
    """The *changes*, with the other name where a removed and an added job do the same at the same times.

    Of several that do, those with the same arguments belong together, then those that come first.
    """
    added = {change.spec.name: change for change in changes if change.action == "add"}
    removed = [change for change in changes if change.action == "remove"]
    names: dict[str, str] = {}
    for with_arguments in (True, False):
        for old in removed:
            wanted = _work_and_schedule(old.spec, with_arguments)
            for new in added.values():
                taken = names.keys() & {old.spec.name, new.spec.name}
                if not taken and _work_and_schedule(new.spec, with_arguments) == wanted:
                    names[old.spec.name], names[new.spec.name] = new.spec.name, old.spec.name
    return [replace(change, renamed=names.get(change.spec.name)) for change in changes]


def _work_and_schedule(spec: JobSpec, with_arguments: bool) -> tuple[object, ...]:
    arguments = spec.args_json if with_arguments else ""
    work = (spec.function, spec.command, spec.shell, spec.run_as, arguments)
    times = (spec.cron, spec.every, spec.at, spec.anchor, spec.start, spec.end, spec.repeat, spec.tz, spec.dst)
    return (*work, *times, spec.after)
