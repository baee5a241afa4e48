"""No beat for a while: what becomes of each tick, as tables that were written by hand.

What three days without a beat cost a job of every minute is held in `test_ranges`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.run import Ending, Run, Settlement
from cronq.timetext import parse_duration_s
from cronq.worker.active_run import StopRequest
from tests.redis.conftest import guardian_of

#: 2026-01-05 07:00:00 UTC, a Monday.
T = 1767596400
MINUTE, HOUR, DAY = 60, 3600, 86400
Store = Callable[..., JobSpec]

#: A job that is due each day at 07:00. The beats die after it has run on 4 January, and are back so long after it was
#: due on the 5th: what becomes of the ticks of the 5th, the 6th …, as far as they have come.
DAILY = """
    back after   window   catchup   5th             6th             7th             8th             9th
    12h          24h      latest    runs
    12h          24h      skip      not caught up
    12h          24h      all       runs
    12h          30d      latest    runs
    12h          30d      skip      not caught up
    12h          30d      all       runs

    24h - 1s     24h      latest    runs
    24h - 1s     24h      skip      not caught up
    24h - 1s     24h      all       runs
    24h - 1s     30d      latest    runs
    24h - 1s     30d      skip      not caught up
    24h - 1s     30d      all       runs

    24h + 1s     24h      latest    too old         runs
    24h + 1s     24h      skip      too old         runs
    24h + 1s     24h      all       too old         runs
    24h + 1s     30d      latest    coalesced       runs
    24h + 1s     30d      skip      not caught up   runs
    24h + 1s     30d      all       runs            runs

    4d           24h      latest    too old         too old         too old         coalesced       runs
    4d           24h      skip      too old         too old         too old         not caught up   runs
    4d           24h      all       too old         too old         too old         runs            runs
    4d           30d      latest    coalesced       coalesced       coalesced       coalesced       runs
    4d           30d      skip      not caught up   not caught up   not caught up   not caught up   runs
    4d           30d      all       runs            runs            runs            runs            runs

    4d + 6h      24h      latest    too old         too old         too old         too old         runs
    4d + 6h      24h      skip      too old         too old         too old         too old         not caught up
    4d + 6h      24h      all       too old         too old         too old         too old         runs
    4d + 6h      30d      latest    coalesced       coalesced       coalesced       coalesced       runs
    4d + 6h      30d      skip      not caught up   not caught up   not caught up   not caught up   not caught up
    4d + 6h      30d      all       runs            runs            runs            runs            runs
"""

#: A job that is due each hour and has `ttl="5m"`. The beats die after it has run at 06:00, and are back so long after
#: 09:00; a worker takes at once whatever is queued.
HOURLY = """
    back after   catchup   07:00           08:00           09:00
    30s          latest    coalesced       coalesced       runs
    30s          skip      not caught up   not caught up   runs
    30s          all       expired         expired         runs

    4m           latest    coalesced       coalesced       runs
    4m           skip      not caught up   not caught up   not caught up
    4m           all       expired         expired         runs

    6m           latest    coalesced       coalesced       expired
    6m           skip      not caught up   not caught up   not caught up
    6m           all       expired         expired         expired
"""

#: What the ledger says of a tick, and words of its reason, for each word of the tables.
MEANS = {
    "runs": ("queued", ""),
    "coalesced": ("coalesced", "was taken in its place"),
    "too old": ("missed", ", beyond the window of "),
    "not caught up": ("missed", "; catchup is skip"),
    "expired": ("expired", " after its time; its ttl is 5m"),
}


def rows_of(table: str) -> list[Any]:
    """The lines of a table as parameters; each cell begins where its heading does."""
    heading, *lines = (line for line in table.splitlines() if line.strip())
    starts = [at for at in range(len(heading)) if heading[at] != " " and heading[at - 2 : at] == "  "]
    spans = list(pairwise([*starts, None]))
    return [
        pytest.param(*(line[begin:end].strip() for begin, end in spans), id=" ".join(line.split())) for line in lines
    ]


def after(words: str) -> float:
    """Seconds in `4d`, `24h - 1s` or `4d + 6h`."""
    first, *more = words.split()
    return parse_duration_s(first) + (float(f"{more[0]}1") * parse_duration_s(more[1]) if more else 0.0)


def ran_before(app: Cronq, tick: int) -> None:
    """A beat finds *tick* on time, and a worker does its run."""
    app.beat().pass_once(now_s=tick + 0.2)
    (run,) = app.history("report")
    assert app.runs.settle(run, Ending(Settlement("succeeded", ""), by="w", now_s=tick + 1, expect="queued"))
    app.client.delete("rq:queue:default")


def beats_are_back(app: Cronq, now_s: float) -> None:
    """Three of them at once, each of which looks twice."""
    beats = [app.beat() for _ in range(3)]
    for beat in beats * 2:
        beat.pass_once(now_s=now_s)


def told(app: Cronq, since: int) -> list[tuple[str, str]]:
    """Outcome (or state) and reason of each tick from *since* on, oldest first."""
    runs = app.history("report", since_s=since)
    assert len({run.tick for run in runs}) == len(runs)
    return [(run.outcome or run.state, run.reason or "") for run in reversed(runs)]


def assert_told(found: list[tuple[str, str]], expected: list[str]) -> None:
    assert [outcome for outcome, _ in found] == [MEANS[word][0] for word in expected]
    for (_, reason), word in zip(found, expected, strict=True):
        assert MEANS[word][1] in reason


def queued(redis: Redis) -> list[str]:
    ids: list[Any] = redis.lrange("rq:queue:default", 0, -1)
    return [run_id.decode() for run_id in ids]


@pytest.mark.parametrize(("back", "window", "catchup", "d5", "d6", "d7", "d8", "d9"), rows_of(DAILY))
def test_a_job_of_every_day(
    app: Cronq, store: Store, redis: Redis, back: str, window: str, catchup: str,
    d5: str, d6: str, d7: str, d8: str, d9: str,
) -> None:  # fmt: skip
    expected = [word for word in (d5, d6, d7, d8, d9) if word]
    store("report", mark=T - 2 * DAY, cron="0 7 * * *", window=window, catchup=catchup)
    ran_before(app, T - DAY)

    beats_are_back(app, T + after(back))

    assert_told(told(app, T), expected)
    assert queued(redis) == [f"report-2026010{5 + day}T070000Z" for day, word in enumerate(expected) if word == "runs"]


def worker_takes(app: Cronq, run: Run, spec: JobSpec, now_s: float) -> bool:
    """What a worker does with a queued run before the work. Return True if it begins that."""
    guardian = guardian_of(app, now_s=lambda: now_s)
    guardian.execute(run, spec, StopRequest(), worker="w", args_json="[[],{}]")
    return bool(guardian.settler.unsettled)


@pytest.mark.parametrize(("back", "catchup", "h7", "h8", "h9"), rows_of(HOURLY))
def test_a_job_of_every_hour_that_is_stale_after_five_minutes(
    app: Cronq, store: Store, redis: Redis, back: str, catchup: str, h7: str, h8: str, h9: str
) -> None:
    now = T + 2 * HOUR + after(back)
    spec = store("report", mark=T - 2 * HOUR, cron="0 * * * *", ttl="5m", catchup=catchup)
    ran_before(app, T - HOUR)

    beats_are_back(app, now)
    begun = []
    for run_id in queued(redis):
        if worker_takes(app, app.runs.get(run_id), spec, now):
            begun.append(run_id)

    assert_told([("queued" if word == "running" else word, reason) for word, reason in told(app, T)], [h7, h8, h9])
    assert begun == [f"report-20260105T0{7 + hour}0000Z" for hour, word in enumerate((h7, h8, h9)) if word == "runs"]
