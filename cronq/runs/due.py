"""Which ticks of a job are due and what becomes of each: arithmetic only, no Redis and no clock.

The rules (the `catchup` option):

* pending are the ticks after the mark, up to now. One pending tick of at most 60 s runs;
* of several, all but the newest were missed, whatever their age; the newest was missed when it is older
  than 60 s;
* `latest` runs the newest and records the others `coalesced`; `skip` records missed ticks `missed`; `all`
  runs each, the newest `max_catchup` of them, unless `overlap` lets only the newest run: then it is as `latest`;
* a missed tick older than `window` is `missed` under every rule; a paused job's ticks are `paused`;
* a late tick that a beat has found and holds (`brake`) is judged as of then: neither `window` nor `max_catchup` takes
  it away while it waits for its turn;
* a tick that somebody skips or that the job's calendars exclude is `skipped`, and the rules for pending ticks see
  only the others;
* of a job with `backfill` no tick is missed: the first pending one runs, however old it is, and the others wait.

From `LEAST_OF_RANGE` on, consecutive ticks with one outcome for one reason are one decision, a *range*: however long
the gap was, it takes no more time to decide, and no more room in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from math import ceil
from typing import NamedTuple

from cronq.jobs.calendar import NO_CALENDARS, Calendars
from cronq.jobs.pause import LATE_S, Pause
from cronq.jobs.skip import Skips, skip_of
from cronq.jobs.spec import JobSpec
from cronq.runs.cause import write_cause
from cronq.runs.overlap import keeps_newest
from cronq.schedule.bounds import first_ticks
from cronq.schedule.schedule import Schedule
from cronq.timetext import format_duration, iso

#: More ticks than this are decided in several passes, so that one job cannot hold up the others.
MAX_TICKS_A_PASS = 1000
#: So many ticks of one kind are recorded as one range; fewer have a row each.
LEAST_OF_RANGE = 4

#: So many ticks of a job with calendars are looked at in one pass: each has to be held against them.
MOST_LOOKED_AT = 20_000

# Why a tick does not run; None is for one that does. Neighbours of one kind may share a range. For a tick that its
# calendars exclude it is `_EXCLUDED` and what they say of it, but for its own time; for one that somebody skips it is
# `_SKIPPED` and who that is.
_PAUSED, _TOO_OLD, _NOT_CAUGHT_UP, _REPLACED, _TOO_MANY = "paused", "window", "skip", "coalesced", "max_catchup"
_CLOSED, _EXCLUDED, _SKIPPED = "closed", "excluded ", "skipped "


class Decision(NamedTuple):
    """What becomes of one tick, or of a range of them: `outcome` None means it runs."""

    tick: int  #: of a range the newest
    outcome: str | None
    reason: str
    trigger: str
    next_tick: int | None  #: when the tick after this one is due: what the agenda says once this one is claimed
    first: int | None = None  #: of a range its oldest tick
    ticks: int = 1  #: how many it is about
    after: int = 0  #: of a range: what the mark must be, for it names no single tick in between
    number: int | None = None  #: of a job with `repeat`: how many ticks it has had with this one
    in_order: bool = False  #: it is claimed when the tick before it has succeeded, and no sooner
    cause: str | None = None  #: what the outcome does not say, as `cause` writes it


class Exclusion(NamedTuple):
    """What becomes of a tick that does not run."""

    outcome: str
    reason: str
    cause: str | None = None  #: what the outcome does not say, as `cause` writes it


def excluded(spec: JobSpec, tick: int, pause: Pause | None, calendars: Calendars, skips: Skips) -> Exclusion | None:
    """What becomes of a tick that does not run however early it is found; None for any other."""
    if pause is not None and pause.covers(tick):
        return Exclusion("paused", pause.reason)
    if skips and (skip := skip_of(skips, tick)) is not None:
        return Exclusion("skipped", skip.reason, write_cause("skip"))
    if spec.only or spec.except_:
        found = calendars.excluding(spec.only, spec.except_, tick, spec.tz)
        if found is not None:
            return Exclusion("skipped", found[1], write_cause("calendar", found[0]))
    return None


def ticks_to_run(
    spec: JobSpec, after: int, count: int, pause: Pause | None, calendars: Calendars, skips: Skips, most: int
) -> list[int]:
    """The first *count* ticks after *after* that nothing keeps from running, of the next *most*; oldest first."""
    found: list[int] = []
    tick: int | None = after
    for _ in range(most):
        tick = spec.schedule.next_after(tick) if spec.schedule is not None and tick is not None else None
        if tick is None or len(found) == count:
            break
        if excluded(spec, tick, pause, calendars, skips) is None:
            found.append(tick)
    return found


def decide(
    spec: JobSpec,
    mark: int,
    pause: Pause | None,
    now: float,
    calendars: Calendars = NO_CALENDARS,
    apart: int | None = None,
    had: int = 0,
    skips: Skips = (),
    held: int = 0,
) -> list[Decision]:
    """The decisions for the ticks in (mark, now], oldest first; [] when nothing is due.

    A job with `repeat`, which has *had* so many ticks, has only those that are left of it, whatever becomes of each.
    The tick *apart* is in no range. Ticks up to *held* were found before, and are held: of them only those are left
    that are to run. Of more than `MAX_TICKS_A_PASS` decisions the first are returned; ask again with the last of them
    as the mark for the others. Raises ScheduleError when the stored schedule cannot be read.
    """
    until = int(now)
    if spec.jitter is not None:
        until, now = due_until(spec, now), without_jitter(spec, now)
    schedule = spec.schedule if spec.repeat is None else _left(spec, mark, until, had)
    if schedule is None:
        return []
    first = schedule.next_after(mark)
    if first is None or first > until:
        return []
    if spec.backfill:
        return _finished(spec, _in_order(spec, schedule, mark, pause, until, calendars, skips, apart), had)
    second = schedule.next_after(first)
    if second is None or second > until:  # the everyday case: exactly one
        outcome = None
        if pause is not None or skips or spec.only or spec.except_:
            outcome = excluded(spec, first, pause, calendars, skips)
        one = _one(spec, first, second, now, held) if outcome is None else _of_none(first, outcome, second)
        return [one] if spec.jitter is None and spec.repeat is None else _finished(spec, [one], had)
    pending = _Pending(spec, schedule, mark, pause, now, until, calendars, skips, held=held)
    return _finished(spec, pending.decisions(apart), had)


def _in_order(
    spec: JobSpec,
    schedule: Schedule,
    mark: int,
    pause: Pause | None,
    until: int,
    calendars: Calendars,
    skips: Skips,
    apart: int | None,
) -> list[Decision]:
    """The decisions for a job with `backfill`: the first pending tick that runs, and those before it that do not.

    The others wait: what becomes of them is decided when that one has succeeded.
    """
    last_left_out, tick = None, schedule.next_after(mark)
    for _ in range(MOST_LOOKED_AT):
        if tick is None or tick > until or excluded(spec, tick, pause, calendars, skips) is None:
            break
        last_left_out, tick = tick, schedule.next_after(tick)
    found: list[Decision] = []
    if last_left_out is not None:
        pending = _Pending(spec, schedule, mark, pause, float(last_left_out), last_left_out, calendars, skips)
        found = pending.decisions(apart)
    is_whole = not found or found[-1].tick == last_left_out
    if is_whole and tick is not None and tick <= until and excluded(spec, tick, pause, calendars, skips) is None:
        found.append(Decision(tick, None, "due", "schedule", schedule.next_after(tick)))
    return [each._replace(in_order=True) for each in found]


def decide_closed(
    spec: JobSpec,
    mark: int,
    pause: Pause | None,
    now: float,
    calendars: Calendars,
    words: str,
    apart: int | None = None,
    had: int = 0,
    skips: Skips = (),
) -> list[Decision]:
    """The same for a job whose schedule ends or changes now: nothing runs.

    What neither a pause, a skip nor its calendars would have kept from running is `missed`, with *words* as its reason.
    """
    schedule = _left(spec, mark, int(now), had)
    if schedule is None:
        return []
    pending = _Pending(spec, schedule, mark, pause, now, int(now), calendars, skips, closing=words)
    return _finished(spec, pending.decisions(apart), had)


def _left(spec: JobSpec, mark: int, until: int, had: int) -> Schedule | None:
    """The schedule of *spec*, up to *until* without ticks beyond its `repeat`; None when it has none."""
    if spec.schedule is None or spec.repeat is None:
        return spec.schedule
    return first_ticks(spec.schedule, mark, spec.repeat - had, until)[0]


def due_until(spec: JobSpec, now: float) -> int:
    """The second up to which ticks are due *now*: with jitter it is before the tick whose delay is not over."""
    schedule = spec.schedule if spec.jitter is not None else None
    newest = None if schedule is None else schedule.last_until(int(now))
    due = spec.due_s(newest)
    return int(now) if newest is None or due is None or due <= now else newest - 1


def without_jitter(spec: JobSpec, now: float) -> float:
    """The moment from which lateness counts back to a tick: earlier than *now* by the delay of the newest that is due.

    For lateness counts from when a tick was to be queued.
    """
    schedule = spec.schedule if spec.jitter is not None else None
    newest = None if schedule is None else schedule.last_until(due_until(spec, now))
    due = spec.due_s(newest)
    return now if newest is None or due is None else now - (due - newest)


def _finished(spec: JobSpec, decisions: list[Decision], had: int) -> list[Decision]:
    """*decisions* with the count of ticks, if *spec* limits them, and with when the next one is due."""
    if spec.jitter is not None:
        decisions = [each._replace(next_tick=spec.due_s(each.next_tick)) for each in decisions]
    if spec.repeat is None:
        return decisions
    counts = accumulate((each.ticks for each in decisions), initial=had)
    return [each._replace(number=count) for each, count in zip(decisions, list(counts)[1:], strict=True)]


class _Pending:
    """Several pending ticks of a job. They are not listed: the rules cut the time since the mark into few spans.

    But for those of a job with calendars: each of them has to be held against these.
    """

    def __init__(
        self,
        spec: JobSpec,
        schedule: Schedule,
        mark: int,
        pause: Pause | None,
        now: float,
        until: int,
        calendars: Calendars,
        skips: Skips,
        *,
        closing: str | None = None,
        held: int = 0,
    ) -> None:
        self.spec = spec
        self.schedule = schedule
        self.mark = mark
        self.pause = pause
        self.now = now  #: the moment from which lateness counts
        self.until = until  #: ticks up to here are pending
        self.calendars = calendars
        #: Pending ticks that somebody skips, and the reason of each.
        self.skipped = {tick: skip.reason for skip in skips for tick in skip.ticks if mark < tick <= until}
        self.closing = closing  #: why none of them runs; None: they may
        self.held = held  #: up to here they were found in time to run
        self.runs_only_newest = spec.catchup != "all" or keeps_newest(spec.overlap)
        #: The newest tick that is not excluded, and the oldest that is not one too many.
        self.newest, self.oldest_run = self._newest_free()

    def _newest_free(self) -> tuple[int, int]:
        """The newest tick and the oldest of those that may run, of which there are `max_catchup` or one."""
        wanted = 1 if self.runs_only_newest else self.spec.max_catchup
        newest = oldest = self.mark
        if self.closing is not None:
            return newest, oldest
        tick = self.schedule.last_until(self.until)
        while tick is not None and tick > self.mark and wanted:
            if self.pause is not None and self.pause.covers(tick):
                break  # as are all before it
            if tick not in self.skipped and self._exclusion(tick) is None:
                newest, oldest, wanted = max(newest, tick), tick, wanted - 1
            tick = self.schedule.last_until(tick - 1)
        return newest, oldest

    def _exclusion(self, tick: int) -> tuple[str, str] | None:
        if not self.spec.calendars:
            return None
        return self.calendars.excluding(self.spec.only, self.spec.except_, tick, self.spec.tz)

    def kind(self, tick: int) -> str | None:
        """Why *tick* does not run; None when it does."""
        if self.pause is not None and self.pause.covers(tick):
            return _PAUSED
        if tick in self.skipped:
            return _SKIPPED + self.skipped[tick]
        exclusion = self._exclusion(tick)
        if exclusion is not None:
            return _EXCLUDED + exclusion[1].partition(" is ")[2]
        if self.closing is not None:
            return _CLOSED
        age = self.now - tick
        if tick == self.newest and age <= LATE_S:
            return None
        if age > self.spec.window and tick > self.held:
            return _TOO_OLD
        if self.spec.catchup == "skip":
            return _NOT_CAUGHT_UP
        if self.runs_only_newest:
            return None if tick == self.newest else _REPLACED
        return None if tick >= self.oldest_run or tick <= self.held else _TOO_MANY

    def decisions(self, apart: int | None) -> list[Decision]:
        """What becomes of the ticks, oldest first, `MAX_TICKS_A_PASS` at most."""
        found: list[Decision] = []
        for after, until in self._spans(apart):
            found += self._of_span(after, until)
        if not found:
            return []
        following = [*(each.first or each.tick for each in found[1:]), self.schedule.next_after(found[-1].tick)]
        # A last part of a single tick would be decided as if it were the only one pending: two are left for it.
        part = MAX_TICKS_A_PASS - 1 if len(found) == MAX_TICKS_A_PASS + 1 else MAX_TICKS_A_PASS
        return [each._replace(next_tick=tick) for each, tick in zip(found[:part], following[:part], strict=True)]

    def _spans(self, apart: int | None) -> list[tuple[int, int]]:
        """The spans of ticks of one kind, oldest first: from after one instant to another, both ticks or the mark."""
        spans: list[tuple[int, int]] = []
        reached, last_kind = self.mark, None
        for tick in self._looked_at() if self.spec.calendars else self._last_of_kinds(apart):
            kind = self.kind(tick)
            if spans and apart not in (reached, tick) and last_kind == kind:
                spans[-1] = spans[-1][0], tick
            else:
                spans.append((reached, tick))
            reached, last_kind = tick, kind
        return spans

    def _looked_at(self) -> Iterator[int]:
        """Each tick, oldest first, `MOST_LOOKED_AT` or one more at most: never all but one."""
        until = self.until
        tick, number = self.schedule.next_after(self.mark), 0
        while tick is not None and tick <= until:
            following = self.schedule.next_after(tick)
            yield tick
            number += 1
            if number >= MOST_LOOKED_AT and following is not None:
                after = self.schedule.next_after(following)
                if after is not None and after <= until:
                    return
            tick = following

    def _last_of_kinds(self, apart: int | None) -> Iterator[int]:
        """The last tick of each span between instants at which the kind may change."""
        until = self.until
        cuts = {self.newest - 1, self.oldest_run - 1, self.held, ceil(self.now - self.spec.window) - 1}
        if self.pause is not None and self.pause.until is not None:
            cuts.add(ceil(self.pause.until) - 1)
        if apart is not None:
            cuts |= {apart - 1, apart}
        for skipped in self.skipped:
            cuts |= {skipped - 1, skipped}
        reached = self.mark
        for cut in (*sorted(cut for cut in cuts if self.mark < cut < until), until):
            tick = self.schedule.last_until(cut)
            if tick is not None and tick > reached:
                yield tick
                reached = tick

    def _of_span(self, after: int, until: int) -> Iterator[Decision]:
        kind = self.kind(until)
        if kind is not None:
            count = self.schedule.count(after, until)
            if count >= LEAST_OF_RANGE:
                first = self.schedule.next_after(after)
                one = _of_none(until, self._told(kind, until, count), None)
                yield one._replace(first=first, ticks=count, after=after)
                return
        tick = self.schedule.next_after(after)
        while tick is not None and tick <= until:
            yield self._single(tick, kind)
            tick = self.schedule.next_after(tick)

    def _single(self, tick: int, kind: str | None) -> Decision:
        if kind is not None:
            return _of_none(tick, self._told(kind, tick, 1), None)
        if tick != self.newest:
            return _caught_up(tick, None, self.now - tick, self.held)
        decision = _one(self.spec, tick, None, self.now, self.held)
        # Even when it is on time: the ticks queued just before it must not push it out as an overlap.
        return decision._replace(trigger="catchup") if self.spec.catchup == "all" else decision

    def _told(self, kind: str, tick: int, count: int) -> Exclusion:
        """What becomes of a tick that does not run, or of *count* ticks up to it."""
        if kind == _PAUSED:
            assert self.pause is not None
            return Exclusion("paused", self.pause.reason)
        if kind.startswith(_SKIPPED):
            return Exclusion("skipped", kind.removeprefix(_SKIPPED), write_cause("skip"))
        if kind.startswith(_EXCLUDED):
            too = f", and so were the {count - 1:,} ticks before it" if count > 1 else ""
            names, words = self._exclusion(tick) or ("", "")
            return Exclusion("skipped", f"{words}{too}", write_cause("calendar", names))
        if kind == _CLOSED:
            return Exclusion("missed", self.closing or "")
        late = f"no beat took it in time, as {count:,} ticks in a row"
        if count == 1:
            late = _late(tick, self.now - tick, self.held)
        if kind == _REPLACED:
            return Exclusion("coalesced", f"{late}; the newest, {iso(self.newest)}, was taken in its place")
        why = {
            _TOO_OLD: f", beyond the window of {format_duration(self.spec.window)}",
            _NOT_CAUGHT_UP: "; catchup is skip",
            _TOO_MANY: f"; more than max_catchup={self.spec.max_catchup} were pending",
        }
        return Exclusion("missed", late + why[kind])


def _of_none(tick: int, found: Exclusion, after: int | None) -> Decision:
    return Decision(tick, found.outcome, found.reason, "schedule", after, cause=found.cause)


def _one(spec: JobSpec, tick: int, after: int | None, now: float, held: int) -> Decision:
    age = now - tick
    if age <= LATE_S:  # one that was held was so behind ticks of its job, and they must not push it out as an overlap
        return Decision(tick, None, "due", "catchup" if tick <= held else "schedule", after)
    late = _late(tick, age, held)
    if age > spec.window and tick > held:
        text = f"{late}, beyond the window of {format_duration(spec.window)}"
        return Decision(tick, "missed", text, "schedule", after)
    if spec.catchup == "skip":
        return Decision(tick, "missed", f"{late}; catchup is skip", "schedule", after)
    return _caught_up(tick, after, age, held)


def _caught_up(tick: int, after: int | None, age: float, held: int) -> Decision:
    return Decision(tick, None, f"caught up: {_late(tick, age, held)}", "catchup", after)


def _late(tick: int, age: float, held: int) -> str:
    if tick <= held:
        return f"no beat took it in time; its turn at the catch-up rate came {format_duration(age)} late"
    return f"no beat took it in time; found {format_duration(age)} late"
