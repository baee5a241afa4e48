"""What keeps a run from its work, or kept it, as data: the field `cause` of a row, which programs and `why` go by.

It is there where the outcome does not say it all, and begins with a word of `cronq why --json`. Where the reason
follows from it, the row does without one. Rows of older releases have only words: of these it is read, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cronq.db.decode import moment, read_json
from cronq.errors import BadValue

#: The outcome, or the state, without which a cause is a leftover: of a process that does not know the field.
_FITS = {
    "overlap": "skipped", "skip": "skipped", "calendar": "skipped", "lock_busy": "skipped", "queue_paused": "paused",
    "coalesced": "coalesced", "blocked": "blocked", "waits_for_run": "waiting",
}  # fmt: skip
_NOBODY = "-"


class Parent(NamedTuple):
    """A parent that has not succeeded as a run needs it."""

    name: str
    tick: int | None  #: its tick that is awaited; None when it need only have succeeded since
    state: str | None = None  #: how the run of that tick stood when this one was blocked: its outcome or state


class Cause(NamedTuple):
    """One cause; which of the fields it has follows from the code."""

    code: str
    other: str | None = None  #: what it is about, by name: a run, a lock, a queue, a calendar, a parent
    run_id: str | None = None  #: the run that holds the lock, or waits in the queue
    state: str | None = None  #: how the run in the way stood
    parents: tuple[Parent, ...] = ()

    @property
    def words(self) -> str | None:
        """The reason that follows from it; None when the row has one of its own."""
        if self.code == "overlap" and self.state is not None:
            return f"the run {self.other} was still {self.state}"
        return f"the run {self.other} took its place" if self.code == "coalesced" else None

    def write(self) -> str | None:
        """As it stands in the row of ticks that ended alike; None for one that no such ticks have."""
        if self.code not in ("skip", "calendar"):
            return None
        return write_cause(self.code, *([self.other] if self.other else []))


def write_cause(code: str, *words: str | None) -> str:
    """A cause as it stands in a row; None stands for somebody who is not known."""
    return " ".join((code, *(word if word is not None else _NOBODY for word in words)))


def read_cause(raw: str, outcome: str | None, state: str | None) -> Cause | None:
    """The cause in the row of a run with that *outcome* and *state*; None for one that does not fit or is damaged."""
    code, _, rest = raw.partition(" ")
    if not code or _FITS.get(code, outcome) not in (outcome, state):
        return None
    first, _, more = rest.partition(" ")
    if code == "blocked":
        parents = tuple(parent for word in rest.split(" ") if (parent := _read_parent(word)) is not None)
        return Cause(code, parents[0].name, parents=parents) if parents else None
    if code == "overlap":
        return Cause(code, first, state=more or None) if first else None
    if code == "queue_paused":
        return Cause(code, first, run_id=more or None) if first else None
    if code == "lock_busy":
        return Cause(code, more, run_id=None if first == _NOBODY else first) if more else None
    return Cause(code, rest or None)


def _read_parent(word: str) -> Parent | None:
    name, _, more = word.partition(":")
    tick, _, state = more.partition(":")
    return Parent(name, moment(tick or None), state or None) if name else None


def read_needs(raw: str | None) -> tuple[Parent, ...]:
    """The parents that a run waits for, from its row (`lua/parts/gates`), by name; none when it cannot be read."""
    try:
        needs: Any = read_json(raw) if raw else {}
    except BadValue:
        return ()
    found = []
    for name, need in needs.items() if isinstance(needs, Mapping) else ():
        if isinstance(need, Sequence) and not isinstance(need, str) and len(need) == 3:
            has_run = bool(need[2]) and isinstance(need[0], int | float)
            found.append(Parent(str(name), moment(float(need[0])) if has_run else None))
    return tuple(sorted(found))


def cause_in_words(reason: str, outcome: str | None, state: str | None) -> Cause | None:
    """The cause that the words of an older release tell; None when there is none in them."""
    words = reason.split(" ")
    named = words[2].rstrip(",") if len(words) > 2 else None
    if outcome == "skipped":
        if reason.startswith("the run "):
            return Cause("overlap", named)
        if words[0].rstrip(":") == "skipped":
            return Cause("skip")
        if reason.startswith(("its lock", "the lock ")):
            return Cause("lock_busy")
        return Cause("calendar") if "calendar" in reason else None
    if outcome == "paused":
        return Cause("queue_paused", named) if reason.startswith("the queue ") else None
    if state == "waiting":
        if reason.startswith("waits for the run "):
            return Cause("waits_for_run", words[4].rstrip(",") if len(words) > 4 else None)
        return Cause("waits_for_lock") if "lock" in reason else None
    return None
