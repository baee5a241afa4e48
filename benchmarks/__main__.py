"""All benchmarks, one after the other, and one table of what they say.

    python -m benchmarks [--quick] [--only NAME,…] [--json]

README.md beside this file says what each figure means.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import Machine, in_words
from report import pick, start_parser, table
from rounds import say

HERE = Path(__file__).resolve().parent

#: By name: the script, and what it is given for figures to quote and for a quick look.
BENCHMARKS: dict[str, tuple[str, str, str]] = {
    "claim": ("claim.py", "", "--jobs 1000 --rounds 2"),
    "claim-one-core": ("claim.py", "--one-core", "--one-core --jobs 1000 --rounds 2 --only cronq,huey,floor"),
    "enqueue": ("enqueue_many.py", "", "--runs 500 --rounds 2"),
    "worker": ("worker.py", "", "--jobs 100 --rounds 1"),
    "punctuality": ("punctuality.py", "", "--seconds 10 --beats 1,2"),
    "idle": ("idle.py", "", "--seconds 10 --jobs 1,1000"),
    "scale": (
        "scale.py", "",
        "--rounds 2 --jobs 100,10_000,100_000 --rows 1000,100_000 --beats 1,4 --seconds 4 --due 200",
    ),
    "memory": ("memory.py", "", "--runs 200"),
    "simulate": ("simulate.py", "", "--days 30"),
    "exec": ("exec.py", "", "--rounds 2 --calls 5"),
    "stages": ("stages.py", "", "--rounds 2 --runs 50"),
}  # fmt: skip


def measure(name: str, words: list[str]) -> tuple[dict[str, Any] | None, int]:
    """What this benchmark prints as JSON, or None, and its exit code. It has a process of its own."""
    command = [sys.executable, str(HERE / BENCHMARKS[name][0]), "--json", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    try:
        return json.loads(done.stdout), done.returncode
    except ValueError:
        return None, done.returncode or 1


def main() -> int:
    parser = start_parser("All benchmarks, and one table of what they say.")
    parser.add_argument("--quick", action="store_true", help="small numbers: minutes, and nothing to quote")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of: {', '.join(BENCHMARKS)}")
    arguments = parser.parse_args()
    machine = Machine(("redis", "hiredis", "rq", "celery", "dramatiq", "huey"))
    documents: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    for name in pick(parser, arguments.only, list(BENCHMARKS)):
        words = BENCHMARKS[name][2 if arguments.quick else 1].split()
        say(f"== {name} {' '.join(words)}")
        began_s = time.monotonic()
        document, code = measure(name, words)
        say(f"== {name} took {time.monotonic() - began_s:.0f} s")
        if document is not None:
            documents[name] = document
        if code:
            failed.append(name)
    facts = machine.facts()
    lines = [line for document in documents.values() for line in document["comparisons"]]
    if arguments.json:
        print(json.dumps({"benchmarks": documents, "comparisons": lines, "failed": failed, "machine": facts}))
    else:
        print(f"{in_words(facts)}\n\n{table(lines)}")
        missed = [line for line in lines if line["met"] is False]
        print(f"\n{len(missed)} of {sum(line['met'] is not None for line in lines)} targets missed")
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
