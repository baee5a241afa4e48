"""Each call that a worker makes fails once in each way: each run is executed once all the same, and succeeds.

So it is with the long-lived child and with a fork for each run, with one worker in its process and with four. The
calls are found by counting those of a faultless run, so that new ones are failed without being listed here.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest
from redis import Redis

from cronq.beat.sweep import Sweep
from cronq.runs.timing import Timing
from tests.conftest import RedisServer
from tests.faults.calls import EXCHANGE, Calls, load_scripts
from tests.faults.leftovers import immortals
from tests.faults.proxy import FaultProxy
from tests.faults.rounds_jobs import KINDS, child_name, exclusive_name, queues
from tests.faults.witness import Entry, now_s, read_lives, wrong_triggers, wrongs
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, installation

LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
#: Processes at one time, each with queues and a proxy of its own: those whose runs are looked at, and those that start.
#: All kinds of workers are among both.
RUNNING, COMING = 8, 4
#: In a short test: in how many ways each call of a run is failed; and how many cases of coming and going there are.
MOST_WAYS, MOST_STARTS = 2, 4
#: A body that is at work when its guardian renews its run, and one that is not.
LONG_BODY_S, SHORT_BODY_S = 1.3, 0.05
#: What only runs need that are not started in the step that takes them.
OF_ODD_RUNS = ("hgetall cronq:run", "hgetall cronq:job", "evalsha runs/start")
#: A worker says that it lives every 5 s and looks for that every second: each of its calls is made in this time.
ROUND_S, PATIENCE_S = 6.2, 30.0

#: A worker whose client never sends a command again: what that would hide is what is looked for here.
WORKER = """
import logging, signal, sys
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from cronq.app.app import Cronq
from cronq.app.workers import Workers

logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
client = Redis.from_url({url!r}, socket_timeout=0.4, socket_connect_timeout=0.4, retry=Retry(NoBackoff(), 0))
workers = Workers(Cronq.from_env(client=client), {queues!r}, count={kind.children})
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, workers.request_stop)
sys.exit(workers.run())
"""


class Seen(NamedTuple):
    """What was seen of many cases."""

    wrongs: list[str]
    figures: str


class Post:
    """One worker process behind its proxy, and the calls it makes."""

    def __init__(self, made: Installation, number: int, proxy: FaultProxy, calls: Calls) -> None:
        self.made = made
        self.kind = KINDS[number % len(KINDS)]
        self.job = exclusive_name(number)  # which makes all calls that any run makes
        self.calls = calls
        self.runs: list[str] = []
        self._script = WORKER.format(url=proxy.url, queues=queues(number), kind=self.kind)

    def start(self, before: str = "") -> None:
        """Start the worker; *before* is code that comes first."""
        self.worker: CronqProcess = self.made.start_python(before + self._script, CRONQ_ISOLATION=self.kind.isolation)

    def is_ready(self) -> None:
        """Wait until others have seen all workers of the process."""
        self.made.ready(self.worker)
        until(
            lambda: sum(beat.pid == self.worker.pid for beat in self.made.app.workers()[0]) == self.kind.children,
            what=lambda: f"{self.kind.children} heartbeats:\n{self.worker.log}",
        )

    def run(self, seconds: float, *, is_odd: bool = False) -> str:
        """One run to its end; an odd one is not started in the step that takes it."""
        run_id = (self.made.enqueue_odd if is_odd else self.made.enqueue)(self.job, seconds)
        self.runs.append(run_id)
        self.made.settles(run_id, 60)
        return run_id

    def faultless_calls(self) -> list[str]:
        """The calls of runs in which nothing fails, and of the time in between."""
        self.calls.begin()
        begun = now_s()
        self.run(LONG_BODY_S)
        self.run(SHORT_BODY_S, is_odd=True)
        until(lambda: now_s() - begun > ROUND_S, what="a heartbeat")
        return [call for call in self.calls.begin() if call.endswith(("#1", "#2"))]

    def survive(self, call: str, way: str) -> list[str]:
        """One run in which *call* fails; what was wrong, in words. (`wrongs` looks at all of them at the end.)"""
        self.calls.begin()
        until(
            lambda: f"evalsha {EXCHANGE} #1" in self.calls.seen, what="a look by which nothing of the last case is open"
        )
        failed = self.calls.fail(call, way)
        is_of_work = "runs/renew" in call
        begun = now_s()
        run_id = self.run(LONG_BODY_S if is_of_work else SHORT_BODY_S, is_odd=call.startswith(OF_ODD_RUNS))
        while not failed.wait(0.1) and now_s() - begun < PATIENCE_S:  # a heartbeat
            if call.startswith("llen"):  # made by a worker that was woken, not by one that looked just then
                self.run(SHORT_BODY_S)
        self.calls.disarm()
        if not failed.is_set():
            return [f"{call} was not made ({self.kind})"]
        row = self.made.row(run_id)
        found = [] if row.outcome == "succeeded" and row.attempt == 1 else [f"{row.outcome}, attempt {row.attempt}"]
        if not self.worker.is_running:
            found.append(f"the worker ended:\n{self.worker.log}")
        return [f"{call}, {way} ({self.kind}): {each}" for each in found]

    def calls_of_coming_and_going(self) -> list[str]:
        """The calls of a worker up to its first look for work, and those after it was told to leave."""
        self.calls.begin()
        self.start()
        self.is_ready()
        until(lambda: f"evalsha {EXCHANGE} #1" in self.calls.seen, what="a first look for work")
        come = self.calls.begin()
        self.worker.terminate()
        assert self.worker.exit_code() == 0, self.worker.log
        come = come[: come.index(f"evalsha {EXCHANGE} #1")]
        return list(dict.fromkeys([*come, *self.calls.begin()]))

    def come_and_go(self, call: str, way: str) -> list[str]:
        """A worker from its start to its end, meanwhile *call* fails; what was wrong, in words."""
        self.calls.begin()
        failed = self.calls.fail(call, way)
        self.start()
        self.is_ready()
        self.run(SHORT_BODY_S)
        self.worker.terminate()
        code = self.worker.exit_code()
        self.calls.disarm()
        found = [] if code == 0 else [f"exit code {code}:\n{self.worker.log}"]
        # Two that are sent at once may be one call, or two; of several workers one may look before another has come.
        is_sure = "subscribe" not in call and (self.kind.children == 1 or call.endswith("#1"))
        if not failed.is_set() and is_sure:
            found.append("was not made")
        return [f"{call}, {way} ({self.kind}): {each}" for each in found]


@contextmanager
def swept(made: Installation) -> Iterator[None]:
    """What beats do for workers, more often."""
    leaving = threading.Event()

    def sweep_on() -> None:
        with Redis.from_url(made.redis_url) as client:
            sweep = Sweep(client, made.app.keys, made.app.runs, by="beat", timing=Timing(4.0))
            while not leaving.wait(0.2):
                seconds, micros = client.time()
                sweep.once(seconds + micros / 1e6)

    thread = threading.Thread(target=sweep_on)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    server = RedisServer()
    settings = {"CRONQ_JOBS": "tests.faults.rounds_jobs", "CRONQ_LOCK_TTL": "2s"}
    try:
        with installation(server.url, tmp_path_factory.mktemp("site"), **settings) as site, swept(site):
            load_scripts(site.client)
            with site.app.lock("any"):  # teaches the server the script of redis_lock
                pass
            yield site
    finally:
        server.stop()


@pytest.fixture(scope="module")
def posts(made: Installation) -> Iterator[list[Post]]:
    """A post for each of the workers; nothing has been started."""
    with ExitStack() as stack:
        found = []
        for number in range(RUNNING + COMING + 1):
            calls = Calls(made.client, mark=f"evalsha {EXCHANGE}")
            proxy = stack.enter_context(FaultProxy(made.redis_url, judge=calls.judge))
            found.append(Post(made, number, proxy, calls))
        yield found


def survive_all(
    posts: list[Post], cases: list[tuple[str, str]], survive: Callable[[Post, str, str], list[str]]
) -> list[str]:
    """Go through *cases*, as many at a time as there are posts; what was wrong, in words."""
    free = list(posts)

    def at_a_free_post(case: tuple[str, str]) -> list[str]:
        post = free.pop()
        try:
            return survive(post, *case)
        finally:
            free.append(post)

    with ThreadPoolExecutor(len(posts)) as pool:
        found = [wrong for each in pool.map(at_a_free_post, cases) for wrong in each]
    made, runs = posts[0].made, {run_id for post in posts for run_id in post.runs}
    ledger = [Entry(row.run_id, row.outcome, row.attempt) for row in map(made.row, runs)]
    lives = [life for life in read_lives(made.directory / "record") if life.run in runs]
    found += wrong_triggers(made.app, [post.job for post in posts if post.runs], child_name)
    return found + wrongs(ledger, lives, dict.fromkeys(runs, ("succeeded",)))


class Cast(NamedTuple):
    """The posts of one kind of worker, and what is to fail there."""

    posts: list[Post]
    names: list[str]
    cases: list[tuple[str, str]]


def casts(posts: list[Post], names_at: Callable[[Post], list[str]], most: int | None) -> list[Cast]:
    """For each kind of worker the cases of the calls that *names_at* finds at one of its posts.

    In a short test each kind has its share of them, *most* of all kinds together.
    """
    by_kind = [[post for post in posts if post.kind == kind] for kind in KINDS]
    with ThreadPoolExecutor(len(KINDS)) as pool:
        names = list(pool.map(lambda own: names_at(own[0]), by_kind))
    found = []
    for place, (own, called) in enumerate(zip(by_kind, names, strict=True)):
        chance = random.Random(f"{os.environ.get('CRONQ_TEST_SEED', '1')} {place}")
        cases = own[0].calls.cases(called, chance, None if LONG else MOST_WAYS)
        if not LONG:
            cases = cases[place :: len(KINDS)]
            if most is not None:
                cases = chance.sample(cases, most // len(KINDS))
        found.append(Cast(own, called, cases))
    return found


def survive_casts(found: list[Cast], survive: Callable[[Post, str, str], list[str]], what: str) -> Seen:
    with ThreadPoolExecutor(len(found)) as pool:
        wrong = [
            each for told in pool.map(lambda cast: survive_all(cast.posts, cast.cases, survive), found) for each in told
        ]
    figures = [
        f"{cast.posts[0].kind}: {len(cast.names)} calls of {what}, failed in {len(cast.cases)} ways: {cast.names}"
        for cast in found
    ]
    return Seen(wrong, "\n".join(figures))


def fail_calls_of_runs(posts: list[Post]) -> Seen:
    for post in posts:
        post.start()
    with ThreadPoolExecutor(len(posts)) as pool:
        list(pool.map(Post.is_ready, posts))
    found = casts(posts, Post.faultless_calls, None)
    for cast in found:
        cast.cases.reverse()  # heartbeats, which have to be waited for, first
    return survive_casts(found, Post.survive, "a worker")


def fail_calls_of_coming_and_going(posts: list[Post]) -> Seen:
    return survive_casts(
        casts(posts, Post.calls_of_coming_and_going, MOST_STARTS), Post.come_and_go, "coming and going"
    )


@pytest.fixture(scope="module")
def seen(posts: list[Post]) -> dict[str, Seen]:
    """Both at one time: they mostly wait."""
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(fail_calls_of_runs, posts[:RUNNING])
        coming = pool.submit(fail_calls_of_coming_and_going, posts[RUNNING:-1])
        return {"running": running.result(), "coming and going": coming.result()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["running", "coming and going"])
def test_a_run_is_executed_once_and_succeeds_whichever_call_of_its_worker_fails(
    made: Installation, seen: dict[str, Seen], name: str
) -> None:
    print(seen[name].figures)  # noqa: T201
    assert seen[name].wrongs == [], "\n".join(seen[name].wrongs)
    assert left_over(made) == []


#: What redis-py does now and then when its listening thread closes a dead connection at the same moment.
CANNOT_UNSUBSCRIBE = """
from redis.client import PubSub

def close(self):
    raise AttributeError("'NoneType' object has no attribute 'deregister_connect_callback'")

PubSub.close = close
"""


def test_a_worker_whose_subscription_does_not_end_leaves_in_order_all_the_same(posts: list[Post]) -> None:
    post = posts[-1]
    post.start(CANNOT_UNSUBSCRIBE)
    post.is_ready()

    post.worker.terminate()

    assert post.worker.exit_code() == 0, post.worker.log
    assert post.worker.pid not in [worker.pid for worker in post.made.app.workers()[0]]


def left_over(made: Installation) -> list[str]:
    """What runs have left behind that should be gone with them, in words."""
    keys, client = made.app.keys, made.client
    served = [f"rq:queue:{queue}" for number in range(RUNNING + COMING) for queue in queues(number)]
    lists = [key for queue in served for key in (queue, f"{queue}:intermediate")]
    wips = [queue.replace("queue", "wip") for queue in served]
    actives = [keys.active(exclusive_name(number)) for number in range(RUNNING + COMING)]
    found = [f"{key} is not empty" for key in (*lists, *wips, *actives, keys.running) if client.exists(key)]
    return found + [f"{key} lives for ever" for key in immortals(client, have_jobs=True)]
