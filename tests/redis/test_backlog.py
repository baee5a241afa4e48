"""Beside a backlog of 200,000 runs nothing that cronq does keeps Redis from answering others for 10 ms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.exchange import Begun, Renewing
from cronq.runs.run import Ending, Settlement
from cronq.worker.dequeue import Dequeue
from tests.redis.conftest import dequeue_of

Store = Callable[..., JobSpec]
QUEUE = "rq:queue:default"
MANY = 100_000
SLOW_US = 10_000
#: Makes copies of one run, as give_run and delay_run leave it, 10,000 in a call.
#: ARGV: 1 the run   2 its set   3 first number   4 how many   5 when it is due, "" for a queued one
COPY = """
local row, hash, set, index = 'cronq:run:' .. ARGV[1], 'rq:job:' .. ARGV[1], ARGV[2], ARGV[6]
local state = ARGV[5] == '' and 'queued' or 'waiting'
for i = ARGV[3], ARGV[3] + ARGV[4] - 1 do
    local id = string.format('%s%08d', string.sub(ARGV[1], 1, -9), i)
    redis.call('COPY', row, 'cronq:run:' .. id)
    redis.call('COPY', hash, 'rq:job:' .. id)
    redis.call('HSET', set, id, state)
    redis.call('ZADD', index, 1 + i, id)
    if state == 'queued' then
        redis.call('RPUSH', 'rq:queue:default', id)
    else
        redis.call('ZADD', 'cronq:delayed', ARGV[5], id)
        redis.call('ZADD', 'rq:scheduler:scheduled_jobs', ARGV[5], id)
    end
end
"""


def multiply(app: Cronq, name: str, run_id: str, count: int, due: str = "", first: int = 0) -> None:
    """Make the run *run_id* of a job a backlog."""
    for number in range(first, first + count, 10_000):
        args = [run_id, app.keys.given(name), number, min(count, 10_000), due, app.keys.manual(name)]
        app.client.eval(COPY, 0, *args)


def work_off(app: Cronq, dequeue: Dequeue, count: int, now_s: float) -> None:
    """Take, start, renew and settle so many runs, as a worker does."""
    for _ in range(count):
        begun = dequeue.take(["default"], 0.0)
        assert isinstance(begun, Begun)
        run, execution = begun.run, begun.execution
        app.desk.renew(Renewing(run, execution))
        done = Settlement("succeeded", "it ran to its end")
        assert app.runs.settle(run, Ending(done, by="worker w", now_s=now_s, execution=execution))


def slow_commands(redis: Redis) -> dict[str, list[int]]:
    """Times in µs, by script or by command and key, of what takes longer than `SLOW_US` one time in ten.

    A single one may be the machine, for the log counts what else ran meanwhile; one that is five times as long is not.
    """
    taken = defaultdict(list)
    for entry in redis.slowlog_get(100_000):
        taken[" ".join(entry["command"].decode(errors="replace").split()[:2])].append(entry["duration"])
    over = {kind: [time for time in times if time > SLOW_US] for kind, times in taken.items()}
    return {
        kind: times
        for kind, times in over.items()
        if len(times) > len(taken[kind]) / 10 or max(times, default=0) > 5 * SLOW_US
    }


@pytest.mark.timing
@pytest.mark.timing
def test_beside_a_long_backlog_nothing_keeps_redis_busy(app: Cronq, store: Store, redis: Redis) -> None:
    now = app.exact_now_s()
    minute = int(now) // 60 * 60
    store("ticking", mark=minute - 600)
    store("other", mark=int(now), cron="0 0 1 1 *")
    multiply(app, "ticking", app.enqueue("ticking"), MANY)
    multiply(app, "ticking", app.enqueue_in("10h", "ticking"), MANY, due=str(int(now) + 36_000), first=MANY)
    multiply(app, "other", app.enqueue("other"), 3000)
    beat = app.beat()
    beat.epoch, _ = app.jobs.open_epoch()
    dequeue = dequeue_of(app)
    redis.config_set("slowlog-max-len", 100_000)
    redis.config_set("slowlog-log-slower-than", 0)
    redis.slowlog_reset()
    try:
        for number in range(5):
            beat.pass_once(float(minute - 540 + 60 * number))
            work_off(app, dequeue, 5, now)
        for chore in beat.chores:
            chore.work(now)
        app.runs.active(["ticking"])
        app.history("ticking", 20)
        app.stop(app.enqueue("ticking"))
        app.stop(app.enqueue_in("1h", "ticking"))
        assert len(app.stop("other")) == 3001
        app.jobs.remove("ticking", by="ann", now_s=now, keep_rows_for_s=86400)
        assert app.bulk_stop.finish_removal("ticking", now, most_steps=200) in range(5000, 15_000)
        slow = slow_commands(redis)
    finally:
        redis.config_set("slowlog-log-slower-than", -1)
        redis.slowlog_reset()
        redis.flushall(asynchronous=True)  # what comes next is not to wait for it

    assert slow == {}
