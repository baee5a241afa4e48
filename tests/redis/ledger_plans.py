"""Worlds for `test_ledger`, each made from a number, and made smaller when the ledger is wrong in one of them.

hypothesis is not used: it prefers small worlds, in which little happens, and these have to be dense.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from cronq.errors import CronqError
from cronq.schedule.schedule import parse_schedule
from tests.redis.ledger_acts import (
    Act,
    AddAnew,
    Alive,
    Begin,
    Chores,
    ClockAstray,
    Describe,
    Edit,
    Finish,
    Mend,
    Pass,
    PauseJob,
    Restart,
    Resume,
    SetCalendar,
    SkipNext,
    StepClock,
    Undo,
    Wait,
)
from tests.redis.ledger_oracle import Days, Rules, Span, When, nominal
from tests.redis.ledger_wire import KINDS, Fault
from tests.unit import cron_oracle

MINUTE, HOUR, DAY = 60, 3600, 86400
#: A job has no more ticks than that: each is written down, and told.
MOST_TICKS = 8_000
CALENDARS = ("holidays", "nights")
#: The parents of each job; mostly there are none.
NO_FAMILY: list[tuple[str, ...]] = [(), (), ()]
FAMILIES: list[list[tuple[str, ...]]] = [
    NO_FAMILY,
    NO_FAMILY,
    NO_FAMILY,
    [(), ("a",), ("a",)],
    [(), ("a",), ("a", "b")],
]


# Where and when


@dataclass(frozen=True)
class Place:
    """A zone, and a change of its clocks that comes soon after the world begins."""

    tz: str
    change_s: int
    span: Span
    is_quick: bool = False  #: only an hour is looked at: here jobs may be due each second


def place(tz: str, year: int, number: int = 0) -> Place:
    at = cron_oracle.changes(tz, year, year)[number]
    return Place(tz, at, Span(at - 4 * DAY, at + 12 * DAY, 2 * DAY))


@cache
def places() -> list[Place]:
    moment = 1_700_000_000
    quick = Place("UTC", moment, Span(moment - HOUR, moment + 2 * HOUR, HOUR // 2), is_quick=True)
    return [
        place("Europe/Amsterdam", 2024), place("Europe/Amsterdam", 2024, 1), place("America/New_York", 2023, 1),
        place("Australia/Lord_Howe", 2022), place("Australia/Lord_Howe", 2022, 1), place("Africa/Casablanca", 2023),
        place("Africa/Casablanca", 2023, 1), place("America/Havana", 2019, 1), place("Asia/Beirut", 2021),
        place("Antarctica/Troll", 2020), place("Pacific/Apia", 2011, 2), place("Asia/Kathmandu", 1985),
        quick, quick, quick,
    ]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a world is like, and what is done in it."""

    where: Place
    begin: float
    batch: int  #: how many claims a beat sends at once
    rate: float  #: the catch-up rate, 0: none
    leave_after: int  #: after so many ticks that another has won a beat leaves it the rest of a batch
    jobs: list[Rules]
    parents: list[tuple[str, ...]]  #: of each job
    acts: list[Act] = field(default_factory=list)


# Schedules and rules


class Maker:
    """Makes parts of a plan by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.where = self.chance.choice(places())

    def one_in(self, number: int) -> bool:
        return self.chance.randrange(number) == 0

    def cron_near_the_change(self) -> str:
        """An expression that matches around the change of the clocks, and seldom otherwise."""
        pick, zone = self.chance.choice, ZoneInfo(self.where.tz)
        near = [datetime.fromtimestamp(self.where.change_s + s, zone) for s in (-DAY, -HOUR, -60, 0, HOUR, 2 * HOUR)]
        one, other = pick(near), pick(near)
        hours = pick([f"{one.hour}", f"{one.hour},{other.hour}", "*", "*/2", "0-3", "1,2,3", "0,23"])
        weekday = one.isoweekday()
        dates = ["* * *", "* * *", "* * *", f"{one.day} {one.month} *", f"* * {weekday}", f"1-7 * {weekday}"]
        dates += [f"* * {weekday}L,{weekday}#1", f"{one.day},{other.day} * {weekday}"]
        return f"{pick(['0', '30', '*/15', '*/7', '0-29', '59', '15,45'])} {hours} {pick(dates)}"

    def when(self) -> When:
        """A schedule that has some ticks here, and not too many."""
        for _ in range(10):
            made = self._any_when()
            if has_few_ticks(made, self.where):
                return made
        return When(every=HOUR)

    def _any_when(self) -> When:
        chance, where = self.chance, self.where
        pick = chance.choice
        if where.is_quick:
            crons = ["* * * * * *", "*/5 * * * * *", "0-9 * * * * *", "* * * * *", "30 */2 * * * *"]
            return When(every=pick([1, 7, 20, 60])) if chance.random() < 0.5 else When(cron=pick(crons))
        kind = pick(["near", "near", "usual", "usual", "usual", "usual", "seconds", "every", "every", "daily", "once"])
        if kind == "near":
            made = When(cron=self.cron_near_the_change())
        elif kind == "usual":
            usual = [
                "* * * * *",
                "*/5 * * * *",
                "*/15 * * * *",
                "0 * * * *",
                "30 2 * * *",
                "0 0 * * *",
                "15,45 1-3 * * *",
            ]
            made = When(cron=pick(usual))
        elif kind == "seconds":
            made = When(cron=pick(["*/20 30 * * * *", "5,6,7 0 2 * * *", "0 0 */6 * * *"]))
        elif kind == "every":
            made = When(every=pick([60, 90, 300, 420, HOUR, 5 * HOUR, DAY]))
        elif kind == "daily":
            times = ["0:00", "1:30", "2:00", "2:30", "3:00", "12:15"]
            made = When(every=pick([1, 1, 2, 3]) * DAY, at=pick(times))
        else:
            at = datetime.fromtimestamp(where.change_s + chance.randint(-2 * DAY, 2 * DAY), UTC)
            made = When(at=at.isoformat())
        made = replace(
            made, tz=where.tz if not self.one_in(4) else "UTC", dst=pick(["debian", "debian", "skip", "both"])
        )
        if kind != "once" and self.one_in(6):
            start = where.change_s + chance.randint(-2 * DAY, DAY)
            end = start + chance.randint(0, 3 * DAY)
            made = replace(made, start=pick([start, start, None]), end=pick([end, None]))
        return made

    def rules(self) -> Rules:
        pick, when = self.chance.choice, self.when()
        names = [(), (), (), ("holidays",), ("nights",), ("holidays", "nights")]
        except_ = pick(names)
        only = tuple(name for name in pick([*names, (), ()]) if name not in except_)
        is_once = when.at is not None and when.every is None
        jitters = [None, None, None, 30] if self.where.is_quick else [None, None, None, 30, 20 * MINUTE]
        made = Rules(
            when=when,
            catchup=pick(["latest", "skip", "all"]),
            window=pick([DAY, DAY, DAY, 0, 60, 600, 2 * HOUR, 5 * DAY]),
            max_catchup=pick([1, 3, 10]),
            overlap=pick(["skip", "skip", "allow", "queue", "latest", "replace"]),
            only=only,
            except_=except_,
            repeat=None if is_once else pick([None, None, None, None, 1, 3, 12]),
            jitter=pick(jitters),
        )
        return made.in_order() if self.one_in(6) else made

    def days(self) -> Days | None:
        """A calendar; None: there is none."""
        if self.one_in(6):
            return None
        chance, here = self.chance, datetime.fromtimestamp(self.where.change_s, UTC).date()
        dates = sorted({here + timedelta(days=chance.randint(-3, 8)) for _ in range(chance.randint(0, 4))})
        weekly = []
        for _ in range(chance.randint(0 if dates else 1, 2)):
            days = tuple(sorted(set(chance.choices(range(7), k=chance.randint(1, 5)))))
            begin, end = chance.sample([0, 60, 90, 7 * 60, 720, 22 * 60, 23 * 60 + 59], 2)
            weekly.append((days, 0, 1440) if self.one_in(3) else (days, begin, end))
        return Days(tuple(dates), tuple(weekly), chance.choice([None, None, "UTC", "Asia/Tokyo"]))

    # What is done

    def plan(self) -> Plan:
        chance, where = self.chance, self.where
        begin = where.change_s + (0 if where.is_quick else chance.randint(-60 * HOUR, 2 * HOUR)) + 0.25
        jobs = [self.rules() for _ in range(chance.randint(1, 3))]
        parents = chance.choice(FAMILIES)
        acts: list[Act] = [SetCalendar(name, self.days()) for name in CALENDARS]
        for _ in range(chance.randint(6, 24)):
            acts += self.some_acts()
        batch, rate = chance.choice([1, 2, 3, 250]), chance.choice([0.0, 20.0, 0.05])
        leave_after = chance.choice([1, 2, 16])
        return Plan(where, begin, batch, rate, leave_after, jobs, parents, acts)

    def some_acts(self) -> list[Act]:
        """Time goes by, and something is done."""
        pick = self.chance.choice
        if self.one_in(8):
            return self.there_and_back()
        if self.one_in(3):
            time: list[Act] = [Alive(self.chance.randint(1, 8), pick([0.0, 0.25, 0.25, 59.75, 61.0]))]
        else:
            time = [self.wait(), *([self.a_pass()] if not self.one_in(3) else [])]
        people = [self.of_people, self.of_people, self.of_people]
        return [*time, pick([self.a_pass, *people, self.of_workers, self.of_clocks])()]

    def there_and_back(self) -> list[Act]:
        """Something is done and undone again, and beats look or do not look in between and after."""
        job, pick = self.chance.randrange(3), self.chance.choice
        pairs: list[tuple[Act, Act]] = [
            (SkipNext(job, None, self.chance.randint(1, 4)), Undo(job)),
            (PauseJob(job, None, pick([None, None, 2.0 * HOUR])), Resume(job)),
            (StepClock(-240.0), StepClock(240.0)),
        ]
        there, back = pick(pairs)
        between: list[list[Act]] = [[self.wait()], [self.wait(), Pass(self.chance.randrange(3))], [Alive(2, 0.25)]]
        return [self.wait(), there, *pick(between), back, *pick(between)]

    def wait(self) -> Act:
        long = [600.0] if self.where.is_quick else [600.0, HOUR + 0.5, 5.0 * HOUR, 26.0 * HOUR, 3.0 * DAY]
        return Wait(self.chance.choice([0.25, 1.0, 7.0, 20.0, 61.0, *long, *long]))

    def a_pass(self) -> Act:
        fault = None
        if self.one_in(2):
            fault = Fault(self.chance.randint(1, 7), self.chance.choice(KINDS))
            if self.one_in(2):
                others: list[Callable[[], Act]] = [self.wait, self.another_pass, self.of_people, self.of_workers]
                acts = tuple(self.chance.choice(others)() for _ in range(self.chance.randint(1, 4)))
                fault = Fault(self.chance.randint(2, 7), "meanwhile", acts)
        return Pass(self.chance.randrange(3), fault)

    def another_pass(self) -> Act:
        """A beat makes a pass while another is in the middle of one; it may be killed there."""
        fault = Fault(self.chance.randint(2, 6), self.chance.choice(KINDS[:2])) if self.one_in(2) else None
        return Pass(self.chance.randrange(3), fault)

    def of_people(self) -> Act:
        chance, job = self.chance, self.chance.randrange(3)
        fault = Fault(chance.randint(1, 5), chance.choice(KINDS)) if self.one_in(4) else None
        untils = (
            [None, 5.0, 90.0, 0.3 * HOUR] if self.where.is_quick else [None, 90.0, 0.3 * HOUR, 7.0 * HOUR, 30.0 * HOUR]
        )
        makers: list[Callable[[], Act]] = [
            lambda: PauseJob(job, fault, chance.choice(untils)),
            lambda: Resume(job, fault),
            lambda: Resume(job, fault),
            lambda: Edit(job, fault, self.rules()),
            lambda: AddAnew(job, None, self.rules(), chance.choice([0.0, 0.75, 100.0, 2.0 * HOUR])),
            lambda: Describe(job, fault),
            lambda: SkipNext(job, fault, chance.randint(1, 6)),
            lambda: Undo(job, fault),
            lambda: SetCalendar(chance.choice(CALENDARS), self.days()),
        ]
        return chance.choice(makers)()

    def of_workers(self) -> Act:
        job = self.chance.randrange(3)
        if self.one_in(3):
            return Begin(job)
        if self.one_in(6):
            return Mend(job, None, self.one_in(2))
        return Finish(job, None, self.chance.choice(["succeeded", "succeeded", "failed"]))

    def of_clocks(self) -> Act:
        pick, beat = self.chance.choice, self.chance.randrange(3)
        makers: list[Callable[[], Act]] = [
            lambda: StepClock(pick([5.0, 61.0, 240.0, -5.0, -70.0, -240.0])),
            lambda: ClockAstray(pick([400.0, 2.5 * HOUR]), self.chance.randint(1, 3)),
            lambda: Chores(beat),
            lambda: Restart(beat),
        ]
        return pick(makers)()


def has_few_ticks(when: When, where: Place) -> bool:
    """Whether its ticks can be written down; False also for a date that never comes."""
    if when.at is not None and when.every is None:
        return True
    try:
        parse_schedule(cron=when.cron, every=when.every, at=when.at)
    except CronqError:
        return False
    return len(nominal(when, where.span)) <= MOST_TICKS


# Smaller ones


def smaller(plan: Plan) -> Iterator[Plan]:
    """Plans in which less is done, or that have less to it."""
    size = len(plan.acts) // 2
    while size:
        for first in range(0, len(plan.acts), size):
            yield replace(plan, acts=plan.acts[:first] + plan.acts[first + size :])
        size //= 2
    if any(plan.parents):
        yield replace(plan, parents=[() for _ in plan.parents])
    if len(plan.jobs) > 1:
        yield replace(plan, jobs=plan.jobs[:-1])
    if plan.rate:
        yield replace(plan, rate=0.0)
    for at, act in enumerate(plan.acts):
        fault = getattr(act, "fault", None)
        if fault is not None:
            plain = replace(act, fault=None)  # type: ignore[call-arg]
            yield replace(plan, acts=[*plan.acts[:at], plain, *plan.acts[at + 1 :]])
            for number in range(len(fault.acts)):
                less = replace(fault, acts=fault.acts[:number] + fault.acts[number + 1 :])
                yield replace(plan, acts=[*plan.acts[:at], replace(act, fault=less), *plan.acts[at + 1 :]])  # type: ignore[call-arg]


def smallest(plan: Plan, is_wrong: Callable[[Plan], bool], most: int = 400) -> Plan:
    """The smallest plan that is still wrong, as far as *most* attempts lead."""
    left = most
    while left:
        for each in smaller(plan):
            left -= 1
            if is_wrong(each):
                plan = each
                break
            if not left:
                break
        else:
            break
    return plan
