"""Notes on the last changes of a job: who changed what and when, as the scripts in `lua/jobs/` keep them.

Of a changed option only the name is kept, for its value may be a secret; but for those that say when the job is due.
With these `spec_at` tells by which schedule the job went at a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from cronq.db.decode import read_json, seconds
from cronq.errors import BadValue, CronqError
from cronq.jobs.options import DEFAULTS
from cronq.jobs.spec import JobSpec

#: How many of a job are kept (`lua/parts/note_change`).
MOST_NOTES = 20
#: Characters of what somebody said of a change.
_MOST_WORDS = 200
#: What happened to the job, by the word of the event stream.
_VERBS = {
    "job_created": "created", "job_changed": "changed", "job_paused": "paused", "job_resumed": "resumed",
    "job_skips": "told to skip ticks", "job_skips_undone": "told to skip none", "job_reset": "reset",
    "job_removed": "removed",
}  # fmt: skip
#: The options that make the schedule.
_SCHEDULE = ("cron", "every", "at", "start", "end", "tz", "dst")


@dataclass(frozen=True)
class ChangeNote:
    """One change of a job."""

    at_s: float
    by: str = ""
    what: str = ""  #: the word of the event stream for it, such as `job_changed`
    options: tuple[str, ...] = ()  #: names of the options that are others since
    was: dict[str, Any] | None = None  #: the options of the schedule before, but for defaults; None: it stayed
    words: str = ""  #: what whoever made it said of it

    @property
    def text(self) -> str:
        """What happened to the job and who did it: `changed by ann@box (cron, timeout)`."""
        by = f" by {self.by}" if self.by else ""
        options = f" ({', '.join(self.options)})" if self.options else ""
        return f"{_VERBS.get(self.what, self.what)}{by}{options}" + (f": {self.words}" if self.words else "")

    def to_json(self) -> dict[str, Any]:
        """As the scripts take it; they add `what`. Fields that say nothing are left out."""
        words = self.words[:_MOST_WORDS]
        known = {"at": round(self.at_s, 3), "by": self.by, "options": list(self.options), "words": words}
        document = {name: value for name, value in known.items() if value}
        return document if self.was is None else document | {"was": self.was}


def note_of_edit(by: str, at_s: float, old: JobSpec, new: JobSpec) -> ChangeNote:
    """The note on what *by* changes: *old* becomes *new*."""
    options = tuple(item.name for item in fields(JobSpec) if getattr(old, item.name) != getattr(new, item.name))
    was = None
    if any(name in options for name in _SCHEDULE):
        was = {name: value for name in _SCHEDULE if (value := getattr(old, name)) != DEFAULTS[name]}
    return ChangeNote(at_s, by, options=options, was=was)


def read_notes(raws: Sequence[Any]) -> list[ChangeNote]:
    """The notes in the list of a job, as they stand there; what cannot be read is left out."""
    return [note for raw in raws if (note := _read(raw)) is not None]


def _read(raw: Any) -> ChangeNote | None:
    try:
        values = read_json(raw)
        at_s, was = seconds(values["at"]), values.get("was")
        if at_s is None:
            return None
        return ChangeNote(
            at_s=at_s,
            by=str(values.get("by", "")),
            what=str(values.get("what", "")),
            options=tuple(str(each) for each in values.get("options", ())),
            was=was if isinstance(was, dict) else None,
            words=str(values.get("words", "")),
        )
    except (BadValue, TypeError, KeyError, AttributeError):
        return None


def spec_at(spec: JobSpec, notes: Sequence[ChangeNote], moment_s: float) -> tuple[JobSpec, ChangeNote | None]:
    """*spec* with the schedule it had at *moment_s*, and the note on the change that ended that; None: it still has it.

    *notes* are those of the job, newest first. A schedule that cannot be read counts as the one of today.
    """
    later = [note for note in notes if note.was is not None and note.at_s > moment_s]
    if not later or later[-1].was is None:
        return spec, None
    known = {name: later[-1].was.get(name, DEFAULTS[name]) for name in _SCHEDULE}
    try:
        then = replace(spec, **known)
        assert then.schedule is None or str(then.schedule)
    except (CronqError, ValueError, TypeError, OverflowError):
        return spec, None
    return then, later[-1]
