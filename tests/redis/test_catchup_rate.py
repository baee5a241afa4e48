"""After an outage of everything late runs go to their queues at a rate; no tick is lost, doubled or held up by it."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.catchup_line import CatchupLine, CatchupRate
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Run

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR, DAY = 60, 3600, 86400
Store = Callable[..., JobSpec]


def app_with(redis: Redis, **settings: Any) -> Cronq:
    return Cronq(config=Config(host_id="box", **settings), registry=Registry(), client=redis)


def queued(redis: Redis) -> list[str]:
    """The ids in the queue, in order."""
    return [raw.decode() for raw in redis.lrange("rq:queue:default", 0, -1)]


def rows(app: Cronq, name: str) -> list[Run]:
    """All ticks of a job, oldest first."""
    return app.history(name, 100_000)[::-1]


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What beats log from INFO on."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Lines(), logging.getLogger("cronq.beat")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_the_late_runs_of_a_few_jobs_go_at_once(app: Cronq, redis: Redis, store: Store, said: list[str]) -> None:
    for name in "abc":
        store(name, mark=T - DAY, cron="0 4 * * *")

    app.beat().pass_once(T)

    assert len(queued(redis)) == 3
    assert [(run.tick, run.outcome, run.trigger) for run in rows(app, "a")] == [(T - 3 * HOUR, None, "catchup")]
    assert redis.zcard("cronq:catchup") == 0
    assert [line for line in said if line.startswith("HELD")] == []


def test_more_late_runs_than_five_seconds_worth_are_held_and_follow_at_the_rate(
    redis: Redis, store: Store, said: list[str]
) -> None:
    app = app_with(redis, catchup_rate=2.0)
    for number in range(30):
        store(f"j{number:02}", mark=T - DAY, cron=f"{number} 4 * * *")
    beat = app.beat()

    beat.pass_once(T)
    at_once = len(queued(redis))
    followed = []
    for second in range(1, 12):
        beat.pass_once(T + second)
        followed.append(len(queued(redis)))

    assert at_once == 10
    assert followed == [12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 30]
    assert queued(redis) == sorted(queued(redis), key=lambda run_id: run_id[-16:])
    assert [line for line in said if line.startswith(("HELD", "CAUGHT-UP"))] == [
        "HELD 20 late runs; 2 a second are let through, all in about 10s; see `cronq catchup`",
        "CAUGHT-UP every late run that was held has been let through",
    ]


def test_a_held_run_says_so_once_its_turn_has_come(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=0.1)
    store("a", mark=T - DAY, cron="0 4 * * *")
    store("b", mark=T - DAY, cron="30 4 * * *")
    beat = app.beat()

    beat.pass_once(T)
    before = [run.state for run in app.history("a")], app.jobs.get("b").state.mark
    beat.pass_once(T + 9)
    beat.pass_once(T + 10)

    assert before == (["queued"], T - DAY)
    [run] = rows(app, "b")
    assert run.reason == "caught up: no beat took it in time; its turn at the catch-up rate came 2h30m late"
    assert (run.queued_at, run.trigger) == (T + 10, "catchup")


def test_without_a_rate_all_go_at_once(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=0.0)
    for number in range(300):
        store(f"j{number:03}", mark=T - DAY, cron="0 4 * * *")

    app.beat().pass_once(T)

    assert len(queued(redis)) == 300


def test_a_beat_without_a_rate_lets_all_through_that_another_one_holds(redis: Redis, store: Store) -> None:
    for number in range(300):
        store(f"j{number:03}", mark=T - DAY, cron="0 4 * * *")
    app_with(redis, catchup_rate=0.01).beat().pass_once(T)
    assert len(queued(redis)) == 1

    beat = app_with(redis, catchup_rate=0.0).beat()
    while beat.pass_once(T).wait_s == 0:
        pass

    assert len(queued(redis)) == 300


def test_another_rate_holds_from_then_on(redis: Redis, store: Store) -> None:
    for number in range(20):
        store(f"j{number:02}", mark=T - DAY, cron=f"{number} 4 * * *")
    app_with(redis, catchup_rate=0.01).beat().pass_once(T)
    faster = app_with(redis, catchup_rate=2.0).beat()

    lengths = []
    for second in range(1, 12):
        faster.pass_once(T + second)
        lengths.append(len(queued(redis)))

    assert lengths == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 20]


def test_a_tick_on_time_is_claimed_at_once_and_takes_the_place_of_a_held_one(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=0.01)
    store("first", mark=T - DAY, cron="0 4 * * *")
    store("a", mark=T - DAY, cron="0 5,8 * * *")
    beat = app.beat()
    beat.pass_once(T)

    beat.pass_once(T + HOUR)

    oldest, held, new = rows(app, "a")
    assert (oldest.tick, oldest.outcome) == (T - 23 * HOUR, "coalesced")
    assert (held.tick, held.outcome) == (T - 2 * HOUR, "coalesced")
    assert held.reason == (
        "no beat took it in time; its turn at the catch-up rate came 3h late; the newest, 2026-01-05T08:00:00Z, "
        "was taken in its place"
    )
    assert (new.tick, new.outcome, new.queued_at) == (T + HOUR, None, T + HOUR)
    assert redis.zcard("cronq:catchup") == 0


# Jobs whose every tick runs


def test_a_job_that_runs_each_tick_keeps_its_order_and_the_line_does_not_grow_by_ticks_on_time(
    redis: Redis, store: Store
) -> None:
    app = app_with(redis, catchup_rate=0.05)
    store("first", mark=T - DAY, cron="0 4 * * *", priority=1)
    store("a", mark=T - 10 * MINUTE, catchup="all", overlap="allow", max_catchup=5)
    beat = app.beat()

    lengths = []
    for second in range(0, 10 * MINUTE + 1):
        beat.pass_once(T + second)
        lengths.append(redis.zcard("cronq:catchup"))

    ticks = [run.tick for run in rows(app, "a") if run.outcome != "missed"]
    assert ticks == list(range(T - 4 * MINUTE, T + 10 * MINUTE + 1, MINUTE))
    assert [run.tick for run in rows(app, "a") if run.outcome == "missed"] == list(
        range(T - 9 * MINUTE, T - 4 * MINUTE, MINUTE)
    )
    assert max(lengths) <= 5
    assert lengths[100:].count(0) > 400
    of_a = [run_id for run_id in queued(redis) if run_id.startswith("a-")]
    assert of_a == sorted(of_a)
    assert len(of_a) == len(ticks)


def test_a_held_run_is_not_missed_because_it_was_held(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=0.01)
    store("first", mark=T - DAY, cron="0 4 * * *", priority=1)
    store("one", mark=T - 2 * HOUR, cron="30 6 1-5 * *", window="31m")
    store("each", mark=T - 2 * HOUR, cron="30,40,50 6 1-5 * *", window="31m", catchup="all", overlap="allow")
    beat = app.beat()

    beat.pass_once(T)
    for second in range(0, 500, 10):
        beat.pass_once(T + second)

    assert [(run.outcome, run.trigger) for run in rows(app, "one")] == [(None, "catchup")]
    assert [(run.outcome, run.trigger) for run in rows(app, "each")] == [(None, "catchup")] * 3


def test_jobs_whose_ticks_run_in_order_take_a_turn_for_each_late_one(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=2.0)
    for number in range(20):
        store(f"j{number:02}", mark=T - 2 * HOUR + 1, cron=None, every="1h", backfill=True)
    beat = app.beat()

    lengths = []
    for second in range(0, 8):
        beat.pass_once(T + 61 + second)
        lengths.append(len(queued(redis)))

    assert lengths == [10, 12, 14, 16, 18, 20, 20, 20]
    assert {run.tick for name in app.job_names() for run in rows(app, name)} == {T - HOUR}


# An outage of everything


def test_after_a_day_without_beats_two_thousand_jobs_are_caught_up_at_the_rate_by_priority_and_by_tick(
    redis: Redis, store: Store
) -> None:
    app = app_with(redis)
    for number in range(2000):
        if number % 4 == 0:
            options: dict[str, Any] = {"every": "6h", "cron": None, "catchup": "all"}
        else:
            options = {"cron": f"{number * 7 % 60} {number % 24} * * *"}
        store(f"late{number:04}", mark=T - DAY - 1, priority=number % 3 - 1, overlap="allow", **options)
    for number in range(50):
        store(f"often{number:02}", mark=T - DAY, overlap="allow")
    beats = [app_with(redis).beat() for _ in range(3)]

    for second in range(200):
        for beat in beats[second % 3 :] + beats[: second % 3]:
            while beat.pass_once(T + second + 0.01).wait_s == 0:
                pass

    runs = {name: rows(app, name) for name in app.job_names()}
    late = [run for each in runs.values() for run in each if run.trigger == "catchup"]
    assert len(late) >= 3400
    assert redis.zcard("cronq:catchup") == 0
    check_the_rate(late)
    check_the_order(late)
    check_that_each_tick_has_one_outcome(redis, runs)
    for number in range(50):
        on_time = [(run.tick, run.queued_at) for run in runs[f"often{number:02}"] if run.trigger == "schedule"]
        assert on_time[-4:] == [(tick, tick + 0.01) for tick in range(T, T + 200, MINUTE)]


def check_the_rate(late: list[Run]) -> None:
    """In no span of time more are queued than five seconds' worth and 20 a second; on the whole no fewer."""
    moments = sorted(run.queued_at or 0 for run in late)
    for first in range(0, len(moments), 50):
        for last in range(first + 49, len(moments), 50):
            assert last - first + 1 <= 101 + 20 * (moments[last] - moments[first])
    assert moments[-1] - moments[0] <= (len(moments) - 100) / 20 + 2


def check_the_order(late: list[Run]) -> None:
    """The highest priority first, of one priority the oldest tick first, whichever beat queued it."""

    def place(run: Run) -> tuple[int, int]:
        return -(int(run.job[-4:]) % 3 - 1), run.tick or 0

    assert [place(run) for run in sorted(late, key=lambda run: (run.queued_at, place(run)))] == sorted(map(place, late))


def check_that_each_tick_has_one_outcome(redis: Redis, runs: dict[str, list[Run]]) -> None:
    in_queue = Counter(queued(redis))
    for name, each in runs.items():
        assert len(each) == len({run.tick for run in each}), name
        assert {run.outcome for run in each} <= {None, "coalesced"}, name
    assert in_queue == Counter(run.run_id for each in runs.values() for run in each if run.outcome is None)


# Damage


class Killed(BaseException):
    """A beat ends here, as by SIGKILL."""


class MortalRedis(Redis):
    """A client whose process is killed just before or just after one of its calls arrives."""

    lives = 0
    is_lost = False

    def execute_command(self, *args: Any, **options: Any) -> Any:
        MortalRedis.lives -= 1
        if MortalRedis.lives == 0 and self.is_lost:
            raise Killed
        answer = super().execute_command(*args, **options)
        if MortalRedis.lives == 0:
            raise Killed
        return answer


@pytest.mark.parametrize("seed", range(3))
def test_a_beat_that_is_killed_at_any_call_neither_loses_nor_doubles_a_held_tick(
    redis: Redis, redis_url: str, store: Store, seed: int
) -> None:
    chance = random.Random(seed)
    for number in range(60):
        options: dict[str, Any] = (
            {"every": "10m", "cron": None, "catchup": "all"} if number % 3 == 0 else {"cron": f"{number} 4 * * *"}
        )
        store(f"late{number:04}", mark=T - 4 * HOUR, overlap="allow", priority=number % 3 - 1, **options)
    app, killed = app_with(redis), 0
    with MortalRedis.from_url(redis_url) as mortal:
        for second in range(600):
            MortalRedis.lives, MortalRedis.is_lost = chance.randint(1, 12), chance.random() < 0.5
            try:
                app_with(mortal, catchup_rate=2.0).beat().pass_once(T + second)
            except Killed:
                killed += 1
    beat = app.beat()
    for second in range(600, 700):
        beat.pass_once(T + second)

    runs = {name: rows(app, name) for name in app.job_names()}
    check_that_each_tick_has_one_outcome(redis, runs)
    assert killed > 100
    assert redis.zcard("cronq:catchup") == 0
    for name, each in runs.items():
        step_s, first = (
            (600, T - 4 * HOUR + 600) if int(name[-4:]) % 3 == 0 else (DAY, T - 3 * HOUR + int(name[-4:]) * MINUTE)
        )
        assert [run.tick for run in each] == list(range(first, T + 699, step_s)), name


def test_a_line_that_was_lost_is_made_again(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=0.01)
    for number in range(4):
        store(f"j{number}", mark=T - DAY, cron=f"{number} 4 * * *")
    store("over", mark=T - DAY, cron=None, at="2026-01-05T05:00")
    beat = app.beat()
    beat.pass_once(T)
    line = redis.zrange("cronq:catchup", 0, -1)
    assert len(line) == 4
    redis.delete("cronq:catchup")

    assert beat.audit is not None
    beat.audit.work(T + 1.0)
    beat.pass_once(T + 1)

    assert redis.zrange("cronq:catchup", 0, -1) == line
    assert len(queued(redis)) == 1


def test_places_that_are_for_nothing_are_gone_through_some_hundred_in_a_call(redis: Redis, store: Store) -> None:
    """Their jobs were let through for a later tick already, or decided by hand: neither counts for the rate."""
    app = app_with(redis, catchup_rate=2.0)
    line, rate = CatchupLine(redis, app.keys), CatchupRate(2.0)
    store("through", mark=T - 2000 * MINUTE, cron="* * * * *")
    redis.hset("cronq:job:through:state", "through", T)
    store("decided", mark=T, cron="* * * * *")
    store("last", mark=T - DAY, cron="0 4 * * *")
    places = {f"through:{T - number * MINUTE}": T - number * MINUTE for number in range(1999)}
    places |= {f"decided:{T - number * MINUTE}": T - number * MINUTE for number in range(1000)}
    redis.zadd("cronq:catchup", places | {f"last:{T - 3 * HOUR}": T + 1})

    answers = []
    while not answers or answers[-1].left:
        answers.append(line.let_through(rate, float(T)))

    assert [each.left for each in answers] == [2500, 2000, 1500, 1000, 500, 0]
    assert [each.runs for each in answers] == [0, 0, 0, 0, 0, 1]
    assert [each.next_in_s for each in answers[:-1]] == [0.0] * 5  # so the beat goes on at once
    assert redis.zscore("cronq:agenda", "last") == T - 3 * HOUR


def test_an_audit_leaves_what_is_held_where_it_is(redis: Redis, store: Store, said: list[str]) -> None:
    app = app_with(redis, catchup_rate=0.01)
    for number in range(4):
        store(f"j{number}", mark=T - DAY, cron=f"{number} 4 * * *")
    store("each", mark=T - DAY, cron=None, every="1h", catchup="all", overlap="allow")
    store("over", mark=T - DAY, cron=None, at="2026-01-05T05:00")
    beat = app.beat()
    beat.pass_once(T)
    agenda = redis.zrange("cronq:agenda", 0, -1, withscores=True)

    assert beat.audit is not None
    beat.audit.work(T + 1.0)

    assert redis.zrange("cronq:agenda", 0, -1, withscores=True) == agenda
    assert [line for line in said if "MEND" in line] == []


@pytest.mark.parametrize("key", ["cronq:catchup", "cronq:catchup-rate"])
def test_a_key_of_a_wrong_type_silences_no_job(redis: Redis, store: Store, key: str) -> None:
    app = app_with(redis, catchup_rate=1.0)
    for number in range(10):
        store(f"j{number}", mark=T - DAY, cron=f"{number} 4 * * *")
    redis.set(key, "junk")
    beat = app.beat()

    for second in range(10):
        beat.pass_once(T + second)

    assert len(queued(redis)) == 10


def test_held_runs_of_a_job_that_was_removed_or_changed_take_no_place_of_others(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=0.1)
    for name in ("a", "b", "c", "d"):
        store(name, mark=T - DAY, cron=f"{ord(name) - 97} 4 * * *")
    beat = app.beat()
    beat.pass_once(T)
    app.remove("b")
    app.pause("c")

    beat.pass_once(T + 10)

    assert [run_id[0] for run_id in queued(redis)] == ["a", "d"]
    assert redis.zcard("cronq:catchup") == 0
    assert (rows(app, "c")[0].tick, rows(app, "c")[0].outcome) == (T - 3 * HOUR + 2 * MINUTE, "missed")


def test_beside_a_beat_that_holds_nothing_each_tick_has_one_outcome(redis: Redis, store: Store) -> None:
    """One of the release before knows no line: its audit finds held jobs too late on the agenda, and it claims them."""
    app = app_with(redis, catchup_rate=1.0)
    for number in range(40):
        options: dict[str, Any] = {"cron": f"{number} 6 * * *"}
        if number % 2:
            options = {"every": "10m", "cron": None, "catchup": "all"}
        store(f"late{number:04}", mark=T - 2 * HOUR, overlap="allow", **options)
    new, old = app.beat(), app.beat()
    old.brake = None
    old.claiming._holding.is_on = False

    for second in range(0, 70, 5):
        new.pass_once(T + second)
        if second == 30:
            for held in app.catchup().runs:
                app.jobs.reschedule(held.job, held.tick)
            old.pass_once(T + second)
    for second in range(70, 200):
        new.pass_once(T + second)

    assert redis.zcard("cronq:catchup") == 0
    runs = {name: rows(app, name) for name in app.job_names()}
    check_that_each_tick_has_one_outcome(redis, runs)
    assert {len(each) for name, each in runs.items() if int(name[-4:]) % 2} == {12}


def test_a_mark_with_a_fraction_is_held_like_any_other(redis: Redis, store: Store) -> None:
    app = app_with(redis, catchup_rate=0.1)
    for number in range(4):
        store(f"j{number}", mark=T - DAY, cron=f"{number} 4 * * *")
        redis.hset(f"cronq:job:j{number}:state", "mark", f"{T - DAY}.5")
    beat = app.beat()

    for second in range(60):
        beat.pass_once(T + second)

    assert len(queued(redis)) == 4
