"""Jobs with calendars, through passes of a beat: excluded ticks are rows with their reason, and nothing past fires."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.errors import CalendarInUse, DefinitionError, KeyBroken, UnknownCalendar
from cronq.jobs.registry import Definition
from cronq.jobs.spec import JobSpec, make_spec
from cronq.timetext import parse_instant
from tests.redis.conftest import work

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, DAY = 60, 86400
Store = Callable[..., JobSpec]


def ledger(app: Cronq, name: str) -> list[tuple[str | None, str]]:
    """Outcome (or state) and reason of each tick, oldest first."""
    return [(run.outcome or run.state, run.reason or "") for run in reversed(app.history(name, 100))]


def outcomes(app: Cronq, name: str) -> list[str | None]:
    return [outcome for outcome, _ in ledger(app, name)]


def test_an_excluded_tick_is_a_row_with_the_day_and_the_calendar(app: Cronq, store: Store) -> None:
    app.set_calendar("holidays", dates=["2026-01-06"])
    store("report", mark=T, cron="0 7 * * *", except_="holidays")
    beat = app.beat()

    for day in (1, 2):
        beat.pass_once(now_s=T + day * DAY + 0.1)

    (first, reason), (second, _) = ledger(app, "report")
    assert (first, reason) == ("skipped", "2026-01-06 is in the calendar holidays")
    assert second == "queued"
    assert [run.decided_by is not None for run in app.history("report")] == [True, True]


def test_a_job_with_only_runs_on_the_days_of_that_calendar_in_its_own_zone(app: Cronq, store: Store) -> None:
    app.set_calendar("weekend", weekly=["sat,sun"])
    mark = int(parse_instant("2026-01-09T12:00"))
    store("report", mark=mark, cron="0 20 * * *", tz="America/New_York", only="weekend", overlap="allow")
    beat = app.beat()

    for moment in ("2026-01-10T01:00:01", "2026-01-11T01:00:01", "2026-01-12T01:00:01", "2026-01-13T01:00:01"):
        beat.pass_once(now_s=parse_instant(moment))

    assert outcomes(app, "report") == ["skipped", "queued", "queued", "skipped"]
    assert ledger(app, "report")[0][1] == "Fri 2026-01-09 is not in the calendar weekend"


def test_a_beat_heeds_a_changed_calendar_with_its_next_pass_and_fires_nothing_past(app: Cronq, store: Store) -> None:
    app.set_calendar("freeze", dates=["2026-01-05"])
    store("deploy", mark=T, except_="freeze", overlap="allow")
    beat = app.beat()
    beat.pass_once(now_s=T + 3 * MINUTE + 0.1)

    app.set_calendar("freeze", dates=["2027-01-01"])
    beat.pass_once(now_s=T + 3 * MINUTE + 1)
    beat.pass_once(now_s=T + 4 * MINUTE + 0.1)
    app.set_calendar("freeze", dates=["2026-01-05"])
    beat.pass_once(now_s=T + 5 * MINUTE + 0.1)

    assert outcomes(app, "deploy") == ["skipped"] * 3 + ["queued", "skipped"]


def test_calendars_are_read_only_when_they_have_changed(
    app: Cronq, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.set_calendar("freeze", dates=["2027-01-01"])
    store("deploy", mark=T, except_="freeze", overlap="allow")
    beat = app.beat()
    read: list[Any] = []
    usual = app.calendars.read
    monkeypatch.setattr(app.calendars, "read", lambda: read.append(1) or usual())

    for minute in range(1, 6):
        beat.pass_once(now_s=T + minute * MINUTE + 0.1)
    app.set_calendar("other", dates=["2027-01-01"])
    for minute in range(6, 9):
        beat.pass_once(now_s=T + minute * MINUTE + 0.1)

    assert len(read) == 2
    assert outcomes(app, "deploy") == ["queued"] * 8


def test_after_an_outage_the_newest_tick_that_is_not_excluded_runs(app: Cronq, store: Store) -> None:
    app.set_calendar("noon", weekly=["mon 07:03-09:00"])
    store("often", mark=T, except_="noon")

    app.beat().pass_once(now_s=T + 5 * MINUTE + 30)

    assert outcomes(app, "often") == ["coalesced", "queued", "skipped", "skipped", "skipped"]


@pytest.mark.parametrize(("options", "expected"), [({"except_": "gone"}, "queued"), ({"only": "gone"}, "skipped")])
def test_a_job_whose_calendar_is_missing_is_told_of_once_and_does_the_safe_thing(
    app: Cronq, store: Store, caplog: pytest.LogCaptureFixture, options: dict[str, Any], expected: str
) -> None:
    store("lonely", mark=T, overlap="allow", **options)
    beat = app.beat()

    with caplog.at_level(logging.WARNING, "cronq"):
        for minute in range(1, 4):
            beat.pass_once(now_s=T + minute * MINUTE + 0.1)

    assert outcomes(app, "lonely") == [expected] * 3
    assert [line for line in caplog.messages if "CALENDAR" in line] == [
        "CALENDAR job=lonely names the calendar gone, which is missing or damaged"
    ]


@pytest.mark.parametrize("damage", ["a value", "the key"])
def test_damaged_calendars_silence_no_other_job(app: Cronq, store: Store, redis: Redis, damage: str) -> None:
    app.set_calendar("freeze", dates=["2026-01-05"])
    store("deploy", mark=T, except_="freeze")
    store("plain", mark=T)
    if damage == "a value":
        redis.hset(app.keys.calendars, mapping={"freeze": "\x00{", ":version": "x"})
    else:
        redis.set(app.keys.calendars, "junk")

    app.beat().pass_once(now_s=T + MINUTE + 0.1)

    assert outcomes(app, "deploy") == outcomes(app, "plain") == ["queued"]
    if damage == "the key":
        with pytest.raises(KeyBroken):
            app.set_calendar("freeze", dates=["2026-01-05"])
        with pytest.raises(KeyBroken):
            app.remove_calendar("freeze", force=True)
    else:
        _, problems = app.read_calendars()
        assert [str(each) for each in problems] == ["the calendar 'freeze' is damaged; set it again"]


def test_a_key_of_a_wrong_type_keeps_no_job_from_being_synced_paused_or_listed(
    app: Cronq, store: Store, redis: Redis
) -> None:
    redis.set(app.keys.calendars, "junk")
    spec = store("deploy", mark=T, except_="freeze", only="work")
    app.registry.add(Definition(spec, "jobs.py:3", "jobs", work))

    report = app.sync(["jobs"], load=False)
    app.pause("deploy")

    assert [str(each).partition(";")[0] for each in report.problems] == [
        "job 'deploy' (jobs.py:3): only: there is no calendar 'work'"
    ]
    assert list(app.exclusions([app.read_job("deploy")])) == ["deploy"]


def test_ticks_that_are_pending_when_a_job_is_changed_are_excluded_or_missed(app: Cronq, store: Store) -> None:
    app.set_calendar("quiet", weekly=["mon 07:02-07:03"])
    store("report", mark=T, except_="quiet")
    changes = app.changes()
    changes.now_s = lambda: T + 3 * MINUTE + 0.5

    changes.save(make_spec("report", cron="* * * * *", function=f"{work.__module__}:work"), source="x", origin="test")

    assert outcomes(app, "report") == ["missed", "skipped", "missed"]


def test_a_change_of_the_calendars_of_a_job_fires_nothing_past(app: Cronq, store: Store) -> None:
    app.set_calendar("all", weekly=["mon-sun"])
    store("report", mark=T, except_="all")
    changes = app.changes()
    changes.now_s = lambda: T + 2 * MINUTE + 0.5
    beat = app.beat()

    changes.save(make_spec("report", cron="* * * * *", function=f"{work.__module__}:work"), source="x", origin="test")
    beat.pass_once(now_s=T + 2 * MINUTE + 1)
    beat.pass_once(now_s=T + 3 * MINUTE + 0.1)

    assert outcomes(app, "report") == ["skipped", "skipped", "queued"]


def test_add_refuses_a_calendar_that_there_is_not_and_stores_nothing(app: Cronq) -> None:
    with pytest.raises(DefinitionError, match=r"job 'tidy': only: there is no calendar 'work'; make it with"):
        app.add("tidy", every="1h", command=["true"], only="work")

    assert app.job_names() == []


def test_sync_stores_such_a_job_and_tells_of_it_with_its_place(app: Cronq) -> None:
    spec = make_spec("report", cron="@daily", function=f"{work.__module__}:work", except_=["holidays"])
    app.registry.add(Definition(spec, "jobs.py:3", "jobs", work))

    report = app.sync(["jobs"], load=False)

    assert report.created == ["report"]
    (problem,) = report.problems
    assert str(problem).startswith("job 'report' (jobs.py:3): except_: there is no calendar 'holidays'; make it with ")


def test_a_calendar_that_jobs_use_is_removed_only_by_force(app: Cronq, store: Store) -> None:
    app.set_calendar("work", weekly=["mon-fri"])
    for number in range(7):
        store(f"report{number}", mark=T, only="work")

    with pytest.raises(CalendarInUse, match=r"used by report0, .*report4 and 2 more; change"):
        app.remove_calendar("work")
    assert app.read_calendar("work").name == "work"
    assert len(app.remove_calendar("work", force=True)) == 7
    with pytest.raises(UnknownCalendar):
        app.read_calendar("work")
    with pytest.raises(UnknownCalendar):
        app.remove_calendar("work")


def test_a_beat_of_the_release_before_leaves_jobs_with_calendars_alone(
    app: Cronq, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.set_calendar("freeze", dates=["2026-01-05"])
    store("deploy", mark=T, except_="freeze")
    store("plain", mark=T)
    monkeypatch.setattr("cronq.jobs.store.SPEC_LAYOUT", 1)

    app.beat().pass_once(now_s=T + MINUTE + 0.1)

    assert outcomes(app, "plain") == ["queued"]
    assert app.client.zcard(app.keys.runs("deploy")) == 0
