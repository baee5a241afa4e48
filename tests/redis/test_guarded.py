"""How a guarded run begins, when calls are sent again or come late; and locks that are files."""

from __future__ import annotations

import fcntl
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.errors import RedisUnavailable
from cronq.jobs.registry import Registry
from cronq.runs.guarded import Busy, Guarded, GuardedStart, lock_names
from cronq.runs.run import Ending, Settlement
from cronq.worker.local_guard import LocalGuards

ONE = Guarded("n-m00000001", "n", "x1", "box.1.exec", "box", 1, "ann", lock_names("n", count=2))
TWO = replace(ONE, run_id="n-m00000002", execution="x2")
THREE = replace(ONE, run_id="n-m00000003", execution="x3")


@pytest.fixture
def app(redis: Redis) -> Cronq:
    return Cronq(config=Config(host_id="box"), registry=Registry(), client=redis)


def held(app: Cronq) -> dict[str, str | None]:
    return {lock.name: lock.run_id for lock in app.locks()}


def test_one_that_asks_again_has_the_lock_that_it_had_and_no_other(app: Cronq, redis: Redis) -> None:
    app.guarded.begin(ONE)
    first = app.guarded.begin(TWO)
    redis.delete("lock:cronq:n")  # the first of the two is free again

    again = app.guarded.begin(TWO)

    assert isinstance(first, GuardedStart)
    assert isinstance(again, GuardedStart)
    assert (again.lock, again.fence) == (first.lock, first.fence) == ("n/2", first.fence)
    assert held(app) == {"n/2": TWO.run_id}
    assert isinstance(app.guarded.begin(THREE), GuardedStart)
    assert isinstance(app.guarded.begin(ONE), Busy)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "lost"])
def test_a_call_that_comes_when_its_run_is_over_writes_nothing(app: Cronq, redis: Redis, outcome: str) -> None:
    begun = app.guarded.begin(ONE)
    assert isinstance(begun, GuardedStart)
    ending = Ending(Settlement(outcome, "it ended", exit_code=0), "worker x", begun.now_s + 1, execution="x1")
    assert app.runs.settle(begun.run, ending)
    redis.delete("lock:cronq:n")
    row = redis.hgetall(f"cronq:run:{ONE.run_id}")

    with pytest.raises(RedisUnavailable, match="counts as lost by now; nothing was executed"):
        app.guarded.begin(ONE)

    assert redis.hgetall(f"cronq:run:{ONE.run_id}") == row
    assert held(app) == {}
    assert redis.zcard("cronq:running") == 0


def test_a_lock_file_that_is_replaced_just_before_it_is_locked_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, alone, locked = tmp_path / "n.lock", replace(ONE, locks=("n",)), []
    lock_file = fcntl.flock

    def replaced_first(fd: int, how: int) -> None:
        if not locked:
            path.unlink()
            path.touch()
        locked.append(fd)
        lock_file(fd, how)

    monkeypatch.setattr(fcntl, "flock", replaced_first)
    assert isinstance(LocalGuards(tmp_path).begin(alone), GuardedStart)

    assert len(locked) == 2
    assert isinstance(LocalGuards(tmp_path).begin(alone), Busy)
