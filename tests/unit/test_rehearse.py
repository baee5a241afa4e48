"""What a rehearsal makes of the rows of a day: lengths of runs, pauses, skips, outages; and what it says of them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from cronq.jobs.pause import Pause
from cronq.jobs.skip import Skip
from cronq.jobs.spec import make_spec
from cronq.runs.recorded import Past, pauses_of, skips_of, without_beats
from cronq.runs.rehearse import Rehearsal, RehearsedTick, rehearse
from cronq.runs.run import Attempt, Run
from cronq.runs.scene import Outage, Scene
from cronq.timetext import DAY_S

DAY = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())
HOUR = 3600


def run(hour: float, outcome: str | None = "succeeded", took_s: float = 60.0, wait_s: float = 0.0, **facts: Any) -> Run:
    tick = DAY + int(hour * HOUR)
    began = {"started_at": tick + wait_s} if outcome in (None, "succeeded", "failed", "timed_out", "stopped") else {}
    state = "running" if outcome is None else "done"
    ended = None if outcome is None else tick + wait_s + (took_s if began else 0.0)
    row: dict[str, Any] = {"queued_at": float(tick), "ended_at": ended, "outcome": outcome, **began, **facts}
    return Run(f"j-{tick}", "j", tick, state, **row)


def rehearsed(
    runs: list[Run], newest: list[Run] | None = None, until: float = 24, gone: tuple[str, ...] = (), **options: Any
) -> Rehearsal:
    specs = [] if gone else [make_spec("j", command=["true"], **({"cron": "0 * * * *"} | options))]
    scene = Scene(DAY - DAY_S, DAY + int(until * HOUR), duration_s=0.0)
    return rehearse(specs, {"j": Past(runs, newest or [])}, scene, DAY, gone=gone)


def outcomes(found: Rehearsal) -> list[str | None]:
    return [each.outcome for each in found.ticks]


def test_a_day_by_its_own_definitions_differs_in_nothing() -> None:
    runs = [
        run(hour, "failed" if hour == 7 else "succeeded", took_s=30 + hour, reason="exit code 7") for hour in range(24)
    ]

    found = rehearsed(runs)

    assert [each for each in found.ticks if each.differs or each.collides] == []
    assert found.jobs() == []
    assert found.ticks[7] == RehearsedTick(
        DAY + 7 * HOUR, "j", "failed", "failed", "exit code 7", lateness_s=0.0, duration_s=37.0, basis="run"
    )


def test_twice_as_often_each_run_that_takes_too_long_has_the_next_tick_skipped() -> None:
    found = rehearsed([run(hour, took_s=2000 if hour == 2 else 60) for hour in range(4)], cron="*/30 * * * *", until=4)

    assert outcomes(found) == ["succeeded"] * 5 + ["skipped"] + ["succeeded"] * 2
    assert [each.recorded for each in found.ticks] == ["succeeded", None] * 4
    skipped = found.ticks[5]
    assert skipped.reason == "the run of 2026-11-23T02:00:00Z was still at work"
    assert (skipped.lateness_s, skipped.duration_s, skipped.basis) == (None, None, None)
    new = found.ticks[1]
    assert (new.duration_s, new.basis) == (60.0, "day"), "the median of that day"
    (told,) = found.jobs()
    assert (told.was, told.now) == (Counter(succeeded=4), Counter(succeeded=7, skipped=1))
    assert (told.count, told.first) == (4, skipped.tick)
    assert told.text == "new; skipped: the run of 2026-11-23T02:00:00Z was still at work"
    (told,) = rehearsed([run(0), run(1)], cron="*/30 * * * *", until=2).jobs()
    assert (told.count, told.first, told.text) == (2, DAY + 1800, "new; succeeded; the median of that day")


@pytest.mark.parametrize(
    ("overlap", "words"),
    [
        ("queue", "succeeded succeeded succeeded succeeded"),
        ("latest", "succeeded coalesced succeeded succeeded"),
        ("replace", "stopped stopped stopped succeeded"),
    ],
)
def test_each_rule_of_overlap_says_what_would_have_waited_or_given_way(overlap: str, words: str) -> None:
    runs = [run(hour, took_s=9000) for hour in range(4)]

    found = rehearsed(runs, until=4, overlap=overlap, timeout="1d")

    assert outcomes(found) == words.split()
    assert [each.collides for each in found.ticks[1:]] == [True] * 3
    if overlap == "queue":
        assert [each.lateness_s for each in found.ticks] == [0, 5400, 10_800, 16_200]
        assert found.ticks[1].reason == "waited for the run of 2026-11-23T00:00:00Z"
        assert found.jobs()[0].text == "succeeded: waited for the run of 2026-11-23T00:00:00Z; 1h30m late"


def test_a_shorter_timeout_ends_what_took_longer_that_day() -> None:
    found = rehearsed([run(0, took_s=60), run(1, took_s=900)], until=2, timeout="5m")

    assert outcomes(found) == ["succeeded", "timed_out"]
    assert (found.ticks[1].duration_s, found.ticks[1].reason) == (300.0, "it took 15m; timeout is 5m")
    assert found.jobs()[0].text == "was succeeded; timed_out: it took 15m; timeout is 5m"
    was_cut = rehearsed([run(0, "timed_out", took_s=300)], until=1, timeout="10m")
    assert [(each.outcome, each.duration_s) for each in was_cut.ticks] == [("timed_out", 300.0)]
    assert was_cut.ticks[0].reason == "it was ended then that day, so nobody knows how long it takes"


def test_a_ttl_ends_what_waited_too_long_for_a_worker_that_day() -> None:
    runs = [run(0, wait_s=200), run(1, "expired", queued_at=DAY + HOUR, ended_at=DAY + HOUR + 700.0)]

    assert outcomes(rehearsed(runs, until=2)) == ["succeeded", "succeeded"], "without a ttl the second waits, and runs"
    assert [each.lateness_s for each in rehearsed(runs, until=2).ticks] == [200, 700]
    found = rehearsed(runs, until=2, ttl="3m")
    assert outcomes(found) == ["expired", "expired"]
    assert found.ticks[0].reason == "it could begin only 3m20s after its time"


def test_the_attempts_before_the_last_and_the_waits_between_them_count_as_at_work() -> None:
    first = Attempt(1, "failed", started_at=DAY + 0.0, ended_at=DAY + 100.0)
    runs = [run(0, wait_s=4000, took_s=10, attempts=(first,), attempt=2), run(1), run(2)]

    found = rehearsed(runs, until=3)

    assert outcomes(found) == ["succeeded", "skipped", "succeeded"]
    assert (found.ticks[0].lateness_s, found.ticks[0].duration_s) == (0.0, 4010.0)


def test_what_was_replaced_that_day_would_have_gone_on_as_long_as_others_do() -> None:
    cut = run(0, "stopped", took_s=5, reason="replaced by the run j-x")
    stopped = run(1, "stopped", took_s=5, reason="ann@box asked for it")

    found = rehearsed([cut, stopped, run(2, took_s=700)], until=3)

    assert [(each.outcome, each.duration_s) for each in found.ticks] == [
        ("succeeded", 700.0), ("stopped", 5.0), ("succeeded", 700.0),
    ]  # fmt: skip


def test_a_job_that_did_not_run_that_day_takes_the_median_of_its_newest_runs_else_no_time_and_says_so() -> None:
    (tick,) = rehearsed([], [run(100, took_s=3), run(101, took_s=5), run(102, took_s=40)], until=1).ticks
    assert (tick.duration_s, tick.basis, tick.recorded) == (5.0, "newest", None)

    found = rehearsed([], until=1)
    assert (found.ticks[0].duration_s, found.ticks[0].basis) == (0.0, "none")
    assert found.notes == ("no run is known of j: each took no time",)


def test_ticks_and_jobs_that_are_no_more_are_told_of() -> None:
    found = rehearsed([run(0), run(1), run(2)], cron="0 */2 * * *", until=3)
    assert [(each.outcome, each.reason) for each in found.ticks][1] == (None, "no tick by these definitions")
    assert found.jobs()[0].text == "no tick any more"

    gone = rehearsed([run(-1), run(1)], gone=("j",))
    assert [(each.tick, each.outcome, each.recorded) for each in gone.ticks] == [(DAY + HOUR, None, "succeeded")]


def test_what_runs_over_midnight_reaches_into_the_day() -> None:
    late = run(-1, took_s=4000)

    found = rehearsed([late, run(0), run(1)], until=2, timeout="1d")

    assert outcomes(found) == ["skipped", "succeeded"]


def test_before_its_first_row_a_job_may_not_have_been_so_nothing_reaches_into_the_day() -> None:
    assert (
        outcomes(rehearsed([run(0, took_s=4000), run(2, took_s=4000)], until=2, overlap="queue", timeout="1d"))[0]
        == "succeeded"
    )
    assert rehearsed([run(0, took_s=4000)], until=1, overlap="queue", timeout="1d").ticks[0].lateness_s == 0


def test_a_run_that_is_at_work_still_is_no_difference() -> None:
    found = rehearsed([run(0), run(1, None)], until=1.5)

    assert [(each.recorded, each.differs) for each in found.ticks] == [("succeeded", False), ("running", False)]
    assert found.ticks[1].duration_s == 1800


def test_pauses_are_read_from_the_rows_that_they_covered() -> None:
    pause = Pause(DAY + 1.5 * HOUR, "ann@box", "moving: to db2")
    runs = [run(0), *(run(hour, "paused", reason=pause.reason) for hour in (2, 3)), run(4)]
    bare = [run(0, "paused", reason=Pause(DAY - 7.0).reason)]
    noted = [run(0, "paused", reason=Pause(DAY - 7.0, note="x").reason)]
    of_a_queue = [run(0, "paused", reason="the queue mail is paused by ann; the run j-1 waits in it")]

    assert pauses_of(runs) == [Pause(int(pause.since), "ann@box", "moving: to db2", DAY + 3 * HOUR + 1)]
    assert pauses_of(bare) == [Pause(DAY - 7, until=DAY + 1)]
    assert pauses_of(noted) == [Pause(DAY - 7, note="x", until=DAY + 1)]
    assert pauses_of(of_a_queue) == []
    found = rehearsed(runs, cron="*/30 * * * *", until=4.5)
    assert outcomes(found) == ["succeeded"] * 3 + ["paused"] * 4 + ["succeeded"] * 2
    assert found.ticks[4].reason == pause.reason


@pytest.mark.parametrize(
    "skip", [Skip((DAY,), "ann@box", "no: paper"), Skip((DAY,), "ann"), Skip((DAY,), "", "x"), Skip((DAY,))]
)
def test_skips_are_read_from_the_rows_of_ticks_that_somebody_named(skip: Skip) -> None:
    rows = [run(0, "skipped", reason=skip.reason), run(1, "skipped", reason="the run j-1 was still running")]

    assert skips_of(rows) == (skip,)
    assert [each.reason for each in rehearsed(rows, until=2).ticks] == [skip.reason, None]


def test_an_outage_begins_after_the_last_tick_that_was_claimed_in_its_time() -> None:
    in_time = [run(0), run(0.001, queued_at=DAY + 3.9), run(0.5, "coalesced", queued_at=DAY + 2000.0)]

    assert without_beats([(DAY - 2.4, DAY + 2000.7)], in_time, 8.0) == [Outage(DAY + 4, DAY + 2000)]
    assert without_beats([(DAY - 2.4, DAY + 2000.7)], [], 8.0) == [Outage(DAY - 2, DAY + 2000)]
    assert without_beats([(DAY - 9.0, DAY - 8.5)], [], 8.0) == []


def test_during_an_outage_of_that_day_ticks_are_missed_by_the_rule_of_now() -> None:
    spec = make_spec("j", command=["true"], cron="*/10 * * * *", catchup="all")
    scene = Scene(DAY - DAY_S, DAY + HOUR, outages=[Outage(DAY + 300, DAY + 1900)])

    found = rehearse([spec], {"j": Past([run(0)])}, scene, DAY)

    assert outcomes(found) == ["succeeded"] * 6
    assert [each.lateness_s for each in found.ticks] == [0, 1300, 700, 100, 0, 0]
    assert found.ticks[1].reason == "caught up: no beat took it in time; found 21m40s late"


def test_the_same_rows_give_the_same_rehearsal() -> None:
    runs = [run(hour, took_s=60 * hour) for hour in range(24)]

    assert rehearsed(runs, cron="*/20 * * * *") == rehearsed(runs[::-1], cron="*/20 * * * *")


def test_what_somebody_let_pass_that_day_halts_no_job_with_backfill() -> None:
    runs = [run(0), run(1, "failed"), run(2), run(3, "failed")]

    words = "succeeded failed succeeded failed waiting"
    assert outcomes(rehearsed(runs, until=5, backfill=True)) == words.split()
    slow = [run(0), run(1, took_s=900), run(2)]
    assert outcomes(rehearsed(slow, until=3, backfill=True, timeout="5m")) == ["succeeded", "timed_out", "waiting"]
