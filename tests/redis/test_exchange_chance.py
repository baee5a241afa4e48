"""Whatever answers are lost, and however late calls come: each run is done once, and none is left behind."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.exchange import Begun, End, Exchange, Offer, Taken
from cronq.runs.run import Ending, Settlement

Store = Callable[..., JobSpec]
T = 1767596400
RUNS = 25


class Lost(Exception):
    """The answer did not come."""


class World:
    """Some workers of one process, each with its run or its unwritten end, on a connection that loses much."""

    def __init__(self, app: Cronq, chance: random.Random) -> None:
        self.app = app
        self.redis: Redis = app.client
        self.chance = chance
        self.exchange = Exchange(
            app.client, app.keys, app.runs, host="box", pid=1, no_commands=False, lock_ttl_s=30.0, lease_s=90
        )
        self.ask = self.exchange._settle_and_take
        self.exchange._settle_and_take = self.send
        self.is_orderly = False
        self.late: list[Any] = []
        self.workers: dict[str, End | Begun | None] = dict.fromkeys(("w1", "w2", "w3"))
        self.done: Counter[tuple[str, int]] = Counter()
        self.now_s, self.offers = T + 4000.0, 0

    def send(self, args: Any, client: Redis) -> Any:
        fate = "answered" if self.is_orderly else self.chance.choice(["answered"] * 4 + ["unsent", "unheard", "late"])
        if fate == "late":
            self.late.append(args)
        if fate in ("unsent", "late"):
            raise Lost
        answer = self.ask(args=args)
        if fate == "unheard":
            raise Lost
        return answer

    def step(self) -> None:
        """Some workers at once do what is next for each; and perhaps a call comes late."""
        if self.late and self.chance.random() < 0.3:
            self.ask(args=self.late.pop(self.chance.randrange(len(self.late))))
        self.now_s += 0.1
        chosen = [name for name in self.workers if self.chance.random() < 0.6]
        offers = []
        for name in chosen:
            if isinstance(self.workers[name], Begun):
                self.work(name)
            self.offers += 1
            offers.append(Offer(name, f"e{self.offers}"))
        ends = [end for name in chosen if isinstance(end := self.workers[name], End)]
        try:
            answer = self.exchange.settle_and_take(ends, offers, ["default"], left_alone=(), now_s=self.now_s)
        except Lost:
            return
        assert answer.troubles == [None] * len(offers)
        for name, start in zip(chosen, answer.starts, strict=True):
            self.workers[name] = start if isinstance(start, Begun) else None
            if isinstance(start, Taken):  # its lock is busy
                self.redis.lrem("rq:queue:default:intermediate", 1, start.raw_id)
                self.redis.rpush("rq:queue:default", start.raw_id)

    def work(self, name: str) -> None:
        begun = self.workers[name]
        assert isinstance(begun, Begun)
        self.done[begun.run.run_id, begun.run.attempt] += 1
        if begun.lock is not None:
            assert self.redis.get(f"lock:cronq:{begun.lock}") == begun.execution.encode()
        ending = Ending(
            Settlement("succeeded", "it ran to its end"), f"worker {name}", self.now_s, attempt=begun.run.attempt,
            execution=begun.execution,
        )  # fmt: skip
        self.workers[name] = End(name, begun.run, ending, begun.execution, begun.lock, 0.25)


@pytest.mark.parametrize("seed", range(25))
def test_each_run_is_done_once(app: Cronq, redis: Redis, store: Store, seed: int) -> None:
    chance = random.Random(seed)
    specs = [store("free", mark=T), store("locked", mark=T, exclusive=True)]
    ids = {app.claimer("p").give(chance.choice(specs), T + 1.0, run_id=f"free-m{n:08}") for n in range(RUNS)}
    world = World(app, chance)

    for _ in range(60):
        world.step()
    world.is_orderly = True
    queue, popped = "rq:queue:default", "rq:queue:default:intermediate"
    while world.late or redis.exists(queue, popped, "cronq:running") or any(world.workers.values()):
        world.step()
        while redis.lmove(popped, queue):  # as a beat does with what was popped and nobody has begun
            pass
        assert world.now_s < T + 4100

    assert world.done == {(run_id, 1): 1 for run_id in ids}
    assert {run.outcome for run in app.runs.rows(ids)} == {"succeeded"}
    assert redis.llen("rq:queue:default:intermediate") == redis.zcard("rq:wip:default") == 0
    assert redis.zcard("cronq:running") == redis.exists("lock:cronq:locked") == 0
    records = [redis.hgetall(f"rq:worker:{name}") for name in world.workers]
    assert sum(int(record.get(b"successful_job_count", 0)) for record in records) == RUNS
    assert all(b"current_job" not in record for record in records)
