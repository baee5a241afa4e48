"""What a job may keep from one run to the next in a long-lived child, made once per process."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar, overload

from cronq.errors import CronqError

T = TypeVar("T")

#: What a child looks at between two runs, by the words that history and log have for it.
KINDS = (
    "threads", "processes", "waited", "descriptors", "streams", "directory", "umask", "signals", "timers", "limits",
    "locale", "path", "environment", "event_loop", "identity", "hooks", "logging",
)  # fmt: skip


def _nothing_to_absorb(may_change: Collection[str]) -> AbstractContextManager[None]:
    return nullcontext()


#: What a long-lived child puts here: whatever changes within is no dirt to it, nor are these kinds from then on.
absorb: Callable[[Collection[str]], AbstractContextManager[None]] = _nothing_to_absorb
#: Held while a value is made. A fork has none of the threads that may hold it.
_making = threading.RLock()


def _begin_anew() -> None:
    global _making
    _making = threading.RLock()


os.register_at_fork(after_in_child=_begin_anew)


class OncePerChild(Generic[T]):
    """A function without arguments that does its work at the first call in a process, and then returns the same."""

    def __init__(self, make: Callable[[], T], may_change: Collection[str]) -> None:
        functools.update_wrapper(self, make)
        self._make = make
        self._may_change = tuple(may_change)
        self._pid = 0
        self._value: T

    def __call__(self) -> T:
        if self._pid != os.getpid():  # also in a fork: a connection must not be used by two processes
            with _making:
                if self._pid != os.getpid():
                    with absorb(self._may_change):
                        self._value = self._make()
                    self._pid = os.getpid()
        return self._value


@overload
def once_per_child(make: Callable[[], T], *, may_change: Collection[str] = ()) -> OncePerChild[T]: ...


@overload
def once_per_child(*, may_change: Collection[str] = ()) -> Callable[[Callable[[], T]], OncePerChild[T]]: ...


def once_per_child(
    make: Callable[[], T] | None = None, *, may_change: Collection[str] = ()
) -> OncePerChild[T] | Callable[[Callable[[], T]], OncePerChild[T]]:
    """Let what *make* opens stay in a long-lived child: a database pool, a cache, a loaded model.

    Returns a function. Call it in the job's body: its first call in a process calls *make*, later ones return the same
    value, also in later runs of that child. What *make* opens, starts or changes is not held against those runs. Where
    each run has a process of its own, and outside cronq, it is made once per process.

    *may_change* names kinds (such as `descriptors` and `threads` for a pool that grows) that may change in this child
    from then on, by whatever. Raises CronqError for a word that is none of `KINDS`.
    """
    for kind in may_change:
        if kind not in KINDS:
            raise CronqError(f"once_per_child(may_change={may_change!r}): {kind!r} is none of {', '.join(KINDS)}")
    if make is None:
        return lambda function: OncePerChild(function, may_change)
    return OncePerChild(make, may_change)
