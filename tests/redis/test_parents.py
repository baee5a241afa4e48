"""Who is whose child, as it stands in Redis: written with the child, whatever the order in which jobs come and go."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.errors import CronqError
from cronq.jobs.spec import JobSpec, make_spec

Store = Callable[..., JobSpec]


def save(app: Cronq, name: str, **options: Any) -> str:
    spec = make_spec(name, command=["true"], **options)
    return app.changes().save(spec, source="here:1", origin="test")


def children(app: Cronq, redis: Redis, name: str) -> dict[str, list[str]]:
    found = redis.hgetall(app.keys.children(name))
    return {child.decode(): json.loads(options) for child, options in found.items()}


@pytest.fixture(autouse=True)
def parents(app: Cronq) -> None:
    """What the jobs of these tests name."""
    for name in ("a", "b", "c", "load", "more"):
        save(app, name, cron="@hourly")


def test_a_parent_knows_its_children(app: Cronq, redis: Redis) -> None:
    save(app, "report", after=["load", "more"])
    save(app, "gated", cron="@hourly", depends_on="load")

    assert children(app, redis, "load") == {"report": ["after"], "gated": ["depends_on"]}
    assert children(app, redis, "more") == {"report": ["after"]}
    assert redis.ttl(app.keys.children("load")) == -1


def test_a_parent_that_is_no_longer_named_loses_the_child(app: Cronq, redis: Redis) -> None:
    save(app, "report", after=["a", "b"])

    assert save(app, "report", after=["b", "c"]) == "changed"
    assert [children(app, redis, name) for name in "abc"] == [{}, {"report": ["after"]}, {"report": ["after"]}]

    save(app, "report", cron="@hourly", depends_on=["c"])
    assert [children(app, redis, name) for name in "abc"] == [{}, {}, {"report": ["depends_on"]}]

    save(app, "report", cron="@hourly")
    assert [redis.exists(app.keys.children(name)) for name in "abc"] == [0, 0, 0]
    assert redis.hmget(app.keys.job("report"), "parents", "trigger") == [None, None]


def test_a_child_that_is_removed_is_nobodys_and_a_removed_parent_keeps_those_that_name_it(
    app: Cronq, redis: Redis
) -> None:
    for name in ("x", "y"):
        save(app, name, after="load")

    app.remove("x")
    app.remove("load", force=True)
    assert children(app, redis, "load") == {"y": ["after"]}

    save(app, "load", cron="@hourly")
    app.remove("y")
    assert redis.exists(app.keys.children("load")) == 0


def test_what_a_script_needs_to_claim_a_triggered_tick_stands_beside_the_spec(app: Cronq, redis: Redis) -> None:
    save(app, "report", after=["b", "a"], on_parent_failure="run", queue="slow", overlap="queue", keep=50)

    assert json.loads(redis.hget(app.keys.job("report"), "trigger") or "") == {
        "after": ["b", "a"], "on_parent_failure": "run", "queue": "slow", "overlap": "queue", "keep": 50
    }  # fmt: skip
    assert redis.hget(app.keys.job("load"), "trigger") is None


def test_a_triggered_job_has_a_mark_and_no_place_on_the_agenda(app: Cronq, redis: Redis) -> None:
    save(app, "report", every="1h")
    assert redis.zscore(app.keys.agenda, "report") is not None
    before = int(app.now_s())

    save(app, "report", after="load")

    job = app.jobs.get("report")
    assert job.state.mark is not None
    assert job.state.mark >= before
    assert job.next_tick is None
    assert redis.zscore(app.keys.agenda, "report") is None


def test_a_damaged_note_of_children_stops_the_save_before_it_has_written(app: Cronq, redis: Redis) -> None:
    redis.set(app.keys.children("b"), "junk")

    with pytest.raises(CronqError, match="the key cronq:job:b:children has a wrong type"):
        save(app, "report", after=["a", "b"])

    assert list(redis.scan_iter("cronq:job:report*")) == []
    assert not redis.exists(app.keys.children("a"))


def audit(app: Cronq) -> None:
    (chore,) = [each for each in app.beat().chores if each.name == "audit"]
    chore.work(app.now_s())


def test_an_audit_tells_a_parent_of_the_children_that_it_has_lost(app: Cronq, redis: Redis) -> None:
    save(app, "report", after=["load", "more"])
    redis.delete(app.keys.children("load"), app.keys.children("more"))
    app.remove("more", force=True)

    audit(app)

    assert children(app, redis, "load") == children(app, redis, "more") == {"report": ["after"]}


def test_an_audit_moves_a_damaged_note_of_children_aside_and_writes_it_anew(app: Cronq, redis: Redis) -> None:
    save(app, "report", after="load")
    redis.delete(app.keys.children("load"))
    redis.set(app.keys.children("load"), "junk")

    audit(app)
    audit(app)

    assert children(app, redis, "load") == {"report": ["after"]}
    assert len(list(redis.scan_iter("cronq:broken:*children*"))) == 1


def test_an_audit_moves_such_a_note_aside_for_a_parent_that_is_not_stored_too(app: Cronq, redis: Redis) -> None:
    save(app, "report", after="load")
    app.remove("load", force=True)
    redis.delete(app.keys.children("load"))
    redis.set(app.keys.children("load"), "junk")

    audit(app)

    assert save(app, "report", after="load") == "same"
    assert children(app, redis, "load") == {"report": ["after"]}
