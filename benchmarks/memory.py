"""What a finished run leaves in Redis, by kind of key: right after it, and when RQ's own records of it have ended.

    python benchmarks/memory.py [--jobs N] [--runs N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from redis import Redis
from server import describe_setup, redis_server

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
MINUTE_S = 60
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


def print_report(found: dict[str, dict[str, dict[str, float]]], growth: dict[int, int], keep: int) -> None:
    columns = [(runs, moment) for runs in found for moment in found[runs]]
    print("\nbytes per run" + "".join(f"{f'{runs}, {moment}'.replace('_', ' '):>28}" for runs, moment in columns))
    for kind in (*KINDS, "all else", "sum", "used_memory"):
        print(f"{kind:16}" + "".join(f"{found[runs][moment][kind]:>28,.0f}" for runs, moment in columns)[3:])
    print(f"\none job with keep={keep}, when RQ has forgotten its runs:")
    for times, size in growth.items():
        print(f"{times * keep:>8,} runs{size:>14,} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description="What a finished run leaves in Redis.")
    parser.add_argument("--jobs", type=int, default=1, help="jobs that run in turn (%(default)s)")
    parser.add_argument("--runs", type=int, default=1000, help="runs in all (%(default)s)")
    parser.add_argument("--keep", type=int, default=100, help="rows to keep where growth is shown (%(default)s)")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    arguments = parser.parse_args()
    if min(arguments.jobs, arguments.runs) < 1 or arguments.keep < 10:
        parser.error("--jobs and --runs start at 1, --keep at 10")
    failure = Settlement("failed", "ValueError: no paper", exit_code=1, error=a_traceback(5000))
    with redis_server() as url:
        setup = describe_setup(url, ("redis", "rq"))
        found = {
            name: measure_runs(url, arguments.jobs, arguments.runs, settlement)
            for name, settlement in (("succeeded", GOOD), ("failed", failure))
        }
        growth = measure_growth(url, arguments.keep, (1, 2, 5, 10))
    if arguments.json:
        runs_and_bytes = {str(times * arguments.keep): size for times, size in growth.items()}
        print(json.dumps({**found, "growth": runs_and_bytes, "keep": arguments.keep}))
    else:
        print(setup)
        print_report(found, growth, arguments.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
