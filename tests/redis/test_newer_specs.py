"""Jobs that a newer cronq stored: an older beat, worker and `sync` leave them alone, and all others go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.clock import boot_s
from cronq.definitions.crontab import parse_crontab
from cronq.definitions.crontab_import import Source
from cronq.errors import SpecTooNew
from cronq.jobs.registry import Definition
from cronq.jobs.spec import SINCE, SPEC_LAYOUT, JobSpec, make_spec
from cronq.jobs.stored import StoredJob
from cronq.runs.exchange import Taken
from cronq.runs.history import Wanted, newest_rows
from tests.redis.conftest import dequeue_of, id_of, work

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
Store = Callable[..., JobSpec]
#: How a process finds out: by the number beside the spec, or only by what stands in the spec.
TOLD = ["by its layout", "by an unknown field", "by an unknown word"]


def make_newer(app: Cronq, name: str, told: str = TOLD[0]) -> None:
    """Let the stored job *name* be one that a newer cronq has stored."""
    key = app.keys.job(name)
    spec = json.loads(app.client.hget(key, "spec") or "")
    new: dict[str, Any] = {"overlap": "newest"} if told == TOLD[2] else {"portal": 3}
    app.client.hset(key, mapping={"spec": json.dumps(spec | new), "version": "newer"})
    if told == TOLD[0]:
        app.client.hset(key, "layout", SPEC_LAYOUT + 1)


def define(app: Cronq, spec: JobSpec) -> None:
    app.registry.add(Definition(spec, "jobs.py:3", "jobs", work))


def everything_of(app: Cronq, name: str) -> dict[str, Any]:
    """All that is stored of a job, and its place on the agenda."""
    keys = [app.keys.job(name), app.keys.state(name), app.keys.template(name), app.keys.active(name)]
    found: dict[str, Any] = {key: app.client.hgetall(key) for key in keys}
    return found | {
        "agenda": app.client.zscore(app.keys.agenda, name),
        "runs": newest_rows(app.runs, [name], Wanted(1000)),
    }


def queued(redis: Redis) -> list[str]:
    return [run_id.decode() for run_id in redis.lrange("rq:queue:default", 0, -1)]


# Beats


@pytest.mark.parametrize("told", TOLD)
def test_a_beat_writes_nothing_of_a_newer_job_and_serves_the_others(
    app: Cronq, store: Store, redis: Redis, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    define(app, store("newer", mark=T))
    store("plain", mark=T, overlap="allow")
    make_newer(app, "newer", told)
    before = everything_of(app, "newer")
    beat = app.beat()

    for minute in range(1, 4):
        beat.pass_once(now_s=T + minute * MINUTE + 0.1)
        for chore in beat.chores:
            chore.work(T + minute * MINUTE + 0.2)

    assert everything_of(app, "newer") == before
    assert len(app.history("plain")) == 3
    assert [line for line in caplog.messages if "BROKEN" in line or "MEND" in line] == []
    assert len([line for line in caplog.messages if "LEFT to newer beats" in line]) == 1


def test_a_beat_takes_a_job_up_again_that_is_one_of_its_own_again(app: Cronq, store: Store, redis: Redis) -> None:
    store("back", mark=T)
    make_newer(app, "back")
    beat = app.beat()
    beat.pass_once(now_s=T + MINUTE + 0.1)

    app.remove("back")
    store("back", mark=T)
    beat.pass_once(now_s=T + MINUTE + 0.2)

    assert queued(redis) == ["back-20260105T070100Z"]


@pytest.mark.parametrize(
    "damage", ["no template", "mark of a wrong type", "not on the agenda", "a key of a wrong type"]
)
@pytest.mark.parametrize("told", TOLD)
def test_an_audit_and_a_mender_leave_a_newer_job_as_it_is(
    app: Cronq, store: Store, redis: Redis, told: str, damage: str
) -> None:
    define(app, store("newer", mark=T))
    make_newer(app, "newer", told)
    if damage == "no template":
        redis.delete(app.keys.template("newer"))
    elif damage == "mark of a wrong type":
        redis.hset(app.keys.state("newer"), "mark", "soon")
    elif damage == "a key of a wrong type":
        redis.set(app.keys.runs("newer"), "another layout")
    else:
        redis.zrem(app.keys.agenda, "newer")
    before = {key: redis.dump(key) for key in redis.scan_iter("cronq:job:*")}
    beat = app.beat()

    for at in (T + MINUTE, T + 2 * MINUTE):
        beat.pass_once(now_s=at + 0.1)
        for chore in beat.chores:
            chore.work(at + 0.2)
    assert beat.repair.repair("newer", "whatever", T) is True

    assert {key: redis.dump(key) for key in redis.scan_iter("cronq:job:*")} == before


@pytest.mark.parametrize("told", TOLD)
def test_thousands_of_due_newer_jobs_crowd_nobody_out(app: Cronq, store: Store, redis: Redis, told: str) -> None:
    store("plain", mark=T)
    store("newer", mark=T)
    make_newer(app, "newer", told)
    definition, spec = redis.hgetall(app.keys.job("newer")), redis.hget(app.keys.job("newer"), "spec") or b""
    with redis.pipeline() as pipe:
        for number in range(12_000):
            name = f"newer-{number}"
            text = spec.replace(b'"newer"', f'"{name}"'.encode())
            pipe.hset(app.keys.job(name), mapping=definition | {b"spec": text})
            pipe.hset(app.keys.state(name), "mark", T - 2 * MINUTE)
            pipe.zadd(app.keys.agenda, {name: T - MINUTE})
        pipe.execute()
    beat = app.beat()

    passes = 0
    while not queued(redis) and passes < 10:
        result = beat.pass_once(now_s=T + MINUTE + 0.1)
        passes += 1
        assert queued(redis) or result.wait_s == 0, "it must go on at once"

    assert queued(redis) == ["plain-20260105T070100Z"]
    for _ in range(10):
        if beat.pass_once(now_s=T + MINUTE + 0.2).wait_s > 0:
            return
    pytest.fail("an idle beat goes round and round")


# Those who store


@pytest.mark.parametrize("told", TOLD)
def test_whoever_would_store_over_a_newer_job_is_refused(
    app: Cronq, store: Store, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = store("newer", mark=T)
    define(app, spec)
    define(app, make_spec("other", function=spec.function, every="1h"))
    make_newer(app, "newer", told)
    before = everything_of(app, "newer")

    report = app.sync(load=False)
    app.beat().pass_once()  # begins by restoring what its code defines

    assert report.created == ["other"]
    [problem] = report.problems
    assert isinstance(problem, SpecTooNew)
    assert str(problem).startswith("job 'newer': a newer cronq stored it (")
    assert "upgrade this one" in str(problem)
    assert "\n" not in str(problem)
    for change in (
        lambda: app.changes().save(spec, source="x", origin="y"),
        lambda: app.changes().restore(spec, source="x", origin="y"),
        lambda: app.add("newer", command=["true"], every="1h"),
        lambda: app.pause("newer"),
        lambda: app.resume("newer"),
        lambda: app.enqueue("newer"),
    ):
        with pytest.raises(SpecTooNew, match="a newer cronq stored it"):
            change()
    assert everything_of(app, "newer") == before
    assert [line for line in caplog.messages if "BROKEN" in line or "MEND" in line] == []


def test_a_job_that_became_newer_since_it_was_looked_at_is_not_stored_over(app: Cronq, store: Store) -> None:
    spec = store("newer", mark=T)
    make_newer(app, "newer")

    with pytest.raises(SpecTooNew, match="'newer': a newer cronq stored it"):
        app.jobs.save(spec, source="x", origin="y", expected="newer", mark=T, next_tick=T + MINUTE)

    assert app.client.hget(app.keys.job("newer"), "version") == b"newer"


def test_a_crontab_of_which_a_newer_cronq_stored_a_job_is_refused_whole(app: Cronq) -> None:
    crontabs, source = app.crontabs, Source("/etc/x", "box", "ann")

    def bring(text: str) -> None:
        crontab = parse_crontab(text.encode(), system=False, is_user=lambda name: True)
        crontabs.bring(crontab, source, tz="UTC", options={}, prune=True, dry=False, by="ann")

    bring("0 1 * * * backup\n0 2 * * * tidy\n")
    names = app.jobs.names()
    make_newer(app, names[0])

    with pytest.raises(SpecTooNew, match="a newer cronq stored it"):
        bring("0 1 * * * backup\n0 3 * * * tidy\n0 4 * * * more\n")

    assert app.jobs.names() == names


def test_a_newer_job_can_be_removed_and_then_stored_again(app: Cronq, store: Store) -> None:
    store("newer", mark=T)
    make_newer(app, "newer")

    app.remove("newer")

    assert app.add("newer", command=["true"], every="1h") == "created"
    assert app.jobs.get("newer").spec.every == 3600


def test_what_is_stored_says_which_layout_it_needs(app: Cronq, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SINCE, "owner", SPEC_LAYOUT + 1)
    store("plain", mark=T)
    store("owned", mark=T, owner="ann")

    found = app.jobs.find(["plain", "owned"])

    assert isinstance(found["plain"], StoredJob)
    assert isinstance(found["owned"], SpecTooNew)


def test_a_row_of_before_without_a_layout_is_one_of_ours(app: Cronq, store: Store, redis: Redis) -> None:
    store("before", mark=T)
    redis.hdel(app.keys.job("before"), "layout")

    app.beat().pass_once(now_s=T + MINUTE + 0.1)

    assert queued(redis) == ["before-20260105T070100Z"]


# Workers


def test_a_worker_takes_what_is_its_own_and_leaves_runs_of_newer_jobs_in_their_queue(
    app: Cronq, store: Store, redis: Redis
) -> None:
    for name in ("newer", "plain"):
        store(name, mark=T)
    newer = [app.enqueue("newer") for _ in range(5)]
    plain = [app.enqueue("plain") for _ in range(2)]
    make_newer(app, "newer")
    redis.rpush("rq:queue:default", "a stranger's")
    taking = dequeue_of(app)

    taken = [taking.take(["default"], 0) for _ in range(4)]

    assert list(map(id_of, taken)) == [*(each.encode() for each in plain), b"a stranger's", None]
    assert sorted(queued(redis)) == sorted(newer)
    assert [row.state for row in app.runs.rows(newer)] == ["queued"] * 5
    assert [row.state for row in app.runs.rows(plain)] == ["running"] * 2
    assert redis.lrange("rq:queue:default:intermediate", 0, -1) == [b"a stranger's"]


def test_a_long_queue_of_newer_runs_is_walked_through_and_each_look_is_short(
    app: Cronq, store: Store, redis: Redis
) -> None:
    for name in ("newer", "plain"):
        store(name, mark=T)
    newer = [app.enqueue("newer") for _ in range(250)]
    plain = app.enqueue("plain")
    make_newer(app, "newer")
    taking = dequeue_of(app)

    looks = []
    for _ in range(3):
        before = int(redis.info("commandstats").get("cmdstat_lmove", {"calls": 0})["calls"])
        looks.append(taking.take(["default"], 0))
        assert int(redis.info("commandstats")["cmdstat_lmove"]["calls"]) - before <= 101

    assert list(map(id_of, looks)) == [None, None, plain.encode()]
    assert sorted(queued(redis)) == sorted(newer)


def test_an_id_that_is_given_to_newer_workers_is_left_alone_for_a_while(
    app: Cronq, store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("newer", mark=T)
    run_id = app.enqueue("newer")
    make_newer(app, "newer", TOLD[1])  # which only reading the spec tells
    taking = dequeue_of(app)
    assert taking.take(["default"], 0) == Taken("default", run_id.encode())

    taking.leave_to_newer("default", run_id.encode(), "newer")

    assert queued(redis) == [run_id]
    assert taking.take(["default"], 0) is None
    monkeypatch.setattr("cronq.worker.desk.boot_s", lambda: boot_s() + 6)
    assert taking.take(["default"], 0) == Taken("default", run_id.encode())
