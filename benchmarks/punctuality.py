"""How late a tick is pushed and its body begins, as others see it, with some beats, one of them killed midway.

    python benchmarks/punctuality.py [--jobs N] [--served N] [--seconds S] [--beats N,…] [--rounds N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import Machine
from redis import Redis
from report import Comparison, Target, compared, show, start_parser
from rounds import Entrant, percentiles, say, turns
from scale import numbers
from server import redis_server
from systems import running
from tasks.punctual_jobs import RECORD, SERVED, UNSERVED, served

from cronq import Cronq
from cronq.timetext import read_tick_stamp

PACKAGES = ("redis", "rq")
START_TIMEOUT_S = 60
#: After the last tick the workers may take so long for what they have left.
REST_S = 120
#: The watcher looks so often: what it says of a push is up to that too late.
LOOK_EVERY_S = 0.002
#: Ticks after the kill that are looked at by themselves.
AFTER_KILL_S = 5
MS = 1000.0
TARGETS = {"push": Target(most=60, of="figure"), "body": Target(most=1500, of="figure")}


@dataclass(frozen=True)
class Seen:
    """Somebody saw that the *tick* of *job* had been pushed, or had begun."""

    job: int
    tick: int
    at_s: float

    @property
    def late_s(self) -> float:
        return self.at_s - self.tick


class Watcher:
    """Watches a queue from outside: notes when each id is first seen in it. Takes nothing from it."""

    def __init__(self, url: str, queue: str) -> None:
        self.seen: list[tuple[str, float]] = []
        self._client = Redis.from_url(url)
        self._key = f"rq:queue:{queue}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            ids: Any = self._client.lrange(self._key, len(self.seen), -1)
            now_s = time.time()
            self.seen += [(each.decode(), now_s) for each in ids]
            time.sleep(LOOK_EVERY_S)

    def end(self) -> None:
        """Watch no longer."""
        self._stop.set()
        self._thread.join()
        self._client.close()

    def pushes(self) -> list[Seen]:
        """What was seen."""
        return [Seen(int(name[4:9]), read_tick_stamp(name[10:]) or 0, at_s) for name, at_s in self.seen]


def read_bodies(path: Path) -> list[Seen]:
    """What the bodies wrote."""
    return [Seen(*record) for record in RECORD.iter_unpack(path.read_bytes())]


@dataclass
class Beats(Entrant):
    """So many beats; of several one is killed midway."""

    count: int
    jobs: int
    served: int
    seconds: int
    children: int
    pushes: list[Seen] = field(default_factory=list)
    bodies: list[Seen] = field(default_factory=list)
    killed_at_s: list[float] = field(default_factory=list)

    def measure(self) -> float:
        """One round. Returns the p99 of the pushes in milliseconds."""
        with tempfile.TemporaryDirectory(prefix="cronq-bench-") as directory, redis_server() as url:
            stamps = Path(directory) / "stamps"
            stamps.touch()
            first, pushes = self._run(url, Path(directory), stamps)
            window = range(first, first + self.seconds)
            pushes = [seen for seen in pushes if seen.tick in window]
            bodies = [seen for seen in read_bodies(stamps) if seen.tick in window]
        self.pushes += pushes
        self.bodies += bodies
        for what, seen in (("push", pushes), ("body", bodies)):
            for percentile, late_ms in percentiles([each.late_s for each in seen], MS).items():
                self.figures.setdefault(f"{what}_{percentile}", []).append(late_ms)
        executed = served(self.jobs, self.served)
        check_once("pushed", pushes, sorted(set(range(self.jobs)) - set(executed)), window)
        check_once("run", bodies, executed, window)
        return self.figures["push_p99"][-1]

    def _run(self, url: str, directory: Path, stamps: Path) -> tuple[int, list[Seen]]:
        """Let it run. Returns the first tick that counts, and all pushes that were seen."""
        env = {"BENCH_STAMPS": str(stamps), "BENCH_JOBS": str(self.jobs), "BENCH_SERVED": str(self.served)}
        with ExitStack() as stack:
            app = Cronq(url)
            work = ["-m", "cronq", "worker", SERVED, "-m", "punctual_jobs", "-n", str(self.children)]
            stack.enter_context(running(work, url, directory, env))
            # The first beat stores the jobs.
            command = ["-m", "cronq", "beat"]
            beats = [stack.enter_context(running([*command, "punctual_jobs"], url, directory, env))]
            while len(app.jobs.names()) < self.jobs:
                time.sleep(0.1)
            beats += [stack.enter_context(running(command, url, directory, env)) for _ in range(self.count - 1)]
            watcher = Watcher(url, UNSERVED)
            stack.callback(watcher.end)
            self._wait_until_all_work(app, stamps)
            first = int(time.time()) + 3
            if self.count > 1:
                # 10 ms after a tick: amid the claims.
                killed_at_s = first + self.seconds // 2 + 0.01
                time.sleep(max(0.0, killed_at_s - time.time()))
                os.kill(beats[-1].pid, signal.SIGKILL)
                self.killed_at_s.append(killed_at_s)
            time.sleep(max(0.0, first + self.seconds - time.time()))
            wanted, until = self.served * self.seconds, time.monotonic() + REST_S
            window = range(first, first + self.seconds)
            while sum(seen.tick in window for seen in read_bodies(stamps)) < wanted and time.monotonic() < until:
                time.sleep(0.2)
            time.sleep(0.5)
            return first, watcher.pushes()

    def _wait_until_all_work(self, app: Cronq, stamps: Path) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while len(app.beats()[0]) < self.count or not stamps.stat().st_size:
            if time.monotonic() > until:
                raise RuntimeError(f"after {START_TIMEOUT_S} s beats or workers are not at work")
            time.sleep(0.1)

    def after_kill(self) -> list[Seen]:
        """The pushes of the ticks just after a beat was killed, that one included."""
        return [
            seen for seen in self.pushes
            if any(0 <= seen.tick - int(killed_s) < AFTER_KILL_S for killed_s in self.killed_at_s)
        ]  # fmt: skip


def check_once(what: str, seen: Iterable[Seen], jobs: Sequence[int], window: Sequence[int]) -> None:
    """Raise AssertionError unless each tick of *window* of each of *jobs* is in *seen* exactly once."""
    found = Counter((each.job, each.tick) for each in seen)
    missing = len(jobs) * len(window) - len(found)
    twice = sum(count > 1 for count in found.values())
    if missing or twice:
        raise AssertionError(f"of {len(jobs) * len(window)} ticks {missing} were not {what}, {twice} more than once")


# -- report ------------------------------------------------------------------------------------------


def comparisons(entrants: Sequence[Beats]) -> list[Comparison]:
    lines = []
    for what, words in (("push", "lateness of the push"), ("body", "lateness of the first line")):
        for each in entrants:
            for percentile in ("p50", "p99", "max"):
                kind = f"{what}_{percentile}"
                ratio, late, its = each.ratio_to(entrants[0], kind), each.median(kind), entrants[0].median(kind)
                if not ratio or late is None or its is None:
                    continue
                target = TARGETS[what] if percentile == "p99" and (what == "body" or each.count == 2) else None
                against = f"{entrants[0].name} beats" if each is not entrants[0] else ""
                line = compared(f"{words}, {percentile}", f"{each.name} beats", late, "ms", against, its, ratio, target)
                lines.append(line if against else Comparison(line.what, line.system, late, "ms", target=target))
    for each in entrants:
        if after := each.after_kill():
            late_ms = percentiles([seen.late_s for seen in after], MS)["p99"]
            its = percentiles([seen.late_s for seen in set(each.pushes) - set(after)], MS)["p99"]
            lines.append(
                Comparison(
                    "push after a kill, p99",
                    f"{each.name} beats",
                    late_ms,
                    "ms",
                    "before and later",
                    its,
                    late_ms / its,
                )
            )
    return lines


def as_document(entrants: Sequence[Beats]) -> dict[str, Any]:
    beats: dict[str, Any] = {}
    for each in entrants:
        if not each.pushes:
            continue
        beats[each.name] = {
            "push_ms": percentiles([seen.late_s for seen in each.pushes], MS),
            "body_ms": percentiles([seen.late_s for seen in each.bodies], MS),
            "push_p99_ms_of_rounds": each.figures["push_p99"],
            "body_p99_ms_of_rounds": each.figures["body_p99"],
            "kills": len(each.killed_at_s),
            "ticks": len(each.pushes) + len(each.bodies),
        }
        if after := each.after_kill():
            beats[each.name]["after_kill_ms"] = percentiles([seen.late_s for seen in after], MS)
    return {"beats": beats}


def in_words(document: dict[str, Any]) -> str:
    lines = [f"{'beats':8}{'ticks':>10}" + "".join(
        f"{f'{what} {each}':>14}" for what in ("push", "line 1", "kill") for each in ("p50", "p99", "max")
    )]  # fmt: skip
    for name, found in document["beats"].items():
        late = [found["push_ms"], found["body_ms"], found.get("after_kill_ms", {})]
        cells = (f"{each[p]:,.1f}" if each else "-" for each in late for p in ("p50", "p99", "max"))
        lines.append(f"{name:8}{found['ticks']:>10,}" + "".join(f"{cell:>14}" for cell in cells))
    return "milliseconds after the nominal time, all rounds together; each tick was pushed and run once\n" + "\n".join(
        lines
    )


def main() -> int:
    parser = start_parser("How late ticks are pushed and bodies begin, as others see it.")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs due each second (%(default)s)")
    parser.add_argument("--served", type=int, default=100, help="so many of them are executed (%(default)s)")
    parser.add_argument("--children", type=int, default=4, help="of the worker (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="of a round (%(default)s)")
    parser.add_argument("--beats", type=numbers, default="1,2,4", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="the median counts (%(default)s)")
    arguments = parser.parse_args()
    if not 0 < arguments.served < arguments.jobs or min(arguments.seconds, arguments.rounds, *arguments.beats) < 1:
        parser.error("--served is between 0 and --jobs; --seconds, --rounds and --beats start at 1")
    machine = Machine(PACKAGES)
    entrants = [
        Beats(str(n), n, arguments.jobs, arguments.served, arguments.seconds, arguments.children)
        for n in arguments.beats
    ]  # fmt: skip
    for each in turns(arguments.rounds, entrants, f"{arguments.jobs} jobs due each second"):
        say(f"{each.name} beats, {arguments.seconds} s")
        each.try_round("rounds", each.measure)
    document = as_document(entrants) | {
        name: getattr(arguments, name) for name in ("jobs", "served", "children", "seconds", "rounds")
    }
    show(document, comparisons(entrants), machine.facts(), as_json=arguments.json, also=in_words(document))
    return 1 if any(each.has_failed for each in entrants) else 0


if __name__ == "__main__":
    sys.exit(main())
