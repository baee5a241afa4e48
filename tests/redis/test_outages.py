"""When no beat made a pass, somebody can say from when to when, and why."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.run_due import run_due
from cronq.beat.passes import PassNotes
from cronq.clock import ServerClock
from cronq.hosts.outages import Outage, Outages, Pass
from cronq.jobs.spec import JobSpec

T = 1767596400.0
Store = Callable[..., JobSpec]


@pytest.fixture
def outages(app: Cronq) -> Outages:
    return app.outage_notes


def test_passes_without_a_gap_are_no_outage(outages: Outages) -> None:
    for second in range(0, 60, 5):
        assert outages.note(Pass(T + second, "beat a", T)) == ""

    assert outages.read(T + 60) == []


def test_the_first_pass_after_a_gap_notes_it_with_why(outages: Outages) -> None:
    outages.note(Pass(T, "beat a", T - 500))

    assert outages.note(Pass(T + 100, "beat b", T + 100)) == "no_beat"
    outages.note(Pass(T + 101, "beat c", T + 101))  # a second one notes nothing more

    assert outages.read(T + 105) == [Outage(T, T + 100, "no_beat", "beat b")]


@pytest.mark.parametrize(
    ("lived", "why"),
    [
        (Pass(T + 100, "beat a", T - 500, away_s=T + 3), "redis_away"),
        (Pass(T + 100, "beat a", T - 500, held=True), "clock_jumped"),
        (Pass(T + 100, "beat a", T - 500), "stood_still"),
    ],
)
def test_a_beat_that_lived_through_it_says_what_it_saw(outages: Outages, lived: Pass, why: str) -> None:
    outages.note(Pass(T, "beat a", T - 500))

    assert outages.note(lived) == why
    assert [each.why for each in outages.read(T + 101)] == [why]


def test_a_beat_that_saw_redis_away_corrects_one_that_was_started_meanwhile(outages: Outages) -> None:
    outages.note(Pass(T, "beat a", T - 500))
    outages.note(Pass(T + 100, "beat new", T + 100))

    assert outages.note(Pass(T + 102, "beat a", T - 500, away_s=T + 3)) == "redis_away"

    assert outages.read(T + 105) == [Outage(T, T + 100, "redis_away", "beat a")]


def test_a_beat_for_which_redis_was_away_does_not_rewrite_an_outage_of_before(outages: Outages) -> None:
    outages.note(Pass(T, "beat a", T))
    outages.note(Pass(T + 100, "beat b", T + 100))

    assert outages.note(Pass(T + 110, "beat b", T + 100, away_s=T + 105)) == ""

    assert [each.why for each in outages.read(T + 111)] == ["no_beat"]


def test_an_outage_that_goes_on_is_told_first(outages: Outages) -> None:
    outages.note(Pass(T, "beat a", T))
    outages.note(Pass(T + 100, "beat b", T + 100))

    present, past = outages.read(T + 200)

    assert present == Outage(T + 100, None, "no_beat")
    assert (present.covers(T + 150), present.covers(T + 50), past.covers(T + 50)) == (True, False, True)


def test_a_redis_that_no_beat_has_passed_through_had_no_outage(outages: Outages) -> None:
    assert outages.read(T) == []


def test_outages_are_kept_for_thirty_days_and_are_no_more_than_a_thousand(outages: Outages, redis: Redis) -> None:
    for number in range(1005):
        outages.note(Pass(T + 100 * number, "beat a", T))

    assert redis.llen("cronq:outages") == 1000
    assert 30 * 86400 - 5 <= redis.ttl("cronq:outages") <= 30 * 86400
    assert (redis.memory_usage("cronq:outages", samples=0) or 0) < 150_000
    assert len(outages.read(T + 100 * 1004)) == 1000
    late = outages.read(T + 100 * 800 + 30 * 86400)
    assert len(late) == 1 + 204


@pytest.mark.parametrize(
    "junk", [b"junk", b"{}", b"[]", b'{"from": "x", "to": 1, "why": 1, "by": 1}', b"\xff", b"null"]
)
def test_an_entry_that_cannot_be_read_is_left_out(outages: Outages, redis: Redis, junk: bytes) -> None:
    outages.note(Pass(T, "beat a", T))
    outages.note(Pass(T + 100, "beat b", T + 100))
    redis.lpush("cronq:outages", junk)

    assert [each.from_s for each in outages.read(T + 101)] == [T]
    outages.note(Pass(T + 102, "beat a", T, away_s=T + 5))


@pytest.mark.parametrize("key", ["cronq:passes", "cronq:outages"])
def test_a_key_of_a_wrong_type_changes_nothing_and_can_be_read_past(outages: Outages, redis: Redis, key: str) -> None:
    outages.note(Pass(T, "beat a", T))
    redis.delete(key)
    redis.hset(key, "a", "b")
    before = redis.get("cronq:passes") if key != "cronq:passes" else None

    with pytest.raises(Exception, match="WRONGTYPE"):
        outages.note(Pass(T + 100, "beat b", T + 100))

    assert before is None or redis.get("cronq:passes") == before
    outages.read(T + 1)


def test_a_beat_notes_its_passes_as_a_chore(app: Cronq, store: Store, redis: Redis) -> None:
    now = app.now_s()
    redis.set("cronq:passes", repr(now - 3600))
    beat = app.beat()
    beat.pass_once()
    beat.do_chores()

    (outage,) = app.outages()

    assert (outage.why, outage.words) == ("no_beat", "no beat was alive")
    assert outage.from_s == pytest.approx(now - 3600, abs=0.01)
    assert outage.to_s == pytest.approx(now, abs=5)


def test_only_a_new_pass_is_noted_and_what_was_seen_goes_with_it(outages: Outages) -> None:
    class Hand(ServerClock):
        def now_s(self) -> float:
            return T + 4

    clock, passes = Hand(), [T]
    notes = PassNotes(outages, clock, lambda: passes[-1], by="beat a")
    notes.once(T)
    notes.outage()
    notes.once(T + 50)  # Redis answers, and no pass was made yet
    assert outages.read(T + 5) == []

    passes.append(T + 60)
    notes.once(T + 60)
    assert outages.read(T + 61) == [Outage(T, T + 60, "redis_away", "beat a")]
    passes.append(T + 120)
    notes.once(T + 120)
    assert outages.read(T + 121)[0].why == "stood_still"


def test_who_goes_from_beats_to_run_due_has_no_outage_from_then_on(app: Cronq) -> None:
    now_s = app.now_s()
    app.outage_notes.note(Pass(now_s - 3600, "beat a", now_s - 7200))
    assert [each.to_s for each in app.outages()] == [None]

    assert run_due(app)
    assert [(each.why, each.to_s is None) for each in app.outages()] == [("no_beat", False)]

    assert run_due(app)
    assert len(app.outage_notes.read(now_s + 3600)) == 1
