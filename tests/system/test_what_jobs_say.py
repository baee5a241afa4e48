"""What a job says, leaves and closes decides nothing but its own row: the outcome is the body's, and it is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from rq.job import Job

from tests.conftest import RedisServer
from tests.system.worker_processes import Installation, installation


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose worker has the jobs of `saying_jobs`."""
    server = RedisServer()
    try:
        directory = tmp_path_factory.mktemp("shop")
        with installation(server.url, directory, CRONQ_JOBS="saying_jobs", CRONQ_LOST_AFTER="60s") as made:
            made.worker()
            yield made
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("surrogate", "ValueError: cannot read caf\\udce9.txt"),
        ("nul", "ValueError: a\\x00b"),
        ("bytes", "ValueError: b'\\xff\\xfe'"),
        ("no text", "Odd: <Odd whose text cannot be made>"),
        ("ends the process", "Leaving: <Leaving whose text cannot be made>"),
        ("nothing", "ValueError"),
    ],
)
def test_a_failure_is_recorded_at_once_whatever_its_text(shop: Installation, how: str, reason: str) -> None:
    run = shop.result("fail-oddly", how)

    assert (run.outcome, run.reason, run.attempt) == ("failed", reason, 1)
    assert run.error is not None
    assert "in fail_oddly" in run.error
    job = Job.fetch(run.run_id, shop.client)
    result = job.latest_result()
    assert result is not None
    assert result.exc_string == run.error, "RQ's tools show the same"


def test_a_failure_of_ten_megabytes_is_shortened_to_its_two_ends(shop: Installation) -> None:
    run = shop.result("fail-oddly", "ten megabytes")

    assert run.outcome == "failed"
    assert run.error is not None
    assert run.error.startswith("Traceback (most recent call last):")
    assert run.error.rstrip().endswith("xxx")
    assert len(run.error) <= 20_000
    assert len(run.reason or "") <= 1000


@pytest.mark.parametrize("job", ["fail-in-a-circle", "fail-after-many"])
def test_causes_without_end_are_told_as_far_as_they_fit(shop: Installation, job: str) -> None:
    run = shop.result(job)

    assert run.outcome == "failed"
    assert (run.reason or "").startswith("ValueError: ")
    assert "raise" in (run.error or "")


def test_an_exit_with_an_object_that_has_no_text_is_a_failure(shop: Installation) -> None:
    run = shop.result("exit-oddly")

    assert (run.outcome, run.exit_code, run.reason) == (
        "failed", 1, "sys.exit(<Unshown whose text cannot be made>)",
    )  # fmt: skip


def test_a_result_that_is_nested_too_deeply_is_left_out_and_the_run_has_succeeded(shop: Installation) -> None:
    for depth in (150, 5000, 200_000):
        run = shop.result("deep", depth)

        assert (run.outcome, run.reason, run.result) == (
            "succeeded", "it ran to its end; its result is nested too deeply to be kept", None,
        )  # fmt: skip
    assert shop.result("deep", 50).result == "[" * 51 + "]" * 51


def test_a_result_without_a_text_is_named_by_its_class(shop: Installation) -> None:
    run = shop.result("unshown")

    assert (run.outcome, run.result) == ("succeeded", '"<Unshown whose text cannot be made>"')


def test_text_in_a_result_is_kept_as_it_is(shop: Installation) -> None:
    run = shop.result("surrogate-result")

    assert run.outcome == "succeeded"
    assert json.loads(run.result or "") == {"name": "caf\udce9.txt", "nul": "a\0b"}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("stdout", "it ran to its end"),
        ("descriptor 2", "it ran to its end"),
        ("all descriptors", "it ran to its end"),
        ("all, and opened others", "it ran to its end"),
        ("stdout, and left text in it", "it ran to its end; the end of its output was lost"),
        ("stdout for ever", "it ran to its end"),
        ("stdout for an odd thing", "it ran to its end; the end of its output was lost"),
    ],
)
def test_a_body_that_closed_its_files_and_returned_has_succeeded_with_its_result(
    shop: Installation, what: str, reason: str
) -> None:
    run = shop.result("close", what)

    assert (run.outcome, run.reason, run.result, run.exit_code) == ("succeeded", reason, '"done"', 0)
    assert not any(path.stat().st_size for path in shop.directory.glob("other-*")), "nothing in files of the job's own"


def test_a_body_that_closed_its_files_and_failed_is_told_with_class_and_traceback(shop: Installation) -> None:
    run = shop.result("close-and-fail")

    assert (run.outcome, run.reason, run.exit_code) == ("failed", "LookupError: no such shelf", 1)
    assert "in close_and_fail" in (run.error or "")
