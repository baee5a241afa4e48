"""What a finished run leaves in Redis, by kind of key: right after it, and when RQ's own records of it have ended.

    python benchmarks/memory.py [--jobs N] [--runs N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from machine import Machine
from redis import Redis
from report import Comparison, Target, show, start_parser
from server import redis_server

sys.path.append(str(Path(__file__).resolve().parents[1]))  # cronq itself, when it is not installed

from cronq.app.app import Cronq
from cronq.beat.tidy import Tidy
from cronq.config import Config
from cronq.db.keys import rq_failed, rq_finished, rq_intermediate, rq_queue
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.claim import TickClaim
from cronq.runs.due import Decision
from cronq.runs.run import Ending, Settlement, Start, record_life_s

#: A key belongs to the first kind whose pattern it matches; what is left is "all else".
KINDS = {
    "RQ's job": r"rq:job:.*",
    "RQ's result": r"rq:results:.*",
    "RQ's registries": r"rq:(finished|failed|canceled|wip):.*",
    "row": r"[^:]+:run:.*",
    "index": r"[^:]+:job:[^:]+:(runs|manual)",
    "dedup key": r"[^:]+:dedup:.*",
    "events": r"[^:]+:events",
}
ENDED_WITH_RQ = ("rq:job:*", "rq:results:*", "cronq:dedup:*")
PACKAGES = ("redis", "rq")
MINUTE_S = 60
#: The budget of a settled run, and of the dedup key and the row's place in the index.
LATER = Target(most=350, of="figure")
HOST, PID = "web-1", 4242
WORKER = f"{HOST}.{PID}.ab12"
GOOD = Settlement(
    "succeeded", "it ran to its end", exit_code=0, max_rss_kib=34_512, user_s=0.123, system_s=0.004, start_ms=12
)


class Ledger:
    """Jobs on one Redis whose ticks are claimed, started and settled by the calls that beat and guardian make."""

    def __init__(self, client: Redis, jobs: int, *, keep: int = 1000) -> None:
        self.client = client
        self.app = Cronq(config=Config(host_id=HOST), registry=Registry(), client=client)
        self.claimer = self.app.claimer(f"beat {HOST}.7")
        names = ["invoices", *(f"invoices-{number}" for number in range(1, jobs))]
        self.specs = [make_spec(name, function="jobs:send", cron="* * * * *", keep=keep) for name in names]
        begin = int(self.app.now_s()) // MINUTE_S * MINUTE_S - 1_000_000 * MINUTE_S
        self.ticks = dict.fromkeys(names, begin)
        self.versions = {spec.name: self._save(spec) for spec in self.specs}
        self.fill_events()

    def _save(self, spec: JobSpec) -> str:
        tick = self.ticks[spec.name]
        self.app.jobs.save(spec, source="jobs.py:1", origin="jobs", expected="", mark=tick, next_tick=tick + MINUTE_S)
        return self.app.jobs.version_of(spec.name)

    def fill_events(self) -> None:
        """Bring the stream of events to its cap: from then on each takes the place of an older one."""
        with self.client.pipeline(transaction=False) as pipe:
            for number in range(self.app.config.keep_events + 200):
                event = {"type": "succeeded", "job": "invoices", "run": f"invoices-{number:08}T000000Z"}
                pipe.xadd(self.app.keys.events, event, maxlen=self.app.config.keep_events)  # type: ignore[arg-type]
            pipe.execute()

    def run(self, count: int, settlement: Settlement = GOOD) -> None:
        """*count* runs, the jobs in turn."""
        for number in range(count):
            self._run_once(self.specs[number % len(self.specs)], settlement)

    def _run_once(self, spec: JobSpec, settlement: Settlement) -> None:
        tick = self.ticks[spec.name] = self.ticks[spec.name] + MINUTE_S
        decision = Decision(tick, None, "due", "schedule", tick + MINUTE_S)
        claim = TickClaim(spec, self.versions[spec.name], decision)
        (answer,) = self.claimer.claim_due([claim], f"{tick:016x}", tick + 0.012)
        assert answer.code == "won", answer
        run_id = self.client.lmove(rq_queue("default"), rq_intermediate("default"), "LEFT", "RIGHT")
        runs, execution = self.app.runs, f"{tick:032x}"
        run = runs.get(run_id.decode())
        runs.start(run, Start(worker=WORKER, host=HOST, pid=PID, execution=execution, lease_s=90, now_s=tick + 0.02))
        run = runs.get(run.run_id)
        by, life_s = f"worker {WORKER}", record_life_s(settlement.outcome, spec, tick)
        ending = Ending(settlement, by=by, now_s=tick + 1.3, attempt=1, execution=execution, record_life_s=life_s)
        assert runs.settle(run, ending), run

    def end_rq_records(self) -> None:
        """Move the end of RQ's records and of the dedup keys to now, and let a beat tidy RQ's registries."""
        for pattern in ENDED_WITH_RQ:
            for key in self.client.scan_iter(pattern, count=1000):
                self.client.expire(key, -1)
        for registry in (rq_finished("default"), rq_failed("default")):
            for member in self.client.zrange(registry, 0, -1):
                self.client.zadd(registry, {member: 1})
        Tidy(self.client, self.app.heartbeats).once([rq_queue("default")], self.app.now_s())


def by_kind(client: Redis) -> Counter[str]:
    """Bytes of all keys by kind, as MEMORY USAGE has them."""
    found: Counter[str] = Counter()
    for key in client.scan_iter(count=1000):
        found[kind_of(key.decode())] += client.memory_usage(key, samples=0) or 0
    return found


def kind_of(key: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, key)), "all else")


def used_memory(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def a_traceback(size: int) -> str:
    """A traceback of *size* characters, with the variety that one has."""
    frames = (
        f'  File "/srv/shop/billing/step_{n}.py", line {37 * n % 400}, in {name}_{n}\n'
        f"    {name}_{n + 1}(order, {n * 7919 % 997})\n"
        for n in range(1000)
        for name in ("collect", "check", "write", "send")
    )
    text = "Traceback (most recent call last):\n"
    for frame in frames:
        if len(text) + len(frame) > size - 40:
            break
        text += frame
    return f"{text}ValueError: no paper".ljust(size, "!")


def measure_runs(url: str, jobs: int, runs: int, settlement: Settlement = GOOD) -> dict[str, dict[str, float]]:
    """Bytes per run by kind, `right_after` and `when_rq_forgot`, with the sum and what `used_memory` says."""
    with Redis.from_url(url) as client:
        client.flushall()
        ledger = Ledger(client, jobs, keep=100_000)
        ledger.run(jobs)  # scripts and what each job has once are there
        before, used = by_kind(client), used_memory(client)

        def per_run() -> dict[str, float]:
            now = by_kind(client)
            figures = {kind: (now[kind] - before[kind]) / runs for kind in (*KINDS, "all else")}
            total = {"sum": sum(figures.values()), "used_memory": (used_memory(client) - used) / runs}
            return {kind: round(figure, 1) for kind, figure in (figures | total).items()}

        ledger.run(runs, settlement)
        found = {"right_after": per_run()}
        ledger.end_rq_records()
        return found | {"when_rq_forgot": per_run()}


def measure_growth(url: str, keep: int, rounds: Iterable[int]) -> dict[int, int]:
    """Bytes of all keys of one job after so many times *keep* runs, when RQ has forgotten them."""
    found = {}
    with Redis.from_url(url) as client:
        client.flushall()
        ledger = Ledger(client, 1, keep=keep)
        done = 0
        for times in rounds:
            ledger.run((times - done) * keep)
            done = times
            ledger.end_rq_records()
            found[times] = sum(by_kind(client).values())
    return found


def in_words(found: dict[str, dict[str, dict[str, float]]], growth: dict[int, int], keep: int) -> str:
    columns = [(runs, moment) for runs in found for moment in found[runs]]
    titles = (f"{runs}, {moment}".replace("_", " ") for runs, moment in columns)
    lines = [f"{'bytes per run':16}" + "".join(f"{title:>28}" for title in titles)]
    for kind in (*KINDS, "all else", "sum", "used_memory"):
        lines.append(f"{kind:16}" + "".join(f"{found[runs][moment][kind]:>28,.0f}" for runs, moment in columns))
    lines.append(f"\none job with keep={keep}, when RQ has forgotten its runs:")
    lines += [f"{times * keep:>8,} runs{size:>14,} bytes" for times, size in growth.items()]
    return "\n".join(lines)


def comparisons(found: dict[str, dict[str, dict[str, float]]], growth: dict[int, int], keep: int) -> list[Comparison]:
    lines = []
    for runs, moments in found.items():
        right_after, later = (moments[moment]["sum"] for moment in ("right_after", "when_rq_forgot"))
        target = LATER if runs == "succeeded" else None
        lines.append(Comparison(f"a run that {runs}", "right after", right_after, "bytes"))
        ratio = later / right_after
        lines.append(
            Comparison(f"a run that {runs}", "when RQ forgot", later, "bytes", "right after", right_after, ratio,
                       target=target)
        )  # fmt: skip
    first, last = min(growth), max(growth)
    names = [f"after {times * keep:,} runs" for times in (last, first)]
    lines.append(
        Comparison(f"a job that keeps {keep} rows", names[0], growth[last], "bytes", names[1], growth[first],
                   growth[last] / growth[first], target=Target(most=1.02))
    )  # fmt: skip
    return lines


def main() -> int:
    parser = start_parser("What a finished run leaves in Redis.")
    parser.add_argument("--jobs", type=int, default=1, help="jobs that run in turn (%(default)s)")
    parser.add_argument("--runs", type=int, default=1000, help="runs in all (%(default)s)")
    parser.add_argument("--keep", type=int, default=100, help="rows to keep where growth is shown (%(default)s)")
    arguments = parser.parse_args()
    if min(arguments.jobs, arguments.runs) < 1 or arguments.keep < 10:
        parser.error("--jobs and --runs start at 1, --keep at 10")
    failure = Settlement("failed", "ValueError: no paper", exit_code=1, error=a_traceback(5000))
    machine = Machine(PACKAGES)
    with redis_server() as url:
        found = {
            name: measure_runs(url, arguments.jobs, arguments.runs, settlement)
            for name, settlement in (("succeeded", GOOD), ("failed", failure))
        }
        growth = measure_growth(url, arguments.keep, (1, 2, 5, 10))
    runs_and_bytes = {str(times * arguments.keep): size for times, size in growth.items()}
    show(
        {**found, "growth": runs_and_bytes, "keep": arguments.keep}, comparisons(found, growth, arguments.keep),
        machine.facts(), as_json=arguments.json, also=in_words(found, growth, arguments.keep),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
