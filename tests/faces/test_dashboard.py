"""rq-dashboard on cronq's runs: what it shows of them, what its buttons do, and what our start of it closes."""

from __future__ import annotations

import base64
import html
import pickle
import resource
import socket
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rq.job
import rq.results
from redis import Redis
from rq import Queue
from rq.job import Job

from cronq import Cronq, Worker
from cronq.app.views import run_row
from cronq.beat.reconcile import Reconcile
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.runs.run import Ending, Settlement, Start
from tests.system.processes import CronqProcess, Processes, until

pytest.importorskip("rq_dashboard", reason="rq-dashboard is not installed; it comes with the extra `test`")
ROOT = Path(__file__).parents[2]
HTML = "<img src=x onerror=alert(1)>"


@pytest.fixture
def app(redis_url: str, redis: Redis) -> Cronq:
    app = Cronq(config=Config(url=redis_url, host_id="box"), registry=Registry(), client=redis)
    app.add("invoices", command=["true"], cron="30 2 * * *", tz="Europe/Amsterdam")
    return app


@pytest.fixture
def page(redis_url: str, app: Cronq) -> Any:
    """A client of the dashboard, as a browser on this machine would be."""
    from cronq.web.rq_dashboard import make_app

    return make_app(redis_url).test_client()


@pytest.fixture
def get(page: Any) -> Callable[[str], Any]:
    def _get(path: str) -> Any:
        answer = page.get(path)
        assert answer.status_code == 200, path
        return answer.get_json() if path.endswith(".json") else answer.get_data(as_text=True)

    return _get


def jobs(get: Callable[[str], Any], registry: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = get(f"/0/data/jobs/default/{registry}/200/dsc/1.json")["jobs"]
    return listed


def begin(app: Cronq, run_id: str) -> int:
    app.client.lrem("rq:queue:default", 0, run_id)
    run = app.runs.get(run_id)
    return app.runs.start(
        run,
        Start(worker="box.1.a", host="box", pid=1, execution=f"e{time.monotonic_ns()}", lease_s=90, now_s=app.now_s()),
    ).attempt


def ran(app: Cronq, outcome: str, **more: Any) -> str:
    """A run by hand that has ended so."""
    run_id = app.enqueue("invoices")
    begin(app, run_id)
    settlement = Settlement(outcome, "why", **more)
    assert app.runs.settle(app.runs.get(run_id), Ending(settlement, by="w", now_s=app.now_s(), attempt=1))
    return run_id


def tick(app: Cronq) -> str:
    """The run of a tick, claimed by a pass of a beat and still queued."""
    mark = app.jobs.get("invoices").state.mark
    spec = app.jobs.get("invoices").spec
    assert mark is not None
    assert spec.schedule is not None
    due = spec.schedule.last_until(mark) or 0
    app.quarantine.restore_mark("invoices", due - 1, due)
    app.beat().pass_once(float(due))
    return app.history("invoices")[0].run_id


# What it shows


def test_every_page_opens_on_a_redis_with_runs_of_cronq(app: Cronq, get: Callable[[str], Any]) -> None:
    ran(app, "succeeded", return_value={"sent": 3})
    failed = ran(app, "failed", error="ValueError: no paper")
    tick(app)

    for path in ("/", "/0/view/workers", "/0/view/jobs", f"/0/view/job/{failed}"):
        assert "RQ" in get(path)
    (queue,) = get("/0/data/queues.json")["queues"]
    assert (queue["name"], queue["count"]) == ("default", 1)
    assert (queue["finished_job_registry_count"], queue["failed_job_registry_count"]) == (1, 1)


def test_a_tick_is_listed_by_its_job_and_time(app: Cronq, get: Callable[[str], Any]) -> None:
    run_id = tick(app)

    (listed,) = jobs(get, "queued")

    moment = run_row(app.runs.get(run_id))["tick"].replace("T", " ")[:16]
    assert (listed["id"], listed["description"]) == (run_id, f"invoices @ {moment} UTC")


def test_the_page_of_a_run_tells_its_job_schedule_and_zone(app: Cronq, get: Callable[[str], Any]) -> None:
    shown = get(f"/0/data/job/{tick(app)}.json")

    assert shown["origin"] == "default"
    assert html.unescape(shown["metadata"]) == (
        '{"cronq_job": "invoices", "schedule": "30 2 * * *", "timezone": "Europe/Amsterdam"}'
    )


def test_results_and_errors_are_shown(app: Cronq, get: Callable[[str], Any]) -> None:
    good, bad = ran(app, "succeeded", return_value={"sent": 3}), ran(app, "failed", error="ValueError: no paper")

    assert get(f"/0/data/job/{good}.json")["result"] == {"sent": 3}
    assert get(f"/0/data/job/{bad}.json")["exc_info"] == "ValueError: no paper"
    assert [each["id"] for each in jobs(get, "finished")] == [good]
    assert [each["exc_info"] for each in jobs(get, "failed")] == ["ValueError: no paper"]


def test_workers_are_named_by_host_and_process(app: Cronq, get: Callable[[str], Any]) -> None:
    worker = Worker(["default"], connection=app.client, app=app)
    worker.register_birth()
    try:
        (shown,) = get("/0/data/workers.json")["workers"]
    finally:
        worker.register_death()

    assert shown["name"].startswith(f"box.{worker.pid}.")
    assert shown["queues"] == ["default"]


# What its buttons do


def test_requeue_is_a_further_attempt_of_the_same_run(app: Cronq, page: Any) -> None:
    run_id = ran(app, "failed", error="no paper")

    assert page.post(f"/job/{run_id}/requeue").get_json() == {"status": "OK"}
    attempt = begin(app, run_id)

    assert attempt == 2
    assert [(each.attempt, each.outcome) for each in app.runs.get(run_id).attempts] == [(1, "failed")]
    assert len(app.history("invoices")) == 1


def test_requeue_all_puts_every_failed_run_back(app: Cronq, page: Any) -> None:
    runs = [ran(app, "failed"), ran(app, "timed_out"), ran(app, "lost")]

    assert page.post("/requeue/default").get_json()["count"] == 3

    assert [begin(app, run_id) for run_id in runs] == [2, 2, 2]


@pytest.mark.parametrize("button", ["delete", "empty"])
def test_delete_and_empty_stop_a_queued_run(app: Cronq, page: Any, button: str) -> None:
    run_id = tick(app)
    path = f"/job/{run_id}/delete" if button == "delete" else "/queue/default/queued/empty"

    assert page.post(path).get_json() == {"status": "OK"}
    Reconcile(app.client, app.keys, app.runs, by="beat", patience_s=0).once(app.now_s())

    run = app.runs.get(run_id)
    assert (run.outcome, run.reason, run.decided_by) == ("stopped", "removed from its queue", "rq")


def test_what_is_deleted_or_emptied_after_its_end_keeps_its_outcome(app: Cronq, page: Any) -> None:
    runs = [ran(app, "failed"), ran(app, "succeeded"), ran(app, "failed")]

    page.post(f"/job/{runs[0]}/delete")
    page.post("/queue/default/finished/empty")
    page.post("/queue/default/failed/empty")
    Reconcile(app.client, app.keys, app.runs, by="beat", patience_s=0).once(app.now_s())

    assert [app.runs.get(run_id).outcome for run_id in runs] == ["failed", "succeeded", "failed"]


def test_compact_loses_nothing(app: Cronq, page: Any) -> None:
    run_id = tick(app)

    page.post("/queue/default/compact")

    assert app.client.lrange("rq:queue:default", 0, -1) == [run_id.encode()]


# What is closed


def test_texts_of_jobs_are_shown_as_text(app: Cronq, get: Callable[[str], Any]) -> None:
    run_id = ran(app, "failed", error=HTML)
    app.client.hset(f"rq:job:{run_id}", "description", HTML)

    shown = get(f"/0/data/job/{run_id}.json")

    assert shown["exc_info"] == shown["description"] == "&lt;img src=x onerror=alert(1)&gt;"


def test_the_arguments_of_a_run_at_work_are_shown_as_text(app: Cronq, get: Callable[[str], Any]) -> None:
    worker = Worker(["default"], connection=app.client, app=app)
    worker.register_birth()
    job = Job.create("cronq.perform", args=("invoices", HTML), connection=app.client)
    job.save()
    worker.set_current_job_id(job.id)
    try:
        (shown,) = get("/0/data/workers.json")["workers"]
    finally:
        worker.register_death()

    assert "&lt;img" in shown["current_job"]["call_string"]
    assert "<img" not in str(shown)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9181", "127.0.0.1.evil.example", "localhost@evil"])
def test_a_page_of_another_name_is_refused(page: Any, host: str) -> None:
    assert page.get("/", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1:5200", "localhost", "localhost:9181", "[::1]:9181"])
def test_the_names_of_this_machine_are_served(page: Any, host: str) -> None:
    assert page.get("/", headers={"Host": host}).status_code == 200


def test_a_button_pressed_by_another_sites_page_does_nothing(app: Cronq, page: Any) -> None:
    run_id = ran(app, "failed")
    path = f"/job/{run_id}/requeue"

    assert page.post(path, headers={"Origin": "http://evil.example"}).status_code == 403
    assert page.get("/requeue/default").status_code == 405
    assert app.client.llen("rq:queue:default") == 0
    assert page.post(path, headers={"Origin": "http://localhost"}).status_code == 200


@pytest.mark.parametrize("path", ["/requeue/default", "/job/x/delete", "/queue/default/queued/empty"])
@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("HEAD", {"Sec-Fetch-Site": "cross-site"}),
        ("POST", {"Sec-Fetch-Site": "cross-site"}),
        ("POST", {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_no_other_sites_page_presses_a_button(
    app: Cronq, page: Any, path: str, method: str, headers: dict[str, str]
) -> None:
    ran(app, "failed")

    assert page.open(path, method=method, headers=headers).status_code in (403, 405)
    assert app.client.zcard("rq:failed:default") == 1


def test_its_own_buttons_work(app: Cronq, page: Any) -> None:
    ran(app, "failed")
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}

    assert page.post("/requeue/default", headers=headers).status_code == 200
    assert app.client.zcard("rq:failed:default") == 0


@pytest.mark.parametrize("name", ["x');alert(1)//", "a b", "<b>", "a%0Ab", "\u202e"])
def test_a_link_with_more_than_a_name_in_it_leads_nowhere(page: Any, name: str) -> None:
    for path in (f"/0/view/jobs/{name}/queued/8/asc/1", f"/0/view/job/{name}", f"/0/view/jobs/default/{name}/8/asc/1"):
        assert page.get(path).status_code in (404, 308), path


def test_it_is_shown_in_no_frame_and_loads_nothing_from_elsewhere(page: Any) -> None:
    for path in ("/", "/0/view/jobs", "/0/data/queues.json", "/static/nothing", "/0/view/job/nothing"):
        headers = page.get(path).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_names_and_keys_from_redis_are_text_in_every_answer(app: Cronq, get: Callable[[str], Any]) -> None:
    run_id = ran(app, "succeeded", return_value={HTML: '" onmouseover="alert(1)'})
    app.client.sadd("rq:queues", f"rq:queue:{HTML}")
    app.client.sadd("rq:workers", "rq:worker:w1")
    worker = {"birth": "2026-11-21T07:00:00.000000Z", "last_heartbeat": "2026-11-21T07:00:00.000000Z", "pid": "1"}
    app.client.hset(
        "rq:worker:w1", mapping=worker | {"queues": "default", "state": "idle", "hostname": "h", "version": HTML}
    )

    for path in (f"/0/data/job/{run_id}.json", "/0/data/queues.json", "/0/data/workers.json"):
        said = str(get(path))
        assert "&lt;img" in said, path
        assert "<img" not in said, path
        assert '" onmouseover' not in said, path


class Boom:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.fixture
def data_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ reads data only, as in the dashboard's own process, until the end of this test."""
    from rq.serializers import DefaultSerializer

    from cronq.app.dashboard import read_data_only

    monkeypatch.setattr(DefaultSerializer, "loads", DefaultSerializer.loads)
    for module in (rq.job, rq.results):
        monkeypatch.setattr(module, "zlib", zlib)
    read_data_only()


@pytest.mark.parametrize("where", ["meta", "data", "result"])
@pytest.mark.usefixtures("data_only")
def test_what_somebody_wrote_into_redis_runs_nothing(app: Cronq, page: Any, tmp_path: Path, where: str) -> None:
    mark = tmp_path / "ran"
    evil = pickle.dumps(Boom(str(mark)))
    call = (
        pickle.dumps(("m.f", None, (Boom(str(mark)),), {})) if where == "data" else pickle.dumps(("m.f", None, (), {}))
    )
    fields: dict[str, Any] = {"created_at": "2026-11-21T07:00:00.000000Z", "origin": "default", "status": "finished"}
    fields |= {"description": "harmless", "data": zlib.compress(call)} | ({"meta": evil} if where == "meta" else {})
    app.client.hset("rq:job:x", mapping=fields)
    app.client.sadd("rq:queues", "rq:queue:default")
    app.client.zadd("rq:finished:default", {"x": time.time() + 999})
    if where == "result":
        app.client.xadd("rq:results:x", {"type": "1", "return_value": base64.b64encode(evil)})
    worker = {"birth": "2026-11-21T07:00:00.000000Z", "last_heartbeat": "2026-11-21T07:00:00.000000Z", "pid": "1"}
    app.client.sadd("rq:workers", "rq:worker:w1")
    app.client.hset("rq:worker:w1", mapping=worker | {"queues": "default", "state": "busy", "current_job": "x"})

    for path in ("/0/data/job/x.json", "/0/data/workers.json", "/0/data/jobs/default/finished/8/asc/1.json"):
        assert page.get(path).status_code == 200

    assert not mark.exists()
    if where == "data":
        (shown,) = page.get("/0/data/workers.json").get_json()["workers"]
        assert "m.f(" in shown["current_job"]["call_string"]


@pytest.mark.usefixtures("data_only")
def test_a_megabyte_that_unpacks_to_all_memory_is_not_unpacked(app: Cronq, get: Callable[[str], Any]) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()
    good, bad = ran(app, "failed", error="no paper"), ran(app, "failed")
    app.client.hset(f"rq:job:{bad}", mapping={"data": bomb, "exc_info": bomb})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    listed = [each["id"] for each in jobs(get, "failed")]

    assert good in listed
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100


@pytest.mark.usefixtures("data_only")
def test_requeue_keeps_what_the_dashboard_does_not_read(app: Cronq, page: Any, tmp_path: Path) -> None:
    queue = Queue("default", connection=app.client)
    job = queue.create_job("m.f", meta={"a": 1})
    job.save()
    kept = {
        "data": zlib.compress(pickle.dumps(("m.f", None, (Path("x"),), {}))),
        "meta": pickle.dumps({"p": Path("x")}),
    }
    app.client.hset(job.key, mapping={**kept, "status": "failed"})
    app.client.zadd("rq:failed:default", {job.id: time.time() + 999})

    assert page.post(f"/job/{job.id}/requeue").get_json() == {"status": "OK"}

    assert app.client.hmget(job.key, "data", "meta") == list(kept.values())
    assert queue.job_ids == [job.id]


def test_what_has_expired_is_not_found(page: Any) -> None:
    assert page.get("/0/view/job/invoices-m0123abcd").status_code == 404
    assert page.get("/0/data/job/invoices-m0123abcd.json").status_code == 404


# Its start


@pytest.fixture
def processes(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    with Processes(redis_url, tmp_path, PYTHONUNBUFFERED="1") as made:
        yield made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def start(processes: Processes, **environment: str) -> CronqProcess:
    command = [sys.executable, "-m", "cronq.dashboard"]
    process = CronqProcess("dashboard", command, processes.directory, processes._environment(environment))
    processes.started.append(process)
    return process


def test_it_serves_on_the_port_it_was_given_and_on_loopback_only(processes: Processes) -> None:
    port = free_port()

    dashboard = start(processes, PORT=str(port))

    line = dashboard.wait_for_line("dashboard on")
    assert line == f"cronq: dashboard on http://127.0.0.1:{port}/ of {processes.redis_url}"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        assert b"RQ dashboard" in answer.read()
    table = (Path("/proc") / str(dashboard.pid) / "net" / "tcp").read_text().splitlines()
    listening = [
        line.split()[1] for line in table if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_without_its_packages_it_says_what_to_install_and_does_not_end(processes: Processes) -> None:
    processes.write_module("six", "raise ModuleNotFoundError(\"No module named 'six'\", name='six')")

    dashboard = start(processes, PYTHONPATH=str(processes.directory))

    line = dashboard.wait_for_line("no dashboard")
    assert line == (
        "cronq: no dashboard: the package six is not installed; pip install rq-dashboard six; "
        "waiting, so that beat and worker go on"
    )
    assert dashboard.log.count("\n") == 1
    assert dashboard.is_running
    dashboard.terminate()
    dashboard.exit_code()


def test_a_port_that_is_taken_is_named(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = start(processes, PORT=str(port)).wait_for_line("no dashboard")

    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; set PORT" in line


def test_a_port_that_is_none_is_refused(processes: Processes) -> None:
    dashboard = start(processes, PORT="http")

    assert dashboard.exit_code() == 78
    assert dashboard.log == "cronq: PORT 'http' (from environment PORT): a number from 1 to 65535\n"


def test_the_procfile_goes_on_without_the_dashboards_packages(processes: Processes) -> None:
    pytest.importorskip("honcho", reason="honcho is not installed; it comes with the extra `dev`")
    problem = "No module named 'rq_dashboard'"
    processes.write_module("rq_dashboard", f'raise ModuleNotFoundError("{problem}", name="rq_dashboard")')
    path = f"{Path(sys.executable).parent}:{processes._environment({})['PATH']}"
    command = [sys.executable, "-m", "honcho", "start", "-f", str(ROOT / "Procfile"), "-d", str(processes.directory)]
    environment = processes._environment({"PATH": path, "PYTHONPATH": str(processes.directory)})
    honcho = CronqProcess("honcho", command, processes.directory, environment)
    processes.started.append(honcho)

    try:
        for word in ("no dashboard: the package rq_dashboard", "START-UP beat", "START-UP worker"):
            until(lambda word=word: word in honcho.output + honcho.log, what=lambda: honcho.output + honcho.log)
        time.sleep(0.5)
        assert honcho.is_running
        assert "stopped" not in honcho.output
    finally:
        honcho.terminate()
        honcho.exit_code()


def test_it_asks_sentinels_as_every_other_process_does() -> None:
    from cronq.web.rq_dashboard import make_app

    app = make_app("rediss+sentinel://ann:ours@a.example,b.example/house/2?sentinel_password=theirs")

    pool = app.redis_conn.connection_pool  # type: ignore[attr-defined]
    assert pool.service_name == "house"
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == ("ann", "ours")
    asked = [each.connection_pool.make_connection() for each in pool.sentinel_manager.sentinels]
    assert {each.password for each in asked} == {"theirs"}
