"""The situations that crontabber's own tests describe, at the same times, with what is right where it was not.

Each test names what crontabber did when that is something else. Times are UTC; 5 January 2026 is a Monday.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.days import Days, epoch
from tests.system.processes import until


@pytest.fixture
def days(redis_url: str, tmp_path: Path) -> Iterator[Days]:
    with Days(redis_url, tmp_path) as days:
        yield days


# When a job is due


def test_a_daily_job_at_ten_waits_for_ten_and_is_late_when_nobody_was_there(days: Days) -> None:
    days.deploy("2026-01-05T09:00", "@job(every='1d', at='10:00')\ndef foo(): work()")
    days.pass_at("2026-01-05T09:00")
    assert days.diary() == []

    days.pass_at("2026-01-05T10:30")
    days.pass_at("2026-01-05T10:35")
    days.pass_at("2026-01-06T10:30")

    assert days.ledger("foo") == {"2026-01-05T10:00": "succeeded", "2026-01-06T10:00": "succeeded"}
    assert days.diary("foo") == ["2026-01-05T10:00", "2026-01-06T10:00"]
    told = days.shown("foo")
    assert (told["first_run"], told["next"]) == ("2026-01-05T10:30:00Z", "2026-01-07T10:00:00Z")


def test_a_job_whose_time_has_passed_today_waits_for_its_next_one(days: Days) -> None:
    """crontabber runs both at once: whoever deploys at 04:00 runs what is meant for the night."""
    days.deploy(
        "2026-01-05T04:00",
        "@job(every='7d', at='03:00')\ndef basic(): work()\n@job(at='1:45')\ndef foo(): work()",
    )
    days.pass_at("2026-01-05T04:00")
    assert days.diary() == []

    days.pass_at("2026-01-06T01:45")
    assert days.diary() == ["foo@2026-01-06T01:45"]
    assert days.shown("basic")["next"] == "2026-01-08T03:00:00Z"


def test_each_job_keeps_its_own_rhythm(days: Days) -> None:
    days.deploy("2026-01-06T12:00", "@job(every='3d')\ndef foo(): work()\n@job(every='4d')\ndef bar(): work()")

    for day in range(7, 12):
        days.pass_at(f"2026-01-{day:02}T00:05")

    assert days.diary("foo") == ["2026-01-07T00:00", "2026-01-10T00:00"]
    assert days.diary("bar") == ["2026-01-07T00:00", "2026-01-11T00:00"]


def test_a_tick_that_is_taken_after_midnight_costs_no_day(days: Days) -> None:
    """crontabber adds a day to 00:05 and then writes 23:55 into it: the evening of the 6th is left out."""
    days.deploy("2026-01-05T12:00", "@job(at='23:55')\ndef foo(): work()")

    for moment in ("2026-01-06T00:05", "2026-01-06T23:55", "2026-01-07T23:56"):
        days.pass_at(moment)

    assert days.diary("foo") == ["2026-01-05T23:55", "2026-01-06T23:55", "2026-01-07T23:55"]


def test_a_job_that_is_always_late_is_not_later_each_time(days: Days) -> None:
    """crontabber counts from the start of the run, so each run is later than the one before."""
    days.deploy("2026-01-05T00:30", "@job(every='1h', overlap='allow')\ndef foo(): work()")
    assert days.worker is not None
    days.worker.terminate()
    start = epoch("2026-01-05T01:00")

    for hour in range(1000):
        days.app.beat().pass_once(now_s=start + 3600 * hour + 55)

    ticks = [run.tick for run in days.app.history("foo", since_s=0)]
    assert sorted(tick for tick in ticks if tick is not None) == [start + 3600 * hour for hour in range(1000)]


# Failures


def test_a_failure_is_kept_and_tried_again_without_moving_the_schedule(days: Days) -> None:
    """crontabber counts the 100 s from the start of the attempt, tries without end, and moves the job along with it."""
    days.deploy("2026-01-07T12:00", "@job(every='7d', retries=3, retry_delay='100s')\ndef trouble(): work()")
    days.let_fail("trouble")
    days.pass_at("2026-01-08T00:00")

    told = days.shown("trouble")
    assert days.ledger("trouble") == {"2026-01-08T00:00": "retrying"}
    assert (told["previous_success"], told["status"]) == (None, "waiting")
    [run] = days.app.history("trouble")
    assert run.attempts[0].reason == "NameError: Trouble!!"
    assert (run.attempts[0].error or "").endswith("NameError: Trouble!!\n")

    days.set_clock("2026-01-08T00:01:39")
    days.beat()
    assert days.diary("trouble") == ["2026-01-08T00:00"]
    days.pass_at("2026-01-08T00:01:40")
    assert days.diary("trouble") == ["2026-01-08T00:00"] * 2

    days.let_fail()
    days.pass_at("2026-01-08T00:03:20")
    assert days.ledger("trouble") == {"2026-01-08T00:00": "succeeded"}
    told = days.shown("trouble")
    assert (told["failures"], told["last_error"], told["next"]) == (0, None, "2026-01-15T00:00:00Z")


def test_what_a_job_raises_is_its_own_failure_and_the_others_go_on(days: Days) -> None:
    days.deploy(
        "2026-01-05T09:00",
        "import sys\n"
        "@job(at='10:00')\ndef a(): raise KeyboardInterrupt\n"
        "@job(at='10:00')\ndef b(): sys.exit(0)\n"
        "@job(at='10:00')\ndef c(): sys.exit(3)\n"
        "@job(at='10:00')\ndef d(): work()\n",
    )

    days.pass_at("2026-01-05T10:00")

    assert {name: run.outcome for name in "abcd" for run in days.app.history(name)} == {
        "a": "failed", "b": "succeeded", "c": "failed", "d": "succeeded",
    }  # fmt: skip
    assert days.app.history("c")[0].exit_code == 3


def test_a_job_shows_all_that_is_known_of_it(days: Days) -> None:
    days.deploy("2026-01-05T09:00", "@job(every='1h')\ndef foo(): work()")
    days.pass_at("2026-01-05T10:00")
    days.let_fail("foo")
    days.pass_at("2026-01-05T11:00")
    days.pass_at("2026-01-05T12:00")

    told = days.shown("foo")

    assert told["next"] == "2026-01-05T13:00:00Z"
    assert told["first_run"] == "2026-01-05T10:00:00Z"
    assert told["last"]["tick"] == "2026-01-05T12:00:00Z"
    assert told["previous_success"] == "2026-01-05T10:00:00Z"
    assert told["ongoing_since"] is None
    assert told["failures"] == 2
    assert told["parents"] == []
    assert told["last_error"]["reason"] == "NameError: Trouble!!"
    assert "Traceback" in told["last_error"]["error"]


def test_a_job_is_reset_twice_and_what_it_did_stays(days: Days) -> None:
    days.deploy("2026-01-05T09:00", "@job(every='1h')\ndef foo(): work()")
    days.let_fail("foo")
    days.pass_at("2026-01-05T10:00")

    days.say("reset", "foo")
    days.say("reset", "foo")
    days.say("reset", "unheard-of", code=2)

    told = days.shown("foo")
    assert (told["status"], told["failures"], told["last"], told["first_run"]) == ("never", 0, None, None)
    assert days.ledger("foo") == {"2026-01-05T10:00": "failed"}
    days.let_fail()
    days.pass_at("2026-01-05T11:00")
    assert days.ledger("foo") == {"2026-01-05T10:00": "failed", "2026-01-05T11:00": "succeeded"}


# Two at the same moment


def test_two_beats_at_the_same_moment_run_each_tick_once(days: Days) -> None:
    """With crontabber the loser ends with 2 or 3, and leaves all jobs that come later."""
    days.deploy("2026-01-04T23:30", "@job(every='1h')\ndef slow(): work()\n@job(every='1h')\ndef slow_also(): work()")
    start = epoch("2026-01-05T00:00")
    beats = [days.app.beat() for _ in range(2)]
    for hour in range(100):
        together = threading.Barrier(2)

        def look(beat: int, now_s: float, together: threading.Barrier = together) -> None:
            together.wait()
            beats[beat].pass_once(now_s=now_s)

        threads = [threading.Thread(target=look, args=(each, start + 3600 * hour + 0.5)) for each in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        days.wait_until_idle()

    for name in ("slow", "slow_also"):
        ran = [run.tick for run in days.app.history(name, since_s=0) if run.outcome == "succeeded"]
        assert sorted(tick for tick in ran if tick) == [start + 3600 * hour for hour in range(100)]
        assert len(days.diary(name)) == 100


def test_a_job_that_is_still_at_work_keeps_no_other_from_running(days: Days) -> None:
    """crontabber ends its whole pass with 3 when it comes to such a job."""
    days.deploy(
        "2026-01-05T09:00",
        "@job(every='1h')\ndef basic(): work()\n@job(every='1h')\ndef later(): work()",
        workers=2,
    )
    days.hold("basic")
    days.set_clock("2026-01-05T10:00")
    days.beat()
    days.wait_until_idle(but=["basic"])
    days.set_clock("2026-01-05T11:00")
    days.beat()
    days.wait_until_idle(but=["basic"])

    assert days.ledger("basic") == {"2026-01-05T10:00": "running", "2026-01-05T11:00": "skipped"}
    assert days.ledger("later") == {"2026-01-05T10:00": "succeeded", "2026-01-05T11:00": "succeeded"}
    told = days.shown("basic")
    assert (told["failures"], told["ongoing_since"]) == (0, "2026-01-05T10:00:00Z")
    days.let_go("basic")
    days.wait_until_idle()
    assert days.app.history("basic", 1, "skipped")[0].reason is not None
    assert days.ledger("basic")["2026-01-05T10:00"] == "succeeded"


@pytest.mark.parametrize("hours", [1, 13, 25, 37, 49])
def test_a_job_that_lives_is_never_doubled_however_long_it_takes(days: Days, hours: int) -> None:
    """crontabber frees a lock after 12 h and loses count of days: 13 and 37 h double the job, 25 and 49 do not."""
    days.deploy("2026-01-05T09:00", "@job(every='1h', catchup='skip')\ndef basic(): work()", workers=2)
    days.hold("basic")
    days.set_clock("2026-01-05T10:00")
    days.beat()
    until(lambda: days.diary("basic"), what="its start")

    days.set_clock(epoch("2026-01-05T10:00") + hours * 3600)
    days.beat()
    days.beat()

    assert len(days.diary("basic")) == 1
    assert days.ledger("basic")["2026-01-05T10:00"] == "running"
    assert days.app.history("basic", 1)[0].outcome == "skipped"
    days.let_go("basic")


def test_a_job_whose_worker_died_runs_again_within_seconds(days: Days) -> None:
    """crontabber waits for 12 h, and until then each pass ends at this job."""
    days.deploy("2026-01-05T09:00", "@job(every='1h')\ndef basic(): work()")
    days.hold("basic")
    days.set_clock("2026-01-05T10:00")
    days.beat()
    until(lambda: days.diary("basic"), what="its start")
    assert days.worker is not None
    days.worker.kill9()
    days.worker = None
    days.let_go("basic")

    def is_settled() -> bool:
        days.beat()
        return days.ledger("basic") == {"2026-01-05T10:00": "lost"}

    until(is_settled, within_s=20)
    days.worker = days.cronq("worker", "-m", "jobs")
    days.pass_at("2026-01-05T11:00")
    assert days.ledger("basic") == {"2026-01-05T10:00": "lost", "2026-01-05T11:00": "succeeded"}


# Jobs that depend on others


FAMILY = """
@job(at="10:00", depends_on="trouble")
def sad(): work()
@job(at="10:00")
def trouble(): work()
@job(at="10:00")
def basic(): work()
"""


def test_a_job_waits_for_a_parent_that_failed_and_runs_when_that_is_mended(days: Days) -> None:
    days.deploy("2026-01-05T09:00", FAMILY)
    days.let_fail("trouble")

    days.pass_at("2026-01-05T10:00")
    days.pass_at("2026-01-05T10:05")

    assert days.diary("trouble") == ["2026-01-05T10:00"]
    assert days.ledger("basic") == {"2026-01-05T10:00": "succeeded"}
    assert days.ledger("sad") == {"2026-01-05T10:00": "waiting"}
    [run] = days.app.history("sad")
    assert "its parent trouble of 2026-01-05T10:00:00Z" in (run.reason or "")
    assert (days.diary("sad"), days.shown("sad")["failures"]) == ([], 0)

    days.let_fail()
    days.say("run", "trouble")
    days.pass_at("2026-01-05T10:10")
    assert days.ledger("sad") == {"2026-01-05T10:00": "succeeded"}


def test_by_hand_it_runs_all_the_same_and_its_tick_goes_on_waiting(days: Days) -> None:
    days.deploy("2026-01-05T09:00", FAMILY)
    days.let_fail("trouble")
    days.pass_at("2026-01-05T10:00")

    days.say("run", "sad")
    days.pass_at("2026-01-05T10:01")

    assert days.diary("sad") == [""]
    assert days.ledger("sad") == {"2026-01-05T10:00": "waiting"}


def test_three_days_without_the_parent_are_three_rows_and_no_failure(days: Days) -> None:
    """crontabber leaves no trace of such days."""
    days.deploy("2026-01-05T09:00", FAMILY)
    days.let_fail("trouble")

    for day in (5, 6, 7):
        days.pass_at(f"2026-01-{day:02}T10:00")
    days.let_fail()
    days.pass_at("2026-01-08T10:00")

    assert days.ledger("sad") == {
        "2026-01-05T10:00": "blocked", "2026-01-06T10:00": "blocked", "2026-01-07T10:00": "blocked",
        "2026-01-08T10:00": "succeeded",
    }  # fmt: skip
    assert days.diary("sad") == ["2026-01-08T10:00"]


def test_parents_come_first_whatever_the_order_of_the_file(days: Days) -> None:
    days.deploy(
        "2026-01-05T09:00",
        "@job(at='10:00', depends_on=['foo', 'bar'])\ndef foobar(): work()\n"
        "@job(at='10:00', depends_on='foo')\ndef bar(): work()\n"
        "@job(at='10:00')\ndef foo(): work()\n",
        workers=2,
    )

    days.pass_at("2026-01-05T10:00")

    assert [each.partition("@")[0] for each in days.diary()] == ["foo", "bar", "foobar"]
    assert days.shown("foobar")["parents"] == ["foo", "bar"]
    assert days.shown("foo")["children"] == ["bar", "foobar"]


def test_a_dependency_starts_nothing_and_a_weekly_parent_serves_a_daily_child_all_week(days: Days) -> None:
    days.deploy(
        "2026-01-04T12:00",
        "@job('0 10 * * *')\ndef daily(): work()\n"
        "@job('0 10 * * MON', depends_on='daily')\ndef weekly(): work()\n"
        "@job('5 10 * * *', depends_on='weekly')\ndef after_the_week(): work()\n",
    )

    for day in range(5, 13):
        days.pass_at(f"2026-01-{day:02}T10:00")
        days.pass_at(f"2026-01-{day:02}T10:05")

    assert days.diary("weekly") == ["2026-01-05T10:00", "2026-01-12T10:00"]
    assert days.diary("after_the_week") == [f"2026-01-{day:02}T10:05" for day in range(5, 13)]


def test_a_parent_that_is_at_work_is_waited_for(days: Days) -> None:
    """crontabber runs the child beside a parent that somebody forces just then."""
    days.deploy(
        "2026-01-05T09:00",
        "@job(every='5m')\ndef often(): work()\n@job(at='10:00', depends_on='often')\ndef child(): work()",
        workers=2,
    )
    days.pass_at("2026-01-05T09:55")
    days.hold("often")
    days.set_clock("2026-01-05T10:00")
    days.beat()
    days.wait_until_idle(but=["often"])
    assert days.ledger("child") == {"2026-01-05T10:00": "waiting"}

    days.let_go("often")
    days.wait_until_idle()
    assert until(lambda: days.diary("child")) == ["2026-01-05T10:00"]


def test_a_parent_that_did_not_run_is_waited_for(days: Days) -> None:
    days.deploy("2026-01-05T09:00", FAMILY)
    days.say("pause", "trouble", "--until", "2026-01-05T12:00")

    days.pass_at("2026-01-05T10:00")

    assert days.ledger("trouble") == {"2026-01-05T10:00": "paused"}
    assert days.ledger("sad") == {"2026-01-05T10:00": "waiting"}
    days.pass_at("2026-01-06T10:00")
    assert days.ledger("sad") == {"2026-01-05T10:00": "blocked", "2026-01-06T10:00": "succeeded"}


def test_a_parent_of_another_service_counts(days: Days) -> None:
    days.deploy("2026-01-05T09:00", "@job(at='10:00')\ndef foo(): work()")
    days.write_module("other", "from cronq import job\n@job(at='10:00', depends_on='foo')\ndef bar(): return 'ran'\n")
    days.say("sync", "other")
    days.let_fail("foo")
    days.cronq("worker", "-m", "other", "-m", "jobs").wait_for_line("START-UP worker")

    days.set_clock("2026-01-05T10:00")
    days.beat()
    days.wait_until_idle()

    assert days.ledger("bar") == {"2026-01-05T10:00": "waiting"}


@pytest.mark.parametrize(
    ("parents", "told"),
    [
        ({"a": "b", "b": "c", "c": "a"}, "a depends on b, b on c, c on a; none of them would run"),
        ({"root": None, "a": "b", "b": "a"}, "a depends on b, b on a; none of them would run"),
        ({"a": "a"}, "it names the job itself, which would never run"),
        ({"a": "unheard-of"}, "there is no job 'unheard-of'"),
        ({"root": None, "a": "unheard-of"}, "there is no job 'unheard-of'"),
    ],
)
def test_what_could_never_run_is_refused_by_name(days: Days, parents: dict[str, str | None], told: str) -> None:
    """crontabber calls a missing parent a circle, lets it pass beside any root, and never runs what names itself."""
    days.set_clock("2026-01-05T09:00")
    days.write_module(
        "jobs",
        "from cronq import job\n"
        + "".join(
            f"@job(at='10:00', depends_on={parent!r})\ndef {name}(): ...\n"
            if parent
            else f"@job(at='10:00')\ndef {name}(): ...\n"
            for name, parent in parents.items()
        ),
    )

    assert told in days.say("sync", "jobs", code=78)
    assert days.app.job_names() == [name for name, parent in parents.items() if parent is None]
    assert told in days.say("check-config", "jobs", code=78)


def test_no_job_at_all_is_no_fault(days: Days) -> None:
    days.set_clock("2026-01-05T09:00")
    days.write_module("jobs", "")

    assert "no job is defined in jobs" in days.say("check-config", "jobs")


# Jobs that make up for each day


MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (f"2026-01-{day:02}T10:00" for day in (5, 6, 7, 8))
DAILY = "@job(at='10:00', backfill=True, retries=1000, retry_delay='5m')\ndef foo(): work()"


def test_a_backfill_job_at_ten_has_the_time_of_its_schedule(days: Days) -> None:
    """crontabber gives the first run the time of its clock, 10:30."""
    days.deploy("2026-01-05T09:00", DAILY)
    days.pass_at("2026-01-05T09:00")
    assert days.diary() == []

    days.pass_at("2026-01-05T10:30")
    assert days.diary("foo") == [MONDAY]
    days.pass_at("2026-01-06T10:30")
    assert days.diary("foo") == [MONDAY, TUESDAY]


def test_after_three_days_there_are_three_runs_in_order_and_then_none(days: Days) -> None:
    days.deploy("2026-01-01T09:00", DAILY)
    days.pass_at("2026-01-01T10:30")

    days.pass_at("2026-01-04T10:30", rounds=6)
    days.pass_at("2026-01-04T10:35")

    assert days.diary("foo") == [f"2026-01-{day:02}T10:00" for day in (1, 2, 3, 4)]
    rows = days.app.history("foo", since_s=0)
    assert [run.outcome for run in rows] == ["succeeded"] * 4
    assert all(run.duration_s is not None for run in rows)


def test_without_a_time_of_day_it_is_the_same(days: Days) -> None:
    days.deploy("2026-01-04T17:00", "@job(every='1d', backfill=True)\ndef foo(): work()")
    days.pass_at("2026-01-05T17:14")

    days.pass_at("2026-01-08T17:13", rounds=6)

    assert days.diary("foo") == [f"2026-01-{day:02}T00:00" for day in (5, 6, 7, 8)]


def test_a_beat_that_is_a_minute_quicker_than_yesterday_costs_no_day(days: Days) -> None:
    days.deploy("2026-01-05T17:00", "@job(at='18:00', backfill=True)\ndef slow(): work()")

    days.pass_at("2026-01-05T18:02")
    days.pass_at("2026-01-06T18:01")

    assert days.diary("slow") == ["2026-01-05T18:00", "2026-01-06T18:00"]


def test_a_day_and_a_day_less_a_second_are_two_days(days: Days) -> None:
    days.deploy("2026-01-05T09:00", DAILY)

    for moment in ("2026-01-05T11:00:00", "2026-01-06T11:00:00", "2026-01-07T10:59:59"):
        days.pass_at(moment)

    assert days.diary("foo") == [MONDAY, TUESDAY, WEDNESDAY]


def test_a_day_that_fails_is_tried_again_the_days_before_are_not_and_those_behind_it_wait(days: Days) -> None:
    days.deploy("2026-01-05T09:00", DAILY)
    days.pass_at("2026-01-05T10:30")
    days.let_fail(f"foo@{WEDNESDAY}")

    days.pass_at("2026-01-08T10:30", rounds=6)
    assert days.diary("foo") == [MONDAY, TUESDAY, WEDNESDAY]
    assert days.shown("foo")["previous_success"] == f"{TUESDAY}:00Z"
    assert days.ledger("foo") == {MONDAY: "succeeded", TUESDAY: "succeeded", WEDNESDAY: "retrying"}

    days.pass_at("2026-01-08T10:34", rounds=6)
    assert days.diary("foo") == [MONDAY, TUESDAY, WEDNESDAY]
    days.let_fail()
    days.pass_at("2026-01-08T10:35", rounds=6)
    assert days.diary("foo") == [MONDAY, TUESDAY, WEDNESDAY, WEDNESDAY, THURSDAY]
    assert days.ledger("foo") == dict.fromkeys([MONDAY, TUESDAY, WEDNESDAY, THURSDAY], "succeeded")


def test_a_job_that_has_never_succeeded_forgets_no_day(days: Days) -> None:
    """crontabber begins with the present day, again and again, as long as nothing has succeeded."""
    days.deploy("2026-01-05T09:00", DAILY)
    days.let_fail("foo")

    days.pass_at("2026-01-05T10:00")
    days.pass_at("2026-01-06T10:00")
    days.let_fail()
    days.pass_at("2026-01-07T10:00", rounds=6)

    assert days.diary("foo")[:2] == [MONDAY, MONDAY]
    assert days.diary("foo")[-3:] == [MONDAY, TUESDAY, WEDNESDAY]
    assert days.ledger("foo") == dict.fromkeys([MONDAY, TUESDAY, WEDNESDAY], "succeeded")


def test_a_pass_with_nothing_to_do_is_no_success(days: Days) -> None:
    """crontabber clears the error, and moves the next run by a day."""
    days.deploy("2026-01-05T09:00", "@job(at='10:00', backfill=True)\ndef foo(): work()")
    days.let_fail("foo")
    days.pass_at("2026-01-05T10:00")
    before = days.shown("foo")

    days.pass_at("2026-01-05T10:30")
    after = days.shown("foo")

    assert (after["next"], after["failures"], after["last_error"]) == (before["next"], 1, before["last_error"])
    days.let_fail()
    days.say("mark-success", "foo")
    days.pass_at("2026-01-06T10:00")
    assert days.diary("foo") == [MONDAY, TUESDAY]


def test_a_worker_that_dies_between_two_days_repeats_none_that_was_done(days: Days) -> None:
    """crontabber writes down what was done when the whole series has ended: after a crash it begins anew."""
    days.deploy("2026-01-05T09:00", "@job(at='10:00', backfill=True, on_lost='rerun')\ndef foo(): work()")
    days.set_clock("2026-01-07T10:30")
    for count in (1, 2):
        days.beat()
        days.wait_until_idle()
        assert len(days.diary("foo")) == count
    days.hold("foo")
    days.beat()
    until(lambda: len(days.diary("foo")) == 3, what="the third day")
    assert days.worker is not None
    days.worker.kill9()
    days.let_go("foo")
    days.worker = days.cronq("worker", "-m", "jobs")

    def is_done() -> bool:
        days.beat()
        return days.ledger("foo") == dict.fromkeys([MONDAY, TUESDAY, WEDNESDAY], "succeeded")

    until(is_done, what=lambda: str(days.ledger("foo")))
    assert days.diary("foo") == [MONDAY, TUESDAY, WEDNESDAY, WEDNESDAY]
    assert days.app.history("foo", 1)[0].attempt == 2


CHAIN = """
from functools import partial
daily = partial(job, at="10:00", backfill=True, retries=100, retry_delay="1h")
@daily(depends_on=["foo", "bar"])
def foobar(): work()
@daily(depends_on="foo")
def bar(): work()
@daily()
def foo(): work()
"""


def test_a_child_of_a_parent_that_was_mended_two_hours_later_has_the_same_day(days: Days) -> None:
    days.deploy("2026-01-05T09:00", CHAIN)
    days.let_fail("bar")
    days.pass_at("2026-01-05T10:00")
    assert days.diary() == [f"foo@{MONDAY}", f"bar@{MONDAY}"]
    assert days.app.history("bar", 1)[0].retry_at == epoch("2026-01-05T11:00")

    days.let_fail()
    days.pass_at("2026-01-05T12:00", rounds=6)

    assert days.diary() == [f"foo@{MONDAY}", f"bar@{MONDAY}", f"bar@{MONDAY}", f"foobar@{MONDAY}"]
    assert days.ledger("foobar") == {MONDAY: "succeeded"}


def test_a_child_whose_parent_failed_for_three_days_gets_the_three_days(days: Days) -> None:
    days.deploy("2026-01-05T09:00", CHAIN)
    days.let_fail("foo")
    for day in (5, 6, 7):
        days.pass_at(f"2026-01-{day:02}T10:00")
    assert (days.diary("foobar"), days.shown("foobar")["failures"]) == ([], 0)

    days.let_fail()
    days.pass_at("2026-01-07T11:30", rounds=12)

    for name in ("foo", "bar", "foobar"):
        assert days.ledger(name) == dict.fromkeys([MONDAY, TUESDAY, WEDNESDAY], "succeeded"), name
    assert days.diary("foobar") == [MONDAY, TUESDAY, WEDNESDAY]
