"""The checker of these tests finds what it is there for: in records made up, and in what naive workers leave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.faults import naive
from tests.faults.proxy import REQUEST, FaultProxy
from tests.faults.witness import Entry, Life, read_lives, witnessed, wrongs
from tests.system.processes import until
from tests.system.worker_processes import descendants, is_alive

ROOT = Path(__file__).parents[2]
GOOD = Life("a-1", "a", 1, 10, 1.0, 2.0, is_whole=True)
CUT_SHORT = Life("a-1", "a", 1, 10, 1.0, 1.5)


# Records made up


def test_what_is_as_promised_is_not_found() -> None:
    again = Life("a-1", "a", 2, 11, 3.0, 4.0, is_whole=True)
    elsewhere = Life("b-1", "b", 1, 12, 1.0, 2.0, is_whole=True)

    assert wrongs([Entry("a-1", "succeeded")], [GOOD], {"a-1": ["succeeded"]}) == []
    assert wrongs([Entry("a-1", "lost")], [CUT_SHORT], {"a-1": ["lost", "succeeded"]}) == []
    assert wrongs([Entry("a-1", "succeeded", 2)], [CUT_SHORT, again], {"a-1": ["succeeded"]}) == []
    assert wrongs(
        [Entry("a-1", "succeeded"), Entry("b-1", "succeeded")], [GOOD, elsewhere],
        {"a-1": ["succeeded"], "b-1": ["succeeded"]},
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("ledger", "lives", "word"),
    [
        pytest.param([], [], "is in the ledger 0 times", id="lost without a trace"),
        pytest.param([Entry("a-1", "succeeded")] * 2, [GOOD], "is in the ledger 2 times", id="two rows"),
        pytest.param([Entry("a-1", None)], [], "has no outcome", id="never settled"),
        pytest.param([Entry("a-1", "failed")], [GOOD], "is failed, not succeeded", id="another outcome"),
        pytest.param([Entry("a-1", "succeeded")], [CUT_SHORT], "did not come to its end", id="success made up"),
        pytest.param([Entry("a-1", "succeeded")], [], "did not come to its end", id="success without a body"),
        pytest.param(
            [Entry("a-1", "succeeded")], [GOOD, Life("a-1", "a", 1, 11, 3.0, 4.0, is_whole=True)],
            "attempt 1 of a-1 ran 2 times", id="doubled",
        ),
        pytest.param(
            [Entry("a-1", "succeeded")], [GOOD, Life("a-1", "a", 2, 11, 3.0, 4.0, is_whole=True)],
            "the ledger knows 1", id="an attempt the ledger does not know",
        ),
        pytest.param(
            [Entry("a-1", "succeeded", 2)], [GOOD, Life("a-1", "a", 2, 11, 1.9, 4.0, is_whole=True)],
            "pids 10 (a-1) and 11 (a-1) were at work at one time", id="overlapping",
        ),
        pytest.param(
            [Entry("a-1", "succeeded")], [GOOD, Life("a-2", "a", 1, 11, 8.0, 9.0)],
            "a-2 ran and was never asked for", id="out of nowhere",
        ),
    ],
)  # fmt: skip
def test_each_kind_of_wrong_is_found(ledger: list[Entry], lives: list[Life], word: str) -> None:
    found = wrongs(ledger, lives, {"a-1": ["succeeded"]})

    assert any(word in each for each in found), found


def test_a_body_leaves_a_record_with_its_beginning_its_signs_of_life_and_its_end(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with witnessed(record, "a-1", "a", 1) as witness:
        witness.work(0.1)
        (during,) = read_lives(record)
    (after,) = read_lives(record)

    assert during.last - during.begun > 0.05
    assert (during.is_whole, after.is_whole) == (False, True)
    assert after.last >= during.last


# Naive workers


class NaiveShop:
    """Naive workers on a Redis of their own, and what is known of their runs."""

    def __init__(self, client: Redis, record: Path) -> None:
        self.client = client
        self.record = record
        self.started: list[subprocess.Popen[str]] = []

    def start(self, variant: str, url: str, seconds: float = 0.3) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.naive", variant, url, str(self.record), str(seconds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def queue(self, *runs: str) -> None:
        self.client.rpush(naive.QUEUE, *runs)

    def begins(self, run: str, count: int = 1) -> None:
        until(lambda: len([life for life in read_lives(self.record) if life.run == run]) >= count, what=f"{run} begins")

    def settles(self, *runs: str) -> None:
        until(lambda: all(self.client.exists(f"naive:run:{run}") for run in runs), what=f"{runs} settle")

    def wrongs(self, *runs: str) -> list[str]:
        return wrongs(
            naive.ledger(self.client, list(runs)), read_lives(self.record), {run: ["succeeded"] for run in runs}
        )

    def end(self) -> None:
        for process in self.started:
            below = descendants(process.pid) if process.poll() is None else set()
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            until(lambda below=below: not any(map(is_alive, below)), what="the end of its children")


@pytest.fixture
def shop(redis: Redis, tmp_path: Path) -> Iterator[NaiveShop]:
    made = NaiveShop(redis, tmp_path / "record")
    yield made
    made.end()


def test_a_worker_that_pops_and_forgets_is_found_out(shop: NaiveShop, redis_url: str) -> None:
    worker = shop.start("forgets", redis_url)
    shop.queue("a")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "popped\n"

    worker.kill()
    worker.wait()
    shop.start("forgets", redis_url)
    shop.queue("b")
    shop.settles("b")

    assert shop.wrongs("a", "b") == ["a has no outcome"]


def test_a_rescuer_that_does_not_know_whether_the_first_child_is_dead_is_found_out(
    shop: NaiveShop, redis_url: str
) -> None:
    worker = shop.start("rescues", redis_url, 3.0)
    shop.queue("a")
    shop.begins("a")

    worker.kill()  # its child works on
    worker.wait()
    shop.start("rescues", redis_url, 3.0)
    shop.settles("a")

    found = shop.wrongs("a")
    assert "attempt 1 of a ran 2 times" in found
    assert any("were at work at one time" in each for each in found), found


def test_a_worker_that_repeats_what_it_could_not_write_is_found_out(shop: NaiveShop, redis_url: str) -> None:
    with FaultProxy(redis_url) as proxy:
        shop.start("repeats", proxy.url)
        write = proxy.hold(b"naive:run:a", REQUEST)
        shop.queue("a")
        assert write.reached.wait(30)

        write.discard()
        shop.settles("a")

        assert shop.wrongs("a") == ["attempt 1 of a ran 2 times"]
        shop.end()
