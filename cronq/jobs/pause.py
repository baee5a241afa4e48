"""Why a job is paused, and how late a tick may be found before it counts as missed."""

from __future__ import annotations

from dataclasses import dataclass

from cronq.errors import DefinitionError
from cronq.timetext import iso

#: A tick found this long after its time was missed; a busy beat is later than a second now and then.
LATE_S = 60


#: Characters of a note: it stands in rows and tables, whose other lines it must not bury.
MOST_NOTE = 1_000


def check_note(note: str) -> None:
    """Raise DefinitionError for a note that is too long to be shown wherever its pause or drain is."""
    if len(note) > MOST_NOTE:
        problem = f"{len(note):,} characters, and {MOST_NOTE:,} are allowed; link to the rest"
        raise DefinitionError(problem, field="note")


@dataclass(frozen=True)
class Pause:
    """Why and until when a job is paused."""

    since: float
    by: str = ""
    note: str = ""
    until: float | None = None

    @property
    def is_by_failures(self) -> bool:
        """Return True if the job's own failures set it (`lua/parts/count_failure`); a person has a host in the name."""
        return self.by == "cronq"

    def covers(self, tick: int) -> bool:
        """Return True if *tick* falls into the pause."""
        return self.until is None or tick < self.until

    @property
    def reason(self) -> str:
        """What the ledger says of a tick that fell into the pause."""
        by = f" by {self.by}" if self.by else ""
        note = f": {self.note}" if self.note else ""
        return f"paused since {iso(int(self.since))}{by}{note}"
