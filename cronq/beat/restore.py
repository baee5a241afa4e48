"""Stores the jobs of a beat's code again in a Redis that lost them, because it was emptied or is a new one."""

from __future__ import annotations

import logging

from cronq.beat.repair import Repair
from cronq.definitions.family import judge
from cronq.definitions.sync import Defined, Definitions
from cronq.errors import CronqError, SpecTooNew, UnknownParent

log = logging.getLogger("cronq.beat")


class Restore:
    """Stores what *definitions* knows; where a damaged key is in the way, *repair* moves it aside."""

    def __init__(self, definitions: Definitions, repair: Repair) -> None:
        self.definitions = definitions
        self.repair = repair
        self.orphans: set[str] = set()  #: jobs that are not stored for want of a parent

    def renew_epoch(self, now_s: float) -> str:
        """The epoch of this Redis; one that has none gets one, and each missing job that code defines is stored.

        Their ticks count from now, so that nothing bursts. A beat calls this when it meets an epoch that is new to it.
        """
        epoch, begun = self.definitions.jobs.open_epoch()
        restored = sum(self._restore(name, job, now_s) for name, job in self.definitions.known().items())
        if begun or restored:
            log.warning(
                "EPOCH this Redis is new or was emptied; %d jobs that code defines were stored, ticks count from now",
                restored,
            )
        return epoch

    def once(self, now_s: float) -> None:
        """Store the jobs whose parents have come meanwhile, from code of another process; a chore of the beat."""
        if not self.orphans:
            return
        known = self.definitions.known()
        specs = {name: known[name].spec for name in self.orphans if name in known}
        for name in judge(specs, self.definitions.jobs).accepted:
            self.orphans.discard(name)
            if self._restore(name, known[name], now_s):
                log.warning("MEND job=%s is stored, as all its parents are there now", name)

    def _restore(self, name: str, job: Defined, now_s: float) -> bool:
        """Store one job if it is missing. Return True if it was; a failure is logged, for the sake of the others."""
        try:
            return self._restored(job)
        except SpecTooNew as error:
            log.warning("LEFT %s", error)
            return False
        except UnknownParent as error:
            log.warning("LEFT %s; it is stored as soon as there is", error)
            self.orphans.add(name)
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
