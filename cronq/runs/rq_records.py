"""What RQ's own records say of a run that has ended: its status, the registry that lists it, its result.

RQ itself is imported when a record is written: to import it takes as long as the rest of `cronq exec`, whose runs have
none.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cronq.db.keys import rq_canceled, rq_failed, rq_finished
from cronq.runs.run import Ending, Run
from cronq.timetext import DAY_S, utc

if TYPE_CHECKING:
    from redis import Redis

#: Most seconds that RQ keeps the record of a run that never began. It says nothing that the ledger does not, and a job
#: whose lock is always busy would leave tens of thousands of them.
_CANCELED_LIFE_S = DAY_S
#: How long RQ keeps its record of a run that succeeded, or did not, when nobody knows its job.
_RESULT_LIFE_S, _FAILURE_LIFE_S = 7 * DAY_S, 30 * DAY_S
#: RQ's status for the outcomes that it has a word for; the others are `canceled`.
_RQ_STATUS = {
    "succeeded": "finished",
    "failed": "failed",
    "timed_out": "failed",
    "lost": "failed",
    "stopped": "stopped",
}


class RQRecord(NamedTuple):
    """Where RQ's tools find a run that has ended."""

    status: str
    registry: str  #: key of the registry that lists it
    life_s: int


def in_rq(queue: str, ending: Ending) -> RQRecord:
    """What RQ's own records say of a run of *queue* from *ending* on."""
    status, life_s = _RQ_STATUS.get(ending.settlement.outcome, "canceled"), ending.record_life_s
    if status == "finished":
        return RQRecord(status, rq_finished(queue), _RESULT_LIFE_S if life_s is None else life_s)
    life_s = _FAILURE_LIFE_S if life_s is None else life_s
    # RQ's word for one that was stopped before it began is "canceled", too.
    if status == "canceled" or (status == "stopped" and ending.expect != "running"):
        return RQRecord("canceled", rq_canceled(queue), min(life_s, _CANCELED_LIFE_S))
    return RQRecord(status, rq_failed(queue), life_s)


def result_fields(run: Run, ending: Ending) -> list[str] | None:
    """Field, value, … of RQ's result stream, in RQ's own serialisation; None when there is nothing to tell.

    Without a stream RQ's tools read a finished job as one that returned None. An earlier attempt may have left its
    error there: that is not to be the last word.
    """
    from rq.results import Result

    settlement, execution = ending.settlement, ending.execution
    good = settlement.outcome == "succeeded"
    if good and settlement.return_value is None and run.attempt == 1:
        return None
    started: datetime | None = utc(run.started_at) if run.started_at is not None else None
    result = Result(
        job_id=run.run_id,
        type=Result.Type.SUCCESSFUL if good else Result.Type.FAILED,
        connection=cast("Redis", None),  # only saving it would need one
        return_value=settlement.return_value if good else None,
        exc_string=None if good else (settlement.error or settlement.reason),
        worker_name=run.worker or "",
        execution_id=execution,
        execution_started_at=started if execution else None,
        execution_ended_at=utc(ending.now_s) if execution else None,
    )
    return _flat(result.serialize())


def rejection_fields(run_id: str, reason: str, by: str) -> list[str]:
    """The same for an id that may not be executed, which *by* has set aside."""
    from rq.results import Result

    nobody = cast("Redis", None)  # only saving it would need a connection
    return _flat(Result(run_id, Result.Type.FAILED, nobody, worker_name=by, exc_string=reason).serialize())


def send_stop_job(client: Redis, worker: str, run_id: str) -> None:
    """Send RQ's own command to end *run_id* to the stock worker of that name."""
    from rq.command import send_command

    send_command(client, worker, "stop-job", job_id=run_id)


def _flat(fields: dict[str, Any]) -> list[str]:
    return [part for name, value in fields.items() for part in (name, str(value))]
