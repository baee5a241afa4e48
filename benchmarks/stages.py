"""Where the time of a tick and of a run goes, stage by stage: parsing, deciding, scripts, fork, kept child, exchange.

    python benchmarks/stages.py [--runs N] [--rounds N] [--json]

It is not called `profile.py` because Python's own module of that name would be hidden from the peers' libraries.
README.md beside this file says what each stage is.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, TypeVar

from machine import Machine
from memory import GOOD, MINUTE_S, Ledger
from processes import main_thread_s, processor_s_of
from redis import Redis
from report import Comparison, show, start_parser
from rounds import say
from server import commands_executed, redis_server, server_pid

from cronq.clock import boot_s
from cronq.jobs.rq_template import fields_of
from cronq.jobs.spec import JobSpec, make_spec
from cronq.process.watchdog import Watchdog
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision, decide
from cronq.runs.exchange import Begun, End, Exchange, Offer
from cronq.runs.run import Ending, Start, record_life_s

PACKAGES = ("redis", "rq")
Found = TypeVar("Found")


@dataclass
class Stage:
    """What one step costs: microseconds of the caller's processor, by the clock and of Redis; commands there."""

    name: str
    calls: int = 0
    processor_us: float = 0.0
    clock_us: float = 0.0
    redis_us: float = 0.0
    children_us: float = 0.0  #: of the watchdog and the children it forks
    commands: float = 0.0

    def to_json(self) -> dict[str, float]:
        return {
            name: round(value / max(1, self.calls), 2)
            for name, value in vars(self).items()
            if name not in ("name", "calls")
        }


class Profile:
    """The stages that were timed, in order."""

    def __init__(self, client: Redis | None = None) -> None:
        self.client = client
        self.server = server_pid(client) if client else 0
        self.stages: dict[str, Stage] = {}

    def time(self, name: str, step: Callable[[], Found], calls: int = 1) -> Found:
        """Do *step*, which counts as so many calls."""
        stage = self.stages.setdefault(name, Stage(name))
        client = self.client
        commands = commands_executed(client) if client else 0
        redis = main_thread_s(self.server) if self.server else 0.0
        processor, clock = time.process_time(), time.perf_counter()
        found = step()
        processor, clock = time.process_time() - processor, time.perf_counter() - clock
        stage.clock_us += 1e6 * clock
        stage.processor_us += 1e6 * processor
        if client:
            stage.redis_us += 1e6 * (main_thread_s(self.server) - redis)
            stage.commands += commands_executed(client) - commands - 1  # the one that asks
        stage.calls += calls
        return found


# -- the beat's half ---------------------------------------------------------------------------------


def profile_deciding(profile: Profile, runs: int, number: int) -> None:
    """Pure arithmetic: a spec that was never read, one that was read lately, the next tick, a decision."""
    specs = [
        make_spec(
            f"job-{each}", function="a:b", cron=f"{each % 60} {each // 60 % 24} * * *", tz="Europe/Amsterdam",
            description=f"round {number}",
        )
        for each in range(runs)
    ]  # fmt: skip
    texts = [(spec.name, spec.to_json()) for spec in specs]
    now = 1_795_000_000

    def each(step: Callable[[int], object]) -> Callable[[], None]:
        def all_of_them() -> None:
            for place in range(runs):
                step(place)

        return all_of_them

    profile.time("spec: written as JSON", each(lambda place: specs[place].to_json()), runs)
    read: list[JobSpec] = []
    parse = each(lambda place: read.append(JobSpec.from_json(texts[place][1], name=texts[place][0])))
    profile.time("spec: parsed, never seen", parse, runs)
    profile.time("spec: parsed, seen lately", parse, runs)
    schedules = [spec.schedule for spec in read[:runs] if spec.schedule is not None]
    nexts = each(lambda place: schedules[place].next_after(now + place))
    profile.time("schedule: next tick, first time", nexts, runs)
    profile.time("schedule: next tick, again", nexts, runs)
    minutely = make_spec("minutely", function="a:b", cron="* * * * *")
    tick = now // MINUTE_S * MINUTE_S
    profile.time("decide: one due tick", each(lambda place: decide(minutely, tick - MINUTE_S, None, tick + 0.5)), runs)


def profile_claims(profile: Profile, client: Redis, runs: int) -> None:
    """The beat's calls: reading what is due and claiming it, 250 ticks a call as the beat does."""
    ledger = Ledger(client, runs)
    app, tick = ledger.app, next(iter(ledger.ticks.values())) + MINUTE_S
    profile.time("RQ job of a template, by RQ's code", lambda: fields_of(client, ledger.specs[0], "t", "x", "[[],{}]"))
    for turn in range(3):
        now_s = tick + 0.5
        step = partial(app.jobs.read_due, 2000, now_s)
        reading = step() if turn == 0 else profile.time("read_due, a job", step, runs)
        claims = [
            TickClaim(spec, ledger.versions[spec.name], Decision(tick, None, "due", "schedule", tick + MINUTE_S))
            for spec in ledger.specs
        ]
        assert len(reading.due) == runs, len(reading.due)
        for first in range(0, runs, 250):
            part = claims[first : first + 250]
            send = partial(ledger.claimer.claim_due, part, f"{tick:08x}{first:08x}", now_s)
            answers = send() if turn == 0 else profile.time("claim, a tick", send, len(part))
            assert all(answer.code == "won" for answer in answers), answers[0]
        for spec in ledger.specs:
            client.delete(app.keys.active(spec.name))
        tick += MINUTE_S


# -- the worker's half -------------------------------------------------------------------------------


def profile_steps(profile: Profile, client: Redis, runs: int) -> None:
    """A run step by step, each a call of its own: as runs go that are not plain."""
    ledger = Ledger(client, 1)
    app, spec = ledger.app, ledger.specs[0]
    for _ in range(runs):
        tick = ledger.ticks[spec.name] = ledger.ticks[spec.name] + MINUTE_S
        claim = TickClaim(
            spec, ledger.versions[spec.name], Decision(tick, None, "due", "schedule", tick + MINUTE_S)
        )  # fmt: skip
        ledger.claimer.claim_due([claim], f"{tick:016x}", tick + 0.01)
        run_id = client.lmove("rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT").decode()
        run = profile.time("run: read", lambda run_id=run_id: app.runs.get(run_id))
        execution = f"{tick:032x}"
        start = Start(worker="w.1.a", host="w", pid=1, execution=execution, lease_s=90, now_s=tick + 0.02)
        profile.time("run: started", lambda run=run, start=start: app.runs.start(run, start))
        life_s = record_life_s(GOOD.outcome, spec, tick)
        ending = Ending(GOOD, by="w", now_s=tick + 1.3, attempt=1, execution=execution, record_life_s=life_s)
        run = app.runs.get(run_id)
        assert profile.time("run: settled", lambda run=run, ending=ending: app.runs.settle(run, ending)), run


def profile_exchange(profile: Profile, client: Redis, runs: int, at_once: int) -> None:
    """What a busy worker asks of Redis: one call ends the runs of its children and gives them the next."""
    ledger = Ledger(client, 1)
    app, spec = ledger.app, ledger.specs[0]
    app.enqueue_many(spec.name, [{}] * (runs // at_once + 2) * at_once)
    exchange = Exchange(client, app.keys, app.runs, host="w", pid=1, no_commands=False, lock_ttl_s=30, lease_s=90)
    words = "one run" if at_once == 1 else f"of {at_once} runs each"
    ends: list[End] = []
    for turn in range(runs // at_once + 2):
        offers = [Offer(f"w.1.{each}", f"{turn:016x}{each:016x}") for each in range(at_once)]
        ask = partial(exchange.settle_and_take, ends, offers, ["default"], left_alone=(), now_s=app.now_s())
        found = profile.time(f"exchange: ended and the next begun, {words}", ask, at_once) if turn > 1 else ask()
        assert all(answer == "settled" for answer in found.ends), found.ends
        begun = [each for each in found.starts if isinstance(each, Begun)]
        assert len(begun) == at_once, found
        life_s = record_life_s(GOOD.outcome, spec, None)
        ends = [
            End(
                each.run.worker or "", each.run,
                Ending(GOOD, by="w", now_s=app.now_s(), attempt=each.run.attempt, execution=each.execution,
                       record_life_s=life_s),
                each.execution, each.lock, 0.001,
            )
            for each in begun
        ]  # fmt: skip


def _nothing(order: Mapping[str, Any], result: BinaryIO) -> int:
    return 0


def profile_children(profile: Profile, runs: int) -> None:
    """A child that does nothing, from the order to its exit: forked for it, and kept."""
    ways: dict[str, dict[str, Any]] = {"child: forked for the run": {}, "child: kept": {"is_reusable": True}}
    for name, options in ways.items():
        watchdog = Watchdog(_nothing)
        watchdog.start()
        try:
            for place in range(runs + 1):

                def live(watchdog: Watchdog = watchdog, options: dict[str, Any] = options) -> None:
                    child = watchdog.spawn({}, deadline_boot_s=boot_s() + 60, **options)
                    while (ended := child.wait(10)) is None:
                        pass
                    assert ended.status == 0, ended

                if place == 0:  # the first one is forked in both ways
                    live()
                    before = processor_s_of(watchdog.pid or 0)
                else:
                    profile.time(name, live)
            profile.stages[name].children_us += 1e6 * (processor_s_of(watchdog.pid or 0) - before)
        finally:
            watchdog.close()


# -- report ------------------------------------------------------------------------------------------


def one_round(url: str, runs: int, number: int) -> dict[str, Stage]:
    with Redis.from_url(url) as client:
        client.flushall()
        pure, with_redis = Profile(), Profile(client)
        profile_deciding(pure, runs, number)
        profile_claims(with_redis, client, runs)
        client.flushall()
        profile_steps(with_redis, client, runs)
        for at_once in (1, 4):
            client.flushall()
            profile_exchange(with_redis, client, runs, at_once)
    profile_children(pure, runs)
    return pure.stages | with_redis.stages


def middle(rounds: list[dict[str, Stage]]) -> dict[str, dict[str, float]]:
    """The medians of all rounds."""
    found = [{name: stage.to_json() for name, stage in each.items()} for each in rounds]
    return {
        name: {part: statistics.median(each[name][part] for each in found) for part in figures}
        for name, figures in found[0].items()
    }


def in_words(stages: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"{'microseconds':52}{'own':>10}{'children':>10}{'redis':>10}{'clock':>10}{'commands':>10}"]
    for name, figures in stages.items():
        values = (figures[part] for part in ("processor_us", "children_us", "redis_us", "clock_us", "commands"))
        lines.append(f"{name:52}" + "".join(f"{value:>10.1f}" if value else f"{'-':>10}" for value in values))
    return "\n".join(lines)


#: Two stages, and the parts of their cost that count.
PAIRS = (
    ("spec: parsed, never seen", "spec: parsed, seen lately", ("processor_us",)),
    ("child: forked for the run", "child: kept", ("processor_us", "children_us")),
    (
        "exchange: ended and the next begun, one run",
        "exchange: ended and the next begun, of 4 runs each",
        ("processor_us", "redis_us"),
    ),
)


def comparisons(stages: Mapping[str, Mapping[str, float]]) -> list[Comparison]:
    lines = []
    for dear, cheap, parts in PAIRS:
        figure, its = (sum(stages[name][part] for part in parts) for name in (dear, cheap))
        lines.append(Comparison("a stage", dear, figure, "us", cheap, its, figure / its if its else None))
    return lines


def main() -> int:
    parser = start_parser("Where the time of a tick and of a run goes.")
    parser.add_argument("--runs", type=int, default=500, help="of each stage in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts (%(default)s)")
    arguments = parser.parse_args()
    if not 0 < arguments.runs <= 1440 or arguments.rounds < 1:
        parser.error("--runs is 1 to 1440, --rounds starts at 1")
    logging.disable(logging.WARNING)
    machine = Machine(PACKAGES)
    rounds = []
    with redis_server() as url:
        for number in range(arguments.rounds):
            say(f"stages, round {number + 1} of {arguments.rounds}")
            rounds.append(one_round(url, arguments.runs, number))
    stages = middle(rounds)
    document = {"stages": stages, "runs": arguments.runs, "rounds": arguments.rounds}
    show(document, comparisons(stages), machine.facts(), as_json=arguments.json, also=in_words(stages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
