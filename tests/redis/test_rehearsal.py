"""A rehearsal tells what then happens, when a day is lived through again by other definitions.

The day is lived by the scripts that beats and workers call, on a real server; only the clock is not real.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.hosts.outages import Pass
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.rehearse import RehearsedTick
from cronq.runs.run import Ending, Settlement, Start
from cronq.runs.scene import Outage, Scene, Work
from cronq.runs.simulate import simulate
from cronq.timetext import DAY_S, parse_instant

Store = Callable[..., JobSpec]
BEGIN = int(parse_instant("2026-01-05T00:00"))
MONDAY = date(2026, 1, 5)
END_S = BEGIN + 32 * 60
#: What becomes of ticks before this is settled, whatever comes after END_S.
SURE_S = END_S - 10 * 60
RULES = ("skip", "queue", "latest", "replace", "allow")
_END, _PASS, _START = range(3)


class Life:
    """One day of an installation with a worker for each run: what each run does is known before."""

    def __init__(self, app: Cronq, works: Callable[[str, int], tuple[float, float, str]]) -> None:
        self.app = app
        self.works = works  #: of a job's tick: how long it waits for a worker and how long it takes, and its outcome
        self.beat = app.beat()
        self.events: list[tuple[float, int, str]] = []
        self.seen: set[str] = set()

    def live(self, specs: list[JobSpec], end_s: int, outages: Sequence[Outage] = ()) -> None:
        app = self.app
        app.now_s = lambda: end_s + 2.0 * DAY_S  # type: ignore[method-assign]
        self.outages = outages
        passes = {tick for spec in specs if spec.schedule for tick in spec.schedule.between(BEGIN - 1, end_s - 1)}
        for moment in passes:
            self.pass_at(moment)
        while self.events:
            now, kind, run_id = heapq.heappop(self.events)
            {_END: self.end, _PASS: self.pass_once, _START: self.start}[kind](now, run_id)
            while self.look(now, [spec.name for spec in specs]):
                pass  # what is stopped lets another begin

    def pass_at(self, moment: float) -> None:
        up = next((back for begin, back in self.outages if begin <= moment < back), moment)
        heapq.heappush(self.events, (up, _PASS, ""))

    def pass_once(self, now: float, _: str) -> None:
        self.beat.pass_once(now)
        self.beat.claiming.confirm()

    def look(self, now: float, names: list[str]) -> bool:
        """Let workers see what was queued, and guardians what is to stop. Returns True if something was stopped."""
        stopped = False
        for name, open_runs in self.app.runs.active(names).items():
            for run_id, state in open_runs.items():
                if state == "queued" and run_id not in self.seen:
                    self.seen.add(run_id)
                    wait = self.works(name, self.app.runs.get(run_id).tick or 0)[0]
                    heapq.heappush(self.events, (now + wait, _START, run_id))
                elif state == "running" and self.app.client.exists(self.app.keys.stop(run_id)):
                    self.settle(run_id, now, "stopped", "running")
                    stopped = True
        return stopped

    def start(self, now: float, run_id: str) -> None:
        run = self.app.runs.find(run_id)
        if run is None or run.state != "queued" or run.tick is None:
            return  # another took its place
        spec = self.app.read_job(run.job).spec
        if spec.ttl is not None and now - run.tick > spec.ttl:
            self.settle(run_id, now, "expired", "queued")
            return
        began = Start(worker="w", host="box", pid=1, execution=run_id, lease_s=90, now_s=now, seen_s=now)
        assert self.app.runs.start(run, began).code == "started"
        took = min(self.works(run.job, run.tick)[1], spec.timeout)
        heapq.heappush(self.events, (now + took, _END, run_id))

    def end(self, now: float, run_id: str) -> None:
        run = self.app.runs.get(run_id)
        if run.state == "running":
            _, takes, outcome = self.works(run.job, run.tick or 0)
            is_late = takes > self.app.read_job(run.job).spec.timeout
            self.settle(run_id, now, "timed_out" if is_late else outcome, "running")

    def settle(self, run_id: str, now: float, outcome: str, state: str) -> None:
        ending = Ending(Settlement(outcome, "as it was drawn"), "w", now, expect=state)
        assert self.app.runs.settle(self.app.runs.get(run_id), ending)
        if self.app.read_job(self.app.runs.get(run_id).job).spec.backfill:
            self.pass_at(now)  # a beat looks each second


def recorded(app: Cronq, names: Sequence[str] = RULES) -> dict[tuple[str, int], str | None]:
    runs = [run for name in names for run in app.history(name, 10_000)]
    return {(run.job, run.tick or 0): run.outcome for run in runs if (run.tick or 0) < SURE_S}


def rehearsed(app: Cronq, outages: Sequence[Outage] = ()) -> list[RehearsedTick]:
    rehearsal, problems = app.rehearse([], MONDAY, outages=outages)
    assert problems == []
    return rehearsal.ticks


def note_passes(app: Cronq, end_s: int, outages: Sequence[Outage]) -> None:
    """As a beat does that lives all the time, and stands still in *outages*."""
    for moment in range(BEGIN, end_s, 8):
        if not any(begin <= moment < back for begin, back in outages):
            app.outage_notes.note(Pass(float(moment), "beat a", BEGIN - DAY_S))
    for _, back in outages:
        assert any(each.to_s == back for each in app.outages()), "a pass of its own ends each"


def drawn(seed: int) -> Callable[[str, int], tuple[float, float, str]]:
    def works(name: str, tick: int) -> tuple[float, float, str]:
        chance = random.Random(f"{seed} {name} {tick}")
        wait = chance.choice([0.0, 0.0, 0.0, 20.25, 75.25])
        takes = chance.choice([1.5, 20.5, 50.5, 70.5, 130.5, 250.5])
        return wait, takes, chance.choice(["succeeded", "succeeded", "failed"])

    return works


def options_of(chance: random.Random, overlap: str) -> dict[str, Any]:
    return {
        "overlap": overlap,
        "catchup": chance.choice(["latest", "skip", "all"]),
        "max_catchup": 3,
        "timeout": chance.choice([60, 200, 3600]),
        "ttl": chance.choice([None, None, 30, 90]),
    }


def told(ticks: list[RehearsedTick], names: Sequence[str] = RULES) -> dict[tuple[str, int], str | None]:
    return {(each.job, each.tick): each.outcome for each in ticks if each.tick < SURE_S and each.job in names}


@pytest.mark.parametrize("seed", range(3))
def test_what_it_says_of_other_definitions_is_what_happens_by_them(
    app: Cronq, redis: Redis, store: Store, seed: int
) -> None:
    works = drawn(seed)
    Life(app, works).live([store(rule, mark=BEGIN - 1, overlap="allow") for rule in RULES], END_S)
    assert set(recorded(app).values()) == {"succeeded", "failed"}
    chance = random.Random(seed)
    other = {rule: options_of(chance, rule) for rule in RULES}
    outages = [Outage(BEGIN + 300, BEGIN + 330), Outage(BEGIN + 900, BEGIN + 1190)]
    for rule in RULES:
        app.jobs.remove(rule, by="ann", now_s=BEGIN, keep_rows_for_s=10**9)
    specs = [store(rule, mark=BEGIN - 1, **other[rule]) for rule in RULES]

    foretold = told(rehearsed(app, outages))

    redis.flushall()
    specs = [store(rule, mark=BEGIN - 1, **other[rule]) for rule in RULES]
    Life(app, works).live(specs, END_S, outages)
    assert foretold == recorded(app)


@pytest.mark.parametrize("seed", range(2))
def test_by_the_definitions_of_that_day_all_is_as_it_was(app: Cronq, store: Store, seed: int) -> None:
    chance = random.Random(seed)
    names = ["skip", "queue", "allow"]  # with the others nobody knows how long a run would have taken
    specs = [store(rule, mark=BEGIN - 1, **options_of(chance, rule)) for rule in names]
    outages = [Outage(BEGIN + 304, BEGIN + 336), Outage(BEGIN + 901, BEGIN + 1192)]
    Life(app, drawn(seed)).live(specs, END_S, outages)
    note_passes(app, END_S, outages)

    ticks = rehearsed(app)

    assert told(ticks, names) == recorded(app, names)
    assert [each for each in ticks if each.differs and each.tick < SURE_S] == []


# Jobs that depend on others


class Drawn(Mapping[int, Work]):
    """What the run of any tick of a job does."""

    def __init__(self, works: Callable[[str, int], tuple[float, float, str]], name: str) -> None:
        self.works = works
        self.name = name

    def __getitem__(self, tick: int) -> Work:
        wait, takes, outcome = self.works(self.name, tick)
        return Work(takes, outcome, wait_s=wait)

    def __iter__(self) -> Iterator[int]:
        raise NotImplementedError

    def __len__(self) -> int:
        return 1


def uneven(seed: int) -> Callable[[str, int], tuple[float, float, str]]:
    """Nothing ends in the moment in which something else is due."""

    def works(name: str, tick: int) -> tuple[float, float, str]:
        chance = random.Random(f"{seed} {name} {tick}")
        takes = chance.choice([1, 20, 50, 70, 130, 250]) + chance.randrange(1, 250) / 1000
        outcome = chance.choice(["succeeded"] * (12 if name.startswith("in-order") else 3) + ["failed"])
        return chance.choice([0.0, 0.0, 20.25]), takes, outcome

    return works


def a_family(app: Cronq, seed: int) -> list[JobSpec]:
    chance = random.Random(seed)
    family: dict[str, dict[str, Any]] = {
        "often": {"cron": "* * * * *", "overlap": chance.choice(["allow", "queue", "skip"])},
        "rarely": {"cron": "*/3 * * * *", "catchup": chance.choice(["all", "latest"])},
        "after-one": {"after": ["rarely"], "overlap": chance.choice(RULES)},
        "after-two": {
            "after": ["often", "rarely"], "overlap": chance.choice(RULES),
            "on_parent_failure": chance.choice(["run", "wait"]),
        },
        "last": {"after": ["after-one", "after-two"]},
        "in-order": {"cron": chance.choice(["* * * * *", "*/5 * * * *"]), "backfill": True},
        "in-order-gated": {"cron": "*/4 * * * *", "backfill": True, "depends_on": ["rarely"]},
    }  # fmt: skip
    for number, rule in enumerate(RULES):
        parents = [["often"], ["rarely"], ["often", "rarely"], ["rarely", "after-one"]][(seed + number) % 4]
        options: dict[str, Any] = {"cron": chance.choice(["* * * * *", "*/2 * * * *"]), "depends_on": parents}
        if "after-one" in parents:  # whether that had succeeded before all this, nobody can know
            options["start"] = "2026-01-05T00:08:00Z"
        family[f"gate-{rule}"] = options_of(chance, rule) | options
    specs = []
    for name, options in family.items():
        spec = make_spec(name, function="here:work", **options)
        tick = spec.next_after(BEGIN - 1, 0)
        app.jobs.save(spec, source="here:1", origin="test", expected="", mark=BEGIN - 1, next_tick=tick)
        specs.append(spec)
    return specs


def names_of_known_length(specs: dict[str, JobSpec]) -> set[str]:
    """The jobs of which no run, nor one of a job that they wait for, gives way before it has ended."""

    def is_sure(name: str) -> bool:
        return specs[name].overlap not in ("latest", "replace") and all(map(is_sure, specs[name].parents))

    return {name for name in specs if is_sure(name)}


@pytest.mark.parametrize("seed", range(4))
def test_a_simulation_foretells_what_becomes_of_jobs_that_wait_for_others(app: Cronq, seed: int) -> None:
    specs, works = a_family(app, seed), uneven(seed)
    names = [spec.name for spec in specs]
    outages = [Outage(BEGIN + 312, BEGIN + 336), Outage(BEGIN + 904, BEGIN + 1200)]
    Life(app, works).live(specs, END_S, outages)

    scene = Scene(BEGIN, END_S, outages=outages, works={name: Drawn(works, name) for name in names}, explains=True)
    foretold = simulate(specs, scene)

    # Ticks of the two that are in order and do not come to their turn are due still, and have no row.
    rows = [each for each in foretold.rows() if each.tick < SURE_S and each.outcome != "waiting"]
    assert {(each.job, each.tick): each.outcome for each in rows} == recorded(app, names)
    note_passes(app, END_S, outages)
    sure = names_of_known_length({spec.name: spec for spec in specs})
    told_again = [each for each in rehearsed(app) if each.differs and each.tick < SURE_S and each.job in sure]
    assert [each for each in told_again if (each.outcome, each.recorded) != ("waiting", None)] == []
