"""A run that failed with retries left: it waits for its next attempt, has it once, and ends with the last one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry, FailedJobRegistry, ScheduledJobRegistry

from cronq.app.app import Cronq
from cronq.clock import boot_s
from cronq.jobs.spec import JobSpec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.lost import RERUN, settle_or_rerun
from cronq.runs.retry import next_retry, next_snooze
from cronq.runs.run import Ending, Run, Settlement, Start
from cronq.runs.stop import stop_run
from cronq.runs.store import RETRYING, SETTLED

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
RUN = "fetch-20260105T070000Z"
QUEUE, POPPED = "rq:queue:default", "rq:queue:default:intermediate"


class Stage:
    """The run of one tick of the job `fetch`, which is tried three times a minute apart."""

    def __init__(self, app: Cronq, redis: Redis, store: Store, **options: Any) -> None:
        self.app, self.redis = app, redis
        self.spec = store("fetch", mark=T - 1, retries=2, **options)
        self.executions = 0
        self.claim(T)

    def claim(self, tick: int) -> str:
        version = self.app.jobs.version_of("fetch")
        claim = TickClaim(self.spec, version, Decision(tick, None, "due", "schedule", tick + 60))
        [answer] = self.app.claimer("beat").claim_due([claim], f"token {tick}", tick + 0.5)
        return answer.detail

    @property
    def run(self) -> Run:
        return self.app.runs.get(RUN)

    def start(self, now_s: float) -> str:
        """A worker takes the run and begins it."""
        self.redis.lmove(QUEUE, POPPED, "LEFT", "RIGHT")
        self.executions += 1
        execution = f"e{self.executions}"
        start = Start("w", "box", 1, execution, 90, now_s, seen_s=now_s)
        return self.app.runs.start(self.run, start).code

    def ending(self, outcome: str, now_s: float, **options: Any) -> Ending:
        run = self.run
        retry = next_retry(self.spec, outcome, run.retried, run_id=RUN, attempt=run.attempt)
        settlement = Settlement(outcome, "why", exit_code=3, error="E", return_value=None)
        return Ending(
            settlement, "worker w", now_s, attempt=run.attempt, execution=f"e{self.executions}", retry=retry, **options
        )

    def end(self, outcome: str, now_s: float) -> str:
        return self.app.runs.end(self.run, self.ending(outcome, now_s))

    def fail(self, now_s: float) -> None:
        assert self.start(now_s) == "started"
        assert self.end("failed", now_s + 1) == RETRYING

    def beat(self, now_s: float) -> None:
        """What a beat does of it when it is due."""
        self.app.retrying.once(now_s)

    def queued(self) -> list[str]:
        return [run_id.decode() for run_id in self.redis.lrange(QUEUE, 0, -1)]

    def events(self) -> list[str]:
        return [fields[b"type"].decode() for _, fields in self.redis.xrange(self.app.keys.events)][1:]


@pytest.fixture
def stage(app: Cronq, redis: Redis, store: Store) -> Stage:
    return Stage(app, redis, store)


# The course


def test_a_run_that_failed_waits_for_its_next_attempt(stage: Stage) -> None:
    stage.fail(T + 1)

    run = stage.run
    assert (run.state, run.outcome, run.attempt, run.retry_at) == ("retrying", None, 2, T + 62)
    assert run.reason == "retry 1 of 2 after 1m; the attempt before failed: why"
    [attempt] = run.attempts
    assert (attempt.attempt, attempt.outcome, attempt.reason, attempt.exit_code) == (1, "failed", "why", 3)
    assert (attempt.started_at, attempt.ended_at, attempt.host) == (T + 1, T + 2, "box")
    assert stage.app.runs.active(["fetch"]) == {"fetch": {RUN: "retrying"}}
    assert stage.redis.zscore(stage.app.keys.running, RUN) is None
    assert stage.redis.ttl(stage.app.keys.run(RUN)) == -1, "an open run does not expire"
    assert stage.queued() == []
    assert not stage.redis.exists(POPPED)
    assert stage.events() == ["queued", "started", "retrying"]


def test_it_is_queued_when_it_is_due_and_not_before(stage: Stage) -> None:
    stage.fail(T + 1)

    stage.beat(T + 61.9)
    assert (stage.run.state, stage.queued()) == ("retrying", [])

    stage.beat(T + 62)
    assert (stage.run.state, stage.queued(), stage.run.retry_at) == ("queued", [RUN], None)
    assert stage.app.runs.active(["fetch"]) == {"fetch": {RUN: "queued"}}
    assert not stage.redis.exists(stage.app.keys.retries)


def test_two_beats_queue_it_once(stage: Stage) -> None:
    stage.fail(T + 1)

    stage.beat(T + 62)
    stage.redis.zadd(stage.app.keys.retries, {RUN: T + 62})  # as the other one has read it
    stage.beat(T + 62)

    assert stage.queued() == [RUN]
    assert not stage.redis.exists(stage.app.keys.retries)


def test_the_last_attempt_decides(stage: Stage) -> None:
    for number in range(2):
        stage.fail(T + 100 * number + 1)
        stage.beat(T + 100 * number + 62)
    assert stage.start(T + 201) == "started"

    assert stage.end("failed", T + 202) == SETTLED

    run = stage.run
    assert (run.state, run.outcome, run.attempt, run.reason) == ("done", "failed", 3, "why")
    assert [attempt.outcome for attempt in run.attempts] == ["failed", "failed"]
    assert stage.redis.ttl(stage.app.keys.run(RUN)) > 0
    assert stage.app.runs.active(["fetch"]) == {"fetch": {}}
    assert stage.app.jobs.get("fetch").state.streak == -1


def test_only_the_final_outcome_counts_for_its_job(stage: Stage) -> None:
    stage.fail(T + 1)
    state = stage.app.jobs.get("fetch").state
    assert (state.streak, state.last_outcome) == (0, None)
    stage.beat(T + 62)
    stage.start(T + 63)

    assert stage.end("succeeded", T + 64) == SETTLED

    state = stage.app.jobs.get("fetch").state
    assert (state.streak, state.last_outcome, state.success_tick) == (1, "succeeded", T)


def test_the_row_of_one_that_ended_well_keeps_nothing_of_its_retries(stage: Stage) -> None:
    stage.fail(T + 1)
    stage.beat(T + 62)
    stage.start(T + 63)
    stage.end("succeeded", T + 64)

    row = stage.redis.hgetall(stage.app.keys.run(RUN))
    assert {b"retried", b"retry_at"} & set(row) == set()
    assert (stage.run.outcome, stage.run.attempt, stage.run.lateness_s) == ("succeeded", 2, 63.0)


def test_the_next_tick_overlaps_with_one_that_is_retrying(stage: Stage) -> None:
    stage.fail(T + 1)

    assert stage.claim(T + 60) == "skipped"

    row = stage.app.runs.run_at("fetch", T + 60)
    assert row is not None
    assert row.reason == f"the run {RUN} was still retrying"


def test_a_tick_that_waits_for_its_turn_waits_for_the_last_attempt(app: Cronq, redis: Redis, store: Store) -> None:
    stage = Stage(app, redis, store, overlap="queue")
    assert stage.claim(T + 60) == "waiting"

    stage.fail(T + 1)
    assert stage.queued() == []
    stage.beat(T + 62)
    assert stage.queued() == [RUN]
    stage.start(T + 63)
    assert stage.end("succeeded", T + 64) == SETTLED

    assert stage.queued() == ["fetch-20260105T070100Z"]


def test_the_schedule_stays_where_it_is(stage: Stage) -> None:
    before = stage.app.jobs.mark_of("fetch"), stage.redis.zscore(stage.app.keys.agenda, "fetch")

    stage.fail(T + 1)
    stage.beat(T + 62)

    assert (stage.app.jobs.mark_of("fetch"), stage.redis.zscore(stage.app.keys.agenda, "fetch")) == before


def test_a_paused_job_goes_on_with_the_run_that_has_begun(stage: Stage) -> None:
    stage.fail(T + 1)
    stage.app.pause("fetch")

    stage.beat(T + 62)

    assert stage.queued() == [RUN]


def test_a_rerun_after_a_lost_worker_is_no_retry(stage: Stage) -> None:
    stage.fail(T + 1)
    stage.beat(T + 62)
    stage.start(T + 63)

    assert settle_or_rerun(stage.app.runs, stage.run, stage.ending("lost", T + 70), 3) == RERUN

    assert (stage.run.attempt, stage.run.retried, stage.run.crashes) == (3, 1, 1)
    stage.start(T + 80)
    assert stage.end("failed", T + 81) == RETRYING
    assert (stage.run.attempt, stage.run.retried, stage.run.crashes) == (4, 2, 1)


def test_a_person_who_requeues_it_begins_anew(stage: Stage) -> None:
    for number in range(2):
        stage.fail(T + 100 * number + 1)
        stage.beat(T + 100 * number + 62)
    stage.start(T + 201)
    stage.end("failed", T + 202)

    FailedJobRegistry("default", connection=stage.redis).requeue(RUN)
    stage.app.requeued.reopen([RUN], T + 300)

    assert (stage.run.state, stage.run.attempt, stage.run.retried) == ("queued", 4, 0)


# Snoozing


def doze(stage: Stage, now_s: float) -> str:
    """The attempt at work asks for another one after half a minute."""
    run = stage.run
    settlement = Settlement("stopped", "it asked for another attempt after 30s", snooze_s=30.0)
    retry = next_snooze(stage.spec, 30.0, run.retried, attempt=run.attempt, snoozed_s=0.0)
    assert not isinstance(retry, str)
    ending = Ending(settlement, "worker w", now_s, attempt=run.attempt, execution=f"e{stage.executions}", retry=retry)
    return stage.app.runs.end(run, ending)


def test_a_run_that_snoozes_has_its_next_attempt_and_all_its_retries(stage: Stage) -> None:
    stage.fail(T + 1)
    stage.beat(T + 62)
    stage.start(T + 63)

    assert doze(stage, T + 64) == RETRYING

    run = stage.run
    assert (run.state, run.attempt, run.retry_at, run.retried) == ("retrying", 3, T + 94, 1)
    assert run.reason == "it asked for another attempt after 30s"
    assert (run.attempts[-1].outcome, run.attempts[-1].reason) == (None, "it asked for another attempt after 30s")
    stage.beat(T + 94)
    assert stage.queued() == [RUN]


def test_it_is_known_since_when_a_run_snoozes_until_it_ends(stage: Stage) -> None:
    stage.start(T + 1)
    doze(stage, T + 2)
    assert stage.run.snoozed_since == T + 2
    stage.beat(T + 32)
    stage.start(T + 33)
    doze(stage, T + 34)
    assert stage.run.snoozed_since == T + 2
    stage.beat(T + 70)
    stage.fail(T + 71)
    assert stage.run.snoozed_since == T + 2, "a failure in between begins no new time"
    stage.beat(T + 200)
    stage.start(T + 201)
    stage.end("succeeded", T + 202)

    assert b"snoozed_since" not in stage.redis.hgetall(stage.app.keys.run(RUN))
    assert stage.run.outcome == "succeeded"


def test_one_that_snoozes_and_was_asked_to_stop_is_stopped(stage: Stage) -> None:
    stage.start(T + 1)
    stage.app.runs.ask_to_stop(RUN, "ann@box")

    assert doze(stage, T + 2) == SETTLED

    assert (stage.run.outcome, stage.run.attempt) == ("stopped", 1)
    assert stage.run.reason == "it asked for another attempt after 30s; not retried: ann@box asked it to stop"


# The end of an attempt, told twice or beside others


def test_the_end_that_is_told_again_because_its_reply_was_lost_is_the_same_end(stage: Stage) -> None:
    stage.start(T + 1)
    run, ending = stage.run, stage.ending("failed", T + 2)

    assert [stage.app.runs.end(run, ending) for _ in range(2)] == [RETRYING, RETRYING]

    assert (stage.run.attempt, len(stage.run.attempts)) == (2, 1)
    assert stage.events() == ["queued", "started", "retrying"]


def test_a_run_that_somebody_asked_to_stop_is_not_tried_again(stage: Stage) -> None:
    stage.start(T + 1)
    stage.app.runs.ask_to_stop(RUN, "ann@box")

    assert stage.end("failed", T + 2) == SETTLED

    assert (stage.run.outcome, stage.run.reason) == ("failed", "why; not retried: ann@box asked it to stop")


def test_a_run_that_is_being_replaced_is_not_tried_again(app: Cronq, redis: Redis, store: Store) -> None:
    stage = Stage(app, redis, store, overlap="replace")
    stage.start(T + 1)
    assert stage.claim(T + 60) == "waiting"

    assert stage.end("failed", T + 61) == SETTLED

    assert stage.run.reason == "why; not retried: replaced by the run fetch-20260105T070100Z"
    assert stage.queued() == ["fetch-20260105T070100Z"]


def test_a_run_whose_rq_job_is_gone_is_not_tried_again(stage: Stage) -> None:
    stage.start(T + 1)
    stage.redis.delete(f"rq:job:{RUN}")

    assert stage.end("failed", T + 2) == SETTLED

    assert (stage.run.outcome, stage.run.reason) == ("failed", "why; not retried: its RQ job is gone")


def test_a_run_whose_job_was_removed_is_not_tried_again(stage: Stage) -> None:
    stage.start(T + 1)
    stage.app.remove("fetch")

    assert stage.end("failed", T + 2) == SETTLED

    assert stage.run.reason == "why; not retried: its job was removed"


def test_a_run_that_was_called_lost_meanwhile_is_not_tried_again(stage: Stage) -> None:
    stage.start(T + 1)
    stage.app.runs.settle(stage.run, Ending(Settlement("lost", "gone"), "beat", T + 40, attempt=1))

    assert stage.end("failed", T + 50) == SETTLED

    assert (stage.run.outcome, stage.run.reason) == ("failed", "why; not retried: it was called lost meanwhile")


# Stopping, deleting, damage


def test_stopping_it_ends_it_at_once(stage: Stage) -> None:
    stage.fail(T + 1)

    assert stop_run(stage.app.runs, stage.run, stage.app.requeued.reopen, by="ann@box", now_s=T + 10)

    run = stage.run
    assert (run.outcome, run.reason) == ("stopped", "ann@box stopped it before its next attempt began")
    assert not stage.redis.exists(stage.app.keys.retries)
    assert stage.app.runs.active(["fetch"]) == {"fetch": {}}
    state = stage.app.jobs.get("fetch").state
    assert (state.last_outcome, state.streak) == ("stopped", 0)
    stage.beat(T + 62)
    assert stage.queued() == []


def test_removing_its_job_ends_it(stage: Stage) -> None:
    stage.fail(T + 1)

    assert stage.app.remove("fetch") == 1

    assert (stage.run.outcome, stage.run.reason) == ("stopped", "the job was removed")
    assert not stage.redis.exists(stage.app.keys.retries, "cronq:job:fetch:active")


def test_one_of_a_job_that_is_being_removed_is_left_to_that(stage: Stage) -> None:
    stage.fail(T + 1)
    stage.redis.rename("cronq:job:fetch:active", "cronq:removed:fetch:active")

    stage.beat(T + 62)

    assert stage.queued() == []
    assert not stage.redis.exists("cronq:job:fetch:active")


@pytest.mark.parametrize(
    ("act", "reason"),
    [(Job.delete, "removed from its queue"), (Job.cancel, "cancelled with RQ's tools")],
    ids=["deleted", "cancelled"],
)
def test_one_that_was_taken_away_with_rqs_tools_is_stopped_when_it_is_due(
    stage: Stage, act: Callable[[Job], None], reason: str
) -> None:
    stage.fail(T + 1)
    act(Job.fetch(RUN, connection=stage.redis))

    stage.beat(T + 62)

    assert (stage.run.outcome, stage.run.reason, stage.run.decided_by) == ("stopped", reason, "rq")
    assert not stage.redis.exists(stage.app.keys.retries)
    assert stage.queued() == []


def test_rqs_own_records_call_it_scheduled(stage: Stage) -> None:
    stage.fail(T + 1)

    job = Job.fetch(RUN, connection=stage.redis)
    assert job.get_status() == JobStatus.SCHEDULED
    assert not job.worker_name
    assert stage.redis.ttl(f"rq:job:{RUN}") == -1
    for registry in (FailedJobRegistry, CanceledJobRegistry, ScheduledJobRegistry):
        assert registry("default", connection=stage.redis).get_job_ids(cleanup=False) == []
    assert not stage.redis.exists("rq:wip:default", f"rq:executions:{RUN}", f"rq:execution:{RUN}:e1")

    stage.beat(T + 62)

    assert Job.fetch(RUN, connection=stage.redis).get_status() == JobStatus.QUEUED


def test_a_stray_id_of_one_that_is_retrying_is_dropped(stage: Stage) -> None:
    stage.fail(T + 1)
    stage.redis.rpush(QUEUE, RUN)

    assert stage.start(T + 10) == "retrying"

    assert not stage.redis.exists(POPPED)
    assert (stage.run.state, stage.run.attempt) == ("retrying", 2)


def test_one_that_a_person_queues_with_rqs_tools_begins_at_once(stage: Stage) -> None:
    stage.fail(T + 1)
    stage.redis.hset(f"rq:job:{RUN}", "status", "queued")
    stage.redis.rpush(QUEUE, RUN)

    assert stage.start(T + 10) == "started"

    assert (stage.run.state, stage.run.attempt, stage.run.retry_at) == ("running", 2, None)
    assert not stage.redis.exists(stage.app.keys.retries)


def walk(stage: Stage, now_s: float) -> None:
    next(chore.work for chore in stage.app.beat().chores if chore.name == "retrying")(now_s)


@pytest.mark.parametrize("junk", [False, True], ids=["lost", "overwritten"])
def test_one_whose_list_is_gone_is_listed_again(stage: Stage, junk: bool) -> None:
    stage.fail(T + 1)
    stage.redis.delete(stage.app.keys.retries)
    if junk:
        stage.redis.set(stage.app.keys.retries, "junk")

    walk(stage, T + 10)
    walk(stage, T + 40)

    assert stage.redis.zscore(stage.app.keys.retries, RUN) == T + 62
    stage.beat(T + 62)
    assert stage.queued() == [RUN]


def test_an_attempt_ends_and_the_run_retries_although_the_list_is_damaged(stage: Stage) -> None:
    stage.redis.set(stage.app.keys.retries, "junk")
    stage.start(T + 1)

    assert stage.end("failed", T + 2) == RETRYING

    assert (stage.run.state, stage.run.retry_at) == ("retrying", T + 62)


def test_one_that_cannot_be_queued_keeps_no_other_back(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.fail(T + 1)
    stage.redis.delete(f"rq:job:{RUN}")
    stage.redis.set(f"rq:job:{RUN}", "junk")

    stage.beat(T + 62)

    assert "rq:job:fetch-20260105T070000Z is not a hash" in caplog.text
    assert stage.run.state == "retrying"
    assert stage.redis.zscore(stage.app.keys.retries, RUN) == T + 92, "behind the others"
    stage.redis.delete(f"rq:job:{RUN}")
    stage.beat(T + 92)
    assert stage.run.outcome == "stopped"


# The beat


def test_a_beat_wakes_for_it_and_queues_it_in_that_pass(stage: Stage) -> None:
    stage.fail(T + 1)
    beat = stage.app.beat()

    queueing = next(chore for chore in beat.chores if chore.name == "retries")
    queueing.due_boot = later = boot_s() + 1000

    early = beat.pass_once(T + 61.5)
    assert early.wait_s <= 0.52
    assert queueing.due_boot == later

    beat.pass_once(T + 62.0)
    assert queueing.due_boot == 0.0, "it is to be done at once"


def test_delays_grow_with_each_retry(app: Cronq, redis: Redis, store: Store) -> None:
    stage = Stage(app, redis, store, retry_delay="60s", backoff=2)

    waits = []
    for moment in (T + 1, T + 1000):
        stage.fail(moment)
        waits.append((stage.run.retry_at or 0) - (moment + 1))
        stage.beat(moment + 500)

    assert 54 <= waits[0] <= 60
    assert 108 <= waits[1] <= 120
