"""`CRONQ_TZ` decides the zone of jobs that name none, where they are stored; nobody looks at it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.decorator import job
from cronq.jobs.registry import Registry
from cronq.timetext import iso

#: 2026-07-06 07:00:00 UTC, in summer.
T = 1783321200
Host = Callable[..., Cronq]


def send() -> None:
    """What the jobs of these tests do."""


@pytest.fixture
def host(redis_url: str, redis: Redis) -> Host:
    """An application of a host where CRONQ_TZ is *setting*, whose code defines one job."""

    def make(setting: str, **options: Any) -> Cronq:
        registry = Registry()
        job(name="mail", registry=registry, **options)(send)
        app = Cronq(config=Config(url=redis_url, host_id="box", tz=setting), registry=registry, client=redis)
        app.exact_now_s = lambda: T  # type: ignore[method-assign]
        return app

    return make


def test_a_job_without_a_zone_is_stored_with_that_of_the_setting(host: Host) -> None:
    app = host("Europe/Berlin", cron="0 10 * * *")

    assert app.sync(load=False).created == ["mail"]

    stored = app.read_job("mail")
    assert (stored.spec.tz, stored.tz_is_default) == ("Europe/Berlin", True)
    assert iso(stored.next_tick) == "2026-07-06T08:00:00Z"
    assert app.sync(load=False).same == ["mail"]


@pytest.mark.parametrize("tz", ["UTC", "Asia/Tokyo"])
def test_a_zone_that_the_job_names_stands_also_when_it_is_utc(host: Host, tz: str) -> None:
    app = host("Europe/Berlin", cron="0 10 * * *", tz=tz)

    app.sync(load=False)

    assert (app.read_job("mail").spec.tz, app.read_job("mail").tz_is_default) == (tz, False)


def test_moments_without_an_offset_are_of_that_zone_too(host: Host) -> None:
    app = host("Europe/Berlin", cron="0 * * * *", start="2026-07-07T10:00", end="2026-07-07T20:00Z")

    app.sync(load=False)

    spec = app.read_job("mail").spec
    assert (iso(spec.start), iso(spec.end)) == ("2026-07-07T08:00:00Z", "2026-07-07T20:00:00Z")


def test_moments_that_make_no_sense_in_that_zone_are_refused_and_named(host: Host) -> None:
    app = host("Europe/Berlin", every="1h", start="2026-07-07T10:30", end="2026-07-07T11:00Z")
    assert app.sync(load=False).created == ["mail"]
    app = host("America/New_York", every="1h", start="2026-07-07T10:30", end="2026-07-07T11:00Z")

    (problem,) = app.sync(load=False).problems

    assert "job 'mail' (tests/redis/test_default_zone.py:" in str(problem)
    assert "is before the start" in str(problem)
    assert app.read_job("mail").spec.tz == "Europe/Berlin", "it keeps the old one"


def test_a_job_without_a_schedule_has_no_zone_to_decide(host: Host) -> None:
    app = host("Europe/Berlin")

    assert app.sync(load=False).created == ["mail"]
    assert (app.read_job("mail").spec.tz, app.read_job("mail").tz_is_default) == ("UTC", False)
    app.add("by-hand", command=["true"])
    assert app.read_job("by-hand").spec.tz == "UTC"


def test_a_job_of_the_command_line_takes_it_likewise(host: Host) -> None:
    app = host("Europe/Berlin")

    app.add("tidy", command=["true"], cron="0 10 * * *")
    app.add("other", command=["true"], cron="0 10 * * *", tz="UTC")

    assert (app.read_job("tidy").spec.tz, app.read_job("tidy").tz_is_default) == ("Europe/Berlin", True)
    assert (app.read_job("other").spec.tz, app.read_job("other").tz_is_default) == ("UTC", False)


def test_a_beat_of_another_zone_decides_by_the_stored_one(host: Host) -> None:
    host("Europe/Berlin", cron="0 10 * * *").sync(load=False)
    beat = host("Asia/Tokyo", cron="0 10 * * *").beat()

    beat.pass_once(T + 3599)
    assert host("UTC").history("mail") == []
    beat.pass_once(T + 3600)

    (run,) = host("UTC").history("mail")
    assert iso(run.tick) == "2026-07-06T08:00:00Z"


def test_a_host_with_another_zone_sees_the_change_that_it_would_make(host: Host) -> None:
    host("Europe/Berlin", cron="0 10 * * *").sync(load=False)
    app = host("Asia/Tokyo", cron="0 10 * * *")
    app.config = replace(app.config, jobs=())

    (change,) = app.plan().changes

    assert [(each.name, each.old, each.new) for each in change.fields] == [("tz", "Europe/Berlin", "Asia/Tokyo")]
    assert (iso(change.next_before), iso(change.next_after)) == ("2026-07-06T08:00:00Z", "2026-07-07T01:00:00Z")
    assert change.tz_is_default


def test_a_zone_that_a_job_comes_to_name_is_no_longer_that_of_the_setting(host: Host) -> None:
    host("Europe/Berlin", cron="0 10 * * *").sync(load=False)
    app = host("UTC", cron="0 10 * * *", tz="Europe/Berlin")

    assert app.sync(load=False).same == ["mail"]
    assert not app.read_job("mail").tz_is_default


def test_repair_and_restore_keep_that_the_setting_decided(host: Host, redis: Redis) -> None:
    app = host("Europe/Berlin", cron="0 10 * * *")
    app.sync(load=False)
    redis.flushall()

    app.beat().pass_once(T)

    assert (app.read_job("mail").spec.tz, app.read_job("mail").tz_is_default) == ("Europe/Berlin", True)
