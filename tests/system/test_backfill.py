"""`cronq backfill` with real workers, whoever of them is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.conftest import RedisServer
from tests.run_ids import run_id_of
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, installation

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def days(first: int, count: int, zone: ZoneInfo | None = None) -> list[int]:
    """The ticks at 07:00 of *count* days of March 2024, from the *first* on."""
    start = [datetime(2024, 3, first + n, 7, tzinfo=zone or UTC) for n in range(count)]
    return [int(each.timestamp()) for each in start]


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation in which nothing runs yet."""
    server = RedisServer()
    try:
        settings = {"CRONQ_JOBS": "tests.system.backfilled_jobs", "CRONQ_LOST_AFTER": "2s"}
        with installation(server.url, tmp_path_factory.mktemp("shop"), **settings) as made:
            yield made
    finally:
        server.stop()


def told(shop: Installation, word: str) -> list[int]:
    """The ticks of which a run said *word*, in the order in which they did."""
    return [int(line.split()[1]) for line in shop.diary("etl") if line.startswith(f"{word} ")]


def backfill(shop: Installation, *words: str, name: str = "etl") -> CronqProcess:
    return shop.start("backfill", name, *words)


def test_each_day_runs_once_in_order_with_its_own_tick_across_a_clock_change(shop: Installation) -> None:
    shop.worker("default")

    done = backfill(shop, "--from", "2024-03-29", "--to", "2024-04-02")

    assert done.exit_code() == 0, done.log
    ticks = [*days(29, 3, AMSTERDAM), int(datetime(2024, 4, 1, 7, tzinfo=AMSTERDAM).timestamp())]
    assert told(shop, "end") == ticks
    spans = [int(line.split()[3]) for line in shop.diary("etl") if line.startswith("end ")]
    assert spans == [86400, 86400, 82800, 86400]  # the clocks went forward
    assert [line.split()[0] for line in done.output.splitlines()] == [
        f"{datetime.fromtimestamp(tick, UTC):%Y-%m-%dT%H:%M:%SZ}" for tick in ticks
    ]


def test_a_backfill_that_is_killed_again_and_again_and_typed_anew_does_what_is_left(shop: Installation) -> None:
    shop.worker("default")
    wanted = days(1, 20, AMSTERDAM)

    killed = 0
    while True:
        process = backfill(shop, "--from", "2024-03-01", "--to", "2024-03-21")
        before = len(told(shop, "begin"))
        until(lambda: not process.is_running or len(told(shop, "begin")) >= before + 3,  # noqa: B023
              what=lambda: shop.logs)  # fmt: skip
        if not process.is_running:
            break
        process.kill9()
        killed += 1

    assert process.exit_code() == 0, process.log
    assert killed >= 3
    assert told(shop, "begin") == wanted
    assert told(shop, "end") == wanted
    assert [shop.row(run_id_of("etl", tick)).attempt for tick in wanted] == [1] * 20


def test_two_backfills_and_a_worker_that_is_killed_run_each_day_to_its_end_once(shop: Installation) -> None:
    shop.beat()
    workers = [shop.worker("default"), shop.worker("default")]
    wanted = days(1, 12)
    both = [
        backfill(shop, "--from", "2024-03-01", "--to", "2024-03-13", "--parallel", "3", name="etl-rerun")
        for _ in range(2)
    ]

    until(lambda: len(told(shop, "end")) >= 3, what=lambda: shop.logs)
    workers[0].kill9()
    shop.worker("default")

    assert [process.exit_code(60) for process in both] == [0, 0], shop.logs
    rows = {tick: shop.row(run_id_of("etl-rerun", tick)) for tick in wanted}
    assert {row.outcome for row in rows.values()} == {"succeeded"}
    begun, ended = Counter(told(shop, "begin")), Counter(told(shop, "end"))
    assert set(ended) == set(wanted)
    for tick, row in rows.items():
        assert (begun[tick], ended[tick]) == (row.attempt, row.attempt) or row.attempt > 1
    assert sum(row.attempt > 1 for row in rows.values()) <= 1  # what the killed worker had


def test_it_stops_at_the_first_failure_and_the_same_command_goes_on_there(shop: Installation) -> None:
    shop.worker("default")
    bad = days(3, 1, AMSTERDAM)[0]
    stone = shop.directory / f"fail-{bad}"
    stone.touch()

    done = backfill(shop, "--from", "2024-03-01", "--to", "2024-03-06")

    assert done.exit_code() == 1
    assert told(shop, "end") == days(1, 2, AMSTERDAM)
    assert f"stopped at {run_id_of('etl', bad)}: failed" in done.log
    stone.unlink()
    again = backfill(shop, "--from", "2024-03-01", "--to", "2024-03-06")
    assert again.exit_code() == 0, again.log
    assert told(shop, "end") == days(1, 5, AMSTERDAM)
    assert shop.row(run_id_of("etl", bad)).attempt == 2
