"""Stores the jobs of a beat's code again in a Redis that lost them, because it was emptied or is a new one."""

from __future__ import annotations

import logging

from cronq.beat.repair import Repair
from cronq.definitions.sync import Defined, Definitions
from cronq.errors import CronqError, SpecTooNew

log = logging.getLogger("cronq.beat")


class Restore:
    """Stores what *definitions* knows; where a damaged key is in the way, *repair* moves it aside."""

    def __init__(self, definitions: Definitions, repair: Repair) -> None:
        self.definitions = definitions
        self.repair = repair

    def renew_epoch(self, now_s: float) -> str:
        """The epoch of this Redis; one that has none gets one, and each missing job that code defines is stored.

        Their ticks count from now, so that nothing bursts. A beat calls this when it meets an epoch that is new to it.
        """
        epoch, begun = self.definitions.jobs.open_epoch()
        restored = sum(self._restore(name, now_s) for name in self.definitions.known())
        if begun or restored:
            log.warning(
                "EPOCH this Redis is new or was emptied; %d jobs that code defines were stored, ticks count from now",
                restored,
            )
        return epoch

    def _restore(self, name: str, now_s: float) -> bool:
        """Store one job if it is missing. Return True if it was; a failure is logged, for the sake of the others."""
        job = self.definitions.known()[name]
        try:
            return self._restored(job)
        except SpecTooNew as error:
            log.warning("LEFT %s", error)
            return False
        except CronqError as error:
            self.repair.repair(name, str(error), now_s)
        try:
            return self._restored(job)
        except CronqError as error:
            log.error("BROKEN job=%s %s", name, error)
            return False

    def _restored(self, job: Defined) -> bool:
        spec, source, origin, tz_is_default = job
        changes = self.definitions.changes
        return changes.restore(spec, source=source, origin=origin, tz_is_default=tz_is_default) != "same"
