"""One value that somebody planted in Redis: it harms its own job, process or entry, and nothing beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.app.views import run_row
from cronq.jobs.spec import JobSpec
from cronq.jobs.stored import StoredJob
from cronq.runs.claim import Claimer

Store = Callable[..., JobSpec]
DEEP = '{"a":' * 100_000
PAUSES = [
    DEEP, "[" * 200_000, "null", "[]", '{"since":NaN}', '{"since":1e300}', '{"since":Infinity,"until":1e300}',
    '{"since":"x"}', '{"since":0,"until":253402300799}', '{"since":1795678213000}', b'{"since":0,"note":"\xff"}',
    '{"since":0,"until":[]}',
    '{"since":' + "9" * 5000 + "}",
]  # fmt: skip


def ticks_of(app: Cronq, name: str) -> list[str | None]:
    return [run.outcome for run in app.history(name)]


@pytest.mark.parametrize("pause", PAUSES, ids=lambda pause: str(pause[:40]))
def test_a_planted_pause_stops_no_other_job_and_can_be_listed(
    app: Cronq, redis: Redis, store: Store, pause: Any
) -> None:
    for name in ("before", "hostile", "after"):
        store(name, mark=int(app.now_s()) - 120)
    redis.hset("cronq:job:hostile:state", "pause", pause)

    app.beat().pass_once()

    assert ticks_of(app, "before")[0] is ticks_of(app, "after")[0] is None
    assert set(ticks_of(app, "hostile")) == {"paused"}
    jobs = [job for job in app.jobs.find(app.jobs.names()).values() if isinstance(job, StoredJob)]
    assert [job.status({}, app.now_s()) for job in jobs if job.spec.name == "hostile"] == ["paused"]
    assert all(job.state.pause is None or job.state.pause.reason for job in jobs)


@pytest.mark.parametrize("spec", [DEEP, "[" * 200_000, "{", "null", b"\xff"], ids=lambda spec: str(spec[:20]))
def test_a_planted_spec_stops_no_other_job(app: Cronq, redis: Redis, store: Store, spec: Any) -> None:
    for name in ("before", "hostile", "after"):
        store(name, mark=int(app.now_s()) - 120)
    redis.hset("cronq:job:hostile", mapping={"spec": spec, "version": "zz"})
    beat = app.beat()

    beat.pass_once()

    assert ticks_of(app, "before")[0] is ticks_of(app, "after")[0] is None
    agenda = redis.zscore("cronq:agenda", "hostile")
    assert agenda is not None
    assert agenda > app.now_s() + 2  # looked at again later, not at once


@pytest.mark.parametrize("when", ["decided", "mended", "sent"])
def test_a_mistake_of_ours_about_one_job_stops_no_other(
    app: Cronq, redis: Redis, store: Store, when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("before", "hostile", "after"):
        store(name, mark=int(app.now_s()) - 120)
    beat = app.beat()
    if when == "decided":
        from cronq.beat import deciding as module

        decide = module.decide
        monkeypatch.setattr(
            module, "decide", lambda spec, *rest: [][0] if spec.name == "hostile" else decide(spec, *rest)
        )
    elif when == "mended":
        redis.hset("cronq:job:hostile", mapping={"spec": "{", "version": "zz"})
        monkeypatch.setattr(beat.repair, "repair", lambda *_: [][0])
    else:
        written = Claimer.written

        def write(claimer: Claimer, claims: Any, *rest: Any, **options: Any) -> Any:
            is_hostile = any(each.spec.name == "hostile" for each in claims)
            return [][0] if is_hostile else written(claimer, claims, *rest, **options)

        monkeypatch.setattr(Claimer, "written", write)

    for _ in range(3):
        beat.pass_once()
        redis.zadd("cronq:agenda", {"hostile": 1})

    assert ticks_of(app, "before")[0] is ticks_of(app, "after")[0] is None
    said = [record.getMessage() for record in caplog.records if "BROKEN job=hostile" in record.getMessage()]
    assert len(said) == 1
    assert "IndexError" in said[0]


def test_a_chore_that_fails_takes_no_other_along_and_is_said_once(
    app: Cronq, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beat = app.beat()
    beat.pass_once()
    done = []
    for chore in beat.chores:
        chore.work = lambda _, name=chore.name: done.append(name)  # type: ignore[misc]
    beat.chores[0].work = lambda _: [][0]

    for _ in range(2):
        for chore in beat.chores:
            chore.due_boot = 0
        beat.do_chores()

    assert done == 2 * [chore.name for chore in beat.chores[1:]]
    said = [record.getMessage() for record in caplog.records if "BROKEN" in record.getMessage()]
    assert said == ["BROKEN chore 'held back' cannot be done: IndexError: list index out of range; going on"]


@pytest.mark.parametrize("fields", [{"meta": DEEP}, {"dependency_ids": "[" * 100_000}, {"meta": '{"repeat":NaN}'}])
def test_a_planted_entry_of_rq_scheduler_is_put_aside_and_the_others_are_served(
    app: Cronq, redis: Redis, store: Store, fields: dict[str, str]
) -> None:
    store("later", mark=int(app.now_s()), cron="0 0 1 1 *")
    run_id = app.enqueue_in("1s", "later")
    known = {"created_at": "2026-11-21T07:00:00.000000Z", "origin": "default", "status": "scheduled", "data": b"x"}
    redis.hset("rq:job:p", mapping={**known, **fields})
    redis.zadd("rq:scheduler:scheduled_jobs", {"p": 1})
    beat = app.beat()
    assert beat.serving is not None

    beat.serving.work(app.now_s() + 2)

    assert app.runs.get(run_id).state == "queued"
    assert [view.id for view in app.held_back() if view.kind == "aside"] == ["p"]


HEARTBEATS: list[Any] = [
    DEEP, "[]", "1", "null", b"\xff", {"seen_at": float("nan")}, {"seen_at": 1e300}, {"started_at": float("inf")},
    {"pid": 10**30}, {"pid": -1}, {"clock_offset_s": "x"}, {"clock_offset_s": [1]}, {"last_pass": {}}, {"won": "y"},
    {"queues": 7}, {"queues": [[1]]}, {"held": {"a": 1}}, {"host": ["\x1b[2J"]},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["beats", "workers"])
@pytest.mark.parametrize("planted", HEARTBEATS, ids=lambda planted: str(planted)[:40])
def test_a_planted_heartbeat_hides_no_other_and_ends_no_reader(
    app: Cronq, redis: Redis, kind: str, planted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from cronq.cli.verbs import cli
    from cronq.monitor.checks import check_beat, check_clock

    now_s = app.now_s()
    sound = {
        "host": "box",
        "pid": 1,
        "started_at": now_s,
        "seen_at": now_s,
        "clock_offset_s": 0.0,
        "queues": ["default"],
    }
    redis.hset(f"cronq:{kind}", "sound", json.dumps(sound))
    raw = planted if isinstance(planted, bytes | str) else json.dumps({**sound, **planted})
    redis.hset(f"cronq:{kind}", "hostile", raw)
    app.add("job", command=["true"])

    for words in ([kind], [kind, "--json"], ["run", "job"], ["list"]):
        assert not cli.main([*words, "--url", app.config.url], standalone_mode=False, obj={})
    heartbeats, at = app.heartbeats.read(kind)
    check_beat(heartbeats, at)
    check_clock(redis, heartbeats, at)

    assert "sound" in [heartbeat.id for heartbeat in heartbeats]
    capsys.readouterr()


@pytest.mark.parametrize(
    "planted", [DEEP, '{"by":"ann","at":1e300,"note":""}', '{"by":"ann","at":NaN,"note":""}', b"\xff"]
)
def test_a_planted_hold_still_holds_and_can_be_listed(app: Cronq, redis: Redis, planted: Any) -> None:
    redis.hset("cronq:holds", "queue:default", planted)

    holds = app.holds.read()

    assert [hold.what for hold in holds] == ["queue:default"]
    assert holds[0].at < time.time() + 1


@pytest.mark.parametrize("epoch", [b"\xff\xfe", "x" * 1_000_000, ""])
def test_a_planted_epoch_is_no_obstacle(app: Cronq, redis: Redis, store: Store, epoch: Any) -> None:
    store("job", mark=int(app.now_s()) - 120)
    redis.set("cronq:epoch", epoch)
    beat = app.beat()

    for _ in range(2):
        beat.pass_once()

    assert ticks_of(app, "job")[0] is None


@pytest.mark.parametrize("attempts", [DEEP, '[{"attempt":1,"ended_at":1e300}]', '[{"attempt":NaN}]', b"\xff"])
def test_planted_attempts_hide_no_run(app: Cronq, redis: Redis, store: Store, attempts: Any) -> None:
    store("job", mark=int(app.now_s()))
    run_id = app.enqueue("job")
    redis.hset(f"cronq:run:{run_id}", "attempts", attempts)

    assert [run_row(run)["run_id"] for run in app.history("job")] == [run_id]
