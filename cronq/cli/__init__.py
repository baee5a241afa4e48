"""The command line. A process that is told to end while it still imports ends in order, so `main` imports late."""

from __future__ import annotations

import os
import signal
import sys

#: Verbs that go on until they are told to end, and then end in order.
PROCESSES = ("dev", "beat", "worker")
#: Options that stand before the verb and take the word after them.
_WITH_VALUE = ("--url", "--prefix")


def main() -> None:
    """The `cronq` command; ends with the exit codes of `docs/command-line.md`."""
    if verb_among(sys.argv[1:]) in PROCESSES:
        # Until the verb listens for itself, which is after some imports: there is nothing yet to be ended in order.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # held back by a process that began anew
    try:
        from cronq.cli.verbs import run

        code = run()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def verb_among(words: list[str]) -> str | None:
    """The verb, without the parser of the command line: that takes time to import."""
    before = ""
    for word in words:
        if before not in _WITH_VALUE and not word.startswith("-"):
            return word
        before = "" if before in _WITH_VALUE else word
    return None
