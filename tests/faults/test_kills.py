"""Workers killed at every step of a run, from the pop to its end: each run ends once, as its `on_lost` says.

Many rounds go on at a time, each with a worker process of its own on three queues behind a proxy that keeps it at the
step at which it is to die. Some of these processes have four workers, three of which are at work on other runs when
that happens: those must not notice the death of a child or a watchdog that is not theirs. Figures are printed:
`pytest -rP tests/faults/test_kills.py`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import RedisServer
from tests.faults.calls import EXCHANGE, load_scripts, sha_of
from tests.faults.leftovers import immortals
from tests.faults.proxy import ANSWER, IN_ANSWER, REQUEST, FaultProxy, Hold
from tests.faults.rounds_jobs import (
    HAS_RERUN,
    KINDS,
    NEIGHBOURS,
    PRIORITIES,
    ROUNDS,
    RULES,
    Kind,
    child_name,
    job_name,
    kinds_in_words,
    neighbour_name,
    queues,
)
from tests.faults.witness import Entry, Life, Record, now_s, wrong_triggers, wrongs
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation, is_alive, parent_of

LONG = os.environ.get("CRONQ_LONG_TESTS") == "1"
LOST_AFTER_S = 3.0
#: What a lost run may take to be settled; and what is left to a busy machine.
WITHIN_S, MARGIN_S = LOST_AFTER_S + 5.0, 10.0

#: The steps of a run, with what the ledger says of it there. Most runs are started in the step that takes them, the odd
#: ones of these rounds in one of their own.
STATES = {
    "offered": "queued", "taken and started": "running", "popped": "queued", "before the start": "queued",
    "started": "running", "at work": "running", "before the outcome": "running", "settled": "done",
}  # fmt: skip
ODD = ("popped", "before the start", "started")
ANY_MOMENT = "any moment"
#: Who dies. A step has a guardian and its watchdog always, a child only at work.
GUARDIAN, WATCHDOG, CHILD = "guardian", "watchdog", "child"
#: It is not killed, it stands still until its run is settled; its child works on meanwhile, unless that is ended.
STILL = "guardian that stands still"
PARENTS = [(GUARDIAN,), (WATCHDOG,), (GUARDIAN, WATCHDOG)]
WITH_CHILD = [(CHILD,), (GUARDIAN, CHILD), (GUARDIAN, WATCHDOG, CHILD)]
CASES = [(step, who) for step in STATES for who in PARENTS] + [("at work", who) for who in [*WITH_CHILD, (STILL,)]]
BODY_S, LONG_BODY_S = 0.3, LOST_AFTER_S + 7
#: Of one that is to be met at work: it must not be over before the blow falls, on a busy machine either.
MET_BODY_S = 2.0
#: Of the runs beside it, which are at work from before that until after the death.
NEIGHBOUR_BODY_S = 5.0


def tell(figures: str) -> None:
    print(figures)  # noqa: T201


@dataclass
class Round:
    """One worker, one run, one death."""

    number: int
    step: str
    victims: tuple[str, ...]
    on_lost: str
    chance: random.Random
    kind: Kind
    run_id: str = ""
    state: str = ""  #: of its row when it was met
    died_at: float = 0.0
    settled_at: float = 0.0
    pids: set[int] = field(default_factory=set)
    neighbours: list[str] = field(default_factory=list)
    spared: list[int] = field(default_factory=list)  #: pids of the children of these

    def __str__(self) -> str:
        hit = f"{' and '.join(self.victims)} hit: {self.step}"
        return f"{self.run_id} ({hit}, on_lost {self.on_lost}, {self.kind})"

    @property
    def body_s(self) -> float:
        if self.victims == (STILL,):
            return LONG_BODY_S
        return MET_BODY_S if self.step == "at work" else BODY_S

    @property
    def expected(self) -> tuple[str, ...]:
        """The outcomes that this death may have."""
        lost = "lost" if self.on_lost == "fail" else "succeeded"
        if self.step == ANY_MOMENT:
            return ("succeeded", lost, *(["failed"] if self.victims == (CHILD,) else []))
        if self.step in ("offered", "popped", "before the start", "settled"):  # it has not begun, or is over
            return ("succeeded",)
        if self.victims == (CHILD,):
            return ("failed",)  # ended by a signal: the body's own end, and no worker vanished
        if self.victims == (WATCHDOG,) and self.step != "at work":  # there is no child, and the guardian lives
            return ("succeeded",)
        if self.victims == (STILL,):  # awake again it says how the body ended, unless others have begun it anew
            return ("succeeded", lost)
        return (lost,)


class Arena:
    """The installation of these rounds: beats, workers behind proxies, and workers that take over."""

    def __init__(self, made: Installation) -> None:
        self.made = made
        self.record = Record(made.directory / "record")

    def lives(self, run_id: str) -> list[Life]:
        return [life for life in self.record.lives() if life.run == run_id]

    def play(self, rounds: list[Round]) -> list[str]:
        """Play *rounds* at one time; all that was wrong, in words."""
        with ExitStack() as stack:
            proxies = [stack.enter_context(FaultProxy(self.made.redis_url)) for _ in rounds]
            started = [self._start(each, proxy) for each, proxy in zip(rounds, proxies, strict=True)]
            workers = [self.made.ready(worker) for worker in started]
            with ThreadPoolExecutor(len(rounds)) as pool:
                list(pool.map(self._die, rounds, workers, proxies))
                every = [name for each in rounds for name in queues(each.number)]
                rescuers = [self.made.start("worker", "-n", str(ROUNDS // 2), *every) for _ in range(2)]
                list(pool.map(self._settles, rounds, workers))
            alive = [worker for worker in workers if worker.is_running]
            for process in (*alive, *rescuers):
                process.terminate()
            for process in (*alive, *rescuers):
                process.exit_code()
        return self._wrongs(rounds, workers)

    def _start(self, each: Round, proxy: FaultProxy) -> CronqProcess:
        isolation, children = each.kind
        words = ("-n", str(children), *queues(each.number))
        return self.made.start("worker", *words, CRONQ_REDIS_URL=proxy.url, CRONQ_ISOLATION=isolation)

    def _surround(self, each: Round) -> None:
        """Have other runs at work in the same process."""
        if each.kind.children > 1:
            each.neighbours = [
                self.made.enqueue(neighbour_name(each.number, place), NEIGHBOUR_BODY_S) for place in range(NEIGHBOURS)
            ]
            for run_id in each.neighbours:
                begun = until(lambda: self.lives(run_id), what=lambda: f"a neighbour of {each} begins")  # noqa: B023
                each.spared.append(begun[0].pid)

    def _die(self, each: Round, worker: CronqProcess, proxy: FaultProxy) -> None:
        self._surround(each)
        hold = prepare(each.step, proxy)
        priority = each.chance.choice(PRIORITIES)
        enqueue = self.made.enqueue_odd if each.step in ODD else self.made.enqueue
        each.run_id = enqueue(job_name(each.number, each.on_lost, priority), each.body_s)
        meet(self, each, hold)
        each.state = self.made.row(each.run_id).state
        if each.victims == (STILL,):
            worker.suspend()
        for pid in find(worker, each.victims, each.spared):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it was just ending
                continue
            each.pids.add(pid)
        each.died_at = now_s()
        if GUARDIAN in each.victims:
            worker.exit_code()
            if hold is not None:
                hold.discard()
        elif hold is not None:
            until(lambda: not any(map(is_alive, each.pids)), what="their death")
            hold.release()

    def _settles(self, each: Round, worker: CronqProcess) -> None:
        self.made.settles(each.run_id, 60)
        each.settled_at = now_s()
        if each.victims == (STILL,):
            worker.resume()
        for run_id in each.neighbours:
            self.made.settles(run_id, 60)

    def _wrongs(self, rounds: list[Round], workers: list[CronqProcess]) -> list[str]:
        rows = [self.made.row(each.run_id) for each in rounds]
        ledger = [Entry(row.run_id, row.outcome, row.attempt) for row in rows]
        mine = {each.run_id: each for each in rounds}
        lives = [life for life in self.record.lives() if life.run in mine]
        found = wrongs(ledger, lives, {run_id: each.expected for run_id, each in mine.items()})
        found += self._wrongs_of_neighbours(rounds)
        for each, worker in zip(rounds, workers, strict=True):
            if each.state != STATES.get(each.step, each.state):
                found.append(f"{each}: it was {each.state} there")
            if GUARDIAN not in each.victims and worker.exit_code() != 0:
                found.append(f"{each}: its worker ended:\n{worker.log}")
            took_s = each.settled_at - each.died_at
            if took_s > WITHIN_S + MARGIN_S + each.body_s:
                found.append(f"{each}: settled after {took_s:.1f} s")
        client = self.made.client
        for each in rounds:
            for queue in queues(each.number):
                left = client.lrange(f"rq:queue:{queue}", 0, -1) + client.lrange(
                    f"rq:queue:{queue}:intermediate", 0, -1
                )
                found += [f"{run_id!r} is still in {queue}" for run_id in left]
        found += [f"{run_id!r} counts as running" for run_id in client.zrange(self.made.app.keys.running, 0, -1)]
        found += wrong_triggers(self.made.app, [row.job for row in rows], child_name)
        found += [f"{key} lives for ever" for key in immortals(client, have_jobs=True)]
        return [f"{each} [{self._round_of(each, mine)}]" for each in found]

    def _wrongs_of_neighbours(self, rounds: list[Round]) -> list[str]:
        """The runs beside those of the rounds: begun anew if their guardian was hit, else as if nothing had been."""
        found = []
        for each in rounds:
            rows = [self.made.row(run_id) for run_id in each.neighbours]
            lives = [life for run_id in each.neighbours for life in self.lives(run_id)]
            ledger = [Entry(row.run_id, row.outcome, row.attempt) for row in rows]
            told = wrongs(ledger, lives, dict.fromkeys(each.neighbours, ("succeeded",)))
            if GUARDIAN not in each.victims and STILL not in each.victims:
                told += [f"{row.run_id} is at attempt {row.attempt}" for row in rows if row.attempt != 1]
            found += [f"beside {each.run_id}: {words}" for words in told]
        return found

    @staticmethod
    def _round_of(words: str, mine: dict[str, Round]) -> str:
        return "; ".join(str(each) for run_id, each in mine.items() if run_id in words)


def prepare(step: str, proxy: FaultProxy) -> Hold | None:
    """Have the worker kept at *step*, where a request or an answer marks it."""
    needles = {
        "offered": (sha_of(EXCHANGE), REQUEST),
        # Only an answer to an offer holds the id of a run that was asked for.
        "taken and started": (b"-m", IN_ANSWER),
        "popped": (b"-m", IN_ANSWER),
        "before the start": (sha_of("runs/start"), REQUEST),
        "started": (sha_of("runs/start"), ANSWER),
        "before the outcome": (b'"outcome"', REQUEST),
        "settled": (b'"outcome"', ANSWER),
    }
    return proxy.hold(*needles[step]) if step in needles else None


def meet(arena: Arena, each: Round, hold: Hold | None) -> None:
    """Wait until the worker is where it is to die."""
    if hold is not None:
        assert hold.reached.wait(30), f"{each} did not get there:\n{arena.made.logs}"
    elif each.step == "at work":
        until(lambda: arena.lives(each.run_id), what=lambda: f"{each} begins:\n{arena.made.logs}")
    else:
        time.sleep(each.chance.uniform(0, 0.6))


def find(worker: CronqProcess, victims: tuple[str, ...], spare: Collection[int]) -> list[int]:
    """The pids of a worker, its watchdogs and its children, those of *victims* that are there.

    Children with a pid of *spare* are none of them, nor are their watchdogs.
    """
    found: dict[str, list[int]] = {GUARDIAN: [worker.pid], WATCHDOG: [], CHILD: []}
    spared = {*spare, *map(parent_of, spare)}
    for pid in descendants(worker.pid) - spared:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name.startswith("cronq-"):
            found.setdefault(name.removeprefix("cronq-"), []).append(pid)  # the nursery is another
    return [pid for victim in victims for pid in found.get(victim, ())]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    server = RedisServer()
    settings = {"CRONQ_LOST_AFTER": f"{LOST_AFTER_S:g}s", "CRONQ_JOBS": "tests.faults.rounds_jobs"}
    try:
        with installation(server.url, tmp_path_factory.mktemp("arena"), **settings) as made:
            load_scripts(made.client)
            made.beat()
            yield Arena(made)
    finally:
        server.stop()


def rounds_of(on_lost: str, kinds: list[Kind], count: int, seed: int) -> Iterator[list[Round]]:
    """*count* rounds of these kinds, as many at a time as there are queues for: the named steps in turn, and moments at
    random.
    """
    chance = random.Random(f"{on_lost} {seed}")
    cases = chance.sample(CASES, len(CASES)) if LONG else chance.sample(CASES, count * 3 // 4)
    cases += [(ANY_MOMENT, chance.choice(PARENTS + WITH_CHILD)) for _ in range(max(1, len(cases) // 3))]
    played = [cases[number % len(cases)] for number in range(count)]
    at_a_time = ROUNDS if max(kind.children for kind in kinds) == 1 else ROUNDS // 2
    for first in range(0, count, at_a_time):
        yield [
            Round(number, step, who, on_lost, random.Random(chance.random()), kinds[number % len(kinds)])
            for number, (step, who) in enumerate(played[first : first + at_a_time])
        ]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "kinds", [[kind] for kind in KINDS] if LONG else [KINDS], ids=lambda kinds: "; ".join(map(str, kinds))
)
@pytest.mark.parametrize("on_lost", RULES)
def test_a_run_whose_worker_is_killed_at_any_step_ends_once_and_as_its_on_lost_says(
    arena: Arena, on_lost: str, kinds: list[Kind]
) -> None:
    if on_lost == "rerun" and not HAS_RERUN:
        pytest.skip("jobs have no on_lost yet")
    seed = int(os.environ.get("CRONQ_TEST_SEED", "1"))
    played: list[Round] = []
    for rounds in rounds_of(on_lost, kinds, 200 if LONG else 20 // (1 + HAS_RERUN), seed):
        found = arena.play(rounds)
        assert found == [], "\n".join(found)
        played += rounds
    took = sorted(each.settled_at - each.died_at for each in played)
    late = [
        f"{each} {each.settled_at - each.died_at:.1f} s" for each in played if each.settled_at - each.died_at > WITHIN_S
    ]
    tell(f"on_lost {on_lost} ({kinds_in_words(kinds)}): {len(played)} rounds; settled {took[len(took) // 2]:.1f} s "
         f"after the kill (median), {took[-1]:.1f} s at worst; beyond {WITHIN_S:g} s: {late}")  # fmt: skip
