"""SIGHUP: a beat or a worker ends what it is at and begins anew, with the code and the definitions of that moment."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

#: A process could not be made anew.
_FAILED = 1
#: Held back while one program takes the place of the other, which has no handler for them yet.
_HELD_BACK = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


class Hangup:
    """What SIGHUP does to this process. In a session with a terminal that is gone then, so it leaves as at SIGTERM.

    `nohup` keeps its meaning. *finish* lets it end when what it is at is done, *leave* is its handler of SIGTERM.
    """

    def __init__(self, finish: Handler, leave: Handler) -> None:
        self._is_heard = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        self._begins_anew = not _has_terminal()
        self._handler = finish if self._begins_anew else leave

    def listen(self) -> None:
        """Heed it from now on, also one that came while this program took the place of an earlier one."""
        if self._is_heard:
            signal.signal(signal.SIGHUP, self._handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)

    def end(self, code: int, told: set[int], log: logging.Logger) -> int:
        """Return *code*; or begin anew, with the same words and pid, when no other signal is in *told*."""
        if told != {signal.SIGHUP} or not self._begins_anew:
            return code
        log.info("RELOAD begins anew, as SIGHUP asked")
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        except OSError as error:
            log.error("RELOAD failed, so it ends: %s", error)
            return _FAILED


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
