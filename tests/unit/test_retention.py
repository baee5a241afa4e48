"""How long RQ's records live: about the newest runs of a job, whatever its rhythm."""

from __future__ import annotations

from typing import Any

import pytest

from cronq.errors import DefinitionError, SpecTooNew
from cronq.jobs.retention import failure_life_s, result_life_s
from cronq.jobs.spec import JobSpec, make_spec

MINUTE, HOUR, DAY = 60, 3600, 86400
#: 2026-01-05 07:00 UTC, a Monday.
MONDAY = 1767596400


def job(**options: Any) -> JobSpec:
    return make_spec("invoices", function="jobs:send", **options)


@pytest.mark.parametrize(
    ("schedule", "results_s", "failures_s"),
    [
        ({"every": "1s"}, HOUR, DAY),
        ({"cron": "* * * * *"}, HOUR, DAY),
        ({"cron": "*/5 * * * *"}, 100 * MINUTE, DAY),
        ({"cron": "@hourly"}, 20 * HOUR, 100 * HOUR),
        ({"cron": "@daily"}, 7 * DAY, 30 * DAY),
        ({"cron": "@yearly"}, 7 * DAY, 30 * DAY),
        ({}, 7 * DAY, 30 * DAY),  # nobody knows when it runs again
    ],
)
def test_records_live_for_about_the_newest_runs_of_a_job(
    schedule: dict[str, Any], results_s: int, failures_s: int
) -> None:
    assert (result_life_s(job(**schedule)), failure_life_s(job(**schedule))) == (results_s, failures_s)


def test_the_distance_is_the_one_to_the_next_tick_of_this_run() -> None:
    spec = job(cron="0 7,8 * * *")  # an hour, and then 23

    assert result_life_s(spec, MONDAY) == 20 * HOUR
    assert result_life_s(spec, MONDAY + HOUR) == 7 * DAY


@pytest.mark.parametrize("written", [90, "90s", "1m30s"])
def test_a_life_that_was_asked_for_is_kept(written: Any) -> None:
    spec = job(cron="* * * * *", result_ttl=written, failure_ttl=written)

    assert (result_life_s(spec, MONDAY), failure_life_s(spec, MONDAY)) == (90, 90)
    assert JobSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("option", ["result_ttl", "failure_ttl"])
def test_auto_may_be_written_and_is_the_default(option: str) -> None:
    assert job(**{option: "auto"}) == job()
    with pytest.raises(DefinitionError, match="soon"):
        job(**{option: "soon"})


@pytest.mark.parametrize("stored", ['"result_ttl":604800', '"result_ttl":604800.0'])
def test_a_life_that_was_stored_before_is_read(stored: str) -> None:
    spec = JobSpec.from_json('{"name":"invoices","function":"jobs:send",' + stored + "}")

    assert (result_life_s(spec), failure_life_s(spec)) == (7 * DAY, 30 * DAY)


def test_a_stored_word_that_this_version_does_not_know_is_told() -> None:
    with pytest.raises(SpecTooNew, match=r"result_ttl.*'newest'.*upgrade"):
        JobSpec.from_json('{"name":"invoices","function":"jobs:send","result_ttl":"newest"}')
