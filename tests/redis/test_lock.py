"""The lock in fair weather: taking, waiting, renewing, releasing, tokens, names, and living with plain
locks."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import redis_lock
from redis import Redis

from cronq.clock import boot_s
from cronq.db.keys import Keys
from cronq.errors import ConfigError, CronqError, KeyBroken, LockLost
from cronq.locks.held import read_locks
from cronq.locks.lock import Lock

pytestmark = pytest.mark.timing

KEYS = Keys()
TTL_S = 2.0

MakeLock = Callable[..., Lock]


@pytest.fixture
def make_lock(redis: Redis) -> Iterator[MakeLock]:
    """Locks of ttl 2 s on the shared server; whatever is still held is given back, which ends its threads."""
    made: list[Lock] = []

    def make(name: str = "nightly", **options: object) -> Lock:
        made.append(Lock(redis, name, **{"ttl_s": TTL_S, **options}))
        return made[-1]

    yield make
    for lock in made:
        try:
            lock.release()
        except CronqError:
            pass


def waiting(lock: Lock, **options: object) -> tuple[threading.Thread, list[tuple[bool, float]]]:
    """A thread that acquires *lock*, and the list that will hold the answer and when it came."""
    answers: list[tuple[bool, float]] = []
    thread = threading.Thread(target=lambda: answers.append((lock.acquire(**options), boot_s())))
    thread.start()
    return thread, answers


def wait_for_waiters(redis: Redis, count: int = 1) -> None:
    """Return when *count* clients are blocked in the server."""
    while redis.info("clients")["blocked_clients"] < count:
        time.sleep(0.002)


# --- taking
# ---------------------------------------------------------------------------------------------------


def test_a_free_lock_is_taken_and_its_key_lives_for_the_ttl(make_lock: MakeLock, redis: Redis) -> None:
    lock = make_lock(ttl_s=2.75)
    before_s = boot_s()

    assert lock.acquire(blocking=False)

    assert redis.get("lock:cronq:nightly") == lock.id.encode()
    assert 2650 < redis.pttl("lock:cronq:nightly") <= 2750
    assert before_s + 2.75 <= lock.deadline_boot_s <= boot_s() + 2.75
    assert lock.lost is None
    lock.check()


def test_a_held_lock_is_refused_at_once(make_lock: MakeLock) -> None:
    make_lock().acquire()
    started_s = boot_s()

    assert make_lock().acquire(blocking=False) is False
    assert make_lock().acquire(timeout=0) is False

    assert boot_s() - started_s < 0.1


@pytest.mark.parametrize("timeout_s", [0.05, 0.3, 0.5, 0.75])
def test_a_float_timeout_is_honoured_to_50_ms(make_lock: MakeLock, timeout_s: float) -> None:
    make_lock().acquire()
    started_s = boot_s()

    assert make_lock().acquire(timeout=timeout_s) is False

    assert timeout_s <= boot_s() - started_s < timeout_s + 0.05


def test_waiting_longer_than_any_socket_timeout_ends_as_told(redis_url: str, make_lock: MakeLock) -> None:
    make_lock().acquire()
    with Redis.from_url(redis_url, socket_timeout=0.1) as impatient:
        waiter = Lock(impatient, "nightly", ttl_s=8.0)
        started_s = boot_s()

        assert waiter.acquire(timeout=2.2) is False

    assert 2.2 <= boot_s() - started_s < 2.25


def test_release_wakes_a_waiter_at_once(make_lock: MakeLock, redis: Redis) -> None:
    holder, waiter = make_lock(), make_lock(ttl_s=30)
    holder.acquire()
    thread, answers = waiting(waiter)
    wait_for_waiters(redis)

    released_s = boot_s()
    holder.release()
    thread.join()

    assert answers[0][0] is True
    assert answers[0][1] - released_s < 0.1


def test_an_object_that_holds_the_lock_cannot_take_it_again(make_lock: MakeLock) -> None:
    lock = make_lock()
    lock.acquire()

    with pytest.raises(redis_lock.AlreadyAcquired):
        lock.acquire(blocking=False)

    lock.check()


def test_two_threads_cannot_become_one_holder_through_one_object(make_lock: MakeLock, redis: Redis) -> None:
    make_lock(ttl_s=8.0).acquire()
    shared = make_lock(ttl_s=8.0)
    thread, _ = waiting(shared, timeout=0.5)
    wait_for_waiters(redis)

    with pytest.raises(redis_lock.AlreadyAcquired):
        shared.acquire(blocking=False)

    thread.join()


@pytest.mark.parametrize("options", [{"timeout": -1}, {"timeout": float("nan")}, {"blocking": False, "timeout": 1}])
def test_a_timeout_that_means_nothing_is_refused(make_lock: MakeLock, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="timeout="):
        make_lock().acquire(**options)


@pytest.mark.parametrize("key", ["lock:cronq:nightly", "cronq:fence:nightly"])
def test_a_key_of_a_wrong_type_is_reported_and_nothing_written(make_lock: MakeLock, redis: Redis, key: str) -> None:
    redis.sadd(key, "not ours")

    with pytest.raises(KeyBroken, match=f"the key {key} is not a (string|hash)"):
        make_lock().acquire()

    assert redis.keys() == [key.encode()]


def test_an_interrupted_acquire_leaves_nothing_behind(
    make_lock: MakeLock, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = make_lock()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lock, "_begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()

    assert not redis.exists(KEYS.lock("nightly"))


# --- names and ttl
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "x" * 512, "backup@db1.example.com:/var/lib", "a=1,b+c%d~e#f-G_9"])
def test_a_sensible_name_is_accepted(make_lock: MakeLock, name: str) -> None:
    assert make_lock(name).acquire(blocking=False)


@pytest.mark.parametrize(
    "name", ["", "x" * 513, "a b", "a\n", "a\t", "*", "a?", "[a]", "a'", 'a"', "a\\", "\u00e9", "a\0", 7]
)
def test_a_name_that_could_break_a_key_or_a_line_is_refused(make_lock: MakeLock, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_lock(name)

    assert repr(name)[:40] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ttl_s", [0, 1.999, -5, float("nan"), float("inf"), 8 * 86400])
def test_a_ttl_that_cannot_be_kept_is_refused(make_lock: MakeLock, ttl_s: float) -> None:
    with pytest.raises(ConfigError, match="ttl"):
        make_lock(ttl_s=ttl_s)


def test_prefixes_separate_installations(make_lock: MakeLock) -> None:
    assert make_lock().acquire(blocking=False)
    assert make_lock(keys=Keys("other")).acquire(blocking=False)


# --- holding
# --------------------------------------------------------------------------------------------------


def test_a_lock_is_renewed_long_past_its_ttl(make_lock: MakeLock) -> None:
    deadlines: list[float] = []
    renewed = threading.Event()

    def note(deadline_s: float) -> None:
        deadlines.append(deadline_s)
        if deadline_s > deadlines[0] + 1.5 * TTL_S:
            renewed.set()

    lock = make_lock(on_renewed=note)
    lock.acquire()

    assert renewed.wait(5)
    lock.check()
    assert deadlines == sorted(deadlines)
    assert max(b - a for a, b in pairwise(deadlines)) < TTL_S / 4 + 0.05
    assert make_lock().acquire(blocking=False) is False


def test_a_listener_that_fails_does_not_end_the_renewal(make_lock: MakeLock, caplog: pytest.LogCaptureFixture) -> None:
    calls = threading.Semaphore(0)

    def fail(_: float) -> None:
        calls.release()
        raise RuntimeError("listener's mistake")

    lock = make_lock(on_renewed=fail)
    lock.acquire()

    for _ in range(4):
        assert calls.acquire(timeout=2)
    lock.check()
    lock.release()
    assert {record.getMessage() for record in caplog.records} == {f"FAILED what listens to lock {lock.name!r}"}


def test_a_lock_nobody_refers_to_is_renewed_all_the_same(redis: Redis) -> None:
    lost, renewed = threading.Event(), threading.Event()
    threads = set(threading.enumerate())
    first_s = boot_s()
    assert Lock(
        redis,
        "nightly",
        ttl_s=TTL_S,
        on_lost=lambda reason: lost.set(),
        on_renewed=lambda deadline_s: renewed.set() if deadline_s > first_s + 2 * TTL_S else None,
    ).acquire()
    gc.collect()

    assert renewed.wait(5)
    assert redis.exists(KEYS.lock("nightly"))

    redis.delete(KEYS.lock("nightly"))  # the only way to end it
    assert lost.wait(2)
    for thread in set(threading.enumerate()) - threads:
        thread.join(2)


def test_extend_renews_now_and_only_for_the_ttl(make_lock: MakeLock, redis: Redis) -> None:
    lock = make_lock(ttl_s=8.0)
    lock.acquire()
    first_s = lock.deadline_boot_s

    lock.extend()

    assert lock.deadline_boot_s > first_s
    with pytest.raises(ConfigError, match="extend"):
        lock.extend(1)
    assert redis.pttl(KEYS.lock("nightly")) > 7900


def test_a_server_that_forgot_the_scripts_is_taught_them_again(make_lock: MakeLock, redis: Redis) -> None:
    renewals = threading.Semaphore(0)
    lock = make_lock(on_renewed=lambda _: renewals.release())
    lock.acquire()

    redis.script_flush()
    for _ in range(3):
        assert renewals.acquire(timeout=2)

    lock.check()
    redis.script_flush()
    lock.release()


# --- giving back
# ----------------------------------------------------------------------------------------------


def test_a_released_lock_is_free_and_its_threads_are_gone(make_lock: MakeLock, redis: Redis) -> None:
    threads = set(threading.enumerate())
    lock = make_lock()
    lock.acquire()

    lock.release()

    assert not redis.exists(KEYS.lock("nightly"))
    assert set(threading.enumerate()) == threads
    assert lock.lost is None


@pytest.mark.parametrize("verb", ["check", "release", "extend"])
def test_what_is_not_held_cannot_be_used(make_lock: MakeLock, verb: str) -> None:
    lock = make_lock()
    with pytest.raises(LockLost, match="never acquired"):
        getattr(lock, verb)()

    lock.acquire()
    lock.release()
    with pytest.raises(LockLost, match="released"):
        getattr(lock, verb)()


def test_release_of_a_lock_that_was_taken_over_leaves_the_other_alone(make_lock: MakeLock, redis: Redis) -> None:
    lock = make_lock(ttl_s=30.0)
    lock.acquire()
    redis.set(KEYS.lock("nightly"), "another", px=5000)

    with pytest.raises(LockLost):
        lock.release()

    assert redis.get(KEYS.lock("nightly")) == b"another"
    assert lock.lost is not None


def test_a_with_block_holds_the_lock_from_end_to_end(make_lock: MakeLock, redis: Redis) -> None:
    with make_lock() as held:
        held.check()
        assert redis.exists(KEYS.lock("nightly"))

    assert not redis.exists(KEYS.lock("nightly"))


def test_a_with_block_whose_lock_is_gone_ends_with_lock_lost(make_lock: MakeLock, redis: Redis) -> None:
    with pytest.raises(LockLost), make_lock():
        redis.delete(KEYS.lock("nightly"))


def test_an_error_inside_a_with_block_comes_first_and_the_loss_is_noted(make_lock: MakeLock, redis: Redis) -> None:
    def fail() -> None:
        with make_lock():
            redis.delete(KEYS.lock("nightly"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()

    assert "'nightly' is lost" in caught.value.__notes__[0]


# --- tokens
# ---------------------------------------------------------------------------------------------------


def test_the_token_grows_with_every_acquisition_also_on_one_object(make_lock: MakeLock) -> None:
    first, second = make_lock(), make_lock()
    tokens = []
    for lock in (first, second, first, second):
        lock.acquire()
        tokens.append(lock.token)
        lock.release()

    assert make_lock().token == 0
    assert tokens == sorted(set(tokens))


def test_the_token_grows_even_after_the_fence_was_deleted(make_lock: MakeLock, redis: Redis) -> None:
    lock = make_lock()
    lock.acquire()
    before = lock.token
    lock.release()

    redis.delete(KEYS.fence("nightly"))
    lock.acquire()

    assert lock.token > before


def test_the_token_grows_even_when_the_servers_clock_was_set_back(make_lock: MakeLock, redis: Redis) -> None:
    tomorrow_us = (int(redis.time()[0]) + 86400) * 1_000_000  # what a clock a day ahead had given
    redis.hset(KEYS.fence("nightly"), "token", tomorrow_us)
    lock = make_lock()

    lock.acquire()

    assert lock.token == tomorrow_us + 1
    assert redis.hget(KEYS.fence("nightly"), "token") == str(tomorrow_us + 1).encode()


# --- who holds what
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode_responses", [False, True])
def test_read_locks_tells_who_holds_what(make_lock: MakeLock, redis_url: str, decode_responses: bool) -> None:
    run = {"host": "web1.example.com", "pid": 4711, "run_id": "invoices-20261121T070000Z"}
    held = make_lock("invoices", holder=run)
    held.acquire()
    make_lock("backup", holder={"run_id": None}).acquire()
    with make_lock("done"):
        pass

    with Redis.from_url(redis_url, decode_responses=decode_responses) as reader:
        backup, invoices = read_locks(reader, KEYS)
        now_s = float(reader.time()[0])

    assert (invoices.name, invoices.host, invoices.pid, invoices.run_id) == ("invoices", *run.values())
    assert invoices.token == held.token
    assert invoices.since is not None
    assert abs(invoices.since - now_s) < 2
    assert invoices.expires_in_s is not None
    assert 1 < invoices.expires_in_s <= TTL_S
    assert (backup.name, backup.run_id) == ("backup", None)
    assert backup.host


def test_read_locks_does_not_blame_the_last_holder_for_a_plain_lock(make_lock: MakeLock, redis: Redis) -> None:
    with make_lock():
        pass
    plain = redis_lock.Lock(redis, "cronq:nightly")
    plain.acquire()

    (held,) = read_locks(redis, KEYS)

    assert held.name == "nightly"
    assert held.host is held.pid is held.run_id is held.token is held.since is held.expires_in_s is None


def test_read_locks_is_not_stopped_by_a_key_of_a_wrong_type(make_lock: MakeLock, redis: Redis) -> None:
    make_lock(holder={"pid": "unknown"}).acquire()
    redis.set(KEYS.fence("odd"), "not a hash")
    redis.set(KEYS.lock("odd"), "somebody")
    redis.hset(KEYS.fence("odder"), "token", 1)
    redis.sadd(KEYS.lock("odder"), "not a string")

    nightly, odd = read_locks(redis, KEYS)

    assert (nightly.name, nightly.pid) == ("nightly", None)
    assert (odd.name, odd.host) == ("odd", None)


# --- living with python-redis-lock
# ----------------------------------------------------------------------------


def test_a_plain_lock_excludes_ours_and_its_release_wakes_us(make_lock: MakeLock, redis: Redis) -> None:
    plain = redis_lock.Lock(redis, "cronq:nightly", expire=30)
    plain.acquire()
    ours = make_lock(ttl_s=8.0)
    assert ours.acquire(blocking=False) is False
    thread, answers = waiting(ours)
    wait_for_waiters(redis)

    released_s = boot_s()
    plain.release()
    thread.join()

    assert answers[0][0] is True
    assert answers[0][1] - released_s < 0.1


def test_our_lock_excludes_a_plain_one_and_our_release_wakes_it(make_lock: MakeLock, redis: Redis) -> None:
    ours = make_lock()
    ours.acquire()
    plain = redis_lock.Lock(redis, "cronq:nightly", expire=30)
    assert plain.acquire(blocking=False) is False
    answers: list[float] = []
    thread = threading.Thread(target=lambda: plain.acquire() and answers.append(boot_s()))
    thread.start()
    wait_for_waiters(redis)

    released_s = boot_s()
    ours.release()
    thread.join()

    assert answers[0] - released_s < 0.1


def test_a_plain_lock_without_a_ttl_is_waited_for_as_long_as_told(make_lock: MakeLock, redis: Redis) -> None:
    redis_lock.Lock(redis, "cronq:nightly").acquire()
    started_s = boot_s()

    assert make_lock().acquire(timeout=0.4) is False

    assert 0.4 <= boot_s() - started_s < 0.45


def test_plain_locks_work_in_a_process_that_made_one_of_ours_first(redis_url: str) -> None:
    script = """
import sys, redis, redis_lock
from cronq.locks.lock import Lock
client = redis.Redis.from_url(sys.argv[1])
Lock(client, "ours")
plain = redis_lock.Lock(client, "plain", expire=5)
plain.acquire(); plain.extend(9); print(client.ttl("lock:plain")); plain.release(); print(client.exists("lock:plain"))
"""
    words = subprocess.run([sys.executable, "-c", script, redis_url], check=True, timeout=30, stdout=subprocess.PIPE)

    assert words.stdout.split() in ([b"9", b"0"], [b"8", b"0"])


# --- many at once
# ---------------------------------------------------------------------------------------------


def contend(redis_url: str, rounds: int, intervals: list[tuple[float, float, int]]) -> None:
    """Take and give back the lock, noting from when to when it was surely held, and the token."""
    with Redis.from_url(redis_url) as client:
        lock = Lock(client, "nightly", ttl_s=TTL_S)
        for _ in range(rounds):
            with lock:
                since_s = boot_s()
                lock.check()
                intervals.append((since_s, boot_s(), lock.token))


def contend_in_process(redis_url: str, rounds: int, answers: Any) -> None:
    intervals: list[tuple[float, float, int]] = []
    contend(redis_url, rounds, intervals)
    answers.put(intervals)


def assert_one_after_another(intervals: list[tuple[float, float, int]], count: int) -> None:
    intervals = sorted(intervals)
    assert len(intervals) == count
    for (_, end_s, token), (next_start_s, _, next_token) in pairwise(intervals):
        assert end_s <= next_start_s
        assert token < next_token


def test_threads_never_hold_it_together(redis_url: str) -> None:
    intervals: list[tuple[float, float, int]] = []
    threads = [threading.Thread(target=contend, args=(redis_url, 30, intervals)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert_one_after_another(intervals, 240)


def test_processes_never_hold_it_together(redis_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=contend_in_process, args=(redis_url, 60, answers), daemon=True) for _ in range(4)
    ]
    for process in processes:
        process.start()
    intervals = [interval for _ in processes for interval in answers.get(timeout=60)]
    for process in processes:
        process.join(10)

    assert_one_after_another(intervals, 240)
