"""How soon what was popped and never begun is back on its queue, at the worst that the looks of a beat can fall."""

from __future__ import annotations

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import make_spec

POPPED = "rq:queue:default:intermediate"


@pytest.mark.parametrize(
    "lost_after_s",
    [1.0, 3.0, 6.0, 30.0],
)
def test_what_was_popped_and_not_begun_is_put_back_in_time_however_the_looks_fall(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, lost_after_s: float
) -> None:
    app = Cronq(config=Config(host_id="box", lost_after=lost_after_s), registry=Registry(), client=redis)
    app.jobs.save(make_spec("job", command=["true"]), source="here:1", origin="test", expected="")
    sweep = next(chore for chore in app.beat().chores if chore.name == "sweep")
    begun_s = app.now_s()
    now = [0.0]
    monkeypatch.setattr("cronq.beat.sweep.boot_s", lambda: now[0])
    monkeypatch.setattr("cronq.beat.sweep._JUMP_S", float("inf"), raising=False)  # time passes here, not for the server
    app.enqueue("job")
    for _ in range(20):
        sweep.work(begun_s + now[0])
        now[0] += sweep.every_s
    redis.lmove("rq:queue:default", POPPED, "LEFT", "RIGHT")  # just after a look
    popped = now[0] - sweep.every_s

    while redis.llen(POPPED):
        sweep.work(begun_s + now[0])
        took_s = now[0] - popped
        now[0] += sweep.every_s

    assert took_s < lost_after_s + 5
