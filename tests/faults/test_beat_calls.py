"""Each call that a beat makes fails once in each way, and nothing is lost or doubled by it.

The calls are found by counting those of a faultless beat, so that new ones are failed without being listed here.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cronq.app.app import Cronq
from cronq.beat.sweep import Sweep
from cronq.clock import ServerClock
from cronq.config import Config
from cronq.jobs.registry import Definition, Registry
from cronq.jobs.spec import make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.dependencies import Need
from cronq.runs.due import Decision
from cronq.runs.retry import next_retry
from cronq.runs.run import Ending, Settlement, Start
from cronq.runs.store import RETRYING
from tests.faults.calls import Calls
from tests.faults.proxy import FaultProxy
from tests.redis.conftest import work
from tests.run_ids import run_id_of

LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
DAY = 86400
TIMEOUT_S = 0.1
PASSES = 12
#: In a short test, how many of the calls of one name are failed (a beat makes the same ones in every pass), and
#: in how many ways.
EACH, MOST_WAYS = 2, 3


SWEEP_ONCE = Sweep.once


class PatientClock(ServerClock):
    """A boot clock and a server's time that go on by themselves, and at once over what the beat would sleep."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_s = 0.0
        self.sleeps = 0

    def now_s(self) -> float:
        return super().now_s() + self._ahead_s

    def boot_s(self) -> float:
        return time.monotonic() + self._ahead_s

    def rest(self, seconds: float, stop: threading.Event) -> bool:
        """Takes the place of `cronq.clock.rest`; ends the beat after some passes."""
        self.sleeps += 1
        self._ahead_s += max(seconds, 0.0)
        if self.sleeps > PASSES:
            stop.set()
        return stop.is_set()


class Journal(logging.Handler):
    """What cronq logs at the level of errors with a traceback: nothing may."""

    def __init__(self) -> None:
        super().__init__()
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.tracebacks.append(self.format(record))


@pytest.fixture
def journal() -> Iterator[Journal]:
    handler = Journal()
    logger = logging.getLogger("cronq")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


class Scene:
    """A Redis in which a beat finds something of everything to do."""

    def __init__(self, client: Redis) -> None:
        client.flushall()
        self.client = client
        self.app = Cronq(config=Config(host_id="box"), registry=Registry(), client=client)
        self.midnight = int(client.time()[0]) // DAY * DAY
        self.ticks = [self.midnight - DAY, self.midnight]
        self._save("due", every="1d", catchup="all", window="10d", overlap="allow", mark=self.ticks[0] - 1)
        self._save("astray", every="1d", mark=self.midnight)
        client.zrem(self.app.keys.agenda, "astray")
        self._save("unmade", every="1d", mark=self.midnight)
        client.delete(self.app.keys.template("unmade"))
        self._save("by-hand")
        self._save("exclusive", exclusive=True)
        self._save("failing", retries=1)
        self.popped = self.app.enqueue("by-hand")
        client.lmove("rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT")
        self.gone = self.app.enqueue("by-hand")
        self._vanish(self.gone)
        self.waiter = self.app.enqueue("exclusive")
        client.lpop("rq:queue:default")
        self.app.runs.park(self.app.runs.get(self.waiter), "exclusive", self.app.now_s())
        self.behind = self._wait_behind("queueing")
        self._wait_for_parents()
        self.tried = self.app.enqueue("failing")
        self._fail(self.tried)
        client.xtrim(self.app.keys.events, 0)  # what follows is told by the beat
        client.delete(self.app.keys.epoch)  # the beat has to restore what its code defines

    def _save(self, name: str, mark: int | None = None, **options: Any) -> None:
        spec = make_spec(name, function=f"{work.__module__}:work", **options)
        following = spec.schedule.next_after(mark) if spec.schedule is not None and mark is not None else None
        self.app.jobs.save(
            spec, source="here:1", origin="test", expected="", mark=mark or self.midnight, next_tick=following
        )

    def _vanish(self, run_id: str) -> None:
        """Let *run_id* begin, and its worker fall silent."""
        self.client.lpop("rq:queue:default")
        now_s = self.app.now_s() - 3600
        run = self.app.runs.get(run_id)
        self.app.runs.start(run, Start(worker="w", host="box", pid=1, execution="e", lease_s=90, now_s=now_s))

    def _wait_behind(self, name: str) -> str:
        """Let a run of *name* wait behind another, whose row is gone then."""
        self._save(name, every="1d", overlap="queue", mark=self.ticks[0] - 1)
        spec, version = self.app.jobs.get(name).spec, self.app.jobs.version_of(name)
        for tick in self.ticks:
            due = TickClaim(spec, version, Decision(tick, None, "due", "schedule", tick + DAY))
            self.app.claimer("b").claim_due([due], f"t{tick}", float(tick))
        gone, waits = (run_id_of(name, tick) for tick in self.ticks)
        self.client.lrem("rq:queue:default", 0, gone)
        self.client.delete(self.app.keys.run(gone))
        return waits

    def _wait_for_parents(self) -> None:
        """A run waits for a parent that was settled by who knows no gates; a job is still to run after its parent."""
        self._save("parent", every="1d", mark=self.midnight)
        self._save("gated", every="1d", depends_on="parent", mark=self.ticks[0] - 1)
        spec, version = self.app.jobs.get("gated").spec, self.app.jobs.version_of("gated")
        need = Need("parent", self.ticks[0], " of then", run_id_of("parent", self.ticks[0]))
        due = Decision(self.ticks[1], None, "due", "schedule", self.ticks[1] + DAY)
        self.app.claimer("b").claim_due([TickClaim(spec, version, due, (need,))], "gated", float(self.ticks[1]))
        self.gated = run_id_of("gated", self.ticks[1])
        assert self.app.runs.get(self.gated).state == "waiting"
        self._save("following", after="parent")
        state = self.app.keys.state("parent")
        self.client.hset(state, mapping={"success_tick": self.midnight, "successes": 1, "endings": 1})
        self.client.sadd(self.app.keys.untriggered, "following")

    def _fail(self, run_id: str) -> None:
        """Let the first attempt of *run_id* fail; its next one is due by now."""
        self.client.rpop("rq:queue:default")
        now_s = self.app.now_s() - 3600
        start = Start(worker="w", host="box", pid=1, execution="f", lease_s=90, now_s=now_s)
        self.app.runs.start(self.app.runs.get(run_id), start)
        retry = next_retry(self.app.jobs.get("failing").spec, "failed", 0, run_id=run_id, attempt=1)
        ending = Ending(Settlement("failed", "why"), "w", now_s, attempt=1, execution="f", retry=retry)
        assert self.app.runs.end(self.app.runs.get(run_id), ending) == RETRYING

    def pass_by(self, url: str, clock: PatientClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run a beat behind *url* until it has had time for everything."""
        monkeypatch.setattr("cronq.beat.chores.boot_s", clock.boot_s)
        monkeypatch.setattr("cronq.beat.beat.rest", clock.rest)
        monkeypatch.setattr("cronq.beat.sweep.boot_s", clock.boot_s)
        monkeypatch.setattr("cronq.beat.sweep._JUMP_S", float("inf"))  # time passes here, not for the server
        monkeypatch.setattr(Sweep, "once", lambda sweep: SWEEP_ONCE(sweep, clock.now_s()))
        with Redis.from_url(url, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)) as client:
            registry = Registry()
            spec = make_spec("defined", function=f"{work.__module__}:work", every="1d")
            registry.add(Definition(spec, "jobs.py:3", "jobs", work))
            config = Config(host_id="box", lost_after=3.0, batch=1)
            beat = Cronq(config=config, registry=registry, client=client).beat()
            beat.clock = clock
            beat.run(threading.Event())

    def wrongs(self) -> list[str]:
        """What was lost or doubled, in words."""
        due = [run_id_of("due", tick) for tick in self.ticks]
        started = [run.run_id for run in self.app.history("following")]
        run_ids = (*due, self.popped, self.gone, self.waiter, self.behind, self.tried, self.gated, *started)
        rows = {run_id: self.app.runs.find(run_id) for run_id in run_ids}
        queued = [run_id for run_id in rows if run_id != self.gone]
        found = [] if len(started) == 1 else [f"the job after its parent was started as {started}"]
        found += [f"{run_id} has no row" for run_id, row in rows.items() if row is None]
        found += [f"{run_id} is {rows[run_id]}" for run_id in queued if (row := rows[run_id]) and row.state != "queued"]
        gone = rows[self.gone]
        if gone is None or gone.outcome != "lost":
            found.append(f"the run of a worker that vanished is {gone}")
        on_queue = Counter(run_id.decode() for run_id in self.client.lrange("rq:queue:default", 0, -1))
        if on_queue != Counter(queued):
            found.append(f"on the queue are {on_queue}, not {queued}")
        if self.client.exists("rq:queue:default:intermediate"):
            found.append("something is still in the list of what was popped")
        marks = {name: self.app.jobs.mark_of(name) for name in ("due", "defined")}
        if marks["due"] != self.midnight or marks["defined"] is None:
            found.append(f"marks: {marks}")
        events = Counter(
            (fields[b"type"].decode(), fields[b"run"].decode())
            for _, fields in self.client.xrange(self.app.keys.events) if b"run" in fields
        )  # fmt: skip
        found += [f"{event} was told {times} times" for event, times in events.items() if times > 1]
        scheduled = {name.decode() for name in self.client.zrange(self.app.keys.agenda, 0, -1)}
        if scheduled != {"due", "astray", "unmade", "defined", "queueing", "parent", "gated"}:
            found.append(f"on the agenda are {scheduled}")
        if not self.client.exists(self.app.keys.template("unmade")):
            found.append("the template was not made again")
        if not self.client.exists(self.app.keys.epoch):
            found.append("there is no epoch")
        if self.client.hlen(self.app.keys.beats):
            found.append("the beat did not say good-bye")
        return found


def test_a_beat_loses_and_doubles_nothing_whichever_of_its_calls_fails(
    redis: Redis, redis_url: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(redis)
    found: list[str] = []
    with FaultProxy(redis_url, judge=calls.judge) as proxy:
        # Twice: to the first beat the server does not know the scripts.
        for _ in range(2):
            scene = Scene(redis)
            calls.begin()
            scene.pass_by(proxy.url, PatientClock(), monkeypatch)
            assert scene.wrongs() == []
        made = [call for call in calls.begin() if LONG or int(call.rpartition("#")[2]) <= EACH]
        chance = random.Random(os.environ.get("CRONQ_TEST_SEED", "1"))
        cases = calls.cases(made, chance, None if LONG else MOST_WAYS)

        for call, way in cases:
            scene = Scene(redis)
            calls.begin()
            failed = calls.fail(call, way)
            scene.pass_by(proxy.url, PatientClock(), monkeypatch)
            if not failed.is_set():
                calls.disarm()
                found.append(f"{call}: was not made this time")
            # What is said at the end is not said again.
            excused = "the beat did not say good-bye" if call.startswith("hdel cronq:beats") else ""
            found += [f"{call}, {way}: {wrong}" for wrong in scene.wrongs() if wrong != excused]
            found += [f"{call}, {way}: {traceback}" for traceback in journal.tracebacks]
            journal.tracebacks.clear()

    assert found == [], "\n".join(found)
    print(f"{len(made)} calls of a beat, failed in {len(cases)} ways")  # noqa: T201
