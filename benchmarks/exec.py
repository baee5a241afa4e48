"""What `cronq exec` costs: from the command line to its exit, beside the bare command, Python and flock(1).

    python benchmarks/exec.py [--calls N] [--rounds N] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from machine import Machine
from redis import Redis
from report import Comparison, Target, compared, show, start_parser
from rounds import Entrant, turns
from server import commands_executed, redis_server

PACKAGES = ("redis", "click")
#: More than the bare command may take, in ms.
ADDED = Target(most=250, of="figure")


def measure(command: Sequence[str], environment: Mapping[str, str], calls: int) -> float:
    """Milliseconds of a call, the median of *calls*."""
    spent = []
    for _ in range(calls):
        begin = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL)
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent) * 1000


def main() -> int:
    parser = start_parser("Wall time of `cronq exec -- true`, beside `true`.")
    parser.add_argument("--calls", type=int, default=20, help="of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts (%(default)s)")
    arguments = parser.parse_args()
    if min(arguments.calls, arguments.rounds) < 1:
        parser.error("--calls and --rounds start at 1")
    cronq = [sys.executable, "-m", "cronq", "exec", "--name", "bench"]
    with redis_server() as url, Redis.from_url(url) as client, tempfile.TemporaryDirectory() as place:
        ways = {
            "true": ["true"],
            "python": [sys.executable, "-c", "pass"],
            "cronq exec": [*cronq, "--", "true"],
            "cronq exec --local-lock": [*cronq, "--local-lock", "--", "true"],
        }
        if shutil.which("flock"):
            ways["flock"] = ["flock", "-n", f"{place}/lock", "true"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"CRONQ_REDIS_URL": url, "CRONQ_HOST_ID": "box"}
        entrants = [Entrant(way) for way in ways]
        machine = Machine(PACKAGES)
        for each in turns(arguments.rounds, entrants, "calls"):
            each.try_round("ms", lambda each=each: measure(ways[each.name], environment, arguments.calls))
        before = commands_executed(client)
        measure(ways["cronq exec"], environment, 1)
        commands = commands_executed(client) - before
    by_name = {each.name: each for each in entrants}
    bare, python = by_name["true"], by_name["python"]
    bare_ms, python_ms = bare.median("ms") or 0.0, python.median("ms") or 0.0
    lines: list[Comparison] = []
    for each in entrants:
        figure, found = each.median("ms"), each.ratio_to(python, "ms")
        if figure is not None and found is not None and each is not python:
            lines.append(compared("a call", each.name, figure, "ms", python.name, python_ms, found))
    whole = by_name["cronq exec"].median("ms")
    if whole is not None:
        lines.append(Comparison("more than the command", "cronq exec", whole - bare_ms, "ms", target=ADDED))
    document = {each.name: round(each.median("ms") or 0.0, 1) for each in entrants}
    show(document | {"commands": commands}, lines, machine.facts(), as_json=arguments.json)
    return 1 if any(each.has_failed for each in entrants) else 0


if __name__ == "__main__":
    sys.exit(main())
