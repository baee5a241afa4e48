"""What the ledger must say of each tick of a job, by the rules as the pages tell them: the judge of `test_ledger`.

It knows nothing of marks, ranges, versions or scripts, and uses no code of what it judges; where a tick lies is told by
a watched wall clock (`tests.unit.cron_oracle`), in which calendar it lies by asking zoneinfo.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tests.unit import cron_oracle

#: Found later than this after its time, a tick was missed.
LATE_S = 60


# When


@dataclass(frozen=True)
class When:
    """A schedule as somebody writes it, and its bounds."""

    cron: str | None = None
    every: int | None = None
    at: str | None = None  #: HH:MM with `every` in whole days; a date with a time and an offset without it
    tz: str = "UTC"
    dst: str = "debian"
    start: int | None = None
    end: int | None = None

    def words(self) -> dict[str, Any]:
        """As options of a job."""
        moments = {"start": self.start, "end": self.end}
        given: dict[str, Any] = {key: None if at is None else _stamp(at) for key, at in moments.items()}
        given |= {"cron": self.cron, "every": self.every, "at": self.at}
        return {key: value for key, value in given.items() if value is not None} | {"tz": self.tz, "dst": self.dst}


@dataclass(frozen=True)
class Span:
    """The part of the world's time that is looked at, in epoch seconds: [begin, end). It ends *margin* before."""

    begin: int
    end: int
    margin: int


def _stamp(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@lru_cache(maxsize=256)
def nominal(when: When, span: Span) -> tuple[int, ...]:
    """All ticks of a schedule within *span*."""
    found: list[int]
    if when.cron is not None:
        found = cron_oracle.ticks(when.cron, when.tz, when.dst, span.begin, span.end)
    elif when.at is not None and when.every is None:
        found = [round(datetime.fromisoformat(when.at).timestamp())]
    elif when.at is not None and when.every is not None:
        hour, minute = map(int, when.at.split(":"))
        found = cron_oracle.daily_ticks(when.every // 86400, hour, minute, when.tz, when.dst, span.begin, span.end)
    else:
        assert when.every is not None
        found = list(range(-(-span.begin // when.every) * when.every, span.end, when.every))
    begin, end = span.begin if when.start is None else when.start, span.end if when.end is None else when.end
    return tuple(tick for tick in found if max(begin, span.begin) <= tick <= end and tick < span.end)


# Calendars


@dataclass(frozen=True)
class Days:
    """What a calendar holds: dates, and hours (minutes of the day) of some days of each week, 0 being Monday."""

    dates: tuple[date, ...] = ()
    weekly: tuple[tuple[tuple[int, ...], int, int], ...] = ()
    tz: str | None = None

    def holds(self, tick: int, tz: str) -> bool:
        there = datetime.fromtimestamp(tick, ZoneInfo(self.tz or tz))
        minute, weekday = there.hour * 60 + there.minute, there.weekday()
        if there.date() in self.dates:
            return True
        for days, begin, end in self.weekly:
            if begin < end and weekday in days and begin <= minute < end:
                return True
            begins_today, began_yesterday = weekday in days and minute >= begin, (weekday - 1) % 7 in days
            if begin > end and (begins_today or (began_yesterday and minute < end)):
                return True
        return False


Calendars = Mapping[str, Days]


# A job


@dataclass(frozen=True)
class Rules:
    """The options of a job that decide what becomes of its ticks."""

    when: When
    catchup: str = "latest"
    window: int = 86400
    max_catchup: int = 100
    overlap: str = "skip"
    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    repeat: int | None = None
    jitter: int | None = None
    backfill: bool = False
    note: str = ""  #: its description, which decides nothing

    def words(self) -> dict[str, Any]:
        """As options of a job."""
        names = ["only", "except_", "repeat", "jitter"]
        names += ["backfill"] if self.backfill else ["catchup", "window", "max_catchup", "overlap"]
        given = {name: getattr(self, name) for name in names}
        given |= self.when.words() | {"description": self.note, "keep": 100_000}
        return {key: value for key, value in given.items() if value is not None}

    def in_order(self) -> Rules:
        """The same with `backfill`, which does not go with the others."""
        return replace(self, backfill=True, catchup="latest", window=86400, max_catchup=100, overlap="skip")

    def excludes(self, tick: int, calendars: Calendars) -> str | None:
        """Words of the reason for which calendars keep *tick* from running; None when they do not."""
        for name in self.except_:
            if name in calendars and calendars[name].holds(tick, self.when.tz):
                return f" is in the calendar {name}"
        if not self.only or any(calendars[name].holds(tick, self.when.tz) for name in self.only if name in calendars):
            return None
        if any(name not in calendars for name in self.only):
            return "there is no calendar "
        return " is not in the calendar "


class Verdict(NamedTuple):
    """What becomes of one tick when its claim is carried out: `run`, or an outcome and words of its reason."""

    tick: int
    word: str
    why: str = ""
    is_caught_up: bool = False  #: with catchup="all": it is asked for, whatever is open
    may_wait: bool = False  #: it is a late run, or stands behind one: the catch-up rate may hold it
    is_new: bool = False  #: it is on time, and was not held before
    is_late: bool = False  #: the tick after it is due as well
    has_turn: bool = False  #: it was held and does not run any more, and nothing new is due: its turn may come first


def least_of(verdicts: list[Verdict]) -> int:
    """How many of them are carried out at once though late runs are held: those before the first late run, and with
    catchup="all" as many of these as there are new ticks on time; and those before one that still has its turn."""
    free = sum(each.may_wait and each.is_new for each in verdicts)
    for number, each in enumerate(verdicts):
        if each.has_turn and not free:
            return number
        if each.may_wait:
            if not free:
                return number
            free -= 1
    return len(verdicts)


#: What a tick waits for: by parent the moment up to which it must have succeeded.
Needs = Mapping[str, int]


def no_needs(tick: int) -> Needs:
    """A job without parents waits for nothing."""
    return {}


@dataclass
class Entry:
    """What the ledger says of a tick at present."""

    word: str  #: the state of an open run, else the outcome
    why: str = ""  #: words of its reason
    is_pushed: bool = False  #: its id was pushed to the queue, and nobody took it out there but a worker


@dataclass
class Pause:
    note: str
    until: float | None

    def covers(self, tick: int) -> bool:
        return self.until is None or tick < self.until


@dataclass
class Job:
    """One job as time goes by. *delay_s* gives how long after a tick it is queued, by tick and the one that follows."""

    name: str
    rules: Rules
    span: Span
    since: int  #: no tick up to here exists for it
    delay_s: Callable[[str, int, int | None, float], int]
    had: int = 0
    pause: Pause | None = None
    skips: dict[int, str] = field(default_factory=dict)
    ledger: dict[int, Entry] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    success: int | None = None  #: the newest tick that succeeded
    gated: dict[int, tuple[Needs, bool]] = field(default_factory=dict)  #: ticks that wait for parents; if caught up
    queued: list[int] = field(default_factory=list)  #: in the order in which workers take them
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)  #: for an earlier run, oldest tick first
    to_stop: set[int] = field(default_factory=set)
    reach: int = 0  #: all ticks up to here are recorded
    promised: list[int] = field(default_factory=list)  #: the ticks of schedules that it had before
    look_again_s: float = 0.0  #: of a job with `backfill`: until then beats may not know that a run has failed
    passed: int = 0  #: a failed tick after which the next one runs all the same
    seen: int = 0  #: up to here ticks were looked at and left, behind one that is held
    held: tuple[int, ...] = (0,)  #: up to here ticks were found in time and held; where a kill leaves it open, several

    def __post_init__(self) -> None:
        self.reach = self.since

    # Ticks

    def ticks(self) -> tuple[int, ...]:
        return nominal(self.rules.when, self.span)

    def to_come(self, until: float) -> list[int]:
        """The ticks that are not recorded, up to *until*, by their own time."""
        whole = self.ticks()
        found = whole[bisect_right(whole, self.reach) : bisect_right(whole, until)]
        return list(found if self.rules.repeat is None else found[: max(0, self.rules.repeat - self.had)])

    def due(self, tick: int) -> int:
        """When a tick is to be queued."""
        if self.rules.jitter is None:
            return tick
        whole = self.ticks()
        at = bisect_right(whole, tick)
        delay = self.delay_s(self.name, tick, whole[at] if at < len(whole) else None, self.rules.jitter)
        assert 0 <= delay < self.rules.jitter
        assert at == len(whole) or tick + delay < whole[at]
        return tick + delay

    def latest_tick(self, until: int, now: float, calendars: Calendars) -> int:
        """The newest tick up to *until* that no calendar excludes, 0 when there is none in this world."""
        whole = self.ticks()
        if self.rules.repeat is not None:
            own = whole[bisect_right(whole, self.since) :][: max(0, self.rules.repeat - self.had_before)]
            if len(own) == self.rules.repeat - self.had_before and own and own[-1] <= now:
                until = min(until, own[-1])  # it has no more
        ticks = (whole[at] for at in range(bisect_right(whole, until) - 1, -1, -1))
        return next((tick for tick in ticks if self.rules.excludes(tick, calendars) is None), 0)

    def next_due(self, now: float) -> int | None:
        """When the first tick after *now* is to be queued."""
        to_come = (self.due(tick) for tick in self.to_come(self.span.end))
        return next((due for due in to_come if due > now), None)

    # What a beat decides

    def decide(self, now: float, calendars: Calendars) -> list[list[Verdict]]:
        """What becomes of the pending ticks when a beat looks at *now*.

        With jitter more than one answer is right for a tick close to a bound: its own delay may count, or that of the
        newest tick that is due.
        """
        pending = [tick for tick in self.to_come(now) if self.due(tick) <= now]
        if not pending:
            return [[]]
        free = [tick for tick in pending if self.kept_back(tick, calendars) is None]
        if self.rules.backfill and free:  # the others are decided when that one has succeeded
            pending = [tick for tick in pending if tick <= free[0]]
        ages = [{tick: now - self.due(tick) for tick in pending}]
        if self.rules.jitter is not None:
            last = max(tick for tick in self.ticks() if tick <= now and self.due(tick) <= now)
            ages += [{tick: now - tick - self.due(each) + each for tick in pending} for each in (pending[-1], last)]
        answers: list[list[Verdict]] = []
        for held in self.held:
            for age in ages:
                answer = [
                    self._verdict(tick, pending, free, age[tick], held, calendars)._replace(is_late=late)
                    for tick, late in self._with_lateness(pending, now)
                ]
                if answer not in answers:
                    answers.append(answer)
        return answers

    def kept_back(self, tick: int, calendars: Calendars) -> Verdict | None:
        """What becomes of a tick that does not run however early it is found."""
        if self.pause is not None and self.pause.covers(tick):
            return Verdict(tick, "paused", self.pause.note)
        if tick in self.skips:
            return Verdict(tick, "skipped", self.skips[tick])
        excluded = self.rules.excludes(tick, calendars)
        return None if excluded is None else Verdict(tick, "skipped", excluded)

    def _verdict(
        self, tick: int, pending: list[int], free: list[int], age: float, held: int, calendars: Calendars
    ) -> Verdict:
        kept_back = self.kept_back(tick, calendars)
        if kept_back is not None:
            return kept_back._replace(has_turn=pending[-1] <= max(held, self.seen))
        rules, is_newest, is_held = self.rules, tick == free[-1], tick <= held
        if rules.backfill:
            return Verdict(tick, "run", may_wait=age > LATE_S)
        is_one_of_all = rules.catchup == "all" and (len(pending) > 1 or is_held)
        if is_newest and age <= LATE_S:
            return Verdict(tick, "run", "", is_one_of_all, is_one_of_all or is_held, not is_held)
        if age > rules.window and not is_held:
            return Verdict(tick, "missed", ", beyond the window of ")
        if rules.catchup == "skip":
            return Verdict(tick, "missed", "catchup is skip")
        if not is_newest and (rules.catchup == "latest" or rules.overlap in ("latest", "replace")):
            return Verdict(tick, "coalesced", f"the newest, {_iso(free[-1])}, was taken in its place")
        if is_newest or is_held or tick in free[-rules.max_catchup :]:
            return Verdict(tick, "run", "", rules.catchup == "all", True, age <= LATE_S and not is_held)
        return Verdict(tick, "missed", "more than max_catchup=")

    def close(self, now: float, words: str, calendars: Calendars) -> list[Verdict]:
        """What becomes of the pending ticks when somebody changes the job at *now*."""
        return [
            (self.kept_back(tick, calendars) or Verdict(tick, "missed", words))._replace(is_late=late)
            for tick, late in self._with_lateness(self.to_come(int(now)), now)
        ]

    def _with_lateness(self, ticks: list[int], now: float) -> list[tuple[int, bool]]:
        """*ticks*, and of each whether the next one is due *now*."""
        following = self.to_come(self.span.end)[1 : len(ticks) + 1]
        dues = [self.due(tick) <= now for tick in following]
        return list(zip(ticks, [*dues, False], strict=False))

    # What a claim makes of it

    def after(self, verdicts: list[Verdict], unmet: Callable[[int], Needs] = no_needs) -> Job:
        """This job once these verdicts are carried out, in their order; *unmet* is what a tick has to wait for."""
        if not verdicts:
            return self
        made = replace(
            self, ledger=dict(self.ledger), queued=[*self.queued], running=[*self.running], waiting=[*self.waiting],
            to_stop={*self.to_stop}, gated=dict(self.gated),
        )  # fmt: skip
        made.reach, made.had = self.reach, self.had
        for verdict in verdicts:
            made.ledger[verdict.tick] = made._claimed(verdict, unmet)
            made.reach = verdict.tick
            made.had += self.rules.repeat is not None
        return made

    def _claimed(self, verdict: Verdict, unmet: Callable[[int], Needs]) -> Entry:
        tick, rule = verdict.tick, self.rules.overlap
        if rule == "skip" and verdict.is_caught_up:
            rule = "allow"
        self._block(tick, spares=self.rules.catchup == "all" and (verdict.may_wait or verdict.is_late))
        if verdict.word != "run":
            return Entry(verdict.word, verdict.why)
        if rule == "skip" and (self.queued or self.running):
            return Entry("skipped", " was still ")
        needs = unmet(tick)
        if needs:
            self.gated[tick] = needs, verdict.may_wait
            return Entry("waiting", f"waits for its parent{'s' if len(needs) > 1 else ''} ")
        if rule in ("latest", "replace"):
            return self._in_place_of_earlier(tick, rule)
        if rule == "queue" and (self.queued or self.running or self.waiting):
            return self._behind(tick)
        self.queued.append(tick)
        return Entry("queued", is_pushed=True)

    def _block(self, tick: int, *, spares: bool = False) -> None:
        """The tick *tick* is due: earlier ones wait for parents no more; *spares*: but for those that are caught up."""
        if self.rules.backfill:
            return
        for earlier, (_, is_caught_up) in list(self.gated.items()):
            if earlier < tick and not (spares and is_caught_up):
                del self.gated[earlier]
                self.ledger[earlier] = Entry("blocked", " until its next tick fell due")

    def _in_place_of_earlier(self, tick: int, rule: str) -> Entry:
        for older in (*self.queued, *self.waiting):
            self.ledger[older] = Entry("coalesced", f"the run {self.run_id(tick)} took its place")
        self.queued, self.waiting = [], []
        if self.running:
            self.to_stop |= set(self.running) if rule == "replace" else set()
            return self._behind(tick)
        self.queued.append(tick)
        return Entry("queued", is_pushed=True)

    def _behind(self, tick: int) -> Entry:
        insort(self.waiting, tick)
        return Entry("waiting", "waits for the run ")

    def run_id(self, tick: int) -> str:
        return f"{self.name}-{datetime.fromtimestamp(tick, UTC):%Y%m%dT%H%M%SZ}"

    @property
    def is_halted(self) -> bool:
        """Of a job with `backfill`: True while its last tick has not done its work, and the next one waits for that."""
        last = self.ledger.get(self.reach)
        return (
            self.rules.backfill
            and last is not None
            and last.word in ("failed", "stopped")
            and self.reach != self.passed
        )

    @property
    def waits(self) -> bool:
        """Of a job with `backfill`: True while a run is open or the job is halted."""
        is_open = bool(self.queued or self.running or self.waiting or self.gated)
        return self.rules.backfill and (is_open or self.is_halted)

    # What workers and people do

    def begin(self) -> int:
        """A worker takes the first run of this job; its tick."""
        tick = self.queued.pop(0)
        self.running.append(tick)
        self.ledger[tick] = replace(self.ledger[tick], word="running")
        return tick

    def finish(self, outcome: str) -> tuple[int, str]:
        """The run that was begun first ends; its tick, and its outcome."""
        tick = self.running.pop(0)
        if tick in self.to_stop:
            self.to_stop.discard(tick)
            outcome = "stopped"
        self.ledger[tick] = replace(self.ledger[tick], word=outcome, why="")
        if self.waiting and not self.queued and not self.running:
            self._push(self.waiting.pop(0))
        return tick, outcome

    def hear_of(self, parent: str, success: int) -> None:
        """A parent has succeeded up to the tick *success*: what waits for nothing else is let go."""
        for tick in sorted(self.gated, key=lambda tick: (self.gated[tick][0].get(parent, 0), tick)):
            needs, is_caught_up = self.gated[tick]
            left = {name: until for name, until in needs.items() if name != parent or until > success}
            self.gated[tick] = left, is_caught_up
            if left:
                continue
            del self.gated[tick]
            if self.rules.overlap in ("queue", "latest", "replace") and (self.queued or self.running or self.waiting):
                self.ledger[tick] = self._behind(tick)
            else:
                self._push(tick)

    def _push(self, tick: int) -> None:
        self.queued.append(tick)
        self.ledger[tick] = Entry("queued", is_pushed=True)

    def edit(self, rules: Rules, now: float) -> None:
        """Pending ticks are recorded before; those after *now* follow the new rules."""
        if replace(rules, note="") == replace(self.rules, note=""):
            self.rules = rules
            return
        self.promised = [*self.promised, *self.promised_now(now)]
        self.since = self.reach = int(now)
        if rules.repeat is None:
            self.had = 0
        self.rules = rules

    def remove(self, now: float) -> None:
        """Pending ticks are recorded before. What has not begun is stopped; what is at work goes on."""
        for tick in (*self.queued, *self.waiting, *self.gated):
            self.ledger[tick] = replace(self.ledger[tick], word="stopped", why="")
        self.queued, self.waiting, self.gated = [], [], {}
        self.promised = [*self.promised, *self.promised_now(now)]
        self.since = self.reach = int(now)

    def add_anew(self, rules: Rules, now: float) -> None:
        """Nothing that somebody said of the one before holds for it."""
        self.since = self.reach = int(now)
        self.rules, self.had, self.pause, self.skips, self.held = rules, 0, None, {}, (0,)

    def promised_now(self, now: float) -> list[int]:
        """The ticks since the last change that must be in the ledger."""
        whole = self.ticks()
        found = list(whole[bisect_right(whole, self.since) : bisect_right(whole, now)])
        return found if self.rules.repeat is None else found[: max(0, self.rules.repeat - self.had_before)]

    @property
    def had_before(self) -> int:
        """How many ticks it had had when its rules last changed."""
        return self.had - sum(tick > self.since for tick in self.ledger)

    def next_to_run(self, now: float, count: int, calendars: Calendars) -> list[int]:
        """The next ticks that would run, as far as this world goes."""
        to_come = (tick for tick in self.to_come(self.span.end) if self.due(tick) > now)
        skips, self.skips = self.skips, {}
        found = [tick for tick in to_come if self.kept_back(tick, calendars) is None][:count]
        self.skips = skips
        return found


def _iso(tick: int) -> str:
    return f"{datetime.fromtimestamp(tick, UTC):%Y-%m-%dT%H:%M:%SZ}"
