"""A real Redis in which beats, people and workers act at times of our choosing, and are killed between any two calls.

After each act the rows that are new are held against `ledger_oracle`. Where a kill or a lag leaves open how far an act
came, the rows tell, and must be what was decided for the oldest ticks, as far as they go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from cronq.app.app import Cronq
from cronq.beat.beat import Beat
from cronq.clock import ServerClock
from cronq.config import Config
from cronq.errors import UnknownJob
from cronq.jobs.registry import Registry
from cronq.jobs.spec import make_spec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import DueReading
from cronq.runs.overlap import read_wish
from cronq.runs.run import Ending, Run, Settlement, Start
from cronq.schedule.jitter import delay_s
from tests.redis.conftest import work
from tests.redis.ledger_acts import OF_PEOPLE, Act
from tests.redis.ledger_oracle import Days, Job, Needs, Rules, Span, Verdict, least_of, no_needs
from tests.redis.ledger_wire import Fault, Killed, Wire, WiredRedis

#: A step of the server's clock that beats believe at once; by more than this in all, a beat is started anew.
_SMALL_STEP_S = 250.0


# Clocks


class HandClock(ServerClock):
    """The clock of a process on a host that has been up for as long as the world says."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.stepped_s = 0.0  #: the server's clock since this one read it

    def observe(self, server_s: float, boot: float | None = None, wall: float | None = None) -> str | None:
        self.stepped_s = 0.0
        return super().observe(server_s, self.world.boot, server_s)

    def now_s(self) -> float:
        assert self._base is not None
        return self._base[0] + self.world.boot - self._base[1]


class HandServer(JobStore):
    """The jobs in a Redis whose clock says what the world says."""

    world: World
    wire: Wire

    def read_due(self, limit: int, now_s: float | None = None, **options: Any) -> DueReading:
        self.world.look()
        self.wire.is_reading = True
        try:
            return self._read(limit, **options)
        finally:
            self.wire.is_reading = False

    def _read(self, limit: int, **options: Any) -> DueReading:
        return replace(super().read_due(limit, self.world.now, **options), server_s=self.world.now)


class WorldApp(Cronq):
    """An application in that time."""

    world: World

    def now_s(self) -> float:
        return self.world.now

    def exact_now_s(self) -> float:
        return self.world.now


class AtOnce(Executor):
    """Does what is submitted before it returns, so that calls come in one order."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


@dataclass
class Look:
    """A pass that is under way: the jobs and the moment as its beat saw them."""

    now: float
    jobs: dict[str, Job]
    versions: dict[str, str]
    calendars: list[dict[str, Days]]
    waiting: frozenset[str]  #: jobs with `backfill` that stood behind a run then: the beat need not have read them


class Answer(NamedTuple):
    """What may be right of one job: what becomes of its pending ticks, and what those that run have to wait for."""

    verdicts: list[Verdict]
    least: int = 0  #: so many of them at least are carried out at once; the others may be held by the catch-up rate
    unmet: Callable[[int], Needs] = no_needs


@dataclass
class World:
    """All there is. *now* is what the server's clock says, *boot* how long all hosts have been up."""

    redis: Redis
    span: Span
    now: float
    batch: int = 250
    rate: float = 0.0  #: the catch-up rate, 0: none
    leave_after: int = 16  #: after so many ticks that another has won a beat leaves it the rest of a batch
    boot: float = 1000.0
    oracle: dict[str, Job] = field(default_factory=dict)
    calendars: dict[str, Days] = field(default_factory=dict)
    beats: dict[int, Beat] = field(default_factory=dict)
    popped: list[str] = field(default_factory=list)
    looks: list[Look | None] = field(default_factory=list)  #: of passes that are under way
    busy: set[int] = field(default_factory=set)  #: beats that are in the middle of a pass
    notes: int = 0
    highest: float = 0.0
    was_behind: bool = False

    def __post_init__(self) -> None:
        self.highest = self.now
        self.app = self.make_app(Wire())

    # Who acts

    def make_app(self, wire: Wire) -> WorldApp:
        client = WiredRedis(connection_pool=self.redis.connection_pool)
        client.wire = wire
        wire.meanwhile = self._meanwhile
        config = Config(host_id="box", batch=self.batch, catchup_rate=self.rate, rq_scheduler_tz="UTC")
        app = WorldApp(config=config, registry=Registry(), client=client)
        app.world = self
        return app

    def person(self) -> WorldApp:
        """Somebody at a command line."""
        return self.make_app(Wire())

    def beat(self, number: int) -> Beat:
        if number not in self.beats:
            app = self.make_app(Wire())
            app.clock = HandClock(self)
            beat = app.beat()
            server = HandServer(app.client, app.keys)
            server.world, server.wire = self, app.client.wire  # type: ignore[attr-defined]
            beat.jobs = server
            beat.claiming.leave_after = self.leave_after
            beat.claiming._thread.shutdown()
            beat.claiming._thread = AtOnce()  # type: ignore[assignment]
            self.beats[number] = beat
        return self.beats[number]

    def save(self, app: Cronq, name: str, rules: Rules, parents: tuple[str, ...] | None = None) -> str:
        options = rules.words() | {"depends_on": self.oracle[name].parents if parents is None else parents}
        spec = make_spec(name, function=f"{work.__module__}:work", **options)
        return app.changes().save(spec, source="here:1", origin="test")

    def add(self, name: str, rules: Rules, parents: tuple[str, ...] = ()) -> None:
        """A new job, from now on."""
        assert self.save(self.person(), name, rules, parents) == "created"
        self.oracle[name] = Job(name, rules, self.span, int(self.now), delay_s, parents=parents)

    def new_note(self) -> str:
        self.notes += 1
        return f"note {self.notes}."

    # Time

    @property
    def is_over(self) -> bool:
        """Return True if the schedules are not known further."""
        return self.now > self.span.end - self.span.margin

    @property
    def left_s(self) -> float:
        """How long it may go on: some time of what is known is left to what comes after the last act."""
        return max(0.25, self.span.end - 0.75 * self.span.margin - self.now)

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        self.boot += seconds
        self.highest = max(self.highest, self.now)

    def step(self, seconds: float, *, is_small: bool = True) -> None:
        self.now += seconds
        self.highest = max(self.highest, self.now)
        if is_small and seconds < 0:
            self.was_behind = True
        for number, beat in list(self.beats.items()):
            assert isinstance(beat.clock, HandClock)
            beat.clock.stepped_s += seconds
            if is_small and abs(beat.clock.stepped_s) > _SMALL_STEP_S:
                del self.beats[number]

    def do(self, acts: Iterable[Act]) -> None:
        for act in acts:
            if self.is_over or (self.now < self.highest and isinstance(act, OF_PEOPLE)):
                continue
            act.do(self)

    # Passes

    def pass_by(self, number: int, fault: Fault | None = None) -> None:
        """One pass of a beat; of one that is in the middle of a pass nothing."""
        if number in self.busy:
            return
        beat = self.beat(number)
        self.looks.append(None)
        self.busy.add(number)
        wire: Wire = beat.claiming.claimer.client.wire  # type: ignore[attr-defined]
        wire.arm(fault)
        has_left = False
        try:
            for _ in range(4 if self.was_behind else 1):
                passed = beat.pass_once(now_s=self.now)
                has_left = "left" in passed.codes
                assert passed.wait_s == 0 or not has_left
        except Killed:
            self.beats.pop(number, None)
        except (RedisError, OSError):
            for chore in beat.chores:
                chore.outage()
        finally:
            self.busy.remove(number)
        is_whole = wire.has_struck in ("", "sent twice", "meanwhile") and not has_left
        wire.arm(None)
        look = self.looks.pop()
        if look is not None:
            self._see_pass(look, is_whole=is_whole)

    def look(self) -> None:
        """A beat reads what is due: what it has recorded by then was decided by what it read before."""
        look = self.looks[-1]
        if look is not None:
            self._see_pass(look, is_whole=not self.was_behind)
        jobs = {name: copy(job) for name, job in self.oracle.items()}
        waiting = frozenset(name for name, job in jobs.items() if job.waits)
        self.looks[-1] = Look(self.now, jobs, self.versions(), [self.calendars], waiting)

    def _see_pass(self, look: Look, *, is_whole: bool) -> None:
        """Hold what a pass has recorded up to now against what its beat must have decided."""
        versions = self.versions()
        for name, job in self.oracle.items():
            seen = look.jobs[name]
            is_same = versions[name] == look.versions[name]
            is_done = is_whole and is_same and (seen.reach == job.reach or look.now >= self.now)
            answers: list[Answer] = []
            for calendars in look.calendars:
                for verdicts in seen.decide(look.now, calendars):
                    left = [verdict for verdict in verdicts if verdict.tick > job.reach] if is_same else []
                    left = [] if job.waits else left
                    least = len(left)
                    if job.rules.backfill and (name in look.waiting or look.now < job.look_again_s):
                        least = 0
                    elif self.rate:
                        least = max(0, least_of(verdicts) - len(verdicts) + len(left))
                    answers += [
                        Answer(left, min(least, len(left)), unmet) for unmet in self.unmet(job, look, calendars)
                    ]
            if self.was_behind:  # ticks that were recorded before count as pending once more
                answers += [each._replace(verdicts=[v._replace(is_caught_up=True) for v in each.verdicts])
                            for each in answers]  # fmt: skip
            rest = self.see(job, answers, is_whole=is_done)
            if rest:
                self.oracle[name].seen = rest[-1].tick
            if any(each.may_wait for each in rest):
                held = max(each.tick for each in rest if each.may_wait)
                before = () if is_done else job.held
                self.oracle[name].held = tuple({*before, *(max(held, each) for each in job.held)})
        if is_whole and self.now >= self.highest and not self.looks:
            self.was_behind = self.was_behind and any(job.reach > self.now for job in self.oracle.values())

    def unmet(self, job: Job, look: Look, calendars: dict[str, Days]) -> list[Callable[[int], Needs]]:
        """What its ticks must wait for; several answers when a parent was changed after the beat had looked."""
        if not job.parents:
            return [no_needs]

        def told_by(jobs: dict[str, Job]) -> Callable[[int], Needs]:
            def unmet(tick: int) -> Needs:
                found = {name: jobs[name].latest_tick(tick, look.now, calendars) for name in job.parents}
                reached = {name: self.oracle[name].success for name in job.parents}
                return {name: until for name, until in found.items() if (done := reached[name]) is None or done < until}

            return unmet

        return [told_by(look.jobs), told_by(self.oracle)]

    def _meanwhile(self, acts: tuple[Act, ...]) -> None:
        """Others act while a beat is between two calls."""
        for look in filter(None, self.looks):
            self._see_pass(look, is_whole=False)
        before = self.calendars
        self.do(acts)
        if self.calendars != before:
            for look in filter(None, self.looks):
                look.calendars.append(self.calendars)

    # People and workers

    def by_person(
        self, job: Job, closing: str | None, fault: Fault | None, change: Callable[[WorldApp], object]
    ) -> bool:
        """Somebody changes *job*; pending ticks are recorded with the words *closing*. Returns True if it was done."""
        wire = Wire()
        app, before = self.make_app(wire), self.versions()[job.name]
        closed = [] if closing is None else job.close(self.now, closing, self.calendars)
        wire.arm(fault)
        is_told = False
        try:
            change(app)
            is_told = True
        except (Killed, RedisError):
            pass
        self.see(job, [Answer(closed, len(closed))], is_whole=is_told)
        return is_told or self.versions()[job.name] != before

    def begin(self, job: Job) -> bool:
        """A worker takes the next run of *job* and begins it. Returns False when there is none."""
        if not job.queued:
            return False
        run = self.app.runs.get(job.run_id(job.begin()))
        mine = [run_id for run_id in self.queue() if run_id.rpartition("-")[0] == job.name]
        for run_id in mine[: mine.index(run.run_id) + 1]:
            assert self.redis.lrem("rq:queue:default", 1, run_id) == 1
            self.popped.append(run_id)
            if run_id != run.run_id:  # its job was removed: workers pass over it
                assert self.app.runs.get(run_id).outcome == "stopped"
        start = Start(worker="w", host="box", pid=1, execution=run.run_id, lease_s=90, now_s=self.now)
        assert self.app.runs.start(run, start).code == "started"
        return True

    def finish(self, job: Job, outcome: str) -> None:
        """The run that was begun first ends."""
        tick, outcome = job.finish(outcome)
        run = self.app.runs.get(job.run_id(tick))
        wish: Any = self.redis.get(self.app.keys.stop(run.run_id))
        assert (wish is not None) == (outcome == "stopped")
        reason = "so" if wish is None else read_wish(wish.decode())[1]
        ending = Ending(Settlement(outcome, reason), "w", self.now, attempt=1, execution=run.run_id)
        assert self.app.runs.settle(run, ending)
        if outcome == "succeeded":
            self.succeeds(job, tick)
        else:
            job.look_again_s = self.now + 10.0

    def succeeds(self, job: Job, tick: int) -> None:
        """A tick of *job* has succeeded: what waits for that is let go."""
        job.ledger[tick] = replace(job.ledger[tick], word="succeeded", why="")
        job.success = max(tick, job.success or 0)
        for child in self.oracle.values():
            if job.name in child.parents:
                child.hear_of(job.name, job.success)

    # What there is

    def versions(self) -> dict[str, str]:
        return {name: self.app.jobs.version_of(name) for name in self.oracle}

    def queue(self) -> list[str]:
        found: Any = self.redis.lrange("rq:queue:default", 0, -1)
        return [run_id.decode() for run_id in found]

    def rows_after(self, name: str, tick: int) -> list[Run]:
        """The ticks of a job that are recorded after *tick*, the oldest first."""
        try:
            runs = self.app.history(name, 1_000_000, since_s=tick + 1)
        except UnknownJob:  # it was removed, and left nothing
            return []
        found = [run for run in reversed(runs) if run.tick is not None and run.tick > tick]
        assert len({run.tick for run in found}) == len(found)
        return found

    def see(self, job: Job, answers: list[Answer], *, is_whole: bool = True) -> list[Verdict]:
        """Hold the rows of *job* that are new against *answers*, any of which may be right. Returns what is left of it.

        *is_whole* says that all must be there by now that is not held.
        """
        new = self.rows_after(job.name, job.reach)
        expected = []
        for verdicts, least, unmet in answers:
            done = verdicts[: max(least if is_whole else 0, len(new))]
            after = job.after(done, unmet)
            entries = [(each.tick, after.ledger[each.tick]) for each in done]
            if len(new) == len(entries) and all(
                (run.tick, run.outcome or run.state) == (tick, entry.word) and entry.why in (run.reason or "")
                for run, (tick, entry) in zip(new, entries, strict=True)
            ):
                self.oracle[job.name] = after
                return verdicts[len(new) :]
            expected.append([(tick, entry.word, entry.why) for tick, entry in entries])
        told = [(run.tick, run.outcome or run.state, run.reason) for run in new]
        raise AssertionError(f"at {self.now} of {job.name} since {job.reach}: {told}, not {expected}")

    def see_nothing_new(self) -> None:
        for job in self.oracle.values():
            self.see(job, [Answer([])])

    def close(self) -> None:
        """The last look: beats are there, and every tick of every schedule is in the ledger once."""
        if self.now < self.highest:
            self.go_on(self.highest - self.now)
        for number in range(400):  # late runs may be held
            if number == 200 and self.rate:  # of a line that is too long for this world: somebody raises the rate
                self.rate = 20.0
            self.go_on(2.0 if self.span.margin < 86400 else 60.0)
            self.pass_by(98 if number < 200 else 99)
            others = [job for job in self.oracle.values() if not job.rules.backfill]
            if not any(job.due(tick) <= self.now for job in others for tick in job.to_come(self.now)):
                break
        pushed: list[str] = []
        for name, job in self.oracle.items():
            found = self.rows_after(name, 0)
            words = {run.tick: run.outcome or run.state for run in found}
            assert words == {tick: entry.word for tick, entry in job.ledger.items()}, name
            now_promised = [tick for tick in job.promised_now(self.now) if job.due(tick) <= self.now or tick in words]
            if job.rules.backfill:  # what waits is not in the ledger
                now_promised = now_promised[: len(words) - len(job.promised)]
            assert list(words) == job.promised + now_promised, name
            for run in found:
                assert run.tick is not None
                assert run.outcome is None or job.ledger[run.tick].why in (run.reason or "")
                assert run.run_id == job.run_id(run.tick)
            pushed += [job.run_id(tick) for tick, entry in job.ledger.items() if entry.is_pushed]
            is_open = {
                job.run_id(tick): job.ledger[tick].word
                for tick in (*job.queued, *job.running, *job.waiting, *job.gated)
            }
            assert self.app.active_runs([name])[name] == is_open
            following = next(iter(job.to_come(self.span.end)), None)
            known = self.app.jobs.get(name).next_tick
            assert (
                job.rules.backfill
                or known == following
                or (following is None and (known is None or known >= self.span.end))
            )
        assert sorted(self.popped + self.queue()) == sorted(pushed)
