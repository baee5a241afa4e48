"""What a due job costs as jobs, ledger rows and beats grow: processor time of the beat and of Redis.

    python benchmarks/scale.py [--jobs N,…] [--rows N,…] [--beats N,…] [--rounds N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import Machine
from processes import main_thread_s, processor_s_of
from redis import Redis
from registered import ManyJobs, numbered, once_a_year
from report import Comparison, Target, compared, show, start_parser
from rounds import Entrant, turns
from server import redis_server, server_pid
from systems import running

from cronq.app.app import Cronq
from cronq.beat.beat import Beat
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.runs.run import Ending, Settlement, Start, record_life_s
from cronq.timetext import tick_stamp

PACKAGES = ("redis", "rq")
DUE = 100  #: jobs that are due in one pass
LEAST_ROWS = 10 * DUE  #: no job keeps fewer than 10
PASSES = 16  #: of a round
MINUTE_S = 60
FLAT = Target(0.8, 1.2)
KINDS = {"again": "jobs whose specs the beat knows", "first": "jobs that were stored since"}


@dataclass
class World(Entrant):
    """A server of its own with so many jobs and rows, of which `DUE` jobs are due each minute."""

    url: str
    jobs: int
    rows: int
    ended: tuple[float, float, float] = (0.0, 0.0, 0.0)  #: what it took to end the runs of the last pass
    parts: dict[str, dict[str, list[float]]] = field(default_factory=dict)  #: by kind, by part: microseconds a due job

    def __post_init__(self) -> None:
        self.app = Cronq(config=Config(url=self.url), registry=Registry())
        self.many = ManyJobs(self.app)
        self.names = numbered(DUE, "due")
        self.tick = int(self.app.now_s()) // MINUTE_S * MINUTE_S - 500 * MINUTE_S
        self.beat: Beat = self.app.beat()
        self.server = server_pid(self.app.client)

    def fill(self) -> None:
        """Store the jobs and their rows."""
        self._store_due()
        if others := numbered(self.jobs - DUE):
            self.many.store(others, self.tick, crons=once_a_year())
        if self.rows:
            self._fill_rows()
        self.pass_once()

    def _store_due(self) -> None:
        self.many.store(self.names, self.tick, crons=["* * * * *"], overlap="allow", keep=self.rows // DUE or 1000)

    def _fill_rows(self) -> None:
        """Give the due jobs as many rows as they keep, each like one run that was claimed, started and settled.

        So each new row takes the place of an old one, however many there are.
        """
        self.pass_once(leave_open=True)
        for name in self.names:
            like = self.app.runs.run_at(name, self.tick)
            assert like is not None, name
            self._settle(like.run_id)
            each = self.rows // DUE
            first = self.tick - each * MINUTE_S
            self.many.add_rows(name, like.run_id, range(first, self.tick - 1, MINUTE_S))

    def _settle(self, run_id: str) -> None:
        run, now_s, execution = self.app.runs.get(run_id), self.tick + 1.0, "0" * 32
        spec = self.app.jobs.get(run.job).spec
        start = Start(worker="w", host="h", pid=1, execution=execution, lease_s=90, now_s=now_s)
        self.app.runs.start(run, start)
        settlement = Settlement("succeeded", "it ran to its end", exit_code=0)
        life_s = record_life_s(settlement.outcome, spec, self.tick)
        ending = Ending(settlement, by="w", now_s=now_s, attempt=1, execution=execution, record_life_s=life_s)
        assert self.app.runs.settle(self.app.runs.get(run_id), ending), run_id

    def _end(self, run_ids: Sequence[str]) -> tuple[float, float, float]:
        """Start and settle these runs. Returns what that took, as `pass_once` does."""
        redis, own, clock = main_thread_s(self.server), time.process_time(), time.perf_counter()
        for run_id in run_ids:
            self._settle(run_id)
        clock, own = time.perf_counter() - clock, time.process_time() - own
        return own, main_thread_s(self.server) - redis, clock

    def pass_once(self, *, leave_open: bool = False) -> tuple[float, float, float]:
        """Have one minute's ticks claimed. Returns seconds: of the beat's processor, of Redis's, and by the clock."""
        self.tick += MINUTE_S
        redis, beat, clock = main_thread_s(self.server), time.process_time(), time.perf_counter()
        won = 0
        while True:
            result = self.beat.pass_once(now_s=self.tick + 0.5)
            won += result.codes.get("won", 0)
            if result.wait_s != 0.0:
                break
        clock, beat = time.perf_counter() - clock, time.process_time() - beat
        spent = beat, main_thread_s(self.server) - redis, clock
        assert won == DUE, f"{won} ticks claimed, not {DUE}"
        run_ids = [f"{name}-{tick_stamp(self.tick)}" for name in self.names]
        self.app.client.delete("rq:queue:default")
        if leave_open:
            self.app.client.delete(*(self.app.keys.active(name) for name in self.names))
        elif self.rows:  # so that an old row goes for each new one
            self.ended = self._end(run_ids)
        else:
            with self.app.client.pipeline(transaction=False) as pipe:  # as if they had run
                pipe.delete(*(self.app.keys.active(name) for name in self.names))
                for run_id in run_ids:
                    pipe.hset(self.app.keys.run(run_id), mapping={"state": "done", "outcome": "succeeded"})
                pipe.execute()
        return spent

    def measure(self, kind: str) -> float:
        """Microseconds a due job, mean of a round's passes: some drop the rows of several. With rows, `ended`, too."""
        claimed, ended = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        for _ in range(PASSES):
            if kind == "first":
                self._store_due()
            claimed = [each + spent for each, spent in zip(claimed, self.pass_once(), strict=True)]
            ended = [each + spent for each, spent in zip(ended, self.ended, strict=True)]
        if self.rows:
            self.figures.setdefault("ended", []).append(self._note("ended", ended))
        return self._note(kind, claimed)

    def _note(self, kind: str, sums: Sequence[float]) -> float:
        """Note the parts of a round's cost. Returns their sum, microseconds a due job."""
        beat, redis, clock = (each / PASSES / DUE * 1e6 for each in sums)
        for part, figure in (("beat", beat), ("redis", redis), ("clock", clock)):
            self.parts.setdefault(kind, {}).setdefault(part, []).append(figure)
        return beat + redis


def worlds(stack: ExitStack, sizes: Sequence[tuple[int, int]]) -> list[World]:
    """A world for each (jobs, rows)."""
    found = []
    for jobs, rows in sizes:
        world = World(f"{jobs}/{rows}", stack.enter_context(redis_server()), jobs, rows)
        world.fill()
        found.append(world)
    return found


def grow(what: str, sizes: Sequence[tuple[int, int]], rounds: int, kinds: Sequence[str]) -> list[World]:
    """Measure worlds of these (jobs, rows) in turns."""
    with ExitStack() as stack:
        found = worlds(stack, sizes)
        for kind in kinds:
            for world in turns(rounds, found, f"{what}, {KINDS[kind]}"):
                world.try_round(kind, lambda world=world, kind=kind: world.measure(kind))
    return found


# -- beats -------------------------------------------------------------------------------------------


@dataclass
class Beats(Entrant):
    """So many beats on one server, with `due` jobs due each second."""

    count: int
    due: int
    seconds: int

    def measure(self) -> float:
        """Microseconds a due job: of all beats together and of Redis."""
        with redis_server() as url, tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            app = Cronq(config=Config(url=url), registry=Registry())
            now = int(app.now_s())
            ManyJobs(app).store(
                numbered(self.due), now, crons=["* * * * * *"], overlap="allow", catchup="all", keep=100
            )
            processes = [
                stack.enter_context(running(["-m", "cronq", "beat"], url, Path(directory), {}))
                for _ in range(self.count)
            ]
            client: Redis = app.client
            server = server_pid(client)
            while len(app.beats()[0]) < self.count or client.llen("rq:queue:default") < self.due:
                time.sleep(0.1)
            time.sleep(1.0)
            time.sleep(1.5 - time.time() % 1)  # between two ticks
            before = (
                client.llen("rq:queue:default"),
                main_thread_s(server),
                sum(processor_s_of(each.pid) for each in processes),
            )
            time.sleep(self.seconds)
            after = (
                client.llen("rq:queue:default"),
                main_thread_s(server),
                sum(processor_s_of(each.pid) for each in processes),
            )
        queued, redis, beats = (late - early for early, late in zip(before, after, strict=True))
        return (redis + beats) / queued * 1e6


# -- report ------------------------------------------------------------------------------------------


def flatness(what: str, found: Sequence[World], kind: str, size: str) -> list[Comparison]:
    """Each world against the smallest."""
    first, lines = found[0], []
    for world in found[1:]:
        ratio, cost, its = world.ratio_to(first, kind), world.median(kind), first.median(kind)
        if ratio and cost and its:
            names = f"{getattr(world, size):,} {size}", f"{getattr(first, size):,} {size}"
            lines.append(compared(f"{what}, {kind}", names[0], cost, "us", names[1], its, ratio, FLAT))
    return lines


def as_costs(found: Sequence[World], size: str) -> dict[str, dict[str, Any]]:
    return {
        kind: {
            str(getattr(world, size)): {"us": round(world.median(kind) or 0.0, 1)}
            | {part: round(sorted(each)[len(each) // 2], 1) for part, each in world.parts[kind].items()}
            for world in found
            if world.median(kind)
        }
        for kind in found[0].figures
    }


def numbers(words: str) -> list[int]:
    """The numbers that an option lists, in ascending order; none when it is empty."""
    try:
        return sorted(int(word.replace("_", "")) for word in words.split(",") if word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{words!r} is no list of numbers") from error


def main() -> int:
    parser = start_parser("What a due job costs as jobs, ledger rows and beats grow.")
    parser.add_argument("--jobs", type=numbers, default="100,1000,10_000,100_000,1_000_000", help="(%(default)s)")
    parser.add_argument("--rows", type=numbers, default="1000,10_000,100_000,1_000_000", help="(%(default)s)")
    parser.add_argument("--beats", type=numbers, default="1,2,4,8", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts (%(default)s)")
    parser.add_argument("--due", type=int, default=500, help="jobs due each second for the beats (%(default)s)")
    parser.add_argument("--seconds", type=int, default=8, help="of a round with beats (%(default)s)")
    arguments = parser.parse_args()
    if min((DUE, *arguments.jobs)) < DUE or min((LEAST_ROWS, *arguments.rows)) < LEAST_ROWS:
        parser.error(f"--jobs start at {DUE}, --rows at {LEAST_ROWS}")
    if min(arguments.rounds, arguments.due) < 1:
        parser.error("--rounds and --due start at 1")
    logging.disable(logging.WARNING)
    machine = Machine(PACKAGES)
    document: dict[str, Any] = {"due": DUE, "rounds": arguments.rounds}
    lines: list[Comparison] = []
    failed = False
    for size, sizes in (("jobs", [(n, 0) for n in arguments.jobs]), ("rows", [(DUE, n) for n in arguments.rows])):
        if sizes:
            found = grow(size, sizes, arguments.rounds, list(KINDS) if size == "jobs" else ["again"])
            document[size] = as_costs(found, size)
            for kind in found[0].figures:
                lines += flatness("a due job", found, kind, size)
            failed = failed or any(world.has_failed for world in found)
    if arguments.beats:
        beats = [Beats(str(n), n, arguments.due, arguments.seconds) for n in arguments.beats]
        for each in turns(min(arguments.rounds, 3), beats, "beats"):
            each.try_round("beats", each.measure)
        document["beats"] = {each.name: {"us": round(each.median("beats") or 0.0, 1)} for each in beats}
        for each in beats[1:]:
            ratio, cost, its = each.ratio_to(beats[0], "beats"), each.median("beats"), beats[0].median("beats")
            if ratio and cost and its:
                lines.append(
                    compared("a due job", f"{each.name} beats", cost, "us", f"{beats[0].name} beats", its, ratio)
                )
        failed = failed or any(each.has_failed for each in beats)
    flat = [line for line in lines if line.target is not None]
    document["is_flat"] = all(line.is_met for line in flat) if flat else None
    words = {True: "flat within 20%", False: "NOT flat within 20%", None: "nothing compared"}[document["is_flat"]]
    show(document, lines, machine.facts(), as_json=arguments.json, also=f"cost per due job: {words}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
