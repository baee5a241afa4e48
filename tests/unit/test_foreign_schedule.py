"""rq-scheduler's cron strings and repetitions, read by us: the same instants as its own library finds."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cronq.errors import DefinitionError, ScheduleError
from cronq.interop.repeats import Repetition, RQSchedulerCron, next_due, read_repetition

crontab: Any = pytest.importorskip("crontab")

EXPRESSIONS = [
    "* * * * *", "*/5 * * * *", "30 2 * * *", "0 0 1 1 *", "0 9-17 * * mon-fri", "15,45 */3 * * *", "0 0 13 * 5",
    "0 0 L * *", "5 4 * * sun", "0 22 * * 1-5", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "0 0 ? * 7",
    "0 0 * * * *", "10 0 0 * * * *", "*/10 * * * * * *", "0 12 1-7 * 1", "0 0 29 2 *",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_it_is_due_when_its_own_library_says_so(expression: str) -> None:
    ours, theirs = RQSchedulerCron(expression, "UTC"), crontab.CronTab(expression)
    rng = random.Random(expression)
    for _ in range(20):
        start = datetime(2026, 1, 1) + timedelta(seconds=rng.randrange(4 * 365 * 86400))
        expected = theirs.next(now=start, return_datetime=True)
        found = ours.next_after(start.replace(tzinfo=UTC).timestamp())
        assert found is not None
        assert datetime.fromtimestamp(found, UTC).replace(tzinfo=None) == expected, (expression, start)


@pytest.mark.parametrize(
    "text", ["", "* * * *", "0 0 1 1 * 2030", "61 * * * *", "every day at noon", "0 0 Z1 * *", "@reboot"]
)
def test_what_cannot_be_served_as_it_means_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        RQSchedulerCron(text, "UTC")


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, Repetition()),
        ({"interval": 5}, Repetition(5)),
        ({"interval": 5, "repeat": 2, "other": "x"}, Repetition(5, None, 2)),
        ({"cron_string": "* * * * *", "repeat": None}, Repetition(None, "* * * * *")),
        ({"interval": 0}, Repetition()),
        ([1], Repetition()),
    ],
)
def test_a_repetition_is_read(meta: Any, expected: Repetition) -> None:
    assert read_repetition(meta) == expected


@pytest.mark.parametrize("meta", [{"interval": "5"}, {"interval": 1.5}, {"interval": True}, {"repeat": 10**20}])
def test_numbers_that_are_none_are_refused(meta: Any) -> None:
    with pytest.raises(DefinitionError):
        read_repetition(meta)


@pytest.mark.parametrize(
    ("score", "now", "expected"), [(100, 100.0, 160), (100, 159.9, 160), (100, 160.0, 220), (100, 1000.0, 1060)]
)
def test_an_interval_keeps_its_step(score: int, now: float, expected: int) -> None:
    assert next_due(Repetition(60), score, now, "UTC") == expected


def test_the_last_of_a_count_has_no_next() -> None:
    assert next_due(Repetition(60, None, 1), 0, 0, "UTC") is None
    assert next_due(Repetition(60, None, 2), 0, 0, "UTC") == 60
    assert next_due(Repetition(), 0, 0, "UTC") is None
