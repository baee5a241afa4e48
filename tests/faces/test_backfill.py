"""`cronq backfill` as a person or a script meets it."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from cronq import Cronq
from cronq.runs.run import Ending, Settlement, Start
from cronq.timetext import tick_stamp
from tests.faces.conftest import Answer

Cli = Callable[..., Answer]
DAYS = ("--from", "2024-11-20", "--to", "2024-11-23")
#: 07:00 in Tokyo, in UTC.
TICKS = ["2024-11-19T22:00:00Z", "2024-11-20T22:00:00Z", "2024-11-21T22:00:00Z"]


@pytest.fixture
def job(app: Cronq) -> str:
    app.add("report", command=["true"], cron="0 7 * * *", tz="Asia/Tokyo")
    return "report"


@pytest.fixture
def working(app: Cronq) -> Iterator[Callable[[dict[int, str]], None]]:
    """Let a thread do what a worker does: each run succeeds, but those of the given numbers end otherwise."""
    stop, threads = threading.Event(), []

    def begin(outcomes: dict[int, str]) -> None:
        def work() -> None:
            number = 0
            while not stop.wait(0.01):
                raw = app.client.lpop("rq:queue:default")
                if raw is None:
                    continue
                run, now_s = app.runs.get(raw.decode()), app.now_s()
                app.runs.start(run, Start("w", "box", 1, f"e{number}", 90, now_s))
                ending = Ending(Settlement(outcomes.get(number, "succeeded"), "exit code 3"), "worker w", now_s + 2)
                app.runs.settle(app.runs.get(run.run_id), ending)
                number += 1

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join(10)


def test_each_tick_is_told_as_it_ends(job: str, cronq: Cli, working: Callable[..., None]) -> None:
    working({})

    answer = cronq("backfill", job, *DAYS)

    assert answer.code == 0
    assert [line.split()[:2] for line in answer.out.splitlines()] == [[tick, "succeeded"] for tick in TICKS]
    assert answer.err.splitlines()[-1] == "cronq: report: 3 of 3 ticks ran and succeeded"
    again = cronq("backfill", job, *DAYS)
    assert (again.code, again.out) == (0, "")
    assert again.complaint == "cronq: report: 0 of 3 ticks ran and succeeded; 3 had succeeded"


def test_it_says_where_it_stopped_and_how_to_go_on(job: str, cronq: Cli, working: Callable[..., None]) -> None:
    working({1: "failed"})

    answer = cronq("backfill", job, *DAYS, "--rate", "50")

    assert answer.code == 1
    assert answer.out.splitlines()[1].startswith(f"{TICKS[1]}  failed in ")
    assert answer.out.splitlines()[1].endswith(" (2 of 3): exit code 3")
    assert answer.err.splitlines()[-2:] == [
        "cronq: stopped at report-20241120T220000Z: failed; the cause is to be mended first",
        f"cronq: 2 ticks left; go on with: cronq backfill report --from {TICKS[1]} --to 2024-11-23 --rate 50",
    ]
    rest = cronq(*shlex.split(answer.err.splitlines()[-1].partition("go on with: cronq ")[2]))
    assert rest.code == 0
    assert [line.split()[:2] for line in rest.out.splitlines()] == [[tick, "succeeded"] for tick in TICKS[1:]]


def test_ctrl_c_leaves_what_is_on_its_way_and_says_how_to_go_on(
    job: str, app: Cronq, cronq: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cronq.app.backfilling.rest", interrupted)

    answer = cronq("backfill", job, *DAYS, "--parallel", "2", "--force")

    assert answer.code == 130
    assert answer.err.splitlines()[-2:] == [
        "cronq: report-20241119T220000Z, report-20241120T220000Z go on without us",
        f"cronq: 3 ticks left; go on with: cronq backfill report --from {TICKS[0]} --to 2024-11-23 --parallel 2 "
        "--force",
    ]
    assert app.client.llen("rq:queue:default") == 2


def test_one_tick_is_run_and_one_that_is_none_is_met_with_its_neighbours(
    job: str, cronq: Cli, working: Callable[..., None]
) -> None:
    working({0: "failed"})

    answer = cronq("backfill", job, "--tick", "2024-11-20T07:00")
    assert (answer.code, answer.out.split()[:2]) == (1, [TICKS[0], "failed"])
    assert answer.err.splitlines()[-1].endswith(f"1 tick left; go on with: cronq backfill report --tick {TICKS[0]}")
    none = cronq("backfill", job, "--tick", "2024-11-20T07:01")
    assert none.complaint == (
        f"cronq: job 'report' has no tick at 2024-11-19T22:01:00Z: the tick before is {TICKS[0]}, "
        f"the one after {TICKS[1]}"
    )


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(
    job: str, app: Cronq, cronq: Cli, working: Callable[..., None]
) -> None:
    working({1: "failed"})
    cronq("backfill", job, "--from", "2024-11-20", "--to", "2024-11-22")

    answer = cronq("backfill", job, *DAYS, "--dry-run")

    assert answer.code == 0
    assert [line.split() for line in answer.out.splitlines()] == [
        ["TICK", "PLAN", "OUTCOME", "REASON"],
        [TICKS[0], "has", "succeeded", "succeeded"],
        [TICKS[1], "to", "run", "failed", "exit", "code", "3"],
        [TICKS[2], "to", "run", "-"],
    ]
    assert answer.complaint == "cronq: 3 ticks of report: 2 to run, 1 has succeeded; nothing was begun"
    assert app.client.llen("rq:queue:default") == 0


def test_a_long_plan_shows_its_ends(app: Cronq, cronq: Cli) -> None:
    app.add("often", command=["true"], cron="*/15 * * * *")

    answer = cronq("backfill", "often", "--from", "2024-11-20", "--to", "2024-11-21", "--dry-run")

    lines = answer.out.splitlines()
    assert len(lines) == 42
    assert lines[21].split() == ["…", "56", "more"]
    assert lines[1].startswith("2024-11-20T00:00:00Z")
    assert lines[-1].startswith("2024-11-20T23:45:00Z")


def test_many_runs_are_begun_only_when_somebody_says_so(app: Cronq, cronq: Cli) -> None:
    app.add("often", command=["true"], cron="*/5 * * * *")

    answer = cronq("backfill", "often", "--from", "2024-11-20", "--to", "2024-11-21")

    assert answer.code == 2
    assert "288 runs of often would begin; say --yes, or look at them with --dry-run" in answer.complaint
    assert app.client.llen("rq:queue:default") == 0


def test_as_json(job: str, cronq: Cli, working: Callable[..., None]) -> None:
    working({1: "failed"})

    answer = cronq("backfill", job, *DAYS, "--json")

    document: dict[str, Any] = json.loads(answer.out)
    assert answer.code == 1
    assert {key: document[key] for key in ("job", "stopped_by", "left")} == {
        "job": "report", "stopped_by": "report-20241120T220000Z", "left": 2,
    }  # fmt: skip
    assert [(each["tick"], each["state"], each["ran"], each["outcome"]) for each in document["ticks"]] == [
        (TICKS[0], "over", True, "succeeded"),
        (TICKS[1], "over", True, "failed"),
        (TICKS[2], "left", False, None),
    ]
    assert set(document["ticks"][0]) == {
        "tick", "run_id", "state", "ran", "outcome", "reason", "attempt", "duration_s",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "say which ticks: --from TIME [--to TIME], or --tick TIME"),
        (("--to", "2024-11-20"), "say which ticks: --from TIME [--to TIME], or --tick TIME"),
        (("--from", "2024-11-20", "--tick", "2024-11-20T07:00"), "say which ticks"),
        (("--tick", "2024-11-20T07:00", "--to", "2024-11-20"), "leave out --to"),
        (("--from", "yesterday"), "'yesterday' is not a date with a time"),
        (("--from", "2024-11-20", "--to", "2024-11-19"), "not after its start"),
        (("--from", "2024-11-20", "--to", "9000-01-01"), "is still to come; let the span end at"),
        (("--tick", "3024-11-20T07:00"), "and runs then; `cronq run report` runs the job now"),
        ((*DAYS, "--parallel", "0"), "parallel=0 is not a number from 1 to 1,000"),
        ((*DAYS, "--rate", "0"), "rate=0.0 is not a number of runs in a second"),
    ],
)
def test_a_slip_is_one_line(job: str, cronq: Cli, words: tuple[str, ...], complaint: str) -> None:
    answer = cronq("backfill", job, *words)

    assert answer.code == 2
    assert complaint in answer.err.splitlines()[-1] or complaint in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_a_job_that_does_not_exist_is_met_with_the_one_that_was_meant(job: str, cronq: Cli) -> None:
    assert "did you mean 'report'?" in cronq("backfill", "reprot", *DAYS).complaint


def test_without_a_worker_it_says_so(job: str, cronq: Cli, working: Callable[..., None]) -> None:
    working({})

    assert "no `cronq worker` serves the queue 'default'" in cronq("backfill", job, *DAYS).err


def test_the_history_says_which_runs_were_backfilled(
    job: str, cronq: Cli, working: Callable[..., None], here: Path
) -> None:
    working({})
    cronq("backfill", job, *DAYS)

    assert cronq("history", job).out.count(" (backfill)") == 3
    rows = json.loads(cronq("history", job, "--json").out)
    assert [(row["trigger"], row["lateness_s"], row["beat_delay_s"]) for row in rows] == [("backfill", None, None)] * 3


def test_redis_that_goes_away_ends_it_with_the_command_that_goes_on(
    job: str, cronq: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise ConnectionError("Connection refused")

    monkeypatch.setattr("cronq.runs.backfill.PastRuns.rows", gone)

    answer = cronq("backfill", job, *DAYS)

    assert answer.code == 69
    said = answer.err.splitlines()
    assert f"cronq: 3 ticks left; go on with: cronq backfill report --from {TICKS[0]} --to 2024-11-23" in said
    assert said[-1].startswith("cronq: cannot reach Redis")


def test_when_nothing_happens_it_says_what_it_waits_for(
    job: str, app: Cronq, cronq: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]

    def rest(seconds: float, stop: threading.Event) -> None:
        now[0] += seconds
        if now[0] > 1065:
            raise KeyboardInterrupt

    monkeypatch.setattr("cronq.app.backfilling.boot_s", lambda: now[0])
    monkeypatch.setattr("cronq.app.backfilling.rest", rest)
    app.pause_queue("default", note="deploy")

    answer = cronq("backfill", job, *DAYS)

    said = [line for line in answer.err.splitlines() if "is queued since" in line]
    assert len(said) == 2
    assert "report-20241119T220000Z is queued since " in said[0]
    assert ": deploy" in said[0]
    assert "Next: cronq resume --queue default" in said[0]


# Jobs of which each tick runs, in the faces


@pytest.fixture
def halted(app: Cronq) -> str:
    """A job of every minute, two hours behind a tick that failed."""
    app.add("load", command=["true"], every="1m", backfill=True)
    now = int(app.exact_now_s()) // 60 * 60
    tick, run_id = now - 7200, f"load-{tick_stamp(now - 7200)}"
    keys, client = app.keys, app.client
    row = {"job": "load", "tick": tick, "state": "done", "outcome": "failed", "reason": "exit code 3"}
    client.hset(keys.run(run_id), mapping=row)
    client.zadd(keys.runs("load"), {run_id: tick})
    client.hset(keys.state("load"), mapping={"mark": tick, "streak": -1, "last_outcome": "failed", "last_run": run_id})
    client.zadd(keys.agenda, {"load": tick + 60})
    app.beat().pass_once()
    return run_id


def test_list_show_and_why_tell_of_a_halted_job(halted: str, cronq: Cli) -> None:
    (row,) = json.loads(cronq("list", "--json").out)
    assert (row["status"], row["waits_for"]) == ("failing", halted)
    assert 120 <= row["waiting_ticks"] <= 121
    assert f"failing, {row['waiting_ticks']} ticks behind it" in cronq("list").out
    shown = cronq("show", "load").out
    assert f"{row['waiting_ticks']} ticks until {halted} has succeeded" in shown
    assert "options           queue=default timeout=1h backfill=true\n" in shown

    why = json.loads(cronq("why", "load", "--json").out)
    assert why["cause"] == "in_order"
    assert f"waits for {halted}: its ticks run in order, and that failed: exit code 3" in why["text"]
    assert f"Next: cronq backfill load --tick {row['next'][:0]}" in why["text"]


def test_a_reset_says_so(halted: str, cronq: Cli, app: Cronq) -> None:
    assert cronq("reset", "load").code == 0

    app.beat().pass_once()

    assert app.client.llen("rq:queue:default") == 1
    assert json.loads(cronq("list", "--json").out)[0]["waits_for"] is None
