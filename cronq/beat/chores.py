"""The chores of a beat: what it does besides claiming. A chore that fails takes no other along."""

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
    """One chore, done every *every_s* seconds.

    *work* is given the server's time in epoch seconds, and returns True when it has more to do at once. *outage* is
    called when Redis is away or refuses all: what the chore has seen before proves nothing then.
    """

    name: str
    every_s: float
    work: Callable[[float], bool | None]
    outage: Callable[[], None] = lambda: None
    due_boot: float = 0.0  #: when it is due, boot clock; 0.0: at once
    is_failing: bool = False  #: Redis did not let it work the last time
    said: str = ""  #: what was logged of it since it worked last


def do_chores(chores: Iterable[Chore], now_s: Callable[[], float], troubled: Callable[[Exception], None]) -> bool:
    """Do the *chores* that are due. Return True if one of them has more to do at once.

    *troubled* is called with each error of Redis. Any other failure is logged once, and the chore done again when it is
    due.
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
    """Log that *what* is broken, unless the words are those *said* before. Returns the words.

    The traceback is logged with `--debug` only.
    """
    words = storable(f"{type(error).__name__}: {error}", _MOST_SAID)
    if words != said:
        log.error("BROKEN %s cannot be done: %s; going on", what, words, exc_info=log.isEnabledFor(logging.DEBUG))
    return words
