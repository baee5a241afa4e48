"""Tells the ledger how runs ended, for as long as it takes: an outage must not make finished work run again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from cronq.clock import boot_s
from cronq.runs.exchange import End
from cronq.runs.lost import RERUN, rerun_or_ending
from cronq.runs.run import Ending, Run, Settlement, record_life_s
from cronq.runs.store import RETRYING, RunStore
from cronq.worker.active_run import ActiveRun

log = logging.getLogger("cronq.worker")
#: A worker that is leaving tries so long after the moment by which it leaves.
_LEAVE_WRITING_S = 7.0


@dataclass
class Unsettled:
    """A run that has ended here, and whose end Redis has not taken yet."""

    active: ActiveRun
    ending: Ending
    took_s: float  #: from the beginning of its work to its end
    may_rerun: bool  #: it was lost, and is to be put back if its job asks for that
    is_over: bool = False  #: in the ledger it has ended, or was put back: what is left is to give back its lock
    is_said: bool = False  #: the log says that it is unwritten

    @property
    def run(self) -> Run:
        """The run in the attempt that ended."""
        return self.active.run

    @property
    def outcome(self) -> str:
        """The outcome as its guardian saw it."""
        return self.ending.settlement.outcome

    @property
    def may_come_later(self) -> bool:
        """Return True if another run may begin before Redis has heard of this end.

        It has left nothing that others wait for, no lock and no other attempt; and its work would not be done again if
        this worker were killed before it has told.
        """
        is_plain = self.outcome == "succeeded" and self.ending.retry is None and self.active.lock is None
        return is_plain and self.active.max_crashes is None and not (self.is_over or self.is_said)

    def end(self) -> End:
        """What is sent to Redis."""
        active, lock = self.active, self.active.lock
        # What is over is refused as stale, by the number of its attempt; its lock is given back all the same.
        ending = replace(self.ending, retry=None) if self.is_over else self.ending
        if lock is None:
            return End(active.worker, active.run, ending, active.execution, None, self.took_s)
        hold_s = max(0.0, lock.keep_until_boot_s - boot_s())
        return End(active.worker, active.run, ending, active.execution, lock.name, self.took_s, hold_s)


class Settler:
    """Keeps the ends of a worker's runs until Redis has taken them; who sends them asks for `ends` and tells `hear`.

    *giving_up* is set when the process must leave though one is unwritten. *now_s* returns server time.
    """

    def __init__(self, runs: RunStore, now_s: Callable[[], float], giving_up: threading.Event) -> None:
        self.runs = runs
        self.now_s = now_s
        self.giving_up = giving_up
        self.unsettled: list[Unsettled] = []
        self.leave_at: float | None = None  #: by when its worker leaves, on the boot clock
        self.abandoned = 0  #: outcomes that could not be written before this process had to leave

    # Runs that have started

    def add(self, active: ActiveRun, settlement: Settlement) -> None:
        """Take over the end of a run that has started: it is written with the next call."""
        ending = active.ending(settlement, self.now_s())
        may_rerun = active.max_crashes is not None and (ending.settlement.outcome == "lost" or not ending.is_crash)
        self.unsettled.append(Unsettled(active, ending, boot_s() - active.begun_boot, may_rerun))

    def ends(self) -> list[End]:
        """The ends to be sent, all of them: again those that were not answered. Raises RedisError.

        A lost run is put back before that, if its job asks for it.
        """
        for each in self.unsettled:
            if each.may_rerun:
                self._rerun(each)
            elif each.is_said:
                each.ending = replace(each.ending, now_s=self.now_s())
        return [each.end() for each in self.unsettled]

    def hear(self, answers: Sequence[str | Exception]) -> None:
        """Note what became of each of `ends`; what was refused stays."""
        heard, self.unsettled = self.unsettled, []
        for each, answer in zip(heard, answers, strict=True):
            if isinstance(answer, RedisError | OSError):
                self._say_unwritten(each, answer)
                self.unsettled.append(each)
            elif isinstance(answer, Exception):
                if self._makes_bare(each, answer):
                    self.unsettled.append(each)
            else:
                self._tell(each, self._outcome(each, answer))

    def hear_nothing(self, error: Exception) -> None:
        """Note that the call with `ends` was not answered: all of them are sent again."""
        for each in self.unsettled:
            self._say_unwritten(each, error)

    def is_too_late(self) -> bool:
        """Return True if this worker has to leave though an end is unwritten.

        One that was told to leave gives up some seconds after the moment by which it leaves, any other never.
        """
        late_at = None if self.leave_at is None else self.leave_at + _LEAVE_WRITING_S
        return self.giving_up.is_set() or (late_at is not None and boot_s() >= late_at)

    def abandon(self) -> None:
        """Give up what is unwritten."""
        for each in self.unsettled:
            log.error("ABANDONED %s %s: leaving without Redis", each.run.run_id, each.outcome)
        self.abandoned += len(self.unsettled)
        self.unsettled = []

    def _rerun(self, each: Unsettled) -> None:
        """Put a lost run back to its queue, unless it crashed too often: then its end is another."""
        most = each.active.max_crashes
        assert most is not None
        try:
            found = rerun_or_ending(self.runs, each.run, each.ending, most)
        except (RedisError, OSError):
            raise
        except Exception as error:
            each.may_rerun = self._makes_bare(each, error)
            return
        each.may_rerun = False
        if isinstance(found, Ending):
            each.ending = found
        else:  # if another was first, `hear` finds out what it has done
            each.is_over = True

    def _say_unwritten(self, each: Unsettled, error: Exception) -> None:
        if each.is_said:
            return
        each.is_said = True
        log.warning("UNWRITTEN %s %s: %s; trying on", each.run.run_id, each.outcome, error)
        if each.active.lock is not None:
            log.warning("UNRELEASED lock %r: %s; it ends by itself", each.active.lock.name, error)

    def _makes_bare(self, each: Unsettled, error: Exception) -> bool:
        """Leave out what cannot be stored: it is no fault of Redis, and would fail again. False: nothing is left."""
        bare = _bare(each.ending.settlement)
        if each.ending.settlement == bare:
            log.error("UNSETTLED %s: the ledger did not take %s", each.run.run_id, each.outcome, exc_info=error)
            return False
        log.error("UNSTORABLE %s %s: recorded without its words", each.run.run_id, each.outcome, exc_info=error)
        each.ending = replace(each.ending, settlement=bare)
        return True

    def _outcome(self, each: Unsettled, answer: str) -> str:
        """The outcome in the ledger, RETRYING or RERUN. When it refused ours another was first, or a reply was lost."""
        if answer:
            return RETRYING if answer == RETRYING else each.outcome
        try:
            known = self.runs.find(each.run.run_id)
        except (RedisError, OSError):
            known = None
        if known is not None and known.outcome is not None:
            return known.outcome
        if known is not None and known.attempt > each.run.attempt:  # a beat has rerun it
            return RERUN
        log.error("UNSETTLED %s: the ledger did not take %s", each.run.run_id, each.outcome)
        return each.outcome

    def _tell(self, each: Unsettled, outcome: str) -> None:
        run_id, reason, retry = each.run.run_id, each.ending.settlement.reason, each.ending.retry
        if outcome == RETRYING and retry is not None and retry.is_snooze:
            log.info("SNOOZED %s %.2fs %s", run_id, each.took_s, reason)
        elif outcome == RETRYING and retry is not None:
            log.warning("RETRYING %s %s %.2fs %s; %s", run_id, each.outcome, each.took_s, reason, retry.note)
        elif outcome == RERUN:
            log.warning("PUT BACK %s after %.2fs: %s", run_id, each.took_s, reason)
        elif outcome == "succeeded":
            log.info("FINISH %s %s %.2fs", run_id, outcome, each.took_s)
        else:
            log.warning("FINISH %s %s %.2fs %s", run_id, outcome, each.took_s, reason)

    # Runs that do not start

    def write_unstarted(self, active: ActiveRun, settlement: Settlement) -> None:
        """Settle a run that does not start, in one try; one that was requeued keeps its outcome and is rejected."""
        run = active.run
        if run.state == "done":
            self.reject(active, settlement.reason)
            log.error("REFUSED %s cannot run again: %s", run.run_id, settlement.reason)
            return
        life_s = record_life_s(settlement.outcome, active.spec, run.tick)
        ending = Ending(settlement, f"worker {active.worker}", self.now_s(), expect="queued", record_life_s=life_s)
        if self.runs.settle(run, ending):
            log.info("FINISH %s %s %s", run.run_id, settlement.outcome, settlement.reason)
        else:
            log.warning("DROPPED %s: somebody else has settled it, or taken it", run.run_id)

    def reject(self, active: ActiveRun, reason: str) -> None:
        """Reject the id of a run that may not start: its row stays as it is."""
        run = active.run
        self.runs.reject(run.run_id, run.queue, reason, by=f"worker {active.worker}", now_s=self.now_s())


def _bare(settlement: Settlement) -> Settlement:
    """The outcome and its figures, without anything that a job has said."""
    reason = "how it ended cannot be stored; the log of its worker says more"
    return replace(settlement, reason=reason, error=None, result=None, return_value=None)
