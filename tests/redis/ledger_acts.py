"""What beats, people, workers and clocks do in a world of `ledger_world`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cronq.app.app import Cronq
from cronq.errors import DefinitionError
from tests.redis.ledger_oracle import Days, Job, Pause, Rules
from tests.redis.ledger_wire import Fault

if TYPE_CHECKING:
    from tests.redis.ledger_world import World

#: What a beat does beside its passes that looks at jobs and their runs.
_CHORES = ("audit", "compare", "retries")


@dataclass(frozen=True)
class Act:
    """One thing that somebody does."""

    def do(self, world: World) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Wait(Act):
    """Nobody does anything."""

    seconds: float

    def do(self, world: World) -> None:
        world.go_on(min(self.seconds, world.left_s))


@dataclass(frozen=True)
class Pass(Act):
    """A beat makes a pass."""

    beat: int
    fault: Fault | None = None

    def do(self, world: World) -> None:
        world.pass_by(self.beat, self.fault)


@dataclass(frozen=True)
class Alive(Act):
    """Beats live on, and are so late for each of the next *count* ticks."""

    count: int
    late_s: float

    def do(self, world: World) -> None:
        for number in range(self.count):
            nexts = [due for job in world.oracle.values() if (due := job.next_due(world.now)) is not None]
            if not nexts or min(nexts) > world.now + 6 * 3600:
                return
            world.go_on(max(0.0, min(min(nexts) + self.late_s - world.now, world.left_s)))
            world.pass_by(number % 2)


@dataclass(frozen=True)
class Chores(Act):
    """A beat looks after the jobs, and finds nothing to mend."""

    beat: int

    def do(self, world: World) -> None:
        for chore in world.beat(self.beat).chores:
            if chore.name in _CHORES:
                chore.work(world.now)
        world.see_nothing_new()


@dataclass(frozen=True)
class Restart(Act):
    """A beat ends, and another is started in its place."""

    beat: int

    def do(self, world: World) -> None:
        world.beats.pop(self.beat, None)


@dataclass(frozen=True)
class StepClock(Act):
    """The server's clock is set, by little; beats believe it at once. Not to before a job was made or edited: then
    ticks before that moment are still to come."""

    seconds: float

    def do(self, world: World) -> None:
        if all(job.since <= world.now + self.seconds for job in world.oracle.values()):
            world.step(self.seconds)


@dataclass(frozen=True)
class ClockAstray(Act):
    """The server's clock goes back by much, beats look that knew it before, and it is set right again."""

    seconds: float
    passes: int

    def do(self, world: World) -> None:
        for number in list(world.beats):
            world.pass_by(number)
        world.step(-self.seconds, is_small=False)
        for _ in range(self.passes):
            world.go_on(1.0)
            for number in list(world.beats):
                world.pass_by(number)
        world.step(self.seconds, is_small=False)
        for number in list(world.beats):
            world.pass_by(number)


@dataclass(frozen=True)
class OfJob(Act):
    """Somebody does something to one job."""

    job: int
    fault: Fault | None = None

    def do(self, world: World) -> None:
        name = list(world.oracle)[self.job % len(world.oracle)]
        self.change(world, world.oracle[name])

    def change(self, world: World, job: Job) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class PauseJob(OfJob):
    until_s: float | None = None

    def change(self, world: World, job: Job) -> None:
        note, until = world.new_note(), None if self.until_s is None else world.now + self.until_s
        if world.by_person(
            job, "the job was paused before a beat took it", self.fault,
            lambda app: app.pause(job.name, note=note, until_s=until),
        ):  # fmt: skip
            world.oracle[job.name].pause = Pause(note, until)


@dataclass(frozen=True)
class Resume(OfJob):
    def change(self, world: World, job: Job) -> None:
        if job.pause is None:
            assert not world.person().resume(job.name)
        elif world.by_person(
            job, "the job was resumed only after it", self.fault, lambda app: app.resume(job.name)
        ):  # fmt: skip
            resumed = world.oracle[job.name]
            resumed.pause, resumed.reach = None, max(resumed.reach, int(world.now))


@dataclass(frozen=True)
class Edit(OfJob):
    rules: Rules | None = None

    def change(self, world: World, job: Job) -> None:
        assert self.rules is not None
        rules = replace(self.rules, overlap=job.rules.overlap)
        rules = rules.in_order() if job.rules.backfill else replace(rules, backfill=False)
        is_closing = replace(rules, note="") != replace(job.rules, note="")
        words = "the job was changed before a beat took it" if is_closing else None
        if world.by_person(job, words, self.fault, lambda app: world.save(app, job.name, rules)):
            world.oracle[job.name].edit(rules, world.now)


@dataclass(frozen=True)
class AddAnew(OfJob):
    """A job is removed, and after a while somebody adds another one of that name."""

    rules: Rules | None = None
    after_s: float = 0.0

    def change(self, world: World, job: Job) -> None:
        assert self.rules is not None
        if any(job.name in other.parents for other in world.oracle.values()):
            return  # refused
        rules = replace(self.rules, overlap=job.rules.overlap)
        rules = rules.in_order() if job.rules.backfill else replace(rules, backfill=False)
        words = "the job was removed before a beat took it"
        assert world.by_person(job, words, None, lambda app: app.remove(job.name))
        world.oracle[job.name].remove(world.now)
        world.go_on(min(self.after_s, world.left_s))
        assert world.save(world.person(), job.name, rules) == "created"
        world.oracle[job.name].add_anew(rules, world.now)


@dataclass(frozen=True)
class Describe(OfJob):
    """An edit that decides nothing: pending ticks are still caught up."""

    def change(self, world: World, job: Job) -> None:
        rules = replace(job.rules, note=world.new_note())
        if world.by_person(job, None, self.fault, lambda app: world.save(app, job.name, rules)):
            world.oracle[job.name].edit(rules, world.now)


@dataclass(frozen=True)
class SkipNext(OfJob):
    count: int = 1

    def change(self, world: World, job: Job) -> None:
        note, expected = world.new_note(), job.next_to_run(world.now, self.count, world.calendars)
        found: list[int] = []

        def skip(app: Cronq) -> None:
            try:
                found.extend(app.skip(job.name, self.count, note=note))
            except DefinitionError:
                assert expected == []

        if world.by_person(job, None, self.fault, skip):
            found = found or expected
            assert found[: len(expected)] == expected
            assert all(tick >= job.span.end for tick in found[len(expected) :])
            known = world.oracle[job.name].skips
            world.oracle[job.name].skips = dict.fromkeys(found, note) | known


@dataclass(frozen=True)
class Undo(OfJob):
    def change(self, world: World, job: Job) -> None:
        expected = sorted(tick for tick in job.skips if tick > world.now and tick > job.reach)
        found: list[list[int]] = []
        if world.by_person(job, None, self.fault, lambda app: found.append(app.undo_skip(job.name))):
            assert [tick for tick in (found or [expected])[0] if tick < job.span.end] == [
                tick for tick in expected if tick < job.span.end
            ]
            known = world.oracle[job.name].skips
            world.oracle[job.name].skips = {tick: note for tick, note in known.items() if tick not in expected}


@dataclass(frozen=True)
class Begin(OfJob):
    """A worker takes the next run of a job."""

    def change(self, world: World, job: Job) -> None:
        world.begin(job)


@dataclass(frozen=True)
class Finish(OfJob):
    """A worker brings a run of a job to its end."""

    outcome: str = "succeeded"

    def change(self, world: World, job: Job) -> None:
        if job.running or world.begin(job):
            world.finish(job, self.outcome)


@dataclass(frozen=True)
class Mend(OfJob):
    """Somebody lets a job with `backfill` go on that was halted by a failure."""

    is_done: bool = True  #: its work was done; else it is passed over

    def change(self, world: World, job: Job) -> None:
        if not job.is_halted:
            return
        if self.is_done:
            assert world.person().mark_success(job.name, job.reach)
            world.succeeds(job, job.reach)
        else:
            assert world.person().reset(job.name)
            job.passed = job.reach


@dataclass(frozen=True)
class SetCalendar(Act):
    name: str
    days: Days | None  #: None: it is removed

    def do(self, world: World) -> None:
        app, days = world.person(), self.days
        if days is None:
            if self.name in world.calendars:
                app.remove_calendar(self.name, force=True)
                world.calendars = {name: kept for name, kept in world.calendars.items() if name != self.name}
            return
        app.set_calendar(self.name, dates=map(str, days.dates), weekly=map(_weekly, days.weekly), tz=days.tz)
        world.calendars = world.calendars | {self.name: days}


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _weekly(window: tuple[tuple[int, ...], int, int]) -> str:
    days, begin, end = window
    names = ",".join(_DAYS[day] for day in days)
    return names if (begin, end) == (0, 1440) else f"{names} {_clock(begin)}-{_clock(end)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


#: Acts of people; nobody acts while the server's clock is behind what it has said before.
OF_PEOPLE = (PauseJob, Resume, Edit, AddAnew, Describe, SkipNext, Undo, SetCalendar)
