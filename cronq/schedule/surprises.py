"""What people may not expect of a schedule: uneven steps, day fields that must both match, clock changes."""

from __future__ import annotations

import re

from cronq.schedule.bounds import BoundedSchedule
from cronq.schedule.cron import FIELDS, Field
from cronq.schedule.pattern import parse_fields
from cronq.schedule.schedule import LARGEST_GAP_S, CronSchedule, IntervalSchedule, Schedule, WallSchedule
from cronq.schedule.zone import Stretch
from cronq.timetext import DAY_S, utc


def warnings(schedule: Schedule, from_s: int) -> list[str]:
    """What a user may not expect of *schedule*, one sentence each.

    Uneven steps, two day fields, what `H` became; and for the next two clock changes of its zone after *from_s*
    (epoch seconds) what it does there.
    """
    found: list[str] = []
    if isinstance(schedule, CronSchedule):
        found += _of_expression(schedule.text, schedule.expression)
    if isinstance(schedule, IntervalSchedule) and schedule.tz != "UTC":
        remedy = "; add at=HH:MM for a local time" if schedule.every_s % DAY_S == 0 else ""
        found.append(f"an interval counts in UTC: tz {schedule.tz} makes no difference{remedy}")
    if isinstance(schedule, WallSchedule):
        found += [_foresee(schedule, change) for change in schedule.zone.changes_after(from_s, 2)]
    return found


def oddities(schedule: Schedule, from_s: int) -> list[str]:
    """The same, without what is as it was meant: of the next clock change only what it does to ticks."""
    if isinstance(schedule, BoundedSchedule):
        schedule = schedule.whole
    if not isinstance(schedule, WallSchedule):
        return warnings(schedule, from_s)
    found = _of_expression(schedule.text, schedule.expression) if isinstance(schedule, CronSchedule) else []
    return found + [_foresee(schedule, change) for change in _next_change(schedule, from_s)]


def _next_change(schedule: WallSchedule, from_s: int) -> list[Stretch]:
    """The next clock change of its zone, if a tick falls into what it leaves out or shows twice."""
    return [
        change
        for change in schedule.zone.changes_after(from_s, 1)
        if schedule.pattern.some_between(*_touched(change), 1)
    ]


def _touched(change: Stretch) -> tuple[int, int]:
    """The local times, from and to, that the clock leaves out or shows twice at the start of *change*."""
    old_s, new_s = change.start_s + change.previous_offset_s, change.start_s + change.offset_s
    return min(old_s, new_s), max(old_s, new_s)


def _of_expression(text: str, expression: str) -> list[str]:
    """What may surprise in a cron expression: *text* is as written, *expression* the six fields that it means."""
    found = []
    fields = expression.split()
    seconds = len(parse_fields(expression).seconds)
    if seconds > 1:
        found.append(f"of 6 fields the first is seconds: this runs {seconds} times in each minute that matches")
    for field, value in zip(FIELDS, fields, strict=True):
        found += [surprise for term in value.split(",") if (surprise := _uneven(field, term))]
    day, weekday = fields[3], fields[5]
    if day != "*" and weekday != "*":
        if day.startswith("*") or weekday.startswith("*"):
            rule = "both must match, because one of them begins with *"
        else:
            rule = "one that matches is enough (a field that begins with * would make it both)"
        found.append(f"day of month {day} and day of week {weekday} are both set: {rule}")
    if re.search(r"(?:^|[\s,])[Hh](?![A-Za-z])", text):
        written = expression.removeprefix("0 ") if len(text.split()) == 5 else expression
        found.append(f"H is hashed from the job's name: here {text} means {written}")
    return found


def _uneven(field: Field, term: str) -> str | None:
    """A sentence on a step that comes round unevenly because it does not divide its field; None for any other term."""
    body, slash, step_text = term.partition("/")
    if not slash or body.startswith("L") or (field.names and body != "*"):
        return None
    first, _, last = body.partition("-")
    start = field.low if body == "*" else field.number(first) or 0
    size, step = field.hash_high - field.low + 1, int(step_text)
    if field.name == "day of month":
        size = field.high
    top = field.low + size - 1
    if step == 1 or (last and int(last) != top) or (body != "*" and start - field.low >= step):
        return None  # a range on purpose, such as hours 9-17/2
    if start + step > top:
        return f"{field.name} {term} matches only {start}: the step is as large as the field"
    if field.name == "day of month":
        return f"day of month {term} starts again on the 1st of each month: the last step before it is shorter"
    newest = range(start, top + 1, step)[-1]
    if start + size - newest == step:
        return None
    return (
        f"{field.name} {term} is uneven: {step} does not divide {size}, so after {newest} comes {start}, "
        f"{start + size - newest} later instead of {step}"
    )


def _foresee(schedule: WallSchedule, change: Stretch) -> str:
    """What *schedule* does when the clocks change at the start of *change*."""
    gap_s = change.gap_s
    begin_s, end_s = _touched(change)
    ticks = schedule.pattern.some_between(begin_s, end_s, 4)
    shows_date = end_s - begin_s >= DAY_S or utc(begin_s).date() != utc(end_s - 1).date()
    times = ", ".join(_clock(tick, shows_date) for tick in ticks[:3]) + (", …" if ticks[3:] else "")
    many = len(ticks) > 1
    if not ticks:
        effect = "no tick falls into it"
    elif gap_s > LARGEST_GAP_S:
        effect = f"{times} {'do' if many else 'does'} not run, because more than 3 hours are missing"
    elif gap_s > 0 and schedule.rule.makes_up:
        effect = f"{times} {'run' if many else 'runs'} once{', together,' if many else ','} at {utc(end_s):%H:%M}"
    elif gap_s > 0:
        effect = f"{times} {'do' if many else 'does'} not run"
    elif schedule.rule.repeats:
        effect = f"{times} {'run' if many else 'runs'} both times"
    else:
        effect = f"{times} {'run' if many else 'runs'} once, the first time"
    span = f"{utc(begin_s):%Y-%m-%d %H:%M} to {_clock(end_s, shows_date)}"
    what = "does not exist" if gap_s > 0 else "happens twice"
    return f"{span} {what} in {schedule.tz}: {effect} (dst={schedule.dst})"


def _clock(local_s: int, shows_date: bool) -> str:
    """A local time; with its date when it is needed, with seconds when there are any."""
    day = "%Y-%m-%d " if shows_date else ""
    return f"{utc(local_s):{day}%H:%M{':%S' if local_s % 60 else ''}}"
