"""`depends_on` and `after` as a person writes them: what becomes a name, and what is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from cronq.errors import DefinitionError
from cronq.jobs.decorator import job
from cronq.jobs.keyed import following, follows, keyed_spec
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec, make_spec


def load() -> None:
    """Parent of the others."""


def report(rows: int) -> None:
    """Takes an argument."""


def daily(**options: Any) -> JobSpec:
    return make_spec("report", function="m:report", cron="0 7 * * *", **options)


def refusal(**options: Any) -> str:
    with pytest.raises(DefinitionError) as refused:
        make_spec("report", function="m:report", **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def registry() -> Registry:
    return Registry()


# What may be given


@pytest.mark.parametrize("given", ["load", ["load"], ("load",)])
def test_a_parent_is_given_by_name_alone_or_in_a_list(given: Any) -> None:
    assert daily(depends_on=given).depends_on == ("load",)
    assert make_spec("report", function="m:report", after=given).after == ("load",)


def test_a_decorated_function_stands_for_all_its_jobs_and_one_of_them_for_itself(registry: Registry) -> None:
    shards = job("@hourly", name="s0", registry=registry)(load)
    shards = job("@hourly", name="s1", registry=registry)(shards)
    extra = job(name="extra", command=["true"], registry=registry)

    assert daily(depends_on=shards).depends_on == ("s0", "s1")
    assert daily(depends_on=[shards.jobs["s1"], "other", extra]).depends_on == ("s1", "other", "extra")
    del load.jobs  # type: ignore[attr-defined]


def test_a_list_without_a_job_is_no_dependency() -> None:
    assert daily(depends_on=[], after=[]) == daily()


def test_the_parents_of_a_job_say_by_which_option() -> None:
    assert daily(depends_on=["b", "a"]).parents == {"b": ["depends_on"], "a": ["depends_on"]}
    assert make_spec("report", function="m:report", after="a").parents == {"a": ["after"]}
    assert daily().parents == {}


def test_what_is_stored_is_read_back_and_needs_the_layout_that_knows_it() -> None:
    for spec in (
        daily(depends_on=["a", "b"]),
        make_spec("report", function="m:report", after="a", on_parent_failure="run"),
    ):
        assert JobSpec.from_json(spec.to_json(), layout=spec.layout) == spec
        assert spec.layout == 2


def test_another_trigger_is_another_schedule_and_another_gate_is_not() -> None:
    assert daily(depends_on="a").when == daily().when
    assert make_spec("report", function="m:report", after="a").when != make_spec("report", function="m:report").when


# What is refused


@pytest.mark.parametrize("option", ["depends_on", "after"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("report", "it names the job itself, which would never run; leave that out"),
        (["a", "b", "a"], "'a' is named twice; name it once"),
        ("a b", "'a b' is not a job name"),
        ("a-20260101T000000Z", "ends like the id of a run"),
        (7, "7 is neither the name of a job nor a function with @job"),
        ([load], "'load' is neither the name of a job nor a function with @job"),
        ({"a"}, "{'a'} is neither the name of a job nor a function with @job"),
        (None, "None is not a value of this option"),
        ([f"p{number}" for number in range(1001)], "1,001 jobs are too many, at most 1,000"),
    ],
)
def test_what_names_no_other_job_is_refused(option: str, given: Any, words: str) -> None:
    said = refusal(**{option: given}, **({"cron": "@daily"} if option == "depends_on" else {}))

    assert said.startswith(f"job 'report': {option}: ")
    assert words in said


def test_a_function_whose_own_definition_was_refused_is_refused_as_a_parent_too(registry: Registry) -> None:
    bad = job("never", registry=registry)(load)

    assert "load is no job, its definition was refused; mend that first" in refusal(cron="@daily", depends_on=bad)
    del load.jobs  # type: ignore[attr-defined]


@pytest.mark.parametrize(("key", "value"), [("cron", "@daily"), ("every", "5m"), ("at", "10:00")])
def test_a_trigger_takes_the_place_of_a_schedule(key: str, value: str) -> None:
    said = refusal(after=["a", "b"], **{key: value})

    assert said.startswith("job 'report': after: a, b; it takes the place of a schedule, and ")
    assert f"{key}=" in said
    assert said.endswith("leave one out, or write depends_on for a gate")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("tz", "Asia/Tokyo", "'Asia/Tokyo'"),
        ("dst", "skip", "'skip'"),
        ("start", "2026-01-05T07:00", "2026-01-05T07:00:00Z"),
        ("end", "2026-01-05T07:00", "2026-01-05T07:00:00Z"),
        ("repeat", 3, "3"),
        ("jitter", "90s", "1m30s"),
        ("only", "workdays", "workdays"),
        ("except_", "holidays", "holidays"),
        ("catchup", "all", "'all'"),
        ("window", "1h", "1h"),
        ("max_catchup", 7, "7"),
    ],
)
def test_what_needs_a_schedule_means_nothing_with_a_trigger(key: str, value: Any, told: str) -> None:
    words = f"job 'report': {key}: {told} means nothing with after, which takes the place of a schedule; leave it out"

    assert refusal(after="a", **{key: value}) == words


def test_a_gate_needs_a_schedule() -> None:
    assert refusal(depends_on=["a", "b"]) == (
        "job 'report': depends_on: a, b means nothing without a schedule; give cron or every"
    )
    assert refusal(depends_on="a", after="b") == (
        "job 'report': depends_on: a means nothing with after, which waits for success anyway; name it there"
    )


def test_what_becomes_of_failed_parents_is_a_question_of_triggers_only() -> None:
    for options in ({"cron": "@daily"}, {"cron": "@daily", "depends_on": "a"}, {}):
        said = refusal(on_parent_failure="run", **options)
        assert "on_parent_failure: 'run' means nothing without after; a gate always waits, leave it out" in said


@pytest.mark.parametrize("options", [{"ttl": "5m"}, {"overlap": "queue"}, {"retries": 2}, {"exclusive": True}])
def test_what_concerns_a_run_fits_with_a_trigger(options: dict[str, Any]) -> None:
    assert make_spec("report", function="m:report", after="a", **options).after == ("a",)


def test_the_arguments_of_a_triggered_function_have_to_fit_as_nobody_is_there_to_give_them(registry: Registry) -> None:
    job(after="load", registry=registry)(report)

    (problem,) = registry.problems
    assert "missing a required argument: 'rows'" in str(problem)


# Schedules by key


def test_a_schedule_by_key_has_no_parent_of_its_job_and_may_have_its_own() -> None:
    gated = make_spec("report", function="m:report", cron="@daily", depends_on="load")
    triggered = make_spec("report", function="m:report", after="load", on_parent_failure="run")

    for of in (gated, triggered):
        spec = keyed_spec(of, "a", {"every": "1h"})
        assert spec.parents == {}
        assert spec.on_parent_failure == "wait"
        assert follows(of, spec.to_json())
        assert following(of, spec) == spec
    assert keyed_spec(gated, "a", {"every": "1h", "depends_on": "other"}).depends_on == ("other",)
