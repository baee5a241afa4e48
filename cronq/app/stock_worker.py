"""Runs under a stock `rq worker`, which has no guardian: this keeps the ledger, and refuses what needs guarding."""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rq import get_current_job
from rq.timeouts import JobTimeoutException

from cronq.app.app import Cronq, default_app
from cronq.errors import CronqError, RunRefused, UnknownRun
from cronq.jobs.spec import JobSpec
from cronq.run_context import CurrentRun, Snooze, enter_run
from cronq.runs.retry import next_retry
from cronq.runs.run import RAN_TO_ITS_END, Ending, Run, Settlement, Start, record_life_s
from cronq.timetext import format_duration
from cronq.worker.child import call, describe_error
from cronq.worker.command import further_words, order_of, prepare

log = logging.getLogger("cronq.worker")

#: Nobody renews the run, so it counts as heard of until so many seconds after its timeout.
_SPARE_S = 60
#: RQ writes its own record of a failure after the ledger has it; no next attempt begins before.
_RQ_WRITES_S = 5.0


def perform(job_name: str, args_json: str) -> Any:
    """Do the work of RQ's current job, for a stock `rq worker`: this is the function that the RQ job of each run names.

    `cronq.Worker` does not call it: there a guardian has a child do the work. The run is found by RQ's current job id,
    the callable among the jobs of CRONQ_JOBS; the ledger has the outcome before RQ does. Raises RunRefused for a job
    that needs a guardian, UnknownRun, or what the job raises.
    """
    rq_job = get_current_job()
    if rq_job is None:
        raise RunRefused(f"job {job_name!r}: cronq.perform is called by workers only")
    app = default_app()
    app.load_jobs()
    run = app.runs.find(rq_job.id)
    worker = rq_job.worker_name or "rq worker"
    if run is None and app.requeued.readmit(rq_job.id, rq_job.origin, by=worker, now_s=app.now_s(), status="started"):
        run = app.runs.find(rq_job.id)
    if run is None or run.job != job_name:
        raise UnknownRun(f"{rq_job.id} is not in the ledger; queue runs with cronq, not by their id")
    spec = app.jobs.get(job_name).spec
    started = _start(app, run, spec, worker)
    try:
        _refuse(spec, no_commands=app.config.no_commands)
        value = _work(app, spec, started, args_json)
        if isinstance(value, Snooze):
            raise RunRefused(f"job {job_name!r} snoozes, which needs `cronq worker`: a stock rq worker cannot")
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code:
            _settle(app, started, spec, _failure(error, spec))
            raise
        value = None  # `sys.exit(0)` is success, as in any program
    _settle(app, started, spec, Settlement("succeeded", RAN_TO_ITS_END, return_value=value))
    return value


def _refuse(spec: JobSpec, *, no_commands: bool) -> None:
    if no_commands and spec.command is not None:
        raise RunRefused(f"job {spec.name!r} is a command, and this worker runs none (CRONQ_NO_COMMANDS)")
    if spec.exclusive:
        raise RunRefused(
            f"job {spec.name!r} is exclusive and a stock rq worker cannot hold its lock; "
            "serve its queue with `cronq worker` or `rq worker --worker-class cronq.Worker`"
        )


def _start(app: Cronq, run: Run, spec: JobSpec, worker: str) -> Run:
    now_s = app.now_s()
    start = Start(
        worker,
        app.config.host,
        os.getpid(),
        execution=secrets.token_hex(16),
        lease_s=int(spec.timeout) + _SPARE_S,
        now_s=now_s,
        stock=True,
        once=spec.at_most_once,
    )
    started = app.runs.start(run, start)
    if started.code == "begun":
        raise RunRefused(f"{run.run_id} was started before, and its job asks for at_most_once")
    if started.code != "started":
        raise RunRefused(f"{run.run_id} is not to be run: {started.code} {started.detail}")
    retried = 0 if run.state == "done" else run.retried  # a person who requeues it begins anew
    return replace(run, state="running", started_at=now_s, worker=worker, attempt=started.attempt, retried=retried)


def _past(app: Cronq, run: Run) -> dict[str, Any]:
    """What the run is told of those before it."""
    state = app.jobs.get(run.job).state
    return state.past | {"previous_success": app.runs.success_before(run, state.success_tick)}


def _work(app: Cronq, spec: JobSpec, run: Run, args_json: str) -> Any:
    current = CurrentRun(
        job=run.job,
        run_id=run.run_id,
        tick=run.tick,
        attempt=run.attempt,
        host=app.config.host,
        fence=None,
        previous_tick=spec.tick_before(run.tick),
        **_past(app, run),
    )
    enter_run(current)
    if spec.command is not None:
        _execute(spec, current, further_words(args_json))
        return None
    args, kwargs = json.loads(args_json)
    return call(app.registry.function_of(spec.name), args, kwargs)


def _execute(spec: JobSpec, current: CurrentRun, further: Sequence[str] = ()) -> None:
    command = prepare(order_of(spec), current.environment(), further)
    if command.account is not None:
        raise RunRefused(
            f"job {spec.name!r} is to run as {command.account.pw_name} and a stock rq worker changes no user; "
            "serve its queue with `cronq worker` or `rq worker --worker-class cronq.Worker`"
        )
    text = (command.stdin or "").encode("utf-8", "surrogateescape")
    subprocess.run(command.words, check=True, env=command.env, cwd=command.cwd, input=text)


def _failure(error: BaseException, spec: JobSpec) -> Settlement:
    if isinstance(error, JobTimeoutException):
        return Settlement("timed_out", f"it ran longer than its timeout of {format_duration(spec.timeout)}")
    described = describe_error(error)
    code = None
    if isinstance(error, subprocess.CalledProcessError):
        code = error.returncode
    elif isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
    text = described["error"] if isinstance(error, CronqError) else described["traceback"]
    return Settlement("failed", described["error"], exit_code=code, error=text)


def _settle(app: Cronq, run: Run, spec: JobSpec, settlement: Settlement) -> None:
    by, life_s = f"worker {run.worker}", record_life_s(settlement.outcome, spec, run.tick)
    retry = next_retry(spec, settlement.outcome, run.retried, run_id=run.run_id, attempt=run.attempt)
    if retry is not None:  # not before RQ has written that it failed
        retry = replace(retry, after_s=max(retry.after_s, _RQ_WRITES_S))
        if retry.after_s > life_s:
            kept = f"RQ's record of its failure lives only {format_duration(life_s)}; raise failure_ttl"
            settlement, retry = replace(settlement, reason=f"{settlement.reason}; not retried: {kept}"), None
    ending = Ending(settlement, by, app.now_s(), attempt=run.attempt, stock=True, retry=retry, record_life_s=life_s)
    if not app.runs.settle(run, ending):
        log.error("UNSETTLED %s: somebody else has settled it meanwhile; it ended %s", run.run_id, settlement.outcome)
