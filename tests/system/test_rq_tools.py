"""RQ's own tools, used as their users do, on runs of cronq: `rq info`, `rq worker`, `rq requeue`, `rq suspend`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from rq import Queue, Worker
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry

import cronq
from cronq.errors import ConfigError
from cronq.runs.run import Run
from tests.conftest import RedisServer
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, installation, is_alive


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a `cronq worker` on `default`, shared by these tests."""
    server = RedisServer()
    try:
        with installation(server.url, tmp_path_factory.mktemp("shop"), CRONQ_LOST_AFTER="3s") as made:
            made.worker()
            yield made
    finally:
        server.stop()


@pytest.fixture
def own(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation without any worker yet."""
    with installation(redis_server.url, tmp_path_factory.mktemp("own")) as made:
        yield made


def rq_job(made: Installation, run: Run) -> Job:
    return Job.fetch(run.run_id, connection=made.client)


# Looking


def test_rq_info_shows_the_queue_and_the_worker_with_what_it_is_doing(shop: Installation) -> None:
    shop.enqueue("add-low")
    run_id = shop.enqueue("sleep", 1000)
    name = shop.begins(run_id).worker

    shown = shop.run_rq("info").output
    (worker,) = Worker.all(connection=shop.client)

    assert "low" in shown
    assert "1 workers" in shown
    assert f"{name} " in shown
    assert "busy" in shown
    assert (worker.name, worker.get_state(), worker.get_current_job_id()) == (name, "busy", run_id)
    assert Queue("low", connection=shop.client).count == 1

    shop.app.stop(run_id)
    shop.settles(run_id)
    until(lambda: "idle" in shop.run_rq("info").output, what="an idle worker")


def test_a_worker_that_registers_again_because_the_answer_was_lost_is_not_taken_for_another(shop: Installation) -> None:
    worker = cronq.Worker(["low"], connection=shop.client, app=shop.app)
    try:
        worker.register_birth()
        worker.register_birth()

        assert worker.name in {each.name for each in Worker.all(connection=shop.client)}
    finally:
        worker.register_death()


def test_two_workers_may_not_have_one_name(shop: Installation) -> None:
    (known,) = Worker.all(connection=shop.client)
    worker = cronq.Worker(["low"], known.name, connection=shop.client, app=shop.app)

    with pytest.raises(ValueError, match="active worker named"):
        worker.register_birth()


def test_rq_counts_what_a_worker_has_done(shop: Installation) -> None:
    (before,) = Worker.all(connection=shop.client)

    shop.result("add")
    shop.result("add")
    shop.result("fail")

    def counts() -> tuple[int, int]:
        (now,) = Worker.all(connection=shop.client)
        return now.successful_job_count - before.successful_job_count, now.failed_job_count - before.failed_job_count

    until(lambda: counts() == (2, 1), what=lambda: f"two successes and a failure, not {counts()}")
    (after,) = Worker.all(connection=shop.client)
    assert after.total_working_time >= before.total_working_time + 0.1


# Working

ODD_CLASSES = """
import rq, rq.job
class Job(rq.job.Job):
    def perform(self): return "mine"
class Queue(rq.Queue):
    redis_queue_namespace_prefix = "mine:"
"""
PLAIN_CLASSES = """
import rq, rq.job
class Job(rq.job.Job): pass
class Queue(rq.Queue):
    def enqueue(self, *args, **kwargs): return super().enqueue(*args, **kwargs)
"""


@pytest.mark.parametrize("queues", [("default",), ("high", "nights", "low")], ids=["one queue", "three queues"])
def test_rq_worker_with_our_class_runs_jobs_with_the_ledger_and_the_log_right(
    own: Installation, queues: tuple[str, ...]
) -> None:
    worker = own.ready(own.start_rq("worker", "--worker-class", "cronq.Worker", *queues))
    names = ["add", "fail"] if len(queues) == 1 else [f"add-{queue}" for queue in queues]

    runs = [own.result(name) for name in names]

    outcomes = ["succeeded", "failed"] if len(queues) == 1 else ["succeeded"] * 3
    assert [run.outcome for run in runs] == outcomes
    assert [run.queue for run in runs] == ["default"] * 2 if len(queues) == 1 else list(queues)
    assert {run.pid for run in runs} == {worker.pid}
    assert [rq_job(own, run).is_finished for run in runs] == [outcome == "succeeded" for outcome in outcomes]
    assert own.client.keys("rq:queue:*") == []
    for run in runs:
        until(lambda run=run: f"FINISH {run.run_id} {run.outcome}" in worker.output + worker.log, what="the log")
    worker.terminate()
    assert worker.exit_code() == 0


def test_exception_handlers_are_called_in_the_child_and_decide_nothing(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with installation(redis_server.url, tmp_path_factory.mktemp("own"), CRONQ_ALLOW="foreign_jobs") as made:
        queue = Queue(connection=made.client)

        def run_with(*names: str, timeout: int = 180) -> tuple[str, CronqProcess]:
            options = [word for name in names for word in ("--exception-handler", f"foreign_jobs.{name}")]
            worker = made.ready(made.start_rq("worker", "--worker-class", "cronq.Worker", *options, "default"))
            job = queue.enqueue("foreign_jobs.fail", "no ink", job_timeout=timeout)
            until(lambda: job.get_status() == "failed", what=lambda: f"its failure: {job.get_status()}\n{made.logs}")
            result = job.latest_result()
            assert result is not None
            assert "ValueError: no ink" in (result.exc_string or "")
            following = queue.enqueue("foreign_jobs.add", 1)
            until(lambda: following.get_status() == "finished", what="the next job")
            worker.terminate()
            assert worker.exit_code() == 0
            return job.id, worker

        job_id, worker = run_with("handle", "handle_last", "handle_badly")
        (told,) = made.diary("handled")
        pid, *words = told.split(" ", 3)
        assert words == [job_id, "ValueError", "no ink"]
        assert int(pid) != worker.pid
        assert made.diary("handled-last") == [job_id]
        assert made.diary("handled-badly") == []

        job_id, worker = run_with("handle_badly")
        assert made.diary("handled-badly") == [job_id]
        assert "the pager is out of paper" in worker.log + worker.output

        _, worker = run_with("handle_for_ever", timeout=1)
        assert not is_alive(made.pids("handled-for-ever")[0])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--serializer", "json"), "serializer JSONSerializer: cronq.Worker reads RQ's own pickles"),
        (("--job-class", "odd_classes.Job"), "job_class odd_classes.Job changes perform"),
        (("--queue-class", "odd_classes.Queue"), "queue_class odd_classes.Queue changes redis_queue_namespace_prefix"),
    ],
)
def test_an_option_of_rq_s_that_cannot_be_kept_is_refused_by_name(
    own: Installation, words: tuple[str, str], reason: str
) -> None:
    own.write_module("odd_classes", ODD_CLASSES)
    worker = own.start_rq("worker", "--path", str(own.directory), "--worker-class", "cronq.Worker", *words)

    assert worker.exit_code() == 1
    assert reason in worker.log + worker.output


def test_an_option_of_rq_s_that_nothing_needs_is_named(own: Installation) -> None:
    own.write_module("plain_classes", PLAIN_CLASSES)
    options = ["--maintenance-interval", "60", "--with-scheduler", "--disable-job-desc-logging", "--results-ttl", "99"]
    classes = ["--job-class", "plain_classes.Job", "--queue-class", "plain_classes.Queue"]
    words = ["--worker-class", "cronq.Worker", "--path", str(own.directory), *options, *classes]
    worker = own.ready(own.start_rq("worker", *words))
    said = worker.output + worker.log

    assert "NEEDLESS maintenance_interval: the beats tidy up" in said
    assert "NEEDLESS with_scheduler" in said
    assert "NEEDLESS job_monitoring_interval" not in said
    assert own.result("add").outcome == "succeeded"


def test_a_handler_of_killed_work_horses_is_refused(shop: Installation) -> None:
    with pytest.raises(ConfigError, match="work_horse_killed_handler: "):
        cronq.Worker(["low"], connection=shop.client, app=shop.app, work_horse_killed_handler=print)


def test_a_description_forges_no_line_in_the_log_of_rq_worker_with_our_class(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    forged = "FINISH payroll-20261121T070000Z succeeded 0.01s"
    with installation(redis_server.url, tmp_path_factory.mktemp("own"), CRONQ_ALLOW="foreign_jobs") as made:
        worker = made.ready(made.start_rq("worker", "--worker-class", "cronq.Worker", "default"))
        words = f"x\n{forged}\x1b]0;owned\x07"
        job = Queue(connection=made.client).enqueue("foreign_jobs.add", 1, 2, description=words)

        until(lambda: f"FINISH {job.id} succeeded" in worker.output, what="the end of the run")

        assert forged in worker.output, "it is told, within a line"
        assert not any(line.startswith(forged) for line in worker.output.splitlines())
        assert "\x1b]0" not in worker.output
        assert worker.output.count("START ") == 1


def test_rq_worker_with_our_class_holds_the_lock_of_an_exclusive_job(own: Installation) -> None:
    own.ready(own.start_rq("worker", "--worker-class", "cronq.Worker", "default"))
    run_id = own.enqueue("exclusive", 1000)
    own.begins(run_id)

    assert own.app.lock("exclusive").acquire(blocking=False) is False

    own.app.stop(run_id)
    assert own.settles(run_id).fence is not None


def test_a_burst_ends_when_the_queues_are_empty(own: Installation) -> None:
    runs = [own.enqueue("add"), own.enqueue("add-low")]

    burst = own.start_rq("worker", "--worker-class", "cronq.Worker", "--burst", "default", "low")

    assert burst.exit_code() == 0
    assert [own.row(run_id).outcome for run_id in runs] == ["succeeded"] * 2


def plain_burst(made: Installation) -> CronqProcess:
    """A stock `rq worker` that does all there is to do."""
    worker = made.start_rq("worker", "--burst", "default")
    assert worker.exit_code(60) == 0, worker.log
    return worker


def test_a_stock_rq_worker_keeps_the_ledger_too(own: Installation) -> None:
    orders: list[tuple[str, tuple[object, ...]]] = [
        ("add", (3, 4)), ("fail", ("no paper",)), ("leave", (0,)), ("leave", (3,)), ("coroutine", ()), ("slow", ()),
        ("shell", ()), ("words", ("a b", "c")),
    ]  # fmt: skip
    ids = [own.enqueue(name, *args) for name, args in orders]
    tick = own.claim_tick("command")

    plain_burst(own)

    added, failed, left, left_badly, awaited, slow, shell, words = map(own.row, ids)
    assert (added.outcome, added.host, added.attempt) == ("succeeded", "box", 1)
    assert (failed.outcome, failed.reason) == ("failed", "ValueError: no paper")
    assert failed.error is not None
    assert failed.error.splitlines()[-1] == "ValueError: no paper"
    assert "cronq/child.py" not in failed.error
    assert (left.outcome, left_badly.outcome, left_badly.exit_code) == ("succeeded", "failed", 3)
    assert awaited.outcome == "succeeded"
    assert (slow.outcome, slow.reason) == ("timed_out", "it ran longer than its timeout of 1s")
    assert (shell.outcome, shell.exit_code) == ("failed", 4)
    assert (words.outcome, own.diary("words")) == ("succeeded", ["a b", "c"])
    assert own.row(tick).outcome == "succeeded"
    assert json.loads(own.diary("command")[-1])["environment"]["CRONQ_RUN_ID"] == tick
    assert rq_job(own, added).return_value() == 7
    assert [rq_job(own, run).get_status() for run in (added, failed, slow)] == [
        JobStatus.FINISHED, JobStatus.FAILED, JobStatus.FAILED,
    ]  # fmt: skip
    assert own.app.runs.active(["add", "fail", "slow"]) == {"add": {}, "fail": {}, "slow": {}}
    assert own.client.zcard(own.app.keys.running) == 0


def test_a_stock_rq_worker_refuses_an_exclusive_job_and_says_what_would_run_it(own: Installation) -> None:
    run_id = own.enqueue("exclusive", 0)

    plain_burst(own)

    run = own.row(run_id)
    remedy = "serve its queue with `cronq worker` or `rq worker --worker-class cronq.Worker`"
    assert run.outcome == "failed"
    assert run.reason == f"job 'exclusive' is exclusive and a stock rq worker cannot hold its lock; {remedy}"
    job = rq_job(own, run)
    assert job.get_status() == JobStatus.FAILED
    result = job.latest_result()
    assert result is not None
    assert result.exc_string is not None
    assert remedy in result.exc_string
    assert own.diary("sleep") == []


def test_a_run_refused_by_a_stock_worker_can_be_put_back_for_one_of_ours(own: Installation) -> None:
    run_id = own.enqueue("exclusive", 0)
    plain_burst(own)
    own.run_rq("requeue", "--queue", "default", run_id)

    own.worker()

    run = own.settles(run_id, attempt=2)
    assert (run.outcome, run.attempt) == ("succeeded", 2)
    assert [(each.outcome, each.host) for each in run.attempts] == [("failed", "box")]


def test_a_stock_worker_keeps_the_attempt_before_too(own: Installation) -> None:
    run_id = own.enqueue("fail-once")
    plain_burst(own)
    own.run_rq("requeue", "--queue", "default", run_id)

    plain_burst(own)

    run = own.row(run_id)
    assert (run.outcome, run.attempt) == ("succeeded", 2)
    assert [(each.outcome, each.reason) for each in run.attempts] == [("failed", "ValueError: the first attempt")]


# Putting back


@pytest.mark.parametrize("kind", ["cronq", "rq"])
def test_rq_requeue_of_a_failed_run_whose_row_has_ended_runs_it_again(own: Installation, kind: str) -> None:
    worker = own.worker() if kind == "cronq" else own.start_rq("worker", "default")
    run_id = own.enqueue("fail")
    own.settles(run_id)
    own.client.delete(f"cronq:run:{run_id}")  # as the ledger trims old rows

    own.run_rq("requeue", "--queue", "default", run_id)

    until(lambda: own.client.hget(f"cronq:run:{run_id}", "state") == b"done", what=worker.log)
    run = own.row(run_id)
    assert (run.outcome, run.trigger, run.tick) == ("failed", "requeue", None)
    assert "REFUSED" not in worker.log


def test_rq_requeue_of_a_failed_run_is_its_second_attempt_and_replaces_the_outcome(shop: Installation) -> None:
    first = shop.result("fail-once")
    assert (first.outcome, first.reason) == ("failed", "ValueError: the first attempt")

    shop.run_rq("requeue", "--queue", "default", first.run_id)
    second = shop.settles(first.run_id, attempt=2)

    assert (second.outcome, second.attempt, second.result, second.error) == ("succeeded", 2, '"attempt 2"', None)
    job = rq_job(shop, second)
    assert (job.get_status(), job.return_value()) == (JobStatus.FINISHED, "attempt 2")
    assert first.run_id not in FailedJobRegistry("default", connection=shop.client).get_job_ids(cleanup=False)
    state = shop.app.jobs.get("fail-once").state
    assert (state.last_outcome, state.streak) == ("succeeded", 1)


def test_rq_requeue_all_puts_back_every_failed_run(own: Installation) -> None:
    own.worker()
    runs = [own.result("fail-once") for _ in range(3)]

    own.run_rq("requeue", "--queue", "default", "--all")

    assert [own.settles(run.run_id, attempt=2).outcome for run in runs] == ["succeeded"] * 3


def test_queueing_twice_runs_twice(shop: Installation) -> None:
    runs = [shop.settles(run_id) for run_id in (shop.enqueue("add"), shop.enqueue("add"))]

    assert runs[0].run_id != runs[1].run_id
    assert [run.outcome for run in runs] == ["succeeded"] * 2


def test_a_function_queues_itself(own: Installation) -> None:
    script = "import working_jobs; print(working_jobs.sleep.jobs['sleep'].enqueue(0, 'itself'), flush=True)"
    queued = own.start_python(script)
    assert queued.exit_code() == 0, queued.log

    own.worker()

    assert own.settles(queued.output.strip()).outcome == "succeeded"
    assert len(own.diary("itself")) == 1


# Taking away


def test_an_emptied_queue_stops_its_runs_and_a_lost_list_comes_back(own: Installation) -> None:
    emptied = [own.enqueue("add-low"), own.enqueue("add-low")]
    lost = own.enqueue("add-high")
    own.beat(CRONQ_LOST_AFTER="1s")

    own.run_rq("empty", "low")
    own.client.delete("rq:queue:high")

    for run_id in emptied:
        run = own.settles(run_id)
        assert (run.outcome, run.reason, run.decided_by) == ("stopped", "removed from its queue", "rq")
    until(lambda: own.client.lrange("rq:queue:high", 0, -1) == [lost.encode()], what="the run back on its queue")
    own.worker("high")
    assert own.settles(lost).outcome == "succeeded"


# Holding


@pytest.mark.parametrize("queues", [("default",), ("high", "default", "low")], ids=["one queue", "three queues"])
def test_rq_suspend_is_honoured_until_rq_resume(own: Installation, queues: tuple[str, ...]) -> None:
    own.worker(*queues)
    own.run_rq("suspend")
    until(lambda: [each.get_state() for each in Worker.all(connection=own.client)] == ["suspended"])
    run_id = own.enqueue("add")
    time.sleep(1.5)  # longer than a worker takes to look again
    assert own.row(run_id).state == "queued"

    own.run_rq("resume")

    assert own.settles(run_id).outcome == "succeeded"
    until(lambda: [each.get_state() for each in Worker.all(connection=own.client)] == ["idle"])
