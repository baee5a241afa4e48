"""The return of a beat's jobs to a Redis that lost them: it was emptied, or is a new one."""

from __future__ import annotations

import logging

from cronq.beat.repair import Repair
from cronq.definitions.sync import Definitions
from cronq.errors import CronqError, SpecTooNew

log = logging.getLogger("cronq.beat")


class Restore:
    """Stores what *definitions* knows under a new epoch; *repair* clears the way where a key is damaged."""

    def __init__(self, definitions: Definitions, repair: Repair) -> None:
        self.definitions = definitions
        self.repair = repair

    def renew_epoch(self, now_s: float) -> str:
        """Learn the epoch; in a Redis that has none, begin one and restore the jobs that code defines.

        A flushed Redis gets them back with their ticks counted from now, so that nothing bursts.
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
        """Restore one job, by moving aside what stands in its way; one that fails must not keep back the others."""
        spec, source, origin = self.definitions.known()[name]
        try:
            return self.definitions.changes.restore(spec, source=source, origin=origin) != "same"
        except SpecTooNew as error:
            log.warning("LEFT %s", error)
            return False
        except CronqError as error:
            self.repair.repair(name, str(error), now_s)
        try:
            return self.definitions.changes.restore(spec, source=source, origin=origin) != "same"
        except CronqError as error:
            log.error("BROKEN job=%s %s", name, error)
            return False
