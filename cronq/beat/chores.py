"""What a beat does besides claiming, each piece for itself: one that fails takes no other along."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from redis.exceptions import RedisError

from cronq.clock import boot_s
from cronq.safetext import storable

log = logging.getLogger("cronq.beat")

#: A chore that Redis refuses is tried again after this.
_AGAIN_S = 1.0
_MOST_SAID = 500


@dataclass
class Chore:
    """Something a beat does besides claiming, every so often.

    *work* is given the server's time in epoch seconds, and answers True when it has more to do at once.
    """

    name: str
    every_s: float
    work: Callable[[float], bool | None]
    outage: Callable[[], None] = lambda: None
    due_boot: float = 0.0
    is_failing: bool = False  #: Redis refused it
    said: str = ""  #: what was said of it since it worked last


def do_chores(chores: Iterable[Chore], now_s: Callable[[], float], troubled: Callable[[Exception], None]) -> bool:
    """Do those that are due. Return True if one has more to do at once; *troubled* is told of each refusal of Redis.

    A chore that fails for any other reason is said to be broken, once, and tried again in its own time.
    """
    has_more = False
    for chore in chores:
        if boot_s() < chore.due_boot:
            continue
        chore.due_boot = boot_s() + chore.every_s
        try:
            if chore.work(now_s()):
                chore.due_boot, has_more = 0.0, True  # after the ticks that are due meanwhile
            chore.is_failing, chore.said = False, ""
        except (RedisError, OSError) as error:
            chore.is_failing = True
            chore.due_boot = boot_s() + min(chore.every_s, _AGAIN_S)
            troubled(error)
        except Exception as error:
            chore.said = say_once(chore.said, f"chore {chore.name!r}", error)
    return has_more


def say_once(said: str, what: str, error: Exception) -> str:
    """Log that *what* is broken unless the same was *said*; what is said now. The traceback is for `--debug`."""
    words = storable(f"{type(error).__name__}: {error}", _MOST_SAID)
    if words != said:
        log.error("BROKEN %s cannot be done: %s; going on", what, words, exc_info=log.isEnabledFor(logging.DEBUG))
    return words
