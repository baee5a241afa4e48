"""Keys of a wrong type, and a Redis that has forgotten its last second, on the way from queued to settled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import RedisError

from cronq.app.app import Cronq
from cronq.beat.popped import Popped
from cronq.beat.sweep import Sweep
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.runs.run import Run
from cronq.runs.store import Started
from cronq.runs.timing import Timing
from tests.faults.calls import load_scripts
from tests.faults.proxy import FaultProxy
from tests.redis.conftest import dequeue_of, id_of
from tests.redis.test_planted_values import WRONG
from tests.redis.test_run_store import POPPED, QUEUE, RUN, T, pop, queued, renew, settle, start

__all__ = ["queued"]

#: What `settle` touches besides the run's own row, with its type.
SETTLED_KEYS = {
    "cronq:job:invoices:active": "hash",
    "cronq:job:invoices:state": "hash",
    "cronq:job:invoices:waiting": "zset",
    "cronq:running": "zset",
    "cronq:events": "stream",
    "rq:queue:default": "list",
    "rq:queue:default:intermediate": "list",
    "rq:wip:default": "zset",
    f"rq:executions:{RUN}": "zset",
    "rq:finished:default": "zset",
    "rq:failed:default": "zset",
    f"rq:job:{RUN}": "hash",
    f"rq:results:{RUN}": "stream",
}


@pytest.mark.parametrize("key", SETTLED_KEYS)
def test_a_key_of_a_wrong_type_keeps_no_run_from_being_settled_whole(app: Cronq, queued: Run, key: str) -> None:
    pop(app)
    start(app)
    wrong = "list" if SETTLED_KEYS[key] == "hash" else "hash"
    app.client.delete(key)
    WRONG[wrong](app.client, key)

    assert settle(app, "succeeded") is True

    def is_sound(each: str) -> bool:
        return each != key

    assert app.runs.get(RUN).outcome == "succeeded"
    if is_sound("cronq:job:invoices:active"):
        assert app.runs.active(["invoices"]) == {"invoices": {}}
    if is_sound("cronq:job:invoices:state"):
        assert app.jobs.get("invoices").state.streak == 1
    if is_sound("cronq:running"):
        assert app.client.zscore("cronq:running", RUN) is None
    if is_sound("cronq:events"):
        assert [fields[b"type"] for _, fields in app.client.xrevrange("cronq:events", count=1)] == [b"succeeded"]
    if is_sound("rq:wip:default"):
        assert app.client.zcard("rq:wip:default") == 0
    if is_sound(f"rq:job:{RUN}"):
        assert app.client.hget(f"rq:job:{RUN}", "status") == b"finished"
        assert app.client.ttl(f"rq:job:{RUN}") > 0
    if is_sound("rq:finished:default") and is_sound(f"rq:job:{RUN}"):
        assert app.client.zscore("rq:finished:default", RUN) is not None


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("cronq:job:invoices:waiting", "hash"), ("cronq:waiting", "hash"), ("cronq:job:invoices:active", "list"),
        (POPPED, "hash"),
    ],
)  # fmt: skip
def test_a_key_of_a_wrong_type_loses_no_run_that_is_to_wait(app: Cronq, queued: Run, key: str, wrong: str) -> None:
    pop(app)
    app.client.delete(key)
    WRONG[wrong](app.client, key)

    with pytest.raises(RedisError):
        app.runs.park(queued, "invoices", T + 1)

    assert app.runs.get(RUN).state == "queued"
    if key != POPPED:
        assert app.client.lrange(POPPED, 0, -1) == [RUN.encode()]


@pytest.mark.parametrize("key", [QUEUE, "rq:queues", "cronq:job:invoices:active"])
def test_a_key_of_a_wrong_type_loses_no_run_that_waits(app: Cronq, queued: Run, key: str) -> None:
    pop(app)
    app.runs.park(queued, "invoices", T + 1)
    app.client.delete(key)
    WRONG["string"](app.client, key)

    assert not app.runs.wake_waiter("invoices")
    app.client.delete(key)

    assert app.runs.get(RUN).state == "waiting"
    assert app.runs.wake_waiter("invoices")
    assert app.client.lrange(QUEUE, 0, -1) == [RUN.encode()]


@pytest.mark.parametrize("suffix", ["", ":intermediate"])
def test_a_queue_of_a_wrong_type_keeps_no_other_from_being_served(app: Cronq, queued: Run, suffix: str) -> None:
    WRONG["string"](app.client, f"rq:queue:broken{suffix}")
    if suffix:
        app.client.rpush("rq:queue:broken", "x")
    dequeue = dequeue_of(app)

    assert id_of(dequeue.take(["broken", "default"], 0.0)) == RUN.encode()


@pytest.mark.parametrize("key", ["cronq:waiting", "cronq:job:other:waiting", "rq:queues", "rq:failed:other"])
def test_a_list_of_a_wrong_type_keeps_no_lost_run_from_being_settled(app: Cronq, queued: Run, key: str) -> None:
    pop(app)
    start(app)
    app.client.sadd("cronq:waiting", "other")
    app.client.sadd("rq:queues", "rq:queue:other")
    app.client.delete(key)
    WRONG["string"](app.client, key)
    sweep = Sweep(app.client, app.keys, app.runs, by="beat box.1", timing=Timing(0.0))

    sweep.once(T)
    sweep.once(T + 100)

    assert app.runs.get(RUN).outcome == "lost"


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(redis_url) as made:
        yield made


def test_an_id_that_is_given_back_is_in_its_queue_once_though_the_reply_was_lost(
    app: Cronq, queued: Run, proxy: FaultProxy
) -> None:
    load_scripts(app.client)
    through = Cronq(config=Config(url=proxy.url, host_id="box"), registry=Registry())
    dequeue = dequeue_of(through)
    taken = dequeue.take(["default"], 0.0)
    assert taken is not None
    dropped = proxy.drop_reply(POPPED.encode())

    dequeue.give_back(taken)

    through.client.close()
    assert dropped.is_set()
    assert app.client.lrange(QUEUE, 0, -1) == [RUN.encode()]
    assert app.client.llen(POPPED) == 0


def test_an_id_stays_where_it_was_popped_while_its_queue_is_of_a_wrong_type(app: Cronq, queued: Run) -> None:
    dequeue = dequeue_of(app)
    taken = dequeue.take(["default"], 0.0)
    assert taken is not None
    app.client.set(QUEUE, "junk")

    dequeue.give_back(taken)
    popped = Popped(app.client, app.keys, app.runs, by="beat", missed_s=1.0)
    assert not popped.unpop(QUEUE, RUN.encode(), T + 60.0)
    assert app.client.lrange(POPPED, 0, -1) == [RUN.encode()]

    app.client.delete(QUEUE)
    assert popped.unpop(QUEUE, RUN.encode(), T + 60.0)
    assert app.client.lrange(QUEUE, 0, -1) == [RUN.encode()]


# A Redis that has forgotten its last second


def forget_the_start(app: Cronq, snapshot: dict[bytes, bytes]) -> None:
    """Put Redis back to where it was: what it had not yet written to disk is gone."""
    app.client.flushall()
    for key, value in snapshot.items():
        app.client.restore(key, 0, value)


def snapshot(app: Cronq) -> dict[bytes, bytes]:
    return {key: app.client.dump(key) for key in app.client.scan_iter()}


def test_whoever_started_a_run_that_redis_forgot_is_told_when_another_has_started_it(app: Cronq, queued: Run) -> None:
    before = snapshot(app)
    pop(app)
    start(app)
    forget_the_start(app, before)
    pop(app)
    assert start(app, execution="another") == Started("started", 1)

    assert renew(app, T + 5) == "settled"
    assert settle(app, "succeeded") is False

    run = app.runs.get(RUN)
    assert (run.state, run.outcome) == ("running", None)


@pytest.mark.parametrize("popped", [True, False])
def test_a_run_whose_start_redis_forgot_is_begun_again_by_who_does_it(app: Cronq, queued: Run, popped: bool) -> None:
    if popped:
        pop(app)
    before = snapshot(app)
    start(app)
    forget_the_start(app, before)

    assert renew(app, T + 5) == "forgotten"
    assert start(app) == Started("started", 1)
    assert renew(app, T + 6) == ""


def test_the_outcome_of_a_run_whose_start_redis_forgot_counts(app: Cronq, queued: Run) -> None:
    before = snapshot(app)
    pop(app)
    start(app)
    forget_the_start(app, before)

    assert settle(app, "succeeded")

    assert app.runs.get(RUN).outcome == "succeeded"
    assert not app.client.exists(QUEUE, POPPED)
    assert not settle(app, "succeeded")
