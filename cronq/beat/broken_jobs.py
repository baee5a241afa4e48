"""What a beat does with a due job that cannot be claimed: it has it mended, or postpones it.

Nothing about one job stops another. Whatever is wrong is logged once, and the job is looked at again later.
"""

from __future__ import annotations

from collections.abc import Iterable

from cronq.beat.chores import say_once
from cronq.beat.repair import Repair
from cronq.db.faults import is_outage
from cronq.jobs.store import JobStore

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
