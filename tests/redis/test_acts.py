"""What people do beside the schedule: runs of an idle job, and who is said to have asked for what."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from redis import Redis
from rq import Queue

from cronq.app.app import Cronq
from cronq.errors import CronqError
from cronq.jobs.decorator import job
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec

Store = Callable[..., JobSpec]
#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400


def greet(name: str = "you") -> None:
    """What a job of these tests does."""


def odd(if_active: str = "") -> None:
    """The same, with a parameter that is a word of `enqueue`."""


def events(app: Cronq) -> list[tuple[str, str | None, str | None]]:
    """Type, run and who of all that the stream has, in order."""
    entries = [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in app.client.xrange(app.keys.events)]
    return [(entry["type"], entry.get("run"), entry.get("by")) for entry in entries]


# Only while the job is idle


def test_a_run_of_an_idle_job_is_queued_once(app: Cronq, store: Store) -> None:
    store("a", mark=T)

    first = app.enqueue("a", if_active="skip")
    assert first is not None

    assert app.enqueue("a", if_active="skip") is None
    assert app.enqueue("a", if_active="return") == first
    assert app.enqueue_if_idle("a") == (first, False)
    assert [run.run_id for run in app.history("a")] == [first]
    assert app.client.lrange("rq:queue:default", 0, -1) == [first.encode()]
    assert app.enqueue("a") != first


def test_a_job_is_idle_again_when_its_run_has_ended(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    first = app.enqueue("a")
    app.stop(first)

    second = app.enqueue("a", if_active="return")

    assert second != first
    assert app.enqueue("a", if_active="return") == second


def test_a_tick_and_a_delayed_run_keep_a_job_from_being_idle(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    store("b", mark=T)
    tick = "a-20260105T070100Z"
    app.client.hset(app.keys.run(tick), mapping={"job": "a", "tick": T + 60, "state": "running"})
    app.client.hset(app.keys.active("a"), tick, "running")
    later = app.enqueue_in("5m", "b")

    assert app.enqueue_if_idle("a") == (tick, False)
    assert app.enqueue_if_idle("b") == (later, False)


def test_an_entry_without_an_open_row_keeps_nothing_back(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    app.client.hset(app.keys.active("a"), "a-20260105T070100Z", "running")
    app.client.hset(app.keys.given("a"), "a-m00000001", "queued")

    assert app.enqueue("a", if_active="skip") is not None


def test_a_set_of_a_wrong_type_holds_no_run(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    app.client.set(app.keys.active("a"), "junk")

    assert app.enqueue_if_idle("a").is_new


def test_an_open_run_is_found_among_thousands_of_entries(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    ids = [f"a-m{number:08x}" for number in range(1500)]
    app.client.hset(app.keys.given("a"), mapping=dict.fromkeys(ids, "queued"))
    app.client.hset(app.keys.run(ids[700]), mapping={"job": "a", "state": "queued"})

    assert app.enqueue_if_idle("a") == (ids[700], False)


def test_of_many_that_ask_at_once_one_gets_a_run(app: Cronq, store: Store, redis_url: str) -> None:
    store("a", mark=T)
    start = threading.Barrier(8)
    answers: list[bool] = []

    def ask() -> None:
        with Redis.from_url(redis_url) as client:
            asking = Cronq(config=app.config, registry=app.registry, client=client)
            start.wait()
            answers.append(asking.enqueue_if_idle("a").is_new)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [False] * 7 + [True]
    assert len(app.history("a")) == 1


def test_a_function_and_its_handle_ask_for_an_idle_job(app: Cronq, redis: Redis) -> None:
    registry = Registry(enqueuer=lambda: app)

    asking = job(name="greet", registry=registry)(greet)
    app.changes().save(registry.definitions["greet"].spec, source="here", origin="test")

    first = asking.enqueue("Ann", if_active="skip")
    assert first is not None
    assert asking.enqueue("Ben", if_active="skip") is None
    assert asking.jobs["greet"].enqueue("Ben", if_active="return") == first
    assert asking.enqueue("Ben", if_active="queue") != first
    assert [run.args for run in app.history("greet")] == ['[["Ben"],{}]', '[["Ann"],{}]']
    with pytest.raises(CronqError, match="if_active='wait' is not one of queue, skip, return"):
        asking.enqueue(if_active="wait")  # type: ignore[call-overload]


def test_a_function_with_such_a_parameter_gets_it(app: Cronq) -> None:
    registry = Registry(enqueuer=lambda: app)

    asking = job(name="odd", registry=registry)(odd)
    app.changes().save(registry.definitions["odd"].spec, source="here", origin="test")
    asking.enqueue(if_active="skip")
    asking.enqueue(if_active="queue")

    assert [run.args for run in app.history("odd")] == ['[[],{"if_active":"queue"}]', '[[],{"if_active":"skip"}]']


# Who did it


def test_what_somebody_asks_for_says_who_and_from_where(app: Cronq, store: Store) -> None:
    store("a", mark=T)
    queued, later = app.enqueue("a"), app.enqueue_in("5m", "a")
    app.stop(queued)

    assert app.who.endswith("@box")
    assert events(app)[1:] == [
        ("queued", queued, app.who), ("delayed", later, app.who), ("stopped", queued, app.who),
    ]  # fmt: skip


# Many at once


def test_many_runs_are_queued_in_order_each_as_one_alone_would_be(app: Cronq, store: Store, redis: Redis) -> None:
    spec = store("a", mark=T, kwargs={"own": 1}, queue="mail")

    alone = [app.enqueue("a", ("x",), {"n": 2}), app.enqueue("a")]
    many = app.enqueue_many("a", [(["x"], {"n": 2}), {}])

    assert redis.lrange("rq:queue:mail", 0, -1) == [run_id.encode() for run_id in alone + many]
    for one, other in zip(alone, many, strict=True):
        rows = [redis.hgetall(app.keys.run(run_id)) for run_id in (one, other)]
        hashes = [redis.hgetall(f"rq:job:{run_id}") for run_id in (one, other)]
        for facts in rows + hashes:
            for moving in (b"token", b"queued_at", b"created_at", b"enqueued_at", b"description"):
                assert facts.pop(moving, b"-")
        assert rows[0] == rows[1]
        assert hashes[0] == hashes[1]
    assert {run_id: "queued" for run_id in alone + many} == app.active_runs(["a"])["a"]
    assert {run.run_id for run in app.history("a")} == {*alone, *many}
    assert events(app)[-2:] == [("queued", run_id, app.who) for run_id in many]
    assert spec.kwargs == {"own": 1}


def test_more_than_a_step_takes_are_queued_in_several(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T)

    ids = app.enqueue_many("a", ({"n": number} for number in range(1201)))

    assert redis.lrange("rq:queue:default", 0, -1) == [run_id.encode() for run_id in ids]
    assert app.read_run(ids[1200]).args == '[[],{"n":1200}]'
    assert app.enqueue_many("a", []) == []


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"n": object()}, "call 3"),
        ({"n": float("nan")}, "call 3"),
        ("text", "call 3: 'text' is neither a mapping of keyword arguments nor"),
        (([1], {}, 2), "call 3"),
        ({"n": "x" * 1_000_001}, "CRONQ_MAX_ARGS"),
    ],
)
def test_a_call_that_cannot_be_queued_keeps_all_back(
    app: Cronq, store: Store, redis: Redis, bad: object, problem: str
) -> None:
    store("a", mark=T)

    with pytest.raises(CronqError, match=problem):
        app.enqueue_many("a", [{"n": 1}, {"n": 2}, bad])  # type: ignore[list-item]

    assert app.history("a") == []
    assert redis.llen("rq:queue:default") == 0


def test_many_runs_of_a_function_are_checked_against_it(app: Cronq) -> None:
    registry = app.registry
    registry.enqueuer = lambda: app
    asking = job(name="greet", registry=registry)(greet)
    app.changes().save(registry.definitions["greet"].spec, source="here", origin="test")

    with pytest.raises(CronqError, match="call 2: got an unexpected keyword argument 'nmae'"):
        asking.enqueue_many([{"name": "Ann"}, {"nmae": "Ben"}])
    assert app.history("greet") == []

    ids = asking.enqueue_many([{"name": "Ann"}, (["Ben"], {})])
    assert [run.args for run in app.runs.rows(ids)] == ['[[],{"name":"Ann"}]', '[["Ben"],{}]']


def test_an_id_that_is_taken_is_another_and_a_call_that_is_sent_again_queues_nothing(
    app: Cronq, store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("a", mark=T)
    first = app.enqueue("a")
    fresh = iter([first, "a-m00000002", "a-m00000003"])
    monkeypatch.setattr("cronq.runs.bulk_give.manual_run_id", lambda name: next(fresh))
    monkeypatch.setattr("cronq.runs.bulk_give.secrets.token_hex", lambda size: "same")

    assert app.enqueue_many("a", [{}, {}]) == ["a-m00000003", "a-m00000002"]

    fresh = iter(["a-m00000003", "a-m00000002"])
    assert app.enqueue_many("a", [{}, {}]) == ["a-m00000003", "a-m00000002"]
    assert redis.llen("rq:queue:default") == 3


# All that stands in a queue


def test_a_queue_is_emptied_of_runs_and_keeps_what_is_not_cronqs(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T, queue="mail")
    store("b", mark=T, queue="mail")
    store("c", mark=T)
    foreign = Queue("mail", connection=redis).enqueue(print).id
    ids = [*app.enqueue_many("a", [{}] * 120), app.enqueue("b")]
    delayed, elsewhere = app.enqueue_in("5m", "b"), app.enqueue("c")

    assert app.stop_queue("mail", note="no mail today") == ids

    assert redis.lrange("rq:queue:mail", 0, -1) == [foreign.encode()]
    assert not redis.exists(*(f"rq:job:{run_id}" for run_id in ids))
    rows = app.runs.rows(ids)
    assert {run.outcome for run in rows} == {"stopped"}
    assert {run.reason for run in rows} == {f"{app.who} stopped what was in the queue mail: no mail today"}
    assert {run.decided_by for run in rows} == {app.who}
    assert app.active_runs(["a", "b"]) == {"a": {}, "b": {delayed: "waiting"}}
    assert app.read_run(elsewhere).state == "queued"
    assert ("stopped", ids[0], app.who) in events(app)
    assert app.stop_queue("mail") == []


def test_only_what_has_stood_in_the_queue_for_so_long_is_stopped(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T)
    old, young = app.enqueue("a"), app.enqueue("a")
    redis.hset(app.keys.run(old), "queued_at", app.now_s() - 3601)

    assert app.stop_queue("default", older_s=3600) == [old]
    assert redis.lrange("rq:queue:default", 0, -1) == [young.encode()]


def test_a_run_that_has_begun_goes_on_and_its_id_stays(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T)
    run_id = app.enqueue("a")
    redis.hset(app.keys.run(run_id), "state", "running")

    assert app.stop_queue("default") == []
    assert app.read_run(run_id).state == "running"


def test_a_run_that_rq_jobs_wait_for_is_stopped_and_lets_them_go(app: Cronq, store: Store, redis: Redis) -> None:
    store("a", mark=T)
    run_id = app.enqueue("a")
    redis.sadd(f"rq:job:{run_id}:dependents", "other")

    assert app.stop_queue("default") == [run_id]
    assert app.read_run(run_id).outcome == "stopped"


def test_ids_behind_thousands_that_stay_are_stopped_and_left_in_the_list(
    app: Cronq, store: Store, redis: Redis
) -> None:
    store("a", mark=T)
    redis.rpush("rq:queue:default", *(f"foreign-{number}" for number in range(1500)))
    run_id = app.enqueue("a")

    assert app.stop_queue("default") == [run_id]
    assert redis.llen("rq:queue:default") == 1501
    assert app.stop_queue("default") == []


# Further words of a command


def test_one_run_of_a_command_has_words_of_its_own(app: Cronq) -> None:
    app.add("report", command=["make", "report"])

    now, later = app.enqueue("report", ("--full", "a b")), app.enqueue_in("5m", "report", ("--later",))
    many = app.enqueue_many("report", [(["one"], {}), {}])

    assert [app.read_run(run_id).args for run_id in (now, later, *many)] == [
        '[["--full","a b"],{}]', '[["--later"],{}]', '[["one"],{}]', None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((7,), {}, "7: a command takes words, texts without NUL bytes"),
        (("a\0",), {}, r"'a\x00': a command takes words, texts without NUL bytes"),
        (("\ud800",), {}, "not text that a process could be given"),
        ((), {"n": 1}, "a command takes further words, and no n; give them as args"),
    ],
)
def test_what_is_no_word_of_a_command_is_refused(
    app: Cronq, args: tuple[object, ...], kwargs: dict[str, object], words: str
) -> None:
    app.add("report", command=["make", "report"])

    for ask in (
        lambda: app.enqueue("report", args, kwargs),
        lambda: app.enqueue_many("report", [(args, kwargs)]),
    ):
        with pytest.raises(CronqError) as refused:
            ask()
        assert "report" in str(refused.value)
        assert words in str(refused.value)
    assert app.client.llen("rq:queue:default") == 0


def test_a_shell_text_must_say_where_further_words_belong(app: Cronq) -> None:
    app.add("report", command="make report | awk '{print $1}'", shell=True)
    with pytest.raises(CronqError, match='no place for further words; write "\\$@" where they belong'):
        app.enqueue("report", ("--full",))

    app.add("report", command='make "$@" | mail -s report ann', shell=True)
    assert app.read_run(app.enqueue("report", ("--full",))).args == '[["--full"],{}]'
