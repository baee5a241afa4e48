"""The beat: a process that turns due ticks into runs. Any number run at once, none is leader.

A beat keeps no truth in memory: every pass starts from the agenda and the marks in Redis, so a beat that is
killed, suspended, restarted or doubled changes nothing. It never ends because Redis is away.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from cronq.beat.brake import Brake
from cronq.beat.chores import Chore, do_chores, say_once
from cronq.beat.claiming import BeatStatus, Claimed, Claiming
from cronq.beat.deciding import earliest
from cronq.beat.repair import Repair
from cronq.clock import boot_s, rest
from cronq.db.faults import Backoff, Outage, is_general, is_wrong_type
from cronq.jobs.store import JobStore
from cronq.jobs.stored import DueReading

log = logging.getLogger("cronq.beat")

#: The longest a beat sleeps: a job saved meanwhile may be due.
LOOK_EVERY_S = 1.0
#: Held runs are let through some at a time: one by one each would cost a pass of every beat.
_LET_THROUGH_EVERY_S = 0.5
#: So long after a tick a beat looks at it: a look that comes just before it finds nothing.
_AFTER_S = 0.001
#: Jobs read in one pass; the rest follow at once in the next.
_MOST_JOBS = 2000


@dataclass(frozen=True)
class PassResult:
    """What one pass did."""

    codes: Mapping[str, int] = field(default_factory=dict)  #: as `Claimed.codes`
    wait_s: float = LOOK_EVERY_S  #: the next pass is to begin after this


class Beat:
    """Looks at the agenda, has what is due claimed, and does the chores.

    *serving*, *retrying* and *audit* are three of the *chores*, which a pass may make due at once: *serving* serves the
    stores of scheduled jobs, *retrying* queues runs for their next attempt, *audit* looks for damage that no claim
    would meet. *brake* lets late runs through that are held. *leave* is called when the beat ends.
    """

    def __init__(
        self,
        jobs: JobStore,
        claiming: Claiming,
        repair: Repair,
        status: BeatStatus,
        *,
        client: Redis,
        renew_epoch: Callable[[], str],
        brake: Brake | None = None,
        chores: Sequence[Chore] = (),
        serving: Chore | None = None,
        retrying: Chore | None = None,
        audit: Chore | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.jobs = jobs
        self.claiming = claiming
        self.repair = repair
        self.status = status
        self.brake = brake
        self.clock = status.clock
        self.renew_epoch = renew_epoch
        self.chores = tuple(chores)
        self.serving = serving
        self.retrying = retrying
        self.audit = audit
        self.leave = leave
        self.epoch = ""
        self._asked_boot = 0.0  # when Redis was last asked what is due
        self._are_several = False  # beats, at the last look: then they share what is due at one time
        self._passed_by = 0  # due jobs of a newer cronq that stand in front of the next pass
        self._has_said_newer = False
        self._listed = 0  # jobs on the agenda at the last look
        self._said_of_pass = ""
        self._outage = Outage(log, client, "going on trying, ticks will be caught up by their jobs' rule")

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Make pass after pass until *stop* is set. No error ends this; trouble is logged as it begins and ends."""
        wait_s = 0.0
        counted_boot = boot_s()  # from when `wait_s` counts: the chores take their time of it
        backoff = Backoff()
        while not rest(wait_s - (boot_s() - counted_boot), stop):
            is_refused = False
            try:
                wait_s = self.pass_once().wait_s
                counted_boot = boot_s()
                self._said_of_pass = ""
            except (RedisError, OSError) as error:
                is_refused = True
                self._troubled(error)
                wait_s, counted_boot = backoff.next_s(), boot_s()
                if is_general(error):
                    continue
            except Exception as error:  # a bug here must not silence every job, nor stop the chores
                self._said_of_pass = say_once(self._said_of_pass, "a pass", error)
                wait_s, counted_boot = LOOK_EVERY_S, boot_s()
            else:
                backoff.reset()
            if self.clock.offset_s is not None and self.do_chores():
                wait_s = 0.0
            if not is_refused and not any(chore.is_failing for chore in self.chores):
                self._outage.over()
        self.claiming.close()
        try:
            self.leave()
        except (RedisError, OSError) as error:
            log.warning("left without saying good-bye to Redis: %s", error)

    def pass_once(self, now_s: float | None = None) -> PassResult:
        """Claim everything that is due; *now_s* replaces the server's time in tests.

        Late runs that are held are let through as the rate allows, and claimed in the same pass.
        """
        codes: Counter[str] = Counter()
        try:
            wait_s, is_let_through = self._look(codes, now_s)
            if is_let_through:
                wait_s, _ = self._look(codes, now_s)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            moved = self.repair.repair("", "a key that all jobs share has a wrong type", self.jobs.server_now_s())
            return PassResult(codes, 0.0 if moved else LOOK_EVERY_S)
        return PassResult(codes, wait_s)

    def _look(self, codes: Counter[str], now_s: float | None) -> tuple[float, bool]:
        """Look at the agenda once and claim what is due; *codes* counts the answers.

        Returns how long to wait until the next look, and whether held runs were let through and so are due now.
        """
        reading = self._read(now_s)
        if reading is None:
            return LOOK_EVERY_S, False
        found = self.claiming.confirm()
        codes.update({"mine": found} if found else {})
        claimed = self.claiming.claim(reading)
        codes.update(claimed.codes)
        self.status.last_pass_s = reading.now_s
        self._hasten_chores(reading)
        self._pass_by(reading, claimed)
        let_through = 0
        if self.brake is not None:
            is_cut, has_line = reading.is_cut or claimed.is_cut, reading.held or claimed.held
            let_through = self.brake.let_through(is_cut, now_s) if has_line else self.brake.nothing_held()
        return 0.0 if let_through else self._wait_s(reading, claimed), let_through > 0

    @property
    def holds_runs(self) -> bool:
        """Return True if late runs were held when the last pass ended."""
        return self.brake is not None and self.brake.next_in_s is not None

    def _read(self, now_s: float | None) -> DueReading | None:
        """What is due; None while the server's clock is in doubt. An emptied Redis gets its jobs back first."""
        with_stores = self.serving is not None
        self._asked_boot = boot_s()
        reading = self.jobs.read_due(
            _MOST_JOBS,
            now_s,
            with_stores=with_stores,
            from_rank=self._passed_by,
            begin_at=random.random() if self._are_several else 0.0,
        )
        self._are_several = reading.beats > 1
        note = self.clock.observe(reading.server_s)
        if note:
            log.warning("CLOCK %s", note)
        if self.clock.holding:
            return None
        if reading.epoch != self.epoch or not reading.epoch:
            self.epoch = self.renew_epoch()
        return reading

    def _wait_s(self, reading: DueReading, claimed: Claimed) -> float:
        """How long to wait until a job, a retry or an entry of a store of scheduled jobs is due; one second at most."""
        if reading.is_cut or claimed.is_cut:
            return 0.0
        next_s = earliest(reading.next_score, claimed.next_due_s, reading.next_stored_s, reading.next_retry_s)
        # Redis tells its time before it looks through what is due. Counted from when it was asked, and not from its
        # answer, the next question is there when the tick is, however long this one took.
        passed_s = boot_s() - self._asked_boot
        if self.brake is not None and self.brake.next_in_s is not None:
            next_s = earliest(next_s, reading.now_s + passed_s + max(self.brake.next_in_s, _LET_THROUGH_EVERY_S))
        if next_s is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(0.0, next_s - reading.now_s - passed_s) + _AFTER_S)

    def _hasten_chores(self, reading: DueReading) -> None:
        """Make chores due at once: those that serve what is due, and the audit when the agenda shrank by half."""
        for chore, first in ((self.serving, reading.first_stored_s), (self.retrying, reading.first_retry_s)):
            if chore is not None and first is not None and first <= reading.now_s:
                chore.due_boot = 0.0
        if self.audit is not None and reading.listed < self._listed / 2:  # the agenda was lost, or much of it
            self.audit.due_boot = 0.0
        self._listed = reading.listed

    def _pass_by(self, reading: DueReading, claimed: Claimed) -> None:
        """Let the next pass begin behind the due jobs that a newer cronq stored, as long as more jobs are due.

        This beat leaves them on the agenda, where they would fill each pass: so they are passed by for one round.
        """
        newer = reading.newer + claimed.newer
        self._passed_by = self._passed_by + newer if reading.is_cut else 0
        if newer and not self._has_said_newer:
            self._has_said_newer = True
            log.warning("LEFT to newer beats: due jobs that a newer cronq stored (now %d); upgrade this one", newer)

    # Chores and trouble

    def do_chores(self) -> bool:
        """Do the chores that are due. Return True if one of them has more to do at once."""
        return do_chores(self.chores, self.clock.now_s, self._troubled)

    def _troubled(self, error: Exception) -> None:
        if is_general(error):
            for chore in self.chores:
                chore.outage()
        self._outage.noticed(error)
