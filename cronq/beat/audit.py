"""Looks through all jobs, some at a time, for damage that no claim would meet, and has it repaired."""

from __future__ import annotations

import logging

from cronq.beat.repair import Repair
from cronq.clock import boot_s
from cronq.errors import CronqError, SpecTooNew
from cronq.jobs.parents import starts_after
from cronq.jobs.quarantine import MARK_AHEAD_S, Quarantine
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import AuditedJob

log = logging.getLogger("cronq.beat")

#: The longest that the agenda puts off a job whose next tick waits for the one before (`lua/parts/in_order`).
LOOK_AGAIN_S = 60

#: Jobs looked at in one step: every pass looks at the next ones, until all have had their turn.
_AUDITED_AT_ONCE = 500
#: Longest that one pass goes on when all jobs have to be looked at: ticks wait meanwhile.
_HURRY_S = 0.5
#: What `lua/jobs/audit.lua` finds wrong with a job, in words.
_WORDS = {
    "wrong_type": "one of its keys has a wrong type",
    "undefined": "its definition is missing",
    "untemplated": "its template is missing",
    "unmarked": "its state has no mark",
    "ahead": "its mark is in the future",
}


class Audit:
    """A chore of the beat. What it finds damaged goes to *repair*; a lost or late agenda entry it mends itself."""

    def __init__(self, quarantine: Quarantine, repair: Repair) -> None:
        self.quarantine = quarantine
        self.repair = repair
        self.cursors = ("0", "0")
        self._is_hurried = False  #: the agenda was lost, whole or in part: on to the last job without a rest

    def once(self, now_s: float) -> bool:
        """Look at the next some hundred jobs, in one round trip when all is well. True: there is more to do at once.

        Where one job was missing on the agenda, others will be: then all jobs are looked at, from the first one on.
        """
        until_boot = boot_s() + _HURRY_S
        while True:
            is_missing = self._look(now_s)
            if is_missing and not self._is_hurried:
                self._is_hurried, self.cursors = True, ("0", "0")
            elif self.cursors[0] == "0":
                self._is_hurried = False
            if not self._is_hurried or boot_s() > until_boot:
                return self._is_hurried

    def _look(self, now_s: float) -> bool:
        """Look at the next jobs. Return True if any was missing on the agenda, or too late there."""
        self.cursors, seen = self.quarantine.audit(self.cursors, _AUDITED_AT_ONCE)
        missing: dict[str, int] = {}
        for job in seen:
            if job.what:
                self.repair.repair(job.name, _WORDS[job.what], now_s)
            elif (following := self._missing_tick(job, now_s)) is not None:
                missing[job.name] = following
        if missing:
            some = ", ".join(list(missing)[:3])
            log.warning("MEND %d jobs were missing or too late on the agenda: %s%s",
                        len(missing), some, " …" if len(missing) > 3 else "")  # fmt: skip
            self.quarantine.reschedule_all(missing)
        return bool(missing)

    def _missing_tick(self, job: AuditedJob, now_s: float) -> int | None:
        """The moment under which the job has to stand on the agenda; None when it stands there, or needs no entry.

        By its mark: with an entry that is later than its next tick, or with none, the job would be silent.
        """
        try:
            spec = JobSpec.from_json(job.spec, name=job.name)
            schedule = spec.schedule
        except SpecTooNew:  # beats of that version look after it
            return None
        except CronqError as error:
            self.repair.repair(job.name, str(error), now_s)
            return None
        if spec.after and not starts_after(job.trigger, spec.after):
            self.repair.repair(job.name, "what its parents start it by is damaged", now_s)
        if schedule is None:
            return None
        if job.mark is None or job.mark > now_s + MARK_AHEAD_S:
            self.repair.repair(job.name, _WORDS["unmarked" if job.mark is None else "ahead"], now_s)
            return None
        # What the catch-up rate holds comes back to the agenda when its turn has come.
        following = spec.due_after(max(job.mark, job.held or 0), job.ticks)
        if spec.backfill and following is not None:  # it may wait, and is looked at again in a minute
            following = max(following, int(now_s) + LOOK_AGAIN_S)
        if following is not None and (job.score is None or job.score > following + MARK_AHEAD_S):
            return following
        return None
