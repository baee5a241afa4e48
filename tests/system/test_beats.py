"""Many beats, killed, suspended and on wrong clocks, while jobs come and go: each tick once. Real processes.

Figures are printed: `pytest -rP tests/system/test_beats.py`.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import make_spec
from cronq.runs.run import Run
from tests.run_ids import run_id_of
from tests.system.ledger import faults, faults_of_queue, read_book, server_s
from tests.system.processes import CronqProcess, Processes, until

#: Jobs that are due every second, each tick of which has to run.
MANY_JOBS = """
from cronq import job

def work(): ...

for number in range({count}):
    job(name=f"job-{{number}}", every="1s", catchup="all", overlap="allow")(work)
"""


@pytest.fixture
def app(redis_url: str, redis: Redis) -> Cronq:
    return Cronq(config=Config(url=redis_url, host_id="test"), registry=Registry(), client=redis)


@pytest.fixture
def processes(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    with Processes(redis_url, tmp_path) as started:
        yield started


def tell(figures: str) -> None:
    sys.stdout.write(figures + "\n")


def define_many(processes: Processes, count: int) -> list[str]:
    processes.write_module("jobs", MANY_JOBS.format(count=count))
    return [f"job-{number}" for number in range(count)]


def until_decided(app: Cronq, names: list[str], tick: float, within_s: float = 60.0) -> None:
    """Wait until all ticks of these jobs up to *tick* are in the ledger."""
    until(lambda: all((app.jobs.mark_of(name) or 0) >= tick for name in names), within_s, f"the ticks up to {tick}")


def end(beats: list[CronqProcess]) -> None:
    for beat in beats:
        beat.wait_for_line("START-UP")
        beat.terminate()
    assert [beat.exit_code() for beat in beats] == [0] * len(beats)


def wait_for_next_second(within_it_s: float) -> None:
    """Until *within_it_s* after the next whole second, when ticks are being claimed."""
    now = time.time()
    time.sleep(int(now) + 1 + within_it_s - now)


# Killed


def start_interleaved(processes: Processes) -> CronqProcess:
    """A beat that claims three ticks a round trip, so that many are under way at once and a kill meets it half-way."""
    return processes.start("beat", "jobs", CRONQ_BATCH="3")


def kill_and_restart(processes: Processes, beats: list[CronqProcess], chance: random.Random, until_s: float) -> int:
    """Kill beats at moments drawn from *chance*, half of them just when ticks fall due; how many."""
    killed = 0
    while time.time() < until_s:
        if chance.random() < 0.5:
            wait_for_next_second(chance.uniform(0, 0.04))
        else:
            time.sleep(chance.uniform(0.1, 0.9))
        victim = chance.randrange(len(beats))
        beats[victim].kill9()
        beats[victim] = start_interleaved(processes)
        killed += 1
    return killed


@pytest.mark.parametrize("count", [2, 3, 8])
def test_beats_that_are_killed_and_restarted_queue_each_tick_once(app: Cronq, processes: Processes, count: int) -> None:
    names = define_many(processes, 30)
    beats = [start_interleaved(processes) for _ in range(count)]
    until_decided(app, names, 1)

    begun = int(server_s(app.client))
    killed = kill_and_restart(processes, beats, random.Random(count), begun + 8)
    until_decided(app, names, begun + 8)
    end(beats)

    book = read_book(app, names)
    assert faults(book) == []
    assert book.size >= 200
    assert len(book.queue) == book.size
    claimed_by = {row.decided_by for rows in book.rows.values() for _, row in rows if row is not None}
    tell(f"{count} beats, {killed} kills: {book.size} ticks, each once, claimed by {len(claimed_by)} processes")


def doubled(app: Cronq, run_id: str) -> None:
    app.client.rpush("rq:queue:default", run_id)


def doubled_and_half_done(app: Cronq, run_id: str) -> None:
    """A second run was started at once, so the queue looks right again."""
    app.client.xadd(app.keys.events, {"type": "queued", "job": "job-0", "run": run_id})


def missing(app: Cronq, run_id: str) -> None:
    app.client.zrem(app.keys.runs("job-0"), run_id)
    app.client.lrem("rq:queue:default", 0, run_id)


def claimed_and_not_queued(app: Cronq, run_id: str) -> None:
    app.client.lrem("rq:queue:default", 0, run_id)


def queued_and_not_claimed(app: Cronq, run_id: str) -> None:
    app.client.delete(app.keys.run(run_id))


def without_rq_job(app: Cronq, run_id: str) -> None:
    app.client.delete(f"rq:job:{run_id}")


def twice_under_two_names(app: Cronq, run_id: str) -> None:
    score = app.client.zscore(app.keys.runs("job-0"), run_id)
    assert score is not None
    app.client.copy(app.keys.run(run_id), app.keys.run("job-0-again"))
    app.client.zadd(app.keys.runs("job-0"), {"job-0-again": score})


@pytest.mark.parametrize(
    "damage",
    [
        doubled, doubled_and_half_done, missing, claimed_and_not_queued, queued_and_not_claimed, without_rq_job,
        twice_under_two_names,
    ],
)  # fmt: skip
def test_what_these_tests_look_for_would_be_found(app: Cronq, damage: Callable[[Cronq, str], None]) -> None:
    now = int(server_s(app.client))
    spec = make_spec("job-0", command=["true"], every="1s", catchup="all", overlap="allow")
    app.jobs.save(spec, source="here:1", origin="test", expected="", mark=now - 5, next_tick=now - 4)
    app.beat().pass_once(now_s=now + 0.1)
    assert faults(read_book(app, ["job-0"])) == []

    damage(app, run_id_of("job-0", now - 2))

    assert faults(read_book(app, ["job-0"])) != []


# Suspended


def test_a_beat_that_was_suspended_beyond_every_dedup_key_fires_nothing_again(app: Cronq, processes: Processes) -> None:
    names = define_many(processes, 25)
    # One tick a round trip, so that it is caught with ticks that it has decided and not yet claimed.
    slow = processes.start("beat", "jobs", CRONQ_BATCH="1", CRONQ_LOG_LEVEL="debug")
    steady = processes.start("beat", "jobs")
    for beat in (slow, steady):
        beat.wait_for_line("START-UP")
    until_decided(app, names, 1)
    chance = random.Random(5)

    for _ in range(3):
        wait_for_next_second(chance.uniform(0.0, 0.04))
        slow.suspend()
        until_decided(app, names, server_s(app.client) + 1)
        for key in app.client.scan_iter(f"{app.keys.prefix}:dedup:*", count=1000):
            app.client.delete(key)
        slow.resume()
    until_decided(app, names, server_s(app.client) + 1)
    end([slow, steady])

    book = read_book(app, names)
    assert faults(book) == []
    assert len(book.queue) == book.size
    late = len(slow.lines(" OLD ")) + len(slow.lines(" TAKEN "))
    tell(f"suspended 3 times: {book.size} ticks, each once; {late} that it tried were another's")


# Wrong clocks


def test_beats_on_hosts_with_wrong_clocks_are_as_good_as_right_ones(app: Cronq, processes: Processes) -> None:
    names = define_many(processes, 5)
    shifts = {"behind": -3600.0, "right": 0.0, "ahead": 3600.0}
    begun = server_s(app.client)
    beats = {
        host: processes.start("beat", "jobs", clock_shift_s=shift, CRONQ_HOST_ID=host) for host, shift in shifts.items()
    }
    for host, beat in beats.items():
        beat.wait_for_line("START-UP")
        assert bool(beat.lines("CLOCK this host's clock differs from Redis by")) == (host != "right")
    until(lambda: len(app.beats()[0]) == 3, what="a heartbeat of each")

    for host in ("behind", "ahead"):  # each of them alone for a while
        for other in beats:
            (beats[other].resume if other == host else beats[other].suspend)()
        until_decided(app, names, server_s(app.client) + 2)
    for beat in beats.values():
        beat.resume()
    until_decided(app, names, server_s(app.client) + 1)

    offsets = {row["host"]: row["clock_offset_s"] for row in json.loads(processes.run("beats", "--json").output)}
    check = processes.run("check", "clock")
    end(list(beats.values()))
    book = read_book(app, names)
    rows = [row for rows in book.rows.values() for _, row in rows if row is not None]
    lateness = [row.queued_at - row.tick for row in rows if row.queued_at is not None and row.tick is not None]
    assert faults(book) == []
    assert len(book.queue) == book.size == len(lateness)
    assert min(row.tick or 0 for row in rows) > begun
    assert min(lateness) >= 0
    assert max(lateness) < 30
    won = Counter((row.decided_by or "").split()[-1].split(".")[0] for row in rows)
    assert won["behind"] >= len(names)
    assert won["ahead"] >= len(names)
    assert offsets == {host: pytest.approx(shift, abs=5) for host, shift in shifts.items()}
    assert check.exit_code() == 1
    assert check.output.startswith("CRONQ WARNING - the clock of ")
    assert "differs from Redis by" in check.output
    tell(f"{book.size} ticks, each once, at most {max(lateness):.2f} s late; claimed by {dict(won)}; {check.output}")


# Jobs that come and go


@dataclass
class Life:
    """What is known of one job: changes as (begun, done, schedule in seconds or None when gone, whether paused)."""

    name: str
    changes: list[tuple[float, float, int | None, bool]] = field(default_factory=list)

    @property
    def step_s(self) -> int | None:
        return self.changes[-1][2] if self.changes else None

    @property
    def is_paused(self) -> bool:
        return bool(self.changes) and self.changes[-1][3]

    def spans(self, until_s: float) -> Iterator[tuple[float, float, int | None, bool]]:
        """From the end of one change to the beginning of the next it is certain what the job was."""
        yield 0.0, self.changes[0][0], None, False
        begins = [begun for begun, *_ in self.changes[1:]] + [until_s]
        for (_, done, step_s, is_paused), begun in zip(self.changes, begins, strict=True):
            yield done, begun, step_s, is_paused


def change_at_random(app: Cronq, lives: list[Life], chance: random.Random, until_s: float) -> None:
    """What people do to jobs, one after the other."""
    while time.time() < until_s:
        life = chance.choice(lives)
        step_s, is_paused = life.step_s, life.is_paused
        what = chance.choice(["edit", "edit", "pause", "resume", "resume", "remove"]) if step_s else "add"
        begun = server_s(app.client)
        if what in ("add", "edit"):
            step_s = {None: 1, 1: 2, 2: 1}[step_s]
            app.add(life.name, every=step_s, catchup="all", overlap="allow", command=["true"])
        elif what == "pause":
            app.pause(life.name)
            is_paused = True
        elif what == "resume":
            app.resume(life.name)
            is_paused = False
        else:
            app.remove(life.name)
            step_s, is_paused = None, False
        life.changes.append((begun, server_s(app.client), step_s, is_paused))
        time.sleep(chance.uniform(0, 0.1))


def wrongs(life: Life, rows: dict[int, Run], until_s: float) -> tuple[list[str], int]:
    """What the ledger of a job has and should not, or lacks, in words; and how many ticks were looked at."""
    found, seen = [], 0
    for begin, finish, step_s, is_paused in life.spans(until_s):
        for tick in [tick for tick in rows if begin < tick < finish and (step_s is None or tick % step_s)]:
            found.append(f"{rows[tick].run_id} is in the ledger and was not due: {life.changes}")
        for tick in range(int(begin) + 1, int(finish) + 1) if step_s else ():
            if tick >= finish or tick % step_s:
                continue
            seen += 1
            row = rows.get(tick)
            outcome = row and (row.outcome or row.state)
            changed = outcome == "missed" and row is not None and "before a beat took it" in (row.reason or "")
            if outcome not in (["paused"] if is_paused else ["queued", "stopped"]) and not (changed and not is_paused):
                found.append(f"{run_id_of(life.name, tick)} should be there, paused: {is_paused}, and is {row}")
    return found, seen


def test_jobs_that_are_added_edited_paused_resumed_and_removed_under_running_beats(
    app: Cronq, processes: Processes
) -> None:
    beats = [processes.start("beat") for _ in range(3)]
    for beat in beats:
        beat.wait_for_line("START-UP")
    lives = [Life(f"job-{number}") for number in range(50)]
    until_s = time.time() + 10
    people = [
        threading.Thread(target=change_at_random, args=(app, lives[number::2], random.Random(number), until_s))
        for number in range(2)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    present = [life.name for life in lives if life.step_s]
    ended = int(server_s(app.client)) + 2
    until_decided(app, present, ended - 1)
    end(beats)

    book = read_book(app, [life.name for life in lives])
    assert faults_of_queue(book) == []
    found, seen = [], 0
    for life in lives:
        rows = {tick: row for tick, row in book.rows[life.name] if row is not None}
        assert len(rows) == len(book.rows[life.name])
        if life.changes:
            wrong, looked_at = wrongs(life, rows, ended - 1)
            found += wrong
            seen += looked_at
    assert found == []
    assert seen >= 100
    assert sorted(app.client.zrange(app.keys.agenda, 0, -1)) == sorted(name.encode() for name in present)
    assert app.jobs.names() == sorted(present)
    states = {key.decode().split(":")[2]: app.client.ttl(key) for key in app.client.scan_iter("cronq:job:*:state")}
    assert {name for name, ttl_s in states.items() if ttl_s == -1} == set(present), "others keep a mark for a while"
    count = sum(len(life.changes) for life in lives)
    tell(f"{count} changes of {len(lives)} jobs: {seen} ticks of which it is certain what they had to be, and are")


# At rest


def test_an_idle_beat_asks_redis_at_most_twice_a_second(app: Cronq, processes: Processes) -> None:
    spec = make_spec("job-0", command=["true"], cron="0 0 1 1 *")
    for number in range(2000):
        app.client.sadd(app.keys.jobs, f"job-{number}")
    now = int(server_s(app.client))
    assert spec.schedule is not None
    for number in range(2000):
        yearly = make_spec(f"job-{number}", command=["true"], cron="0 0 1 1 *")
        following = spec.schedule.next_after(now)
        app.jobs.save(yearly, source="here:1", origin="test", expected="", mark=now, next_tick=following)
    beat = processes.start("beat")
    beat.wait_for_line("START-UP")
    until(lambda: app.beats()[0], what="a heartbeat")

    # Each command, script or pipeline that arrives is one read of a socket by the server.
    def is_at_rest() -> bool:
        before = app.client.info("stats")["total_reads_processed"]
        time.sleep(0.5)
        return bool(app.client.info("stats")["total_reads_processed"] - 1 - before <= 1)

    until(is_at_rest, what="the end of all that a beat does first")
    begun, reads = time.monotonic(), app.client.info("stats")["total_reads_processed"]
    time.sleep(8)
    after = app.client.info("stats")["total_reads_processed"] - 1  # the one of this INFO itself
    span = time.monotonic() - begun

    assert beat.is_running
    assert 0.5 * span <= after - reads <= 2.0 * span + 3
    tell(f"2,000 idle jobs: {(after - reads) / span:.2f} round trips a second")
