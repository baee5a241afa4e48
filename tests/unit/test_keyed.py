"""Schedules of one job by key, as values."""

from __future__ import annotations

from typing import Any

import pytest

from cronq.errors import DefinitionError
from cronq.jobs.keyed import following, follows, job_and_key, keyed_name, keyed_spec
from cronq.jobs.registry import Definition, Registry
from cronq.jobs.spec import SPEC_LAYOUT, JobSpec, make_spec

REPORT = make_spec("report", function="m:report", queue="slow", timeout="5m", tz="Europe/Berlin", cron="0 0 * * *")


@pytest.mark.parametrize(
    ("name", "key"), [("report", "user-42"), ("a--b", "c"), ("report-", "x"), ("r", "-".join("abc"))]
)
def test_a_name_says_of_which_job_and_key_it_is(name: str, key: str) -> None:
    assert job_and_key(keyed_name(name, key)) == (name, key)


@pytest.mark.parametrize("name", ["report", "a-b", "--x", "report--"])
def test_other_names_say_nothing_of_the_kind(name: str) -> None:
    assert job_and_key(name) is None


@pytest.mark.parametrize("key", ["", "-a", "a--b", "a b", "a:b", "ü", "a" * 101, "*"])
def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    with pytest.raises(DefinitionError, match="is not a key"):
        keyed_name("report", key)


def test_it_has_the_function_and_options_of_its_job_and_a_time_of_its_own() -> None:
    spec = keyed_spec(REPORT, "user-42", {"cron": "0 7 * * *", "kwargs": {"user": 42}})

    assert (spec.name, spec.function, spec.queue, spec.timeout) == ("report--user-42", "m:report", "slow", 300.0)
    assert (spec.cron, spec.tz, spec.kwargs) == ("0 7 * * *", "Europe/Berlin", {"user": 42})
    assert JobSpec.from_json(spec.to_json()) == spec
    assert spec.layout == SPEC_LAYOUT


def test_the_time_of_the_job_is_none_of_its_options() -> None:
    assert keyed_spec(REPORT, "a", {"every": "5m"}).cron is None


def test_it_follows_its_job_but_for_what_is_its_own() -> None:
    spec = keyed_spec(REPORT, "a", {"every": "5m", "queue": "vip", "kwargs": {"user": 1}})
    job = make_spec("report", function="m2:report", queue="fast", timeout="9m", kwargs={"user": 0}, keep=77)

    now = following(job, spec)

    assert (now.name, now.function, now.timeout, now.keep) == ("report--a", "m2:report", 540.0, 77)
    assert (now.queue, now.kwargs, now.every, now.cron) == ("vip", {"user": 1}, 300.0, None)
    assert following(job, now) == now
    assert [follows(job, each.to_json()) for each in (spec, now)] == [False, True]
    assert follows(REPORT, spec.to_json())


@pytest.mark.parametrize("stored", ["", "{", "[]", "5", '{"own": 5}', "[" * 100_000])
def test_what_cannot_be_read_does_not_follow(stored: str) -> None:
    assert follows(REPORT, stored) is False


@pytest.mark.parametrize(
    ("job", "options", "problem"),
    [
        (REPORT, {}, "it says no time; give cron, every or at"),
        (REPORT, {"cron": "0 7 * *"}, "cron"),
        (REPORT, {"cron": "0 7 * * *", "queu": "x"}, "did you mean 'queue'"),
        (REPORT, {"cron": "0 7 * * *", "function": "os:system"}, "leave this out"),
        (REPORT, {"cron": "0 7 * * *", "command": ["rm"]}, "leave this out"),
        (REPORT, {"cron": "0 7 * * *", "of": "other"}, "there is no such option"),
        (REPORT, {"cron": "0 7 * * *", "own": []}, "there is no such option"),
        (REPORT, {"cron": "0 7 * * *", "catchup": "all", "keep": 10}, "max_catchup"),
        (make_spec("c", command=["true"]), {"cron": "0 7 * * *"}, "runs a command"),
        (keyed_spec(REPORT, "a", {"every": "5m"}), {"cron": "0 7 * * *"}, "is a schedule of 'report' itself"),
    ],
)
def test_what_makes_no_sense_is_refused(job: JobSpec, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        keyed_spec(job, "a", options)


def test_a_worker_finds_the_function_of_the_job_and_of_no_other() -> None:
    registry = Registry()
    for name in ("report", "a--b"):
        registry.add(Definition(make_spec(name, function=f"m:{name}"), f"m.py:{name}", "m", lambda name=name: name))

    assert registry.function_of("report--user-42")() == "report"
    assert registry.function_of("a--b--c")() == "a--b"
    assert registry.function_of("a--b")() == "a--b"
    for stranger in ("a--c", "report-x", "repor--a"):
        assert registry.find(stranger) is None
