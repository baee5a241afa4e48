"""Mends a job that a claim or an audit found broken, so that none stays silent for longer than a few seconds.

A key that is in the way is moved aside, never destroyed. What can be derived is made again: a template from the spec, a
mark from the agenda or the ledger, an agenda entry from the mark. What is lost for good is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from cronq.beat.chores import say_once
from cronq.clock import JUMP_S
from cronq.db.faults import is_outage
from cronq.db.keys import belongs_to_rq
from cronq.definitions.changes import Changes
from cronq.definitions.sync import Defined
from cronq.errors import CronqError, SpecTooNew
from cronq.jobs.change_notes import ChangeNote
from cronq.jobs.quarantine import MARK_AHEAD_S, Quarantine
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob
from cronq.timetext import DAY_S

log = logging.getLogger("cronq.beat")


class Repair:
    """Mends one job at a time. *known* gives the specs that this process's code defines, with place and module."""

    def __init__(
        self,
        jobs: JobStore,
        quarantine: Quarantine,
        changes: Changes,
        known: Callable[[], Mapping[str, Defined]],
    ) -> None:
        self.jobs = jobs
        self.quarantine = quarantine
        self.changes = changes
        self.known = known
        self._said: dict[str, set[str]] = {}

    def repair(self, name: str, reason: str, now_s: float, key: str = "", kind: str = "") -> bool:
        """Mend the job *name*, which is broken for *reason*. Return True if it can be claimed now.

        Without a name: the keys that all jobs share; True if one of them was moved aside. *key* and *kind* are what the
        claim script named: a key, and the type it should have.
        """
        if name and isinstance(self.jobs.find([name]).get(name), SpecTooNew):
            return True  # what is in its way is for processes of that version to judge
        moved: list[str] = []
        score = self.quarantine.agenda_score(name) if name else None
        if self.quarantine.is_ours(key) and kind:
            moved = self.quarantine.move(key, kind, now_s)
        moved += self.quarantine.move_wrong_types(name or None, now_s)
        if not name:
            self._say(name, reason, moved)
            return bool(moved)
        if not self.jobs.find([name]) and not self.jobs.is_listed(name):  # removed, whatever this process's code says
            if moved:
                self._say(name, reason, moved)
            if self.quarantine.drop_ghost(name):
                log.warning("GHOST job=%s was on the agenda and is no job; taken off", name)
            return True
        self._say(name, reason, moved)
        if belongs_to_rq(key):
            return False  # RQ's keys are not ours to move: a person has to look
        try:
            return self._redefine(name, now_s) and self._remark(name, score, now_s)
        except SpecTooNew:  # stored by a newer cronq since it was looked at
            return True

    def forget(self, names: Iterable[str]) -> None:
        """Forget what was logged of these jobs: they were claimed, and what breaks next is logged again."""
        if self._said:
            for name in names:
                self._said.pop(name, None)

    def _say(self, name: str, reason: str, moved: list[str]) -> None:
        if reason not in self._said.setdefault(name, set()):  # once, not once a second
            self._said[name].add(reason)
            log.error("BROKEN job=%s %s", name or "(all)", reason)
        for each in moved:
            log.error("MEND moved %s aside for a week: it had a wrong type or value", each)

    def _redefine(self, name: str, now_s: float) -> bool:
        """Store definition and template again, from the stored spec or from this process's code. True: done."""
        stored = self.jobs.find([name]).get(name)
        try:
            if isinstance(stored, StoredJob):
                self.jobs.save(
                    stored.spec, source=stored.source, origin=stored.origin, expected=stored.version,
                    tz_is_default=stored.tz_is_default,
                )  # fmt: skip
                return True
            if name not in self.known():
                self._say(name, "its definition is lost or damaged; run `cronq sync`, or add it again", [])
                return False
            spec, source, origin, tz_is_default = self.known()[name]
            mark = self.jobs.mark_of(name)
            if mark is None or mark > now_s + MARK_AHEAD_S:
                mark = int(now_s)
            following = spec.due_after(mark, 0)
            expected = self.jobs.version_of(name)
            self.jobs.save(
                spec, source=source, origin=origin, expected=expected, mark=mark, next_tick=following,
                tz_is_default=tz_is_default, note=ChangeNote(now_s, self.changes.by, words="it was lost or damaged"),
            )  # fmt: skip
            return True
        except SpecTooNew:
            raise
        except CronqError as error:
            self._say(name, str(error), [])
            return False

    def _remark(self, name: str, score: float | None, now_s: float) -> bool:
        """Make mark and agenda entry anew; *score* is what the agenda said before.

        The agenda moves with the mark, so a lost mark was just before the agenda entry. It is never set before the
        newest tick of the ledger. Where neither is known, ticks count from now. When the server's clock went back by so
        little that beats go on, what was decided stays so; after a larger step a job would be silent for long by that.
        """
        job, decided = self.jobs.get(name), None
        mark = job.state.mark
        if job.spec.after:
            self.quarantine.look_at_trigger(name)
        if job.spec.schedule is None:
            return True
        if mark is not None and MARK_AHEAD_S < mark - now_s <= JUMP_S:
            decided = self.quarantine.decided_between(name, int(now_s), mark)
        if mark is None or mark > now_s + MARK_AHEAD_S:
            recorded = self.quarantine.newest_recorded_tick(name)
            candidates = [recorded] if recorded is not None else []
            if score is not None and now_s - 30 * DAY_S < score <= now_s + MARK_AHEAD_S:
                candidates.append(job.spec.tick_due(int(score)) - 1)
            mark = min(max(candidates), int(now_s)) if candidates else int(now_s)
        self.quarantine.restore_mark(name, mark, job.spec.due_after(mark, job.state.ticks), decided)
        return True


#: A job that cannot be claimed is looked at again after this, so that it does not crowd out the others.
_POSTPONE_S = 5.0


class BrokenJobs:
    """Has broken jobs mended by *repair*; those that cannot be mended are postponed."""

    def __init__(self, jobs: JobStore, repair: Repair) -> None:
        self.jobs = jobs
        self.repair = repair
        self._said: dict[str, str] = {}  #: what was said of jobs that could not even be mended

    def mend(self, name: str, reason: str, now_s: float, key: str = "", kind: str = "") -> None:
        """Mend the job *name*; postpone it when it stays broken. *key* and *kind* are as in `Repair.repair`."""
        try:
            is_whole = self.repair.repair(name, reason, now_s, key, kind)
        except Exception as error:
            self.postpone(name, error, now_s)
            return
        if not is_whole:
            self.jobs.postpone(name, now_s + _POSTPONE_S)

    def postpone(self, name: str, error: Exception, now_s: float) -> None:
        """Postpone a job after *error*, which kept it from being decided or mended.

        Raises *error* itself when Redis is away or refuses all: that is no fault of the job.
        """
        if is_outage(error):
            raise error
        self._said[name] = say_once(self._said.get(name, ""), f"job={name}", error)
        self.jobs.postpone(name, now_s + _POSTPONE_S)

    def decided(self, name: str) -> None:
        """Note that the job *name* could be decided: what breaks it next is logged again."""
        self._said.pop(name, None)

    def claimed(self, names: Iterable[str]) -> None:
        """Note that these jobs could be claimed: what breaks one of them next is logged again."""
        self.repair.forget(names)
