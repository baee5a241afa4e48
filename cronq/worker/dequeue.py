"""How a worker takes its next run, and tells how the last one ended: with one call, whatever the number of queues.

Each look is one round trip and none blocks in Redis, where an id could be served to a worker that is cut off. An id
that is popped is safe in RQ's intermediate list; one popped by BLPOP dies with its worker.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from cronq.clock import boot_s
from cronq.db import scripts
from cronq.db.faults import did_not_arrive
from cronq.db.keys import rq_intermediate, rq_queue
from cronq.runs.exchange import Begun, Offer, Taken
from cronq.worker.desk import Desk
from cronq.worker.settle import Settler
from cronq.worker.waking import Waking

log = logging.getLogger("cronq.worker")


class Dequeue:
    """Hands the ends that *settler* keeps in at *desk* for the worker *name*, and takes what it is to do next.

    An offer that was sent and not answered stays the same: whatever Redis made of it is heard with the next call.
    *is_leaving* says whether the worker is to take no more.

    One that *goes_ahead* takes its next run, when more are queued, as soon as the guardian says that the work of the
    present one went well (`look_ahead`), and tells of the end while the next one is at work (`catch_up`). When the
    present one takes long to end all the same, the next one goes back to its queue (`withdraw`).
    """

    def __init__(
        self,
        client: Redis,
        desk: Desk,
        settler: Settler,
        name: str,
        is_leaving: Callable[[], bool] = lambda: False,
        *,
        goes_ahead: bool = False,
    ) -> None:
        self.client = client
        self.desk = desk
        self.settler = settler
        self.name = name
        self.is_leaving = is_leaving
        self.goes_ahead = goes_ahead
        self.waking = Waking(client)
        self.held: str | None = None  #: why this worker was to take nothing at the last look, in words
        self.is_busy = False  #: the last look found a run that had been queued already, so there may be another
        self._names: Sequence[str] = ()
        self._ahead: Begun | Taken | None = None  #: what is to be next, taken while the present run was about to end
        self._offer: Offer | None = None  #: sent, and not answered
        self._unwanted: Begun | None = None  #: started when this worker was already to leave
        self._offered_boot_s: float | None = None  #: when it was sent first, if it was not answered then
        self._give_back: Any = scripts.load(client, "queue/give_back")

    @property
    def owes(self) -> bool:
        """Whether Redis is to hear of the end of a run, or of one that is not wanted, or did not answer an offer."""
        is_held = self._ahead is not None or self._unwanted is not None
        return bool(self.settler.unsettled) or self._offer is not None or is_held

    def take(self, names: Sequence[str], wait_s: float) -> Begun | Taken | None:
        """Take the next run or id of the queues *names*; None when there comes none within *wait_s*.

        What cronq's scripts queue wakes it at once; what others push is seen with the next call. Raises RedisError.
        """
        self._names = names
        if self._unwanted is not None:
            self._put_back(self._unwanted)
        if self._ahead is not None and not self.is_leaving():
            return self._take_ahead()
        until = boot_s() + wait_s
        found = None
        self.waking.begin(names)
        try:
            if self._has_to_look(wait_s):
                found = self._look(names)
                self.is_busy = self.goes_ahead and found is not None
            else:
                until = min(until, self.waking.next_look_boot_s())
            while found is None and self.held is None and self.waking.is_time(names, until):
                self.is_busy = False
                found = self._look(names)
        finally:
            self.waking.end(has_found=found is not None)
        return found

    def _has_to_look(self, wait_s: float) -> bool:
        """Return False if another worker of this process has just looked for both, and this one has nothing to say."""
        has_to_say = not wait_s or self.owes or self.held is not None or self.is_leaving()
        return has_to_say or self.waking.is_due()

    def finish(self) -> Begun | Taken | None:
        """Hand in what is unwritten and take nothing; return what an earlier offer has taken. Raises RedisError."""
        self._give_back_ahead()
        return self._hand_in(()) if self.owes else None

    def catch_up(self) -> None:
        """Tell of the ends that the present run did not wait for; what is not answered is told again with the next."""
        if not self.settler.unsettled:
            return
        try:
            receipt = self.desk.settle_and_take(self.settler.ends(), None, ())
        except (RedisError, OSError) as error:
            self.settler.hear_nothing(error)
        else:
            self.settler.hear(receipt.ends)

    @property
    def is_behind(self) -> bool:
        """Return True if Redis has not heard yet how an earlier run ended."""
        return bool(self.settler.unsettled)

    def look_ahead(self) -> None:
        """Take what is to be next: the work of the present run went well, and it is about to end."""
        if self._offer is not None or self._ahead is not None or self._unwanted is not None or self.is_leaving():
            return
        self._offer, self._offered_boot_s = Offer(self.name, secrets.token_hex(16), is_ahead=True), None
        sent_boot = boot_s()
        try:
            receipt = self.desk.settle_and_take(self.settler.ends(), self._offer, self._names)
        except (RedisError, OSError) as error:  # the next call finds out what became of it
            self._hear_nothing(error, sent_boot)
            return
        self.settler.hear(receipt.ends)
        self._offer, self._ahead = None, receipt.start
        self.is_busy = receipt.start is not None

    def withdraw(self) -> None:
        """Give back what was taken ahead: the present run goes on longer than it seemed."""
        try:
            if self._offer is not None:
                self._ahead = self._hand_in(())
            self._give_back_ahead()
        except (RedisError, OSError) as error:  # it is owed further, and tried again in a second
            log.debug("what was taken ahead is not given back yet: %s", error)

    def _give_back_ahead(self) -> None:
        if self._unwanted is not None:
            self._put_back(self._unwanted)
        found, self._ahead = self._ahead, None
        if found is not None:
            self.give_back(found)

    def _take_ahead(self) -> Begun | Taken | None:
        """What was taken before the last run had ended; the end goes first if others may wait for it."""
        found, self._ahead = self._ahead, None
        if isinstance(found, Begun):
            found = self._knowing_of_ends(found)
        if isinstance(found, Taken) or not all(each.may_come_later for each in self.settler.unsettled):
            self.catch_up()
        return found

    def abandon(self) -> None:
        """Give up what Redis does not answer to."""
        self.settler.abandon()
        if self._offer is not None:
            log.warning("ABANDONED an offer: if Redis has started a run by it, that run is lost or rerun soon")
            self._offer = None
        for each in (self._unwanted, self._ahead):
            if isinstance(each, Begun):
                log.warning("ABANDONED %s, which had been started: it is lost or rerun soon", each.run.run_id)
        self._unwanted = self._ahead = None

    def _look(self, names: Sequence[str]) -> Begun | Taken | None:
        if self.is_leaving():
            return self.finish()
        if self._offer is None:
            self._offer, self._offered_boot_s = Offer(self.name, secrets.token_hex(16)), None
        return self._hand_in(names)

    def _knowing_of_ends(self, begun: Begun) -> Begun:
        """*begun*, with what its run is told of those before it: Redis has not heard of all of them."""
        state = begun.job.state
        for each in self.settler.unsettled:
            run, ending = each.run, each.ending
            if run.job == begun.run.job and ending.retry is None:
                state = state.after_end(run.run_id, run.tick, each.outcome, ending.now_s)
        return replace(begun, job=replace(begun.job, state=state))

    def _hand_in(self, names: Sequence[str]) -> Begun | Taken | None:
        sent_boot = boot_s()
        try:
            receipt = self.desk.settle_and_take(self.settler.ends(), self._offer, names)
        except (RedisError, OSError) as error:
            self._hear_nothing(error, sent_boot)
            raise
        self._offer = None
        self.held = receipt.held
        self.settler.hear(receipt.ends)
        if receipt.trouble is not None:
            raise receipt.trouble
        found = receipt.start
        if isinstance(found, Begun) and self._offered_boot_s is not None:
            # It may have begun with the first sending, and its lock may be as old.
            found = replace(found, sent_boot_s=self._offered_boot_s)
        return found

    def _hear_nothing(self, error: Exception, sent_boot: float) -> None:
        self.settler.hear_nothing(error)
        if self._offered_boot_s is None:
            if did_not_arrive(error):
                self._offer = None
            else:
                self._offered_boot_s = sent_boot

    def give_back(self, found: Begun | Taken) -> None:
        """Put what was taken, and will not be served, back at the head of its queue. Raises RedisError.

        A run that has been started is owed until that is done.
        """
        if isinstance(found, Begun):
            self._unwanted = found
            self._put_back(found)
        else:
            self._give_back(keys=[rq_intermediate(found.queue), rq_queue(found.queue)], args=[found.raw_id, "LPUSH"])

    def _put_back(self, begun: Begun) -> None:
        taken = self.desk.undo_start(begun)
        self._unwanted = None
        if taken is not None:
            self.give_back(taken)

    def leave_to_newer(self, queue: str, raw_id: Any, job: str) -> None:
        """Put an id back at the tail of its queue for a newer worker, and take none of *job* for some seconds."""
        self.desk.leave_alone(job)
        self._give_back(keys=[rq_intermediate(queue), rq_queue(queue)], args=[raw_id, "RPUSH"])
