"""Keys of a wrong type that the chores of a beat meet: each is said once, and the chore goes on with the next."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ResponseError

from cronq.db.faults import is_wrong_type

log = logging.getLogger("cronq.beat")


class Damage:
    """Logs the damaged keys that one chore meets, each once; *chore* is its name in the log."""

    def __init__(self, chore: str) -> None:
        self._chore = chore
        self._said: set[str] = set()

    @contextmanager
    def passed_over(self) -> Iterator[None]:
        """A block that ends, without an error, where a command meets a key of a wrong type. Other errors are raised."""
        try:
            yield
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            if str(error) not in self._said:
                self._said.add(str(error))
                log.error("DAMAGED a key that the %s reads: %s", self._chore, error)
