"""Workers as their users meet them: what runs, how it ends, and what is left when something dies. Real processes."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import signal
import statistics
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rq import Queue
from rq.command import send_kill_horse_command, send_stop_job_command
from rq.job import Job, JobStatus

from cronq.errors import DefinitionError
from cronq.timetext import iso
from tests.conftest import RedisServer
from tests.faults.leftovers import immortals
from tests.faults.proxy import FaultProxy
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation, is_alive


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a worker on `default` and two beats, shared by these tests."""
    server = RedisServer()
    try:
        with installation(server.url, tmp_path_factory.mktemp("shop"), CRONQ_LOST_AFTER="3s") as made:
            made.beat()
            made.beat()
            made.worker()
            yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def worker(shop: Installation) -> CronqProcess:
    """The worker on `default`."""
    return shop.started[3]


@pytest.fixture(autouse=True)
def _as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """The shared processes live on after each test, and nothing keeps the worker busy."""
    yield
    if "shop" in request.fixturenames:
        shop: Installation = request.getfixturevalue("shop")
        assert all(process.is_running for process in shop.started[1:4]), shop.logs
        for run_id in shop.app.stop("sleep"):
            shop.settles(run_id)


def tell(figures: str) -> None:
    print(figures)  # noqa: T201


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def leave(process: CronqProcess) -> None:
    """Tell a worker to end, and wait until it has."""
    process.terminate()
    assert process.exit_code() == 0, process.log


# Functions


def test_a_function_runs_and_the_ledger_and_the_log_say_how(shop: Installation, worker: CronqProcess) -> None:
    run = shop.result("add", 3, 4)

    assert (run.outcome, run.reason, run.result, run.exit_code) == ("succeeded", "it ran to its end", "7", 0)
    assert (run.host, run.pid, run.attempt, run.error) == ("box", worker.pid, 1, None)
    assert run.duration_s is not None
    assert 0.05 <= run.duration_s < 5
    start = worker.wait_for_line(f"START {run.run_id} ")
    assert start.endswith(f"START {run.run_id} job=add host=box pid={worker.pid}")
    finish = worker.wait_for_line(f"FINISH {run.run_id} ")
    assert re.search(rf"INFO cronq\.worker FINISH {run.run_id} succeeded \d+\.\d\ds$", finish)


def test_a_failure_shows_the_users_traceback_and_nothing_of_cronq(shop: Installation, worker: CronqProcess) -> None:
    run = shop.result("fail", "no paper")

    assert (run.outcome, run.reason, run.exit_code) == ("failed", "ValueError: no paper", 1)
    assert run.error is not None
    lines = run.error.splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ValueError: no paper")
    frames = [line.split(", in ")[1] for line in lines if line.startswith("  File ")]
    assert frames == ["fail", "check_stock"]
    finish = worker.wait_for_line(f"FINISH {run.run_id} ")
    assert re.search(r"WARNING cronq\.worker FINISH \S+ failed \d+\.\d\ds ValueError: no paper$", finish)


@pytest.mark.parametrize(
    ("code", "outcome", "exit_code"),
    [(None, "succeeded", 0), (0, "succeeded", 0), (3, "failed", 3), (256, "failed", 1), ("no paper", "failed", 1)],
)
def test_a_function_may_end_with_an_exit_code(
    shop: Installation, code: int | str | None, outcome: str, exit_code: int
) -> None:
    run = shop.result("leave", code)

    assert (run.outcome, run.exit_code) == (outcome, exit_code)
    if outcome == "failed":
        assert run.reason == f"sys.exit({code!r})"


def test_a_schedule_by_key_runs_the_function_of_its_job_with_arguments_of_its_own(shop: Installation) -> None:
    try:
        assert shop.app.schedule("add", "user-42", cron="* * * * * *", kwargs={"a": 40}) == "created"
        run = until(lambda: next((run for run in shop.app.history("add--user-42") if run.outcome is not None), None))
    finally:
        assert shop.app.unschedule("add", "user-42")

    assert (run.outcome, run.result) == ("succeeded", "42")
    assert run.tick is not None


def test_a_coroutine_function_is_run_to_its_end(shop: Installation) -> None:
    run = shop.result("coroutine")

    assert (run.outcome, run.result) == ("succeeded", '"awaited"')


def test_a_function_knows_its_tick_its_attempt_and_the_last_success(shop: Installation) -> None:
    first = shop.settles(shop.claim_tick("about"))
    second = shop.settles(shop.claim_tick("about"))

    assert second.result is not None
    assert json.loads(second.result) == {
        "job": "about", "run_id": second.run_id, "tick": second.tick, "attempt": 1, "host": "box", "fence": None,
        "previous_success": first.tick, "previous_tick": shop.app.jobs.get("about").spec.tick_before(second.tick),
        "failures": 0, "last_run": first.run_id, "last_outcome": "succeeded",
        "last_ended": pytest.approx(first.ended_at, abs=0.001),
    }  # fmt: skip


def test_a_run_knows_how_many_before_it_failed(shop: Installation) -> None:
    for _ in range(2):
        failed = shop.result("past", True)
    told = shop.result("past")
    told_again = shop.result("past")

    assert json.loads(told.result or "") == [2, failed.run_id, "failed"]
    assert json.loads(told_again.result or "") == [0, told.run_id, "succeeded"]


def test_a_process_that_is_killed_is_a_failure_with_the_name_of_the_signal(shop: Installation) -> None:
    run = shop.result("kill-itself")

    assert (run.outcome, run.reason, run.exit_code) == ("failed", "ended by signal 9 (SIGKILL)", 137)
    assert run.signal == "SIGKILL"
    assert run.max_rss_kib is not None
    assert run.max_rss_kib > 5000
    assert run.user_s is not None
    assert run.system_s is not None


def test_a_child_that_is_late_to_begin_is_told_apart_from_a_wait_in_the_queue(
    shop: Installation, worker: CronqProcess
) -> None:
    (watchdog,) = (pid for pid in descendants(worker.pid) if comm(pid) == "cronq-watchdog")
    os.kill(watchdog, signal.SIGSTOP)
    try:
        run_id = shop.enqueue("command")  # for a command the watchdog forks each time
        shop.begins(run_id)
        time.sleep(0.7)
    finally:
        os.kill(watchdog, signal.SIGCONT)
    late = shop.settles(run_id)
    prompt = shop.result("add", 3, 4)

    for run in (late, prompt):
        assert run.start_delay_s is not None
        assert run.queue_wait_s is not None
        assert run.duration_s is not None
        assert run.queue_wait_s < 0.5
        assert run.start_delay_s < run.duration_s
    assert late.start_delay_s is not None
    assert 0.7 <= late.start_delay_s < 5
    assert prompt.start_delay_s is not None
    assert prompt.start_delay_s < 0.5


def test_how_late_a_failure_and_a_command_began_is_told_too(shop: Installation) -> None:
    failed, command = shop.result("fail", "no paper"), shop.settles(shop.claim_tick("command"))

    assert failed.start_delay_s is not None
    assert command.start_delay_s is not None


# Commands


def test_a_command_gets_its_run_in_the_environment_its_arguments_as_they_are_and_no_input(shop: Installation) -> None:
    first = shop.settles(shop.claim_tick("command"))
    second = shop.settles(shop.claim_tick("command"))

    assert (first.outcome, second.outcome, second.exit_code) == ("succeeded", "succeeded", 0)
    seen = json.loads(shop.diary("command")[-1])
    assert seen["arguments"] == ["$(touch x); *", "two words"]
    assert seen["stdin"] == ""
    assert not (shop.directory / "x").exists()
    environment = seen["environment"]
    assert first.tick is not None
    assert second.tick is not None
    ticks = [datetime.fromtimestamp(tick, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for tick in (first.tick, second.tick)]
    assert {
        name: environment[f"CRONQ_{name}"]
        for name in ("JOB", "RUN_ID", "TICK", "ATTEMPT", "HOST", "FENCE", "LAST_SUCCESS", "PREVIOUS_TICK")
    } == {
        "JOB": "command", "RUN_ID": second.run_id, "TICK": ticks[1], "ATTEMPT": "1", "HOST": "box", "FENCE": "",
        "LAST_SUCCESS": ticks[0],
        "PREVIOUS_TICK": iso(shop.app.jobs.get("command").spec.tick_before(second.tick)),
    }  # fmt: skip


def test_a_run_by_hand_adds_words_to_a_command_and_no_shell_reads_them(shop: Installation) -> None:
    assert shop.result("command", "$(touch y)", "--full").outcome == "succeeded"
    assert json.loads(shop.diary("command")[-1])["arguments"] == ["$(touch x); *", "two words", "$(touch y)", "--full"]
    assert shop.result("words", "a b", "$(touch y)").outcome == "succeeded"
    assert shop.diary("words") == ["a b", "$(touch y)"]
    assert not (shop.directory / "y").exists()


def test_a_shell_line_runs_in_a_shell_and_its_exit_code_is_that_of_the_run(shop: Installation) -> None:
    run = shop.result("shell")

    assert (run.outcome, run.exit_code, run.reason) == ("failed", 4, "exit code 4")
    assert shop.diary("shell") == ["shell"]


@pytest.mark.parametrize(
    ("job", "exit_code", "reason"),
    [
        ("no-such-command", 127, r"no such command: /nowhere/at-all"),
        ("not-executable", 126, r"cannot execute /.*/working_jobs\.py: Permission denied"),
    ],
)
def test_a_command_that_cannot_be_executed_says_why(shop: Installation, job: str, exit_code: int, reason: str) -> None:
    run = shop.result(job)

    assert (run.outcome, run.exit_code) == ("failed", exit_code)
    assert run.reason is not None
    assert re.fullmatch(reason, run.reason)
    assert run.error == run.reason


# Time-outs and stops


@pytest.mark.timing
@pytest.mark.parametrize(
    ("job", "pids", "least_s"),
    [
        pytest.param("slow", 1, 1.0, id="asleep"),
        pytest.param("busy", 1, 1.0, id="holding the interpreter in C code"),
        pytest.param("deaf", 1, 2.0, id="ignoring SIGTERM"),
        pytest.param("blocked", 1, 2.0, id="with all signals blocked"),
        pytest.param("swallowing", 1, 2.0, id="swallowing every exception"),
        pytest.param("family", 3, 1.0, id="with children in other sessions"),
        pytest.param("program", 2, 2.0, id="in a program of its own that ignores SIGTERM"),
    ],
)
def test_a_run_past_its_timeout_is_ended_with_all_that_it_started(
    shop: Installation, job: str, pids: int, least_s: float
) -> None:
    run = shop.result(job)

    assert (run.outcome, run.reason) == ("timed_out", "it ran longer than its timeout of 1s")
    assert run.duration_s is not None
    assert least_s <= run.duration_s < least_s + 2
    assert [pid for pid in shop.pids(job, pids) if is_alive(pid)] == []


def test_a_run_that_takes_longer_than_its_warn_after_is_told_of_once_and_goes_on(shop: Installation) -> None:
    run = shop.result("dawdle")

    assert run.outcome == "succeeded"
    told = [fields[b"type"] for _, fields in shop.client.xrange("cronq:events") if fields[b"job"] == b"dawdle"]
    assert told[-4:] == [b"queued", b"started", b"slow", b"succeeded"]
    assert shop.app.jobs.get("dawdle").state.slow is None
    assert shop.logs.count(f"SLOW {run.run_id}: it has been running for more than 1s") == 1


def test_a_failure_that_is_one_too_many_pauses_its_job(shop: Installation) -> None:
    assert shop.result("fail-and-pause").outcome == "failed"

    pause = shop.app.jobs.get("fail-and-pause").state.pause
    assert pause is not None
    assert (pause.by, pause.note) == ("cronq", "paused after 1 failure in a row")


@pytest.mark.timing
def test_a_timeout_is_kept_also_while_redis_hangs(redis_server: RedisServer, tmp_path: Path) -> None:
    with installation(redis_server.url, tmp_path / "cronq") as made:
        made.worker()
        run_id = made.enqueue("slow")
        (pid,) = made.pids("slow")
        redis_server.pause()
        try:
            until(lambda: not is_alive(pid), 10, "its end")  # 1 s, and what one hanging question takes
        finally:
            redis_server.resume()

        assert made.settles(run_id).outcome == "timed_out"


def ask_cronq(shop: Installation, run_id: str) -> str:
    assert shop.app.stop(run_id) == [run_id]
    return shop.app.who


def ask_rq(shop: Installation, run_id: str) -> str:
    send_stop_job_command(shop.client, run_id)
    return "rq"


def ask_rq_to_kill(shop: Installation, run_id: str) -> str:
    worker = shop.row(run_id).worker
    assert worker is not None
    send_kill_horse_command(shop.client, worker)
    return "rq"


@pytest.mark.timing
@pytest.mark.parametrize("ask", [ask_cronq, ask_rq, ask_rq_to_kill])
def test_a_stop_ends_a_running_run_within_two_seconds(shop: Installation, ask: object) -> None:
    assert callable(ask)
    run_id = shop.enqueue("sleep", 1000, f"stopped-{ask.__name__}")
    (pid,) = shop.pids(f"stopped-{ask.__name__}")

    asked = time.monotonic()
    by = ask(shop, run_id)
    run = shop.settles(run_id)
    took_s = time.monotonic() - asked

    assert (run.outcome, run.decided_by) == ("stopped", by)
    assert not is_alive(pid)
    assert took_s < 2 + 3  # the rest is for a busy machine
    assert Job.fetch(run_id, connection=shop.client).get_status() == JobStatus.STOPPED
    tell(f"stopped by {by}: {took_s:.2f} s")


def test_junk_on_the_command_channel_does_not_deafen_a_worker(shop: Installation, worker: CronqProcess) -> None:
    (heartbeat,) = shop.app.workers()[0]
    for junk in (b"\xff\x00", b"[]", b'{"command": "stop-job"}', b"{}"):
        shop.client.publish(f"rq:pubsub:{heartbeat.id}", junk)
    run_id = shop.enqueue("sleep", 1000, "after-junk")
    shop.pids("after-junk")

    send_stop_job_command(shop.client, run_id)

    assert shop.settles(run_id).outcome == "stopped"


def test_a_queued_run_is_stopped_at_once(shop: Installation) -> None:
    run_id = shop.enqueue("add-nights")

    assert shop.app.stop(run_id) == [run_id]

    run = shop.row(run_id)
    assert (run.state, run.outcome, run.decided_by) == ("done", "stopped", shop.app.who)
    assert run.started_at is None
    assert shop.client.llen("rq:queue:nights") == 0


# What dies


@pytest.mark.timing
def test_a_run_whose_worker_was_killed_is_lost_once_and_the_next_tick_runs(shop: Installation) -> None:
    victim = shop.worker("ticks")
    script = 'echo $$ >> "$DIARY/ticking.diary"; [ $(wc -l < "$DIARY/ticking.diary") -gt 1 ] || sleep 1000'
    shop.app.add("ticking", command=script, shell=True, every=1, queue="ticks")
    try:
        (pid,) = shop.pids("ticking")
        first = next(run for run in shop.app.history("ticking", 100) if run.state == "running")
        below = descendants(victim.pid)
        assert pid in below

        victim.kill9()
        killed = time.monotonic()
        until(lambda: not any(map(is_alive, below)), 10, "the end of its processes")
        dead_s = time.monotonic() - killed
        lost = shop.settles(first.run_id)
        lost_s = time.monotonic() - killed
        shop.worker("ticks")
        until(lambda: len(shop.diary("ticking")) > 1, what="the next tick")
        later = until(lambda: [run for run in shop.app.history("ticking", 100) if run.outcome == "succeeded"])
    finally:
        shop.app.remove("ticking")

    assert dead_s < 1 + 2
    assert lost.outcome == "lost"
    assert lost.reason == f"worker {lost.worker} (pid {victim.pid} on box) was not heard of for 3s"
    assert lost_s < 3 + 5 + 5  # lost_after and a sweep; the rest is for a busy machine
    assert later[-1].tick is not None
    assert first.tick is not None
    assert later[-1].tick > first.tick
    events = [fields for _, fields in shop.client.xrange(shop.app.keys.events)]
    assert [event[b"run"] for event in events if event[b"type"] == b"lost"] == [first.run_id.encode()]
    tell(f"kill -9 of a worker: its processes dead after {dead_s:.2f} s, the run lost after {lost_s:.1f} s")


@pytest.mark.timing
def test_a_run_popped_by_a_worker_that_died_before_it_began_is_put_back_and_runs_once(shop: Installation) -> None:
    run_id = shop.enqueue("sleep-nights", 0, "popped")
    shop.client.lmove("rq:queue:nights", "rq:queue:nights:intermediate", "LEFT", "RIGHT")

    popped = time.monotonic()
    until(lambda: shop.client.llen("rq:queue:nights") == 1, what="its return to its queue")
    back_s = time.monotonic() - popped
    nights = shop.worker("nights")
    run = shop.settles(run_id)
    leave(nights)

    assert (run.outcome, run.attempt) == ("succeeded", 1)
    assert len(shop.diary("popped")) == 1
    assert back_s < 3 + 5 + 5
    tell(f"popped and not begun: back on its queue after {back_s:.1f} s")


def test_a_run_whose_watchdog_was_killed_is_lost_at_once_and_the_worker_goes_on(
    shop: Installation, worker: CronqProcess
) -> None:
    run_id = shop.enqueue("sleep", 1000, "unwatched")
    (pid,) = shop.pids("unwatched")
    watchdog = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert watchdog != worker.pid

    os.kill(watchdog, 9)

    run = shop.settles(run_id, 10)
    assert run.outcome == "lost"
    assert run.decided_by == f"worker {run.worker}"
    assert not is_alive(pid)
    assert shop.result("add").outcome == "succeeded"


@pytest.mark.timing
def test_a_job_that_stops_its_watchdog_is_ended_with_all_it_started_and_the_worker_goes_on(shop: Installation) -> None:
    run = shop.settles(shop.enqueue("stop-its-watchdog"), 30)

    assert run.outcome == "timed_out"
    assert (run.reason or "").startswith("it ran longer than its timeout of 1s")
    assert run.duration_s is not None
    assert run.duration_s < 1 + 0.5 + 10 + 5  # timeout, grace, patience; the rest is for a busy machine
    assert not any(map(is_alive, shop.pids("stop-its-watchdog", 3)))
    assert shop.result("add").outcome == "succeeded"


def test_a_worker_that_stands_still_or_is_missing_is_found_by_a_check(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with installation(redis_server.url, tmp_path) as shop:
        none = shop.run("check", "workers")
        assert (none.exit_code(), none.output.split(" | ")[0]) == (
            2, "CRONQ CRITICAL - 0 workers are alive, 1 needed; start `cronq worker`",
        )  # fmt: skip
        worker = shop.worker()
        well = shop.run("check", "workers")
        assert (well.exit_code(), well.output) == (
            0, "CRONQ OK - 1 worker is alive | 'workers'=1;;1:\n",
        )  # fmt: skip

        worker.suspend()
        (key, raw), *_ = shop.client.hgetall(shop.app.keys.workers).items()
        shop.worker()  # first, so that its start is not counted as well
        heartbeat = json.loads(raw)
        heartbeat["seen_at"] = shop.client.time()[0] - 45  # as if it had stood still for so long
        shop.client.hset(shop.app.keys.workers, key, json.dumps(heartbeat))
        still = shop.run("check", "workers")
        worker.resume()

        assert still.exit_code() == 1
        assert f"{key.decode()} (pid {worker.pid} on box) was not heard of for 4" in still.output


@pytest.mark.parametrize(
    "step", [pytest.param(b'"lease"', id="of its start"), pytest.param(b'"outcome"', id="of its outcome")]
)
def test_a_lost_reply_neither_loses_nor_doubles_a_run(shop: Installation, step: bytes) -> None:
    name = f"lost-reply-{step.decode().strip(chr(34))}"
    with FaultProxy(shop.redis_url) as proxy:
        nights = shop.worker("nights", CRONQ_REDIS_URL=proxy.url)
        dropped = proxy.drop_reply(step)

        run = shop.settles(shop.enqueue("sleep-nights", 0.2, name))

        nights.wait_for_line(f"FINISH {run.run_id} succeeded")
        nights.kill9()
        assert dropped.is_set()
    assert (run.outcome, run.attempt) == ("succeeded", 1)
    assert len(shop.diary(name)) == 1


ODD = """
from redis import Redis
from cronq.app.rq_worker import Worker
from cronq.app.app import Cronq

class Odd(Worker):
    odd = 0
    def beat_heart(self):
        if self._present is not None and self._present.child is not None and not self.odd:
            self.odd = 1
            raise ValueError("a mistake of ours")
        super().beat_heart()

app = Cronq.from_env()
print(Odd(["odd"], connection=app.client, app=app).work(max_jobs=2))
"""


def test_a_mistake_in_its_guardian_leaves_no_child_and_harms_no_later_run(shop: Installation) -> None:
    shop.app.add("odd", command=["sleep", "1000"], queue="odd", exclusive=True)
    shop.app.add("even", command=["true"], queue="odd")
    first, second = shop.enqueue("odd"), shop.enqueue("even")

    worker = shop.start_python(ODD)

    run = shop.settles(second)
    assert shop.row(first).outcome == "lost", worker.log
    assert "a mistake of ours" in str(shop.row(first).reason)
    assert run.outcome == "succeeded"
    assert worker.exit_code() == 0


def test_a_run_goes_on_when_redis_came_back_without_its_start(shop: Installation) -> None:
    nights = shop.worker("nights")
    run_id = shop.enqueue("sleep-nights", 3, "forgotten")
    shop.begins(run_id)
    with shop.client.pipeline() as pipe:  # where it was a second ago
        pipe.hset(f"cronq:run:{run_id}", "state", "queued")
        pipe.hdel(f"cronq:run:{run_id}", "execution", "started_at", "attempt", "host", "pid", "worker")
        pipe.zrem("cronq:running", run_id)
        pipe.rpush("rq:queue:nights:intermediate", run_id)
        pipe.execute()

    again = shop.begins(run_id)
    run = shop.settles(run_id)

    nights.wait_for_line(f"FINISH {run_id} succeeded")
    nights.kill9()
    assert (run.outcome, run.attempt, run.worker) == ("succeeded", 1, again.worker)
    assert len(shop.diary("forgotten")) == 1


# Commands refused


def test_a_worker_may_refuse_commands_also_those_that_a_person_puts_back(shop: Installation) -> None:
    shop.app.add("order", command=["touch", str(shop.directory / "ordered")], queue="orders")
    worker = shop.ready(shop.start("worker", "--no-commands", "orders"))

    run = shop.result("order")
    shop.run_rq("requeue", "--queue", "orders", run.run_id)
    worker.wait_for_line("REFUSED", count=2)

    assert run.outcome == "failed"
    assert "--no-commands" in str(run.reason)
    assert not (shop.directory / "ordered").exists()
    assert shop.row(run.run_id).started_at is None, "requeued it may be another attempt; none has begun"


# Redis away


def test_no_process_ends_and_no_run_suffers_when_redis_is_away_for_twenty_seconds(tmp_path: Path) -> None:
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    try:
        with installation(server.url, tmp_path / "cronq") as made:
            workers = [made.worker(), made.worker("nights"), made.worker("high", "low"), made.worker("again")]
            processes = [made.beat(), *workers]
            whole, ending, idle, _ = workers
            through = made.enqueue("sleep", 23, "through")
            at_end = made.enqueue("sleep-nights", 4, "at-end")
            again = made.enqueue("sleep-again", 23, "again")  # others may run it, but not for so short an outage
            for run_id in (through, at_end, again):
                made.begins(run_id)

            server.kill9()
            away = time.monotonic()
            until(lambda: made.diary("at-end-ends"), what="the end of a body without Redis")
            until(lambda: time.monotonic() > away + 20, what="the length of the outage")
            server.start()

            runs = [made.settles(run_id) for run_id in (at_end, through, again)]
            assert made.result("add-low").outcome == "succeeded"
            assert all(process.is_running for process in processes), made.logs
            assert [(run.outcome, run.attempt) for run in runs] == [("succeeded", 1)] * 3
            assert len(made.diary("through")) == len(made.diary("at-end")) == len(made.diary("again")) == 1
            whole.wait_for_line(f"FINISH {through} succeeded")
            assert [len(whole.lines(word)) for word in (" UNHEARD ", " HEARD ")] == [1, 1], whole.log
            assert [len(ending.lines(word)) for word in ("UNWRITTEN", "FINISH")] == [1, 1], ending.log
            assert [len(idle.lines(word)) for word in ("TROUBLE", "RECOVERED")] == [1, 1], idle.log
    finally:
        server.stop()


def test_a_worker_is_seen_again_after_redis_was_emptied_and_finishes_what_it_was_doing(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with installation(redis_server.url, tmp_path / "cronq") as made:
        worker = made.worker()
        made.enqueue("sleep", 2, "emptied")
        (pid,) = made.pids("emptied")

        made.client.flushall()

        until(lambda: made.diary("emptied-ends") == [str(pid)], what="the end of the body")
        until(lambda: [beat.pid for beat in made.app.workers()[0]] == [worker.pid], what="its heartbeat")
        until(lambda: made.client.scard("rq:workers") == 1, what="its place among RQ's workers")


# What breaks


def test_a_job_whose_module_breaks_in_the_worker_fails_alone_with_the_reason(shop: Installation) -> None:
    module = """
import os
from cronq import job

if "BREAK" in os.environ:
    raise RuntimeError("no settings file")

@job(name="breaks", queue="breaking")
def breaks(): ...
"""
    shop.write_module("breaking_jobs", module)
    assert shop.run("sync", "breaking_jobs").exit_code() == 0
    jobs = "breaking_jobs working_jobs"
    breaking = shop.worker("breaking", "low", CRONQ_JOBS=jobs, BREAK="1")

    run = shop.result("breaks")
    assert shop.result("add-low").outcome == "succeeded"

    leave(breaking)
    assert run.outcome == "failed"
    assert run.error is not None
    assert "job 'breaks' is not defined in this worker" in run.error
    assert "breaking_jobs.py:6" in run.error
    assert "RuntimeError: no settings file" in run.error


def test_a_job_that_a_worker_does_not_know_fails_with_the_remedy(shop: Installation) -> None:
    shop.write_module("other_jobs", "from cronq import job\n@job(name='other')\ndef other(): ...\n")
    assert shop.run("sync", "other_jobs").exit_code() == 0

    run = shop.result("other")

    assert run.outcome == "failed"
    assert run.reason == "job 'other' is not defined in this worker; start it with -m MODULE or CRONQ_JOBS"


def test_what_is_not_a_run_of_ours_is_refused_by_name(shop: Installation, worker: CronqProcess) -> None:
    foreign = Queue("default", connection=shop.client).enqueue(os.getpid, job_id="foreign")
    shop.client.rpush("rq:queue:default", "no-hash")
    shop.client.hset("rq:job:junk", mapping={b"\xff": b"\x00", "created_at": "yesterday"})
    shop.client.rpush("rq:queue:default", "junk")
    shop.client.set("rq:job:text", "text")
    shop.client.rpush("rq:queue:default", "text", b"\xff\xfe")

    for name in ("foreign", "no-hash", "junk", "text"):
        line = worker.wait_for_line(f"REFUSED {name} ")
        assert line.endswith("is not a run of cronq: this worker runs only registered jobs; start it with "
                             "--allow MODULE, or let a stock `rq worker` serve its queue")  # fmt: skip
    assert shop.result("add").outcome == "succeeded"
    assert shop.client.llen("rq:queue:default:intermediate") == 0
    assert foreign.get_status() == JobStatus.FAILED
    assert foreign.id in foreign.failed_job_registry.get_job_ids(cleanup=False)
    result = foreign.latest_result()
    assert result is not None
    assert result.exc_string is not None
    assert result.exc_string.startswith("foreign is not a run of cronq")


def test_a_run_whose_rq_job_is_damaged_fails_with_the_reason(shop: Installation) -> None:
    run_id = shop.enqueue("add-nights")
    shop.client.delete(f"rq:job:{run_id}")
    shop.client.set(f"rq:job:{run_id}", "text")
    shop.client.rename("rq:queue:nights", "rq:queue:default")  # to the worker there is
    shop.client.hset(shop.app.keys.run(run_id), "queue", "default")

    run = shop.settles(run_id)

    assert (run.outcome, run.reason) == ("failed", f"rq:job:{run_id} is not a hash; see what has written there")
    assert shop.client.llen("rq:queue:default:intermediate") == 0
    shop.client.delete(f"rq:job:{run_id}")


def test_a_run_whose_row_turns_into_junk_holds_up_nobody(shop: Installation, worker: CronqProcess) -> None:
    run_id = shop.enqueue("sleep", 0.5, "junk-row")
    shop.pids("junk-row")
    shop.client.delete(shop.app.keys.run(run_id))
    shop.client.set(shop.app.keys.run(run_id), "text")

    worker.wait_for_line(f"UNSETTLED {run_id}")
    assert shop.result("add").outcome == "succeeded"

    shop.client.rpush("rq:queue:default", run_id)
    worker.wait_for_line(f"REFUSED the row of {run_id} in the ledger cannot be read")
    assert shop.result("add").outcome == "succeeded"
    shop.client.delete(shop.app.keys.run(run_id))


def test_a_stray_id_of_a_settled_run_changes_nothing(shop: Installation, worker: CronqProcess) -> None:
    run = shop.result("add")
    shop.client.rpush("rq:queue:default", run.run_id)
    worker.wait_for_line(f"DROPPED {run.run_id} ")
    shop.client.delete(f"rq:job:{run.run_id}")
    shop.client.rpush("rq:queue:default", run.run_id)
    worker.wait_for_line(f"DROPPED {run.run_id}: it was succeeded while it waited")

    assert shop.row(run.run_id) == run


def test_a_queued_run_whose_rq_job_was_deleted_is_stopped(shop: Installation) -> None:
    run_id = shop.enqueue("add-nights")
    shop.client.delete(f"rq:job:{run_id}")
    nights = shop.worker("nights")

    run = shop.settles(run_id)
    leave(nights)

    assert (run.outcome, run.reason) == ("stopped", "removed from its queue")


#: What a field of a hash may turn into.
JUNK = (b"", b"\xff\xfe\x00", b"nan", b"[]", b"-1", b'{"a": 1}', b"gAN9cQAu", b"9" * 400)


def test_junk_in_any_field_of_a_rq_job_or_a_row_holds_up_nobody(shop: Installation, worker: CronqProcess) -> None:
    sample = shop.enqueue("add-nights")
    fields = {
        "rq:job:{}": shop.client.hgetall(f"rq:job:{sample}"),
        shop.app.keys.run("{}"): shop.client.hgetall(shop.app.keys.run(sample)),
    }
    shop.app.stop(sample)
    harmed = []
    for key, known in fields.items():
        for number, field in enumerate(known):
            run_id = shop.enqueue("add-nights")
            shop.client.hset(key.format(run_id), field, JUNK[number % len(JUNK)])
            harmed.append(run_id)
    shop.client.hset("rq:job:all-junk", mapping=dict.fromkeys(fields["rq:job:{}"], b"\xff"))
    shop.client.rpush("rq:queue:nights", "all-junk", b"\xff\x00 not an id", "")
    nights = shop.worker("nights")

    assert shop.result("add-nights").outcome == "succeeded"
    until(lambda: shop.client.llen("rq:queue:nights:intermediate") == 0, what="nothing that is popped and not begun")
    for run_id in harmed:
        row = shop.client.hgetall(shop.app.keys.run(run_id))
        assert row.get(b"state") == b"done" or nights.lines(f" {run_id} "), (row, nights.log)
    assert nights.lines("REFUSED all-junk ")
    assert not nights.lines("Traceback"), nights.log
    leave(nights)


def test_what_was_set_aside_is_found_in_the_history(shop: Installation, worker: CronqProcess) -> None:
    shop.client.rpush("rq:queue:default", "nothing-behind-it")
    worker.wait_for_line("REFUSED nothing-behind-it ")

    rows = json.loads(shop.run("history", "--outcome", "failed", "--json").output)

    (row,) = (row for row in rows if row["run_id"] == "nothing-behind-it")
    assert (row["outcome"], row["job"], row["decided_by"][:7]) == ("failed", "", "worker ")
    assert row["reason"].startswith("nothing-behind-it is not a run of cronq")
    assert {row["outcome"] for row in rows} == {"failed"}
    assert "nothing-behind-it" in shop.run("history", "--outcome", "failed").output


def test_arguments_that_are_too_large_are_refused_where_they_are_given(shop: Installation) -> None:
    before = shop.client.llen("rq:queue:default")

    with pytest.raises(DefinitionError, match=r"job 'big'.* 60,000,\d+ bytes, and 1,000,000 are allowed"):
        shop.app.enqueue("big", (), {"text": "x" * 60_000_000})

    assert shop.client.llen("rq:queue:default") == before
    assert shop.app.history("big") == []
    module = "from cronq import job\n@job(name='huge', kwargs={'text': 'x' * 2_000_000})\ndef huge(text): ...\n"
    shop.write_module("huge_jobs", module)
    said = shop.run("sync", "huge_jobs")
    assert said.exit_code() == 78
    assert "job 'huge'" in said.log
    assert "2,000," in said.log
    assert shop.run("sync", "huge_jobs", CRONQ_MAX_ARGS="3000000").exit_code() == 0
    shop.app.remove("huge")


PLANTED = "import os; open(os.environ['DIARY'] + '/planted.diary', 'a').close()"


def test_nothing_that_somebody_planted_in_redis_is_unpickled(shop: Installation, worker: CronqProcess) -> None:
    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, (PLANTED,))

    poison = pickle.dumps(Planted())
    run_id = shop.enqueue("sleep", 1.5, "planted-beside")
    shop.begins(run_id)
    for field in ("data", "meta", "result", "exc_info"):
        shop.client.hset(f"rq:job:{run_id}", field, poison)
    result = {"type": 1, "created_at": 1, "return_value": base64.b64encode(poison)}
    shop.client.xadd(f"rq:results:{run_id}", result)
    foreign = {"data": zlib.compress(poison), "meta": poison, "status": "queued", "created_at": "2026-01-01T00:00:00Z"}
    shop.client.hset("rq:job:planted", mapping=foreign)  # type: ignore[arg-type]
    shop.client.rpush("rq:queue:default", "planted")

    for words in (("history",), ("show", "sleep"), ("workers",)):
        assert shop.run(*words).exit_code() == 0
    assert shop.run("run", "add", "--wait").exit_code() == 0
    worker.wait_for_line("REFUSED planted ")
    assert shop.settles(run_id).outcome == "succeeded"

    assert not (shop.directory / "planted.diary").exists()


# Coming and going


def workers_of(shop: Installation) -> set[int]:
    listed = shop.run("workers", "--json")
    assert listed.exit_code() == 0
    return {worker["pid"] for worker in json.loads(listed.output)}


@pytest.mark.timing
def test_an_idle_worker_leaves_at_once_and_nothing_of_it_remains(shop: Installation) -> None:
    nights = shop.worker("nights")
    below = descendants(nights.pid)
    assert below
    assert nights.pid in workers_of(shop)

    asked = time.monotonic()
    nights.terminate()
    code = nights.exit_code()
    took_s = time.monotonic() - asked

    assert code == 0
    assert took_s < 2 + 2
    assert not any(map(is_alive, below))
    assert nights.pid not in workers_of(shop)
    tell(f"SIGTERM of an idle worker: gone after {took_s:.2f} s")


def test_a_worker_that_is_told_to_leave_first_ends_its_run(shop: Installation) -> None:
    nights = shop.worker("nights")
    run_id = shop.enqueue("sleep-nights", 2, "leaving")
    shop.begins(run_id)
    after = shop.enqueue("add-nights")

    nights.terminate()

    assert nights.exit_code() == 0
    assert shop.row(run_id).outcome == "succeeded"
    assert shop.row(after).state == "queued"
    shop.app.stop(after)


@pytest.mark.parametrize("queues", [("nights",), ("high", "nights", "low")], ids=["one queue", "three queues"])
def test_an_idle_worker_that_is_told_to_leave_takes_no_more(shop: Installation, queues: tuple[str, ...]) -> None:
    nights = shop.worker(*queues)

    nights.terminate()
    run_id = shop.enqueue("sleep-nights", 1000, "too-late")

    assert nights.exit_code() == 0
    assert shop.row(run_id).state == "queued"
    assert shop.client.lrange("rq:queue:nights", 0, -1) == [run_id.encode()]
    shop.app.stop(run_id)


@pytest.mark.timing
def test_a_second_signal_ends_the_run_too(shop: Installation) -> None:
    nights = shop.worker("nights")
    run_id = shop.enqueue("sleep-nights", 1000, "leaving-at-once")
    (pid,) = shop.pids("leaving-at-once")
    below = descendants(nights.pid)

    nights.terminate()
    nights.wait_for_line("LEAVING")
    asked = time.monotonic()
    nights.terminate()
    code = nights.exit_code()
    took_s = time.monotonic() - asked

    run = shop.row(run_id)
    assert (run.outcome, run.reason) == ("stopped", "the worker was told to leave at once")
    assert code == 0
    assert took_s < 2 + 3
    assert pid in below
    assert not any(map(is_alive, below))
    tell(f"second SIGTERM: gone after {took_s:.2f} s")


def test_a_worker_in_a_long_run_is_still_known_to_be_alive(shop: Installation, worker: CronqProcess) -> None:
    run_id = shop.enqueue("sleep", 1000, "long")
    shop.begins(run_id)
    (known,) = (beat for beat in shop.app.workers()[0] if beat.pid == worker.pid)

    (later,) = until(
        lambda: [beat for beat in shop.app.workers()[0] if beat.pid == worker.pid and beat.seen_at > known.seen_at],
        15,
        "a heartbeat during the run",
    )

    assert later.seen_at > known.seen_at
    shop.app.stop(run_id)
    shop.settles(run_id)


# How fast


@pytest.mark.timing
@pytest.mark.parametrize("queues", [("nights",), ("high", "nights", "low")], ids=["one queue", "three queues"])
def test_a_run_starts_at_once_when_it_is_queued(shop: Installation, queues: tuple[str, ...]) -> None:
    nights = shop.worker(*queues)
    delays_ms = []
    for _ in range(30):
        run = shop.result("add-nights")
        assert run.started_at is not None
        assert run.queued_at is not None
        delays_ms.append((run.started_at - run.queued_at) * 1000)
    leave(nights)

    median_ms = statistics.median(delays_ms)
    tell(f"{len(queues)} queues: from queued to START {median_ms:.1f} ms (median), {max(delays_ms):.0f} ms at worst")
    assert median_ms < 250  # without being woken, a worker on several queues would need 500


@pytest.mark.timing
@pytest.mark.parametrize("queues", [("nights",), ("high", "nights", "low")], ids=["one queue", "three queues"])
def test_an_idle_worker_asks_redis_about_once_a_second(
    redis_server: RedisServer, tmp_path: Path, queues: tuple[str, ...]
) -> None:
    with installation(redis_server.url, tmp_path / "cronq") as made:
        made.worker(*queues)

        def looks() -> int:
            return int(made.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

        until(lambda: looks() >= 2, what="the first look, for which Redis has to learn the script")
        before, begun = looks(), time.monotonic()
        until(lambda: looks() >= before + 4, what="four looks at the queues")
        took_s = time.monotonic() - begun

    assert took_s > 2.5


def test_nothing_that_workers_leave_lives_for_ever(shop: Installation) -> None:
    leaks = immortals(shop.client, have_jobs=True, have_work=True)

    assert set(leaks) - {"rq:job:text"} == set()  # which a test put there
