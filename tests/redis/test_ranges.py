"""Long gaps: many ticks in one row, which everybody who asks is told as single ticks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.views import run_row
from cronq.beat.beat import Beat
from cronq.errors import UnknownRun
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision, decide
from cronq.runs.run import Ending, Settlement

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR, DAY = 60, 3600, 86400
Store = Callable[..., JobSpec]


def rows_of(redis: Redis, name: str = "invoices") -> list[bytes]:
    """The ids of the rows that a job has, oldest first."""
    return redis.zrange(f"cronq:job:{name}:runs", 0, -1)


def queued(redis: Redis) -> list[bytes]:
    return redis.lrange("rq:queue:default", 0, -1)


def ledger(app: Cronq, name: str = "invoices") -> dict[int, str]:
    """What became of each tick, oldest first; every tick once."""
    runs = app.history(name, 10_000)
    found = {run.tick: run.outcome or run.state for run in reversed(runs) if run.tick is not None}
    assert len(found) == len(runs)
    assert list(found) == sorted(found)
    return found


def decided_at(app: Cronq, now: float, mark: int = T) -> list[TickClaim]:
    job = app.jobs.get("invoices")
    return [TickClaim(job.spec, job.version, each) for each in decide(job.spec, mark, job.state.pause, now)]


def used(redis: Redis) -> int:
    return sum(redis.memory_usage(key, samples=0) or 0 for key in redis.scan_iter("*"))


# What a gap costs


@pytest.mark.timing
def test_three_days_without_a_beat_cost_a_job_of_every_minute_one_run_and_one_row(
    app: Cronq, store: Store, redis: Redis
) -> None:
    """Counted is by how much the sum of MEMORY USAGE over all keys grows, with the row of the run, its dedup key, its
    place in the indexes and the events; RQ's own record of the run, as large as for each other one, comes on top."""
    store("invoices", mark=T - MINUTE, window="4d", overlap="allow")
    beat = app.beat()
    beat.pass_once(now_s=T + 0.5)  # a run on time: what every job has is there
    before, began = used(redis), time.perf_counter()

    beat.pass_once(now_s=T + 3 * DAY + 0.5)

    assert time.perf_counter() - began < 1
    grown = used(redis) - before
    of_rq = redis.memory_usage("rq:job:invoices-20260105T070000Z", samples=0) or 0
    assert grown - of_rq < 2048
    print(f"{grown - of_rq} bytes, and {of_rq} of RQ's")  # noqa: T201
    assert len(queued(redis)) == 2
    assert len(rows_of(redis)) == 3
    assert redis.xlen("cronq:events") == 4  # that the job was stored, a run, the range, a run
    minutes = [T + minute * MINUTE for minute in range(4321)]
    assert ledger(app) == {T: "queued", **dict.fromkeys(minutes[1:-1], "coalesced"), minutes[-1]: "queued"}


@pytest.mark.timing
def test_the_newest_ticks_of_a_range_of_half_a_million_are_told_at_once(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T, cron="* * * * * *", tz="Europe/Amsterdam", window="30d", catchup="skip")
    app.beat().pass_once(now_s=T + 500_000 + 100.5)
    began = time.perf_counter()

    rows = app.history("invoices", 20)
    others = app.history("invoices", 20, "queued")

    assert time.perf_counter() - began < 0.1
    assert [row.tick for row in rows] == list(range(T + 500_100, T + 500_080, -1))
    assert others == []
    assert len(rows_of(redis)) == 2


def test_a_range_takes_the_place_of_one_row(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T, keep=10, catchup="skip")
    beat = app.beat()
    for hour in range(1, 14):
        beat.pass_once(now_s=T + hour * HOUR + 30.5)
        for run_id in queued(redis):
            redis.lrem("rq:queue:default", 1, run_id)
            run = app.runs.get(run_id.decode())
            app.runs.settle(run, Ending(Settlement("succeeded", ""), by="w", now_s=T, expect="queued"))

    assert len(rows_of(redis)) == 10  # five hours: a range and a run each
    assert list(ledger(app)) == [T + minute * MINUTE for minute in range(8 * 60 + 1, 13 * 60 + 1)]


# How it is told


def test_a_range_is_told_as_single_ticks_as_if_each_had_its_row(app: Cronq, store: Store) -> None:
    store("invoices", mark=T)
    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)

    rows = app.history("invoices", 4)

    assert [row.run_id for row in rows] == [f"invoices-20260105T07{minute}00Z" for minute in ("10", "09", "08", "07")]
    assert [row.outcome for row in rows] == [None, "coalesced", "coalesced", "coalesced"]
    newest, older = run_row(rows[1]), run_row(rows[2])
    assert newest.keys() == older.keys()
    same = ("outcome", "reason", "decided_by", "state", "trigger", "queued_at", "ended_at", "attempt", "queue")
    assert [newest.get(key) for key in same] == [older.get(key) for key in same]
    assert older["reason"] == (
        "no beat took it in time, as 9 ticks in a row; the newest, 2026-01-05T07:10:00Z, was taken in its place"
    )


def test_each_tick_of_a_range_is_found_by_its_id_and_its_time(app: Cronq, store: Store) -> None:
    store("invoices", mark=T)
    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)

    for minute in range(1, 11):
        run = app.read_run(f"invoices-20260105T07{minute:02d}00Z")
        assert run == app.runs.run_at("invoices", T + minute * MINUTE)
        assert (run.tick, run.first) == (T + minute * MINUTE, None)
    for stranger in ("invoices-20260105T070000Z", "invoices-20260105T070530Z", "invoices-m0000000", "other-x", "x"):
        with pytest.raises(UnknownRun):
            app.read_run(stranger)
    assert app.runs.run_at("invoices", T + 30) is None


def test_ticks_of_several_jobs_are_told_in_their_order(app: Cronq, store: Store) -> None:
    store("a", mark=T, cron="*/2 * * * *", window="1d")
    store("b", mark=T, cron="*/3 * * * *", window="1d")
    app.beat().pass_once(now_s=T + HOUR + 0.5)
    by_hand = app.enqueue("a")

    rows = app.history_of_all(100)

    assert rows[0].run_id == by_hand
    ticks = [(row.tick, row.job) for row in rows[1:]]
    assert sorted(ticks) == sorted(
        [(T + 2 * MINUTE * n, "a") for n in range(1, 31)] + [(T + 3 * MINUTE * n, "b") for n in range(1, 21)]
    )
    assert [tick for tick, _ in ticks] == sorted((tick or 0 for tick, _ in ticks), reverse=True)


def test_a_range_is_told_by_the_schedule_that_its_job_had_then(app: Cronq, store: Store) -> None:
    spec = store("invoices", mark=T, cron="H * * * * ", window="1d")
    app.beat().pass_once(now_s=T + 8 * HOUR + 0.5)
    before = ledger(app)

    app.jobs.save(
        replace(spec, cron="30 3 * * *", tz="Asia/Tokyo"),
        source="here:1",
        origin="test",
        expected=app.jobs.version_of("invoices"),
    )

    assert ledger(app) == before
    assert len(before) == 8


def test_of_a_range_whose_schedule_cannot_be_read_the_newest_tick_says_so(
    app: Cronq, store: Store, redis: Redis
) -> None:
    store("invoices", mark=T)
    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)
    redis.hset("cronq:run:invoices-20260105T070900Z", "schedule", '{"cron":"nonsense"}')

    _, row = app.history("invoices")

    assert row.reason is not None
    assert row.reason.endswith("; one of 9 ticks since 2026-01-05T07:01:00Z, the others cannot be listed")


def test_only_ticks_of_one_outcome_are_told_when_asked_for(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T, window="5m", overlap="allow")
    app.beat().pass_once(now_s=T + 12 * MINUTE + 0.5)

    assert [row.tick for row in app.history("invoices", 3, "missed")] == [T + n * MINUTE for n in (7, 6, 5)]
    assert [row.tick for row in app.history("invoices", 9, "coalesced")] == [T + n * MINUTE for n in (11, 10, 9, 8)]


def test_ticks_of_a_range_are_told_by_the_period_they_lie_in(app: Cronq, store: Store) -> None:
    store("invoices", mark=T)
    beat = app.beat()
    beat.pass_once(now_s=T + 10 * MINUTE + 0.5)
    beat.pass_once(now_s=T + 20 * MINUTE + 0.5)

    def minutes(since: float | None, until: float | None, **how: Any) -> list[int]:
        rows = app.history("invoices", since_s=since, until_s=until, **how)
        return [((row.tick or 0) - T) // MINUTE for row in rows]

    assert minutes(T + 5 * MINUTE, T + 8 * MINUTE + 1) == [8, 7, 6, 5]
    assert minutes(T + 4 * MINUTE + 1, T + 12 * MINUTE) == [12, 11, 10, 9, 8, 7, 6, 5]
    assert minutes(None, T + 12 * MINUTE, count=3) == [12, 11, 10]
    assert minutes(T + 18 * MINUTE + 0.5, None) == [20, 19]
    assert minutes(T + 8 * MINUTE, T + 10 * MINUTE, outcome="coalesced") == [9, 8]
    assert minutes(T + 5 * MINUTE + 1, T + 5 * MINUTE + 2) == []


def test_a_tick_of_a_range_that_ran_after_all_is_told_once_and_the_others_stay(
    app: Cronq, store: Store, redis: Redis
) -> None:
    store("invoices", mark=T)
    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)
    shared, own = "invoices-20260105T070900Z", "invoices-20260105T070500Z"
    attempt = '[{"attempt":1,"outcome":"coalesced","reason":"a later one ran","decided_by":"beat a"}]'
    redis.hset(f"cronq:run:{shared}", mapping={"outcome": "failed", "attempt": 2, "attempts": attempt})
    redis.hset(f"cronq:run:{own}", mapping={"job": "invoices", "tick": T + 300, "state": "done", "outcome": "failed"})
    redis.zadd("cronq:job:invoices:runs", {own: T + 300})

    found = ledger(app)

    assert len(found) == 10
    assert [tick for tick, outcome in found.items() if outcome == "failed"] == [T + 300, T + 540]
    assert app.read_run("invoices-20260105T070800Z").decided_by == "beat a"
    assert {row.outcome for row in app.history("invoices", 10, "coalesced")} == {"coalesced"}
    assert len(app.history("invoices", 10, "coalesced")) == 7


# How it is claimed


def test_a_range_that_began_after_another_mark_is_not_claimed_and_nothing_after_it_is(
    app: Cronq, store: Store, redis: Redis
) -> None:
    store("invoices", mark=T)
    slow = decided_at(app, T + 10 * MINUTE + 0.5)
    app.beat().pass_once(now_s=T + 3 * MINUTE + 0.5)
    claimer = app.claimer("beat slow")

    answers = claimer.claim_due(slow, "slow", T + 10 * MINUTE + 0.5)

    assert [answer.code for answer in answers] == ["moved", "held"]
    assert list(ledger(app)) == [T + n * MINUTE for n in (1, 2, 3)]
    assert not redis.exists(f"cronq:dedup:invoices:{T + 9 * MINUTE}")

    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.6)
    assert list(ledger(app)) == [T + n * MINUTE for n in range(1, 11)]


def test_a_range_that_another_beat_has_claimed_whole_is_old(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T)
    slow = decided_at(app, T + 10 * MINUTE + 0.5)
    app.beat().pass_once(now_s=T + 20 * MINUTE + 0.5)

    answers = app.claimer("beat slow").claim_due(slow, "slow", T + 10 * MINUTE + 0.5)

    assert [answer.code for answer in answers] == ["old", "old"]
    assert len(queued(redis)) == 1


def test_a_range_that_is_sent_again_knows_its_own_claim(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T)
    claims = decided_at(app, T + 10 * MINUTE + 0.5)
    claimer = app.claimer("beat box.1")
    claimer.claim_due(claims, "same", T + 10 * MINUTE + 0.5)

    answers = claimer.claim_due(claims, "same", T + 10 * MINUTE + 0.5)

    assert [answer.code for answer in answers] == ["mine", "mine"]
    assert app.jobs.dedup_holders([("invoices", T + 9 * MINUTE)]) == ["same"]
    assert len(ledger(app)) == 10


def test_a_stray_dedup_key_does_not_change_what_becomes_of_a_range(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T)
    redis.set(f"cronq:dedup:invoices:{T + 9 * MINUTE}", "junk of a stranger")

    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)

    assert list(ledger(app).values()) == ["coalesced"] * 9 + ["queued"]


def test_ticks_that_have_a_row_already_are_taken_out_of_the_range(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T)
    for minute in (8, 9):  # the newest of the range, and the one before
        run_id = f"invoices-20260105T070{minute}00Z"
        facts = {"job": "invoices", "tick": T + minute * MINUTE, "state": "done", "outcome": "succeeded"}
        redis.hset(f"cronq:run:{run_id}", mapping=facts)
        redis.zadd("cronq:job:invoices:runs", {run_id: T + minute * MINUTE})
    beat = app.beat()

    for _ in range(4):
        beat.pass_once(now_s=T + 10 * MINUTE + 0.5)

    expected = ["coalesced"] * 7 + ["succeeded"] * 2 + ["queued"]
    assert ledger(app) == {T + n * MINUTE: word for n, word in zip(range(1, 11), expected, strict=True)}
    assert app.jobs.mark_of("invoices") == T + 10 * MINUTE


def test_a_mark_that_was_set_back_before_a_range_is_moved_behind_it(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T)
    beat = app.beat()
    beat.pass_once(now_s=T + 10 * MINUTE + 0.5)
    redis.hset(app.keys.state("invoices"), "mark", T)
    redis.zadd(app.keys.agenda, {"invoices": T + MINUTE})
    for key in redis.scan_iter("cronq:dedup:*"):
        redis.delete(key)

    beat.pass_once(now_s=T + 10 * MINUTE + 0.6)

    assert len(ledger(app)) == 10
    assert len(queued(redis)) == 1
    assert app.jobs.mark_of("invoices") == T + 10 * MINUTE


def test_a_job_that_is_removed_or_resumed_closes_a_long_gap_with_one_row(
    app: Cronq, store: Store, redis: Redis
) -> None:
    now = int(app.now_s())
    store("invoices", mark=now - 90 * DAY, catchup="all")
    app.pause("invoices", note="moving house")
    rows = len(rows_of(redis))
    redis.hset(app.keys.state("invoices"), "mark", now - 2 * DAY)

    app.resume("invoices")

    assert rows == 1
    assert len(rows_of(redis)) <= 2
    app.remove("invoices")
    assert len(rows_of(redis)) <= 2


def test_a_beat_that_knows_no_ranges_reads_the_newest_tick(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=T)
    app.beat().pass_once(now_s=T + 10 * MINUTE + 0.5)

    row = redis.hgetall("cronq:run:invoices-20260105T070900Z")

    assert row[b"tick"] == b"%d" % (T + 9 * MINUTE)
    assert (row[b"state"], row[b"outcome"]) == (b"done", b"coalesced")
    assert (row[b"first"], row[b"count"]) == (b"%d" % (T + MINUTE), b"9")


# Every nominal tick once, against a clock on the wall


WHENS: list[dict[str, Any]] = [
    {"every": 60},
    {"every": 7 * 60},
    {"cron": "*/5 * * * *"},
    {"cron": "30 * * * *", "tz": "Europe/Amsterdam"},
    {"cron": "15,30 1-3 * * *", "tz": "Europe/Amsterdam", "dst": "skip"},
    {"cron": "*/20 * * * *", "tz": "Europe/Amsterdam", "dst": "skip"},
]
#: Two days before the clocks of Amsterdam are set forward, and before they are set back.
SPRING, AUTUMN = (int(datetime(2026, month, day, 12, tzinfo=UTC).timestamp()) for month, day in ((3, 27), (10, 23)))


def fields(words: str, most: int) -> set[int]:
    """The numbers that a field of a cron expression names: `*`, `*/n`, `a-b`, `a,b`."""
    if words.startswith("*"):
        return set(range(0, most, int(words.partition("/")[2] or 1)))
    begin, _, end = words.partition("-")
    return set(range(int(begin), int(end) + 1)) if end else {int(each) for each in words.split(",")}


def nominal(when: dict[str, Any], after: int, until: int) -> list[int]:
    """The ticks in (after, until], minute by minute as a clock on the wall shows them."""
    if "every" in when:
        return [at for at in range(after // 60 * 60 + 60, until + 1, 60) if at % when["every"] == 0]
    minute, hour, *_ = when["cron"].split()
    minutes, hours, zone = fields(minute, 60), fields(hour, 24), ZoneInfo(when.get("tz", "UTC"))
    seen: set[datetime] = set()
    found = []
    for at in range(after // 60 * 60 - DAY, until + 1, 60):
        shown = datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)
        is_first = shown not in seen
        seen.add(shown)
        matches = shown.minute in minutes and shown.hour in hours
        if at > after and matches and (is_first or when.get("dst") != "skip"):
            found.append(at)
    return found


def expected_of(pending: list[int], spec: JobSpec, now: float) -> list[str]:
    """What becomes of *pending* when a beat finds them at *now*; "" for what runs."""
    words = []
    for index, tick in enumerate(pending):
        is_newest, newer = tick == pending[-1], len(pending) - 1 - index
        if is_newest and now - tick <= 60:
            words.append("")
        elif now - tick > spec.window or spec.catchup == "skip":
            words.append("missed")
        elif spec.catchup == "latest":
            words.append("" if is_newest else "coalesced")
        else:
            words.append("" if newer < spec.max_catchup else "missed")
    return words


waits = st.lists(
    st.tuples(st.sampled_from([1, 30, 61, 240, 3000, 9000, 40_000, 200_000]), st.integers(0, 2)), min_size=1, max_size=6
)


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(WHENS),
    st.sampled_from(["latest", "skip", "all"]),
    st.sampled_from([60, 7200, 400_000]),
    st.sampled_from([SPRING, AUTUMN]),
    waits,
    st.booleans(),
)
def test_every_nominal_tick_is_in_the_ledger_once_whoever_decided_when(
    app: Cronq,
    store: Store,
    redis: Redis,
    when: dict[str, Any],
    catchup: str,
    window: int,
    start: int,
    gaps: list[tuple[int, int]],
    is_slow: bool,
) -> None:
    redis.flushall()
    facts = {"tz": "UTC", "dst": "debian", "cron": None} | when
    spec = make_spec(
        "invoices", function="tests.redis.conftest:work", overlap="allow", catchup=catchup, window=window,
        max_catchup=5, keep=10_000, **{key: value for key, value in facts.items() if value is not None},
    )  # fmt: skip
    assert spec.schedule is not None
    app.jobs.save(
        spec, source="here:1", origin="test", expected="", mark=start, next_tick=spec.schedule.next_after(start)
    )
    beats = [app.beat() for _ in range(3)]
    mark, now = start, float(start)
    expected: dict[int, str] = {}
    for gap, number in gaps:
        # A beat decides, and is overtaken by another one before it claims.
        slow = decided_at(app, now + gap // 2 + 0.25, mark) if is_slow else []
        now += gap + 0.5
        pass_until_done(beats[number], now)
        app.claimer("beat slow").claim_due(slow, f"slow-{now}", now - gap // 2)
        pending = nominal(when, mark, int(now))
        expected |= dict(zip(pending, expected_of(pending, spec, now), strict=True))
        mark = pending[-1] if pending else mark

    assert list(expected) == nominal(when, start, int(now))
    assert {tick: "" if word == "queued" else word for tick, word in (ledger(app) if expected else {}).items()} == {
        tick: word for tick, word in expected.items()
    }
    assert len(queued(redis)) == sum(word == "" for word in expected.values())
    assert len(rows_of(redis)) < 12 * len(gaps)


def pass_until_done(beat: Beat, now_s: float) -> None:
    while beat.pass_once(now_s=now_s).codes:
        pass


def test_the_rows_of_a_range_are_what_is_decided(app: Cronq, store: Store) -> None:
    """A range's claim answers for all of its ticks at once."""
    store("invoices", mark=T)
    (old, run) = decided_at(app, T + 10 * MINUTE + 0.5)

    assert isinstance(old.decision, Decision)
    assert (old.decision.ticks, run.decision.ticks) == (9, 1)
    answers = app.claimer("beat").claim_due([old, run], "t", T + 10 * MINUTE + 0.5)
    assert [(answer.code, answer.detail) for answer in answers] == [("won", "coalesced"), ("won", "queued")]
