"""RQ jobs that are not cronq's, under `cronq worker --allow`: run, guarded, recorded as RQ records them, or refused."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from rq import Callback, Queue, Retry, Webhook
from rq.command import send_stop_job_command
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq_scheduler import Scheduler

from tests.conftest import RedisServer
from tests.system.processes import CronqProcess, until
from tests.system.worker_processes import Installation, descendants, installation

F = "foreign_jobs."
ENDS: tuple[Literal["finished", "failed"], ...] = ("finished", "failed")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a worker on `default` that may run `foreign_jobs`, and a beat."""
    server = RedisServer()
    try:
        with installation(server.url, tmp_path_factory.mktemp("shop"), CRONQ_LOST_AFTER="3s") as made:
            made.worker("default", CRONQ_ALLOW="foreign_jobs")
            made.beat()
            yield made
    finally:
        server.stop()


@pytest.fixture
def queue(shop: Installation) -> Queue:
    return Queue("default", connection=shop.client)


def why(job: Job) -> str:
    """What RQ has as the reason of a failure."""
    result = job.latest_result()
    return str(result.exc_string) if result is not None else ""


def ends(shop: Installation, job: Job, *statuses: str, within_s: float = 30.0) -> Job:
    """Wait until an RQ job has one of *statuses* (finished)."""
    wanted = statuses or ("finished",)
    until(
        lambda: job.get_status(refresh=True) in wanted,
        within_s,
        lambda: f"{wanted}: {job.get_status()} {why(job)}\n{shop.logs}",
    )
    until(lambda: StartedJobRegistry(job.origin, connection=shop.client).count == 0, within_s, lambda: shop.logs)
    job.refresh()
    return job


def test_the_log_names_the_function_and_not_its_arguments(shop: Installation, queue: Queue) -> None:
    job = ends(shop, queue.enqueue(F + "add", 40_771, b=3))

    assert f"START {job.id} {F}add pid=" in shop.logs
    assert "40771" not in shop.logs


def test_a_function_of_an_allowed_module_runs_and_its_result_is_rqs(shop: Installation, queue: Queue) -> None:
    job = ends(shop, queue.enqueue(F + "add", 2, b=3))

    result = job.latest_result()
    assert result is not None
    assert (job.return_value(), result.type.name, result.worker_name) == (5, "SUCCESSFUL", job.worker_name)
    assert job.id in FinishedJobRegistry(queue=queue)
    assert shop.client.ttl(job.key) > 0
    assert job.started_at is not None
    assert job.ended_at is not None
    assert not shop.client.exists("rq:queue:default:intermediate", f"rq:executions:{job.id}")


def test_arguments_and_results_of_its_own_classes_come_through(
    shop: Installation, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import foreign_jobs

    job = ends(shop, queue.enqueue(foreign_jobs.greet, foreign_jobs.Letter("ann")))
    sent = ends(shop, queue.enqueue(foreign_jobs.Letter("bob").send, "post"))

    assert job.return_value() == foreign_jobs.Letter("ANN")
    assert sent.return_value() == "sent to bob"


def test_a_failure_is_recorded_as_rq_does(shop: Installation, queue: Queue) -> None:
    job = ends(shop, queue.enqueue(F + "fail", "no ink"), "failed")

    assert "ValueError: no ink" in why(job)
    assert job.id in FailedJobRegistry(queue=queue)


def test_a_failure_whose_text_is_not_utf_8_is_recorded_too(shop: Installation, queue: Queue) -> None:
    job = ends(shop, queue.enqueue(F + "fail_oddly"), "failed")

    assert "ValueError: caf\\udce9\\x00" in why(job)
    assert ends(shop, queue.enqueue(F + "add", 1)).return_value() == 2


def test_a_retry_with_a_pause_is_served_by_the_beat(shop: Installation, queue: Queue) -> None:
    job = ends(shop, queue.enqueue(F + "fail_once", retry=Retry(max=2, interval=[1, 0]), meta={"kept": 1}))

    assert job.return_value() == "at last"
    assert shop.diary("tried") == [job.id] * 3
    assert job.meta == {"kept": 1}


def test_a_function_that_returns_a_retry_runs_again(shop: Installation, queue: Queue) -> None:
    assert ends(shop, queue.enqueue(F + "again")).return_value() == "done"


def test_meta_that_the_job_saves_stays(shop: Installation, queue: Queue) -> None:
    job = ends(shop, queue.enqueue(F + "remember", "hello", meta={"a": 1}))

    assert job.meta == {"a": 1, "said": "hello"}


def test_callbacks_are_called(shop: Installation, queue: Queue) -> None:
    callbacks = {"on_success": Callback(F + "on_success"), "on_failure": Callback(F + "on_failure")}
    ends(shop, queue.enqueue(F + "add", 1, **callbacks))
    ends(shop, queue.enqueue(F + "fail", "oh", **callbacks), "failed")

    assert shop.diary("callbacks") == ["success 2", "failure oh"]


def test_what_depends_on_it_follows_with_its_meta(shop: Installation, queue: Queue) -> None:
    parent = queue.enqueue(F + "add", 10)
    child = queue.enqueue(F + "add", 20, depends_on=parent, meta={"of": [parent.id]})

    assert ends(shop, child).meta == {"of": [parent.id]}


def test_one_that_takes_too_long_is_ended(shop: Installation, queue: Queue) -> None:
    job = ends(shop, queue.enqueue(F + "sleep", 100, job_timeout=1), "failed")

    assert "JobTimeoutException" in why(job)


def test_rqs_stop_command_stops_it(shop: Installation, queue: Queue) -> None:
    job = queue.enqueue(F + "sleep", 1000)
    until(lambda: job.get_status() == "started", what=lambda: shop.logs)
    worker = next(process for process in shop.started if "worker" in process.name)
    until(lambda: len(descendants(worker.pid)) >= 2, what=lambda: shop.logs)

    send_stop_job_command(shop.client, job.id)

    ends(shop, job, "stopped")


# Refused


@pytest.mark.parametrize(
    "function",
    ["os.system", "foreign_jobs.os.system", "foreign_jobs.check_output", "subprocess.check_output", "working_jobs.add",
     "foreign_jobs.nothing", "builtins.print", "print"],
)  # fmt: skip
def test_a_function_that_no_allowed_module_defines_is_refused(
    shop: Installation, queue: Queue, tmp_path: Path, function: str
) -> None:
    sprung = tmp_path / "sprung"
    job = ends(shop, queue.enqueue_call(function, args=(f"touch {sprung}",)), "failed")

    assert not sprung.exists()
    assert why(job)
    if not function.startswith("foreign_jobs."):
        assert "--allow" in why(job)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["args", "kwargs", "instance", "meta"])
def test_a_pickle_that_would_do_something_is_never_opened(
    shop: Installation, queue: Queue, tmp_path: Path, where: str
) -> None:
    trap = Trap(tmp_path / "sprung")
    call: tuple[Any, ...] = {
        "args": (F + "add", None, (trap,), {}),
        "kwargs": (F + "add", None, (1,), {"b": trap}),
        "instance": ("add", trap, (1,), {}),
        "meta": (F + "add", None, (1,), {}),
    }[where]
    job = queue.enqueue(F + "sleep", 0, meta={"a": 1}, job_id=f"trap-{where}", at_front=False, job_timeout=20)
    ends(shop, job)
    shop.client.hset(job.key, mapping={"data": zlib.compress(pickle.dumps(call)), "status": "queued"})
    if where == "meta":
        shop.client.hset(job.key, "meta", pickle.dumps({"a": trap}))
    shop.client.rpush(queue.key, job.id)

    until(lambda: shop.client.hget(job.key, "status") in (b"failed", b"finished"), what=lambda: shop.logs)

    assert not trap.path.exists()
    if where != "meta":
        assert shop.client.hget(job.key, "status") == b"failed"


@pytest.mark.parametrize("instance", [None, 0, [], ""])
def test_a_module_that_is_not_allowed_is_not_even_imported(
    shop: Installation, queue: Queue, tmp_path: Path, instance: object
) -> None:
    sprung = tmp_path / "sprung"
    shop.write_module("planted", f"open({str(sprung)!r}, 'w').close()\ndef work(): pass\n")
    job = queue.create_job(F + "add", args=(1,))
    job.data = pickle.dumps(("planted.work", instance, (), {}))  # RQ takes an instance that is false for none
    job.save()
    queue.push_job_id(job.id)

    ends(shop, job, "failed")

    assert not sprung.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("timeout", "1" * 400), ("result_ttl", "1" * 20), ("failure_ttl", "1" * 20)]
)
def test_a_number_that_is_out_of_all_bounds_harms_no_other_job(
    shop: Installation, queue: Queue, field: str, value: str
) -> None:
    job = queue.create_job(F + "add", args=(1,))
    job.save()
    shop.client.hset(job.key, mapping={field: value, "status": "queued"})
    queue.push_job_id(job.id)
    bad = queue.enqueue(F + "fail", "oh")

    ends(shop, bad, "failed")
    assert ends(shop, queue.enqueue(F + "add", 2)).return_value() == 3
    assert shop.result("add").outcome == "succeeded"


def test_without_the_option_nothing_foreign_runs_and_the_refusal_names_it(shop: Installation) -> None:
    worker = shop.worker("strict")
    before = shop.diary("added")
    job = ends(shop, Queue("strict", connection=shop.client).enqueue(F + "add", 1), "failed")

    assert "--allow MODULE" in why(job)
    assert "--allow MODULE" in worker.lines("REFUSED")[0]
    assert shop.diary("added") == before


def test_with_a_star_everything_runs(shop: Installation) -> None:
    shop.ready(shop.start("worker", "--allow", "*", "any"))

    assert ends(shop, Queue("any", connection=shop.client).enqueue("math.factorial", 5)).return_value() == 120


def test_junk_in_a_queue_is_set_aside_with_its_reason(shop: Installation, queue: Queue) -> None:
    worker = next(process for process in shop.started if "worker" in process.name)
    shop.client.hset("rq:job:junk", mapping={b"\xff": b"\x00", "created_at": "yesterday"})
    shop.client.hset("rq:job:odd", mapping={"data": zlib.compress(pickle.dumps(5)), "status": "queued"})
    shop.client.set("rq:job:text", "text")
    bomb = zlib.compress(bytes(65 * 1024 * 1024))
    shop.client.hset("rq:job:bomb", mapping={"data": bomb, "status": "queued"})
    shop.client.rpush(queue.key, "no-hash", "junk", "odd", "text", "bomb", "two\nlines \x1b[31m", b"\xff\xfe")

    for name in ("no-hash", "junk", "odd", "text", "bomb", "two lines \N{REPLACEMENT CHARACTER}[31m"):
        worker.wait_for_line(f"REFUSED {name} ")
    assert ends(shop, queue.enqueue(F + "add", 1)).return_value() == 2
    assert shop.client.llen(queue.intermediate_queue_key) == 0


# Webhooks


class Hooks(http.server.BaseHTTPRequestHandler):
    """Answers as the path says, and keeps what it was sent."""

    seen: ClassVar[list[tuple[str, str]]] = []
    held: ClassVar[threading.Event] = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.seen.append((self.path, body))
        if self.path.startswith("/slow"):
            self.held.wait(60)
        self.send_response(302 if self.path.startswith("/redirect") else 200)
        self.send_header("Location", "/internal")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hooks() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hooks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        Hooks.held.set()
        server.shutdown()
        server.server_close()


def test_a_webhook_is_sent_after_the_end_and_follows_no_redirect(shop: Installation, hooks: str) -> None:
    queue = Queue("hooked", connection=shop.client)
    worker = shop.worker("hooked", CRONQ_ALLOW="foreign_jobs", CRONQ_WEBHOOK_ALLOW_PRIVATE="true")
    told = [Webhook(f"{hooks}/{path}", status, method="POST") for path in ("redirect", "b") for status in ENDS]
    good = ends(shop, queue.enqueue(F + "add", 1, webhooks=told))
    bad = ends(shop, queue.enqueue(F + "fail", "no ink", webhooks=told), "failed")

    until(lambda: len(Hooks.seen) >= 4, what=lambda: f"{Hooks.seen}\n{worker.log}")
    worker.wait_for_line(f"WEBHOOK of {bad.id} failed: 127.0.0.1: it answered 302")

    bodies = [json.loads(body) for path, body in Hooks.seen if path == "/b"]
    assert [(body["job_id"], body["func_name"], body["status"]) for body in bodies] == [
        (good.id, F + "add", "finished"), (bad.id, F + "fail", "failed"),
    ]  # fmt: skip
    assert "ValueError: no ink" in bodies[1]["exc_info"]
    assert "/internal" not in [path for path, _ in Hooks.seen]


def test_a_webhook_that_hangs_keeps_the_heart_beating_and_ends_with_its_worker(shop: Installation, hooks: str) -> None:
    queue = Queue("hung", connection=shop.client)
    worker = shop.worker(
        "hung", CRONQ_ALLOW="foreign_jobs", CRONQ_WEBHOOK_ALLOW_PRIVATE="true", CRONQ_SHUTDOWN_GRACE="100s"
    )
    job = queue.enqueue(
        F + "add", 1, retry=Retry(max=1), webhooks=[Webhook(f"{hooks}/slow", "finished", timeout=10**6)]
    )
    until(lambda: any(path == "/slow" for path, _ in Hooks.seen), what=lambda: worker.log)
    assert job.get_status(refresh=True) == "finished"

    def seen_at() -> float:
        beats = {beat.pid: beat.seen_at for beat in shop.app.workers()[0]}
        return beats[worker.pid]

    first = seen_at()
    until(lambda: seen_at() > first, what=lambda: worker.log)
    worker.terminate()
    worker.wait_for_line("LEAVING")
    worker.terminate()

    assert worker.exit_code(20) == 0
    assert job.get_status(refresh=True) == "finished"


def test_a_webhook_reaches_no_private_address_unless_that_is_allowed(
    shop: Installation, queue: Queue, hooks: str
) -> None:
    before = len(Hooks.seen)
    worker = next(process for process in shop.started if "worker" in process.name)
    hosts = [hooks, hooks.replace("127.0.0.1", "localhost"), hooks.replace("127.0.0.1", "[::ffff:127.0.0.1]")]
    job = ends(shop, queue.enqueue(F + "add", 1, webhooks=[Webhook(host, "finished") for host in hosts]))

    until(lambda: sum(job.id in line for line in worker.lines("WEBHOOK")) == 3, what=lambda: worker.log)

    assert "is no public address; CRONQ_WEBHOOK_ALLOW_PRIVATE=true" in worker.lines("WEBHOOK")[-1]
    assert len(Hooks.seen) == before


# Lost


@pytest.mark.parametrize(("retry", "status"), [(None, "failed"), (Retry(max=1), "queued")])
def test_one_whose_worker_is_killed_is_settled_as_rq_would_and_soon(
    shop: Installation, retry: Retry | None, status: str
) -> None:
    queue = Queue(f"doomed-{status}", connection=shop.client)
    worker = shop.worker(queue.name, CRONQ_ALLOW="foreign_jobs")
    job = queue.enqueue(F + "sleep", 1000, retry=retry)
    until(lambda: job.get_status(refresh=True) == "started", what=lambda: shop.logs)
    worker.kill9()

    until(lambda: job.get_status(refresh=True) == status, 30, lambda: f"{job.get_status()}\n{shop.logs}")

    assert StartedJobRegistry(queue=queue).count == 0
    assert not shop.client.exists("cronq:foreign", f"rq:executions:{job.id}")
    assert queue.job_ids == ([job.id] if retry else [])
    if retry is None:
        assert "was not heard of for 3s" in why(job)
        assert job.id in FailedJobRegistry(queue=queue)


# Adopted


def test_a_repeating_job_of_rq_scheduler_is_adopted_and_goes_on(shop: Installation) -> None:
    scheduler = Scheduler(connection=shop.client)
    job = scheduler.schedule(
        time_in(1000), F + "tick", args=["adopted"], interval=1000, id="steady", timeout=60, description="tick"
    )
    refused = shop.run("adopt", "steady")
    assert refused.exit_code() == 1
    assert "CRONQ_ALLOW=foreign_jobs" in refused.log
    assert job in scheduler

    adopted = shop.run("adopt", "steady", "--name", "heartbeat", "--allow", "foreign_jobs")
    assert (adopted.exit_code(), adopted.output) == (0, "heartbeat\n"), adopted.log
    assert job not in scheduler

    row = shop.settles(shop.enqueue("heartbeat"))
    assert row.outcome == "succeeded", row
    assert [line.split()[0] for line in shop.diary("ticks")] == ["adopted"]
    assert shop.app.jobs.get("heartbeat").next_tick is not None


def time_in(seconds: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time.time() + seconds, UTC).replace(tzinfo=None)


def test_a_worker_that_is_told_to_leave_twice_ends_a_foreign_run(redis_server: RedisServer, tmp_path: Path) -> None:
    with installation(redis_server.url, tmp_path / "own") as own:
        worker: CronqProcess = own.worker(CRONQ_ALLOW="foreign_jobs")
        job = Queue("default", connection=own.client).enqueue(F + "sleep", 1000)
        until(lambda: own.diary("slept"), what=lambda: own.logs)
        worker.terminate()
        worker.wait_for_line("LEAVING")
        worker.terminate()

        assert worker.exit_code(40) == 0
        assert job.get_status(refresh=True) == "failed"
