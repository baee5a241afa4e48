"""Tells the ledger how a run ended, for as long as it takes: an outage must not make finished work run again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from redis.exceptions import RedisError

from cronq.clock import boot_s, rest
from cronq.db.faults import Backoff
from cronq.runs.lost import RERUN, settle_or_rerun
from cronq.runs.run import Ending, Run, Settlement, record_life_s
from cronq.runs.store import RETRYING, RunStore
from cronq.worker.active_run import ActiveRun

log = logging.getLogger("cronq.worker")
#: Returned in place of an outcome: the job asked for its next attempt, which is no failure.
SNOOZED = "snoozed"
#: A worker that is leaving tries so long after the moment by which it leaves.
_LEAVE_WRITING_S = 7.0


class Settler:
    """Writes the ends of a guardian's runs. *giving_up* is set when the process must leave though one is unwritten."""

    def __init__(self, runs: RunStore, now_s: Callable[[], float], giving_up: threading.Event) -> None:
        self.runs = runs
        self.now_s = now_s
        self.giving_up = giving_up
        self.abandoned = 0  #: outcomes that could not be written before this process had to leave

    def write(self, active: ActiveRun, settlement: Settlement) -> str:
        """Write the end of a run that has started until Redis takes it.

        Return the outcome in the ledger, or RERUN, RETRYING or SNOOZED: it has another attempt.

        A worker that was told to leave gives up some seconds after the moment by which it leaves, any other never.
        """
        run_id, ending = active.run.run_id, active.ending(settlement, self.now_s())
        backoff, is_said = Backoff(), False
        while True:
            try:
                outcome = self._try(active, ending)
                break
            except (RedisError, OSError) as error:
                if not is_said:
                    is_said = True
                    log.warning("UNWRITTEN %s %s: %s; trying on", run_id, settlement.outcome, error)
                if rest(backoff.next_s(), self.giving_up) or self._is_too_late(active):
                    log.error("ABANDONED %s %s: leaving without Redis", run_id, settlement.outcome)
                    self.abandoned += 1
                    return settlement.outcome
            except Exception:  # not for Redis's sake, and so it would fail again: something in it cannot be stored
                if ending.settlement == _bare(ending.settlement):
                    raise
                log.exception("UNSTORABLE %s %s: recorded without its words", run_id, settlement.outcome)
                ending = replace(ending, settlement=_bare(ending.settlement))
            ending = replace(ending, now_s=self.now_s())
        self._tell(active, ending, outcome)
        return SNOOZED if outcome == RETRYING and settlement.snooze_s is not None else outcome

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

    def _is_too_late(self, active: ActiveRun) -> bool:
        leave_at = active.stop.leave_at
        return leave_at is not None and boot_s() >= leave_at + _LEAVE_WRITING_S

    def _try(self, active: ActiveRun, ending: Ending) -> str:
        may_rerun = ending.settlement.outcome == "lost" or not ending.is_crash
        outcome = settle_or_rerun(self.runs, active.run, ending, active.max_crashes if may_rerun else None)
        return outcome if outcome is not None else self._written(active.run, ending.settlement)

    def _written(self, run: Run, settlement: Settlement) -> str:
        """The outcome in the ledger, or RERUN, when it refused ours: another was first, or a reply was lost."""
        try:
            known = self.runs.find(run.run_id)
        except (RedisError, OSError):
            known = None
        if known is not None and known.outcome is not None:
            return known.outcome
        if known is not None and known.attempt > run.attempt:  # a beat has rerun it
            return RERUN
        log.error("UNSETTLED %s: the ledger did not take %s", run.run_id, settlement.outcome)
        return settlement.outcome

    def _tell(self, active: ActiveRun, ending: Ending, outcome: str) -> None:
        run_id, took_s, reason = active.run.run_id, boot_s() - active.begun_boot, ending.settlement.reason
        if outcome == RETRYING and ending.retry is not None and ending.retry.is_snooze:
            log.info("SNOOZED %s %.2fs %s", run_id, took_s, reason)
        elif outcome == RETRYING and ending.retry is not None:
            log.warning("RETRYING %s %s %.2fs %s; %s",
                        run_id, ending.settlement.outcome, took_s, reason, ending.retry.note)  # fmt: skip
        elif outcome == RERUN:
            log.warning("PUT BACK %s after %.2fs: %s", run_id, took_s, reason)
        elif outcome == "succeeded":
            log.info("FINISH %s %s %.2fs", run_id, outcome, took_s)
        else:
            log.warning("FINISH %s %s %.2fs %s", run_id, outcome, took_s, reason)


def _bare(settlement: Settlement) -> Settlement:
    """The outcome and its figures, without anything that a job has said."""
    reason = "how it ended cannot be stored; the log of its worker says more"
    return replace(settlement, reason=reason, error=None, result=None, return_value=None)
