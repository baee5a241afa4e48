"""Writes how a run ended, for as long as it takes: a finished body must not run again for an outage's sake."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from cronq.clock import boot_s, rest
from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.spec import JobSpec
from cronq.runs.lost import RERUN, Loss, settle_or_rerun
from cronq.runs.run import Run, Settlement
from cronq.runs.store import RunStore

log = logging.getLogger("cronq.worker")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


@dataclass(frozen=True)
class Ending:
    """The end of one attempt, as its guardian saw it."""

    run: Run
    spec: JobSpec
    settlement: Settlement
    by: str
    execution: str
    begun_boot: float
    is_crash: bool = True  #: not so when its worker ended it because it leaves, in good order


class Settler:
    """Tells the ledger; *giving_up* is set when the process must leave although something is unwritten."""

    def __init__(self, runs: RunStore, now_s: Callable[[], float], giving_up: threading.Event) -> None:
        self.runs = runs
        self.now_s = now_s
        self.giving_up = giving_up
        self.abandoned = 0  #: outcomes that could not be written before this process had to leave

    def write(self, ending: Ending, give_up_at: Callable[[], float | None]) -> str:
        """Write until Redis has taken it; the outcome that the ledger has then, or RERUN.

        *give_up_at* is asked for the moment (of the boot clock) until which it is tried; None: for ever.
        """
        run, settlement = ending.run, ending.settlement
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                outcome = self._try(ending)
                break
            except (RedisError, OSError) as error:
                if pause_s == _FIRST_PAUSE_S:
                    log.warning("UNWRITTEN %s %s: %s; trying on", run.run_id, settlement.outcome, error)
                limit = give_up_at()
                if rest(pause_s, self.giving_up) or (limit is not None and boot_s() >= limit):
                    log.error("ABANDONED %s %s: leaving without Redis", run.run_id, settlement.outcome)
                    self.abandoned += 1
                    return settlement.outcome
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            except Exception:  # not for Redis's sake, and so it would fail again: something in it cannot be stored
                if ending.settlement == _bare(settlement):
                    raise
                log.exception("UNSTORABLE %s %s: recorded without its words", run.run_id, settlement.outcome)
                ending = replace(ending, settlement=_bare(settlement))
        self._tell(ending, outcome)
        return outcome

    def _try(self, ending: Ending) -> str:
        run, spec, settlement = ending.run, ending.spec, ending.settlement
        if spec.on_lost == "rerun" and (settlement.outcome == "lost" or not ending.is_crash):
            loss = Loss(
                settlement,
                ending.by,
                self.now_s(),
                run.attempt,
                ending.execution,
                is_crash=ending.is_crash,
                failure_ttl_s=failure_life_s(spec, run.tick),
            )
            return settle_or_rerun(self.runs, run, loss, spec.max_crashes) or self._written(run, settlement)
        mine = self.runs.settle(
            run,
            settlement,
            by=ending.by,
            now_s=self.now_s(),
            attempt=run.attempt,
            execution=ending.execution,
            result_ttl_s=result_life_s(spec, run.tick),
            failure_ttl_s=failure_life_s(spec, run.tick),
        )
        return settlement.outcome if mine else self._written(run, settlement)

    def _written(self, run: Run, settlement: Settlement) -> str:
        """What the ledger says when it did not take our word: somebody else was first, or our first reply was lost."""
        try:
            known = self.runs.find(run.run_id)
        except (RedisError, OSError):
            known = None
        if known is not None and known.outcome is not None:
            return known.outcome
        if known is not None and known.attempt > run.attempt:  # it was put back by a beat
            return RERUN
        log.error("UNSETTLED %s: the ledger did not take %s", run.run_id, settlement.outcome)
        return settlement.outcome

    def _tell(self, ending: Ending, outcome: str) -> None:
        run_id, reason, took_s = ending.run.run_id, ending.settlement.reason, boot_s() - ending.begun_boot
        if outcome == RERUN:
            log.warning("PUT BACK %s after %.2fs: %s", run_id, took_s, reason)
        elif outcome == "succeeded":
            log.info("FINISH %s %s %.2fs", run_id, outcome, took_s)
        else:
            log.warning("FINISH %s %s %.2fs %s", run_id, outcome, took_s, reason)


def _bare(settlement: Settlement) -> Settlement:
    """The outcome and its figures, without anything that a job has said."""
    reason = "how it ended cannot be stored; the log of its worker says more"
    return replace(settlement, reason=reason, error=None, result_json=None, return_value=None)
