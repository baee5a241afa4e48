"""Whether an attempt is followed by another one, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cronq.jobs.spec import JobSpec, make_spec
from cronq.outcomes import OUTCOMES
from cronq.runs.retry import Retry, next_retry


def spec_of(**options: object) -> JobSpec:
    return make_spec("fetch", command=["true"], **options)


def test_a_job_without_retries_has_none() -> None:
    assert next_retry(spec_of(), "failed", 0) is None


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_only_what_failed_or_timed_out_is_tried_again(outcome: str) -> None:
    assert (next_retry(spec_of(retries=1), outcome, 0) is not None) == (outcome in ("failed", "timed_out"))


def test_each_retry_comes_after_the_delay_until_none_is_left() -> None:
    spec = spec_of(retries=2, retry_delay="90s")

    assert next_retry(spec, "failed", 0) == Retry(90.0, 1, "retry 1 of 2 after 1m30s")
    assert next_retry(spec, "timed_out", 1) == Retry(90.0, 2, "retry 2 of 2 after 1m30s")
    assert next_retry(spec, "failed", 2) is None


def test_what_may_be_started_once_is_not_tried_again_whatever_was_stored() -> None:
    assert next_retry(replace(spec_of(retries=2), at_most_once=True), "failed", 0) is None
