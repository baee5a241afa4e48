"""The server's clock steps: no burst, no job silenced by a mark in the future, no tick twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.clock import HOLD_S, ServerClock
from cronq.jobs.spec import JobSpec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import DueReading

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR = 60, 3600
Store = Callable[..., JobSpec]


class HandClock(ServerClock):
    """The clock of a beat whose host has been up for `boot` seconds."""

    boot = 0.0

    def observe(self, server_s: float, boot: float | None = None, wall: float | None = None) -> str | None:
        return super().observe(server_s, self.boot, server_s)

    def now_s(self) -> float:
        assert self._base is not None
        return self._base[0] + self.boot - self._base[1]


class HandServer(JobStore):
    """A Redis whose own clock says `now`."""

    now = float(T)

    def read_due(self, limit: int, now_s: float | None = None, **options: Any) -> DueReading:
        return replace(super().read_due(limit, self.now, **options), server_s=self.now)


class Stage:
    """A beat, and the clocks around it."""

    def __init__(self, app: Cronq) -> None:
        self.app = app
        app.clock = self.clock = HandClock()
        self.beat = app.beat()
        self.beat.jobs = self.server = HandServer(app.client, app.keys)

    def go_on(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass, with a pass and an audit every *step_s*."""
        end = self.clock.boot + seconds
        while self.clock.boot < end:
            self.clock.boot += step_s
            self.server.now += step_s
            self.beat.pass_once()
            for chore in self.beat.chores:
                if chore.name == "audit":
                    chore.work(self.clock.now_s())

    def step(self, seconds: float) -> None:
        """The clock of the server steps, by hand or by NTP."""
        self.server.now += seconds

    def outcomes(self, name: str = "invoices") -> dict[int, str]:
        """By minutes after T."""
        rows = [row for row in self.app.history(name, 1000) if row.tick is not None]
        found = {(row.tick - T) // MINUTE: row.outcome or row.state for row in rows if row.tick is not None}
        assert len(found) == len(rows)
        return dict(sorted(found.items()))

    @property
    def queued(self) -> list[bytes]:
        ids = self.app.client.lrange("rq:queue:default", 0, -1)
        assert len(set(ids)) == len(ids)
        return ids


@pytest.fixture
def stage(app: Cronq, store: Store) -> Stage:
    store("invoices", mark=T, overlap="allow")
    made = Stage(app)
    made.go_on(90)
    assert made.outcomes() == {1: "queued"}
    return made


@pytest.fixture
def clock_lines() -> Iterator[list[str]]:
    lines: list[str] = []

    class Journal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "CLOCK" in record.getMessage():
                lines.append(record.getMessage())

    handler = Journal()
    logging.getLogger("cronq.beat").addHandler(handler)
    yield lines
    logging.getLogger("cronq.beat").removeHandler(handler)


def test_a_step_of_two_hours_and_back_fires_nothing_and_costs_nothing(stage: Stage, clock_lines: list[str]) -> None:
    stage.step(2 * HOUR)
    stage.go_on(20)
    assert stage.clock.holding
    assert stage.outcomes() == {1: "queued"}

    stage.step(-2 * HOUR)
    stage.go_on(70)

    assert stage.outcomes() == {1: "queued", 2: "queued", 3: "queued"}
    assert stage.app.jobs.mark_of("invoices") == T + 3 * MINUTE
    assert clock_lines == [
        "CLOCK the clock of the Redis server stepped by 2h; holding until it is steady",
        "CLOCK the clock of the Redis server is back; going on",
    ]


def test_a_step_forwards_that_stays_is_believed_after_a_while_and_makes_no_burst(
    stage: Stage, clock_lines: list[str]
) -> None:
    stage.step(2 * HOUR)
    stage.go_on(HOLD_S - 2)
    assert len(stage.queued) == 1

    stage.go_on(30)

    found = stage.outcomes()
    assert len(stage.queued) == 2
    assert list(found) == list(range(1, 123))
    assert [tick for tick, outcome in found.items() if outcome == "queued"] == [1, 122]
    assert {found[tick] for tick in range(2, 122)} == {"coalesced"}
    assert clock_lines[-1] == "CLOCK the clock of the Redis server is steady at its new time; going on"


def test_a_step_backwards_that_stays_fires_no_tick_twice_and_silences_no_job(stage: Stage) -> None:
    stage.step(-2 * HOUR)
    stage.go_on(HOLD_S - 2)
    assert stage.outcomes() == {1: "queued"}

    stage.go_on(70)

    assert list(stage.outcomes()) == [-117, 1]
    stage.go_on(2 * HOUR, step_s=20)
    found = stage.outcomes()
    assert set(found.values()) == {"queued"}
    assert list(found) == list(range(-117, max(found) + 1))
    assert len(stage.queued) == len(found)


def test_a_step_too_small_to_hold_for_fires_no_tick_twice_and_silences_no_job(stage: Stage) -> None:
    stage.go_on(4 * MINUTE)
    assert list(stage.outcomes()) == [1, 2, 3, 4, 5]

    stage.step(-200)
    stage.go_on(5)
    assert not stage.clock.holding
    mark = stage.app.jobs.mark_of("invoices")
    assert mark is not None
    assert mark <= stage.server.now + MINUTE
    stage.go_on(6 * MINUTE)

    assert list(stage.outcomes()) == list(range(1, 9))
    assert len(stage.queued) == 8


@pytest.mark.parametrize("catchup", ["latest", "skip"])
def test_a_step_too_small_to_hold_for_changes_nothing_of_ticks_that_did_not_run(
    app: Cronq, store: Store, catchup: str
) -> None:
    """Though they share a row; and they are not counted once more."""
    store("invoices", mark=T, overlap="allow", catchup=catchup, repeat=20)
    stage = Stage(app)
    stage.go_on(5)
    stage.clock.boot += 10 * MINUTE + 30  # no beat is there
    stage.server.now += 10 * MINUTE + 30
    stage.go_on(5)
    before, queued = stage.outcomes(), stage.queued
    assert [before[minute] for minute in range(5, 11)] == [before[1]] * 5 + ["queued"]

    stage.step(-280)
    stage.go_on(5)
    assert not stage.clock.holding
    stage.server.now += 90  # the ticks of these 90 seconds are looked at together
    stage.go_on(3 * MINUTE)

    assert {minute: word for minute, word in stage.outcomes().items() if minute <= 10} == before
    assert stage.queued == queued
    stage.go_on(15 * MINUTE)
    assert list(stage.outcomes()) == list(range(1, 21))
    assert len(stage.queued) == len(queued) + 10


def test_a_host_that_slept_catches_up_at_once(stage: Stage, clock_lines: list[str]) -> None:
    stage.clock.boot += 3 * HOUR
    stage.server.now += 3 * HOUR

    stage.go_on(1)

    assert len(stage.queued) == 2
    assert clock_lines == []


def test_a_mark_and_an_agenda_entry_in_the_future_are_set_back_and_the_job_goes_on(stage: Stage, redis: Redis) -> None:
    ahead = T + 26 * HOUR
    stage.app.quarantine.restore_mark("invoices", ahead, ahead + MINUTE)

    stage.go_on(5)
    assert stage.app.jobs.mark_of("invoices") == T + MINUTE
    stage.go_on(60)

    assert stage.outcomes() == {1: "queued", 2: "queued"}
    assert redis.zscore(stage.app.keys.agenda, "invoices") == T + 3 * MINUTE


def test_ticks_later_than_the_servers_time_are_refused(app: Cronq, store: Store, redis: Redis) -> None:
    now = redis.time()[0]
    store("invoices", mark=now, every="1s", cron=None)

    result = app.beat().pass_once(now_s=now + 2 * HOUR)

    assert set(result.codes) == {"future"}
    assert app.jobs.mark_of("invoices") == now
    assert redis.llen("rq:queue:default") == 0
