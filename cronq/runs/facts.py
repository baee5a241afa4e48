"""What is known when somebody asks why a tick ended as it did; `why` makes sentences of it. No Redis here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cronq.jobs.change_notes import ChangeNote
from cronq.jobs.stored import StoredJob
from cronq.runs.run import Run
from cronq.timetext import iso

Told = tuple[str, str, str]  #: cause, sentences without the last full stop, next command


@dataclass(frozen=True)
class Answer:
    """Why, for a person (`text`) and for a program (`cause`)."""

    job: str
    tick: int | None
    due: bool
    outcome: str | None
    reason: str | None
    cause: str
    words: str  #: the sentences, without the last full stop
    next: str  #: the command to type next
    other: str | None = None  #: what the cause is about, by name: a run, a lock, a queue, a calendar, a parent
    parents: Sequence[ParentFact] = ()  #: of which the cause speaks

    @property
    def text(self) -> str:
        """The whole answer in a line."""
        return f"{self.words}. Next: {self.next}"


@dataclass(frozen=True)
class Gap:
    """A span in which no beat made a pass. Times are epoch seconds; `to_s` None: it goes on."""

    from_s: float
    to_s: float | None
    cause: str  #: a code, such as `no_beat`
    words: str  #: the same for a person


@dataclass(frozen=True)
class Redeploy:
    """That a run was done by other code than the last one that succeeded."""

    at_s: float  #: since when workers of that host run it
    host: str
    changes: tuple[tuple[str, str, str], ...]  #: what is another: `revision`, `code` or `cronq`; before, and now


@dataclass(frozen=True)
class ParentFact:
    """A parent of the job, as a run needs it and as it is now."""

    name: str
    tick: int | None = None  #: its tick that is awaited; None: it need only have succeeded since
    then: str | None = None  #: how that stood when the run was blocked: outcome or state; None: it had no run
    is_job: bool = True
    removal: ChangeNote | None = None  #: of one that is no job any more
    has_come: bool = False  #: of a job that runs after it: it has succeeded since that was last started
    run: Run | None = None  #: its run of that tick; without a tick its newest
    behind: Answer | None = None  #: why that stands as it does; known of the first of several

    @property
    def label(self) -> str:
        """The parent by name, and its tick."""
        return self.name if self.tick is None else f"{self.name} of {iso(self.tick)}"

    @property
    def state(self) -> str | None:
        """How its run stands now: outcome or state; None when it has none."""
        return None if self.run is None else self.run.outcome or self.run.state


@dataclass(frozen=True)
class Facts:
    """What is known when somebody asks why. Times are epoch seconds."""

    job: StoredJob
    now_s: float
    tick: int | None = None  #: the tick in question; None: there is none
    at_s: int | None = None  #: the moment that was asked for; None: the present
    left_out: str | None = None  #: that moment as it was written, when it is a local time that the clocks leave out
    run: Run | None = None  #: what the ledger has of the tick
    other: Run | None = None  #: the earlier run that stands or stood in its way, as it is now
    awaited: Run | None = None  #: of a job whose ticks run in order the run for which its next tick waits
    excluded: str | None = None  #: of a tick to come: why it will not run, as things stand
    lock_holder: str | None = None  #: who holds the lock that it waits for, in words
    parents: Sequence[ParentFact] = ()  #: those that keep it waiting or blocked it; of a job with `after` all
    around: tuple[Run | None, Run | None] = (None, None)  #: of such a job the runs before and after the moment
    notes: Sequence[ChangeNote] = ()  #: on the last changes of the job, newest first
    removal: ChangeNote | None = None  #: of a job that is no more
    last_good: Run | None = None  #: of a run that did not succeed the one before it that did
    redeploy: Redeploy | None = None  #: what was deployed between these two
    gaps: Sequence[Gap] = ()
    beats: int = 0  #: how many are alive
    is_served: bool = True  #: a worker is alive that serves the queue of the run
    place: int | None = None  #: of the tick in the line of late runs that the catch-up rate holds
    held_by: str | None = None  #: who paused that queue, or drained the workers, and why


def when(moment_s: float | None) -> str:
    """A moment as answers write it."""
    return iso(int(moment_s)) or "" if moment_s is not None else "no time"
