"""`plan` says what `sync` then does, whatever was edited, and changes nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.definitions.plan import Plan, PlannedChange, make_plan
from cronq.definitions.sync import SyncReport
from cronq.errors import CronqError, DefinitionError
from cronq.jobs.registry import Definition
from cronq.jobs.spec import make_spec

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MODULE = "shop"
SCHEDULES: list[dict[str, Any]] = [
    {}, {"cron": "* * * * *"}, {"cron": "0 8 * * *"}, {"cron": "0 8 * * *", "tz": "Europe/Berlin"}, {"every": "5m"},
    {"every": "1d", "at": "10:00"}, {"cron": "H * * * *"}, {"cron": "*/10 * * * *", "catchup": "skip"},
    {"every": "10m", "end": "2026-01-05T12:00Z"}, {"cron": "0 * * * *", "start": "2026-01-06T00:00Z"},
    {"at": "2026-01-05T09:00Z"}, {"every": "10m", "repeat": 7}, {"every": "5m", "repeat": 50},
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {}, {"timeout": "5m"}, {"description": "Sends it"}, {"args": [1, "a"]}, {"tags": ["night"]}, {"overlap": "allow"},
    {"keep": 20_000}, {"args": ["x" * 2000]},
]  # fmt: skip


def define(app: Cronq, name: str, *, module: str = MODULE, **options: Any) -> None:
    spec = make_spec(name, function=f"{module}:{name.rpartition('-')[0] or name}", **options)
    app.registry.definitions[name] = Definition(spec, f"{module}.py:1", module, lambda: None)


def planned(app: Cronq, now_s: float = T) -> Plan:
    app.exact_now_s = lambda: now_s  # type: ignore[method-assign]
    return make_plan(app.definitions(), [MODULE], now_s, app.config.max_args)


def synced(app: Cronq) -> SyncReport:
    return app.definitions().sync([MODULE], remove=True, by="ann@box")


def only(plan: Plan) -> PlannedChange:
    (change,) = plan.changes
    return change


def dump(redis: Redis) -> dict[bytes, Any]:
    return {key: redis.dump(key) for key in redis.scan_iter()}


def names(plan: Plan, action: str) -> list[str]:
    return [change.spec.name for change in plan.changes if change.action == action]


@pytest.mark.parametrize("seed", range(8))
def test_what_it_says_is_what_a_sync_then_does(app: Cronq, redis: Redis, seed: int) -> None:
    choose, now = random.Random(seed), T
    object.__setattr__(app.config, "max_args", 1000)
    for _ in range(12):
        now += choose.choice([1, 59, 3600, 20_000])
        for name in choose.sample(["report-a", "report-b", "tidy-a", "tidy-b", "mail", "feed"], 3):
            if choose.random() < 0.3:
                app.registry.definitions.pop(name, None)
            else:
                module = choose.choice([MODULE, MODULE, "shop.night", "other"])
                define(app, name, module=module, **choose.choice(SCHEDULES), **choose.choice(OPTIONS))
        _damage_something(app, redis, choose)

        plan, before = planned(app, now), dump(redis)
        assert dump(redis) == before
        missed = {change.spec.name: _given_up(app, change.spec.name) for change in plan.changes}
        report = synced(app)

        assert names(plan, "add") == sorted(report.created)
        assert names(plan, "change") == sorted(report.changed)
        assert names(plan, "remove") == sorted(report.removed)
        assert sorted(plan.same) == sorted(report.same)
        assert sorted(map(str, plan.problems)) == sorted(map(str, report.problems))
        for change in plan.changes:
            name = change.spec.name
            assert _given_up(app, name) - missed[name] == change.pending
            if change.action != "remove":
                assert app.read_job(name).next_tick == change.next_after
                assert app.read_job(name).spec == change.spec
        assert planned(app, now).changes == []


def _damage_something(app: Cronq, redis: Redis, choose: random.Random) -> None:
    name = choose.choice(["report-a", "mail", "feed"])
    if choose.random() < 0.15 and redis.exists(app.keys.job(name)):
        redis.hset(app.keys.job(name), "spec", "{")
    elif choose.random() < 0.15 and redis.exists(app.keys.state(name)):
        redis.hdel(app.keys.state(name), "mark")


def _given_up(app: Cronq, name: str) -> int:
    """How many ticks of the job *name* were recorded as missed, ever."""
    try:
        return sum(run.outcome == "missed" for run in app.history(name, 100_000))
    except CronqError:  # neither a row nor a sound job
        return 0


def test_each_option_that_changes_is_named_with_both_values_and_both_next_ticks(app: Cronq) -> None:
    define(app, "mail", cron="0 8 * * *", timeout="5m")
    planned(app)
    synced(app)
    define(app, "mail", cron="0 9 * * *", tz="Europe/Berlin", timeout="10m")

    change = only(planned(app))

    assert change.action == "change"
    assert [(each.name, each.old, each.new) for each in change.fields] == [
        ("cron", "0 8 * * *", "0 9 * * *"),
        ("tz", "UTC", "Europe/Berlin"),
        ("timeout", 300.0, 600.0),
    ]
    assert (change.next_before, change.next_after) == (T + 3600, T + 3600), "9:00 in Berlin is 8:00 UTC"


def test_ticks_that_no_beat_took_are_counted_when_a_sync_gives_them_up_and_only_then(app: Cronq) -> None:
    define(app, "mail", every="5m")
    planned(app)
    synced(app)

    define(app, "mail", every="5m", timeout="5m")
    assert only(planned(app, T + 1500)).pending == 0, "a change of another option leaves them to a beat"
    define(app, "mail", every="10m")
    assert only(planned(app, T + 1500)).pending == 5
    del app.registry.definitions["mail"]
    assert only(planned(app, T + 1500)).pending == 5


def test_a_removed_and_an_added_job_that_do_the_same_look_renamed(app: Cronq) -> None:
    define(app, "tidy-a", cron="@daily", args=[1])
    define(app, "tidy-b", cron="@daily", args=[2])
    define(app, "mail", cron="@daily")
    planned(app)
    synced(app)
    app.registry.definitions.clear()
    define(app, "tidy-c", cron="@daily", args=[2])
    define(app, "tidy-d", cron="@hourly")
    define(app, "feed", cron="@daily")

    found = {change.spec.name: change.renamed for change in planned(app).changes}

    assert found == {
        "tidy-a": None, "tidy-b": "tidy-c", "tidy-c": "tidy-b", "tidy-d": None, "mail": None, "feed": None,
    }  # fmt: skip


def test_a_module_that_cannot_be_imported_and_a_refused_job_lose_nothing(app: Cronq) -> None:
    define(app, "mail", cron="@daily")
    planned(app)
    synced(app)
    app.registry.definitions.clear()
    app.registry.refuse(DefinitionError("no", job="mail"))

    plan = planned(app)

    assert (plan.changes, [str(problem) for problem in plan.problems]) == ([], ["job 'mail': no"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cron": "0 0 29 2 */7"}, "never fires: 0 0 29 2 */7 has no tick in the next five years"),
        ({"cron": "30 2 * * *", "tz": "Europe/Berlin"}, "does not exist in Europe/Berlin: 02:30 runs once, at 03:00"),
        ({"cron": "*/7 * * * *"}, "minute */7 is uneven"),
    ],
)
def test_a_schedule_that_is_odd_is_warned_of(app: Cronq, options: dict[str, Any], words: str) -> None:
    define(app, "mail", **options)

    ((job, text),) = planned(app).warnings

    assert job == "mail"
    assert words in text


def test_a_sound_schedule_has_no_warning_though_its_clock_will_change(app: Cronq) -> None:
    define(app, "mail", cron="0 9 * * *", tz="Europe/Berlin")

    assert planned(app).warnings == []


def test_of_a_schedule_that_stays_only_that_it_never_fires_is_said_again(app: Cronq) -> None:
    define(app, "mail", cron="0 0 29 2 */7")
    define(app, "feed", cron="30 2 * * *", tz="Europe/Berlin")
    planned(app)
    synced(app)

    assert [job for job, _ in planned(app).warnings] == ["mail"]


def test_a_paused_job_stays_paused_and_says_so(app: Cronq) -> None:
    define(app, "mail", cron="@daily")
    planned(app)
    synced(app)
    app.changes().pause("mail", by="ann")
    define(app, "mail", cron="@hourly")

    assert only(planned(app)).notes == ("it is paused, and stays paused",)


def test_a_calendar_that_excludes_the_next_tick_is_named(app: Cronq) -> None:
    app.set_calendar("holidays", dates=["2026-01-06"])
    define(app, "mail", cron="@daily", except_=["holidays"])

    (note,) = only(planned(app)).notes

    assert note.startswith("its next tick is skipped: ")
    assert "holidays" in note


def test_the_next_tick_that_runs_is_told_whatever_keeps_those_before_it(app: Cronq) -> None:
    app.set_calendar("holidays", dates=["2026-01-08"])
    define(app, "mail", cron="@daily")
    planned(app)
    synced(app)
    app.changes().skip("mail", 2, by="ann", note="no paper")
    define(app, "mail", cron="0 0,12 * * *", except_=["holidays"])

    change = only(planned(app))

    assert change.next_after == T + 5 * 3600, "noon is a tick of the new schedule, which nobody skips"
    assert (change.next_run, change.notes) == (change.next_after, ())
    change = only(planned(app, T + 6 * 3600))
    assert change.notes == ("its next tick is skipped by ann: no paper",)
    assert change.next_run == T + 29 * 3600
    assert only(planned(app, T + 54 * 3600)).next_run == T + 89 * 3600, "of the holiday neither of both runs"


def test_a_paused_job_runs_next_when_its_pause_ends_if_it_does(app: Cronq) -> None:
    define(app, "mail", cron="@daily")
    planned(app)
    synced(app)
    app.changes().pause("mail", by="ann", until_s=T + 40 * 3600)
    define(app, "mail", cron="@hourly")

    assert only(planned(app)).next_run == T + 40 * 3600
    app.changes().pause("mail", by="ann")
    assert only(planned(app)).next_run is None


def test_of_a_job_whose_ticks_are_numbered_none_is_told_beyond_the_last(app: Cronq) -> None:
    app.set_calendar("holidays", dates=["2026-01-06", "2026-01-07"])
    define(app, "mail", cron="@daily", repeat=2, except_=["holidays"])

    assert only(planned(app)).next_run is None
    define(app, "mail", cron="@daily", repeat=3, except_=["holidays"])
    assert only(planned(app)).next_run == T + 65 * 3600


def test_a_calendars_key_of_a_wrong_type_hides_no_plan(app: Cronq, redis: Redis) -> None:
    define(app, "mail", cron="@daily", except_=["holidays"])
    redis.set(app.keys.calendars, "x")

    assert only(planned(app)).next_run == T + 17 * 3600
