"""The run that a piece of code is part of, as the code itself can know it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from cronq.timetext import iso


@dataclass(frozen=True)
class CurrentRun:
    """What a function can know of the run it is in; ticks and times are epoch seconds."""

    job: str
    run_id: str
    tick: int | None
    attempt: int
    host: str
    fence: int | None  #: the fencing token of its lock: hand it to whatever the lock protects
    previous_success: int | None  #: the tick of the newest run before this one that succeeded

    def environment(self) -> dict[str, str]:
        """The same as the `CRONQ_…` variables that a command gets; unknown is empty."""
        return {
            "CRONQ_JOB": self.job,
            "CRONQ_RUN_ID": self.run_id,
            "CRONQ_TICK": iso(self.tick) or "",
            "CRONQ_ATTEMPT": str(self.attempt),
            "CRONQ_HOST": self.host,
            "CRONQ_FENCE": "" if self.fence is None else str(self.fence),
            "CRONQ_LAST_SUCCESS": iso(self.previous_success) or "",
        }


_current: ContextVar[CurrentRun | None] = ContextVar("cronq_current_run", default=None)


def current_run() -> CurrentRun | None:
    """The run this code is part of, None when it was called as a plain function."""
    return _current.get()


def enter_run(run: CurrentRun) -> None:
    """Make *run* what `current_run` answers; called once, in the process that does the work."""
    _current.set(run)
