"""The run that a piece of code is part of, as the code itself can know it; and what it can answer for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cronq.errors import CronqError
from cronq.timetext import DAY_S, iso, parse_duration_s

if TYPE_CHECKING:
    from subprocess import CompletedProcess

#: The longest that a run may wait for its next attempt because it snoozes, also all in all.
MOST_SNOOZED_S = 30 * DAY_S


@dataclass(frozen=True)
class CurrentRun:
    """What a function can know of the run it is in; ticks and times are epoch seconds."""

    job: str
    run_id: str
    tick: int | None
    attempt: int
    host: str
    fence: int | None  #: the fencing token of its lock: hand it to whatever the lock protects
    previous_success: int | None = None  #: the tick of the newest run before this one that succeeded
    previous_tick: int | None = None  #: the tick before this one by the schedule
    failures: int = 0  #: how many runs in a row before this one ended in `failed`, `timed_out` or `lost`
    last_run: str | None = None  #: the run of its job that ended last
    last_outcome: str | None = None
    last_ended: float | None = None

    @property
    def interval(self) -> tuple[int | None, int | None]:
        """The tick before this one by the schedule, and this one: what lies between them is this run's to do.

        None where there is no such tick: for a run by hand, for the first one, for a job without a schedule.
        """
        return self.previous_tick, self.tick

    def process(
        self, words: Sequence[str], input: str | None = None, timeout: float | None = None
    ) -> CompletedProcess[str]:
        """Run a program to its end; return its `returncode`, `stdout` and `stderr`, both as text.

        No shell reads *words*; *input* is what the program reads, nothing by default. It ends with the run, whatever
        becomes of that. After *timeout* seconds it is ended and `subprocess.TimeoutExpired` raised. Raises CronqError
        for one text in place of words.
        """
        import subprocess

        if isinstance(words, str):
            raise CronqError(f"process({words!r}): give the program and its arguments as a list; no shell reads them")
        reads: dict[str, Any] = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            list(words), capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, check=False, **reads
        )

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
            "CRONQ_PREVIOUS_TICK": iso(self.previous_tick) or "",
            "CRONQ_FAILURES": str(self.failures),
            "CRONQ_LAST_OUTCOME": self.last_outcome or "",
        }


_current: ContextVar[CurrentRun | None] = ContextVar("cronq_current_run", default=None)


def current_run() -> CurrentRun | None:
    """The run this code is part of, None when it was called as a plain function."""
    return _current.get()


def enter_run(run: CurrentRun) -> None:
    """Make *run* what `current_run` answers; called once, in the process that does the work."""
    _current.set(run)


@dataclass(frozen=True)
class Snooze:
    """What a job's function returns to have the same run again, *after_s* seconds after the end of this attempt."""

    after_s: float


def snooze(delay: float | str | timedelta) -> Snooze:
    """What a job's function returns when its time has not come: `return cronq.snooze("30s")`.

    The run has its next attempt after *delay*; that is no failure, and no retry is used up. At most 30 days. Raises
    CronqError for what is no such duration.
    """
    try:
        after_s = parse_duration_s(delay)
    except ValueError as error:
        raise CronqError(f"snooze: {error}") from None
    if after_s > MOST_SNOOZED_S:
        raise CronqError(f"snooze: {delay!r} is longer than 30 days; schedule a run of its own")
    return Snooze(after_s)
