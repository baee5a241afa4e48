"""Cron expressions as text: what they mean, and what is wrong with them.

cronsim parses. Added here are `H`, the macros, and error messages that name the offending value.
"""

from __future__ import annotations

import hashlib
import re
from calendar import monthrange
from dataclasses import dataclass
from functools import lru_cache

from cronsim import CronSimError

from cronq.errors import ScheduleError
from cronq.schedule.pattern import CronDays, Pattern, Times, parse_fields

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_LONGEST = 1000
_HASHED = re.compile(r"H(?:\((\w+)-(\w+)\))?(?:/(\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an expression: its name, its range, and where the range that `H` draws from ends."""

    name: str
    low: int
    high: int
    hash_high: int
    names: tuple[str, ...] = ()
    #: What cronsim takes besides numbers, names, lists, ranges and steps.
    special: str = ""

    def number(self, text: str) -> int | None:
        """The value of a number, whatever its size, or of a name such as `MON`; None for other text."""
        if text in self.names:
            return self.low + self.names.index(text)
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def allowed(self) -> str:
        """The range in words, for messages."""
        # Sunday is both 0 and 7, so the names of the week end one before the last.
        names = f" or {self.names[0]}-{self.names[self.hash_high - self.low]}" if self.names else ""
        return f"{self.low}-{self.high}{names}{self.special}"


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")  # Sunday is both 0 and 7

# The names are part of what `H` hashes: renaming a field would move every hashed job.
FIELDS = (
    Field("second", 0, 59, 59),
    Field("minute", 0, 59, 59),
    Field("hour", 0, 23, 23),
    Field("day of month", 1, 31, 28, special=", L, LW"),
    Field("month", 1, 12, 12, _MONTHS),
    Field("day of week", 0, 7, 6, _WEEKDAYS, ", MON#2, 5L"),
)


def expand(text: str, seed: str) -> str:
    """The six fields that an expression means, in upper case: macros, seconds and `H` written out.

    *seed* decides what `H` becomes: the same seed gives the same value on every host and in every release.
    Raises ScheduleError (field `cron`); most faults are only found by `compile_pattern`.
    """
    if not isinstance(text, str):
        raise _refusal(f"{text!r} is not a cron expression; write it as a string")
    if len(text) > _LONGEST:
        raise _refusal(f"the expression is longer than {_LONGEST} characters")
    if text.strip().startswith("@"):
        return "0 " + _macro(text.strip())
    upper = text.upper()
    values = upper.split()
    if len(values) not in (5, 6):
        raise _refusal(
            f"{text!r} has {len(values)} field{'' if len(values) == 1 else 's'}; cron has 5 "
            "(minute, hour, day of month, month, day of week), or 6 with seconds first"
        )
    if len(values) == 5:
        values.insert(0, "0")
    if "H" not in upper:  # as nearly always; and a beat expands those of all jobs
        return " ".join(values)
    return " ".join(
        ",".join(_without_h(field, term, seed) for term in value.split(","))
        for field, value in zip(FIELDS, values, strict=True)
    )


@lru_cache(maxsize=16384)
def compile_pattern(expression: str) -> Pattern:
    """The local times that six expanded fields match; equal expressions share one pattern.

    Raises ScheduleError (field `cron`) that names the field, the value and what is allowed.
    """
    fields = expression.split()
    try:
        sim = parse_fields(expression)
    except CronSimError:
        raise _refusal(_find_fault(fields)) from None
    days = _share_days(fields[3], fields[4], fields[5])
    times = _share_times(tuple(sorted(sim.hours)), tuple(sorted(sim.minutes)), tuple(sorted(sim.seconds)))
    return Pattern(days, times, fields[1].startswith("*") or fields[2].startswith("*"))


def explain(expression: str) -> str:
    """A valid expression in English, with a 24 h clock."""
    return parse_fields(expression).explain()


def _refusal(problem: str) -> ScheduleError:
    return ScheduleError(problem, field="cron")


def _macro(text: str) -> str:
    name = text.lower()
    if name in MACROS:
        return MACROS[name]
    if name == "@reboot":
        raise _refusal("@reboot is not a time; let the machine's own boot scripts call `cronq run NAME`")
    if name.startswith("@every"):
        raise _refusal(f"{text!r} is not cron; give the interval as every={name[6:].strip() or '5m'!r}")
    raise _refusal(f"{text!r} is not known; use one of {', '.join(MACROS)}")


def _without_h(field: Field, term: str, seed: str) -> str:
    """The term with `H` replaced by the value that *seed* hashes to; other terms as they are."""
    if not term.startswith("H"):
        return term
    match = _HASHED.fullmatch(term)
    if match is None:
        example = f"H({field.low}-{field.hash_high})"
        raise _refusal(f"{field.name} {term!r} is not understood; write H, H/2, {example} or {example}/2")
    low, high = field.low, field.hash_high
    if match[1]:
        low, high = (_bound_of_h(field, bound, term) for bound in match.groups()[:2])
        if low > high:
            raise _refusal(f"{field.name} {term} runs backwards")
    digest = hashlib.sha256(f"{seed}\0{field.name}".encode("utf-8", "surrogatepass")).digest()
    drawn = int.from_bytes(digest[:8], "big")
    if not match[3]:
        return str(low + drawn % (high - low + 1))
    step = int(match[3])
    if step == 0:
        raise _refusal(f"{field.name} step 0 in {term} is not a whole number of at least 1")
    start = low + drawn % min(step, high - low + 1)
    # cronsim reads 55-55/10 as 55/10, which goes on to the end of the field.
    return f"{start}-{high}/{step}" if start + step <= high else str(start)


def _bound_of_h(field: Field, bound: str, term: str) -> int:
    value = field.number(bound)
    if value is None or not field.low <= value <= field.hash_high:
        raise _refusal(f"{field.name} {bound} in {term} is outside {field.low}-{field.hash_high}, the range of H")
    return value


@lru_cache(maxsize=16384)
def _share_days(day: str, month: str, weekday: str) -> CronDays:
    days = CronDays(f"{day} {month} {weekday}")
    if not days.any():
        raise _refusal(f"no day of month {day} in month {month} is a day of week {weekday}")
    return days


_share_times = lru_cache(maxsize=16384)(Times)


def _find_fault(fields: list[str]) -> str:
    """What is wrong with fields that cronsim refused: it names the field, people need the value too."""
    for index, value in enumerate(fields):
        for term in value.split(","):
            if not _is_accepted(index, term):
                return _describe_fault(FIELDS[index], term)
    # Each field is fine alone, so it is the date: the day exists in none of the months.
    months = parse_fields(f"0 0 1 {fields[4]} *").months
    longest = max(monthrange(2000, month)[1] for month in months)  # 2000 has a 29 February
    return f"day of month {fields[3]} is outside 1-{longest}, the days of month {fields[4]}"


def _is_accepted(index: int, term: str) -> bool:
    if not term:
        return False  # of a list such as 1,,2; alone it would shift the fields
    fields = ["*"] * len(FIELDS)
    fields[index] = term
    try:
        parse_fields(" ".join(fields))
    except CronSimError:
        return False
    return True


def _describe_fault(field: Field, term: str) -> str:
    """What is wrong with one term of a list that cronsim refused."""
    if not term:
        return f"{field.name} has an empty item; allowed is {field.allowed}"
    body, slash, step = term.partition("/")
    if slash and not (step.isascii() and step.isdigit() and int(step)):
        return f"{field.name} step {step} in {term} is not a whole number of at least 1"
    if "?" in body:
        return f"{field.name} {term!r} is not supported; write *"
    if field.names and "#" in body:
        body, _, nth = body.partition("#")
        if nth not in ("1", "2", "3", "4", "5"):
            return f"{field.name} {term}: the number after # is outside 1-5"
    bounds = body.split("-")
    values = [field.number(bound) for bound in bounds]
    for bound, value in zip(bounds, values, strict=True):
        if value is not None and not field.low <= value <= field.high:
            return f"{field.name} {bound} is outside {field.low}-{field.high}"
    if len(values) == 2 and values[0] is not None and values[1] is not None and values[0] > values[1]:
        return f"{field.name} {body} runs backwards; write {_wrapped(field, bounds[0], bounds[1])}"
    return f"{field.name} {term!r} is not understood; allowed is {field.allowed}, lists, ranges and steps"


def _wrapped(field: Field, start: str, stop: str) -> str:
    """A range that passes the end of its field, in two parts: `22-6` of the hours is `22-23,0-6`."""
    last, first = (str(field.hash_high if field.names else field.high), str(field.low))
    if start in field.names:
        last, first = field.names[field.hash_high - field.low], field.names[0]
    head = start if start == last else f"{start}-{last}"
    return f"{head},{stop if stop == first else f'{first}-{stop}'}"
