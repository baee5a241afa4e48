"""Redis away, emptied, unfit: beats stay, say so once, and each tick ends as its job's rule has it. Real processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from tests.conftest import RedisServer
from tests.system.ledger import faults, read_book, server_s
from tests.system.processes import CronqProcess, Processes, until

RULES = ("latest", "skip", "all")
#: One job for each way to catch up.
JOBS = """
from cronq import job

def work(): ...

for rule in ("latest", "skip", "all"):
    job(name=rule, every="1s", catchup=rule, overlap="allow")(work)
"""
AWAY_S = 20.0


class Stage:
    """A Redis of its own, jobs of each rule, and beats."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir()
        self.server = RedisServer(*options)
        self.client = Redis.from_url(self.server.url)
        self.app = Cronq(config=Config(url=self.server.url, host_id="test"), registry=Registry(), client=self.client)
        self.processes = Processes(self.server.url, directory)
        self.processes.write_module("jobs", JOBS)
        self.beats: list[CronqProcess] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.__exit__()
        self.client.close()
        self.server.stop()

    def start_beats(self, count: int, *options: str) -> None:
        self.beats += [self.processes.start("beat", "jobs", *options) for _ in range(count)]

    def until_decided(self, tick: float) -> None:
        """Wait until the ticks of all jobs up to *tick* are in the ledger."""

        def decided() -> bool:
            return all((self.app.jobs.mark_of(rule) or 0) >= tick for rule in RULES)

        until(decided, 60, lambda: "\n".join(beat.log for beat in self.beats))

    def stop_beats(self) -> None:
        for beat in self.beats:
            beat.terminate()
        assert [beat.exit_code() for beat in self.beats] == [0] * len(self.beats)

    def outcomes(self) -> dict[str, dict[int, str]]:
        """By job and tick, after all that is promised of ledger and queue was found to hold."""
        book = read_book(self.app, RULES)
        assert faults(book) == []
        return {rule: book.outcomes(rule) for rule in RULES}


def tell(figures: str) -> None:
    sys.stdout.write(figures + "\n")


# Away


#: How Redis goes away, and how it comes back.
AWAY: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "killed": (RedisServer.kill9, RedisServer.start),
    "suspended": (RedisServer.pause, RedisServer.resume),
}


def test_beats_outlive_a_redis_that_is_away_for_20_seconds(tmp_path: Path) -> None:
    with ExitStack() as stack:
        # Both at the same time, to wait only once.
        stages = {way: stack.enter_context(Stage(tmp_path / way, "--appendonly", "yes")) for way in AWAY}
        for stage in stages.values():
            stage.start_beats(2)
        for stage in stages.values():
            stage.until_decided(server_s(stage.client) + 1)

        gone = time.time()
        for way, (leave, _) in AWAY.items():
            leave(stages[way].server)
        time.sleep(AWAY_S)
        for way, (_, come_back) in AWAY.items():
            come_back(stages[way].server)
        back = time.time()

        for way, stage in stages.items():
            stage.until_decided(server_s(stage.client) + 2)
            stage.stop_beats()
            check_outage(way, stage, gone, back)


def check_outage(way: str, stage: Stage, gone: float, back: float) -> None:
    found = stage.outcomes()
    during = range(int(gone) + 2, int(back) - 2)
    assert len(during) >= AWAY_S - 4
    for rule, outcome in (("latest", "coalesced"), ("skip", "missed"), ("all", "queued")):
        assert {found[rule][tick] for tick in during} == {outcome}, (way, rule)
    for rule in RULES:
        newest = max(tick for tick in found[rule] if tick <= back)
        assert "queued" in (found[rule][newest], found[rule][newest + 1]), (way, rule)
    for beat in stage.beats:
        assert len(beat.lines("TROUBLE")) == 1, (way, beat.log)
        assert len(beat.lines("RECOVERED")) == 1, (way, beat.log)
    rows = [row for row in stage.app.history("all", 1000) if row.queued_at is not None and row.queued_at > back]
    first = min(row.queued_at for row in rows if row.queued_at is not None)
    tell(f"{way} for {back - gone:.1f} s: {len(during)} ticks by the rule; going on {first - back:.2f} s after it")


def test_after_a_time_without_any_beat_each_tick_ends_as_its_rule_has_it(tmp_path: Path) -> None:
    with Stage(tmp_path / "down") as stage:
        stage.start_beats(1)
        stage.until_decided(server_s(stage.client) + 1)
        stage.beats.pop().kill9()
        marks = [stage.app.jobs.mark_of(rule) or 0 for rule in RULES]
        first = max(marks) + 1
        until(lambda: server_s(stage.client) > first + 5, what="five seconds without a beat")

        stage.start_beats(1)
        stage.until_decided(server_s(stage.client) + 1)
        stage.stop_beats()

        found = stage.outcomes()
        rows = {rule: {row.tick: row for row in stage.app.history(rule, 1000)} for rule in RULES}
        for rule, outcome in (("latest", "coalesced"), ("skip", "missed"), ("all", "queued")):
            down = [tick for tick in found[rule] if tick >= first]
            newest = min(tick for tick in down if rows[rule][tick].reason is None)  # due again, as always
            assert newest >= first + 5
            assert {found[rule][tick] for tick in down if tick < newest} == {outcome}
            assert found[rule][newest] == "queued"
        words = "no beat took it in time"
        assert (rows["latest"][first].reason or "").startswith(words)
        assert "was taken in its place" in (rows["latest"][first].reason or "")
        assert (rows["skip"][first].reason or "").endswith("catchup is skip")
        assert (rows["all"][first].reason or "").startswith(f"caught up: {words}")


# Emptied


def test_a_redis_that_is_flushed_under_running_beats_gets_its_jobs_back_and_no_burst(tmp_path: Path) -> None:
    with Stage(tmp_path / "flushed") as stage:
        stage.start_beats(3)
        for beat in stage.beats:
            beat.wait_for_line("START-UP")
        stage.until_decided(server_s(stage.client) + 2)

        before = server_s(stage.client)
        stage.client.flushall()
        stage.until_decided(server_s(stage.client) + 3)
        stage.stop_beats()

        for rule, outcomes in stage.outcomes().items():
            assert int(before) < min(outcomes) <= before + 20, rule
            assert set(outcomes.values()) <= {"queued", "coalesced", "missed"}
            assert next(iter(outcomes.values())) == "queued"
        told = [line for beat in stage.beats for line in beat.lines("EPOCH")]
        assert all(len(beat.lines("EPOCH")) <= 1 for beat in stage.beats)
        assert sum("3 jobs that code defines were stored" in line for line in told) <= 1
        assert told
        assert not any(beat.lines("BROKEN") or beat.lines("TROUBLE") for beat in stage.beats)
        tell(f"flushed: {len(told)} lines by 3 beats; {sum(map(len, stage.outcomes().values()))} ticks after it")


# Unfit


def test_a_beat_refuses_a_redis_that_may_evict_and_takes_it_when_told_to(tmp_path: Path) -> None:
    with Stage(tmp_path / "evicting", "--maxmemory-policy", "allkeys-lru") as stage:
        refused = stage.processes.run("beat", "jobs")

        assert refused.exit_code() == 78
        assert refused.log.startswith("cronq: maxmemory-policy allkeys-lru lets Redis evict schedules, marks and locks")
        assert len(refused.log.splitlines()) == 1
        assert stage.client.keys("*") == []

        stage.start_beats(1, "--allow-eviction")
        stage.beats[0].wait_for_line("WARNING cronq.beat REDIS maxmemory-policy allkeys-lru")
        stage.until_decided(server_s(stage.client) + 1)
        stage.stop_beats()
        assert {outcome for rule in RULES for outcome in stage.outcomes()[rule].values()} >= {"queued"}
