"""Whether an attempt is followed by another one, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronq.errors import CronqError
from cronq.jobs.spec import JobSpec, make_spec
from cronq.outcomes import OUTCOMES
from cronq.run_context import Snooze, snooze
from cronq.runs.retry import MOST_ATTEMPTS, Retry, delay_s, next_snooze
from cronq.runs.retry import next_retry as decide


def spec_of(**options: object) -> JobSpec:
    return make_spec("fetch", command=["true"], **options)


def next_retry(spec: JobSpec, outcome: str, retried: int) -> Retry | None:
    return decide(spec, outcome, retried, run_id="fetch-m00000001", attempt=retried + 1)


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


# Growing delays


def delays(spec: JobSpec, count: int, run_id: str = "fetch-m00000001") -> list[float]:
    return [delay_s(spec, retried, run_id=run_id, attempt=retried + 1) for retried in range(count)]


def test_without_backoff_every_delay_is_exactly_the_same() -> None:
    assert delays(spec_of(retries=5, retry_delay="2h"), 3) == [7200.0] * 3


def test_with_backoff_each_delay_is_longer_up_to_the_longest() -> None:
    spec = spec_of(retries=9, retry_delay="60s", backoff=2, max_retry_delay="5m")

    for delay, whole in zip(delays(spec, 6), [60, 120, 240, 300, 300, 300], strict=True):
        assert 0.9 * whole <= delay <= whole


def test_runs_that_failed_together_come_back_at_different_times() -> None:
    spec = spec_of(retries=9, retry_delay="100s", backoff=2)

    first = [delays(spec, 1, f"fetch-m{number:08x}")[0] for number in range(1000)]

    assert len(set(first)) > 900
    assert 94 < sum(first) / len(first) < 96


def test_the_delay_of_a_run_is_the_same_whoever_reckons_and_another_for_each_attempt() -> None:
    spec = spec_of(retries=9, retry_delay="100s", backoff=2, max_retry_delay="100s")

    assert delays(spec, 4) == delays(spec, 4)
    assert len(set(delays(spec, 4))) == 4
    assert delays(spec, 1) == [96.89], "another release would reckon otherwise"


@given(
    st.integers(0, 10**6), st.floats(1, 100), st.floats(0, 366 * 86400), st.floats(1, 366 * 86400), st.text(max_size=20)
)
def test_no_delay_is_out_of_bounds_whatever_was_stored(
    retried: int, backoff: float, delay: float, longest: float, run_id: str
) -> None:
    spec = replace(spec_of(retries=9), backoff=backoff, retry_delay=delay, max_retry_delay=longest)

    assert 0 <= delay_s(spec, retried, run_id=run_id, attempt=1) <= max(delay, longest) + 0.001


# Snoozing

DAY = 86400.0


def test_a_snooze_uses_up_no_retry() -> None:
    found = next_snooze(spec_of(), 30.0, 2, attempt=5, snoozed_s=0.0)

    assert found == Retry(30.0, 2, "it asked for another attempt after 30s", is_snooze=True)


@pytest.mark.parametrize(
    ("after_s", "attempt", "snoozed_s", "why"),
    [
        (1.0, MOST_ATTEMPTS, 0.0, "it had 1,000 attempts"),
        (2 * DAY, 2, 28.5 * DAY, "it would be put off for more than 30d"),
    ],
)
def test_a_run_does_not_snooze_for_ever(after_s: float, attempt: int, snoozed_s: float, why: str) -> None:
    assert next_snooze(spec_of(), after_s, 0, attempt=attempt, snoozed_s=snoozed_s) == why
    assert isinstance(next_snooze(spec_of(), after_s, 0, attempt=attempt - 1, snoozed_s=snoozed_s - DAY), Retry)


def test_what_may_be_started_once_does_not_snooze() -> None:
    found = next_snooze(replace(spec_of(), at_most_once=True), 1.0, 0, attempt=1, snoozed_s=0.0)

    assert found == "its job asks for at_most_once"


@pytest.mark.parametrize(("delay", "after_s"), [("30s", 30.0), (90, 90.0), (timedelta(minutes=2), 120.0), (0, 0.0)])
def test_a_snooze_is_a_duration_as_people_write_it(delay: Any, after_s: float) -> None:
    assert snooze(delay) == Snooze(after_s)


@pytest.mark.parametrize("delay", ["soon", -1, "31d", None, True, float("nan"), 10**400])
def test_a_snooze_that_is_none_is_refused_in_one_line(delay: Any) -> None:
    with pytest.raises(CronqError, match=r"^snooze: ") as refused:
        snooze(delay)

    assert "\n" not in str(refused.value)
