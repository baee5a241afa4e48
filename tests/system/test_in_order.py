"""Jobs with `backfill=True` with real beats and workers, whoever of them is killed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.conftest import RedisServer
from tests.run_ids import run_id_of
from tests.system.processes import until
from tests.system.worker_processes import Installation, installation


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation in which nothing runs yet; its jobs are due since an hour, of which a part counts."""
    server = RedisServer()
    try:
        settings = {"CRONQ_JOBS": "tests.system.in_order_jobs", "CRONQ_LOST_AFTER": "2s"}
        with installation(server.url, tmp_path_factory.mktemp("shop"), **settings) as made:
            yield made
    finally:
        server.stop()


def only(shop: Installation, name: str, due_for_s: int) -> int:
    """Leave one job, whose ticks are due for so many seconds; the first of them."""
    for other in shop.app.job_names():
        if other != name:
            shop.app.remove(other)
    mark = int(shop.app.exact_now_s()) - due_for_s
    shop.client.hset(shop.app.keys.state(name), "mark", mark)
    shop.client.zadd(shop.app.keys.agenda, {name: mark + 1})
    return mark + 1


def told(shop: Installation, name: str, word: str) -> list[tuple[int, int]]:
    """Tick and attempt of each time that a run of the job said *word*, in order."""
    lines = [line.split() for line in shop.diary("in-order")]
    return [(int(tick), int(attempt)) for job, said, tick, attempt in lines if (job, said) == (name, word)]


def test_beats_and_workers_that_are_killed_lose_no_tick_double_none_and_keep_the_order(shop: Installation) -> None:
    chance = random.Random(7)
    first = only(shop, "steady", 20)
    beats = [shop.beat(), shop.beat()]
    workers = [shop.worker("default"), shop.worker("default")]

    for kills in range(6):
        wanted = len(told(shop, "steady", "end")) + 2
        until(lambda: len(told(shop, "steady", "end")) >= wanted, what=lambda: shop.logs)  # noqa: B023
        if kills % 2:
            beats.pop(chance.randrange(2)).kill9()
            beats.append(shop.beat())
        else:
            workers.pop(chance.randrange(2)).kill9()
            workers.append(shop.worker("default"))
    until(lambda: len({tick for tick, _ in told(shop, "steady", "end")}) >= 16, what=lambda: shop.logs)

    begun = told(shop, "steady", "begin")
    assert begun == sorted(begun)  # in the order of the ticks, and each of its attempts
    ticks = sorted({tick for tick, _ in begun})
    assert ticks == list(range(first, first + len(ticks)))
    assert len(begun) == len(set(begun))  # no attempt twice
    ended = [tick for tick, _ in told(shop, "steady", "end")]
    rerun = {tick for tick, attempt in begun if attempt > 1}
    assert set(ticks[:-1]) <= set(ended)
    assert all(ended.count(tick) == 1 for tick in ended if tick not in rerun)


def test_a_worker_that_is_killed_halts_the_job_and_the_one_command_that_is_told_lets_it_go_on(
    shop: Installation,
) -> None:
    first = only(shop, "fragile", 5)
    shop.beat()
    worker = shop.worker("default")
    until(lambda: len(told(shop, "fragile", "begin")) >= 2, what=lambda: shop.logs)
    worker.kill9()
    halted = told(shop, "fragile", "begin")[-1][0]
    run_id = run_id_of("fragile", halted)
    until(lambda: shop.row(run_id).outcome is not None, what=lambda: shop.logs)
    if shop.row(run_id).outcome == "succeeded":  # it was killed between two runs
        pytest.skip("the worker was killed while nothing was at work")
    assert shop.row(run_id).outcome == "lost"
    until(lambda: any("HALTED" in process.log for process in shop.started), what=lambda: shop.logs)

    told_so = shop.run("why", "fragile")
    assert f"Next: cronq backfill fragile --tick {told_so.output.rsplit(' ', 1)[1].strip()}" in told_so.output
    assert "failing" in shop.run("list").output
    shop.worker("default")
    command = told_so.output.partition("Next: cronq ")[2].split()
    mended = shop.run(*command)
    assert mended.exit_code() == 0, mended.log

    until(lambda: len({tick for tick, _ in told(shop, "fragile", "end")}) >= 5, what=lambda: shop.logs)
    ticks = [tick for tick, _ in told(shop, "fragile", "begin")]
    assert sorted(set(ticks)) == list(range(first, first + len(set(ticks))))
    assert ticks.count(halted) == 2
    assert shop.row(run_id).attempt == 2


def test_a_failure_halts_it_and_a_success_by_hand_lets_it_go_on(shop: Installation) -> None:
    stone = shop.directory / "fail-fragile"
    stone.touch()
    first = only(shop, "fragile", 4)
    shop.beat()
    shop.worker("default")
    run_id = run_id_of("fragile", first)
    until(lambda: shop.row(run_id).outcome == "failed" if shop.app.runs.find(run_id) else False, what=lambda: shop.logs)
    until(lambda: any("HALTED" in process.log for process in shop.started), what=lambda: shop.logs)
    assert told(shop, "fragile", "begin") == [(first, 1)]

    stone.unlink()
    marked = shop.run("mark-success", "fragile")
    assert marked.output.strip() == run_id

    until(lambda: len(told(shop, "fragile", "end")) >= 3, what=lambda: shop.logs)
    assert [tick for tick, _ in told(shop, "fragile", "begin")][:4] == list(range(first, first + 4))
