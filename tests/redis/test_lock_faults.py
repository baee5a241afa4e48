"""The lock in foul weather: one test or more for each way to hold it twice, lose it unnoticed, or hang.

Times are scaled down to ttl 2 or 3 s. `lead` is what a test measures most: how long before its key could expire
in Redis the holder was told that the lock is lost. Redis itself is asked for that, past the proxy.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest
from redis import Redis
from redis.connection import ConnectionPool, UnixDomainSocketConnection
from redis.exceptions import ResponseError
from redis.sentinel import Sentinel

from cronq.clock import boot_s
from cronq.db.keys import Keys
from cronq.errors import CronqError, LockLost, RedisUnavailable
from cronq.locks.lock import Lock
from tests.conftest import RedisServer, find_redis_server
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.timing

KEYS = Keys()
TTL_S = 2.0
MODES = ["refuse", "blackhole"]

MakeLock = Callable[..., Lock]


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def make_lock(proxy: FaultProxy) -> Iterator[MakeLock]:
    """Locks of ttl 2 s behind the proxy; whatever is still held is given back, which ends its threads."""
    made: list[Lock] = []
    client = Redis.from_url(proxy.url)

    def make(name: str = "nightly", **options: Any) -> Lock:
        made.append(Lock(options.pop("client", client), name, **{"ttl_s": TTL_S, **options}))
        return made[-1]

    yield make
    proxy.pass_on()
    for lock in made:
        give_back(lock)
    client.close()


def give_back(lock: Lock) -> None:
    try:
        lock.release()
    except CronqError:
        pass


class Loss:
    """Hears of the loss of one lock, and asks Redis at that moment how long its key has left."""

    def __init__(self, direct: Redis, name: str = "nightly") -> None:
        self.told = threading.Event()
        self.reasons: list[str] = []
        self.at_s = 0.0
        self.lead_s = 0.0
        self._direct = direct
        self._name = name

    def __call__(self, reason: str) -> None:
        self.at_s = boot_s()
        self.reasons.append(reason)
        self.lead_s = self._direct.pttl(KEYS.lock(self._name)) / 1000
        self.told.set()


def acquire_in_phases(make_lock: MakeLock, direct: Redis, count: int, ttl_s: float) -> list[tuple[Lock, Loss]]:
    """Locks whose renewals are spread evenly, so that one outage meets each in another phase."""
    pairs = []
    for number in range(count):
        loss = Loss(direct, f"phase-{number}")
        pairs.append((make_lock(f"phase-{number}", ttl_s=ttl_s, on_lost=loss), loss))
        pairs[-1][0].acquire()
        time.sleep(ttl_s / 4 / count)
    return pairs


def is_renewed_again(lock: Lock) -> bool:
    """True once the deadline has moved past now + ttl/2; False when the lock is lost before that."""
    while lock.deadline_boot_s < boot_s() + lock._timing.ttl_s / 2:
        if lock.lost is not None:
            return False
        time.sleep(0.01)
    return lock.lost is None


def in_process(target: Callable[..., None], *args: Any) -> tuple[Any, Connection]:
    """A new process that runs *target* with a pipe to us as its last argument."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def receive(pipe: Connection, within_s: float = 20) -> Any:
    assert pipe.poll(within_s), "the other process said nothing"
    return pipe.recv()


def wait_until_free(direct: Redis) -> None:
    while direct.exists(KEYS.lock("nightly")):
        time.sleep(0.01)


# --- L1, L2: Redis is away ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_an_outage_of_two_thirds_of_the_ttl_is_survived_in_every_phase(
    proxy: FaultProxy, make_lock: MakeLock, redis: Redis, mode: str
) -> None:
    ttl_s = 3.0
    pairs = acquire_in_phases(make_lock, redis, 12, ttl_s)

    with proxy.outage(mode):
        time.sleep(0.65 * ttl_s)

    for lock, loss in pairs:
        assert is_renewed_again(lock)
        assert loss.reasons == []


@pytest.mark.parametrize("mode", MODES)
def test_in_a_longer_outage_the_holder_is_told_before_its_key_can_expire(
    proxy: FaultProxy, make_lock: MakeLock, redis: Redis, mode: str
) -> None:
    pairs = acquire_in_phases(make_lock, redis, 12, TTL_S)

    with proxy.outage(mode):
        for _, loss in pairs:
            assert loss.told.wait(TTL_S + 1)

    assert min(loss.lead_s for _, loss in pairs) > 0.1  # of the margin of 0.2
    for lock, loss in pairs:
        assert len(loss.reasons) == 1
        with pytest.raises(LockLost, match=r"no renewal was answered for 1\.[89]"):
            lock.check()


def test_the_next_holder_starts_only_after_the_last_one_was_told(
    proxy: FaultProxy, make_lock: MakeLock, redis: Redis
) -> None:
    loss = Loss(redis)
    first, second = make_lock(on_lost=loss), make_lock(client=redis, ttl_s=30.0)
    first.acquire()
    proxy.blackhole()

    assert second.acquire(timeout=TTL_S + 1)

    taken_s = boot_s()
    assert loss.told.is_set()
    assert loss.at_s < taken_s
    assert second.token > first.token
    proxy.pass_on()
    with pytest.raises(LockLost):
        first.release()
    second.check()
    assert redis.get(KEYS.lock("nightly")) == second.id.encode()


class StuckConnection(UnixDomainSocketConnection):
    """Connects only when its gate is open; no socket time-out bounds that, as none bounds a name lookup."""

    gate = threading.Event()

    def _connect(self) -> Any:
        self.gate.wait(30)
        return super()._connect()


def test_a_renewal_stuck_where_no_timeout_reaches_does_not_delay_the_warning(
    redis: Redis, shared_redis_server: RedisServer
) -> None:
    StuckConnection.gate.set()
    loss = Loss(redis)
    pool = ConnectionPool(connection_class=StuckConnection, path=shared_redis_server.socket_path)
    lock = Lock(Redis.from_pool(pool), "nightly", ttl_s=TTL_S, on_lost=loss)
    lock.acquire()

    StuckConnection.gate.clear()
    redis.client_kill_filter(_type="normal", skipme=True)

    assert loss.told.wait(TTL_S + 1)
    assert loss.lead_s > 0.1
    StuckConnection.gate.set()
    with pytest.raises(LockLost):
        lock.release()


def test_a_lock_lost_once_is_not_found_again_but_can_be_acquired_again(
    proxy: FaultProxy, make_lock: MakeLock, redis: Redis
) -> None:
    loss = Loss(redis)
    lock = make_lock(on_lost=loss)
    lock.acquire()
    before = lock.token
    with proxy.outage("blackhole"):
        assert loss.told.wait(TTL_S + 1)

    with pytest.raises(LockLost):
        lock.check()
    assert lock.acquire(timeout=2)

    lock.check()
    assert lock.token > before
    assert lock.lost is None
    lock.release()
    assert len(loss.reasons) == 1


def test_a_waiter_rides_out_an_outage(proxy: FaultProxy, make_lock: MakeLock, redis: Redis) -> None:
    holder, waiter = make_lock(client=redis), make_lock(ttl_s=4.0)
    holder.acquire()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(waiter.acquire(timeout=10)))
    thread.start()

    with proxy.outage("blackhole"):
        time.sleep(1.2)
        holder.release()
    thread.join()

    assert answers == [True]


@pytest.mark.parametrize(
    ("mode", "options", "longest_s"),
    [
        ("refuse", {"blocking": False}, 2.1),
        ("blackhole", {"blocking": False}, 2.1),
        ("refuse", {"timeout": 0.3}, 0.4),
        ("blackhole", {"timeout": 0.3}, 0.4),
        ("blackhole", {}, TTL_S + 0.5),
    ],
)
def test_acquire_without_redis_fails_in_time(
    proxy: FaultProxy, make_lock: MakeLock, mode: str, options: dict[str, Any], longest_s: float
) -> None:
    with proxy.outage(mode):
        started_s = boot_s()

        with pytest.raises(RedisUnavailable, match="'nightly'"):
            make_lock().acquire(**options)

        assert boot_s() - started_s < longest_s


@pytest.mark.parametrize("trouble", ["read only", "frozen", "busy"])
def test_a_server_that_cannot_renew_for_a_while_is_waited_for(redis_server: RedisServer, trouble: str) -> None:
    with Redis.from_url(redis_server.url) as client:
        lock = Lock(client, "nightly", ttl_s=TTL_S)
        lock.acquire()
        if trouble == "read only":
            client.replicaof("127.0.0.1", "1")
        elif trouble == "frozen":
            redis_server.pause()
        else:
            client.config_set("lua-time-limit", 1)
            busy = threading.Thread(target=run_endless_script, args=(redis_server.url,))
            busy.start()
        time.sleep(0.6 * TTL_S)
        if trouble == "read only":
            client.replicaof("NO", "ONE")
        elif trouble == "frozen":
            redis_server.resume()
        else:
            client.script_kill()
            busy.join()

        assert is_renewed_again(lock)
        lock.release()


def run_endless_script(redis_url: str) -> None:
    with Redis.from_url(redis_url, socket_timeout=30) as client:
        try:
            client.eval("while true do end", 0)
        except ResponseError:  # killed
            pass


def test_when_redis_is_full_nothing_is_taken_but_what_is_held_stays_held(redis_server: RedisServer) -> None:
    renewals = threading.Semaphore(0)
    with Redis.from_url(redis_server.url) as client:
        held = Lock(client, "held", ttl_s=TTL_S, on_renewed=lambda _: renewals.release())
        with Lock(client, "warm-up", ttl_s=TTL_S):
            held.acquire()
        client.config_set("maxmemory", 1)

        with pytest.raises(RedisUnavailable, match="maxmemory"):
            Lock(client, "wanted", ttl_s=TTL_S).acquire()

        for _ in range(4):
            assert renewals.acquire(timeout=TTL_S)
        held.release()
        assert client.keys("lock:*") == []
        assert not client.exists(KEYS.fence("wanted"))


# --- L3, L4: the holder stands still --------------------------------------------------------------------------

#: Accepts a write only with the highest token so far, and keeps a log of what it accepted.
REGISTER = """
if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or 0) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return redis.call('RPUSH', KEYS[2], ARGV[1])
"""


def write_while_held(redis_url: str, pipe: Connection) -> None:
    with Redis.from_url(redis_url) as client:
        write = client.register_script(REGISTER)
        lock = Lock(client, "nightly", ttl_s=TTL_S)
        lock.acquire()
        refused = 0
        pipe.send(lock.token)
        try:
            while True:
                lock.check()
                refused += not write(["register", "log"], [lock.token])
        except LockLost as error:
            pipe.send((str(error), refused, boot_s()))


def test_a_holder_that_was_stopped_writes_nothing_into_the_next_hold(redis_url: str, redis: Redis) -> None:
    process, pipe = in_process(write_while_held, redis_url)
    first_token = receive(pipe)
    while redis.llen("log") < 50:
        time.sleep(0.01)
    write = redis.register_script(REGISTER)
    with_next = Lock(redis, "nightly", ttl_s=TTL_S)

    os.kill(process.pid, signal.SIGSTOP)
    assert with_next.acquire(timeout=TTL_S + 1)
    write(["register", "log"], [with_next.token])
    resumed_s = boot_s()
    os.kill(process.pid, signal.SIGCONT)
    reason, refused, told_s = receive(pipe)

    assert "is lost" in reason
    assert told_s - resumed_s < 0.25
    assert refused <= 1  # the one between check() and its write
    log = [int(token) for token in redis.lrange("log", 0, -1)]
    assert log == sorted(log)
    assert set(log) == {first_token, with_next.token}
    with_next.check()
    with_next.release()
    process.join(10)


def stand_still(redis_url: str, how: str, pipe: Connection) -> None:
    told: list[str] = []
    with Redis.from_url(redis_url) as client:
        lock = Lock(client, "nightly", ttl_s=TTL_S, on_lost=told.append)
        lock.acquire()
        pipe.send(lock.token)
        sys.setswitchinterval(1000)  # from here on no other thread gets the interpreter by itself
        if how == "SIGSTOP":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            ctypes.PyDLL(None).usleep(int((TTL_S + 0.3) * 1_000_000))  # C code that keeps the GIL
        try:
            lock.check()
            pipe.send(("still held", list(told)))
        except LockLost as error:
            pipe.send((str(error), list(told)))
        sys.setswitchinterval(0.005)
        give_back(lock)
        pipe.send(told)


@pytest.mark.parametrize("how", ["SIGSTOP", "GIL"])
def test_the_first_check_after_standing_still_raises_though_no_thread_has_run(
    redis_url: str, redis: Redis, how: str
) -> None:
    process, pipe = in_process(stand_still, redis_url, how)
    receive(pipe)
    wait_until_free(redis)

    if how == "SIGSTOP":
        os.kill(process.pid, signal.SIGCONT)

    reason, told_before = receive(pipe)
    assert "this process stood still" in reason
    assert told_before == []
    assert len(receive(pipe)) == 1
    process.join(10)


def test_a_lock_held_by_the_parent_outlives_c_code_in_its_child(make_lock: MakeLock, redis: Redis) -> None:
    guardian, rival = make_lock(), make_lock(client=redis)
    guardian.acquire()
    child = subprocess.Popen([sys.executable, "-c", "sum(range(10**11))"])

    try:
        assert rival.acquire(timeout=1.5 * TTL_S) is False
    finally:
        child.kill()
        child.wait()

    guardian.check()


# --- L5, L6: Redis forgets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flush", "restart", "takeover"])
def test_a_holder_is_told_within_a_quarter_of_the_ttl_that_redis_forgot_it(redis_server: RedisServer, how: str) -> None:
    with Redis.from_url(redis_server.url) as client:
        loss = Loss(client)
        lock = Lock(client, "nightly", ttl_s=TTL_S, on_lost=loss)
        lock.acquire()
        if how == "flush":
            client.flushall()
        elif how == "restart":
            redis_server.restart()
        else:
            client.set(KEYS.lock("nightly"), "somebody", px=9000)
        forgotten_s = boot_s()

        assert loss.told.wait(5)

        assert loss.at_s - forgotten_s < TTL_S / 4 + 0.05
        assert ("somebody else" if how == "takeover" else "gone from Redis") in loss.reasons[0]
        with pytest.raises(LockLost):
            lock.release()
        assert client.exists(KEYS.lock("nightly")) == (how == "takeover")


def test_a_failover_that_lost_the_key_is_noticed_and_the_next_token_is_higher(
    proxy: FaultProxy, make_lock: MakeLock, redis: Redis, redis_server: RedisServer
) -> None:
    loss = Loss(redis)
    lock = make_lock(on_lost=loss)
    lock.acquire()

    moved_s = boot_s()
    proxy.retarget(redis_server.url)

    assert loss.told.wait(5)
    assert loss.at_s - moved_s < TTL_S / 4 + 0.05
    successor = make_lock()
    assert successor.acquire(blocking=False)
    assert successor.token > lock.token
    successor.release()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def sentinel(tmp_path: Any) -> Iterator[Sentinel]:
    """A Sentinel that watches a primary and its replica."""
    first, second, port = free_ports(3)
    primary = RedisServer("--port", str(first), "--repl-diskless-sync-delay", "0")
    replica = RedisServer("--port", str(second), "--replicaof", "127.0.0.1", str(first))
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nsentinel monitor house 127.0.0.1 {first} 1\n"
        "sentinel down-after-milliseconds house 1000\nsentinel failover-timeout house 5000\n"
    )
    process = subprocess.Popen(
        [find_redis_server(), str(config), "--sentinel", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    sentinel = Sentinel([("127.0.0.1", port)])
    while not any(each["is_slave"] for each in discover(sentinel)):
        time.sleep(0.05)
    yield sentinel
    for each in sentinel.sentinels:
        each.close()
    process.kill()
    process.wait()
    replica.stop()
    primary.stop()


def discover(sentinel: Sentinel) -> list[dict[str, Any]]:
    try:
        return [each for each in sentinel.sentinels[0].sentinel_slaves("house") if not each["is_disconnected"]]
    except Exception:
        return []


def test_a_planned_failover_under_sentinel_is_survived(sentinel: Sentinel) -> None:
    client = sentinel.master_for("house")
    renewed = threading.Semaphore(0)
    lock = Lock(client, "nightly", ttl_s=6.0, on_renewed=lambda _: renewed.release())
    lock.acquire()
    old = sentinel.discover_master("house")
    while client.wait(1, 1000) < 1:
        pass

    sentinel.sentinels[0].sentinel_failover("house")
    while sentinel.discover_master("house") == old:
        time.sleep(0.02)
    while renewed.acquire(blocking=False):
        pass

    assert renewed.acquire(timeout=6)
    lock.check()
    lock.release()
    client.close()


# --- L7: an answer is lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"blocking": False}, {"timeout": 2.0}])
def test_a_lock_taken_by_a_command_whose_answer_was_lost_is_ours_at_once(
    proxy: FaultProxy, make_lock: MakeLock, redis: Redis, options: dict[str, Any]
) -> None:
    with make_lock("warm-up"):
        pass  # the server knows the scripts now: what gets lost is an answer, not a question for the script

    for number in range(5):
        lock = make_lock(f"round-{number}", ttl_s=8.0)
        redis.hset(KEYS.fence(lock.name), "token", 8 * 10**15)  # ahead of the clock: each new token is one more
        dropped = proxy.drop_reply(b"lock:cronq:round-")
        started_s = boot_s()

        assert lock.acquire(**options)

        assert boot_s() - started_s < 0.5
        assert dropped.is_set()
        assert 7000 < redis.pttl(lock._name) <= 8000
        assert lock.token == 8 * 10**15 + 1  # the first arrival's, and there was no other
        lock.release()


def test_a_lost_answer_to_a_release_is_no_error(proxy: FaultProxy, make_lock: MakeLock, redis: Redis) -> None:
    for _ in range(2):  # the first teaches the server the script
        lock = make_lock()
        lock.acquire()
        dropped = proxy.drop_reply(b"lock-signal:cronq:nightly")
        lock.release()

    assert dropped.is_set()
    assert not redis.exists(KEYS.lock("nightly"))


def test_lost_answers_to_renewals_are_survived(proxy: FaultProxy, make_lock: MakeLock) -> None:
    lock = make_lock()
    lock.acquire()

    for _ in range(5):
        assert proxy.drop_reply(b"lock:cronq:nightly").wait(TTL_S)

    lock.check()


# --- L8, L9: ends ---------------------------------------------------------------------------------------------


def hold(redis_url: str, pipe: Connection) -> None:
    lock = Lock(Redis.from_url(redis_url), "nightly", ttl_s=TTL_S)
    lock.acquire()
    pipe.send(lock.token)
    threading.Event().wait()


def test_a_killed_holders_lock_passes_on_half_a_second_after_its_lease_at_the_latest(
    redis_url: str, make_lock: MakeLock, redis: Redis
) -> None:
    process, pipe = in_process(hold, redis_url)
    receive(pipe)
    taken: list[float] = []

    def wait_for_it() -> None:
        with make_lock(client=redis, ttl_s=30.0):
            taken.append(boot_s())

    waiters = [threading.Thread(target=wait_for_it) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
        time.sleep(0.3)  # each at another phase of the lease

    process.kill()
    process.join()
    killed_s = boot_s()
    rest_s = redis.pttl(KEYS.lock("nightly")) / 1000
    for waiter in waiters:
        waiter.join()

    assert rest_s > 1
    assert rest_s - 0.05 < min(taken) - killed_s < rest_s + 0.5


@pytest.mark.parametrize("mode", MODES)
def test_a_release_without_redis_gives_up_within_2_s(proxy: FaultProxy, make_lock: MakeLock, mode: str) -> None:
    lock = make_lock(ttl_s=8.0)
    lock.acquire()
    threads = set(threading.enumerate())

    with proxy.outage(mode):
        time.sleep(1)  # by now a renewal is in trouble too
        started_s = boot_s()
        with pytest.raises(RedisUnavailable, match="ends by itself within 8 s"):
            lock.release()
        assert boot_s() - started_s < 2.05

    assert not any("cronq-lock" in thread.name for thread in threads & set(threading.enumerate()))


# --- L12: fork ------------------------------------------------------------------------------------------------

FORK = """
import os, sys, redis
from cronq.errors import LockLost
from cronq.locks.lock import Lock

client = redis.Redis.from_url(sys.argv[1])
held, unused = Lock(client, "held", ttl_s=2), Lock(client, "unused", ttl_s=2)
held.acquire()
with Lock(client, "unused", ttl_s=2):
    assert not unused.acquire(blocking=False)  # an id was made and not used up: both will know it
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    for verb in (held.check, held.release, held.extend, held.acquire):
        try:
            verb()
        except LockLost as error:
            if "belongs to the parent process" in str(error):
                continue
        os._exit(1)
    os.read(reader, 1)  # the parent has acquired what both know
    os._exit(2 if unused.acquire(blocking=False) else 0)
unused.acquire()
os.write(writer, b"!")
assert os.waitpid(child, 0)[1] == 0
held.check(), unused.check()
held.release(), unused.release()
"""


def test_a_forked_child_can_neither_use_nor_free_nor_share_its_parents_lock(redis_url: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, redis_url], check=True, timeout=30)
