"""What one claim leaves in Redis, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.errors import CronqError
from cronq.jobs.spec import JobSpec
from cronq.monitor.checks import check_beat, check_clock, check_workers
from cronq.runs.claim import Answer, Claimer, TickClaim
from cronq.runs.due import Decision

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
Store = Callable[..., JobSpec]


def run_of(tick: int = T, next_tick: int | None = T + 60) -> Decision:
    return Decision(tick, None, "due", "schedule", next_tick)


@pytest.fixture
def claimer(app: Cronq) -> Claimer:
    return app.claimer("beat box.1")


def claim(
    app: Cronq, claimer: Claimer, *specs: JobSpec, decision: Decision | None = None, token: str = "t1"
) -> list[Answer]:
    claims = [TickClaim(spec, app.jobs.version_of(spec.name), decision or run_of()) for spec in specs]
    return claimer.claim_due(claims, token, T + 0.5)


def test_a_claimed_tick_is_queued_recorded_and_moves_the_mark(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)

    answers = claim(app, claimer, spec)

    assert [answer.code for answer in answers] == ["won"]
    run_id = "invoices-20260105T070000Z"
    assert app.client.lrange("rq:queue:default", 0, -1) == [run_id.encode()]
    row = app.runs.get(run_id)
    assert (row.state, row.outcome, row.tick, row.decided_by) == ("queued", None, T, "beat box.1")
    job = app.jobs.get("invoices")
    assert (job.state.mark, job.next_tick) == (T, T + 60)
    assert app.runs.active(["invoices"]) == {"invoices": {run_id: "queued"}}
    assert app.client.hget(f"rq:job:{run_id}", "description") == b"invoices @ 2026-01-05 07:00 UTC"


def test_a_second_beat_is_told_that_the_tick_is_past(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    claim(app, claimer, spec, token="first")

    answers = claim(app, claimer, spec, token="second")

    assert [answer.code for answer in answers] == ["taken"] or [answer.code for answer in answers] == ["old"]
    assert app.client.llen("rq:queue:default") == 1


def test_a_beat_that_meets_another_leaves_it_the_rest_of_the_batch(app: Cronq, claimer: Claimer, store: Store) -> None:
    specs = [store(f"job-{number:02}", mark=T - 1) for number in range(40)]
    claims = [TickClaim(spec, app.jobs.version_of(spec.name), run_of()) for spec in specs]
    claimer.claim_due(claims[10:30], "first", T + 0.5)

    answers = claimer.claim_written(claimer.written(claims, "second", T + 0.5, leave_after=16), len(claims))

    codes = [answer.code for answer in answers]
    assert codes[:10] == ["won"] * 10
    assert set(codes[10:26]) <= {"taken", "old"}
    assert codes[26:] == ["left"] * 14
    assert app.client.llen("rq:queue:default") == 30
    assert [app.jobs.get(spec.name).state.mark for spec in specs[30:]] == [T - 1] * 10


def test_who_is_alone_with_its_claims_looks_at_each_of_them(app: Cronq, claimer: Claimer, store: Store) -> None:
    specs = [store(f"job-{number:02}", mark=T - 1) for number in range(40)]
    claim(app, claimer, *specs[:30], token="first")

    answers = claim(app, claimer, *specs, token="second")

    assert [answer.code for answer in answers[30:]] == ["won"] * 10


def test_the_same_call_sent_twice_knows_its_own_claim(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    claim(app, claimer, spec, token="same")

    answers = claim(app, claimer, spec, token="same")

    assert [answer.code for answer in answers] == ["mine"]
    assert app.client.llen("rq:queue:default") == 1


def test_a_lost_dedup_key_does_not_fire_the_tick_again(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    claim(app, claimer, spec)
    app.client.delete(app.keys.dedup("invoices", T))

    answers = claim(app, claimer, spec, token="later")

    assert [answer.code for answer in answers] == ["old"]
    assert app.client.llen("rq:queue:default") == 1


def test_a_mark_that_was_set_back_does_not_fire_the_tick_again(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    claim(app, claimer, spec)
    app.client.hset(app.keys.state("invoices"), "mark", T - 3600)
    app.client.delete(app.keys.dedup("invoices", T))

    answers = claim(app, claimer, spec, token="later")

    assert [answer.code for answer in answers] == ["taken"]
    assert app.client.llen("rq:queue:default") == 1
    assert app.jobs.get("invoices").state.mark == T


def test_a_job_that_was_changed_since_it_was_read_is_left_alone(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)

    answers = claimer.claim_due([TickClaim(spec, "another version", run_of())], "t", T + 0.5)

    assert [answer.code for answer in answers] == ["stale"]
    assert app.client.llen("rq:queue:default") == 0
    assert app.jobs.get("invoices").state.mark == T - 1


def test_a_removed_job_leaves_no_ghost_on_the_agenda(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    version = app.jobs.version_of("invoices")
    app.remove("invoices")
    app.client.zadd(app.keys.agenda, {"invoices": T})

    answers = claimer.claim_due([TickClaim(spec, version, run_of())], "t", T + 0.5)

    assert [answer.code for answer in answers] == ["gone"]
    assert app.client.zcard(app.keys.agenda) == 0


def test_a_tick_from_the_future_is_refused(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    seconds, _ = app.client.time()

    answers = claim(app, claimer, spec, decision=run_of(seconds + 3600, None))

    assert [answer.code for answer in answers] == ["future"]
    assert app.jobs.get("invoices").state.mark == T - 1


def test_an_outcome_without_a_run_is_recorded_and_nothing_queued(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    missed = Decision(T, "missed", "no beat took it in time", "schedule", T + 60)

    claim(app, claimer, spec, decision=missed)

    row = app.runs.get("invoices-20260105T070000Z")
    assert (row.state, row.outcome, row.reason) == ("done", "missed", "no beat took it in time")
    assert app.client.llen("rq:queue:default") == 0
    assert app.runs.active(["invoices"]) == {"invoices": {}}


def test_a_tick_is_skipped_while_an_earlier_run_is_still_queued(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    claim(app, claimer, spec)

    answers = claim(app, claimer, spec, decision=run_of(T + 60, T + 120), token="t2")

    assert (answers[0].code, answers[0].detail) == ("won", "skipped")
    assert app.runs.get("invoices-20260105T070100Z").reason == "the run invoices-20260105T070000Z was still queued"
    assert app.client.llen("rq:queue:default") == 1


def test_overlap_allow_queues_beside_an_earlier_run(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1, overlap="allow")
    claim(app, claimer, spec)

    claim(app, claimer, spec, decision=run_of(T + 60, T + 120), token="t2")

    assert app.client.llen("rq:queue:default") == 2


def test_each_caught_up_tick_of_catchup_all_is_queued(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1, catchup="all")
    version = app.jobs.version_of("invoices")
    claims = [
        TickClaim(spec, version, Decision(T + 60 * i, None, "late", "catchup", T + 60 * i + 60)) for i in range(3)
    ]

    answers = claimer.claim_due(claims, "t", T + 300.0)

    assert [answer.detail for answer in answers] == ["queued"] * 3
    assert app.client.llen("rq:queue:default") == 3


def test_a_stray_entry_among_the_active_runs_does_not_silence_the_job(
    app: Cronq, claimer: Claimer, store: Store
) -> None:
    spec = store("invoices", mark=T - 1)
    app.client.hset(app.keys.active("invoices"), mapping={"nobody": "running", "invoices-20200101T000000Z": "queued"})

    answers = claim(app, claimer, spec)

    assert answers[0].detail == "queued"
    assert set(app.runs.active(["invoices"])["invoices"]) == {"invoices-20260105T070000Z"}


def test_the_ledger_keeps_so_many_rows_and_never_drops_an_open_one(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1, keep=10, overlap="allow")
    version = app.jobs.version_of("invoices")
    claim(app, claimer, spec)  # stays queued
    missed = [
        TickClaim(spec, version, Decision(T + 60 * i, "missed", "late", "schedule", T + 60 * i + 60))
        for i in range(1, 40)
    ]

    claimer.claim_due(missed, "t", T + 4000.0)

    rows = app.history("invoices", 100)
    assert len(rows) <= 12
    assert rows[-1].state == "queued"
    assert app.client.zcard(app.keys.runs("invoices")) == len(rows)


def test_a_batch_is_claimed_in_one_round_trip_each_job_for_itself(app: Cronq, claimer: Claimer, store: Store) -> None:
    specs = [store(f"job-{i}", mark=T - 1, queue=f"q{i % 3}") for i in range(50)]
    app.client.hset(app.keys.state("job-7"), "mark", "junk")

    answers = claim(app, claimer, *specs)

    assert [answer.code for answer in answers] == ["won"] * 7 + ["broken"] + ["won"] * 42
    assert sum(app.client.llen(f"rq:queue:q{i}") for i in range(3)) == 49
    assert app.client.smembers("rq:queues") == {b"rq:queue:q0", b"rq:queue:q1", b"rq:queue:q2"}


def test_a_dedup_key_set_by_nobody_cannot_hide_a_tick(app: Cronq, claimer: Claimer, store: Store) -> None:
    spec = store("invoices", mark=T - 1)
    app.client.set(app.keys.dedup("invoices", T), "junk of a stranger")

    claim(app, claimer, spec)

    row = app.runs.get("invoices-20260105T070000Z")
    assert row.outcome == "missed"
    assert "junk of a stranger" in (row.reason or "")
    assert app.jobs.get("invoices").state.mark == T


@pytest.mark.parametrize("window", ["1m", "48h"])
def test_dedup_keys_live_an_hour_whatever_the_window(
    app: Cronq, claimer: Claimer, store: Store, redis: Redis, window: str
) -> None:
    spec = store("invoices", mark=T - 1, window=window)

    claim(app, claimer, spec)

    assert 3590 < redis.ttl(app.keys.dedup("invoices", T)) <= 3600


def test_a_claim_that_is_sent_again_after_its_dedup_key_has_ended_queues_nothing(
    app: Cronq, claimer: Claimer, store: Store, redis: Redis
) -> None:
    spec = store("invoices", mark=T - 1)
    claim(app, claimer, spec, token="same")
    redis.expire(app.keys.dedup("invoices", T), -1)

    answers = claim(app, claimer, spec, token="same")

    assert [answer.code for answer in answers] == ["old"]
    assert redis.llen("rq:queue:default") == 1


def test_every_enqueue_by_hand_is_a_run_of_its_own(app: Cronq, store: Store) -> None:
    store("invoices", mark=T - 1)

    first, second = app.enqueue("invoices"), app.enqueue("invoices", (), {"month": "2026-01"})

    assert first != second
    assert app.client.llen("rq:queue:default") == 2
    assert app.runs.get(second).args == '[[],{"month":"2026-01"}]'
    assert [run.run_id for run in app.history("invoices")] == [second, first]
    assert app.jobs.get("invoices").state.mark == T - 1


def test_scripts_leave_no_key_without_a_life_outside_the_permanent_ones(
    app: Cronq, claimer: Claimer, store: Store, redis: Redis
) -> None:
    spec = store("invoices", mark=T - 1)
    claim(app, claimer, spec)
    app.enqueue("invoices")

    permanent = {
        app.keys.jobs, app.keys.agenda, app.keys.events, app.keys.job("invoices"), app.keys.state("invoices"),
        app.keys.template("invoices"), app.keys.runs("invoices"), app.keys.manual("invoices"),
        app.keys.active("invoices"), app.keys.given("invoices"), "rq:queues", "rq:queue:default",
    }  # fmt: skip
    endless = {key.decode() for key in redis.scan_iter("*") if redis.ttl(key) == -1}
    open_runs = ("rq:job:", "cronq:run:")  # these live until they are settled
    assert {key for key in endless if not key.startswith(open_runs)} <= permanent

    app.remove("invoices")
    assert [key for key in redis.scan_iter("cronq:run:*") if redis.ttl(key) == -1] == []


def test_arguments_for_a_command_are_refused_rather_than_dropped(app: Cronq, redis: Redis) -> None:
    app.add("tidy", command=["true"], every="1h")

    with pytest.raises(CronqError, match="job 'tidy'"):
        app.enqueue("tidy", (), {"colour": "red"})  # further words it takes, names it has none for

    assert redis.llen("rq:queue:default") == 0


def test_thresholds_of_the_checks_follow_the_nagios_rules(redis: Redis) -> None:
    assert check_beat([], 0.0).performance == "'beats'=0;;1:"
    assert check_workers([], 0.0).performance == "'workers'=0;;1:"
    assert check_clock(redis, [], 0.0).performance.endswith("s;-2:2")
