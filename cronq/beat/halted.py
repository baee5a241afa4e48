"""Says which jobs with `backfill` are halted by a tick that did not succeed: in the log, once for each such tick."""

from __future__ import annotations

import logging
from collections import OrderedDict

from cronq.outcomes import OUTCOMES

log = logging.getLogger("cronq.beat")

#: So many jobs are remembered; of more some are told of twice.
_MOST = 10_000


class HaltedJobs:
    """What one beat has said of halted jobs."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, str] = OrderedDict()  #: by job the run that was told of last

    def note(self, job: str, run_id: str, word: str) -> None:
        """Note that the next tick of *job* waits for *run_id*, whose state or outcome is *word*."""
        if word not in OUTCOMES or self._said.get(job) == run_id:
            return
        log.warning("HALTED job=%s: %s %s, and its later ticks wait until that has succeeded", job, run_id, word)
        self._said[job] = run_id
        while len(self._said) > _MOST:
            self._said.popitem(last=False)
