"""A beat, lost replies, a Redis that refuses, damaged jobs: each tick once, and no job silences another."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from cronq.app.app import Cronq
from cronq.beat.beat import Beat, PassResult
from cronq.beat.chores import Chore
from cronq.config import Config
from cronq.jobs.registry import Definition, Registry
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import decide
from cronq.runs.run import Ending, Settlement
from tests.conftest import RedisServer
from tests.faults.proxy import FaultProxy
from tests.redis.conftest import work

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE = 60
Store = Callable[..., JobSpec]
#: What only a request of the claim script contains.
CLAIM = b'"items"'


class Journal(logging.Handler):
    """What cronq logs, as `LEVEL text`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")

    def of(self, word: str) -> list[str]:
        return [line for line in self.lines if word in line]


@pytest.fixture
def journal() -> Iterator[Journal]:
    handler = Journal()
    logger = logging.getLogger("cronq")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def until(fact: Callable[[], Any], what: str, within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)


def app_on(client: Redis, registry: Registry | None = None) -> Cronq:
    return Cronq(config=Config(host_id="box"), registry=registry or Registry(), client=client)


def define(app: Cronq, name: str, **options: Any) -> None:
    """A job that this process's code defines."""
    spec = make_spec(name, function=f"{work.__module__}:work", **options)
    app.registry.add(Definition(spec, "jobs.py:3", "jobs", work))


@contextmanager
def running(beat: Beat) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=beat.run, args=(stop,))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()


def queued(redis: Redis) -> list[str]:
    return [run_id.decode() for run_id in redis.lrange("rq:queue:default", 0, -1)]


# Replies that are lost


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(redis_url) as between:
        yield between


def test_a_claim_whose_reply_is_lost_is_sent_again_and_known_as_won_a_hundred_times(
    store: Store, redis: Redis, proxy: FaultProxy, journal: Journal
) -> None:
    store("invoices", mark=T, overlap="allow")
    with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 3)) as client:  # as `Cronq.client`, without the waiting
        beat = app_on(client).beat()
        beat.pass_once(now_s=T + MINUTE + 0.1)  # teaches the server the scripts
        for number in range(2, 102):
            dropped = proxy.drop_reply(CLAIM)
            result = beat.pass_once(now_s=T + MINUTE * number + 0.1)

            assert dropped.is_set()
            assert result.codes == {"mine": 1}
            assert len(queued(redis)) == number

    assert len(set(queued(redis))) == 101
    assert beat.status.won == 101
    assert len(journal.of("WON job=invoices")) == 100


def test_a_claim_whose_reply_is_lost_with_the_connection_is_found_out_later_a_hundred_times(
    store: Store, redis: Redis, proxy: FaultProxy, journal: Journal
) -> None:
    store("invoices", mark=T, overlap="allow")
    with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as client:  # never sends a command again
        beat = app_on(client).beat()
        beat.pass_once(now_s=T + MINUTE + 0.1)
        for number in range(2, 102):
            proxy.drop_reply(CLAIM)
            with pytest.raises(RedisConnectionError):
                beat.pass_once(now_s=T + MINUTE * number + 0.1)
            result = beat.pass_once(now_s=T + MINUTE * number + 0.2)

            assert result.codes == {"mine": 1}
            assert len(queued(redis)) == number

    assert len(set(queued(redis))) == 101
    assert beat.status.won == 101
    assert len(journal.of("WON job=invoices")) == 100


def test_all_batches_of_a_pass_that_were_under_way_when_the_connection_broke_are_found_out_later(
    store: Store, redis: Redis, proxy: FaultProxy
) -> None:
    for number in range(20):
        store(f"job-{number:02}", mark=T)
    with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as client:
        beat = app_on(client).beat()
        beat.claiming.batch = 5
        beat.jobs.read_due(1)
        beat.claiming.claimer.claim_due([], "", T)
        proxy.drop_reply(CLAIM)
        with pytest.raises(RedisConnectionError):
            beat.pass_once(now_s=T + MINUTE + 0.1)

        codes = beat.pass_once(now_s=T + MINUTE + 0.2).codes

    assert len(queued(redis)) == len(set(queued(redis))) == 20
    assert codes["mine"] >= 5
    assert codes["mine"] + codes.get("won", 0) == beat.status.won == 20


def test_a_batch_that_never_arrives_lets_no_later_tick_of_its_job_overtake_it(
    store: Store, redis: Redis, redis_url: str
) -> None:
    store("invoices", mark=T, overlap="allow", catchup="all")
    with FaultProxy(redis_url) as proxy, Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0)) as client:
        beat = app_on(client).beat()
        beat.claiming.batch = 1
        beat.pass_once(now_s=T + 0.1)
        first = proxy.hold(CLAIM)
        first.discard()
        with pytest.raises(RedisConnectionError):
            beat.pass_once(now_s=T + 3 * MINUTE)

        beat.pass_once(now_s=T + 3 * MINUTE)

    rows = app_on(redis).history("invoices")
    assert sorted(row.tick or 0 for row in rows) == [T + MINUTE, T + 2 * MINUTE, T + 3 * MINUTE]
    assert len(queued(redis)) == len(set(queued(redis))) == 3


def test_an_outage_is_told_in_one_line_each_way_however_it_shows(
    store: Store, redis: Redis, proxy: FaultProxy, journal: Journal
) -> None:
    store("invoices", mark=redis.time()[0], cron=None, every="1s", overlap="allow", catchup="all")
    with Redis.from_url(proxy.url, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)) as client:
        beat = app_on(client).beat()
        with running(beat) as thread:
            until(lambda: queued(redis), "a first run")
            for mode in ("refuse", "blackhole", "refuse", "blackhole"):
                with proxy.outage(mode):
                    time.sleep(0.5)
                    assert thread.is_alive()
                proxy.cut()
                if mode == "refuse":
                    proxy.blackhole()
            proxy.pass_on()
            until(lambda: journal.of("RECOVERED"), "a word of the recovery")
            mark = app_on(redis).jobs.mark_of("invoices")
            until(lambda: (app_on(redis).jobs.mark_of("invoices") or 0) > (mark or 0), "the next tick")

    assert len(journal.of("TROUBLE")) == len(journal.of("RECOVERED")) == 1
    ticks = sorted(row.tick or 0 for row in app_on(redis).history("invoices", 1000))
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert len(queued(redis)) == len(set(queued(redis))) == len(ticks)


# A Redis that answers and refuses to write


def full(server: RedisServer, redis: Redis) -> None:
    redis.config_set("maxmemory", 1)


def not_full(server: RedisServer, redis: Redis) -> None:
    redis.config_set("maxmemory", 0)


def replica(server: RedisServer, redis: Redis) -> None:
    redis.execute_command("REPLICAOF", "127.0.0.1", "1")


def primary(server: RedisServer, redis: Redis) -> None:
    redis.execute_command("REPLICAOF", "NO", "ONE")


def disk_gone(server: RedisServer, redis: Redis) -> None:
    """Redis refuses writes once it could not save a snapshot."""
    (Path(server.directory) / "dump.rdb").mkdir()  # where the snapshot would go
    redis.config_set("save", "3600 1")
    redis.bgsave()
    until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err", "the failure of a snapshot")


def disk_back(server: RedisServer, redis: Redis) -> None:
    (Path(server.directory) / "dump.rdb").rmdir()
    redis.bgsave()
    until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "ok", "a snapshot")


REFUSALS = {
    "OOM": (full, not_full),
    "READONLY": (replica, primary),
    "MISCONF": (disk_gone, disk_back),
}


@pytest.fixture
def own_redis(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.mark.parametrize("word", REFUSALS)
def test_a_redis_that_refuses_to_write_is_nobodys_fault_and_costs_no_tick(
    redis_server: RedisServer, own_redis: Redis, journal: Journal, word: str
) -> None:
    begin, end = REFUSALS[word]
    app = app_on(own_redis)
    app.jobs.open_epoch()
    now = int(app.now_s())
    for name, options in (("often", {"every": "1s"}), ("seldom", {"cron": "0 0 1 1 *"})):
        spec = make_spec(name, command=["true"], overlap="allow", catchup="all", **options)
        app.changes().save(spec, source="here:1", origin="test")
    beat = app.beat()
    for chore in beat.chores:
        chore.every_s = 0.3
    with running(beat) as thread:
        until(lambda: queued(own_redis), "a first run")
        begin(redis_server, own_redis)
        until(lambda: journal.of("TROUBLE"), "a word of the trouble")
        time.sleep(1.2)  # in which several ticks are due, and several heartbeats
        assert thread.is_alive()
        end(redis_server, own_redis)
        until(lambda: journal.of("RECOVERED"), "a word of the recovery")
        since = app.now_s()
        until(lambda: (app.jobs.mark_of("often") or 0) > since, "the next tick")

    assert len(journal.of("TROUBLE")) == len(journal.of("RECOVERED")) == 1
    assert (
        word.lower() in journal.of("TROUBLE")[0].replace(" ", "").lower() or "OutOfMemory" in journal.of("TROUBLE")[0]
    )
    assert journal.of("BROKEN") == []
    ticks = sorted(row.tick or 0 for row in app.history("often", 1000))
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert now < ticks[0] <= now + 20
    assert len(queued(own_redis)) == len(set(queued(own_redis))) == len(ticks)


def test_an_idle_beat_tells_once_that_redis_refuses_to_write(
    redis_server: RedisServer, own_redis: Redis, journal: Journal
) -> None:
    app = app_on(own_redis)
    app.add("seldom", cron="0 0 1 1 *", command=["true"])
    beat = app.beat()
    for chore in beat.chores:
        chore.every_s = 0.3
    with running(beat):
        until(lambda: app.beats()[0], "a first heartbeat")
        full(redis_server, own_redis)
        until(lambda: journal.of("TROUBLE"), "a word of the trouble")
        time.sleep(1.0)
        not_full(redis_server, own_redis)
        until(lambda: journal.of("RECOVERED"), "a word of the recovery")

    assert len(journal.of("TROUBLE")) == len(journal.of("RECOVERED")) == 1


# Its end


class Restless(Beat):
    """Makes as many passes as it can."""

    def pass_once(self, now_s: float | None = None) -> PassResult:
        return PassResult(wait_s=0.0)


def test_a_signal_ends_a_beat_whatever_it_is_doing_at_that_moment(app: Cronq) -> None:
    """A handler may meet the thread that it interrupts inside of the very event that it sets."""

    def hang(*_: object) -> None:
        raise AssertionError("the beat hangs in the signal handler that told it to end")

    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    signal.signal(signal.SIGUSR2, hang)
    main = threading.get_ident()
    try:
        for round_ in range(100):
            stop.clear()
            made = app.beat()
            beat = Restless(
                app.jobs, made.claiming, made.repair, made.status, client=app.client, renew_epoch=lambda: ""
            )
            wake = threading.Timer(0.001 + round_ / 1e5, signal.pthread_kill, (main, signal.SIGUSR1))
            rescue = threading.Timer(10, signal.pthread_kill, (main, signal.SIGUSR2))
            rescue.start()
            wake.start()
            beat.run(stop)
            rescue.cancel()
            for timer in (wake, rescue):
                timer.join()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Slow:
    """A chore that takes half a second each time."""

    def __init__(self) -> None:
        self.done = 0

    def once(self, now_s: float) -> None:
        self.done += 1
        time.sleep(0.5)


def test_a_chore_that_takes_its_time_makes_no_tick_late(app: Cronq, store: Store, redis: Redis) -> None:
    store("each-second", cron="* * * * * *", overlap="allow", catchup="all", mark=int(app.now_s()))
    made, slow = app.beat(), Slow()
    chore = Chore("slow", every_s=0.6, work=slow.once)
    beat = Beat(
        app.jobs, made.claiming, made.repair, made.status, client=app.client, renew_epoch=lambda: "", chores=[chore]
    )
    with running(beat):
        until(lambda: slow.done > 5, "chores")

    rows = [app.runs.get(run_id) for run_id in queued(redis)]
    late_s = sorted((row.queued_at or 0) - (row.tick or 0) for row in rows)
    assert len(late_s) >= 4
    assert late_s[len(late_s) // 2] < 0.25, late_s


# Several beats and one burst


def test_beats_that_know_of_each_other_begin_a_burst_at_different_places(app: Cronq, store: Store) -> None:
    names = [f"job-{number:02}" for number in range(10)]
    for name in names:
        store(name, mark=T)

    def order(begin_at: float) -> list[str]:
        return [due.name for due in app.jobs.read_due(100, T + MINUTE + 0.1, begin_at=begin_at).due]

    assert order(0.0) == names
    assert order(0.5) == names[5:] + names[:5]

    app.client.zadd(app.keys.agenda, {"job-07": T + 30})  # it is overdue, the others are not
    assert order(0.5) == ["job-07", *(name for name in names if name != "job-07")]


def test_a_beat_that_meets_another_reads_anew_what_is_left_and_looks_again_at_once(app: Cronq, store: Store) -> None:
    for number in range(60):
        store(f"job-{number:02}", mark=T)
    first, second = app.beat(), app.beat()
    late = second.jobs.read_due(100, T + MINUTE + 0.1, begin_at=0.5)
    second.claiming.batch = 25
    first.claiming.claim(replace(late, due=sorted(late.due)[:30]))

    claimed = second.claiming.claim(late)

    assert claimed.codes["won"] == 30
    assert claimed.is_cut
    assert second.pass_once(now_s=T + MINUTE + 0.2).codes == {}


def test_no_tick_is_passed_over_when_a_beat_leaves_the_rest_of_a_batch_to_another(app: Cronq, store: Store) -> None:
    """The ticks of one job may lie in two batches: one that is left in the first keeps the later ones from going."""
    for number in range(20):
        store(f"a-{number:02}", mark=T + 2 * MINUTE)
    store("b", mark=T, catchup="skip")
    first, second = app.beat(), app.beat()
    now_s = T + 3 * MINUTE + 0.1
    reading = second.jobs.read_due(100, now_s)
    due = sorted(reading.due)  # `b` last, with three ticks
    first.claiming.claim(replace(reading, due=due[:20]))

    second.claiming.batch = 21
    claimed = second.claiming.claim(replace(reading, due=due))
    assert claimed.is_cut

    second.pass_once(now_s=now_s)
    rows = app.history("b")[::-1]
    assert [(run.tick, run.outcome) for run in rows] == [
        (T + MINUTE, "missed"), (T + 2 * MINUTE, "missed"), (T + 3 * MINUTE, None),
    ]  # fmt: skip


# A beat that stood still


def test_ticks_decided_before_a_long_suspension_and_claimed_after_it_do_not_fire_again(
    app: Cronq, store: Store, redis: Redis
) -> None:
    store("invoices", mark=T, overlap="allow", catchup="all", keep=10, max_catchup=10)
    slow, quick = app.beat(), app.beat()
    reading = slow.jobs.read_due(100, T + 5 * MINUTE + 0.1)  # here the slow one is suspended
    (due,) = reading.due
    spec = app.jobs.get("invoices").spec
    claims = [TickClaim(spec, due.version, each) for each in decide(spec, due.mark or 0, None, reading.now_s)]

    quick.pass_once(now_s=T + 5 * MINUTE + 0.2)
    assert len(queued(redis)) == 5
    for key in redis.scan_iter("cronq:dedup:*"):  # longer than any of them lives
        redis.delete(key)
    answers = slow.claiming.claimer.claim_due(claims, "token of the slow one", reading.now_s)

    assert [answer.code for answer in answers] == ["old"] * 5
    assert len(queued(redis)) == 5


@pytest.mark.parametrize("has_agenda", [True, False])
def test_a_lost_mark_is_not_taken_up_again_before_ticks_whose_rows_and_dedup_keys_are_gone(
    app: Cronq, store: Store, redis: Redis, has_agenda: bool
) -> None:
    spec = store("invoices", mark=T, overlap="allow", catchup="all", keep=10, max_catchup=10)
    beat = app.beat()
    for minute in range(1, 31):
        beat.pass_once(now_s=T + minute * MINUTE + 0.1)
        run_id = queued(redis)[-1]
        assert app.runs.settle(
            app.runs.get(run_id), Ending(Settlement("stopped", "done"), by="w", now_s=T, expect="queued")
        )
    assert len(app.history("invoices", 100)) == 10  # the older ones were trimmed
    longer = replace(spec, keep=1000)  # so that ticks are due again whose rows are not there any more
    app.jobs.save(longer, source="here:1", origin="test", expected=app.jobs.version_of("invoices"))
    for key in redis.scan_iter("cronq:dedup:*"):
        redis.delete(key)
    redis.hdel(app.keys.state("invoices"), "mark")
    if has_agenda:
        redis.zadd(app.keys.agenda, {"invoices": T + MINUTE})  # as it was half an hour ago
    else:
        redis.delete(app.keys.agenda)

    (audit,) = (chore.work for chore in beat.chores if chore.name == "audit")
    for _ in range(3):
        audit(T + 30 * MINUTE + 0.5)
        beat.pass_once(now_s=T + 30 * MINUTE + 0.5)
    assert queued(redis) == []

    beat.pass_once(now_s=T + 31 * MINUTE + 0.1)
    assert [app.runs.get(run_id).tick for run_id in queued(redis)] == [T + 31 * MINUTE]


def test_a_suspended_beat_cannot_claim_for_a_job_that_was_edited_meanwhile(
    app: Cronq, store: Store, redis: Redis
) -> None:
    store("invoices", mark=T)
    reading = app.jobs.read_due(100, T + MINUTE + 0.1)
    spec = app.jobs.get("invoices").spec
    claims = [TickClaim(spec, reading.due[0].version, each) for each in decide(spec, T, None, reading.now_s)]

    app.pause("invoices")
    answers = app.claimer("beat box.1").claim_due(claims, "token", reading.now_s)

    assert [answer.code for answer in answers] == ["stale"]
    assert queued(redis) == []


# One bad job


def test_a_key_in_the_way_of_one_definition_keeps_no_other_from_being_stored_and_run(
    app: Cronq, redis: Redis, journal: Journal
) -> None:
    for name in ("a", "b", "c"):
        define(app, name, every="1s")
    redis.set(app.keys.job("b"), "junk of a stranger")

    report = app.sync(load=False)
    assert report.created == ["a", "c"]
    assert [str(problem) for problem in report.problems] == [
        "job 'b': the key cronq:job:b has a wrong type; a beat moves it aside"
    ]
    with running(app.beat()):
        until(lambda: {run_id[0] for run_id in queued(redis)} == {"a", "b", "c"}, "a run of each job")

    assert len(journal.of("BROKEN job=b")) == 1
    assert len(journal.of("MEND moved cronq:job:b aside")) == 1


JUNK: dict[str, dict[str, Any]] = {
    "a cron expression that never comes": {"cron": "0 0 30 2 *"},
    "a cron expression out of range": {"cron": "61 * * * *"},
    "a number for a cron expression": {"cron": 5},
    "a list for a cron expression": {"cron": ["* * * * *"]},
    "an interval of nothing": {"every": 0},
    "an interval backwards": {"every": -60},
    "an interval without end": {"every": 1e300},
    "a word for an interval": {"every": "often"},
    "a zone of nowhere": {"cron": "* * * * *", "tz": "Mars/Olympus"},
    "a number for a zone": {"cron": "* * * * *", "tz": 7},
    "a path for a zone": {"cron": "* * * * *", "tz": "../../etc/passwd"},
    "a rule of nobody": {"cron": "* * * * *", "dst": "maybe"},
    "a word for a window": {"cron": "* * * * *", "window": "long"},
    "a word for how many rows to keep": {"cron": "* * * * *", "keep": "many"},
    "a list for a queue": {"cron": "* * * * *", "queue": ["default"]},
    "a list for an overlap": {"cron": "* * * * *", "overlap": ["skip"]},
    "a word for the most to catch up": {"cron": "* * * * *", "catchup": "all", "max_catchup": "many"},
}


@pytest.mark.parametrize("what", JUNK)
def test_junk_in_a_stored_schedule_silences_nobody_else(
    app: Cronq, store: Store, redis: Redis, journal: Journal, what: str
) -> None:
    for name in ("before", "junk", "later"):
        store(name, mark=T)
    document = {"name": "junk", "function": "a:b", **JUNK[what]}
    redis.hset(app.keys.job("junk"), mapping={"spec": json.dumps(document), "version": "other"})
    beat = app.beat()

    for minute in (1, 2, 3):
        beat.pass_once(now_s=T + MINUTE * minute + 0.1)
        for chore in beat.chores:
            chore.work(T + MINUTE * minute + 0.2)

    assert {run_id.split("-")[0] for run_id in queued(redis)} >= {"before", "later"}
    for name in ("before", "later"):
        assert [row.tick for row in app.history(name)] == [T + 3 * MINUTE, T + 2 * MINUTE, T + MINUTE]
    told = journal.of("BROKEN job=junk") or journal.of("LEFT to newer beats")  # a rule of nobody may be one to come
    assert 1 <= len(told) == len(set(told))


@pytest.mark.parametrize("mark", ["-99999999999999", "-1", "253402300800", "1e14", "nan", "-inf"])
def test_a_mark_that_no_calendar_holds_silences_nobody(app: Cronq, store: Store, redis: Redis, mark: str) -> None:
    for name in ("before", "odd"):
        store(name, mark=T)
    redis.hset(app.keys.state("odd"), "mark", mark)
    beat = app.beat()

    for minute in (1, 2, 3):
        beat.pass_once(now_s=T + MINUTE * minute + 0.1)
        for chore in beat.chores:
            chore.work(T + MINUTE * minute + 0.2)

    for name in ("before", "odd"):
        assert [row.tick for row in app.history(name)] == [T + 3 * MINUTE, T + 2 * MINUTE, T + MINUTE]
    app.pause("odd")


@pytest.mark.parametrize("score", ["-inf", "-1e308", "+inf"])
def test_a_place_on_the_agenda_that_is_no_time_silences_nobody(
    app: Cronq, store: Store, redis: Redis, score: str
) -> None:
    for name in ("before", "odd"):
        store(name, mark=T)
    redis.execute_command("ZADD", app.keys.agenda, score, "odd")
    beat = app.beat()

    for minute in (1, 2, 3):
        beat.pass_once(now_s=T + MINUTE * minute + 0.1)
        for chore in beat.chores:
            chore.work(T + MINUTE * minute + 0.2)

    assert [row.tick for row in app.history("before")] == [T + 3 * MINUTE, T + 2 * MINUTE, T + MINUTE]
    assert app.history("odd")[0].tick == T + 3 * MINUTE
    assert app.jobs.get("odd").next_tick == T + 4 * MINUTE


@pytest.mark.parametrize("loss", ["deleted", "of a wrong type", "most of it deleted"])
def test_a_lost_agenda_is_whole_again_within_seconds_however_many_jobs_there_are(
    app: Cronq, store: Store, redis: Redis, loss: str
) -> None:
    names = [f"job-{number}" for number in range(1300)]
    for name in names:
        store(name, mark=int(time.time()), cron="0 0 1 1 *")
    store("later", mark=int(time.time()) - 2, cron="* * * * * *", overlap="allow")  # puts itself back
    with running(app.beat()):
        until(lambda: queued(redis), "the first tick")
        if loss == "most of it deleted":
            redis.zremrangebyrank(app.keys.agenda, 0, 1000)
        else:
            redis.delete(app.keys.agenda)
        if loss == "of a wrong type":
            redis.set(app.keys.agenda, "junk")

        until(
            lambda: redis.type(app.keys.agenda) == b"zset" and redis.zcard(app.keys.agenda) == len(names) + 1,
            "all jobs on the agenda",
            within_s=10,
        )

    assert all(redis.zscore(app.keys.agenda, name) is not None for name in names)


def test_a_chore_that_fails_keeps_no_other_from_its_work(app: Cronq, store: Store, redis: Redis) -> None:
    store("invoices", mark=redis.time()[0], cron=None, every="1s")
    redis.set("cronq:waiting", "junk of a stranger")  # the sweep meets it
    beat = app.beat()
    for chore in beat.chores:
        chore.every_s = 0.3

    with running(beat):
        until(lambda: queued(redis), "a run")
        until(lambda: app.beats()[0], "a heartbeat")
        redis.zrem(app.keys.agenda, "invoices")
        until(lambda: redis.zscore(app.keys.agenda, "invoices"), "an audit that puts the job back", 60)


# Restoring after FLUSHALL


def test_one_definition_that_cannot_be_restored_keeps_no_other_from_it(
    app: Cronq, redis: Redis, journal: Journal
) -> None:
    for name in ("a", "b", "c"):
        define(app, name, every="1s")
    app.sync(load=False)
    beat = app.beat()
    beat.pass_once()

    redis.flushall()
    redis.set(app.keys.job("b"), "junk of a stranger")
    with running(beat):
        until(lambda: {run_id[0] for run_id in queued(redis)} == {"a", "b", "c"}, "a run of each job")

    assert len(journal.of("EPOCH")) == 1


def test_a_flushed_redis_gets_its_jobs_back_and_no_burst(app: Cronq, redis: Redis, journal: Journal) -> None:
    define(app, "invoices", every="1s", catchup="all", overlap="allow")
    app.sync(load=False)
    beat = app.beat()
    now = app.exact_now_s()
    app.quarantine.restore_mark("invoices", int(now) - 500, int(now) - 499)
    beat.pass_once()
    assert len(queued(redis)) >= 100

    redis.flushall()
    flushed = app.exact_now_s()
    beat.pass_once()
    assert queued(redis) == []
    until(lambda: beat.pass_once().codes, "the next tick")

    rows = app.history("invoices", 1000)
    assert [row.outcome or row.state for row in rows] == ["queued"]
    assert (rows[0].tick or 0) > flushed
    assert len(journal.of("EPOCH")) == 1


def test_what_a_beat_moves_aside_in_its_first_pass_carries_the_time_of_that(app: Cronq, redis: Redis) -> None:
    """Else a key that is moved aside by the next beat would replace it."""
    redis.set("cronq:agenda", "junk")

    app.beat().pass_once()

    (aside,) = redis.keys("cronq:broken:cronq:agenda:*")
    assert aside.decode().rpartition(":")[2] >= "2020"
