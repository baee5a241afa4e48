"""What our scripts leave under `rq:*` while a run works and after it ended is what `rq.Worker` leaves, field by field.

The same job runs both ways: once in RQ's own worker, once through the scripts of the ledger. Ids are the same by
design; the execution's id, moments and the lives of keys are compared by their form.

Some things differ, on purpose, for they are most of what RQ keeps of a usual run, and its tools read a job without them
alike: the result stream of a job that returned None, fields that are empty, the last heartbeat.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.results import Result

import cronq
from cronq.app.app import Cronq
from cronq.jobs.spec import JobSpec
from cronq.runs.exchange import Begun, End, Exchange, Offer, Renewing
from cronq.runs.run import Ending, Settlement, Start, record_life_s
from cronq.worker.child import describe_error
from tests.redis.conftest import renewed

Store = Callable[..., JobSpec]
T = 1767596400
WORKER = "worker-of-the-test"
EXECUTION = re.compile(rb"[0-9a-f]{32}")
STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class _Worker(SimpleWorker):
    """RQ's worker, in this process and without taking its signals."""

    def _install_signal_handlers(self) -> None:
        pass


def dump(redis: Redis) -> dict[str, Any]:
    """All of `rq:*` that belongs to jobs, with what differs from one execution to the next made alike."""
    found = {}
    for key in redis.scan_iter("rq:*"):
        if key.startswith((b"rq:worker", b"rq:clean_registries")):
            continue
        read: Callable[[Any], Any] = {
            b"hash": redis.hgetall,
            b"set": redis.smembers,
            b"list": lambda key: redis.lrange(key, 0, -1),
            b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
            b"stream": lambda key: [fields for _, fields in redis.xrange(key)],
        }[redis.type(key)]
        found[alike(key)] = (alike(read(key)), life(redis.ttl(key)))
    return found


def alike(value: Any) -> Any:
    """*value* with the execution's id and all moments replaced by what they are."""
    if isinstance(value, dict):
        return {alike(name): alike(each) for name, each in value.items()}
    if isinstance(value, list):
        return [alike(each) for each in value]
    if isinstance(value, tuple):
        return tuple(alike(each) for each in value)
    if isinstance(value, float):  # a score: RQ writes whole seconds
        return "soon" if value % 1 == 0 else "not a whole second"
    if not isinstance(value, bytes):
        return value
    if STAMP.fullmatch(value):
        return "a stamp"
    if re.fullmatch(rb"\d{10}(\.\d+)?", value):
        return "an epoch"
    return EXECUTION.sub(b"EXECUTION", value)


def life(seconds: int) -> str:
    """How long a key lives, by order of magnitude: the two dumps are some milliseconds apart."""
    for name, least in (("for ever", None), ("a month", 29 * 86400), ("a week", 6 * 86400), ("minutes", 30)):
        if least is None:
            if seconds == -1:
                return name
        elif seconds >= least:
            return name
    return f"{seconds} s"


class Both:
    """The same run in RQ's worker and in ours: *while_it_works* and *after* it, of each."""

    def __init__(self, app: Cronq, spec: JobSpec, redis: Redis, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        self.app = app
        self.way = way  #: "steps", or "exchange": one call for each end and start
        self.records: dict[str, list[dict[str, str]]] = {"ours": [], "rq's": []}  #: of the worker: at work, after it
        self.spec = spec
        self.redis = redis
        self.monkeypatch = monkeypatch
        self.works: dict[str, dict[str, Any]] = {}
        self.after: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, tuple[Any, ...]] = {}
        self.results: dict[str, Result | None] = {}
        self.streams: dict[str, int] = {}  #: bytes of the result stream
        self.run_id = ""

    def run(self, work: Callable[[], Any]) -> None:
        self.run_id = self.app.enqueue(self.spec.name)
        fields = self.redis.hgetall(f"rq:job:{self.run_id}")
        self._in_ours(work)
        self._keep("ours")
        self.redis.flushall()
        self.redis.hset(f"rq:job:{self.run_id}", mapping=fields)
        self.redis.sadd("rq:queues", "rq:queue:default")
        self.redis.rpush("rq:queue:default", self.run_id)
        self._in_rqs(work)
        self._keep("rq's")

    def _in_ours(self, work: Callable[[], Any]) -> None:
        (self._exchanged if self.way == "exchange" else self._step_by_step)(work)

    def _exchanged(self, work: Callable[[], Any]) -> None:
        options: dict[str, Any] = {"host": "box", "pid": 1, "no_commands": False, "lock_ttl_s": 30.0, "lease_s": 90}
        exchange = Exchange(self.redis, self.app.keys, self.app.runs, **options)
        now_s, offer = self.app.now_s(), Offer(WORKER, "0123456789abcdef" * 2)
        begun = exchange.settle_and_take([], [offer], ["default"], left_alone=(), now_s=now_s).starts[0]
        assert isinstance(begun, Begun)
        exchange.renew([Renewing(begun.run, begun.execution)], now_s)
        self.works["ours"] = dump(self.redis)
        self._keep_record("ours")
        ending = self._ending(work, now_s=now_s, execution=begun.execution)
        end = End(WORKER, begun.run, ending, begun.execution, None, 0.25)
        assert exchange.settle_and_take([end], [], ["default"], left_alone=(), now_s=now_s).ends == ["settled"]
        self._keep_record("ours")

    def _keep_record(self, whose: str) -> None:
        """What RQ's tools show of a worker; its figures that are times are told by their form."""
        record = self.redis.hgetall(f"rq:worker:{WORKER}")
        shown = ("state", "current_job", "successful_job_count", "failed_job_count", "total_working_time")
        found = {name: record[name.encode()].decode() for name in shown if name.encode() in record}
        if "total_working_time" in found:
            assert 0 <= float(found["total_working_time"]) < 60
            found["total_working_time"] = "seconds"
        self.records[whose].append(found)

    def _step_by_step(self, work: Callable[[], Any]) -> None:
        run = self.app.runs.get(self.run_id)
        self.redis.lmove("rq:queue:default", "rq:queue:default:intermediate", "LEFT", "RIGHT")
        now_s, execution = self.app.now_s(), "0123456789abcdef" * 2
        options: dict[str, Any] = {"execution": execution, "now_s": now_s}
        started = self.app.runs.start(run, Start(worker=WORKER, host="box", pid=1, lease_s=90, **options))
        assert started.code == "started"
        renewed(self.app, run, execution, now_s)
        self.works["ours"] = dump(self.redis)
        self.app.runs.settle(self.app.runs.get(self.run_id), self._ending(work, **options))

    def _ending(self, work: Callable[[], Any], **options: Any) -> Ending:
        try:
            settlement = Settlement("succeeded", "it ran to its end", return_value=work())
        except Exception as error:
            settlement = Settlement("failed", str(error), error=describe_error(error)["traceback"])
        life_s = record_life_s(settlement.outcome, self.spec, None)
        return Ending(settlement, by="w", attempt=1, record_life_s=life_s, **options)

    def _in_rqs(self, work: Callable[[], Any]) -> None:
        def perform(job_name: str, args_json: str) -> Any:
            assert (job_name, args_json) == (self.spec.name, self.spec.args_json)
            self.works["rq's"] = dump(self.redis)
            self._keep_record("rq's")
            return work()

        self.monkeypatch.setattr(cronq, "perform", perform, raising=False)
        queue = Queue("default", connection=self.redis)
        _Worker([queue], name=WORKER, connection=self.redis).work(burst=True, logging_level="CRITICAL")
        self._keep_record("rq's")

    def _keep(self, whose: str) -> None:
        self.after[whose] = dump(self.redis)
        job = Job.fetch(self.run_id, connection=self.redis)
        assert job.started_at is not None
        assert job.ended_at is not None
        self.results[whose] = job.latest_result()
        self.streams[whose] = self.redis.memory_usage(f"rq:results:{self.run_id}") or 0
        self.jobs[whose] = (
            job.get_status(),
            job.return_value(),
            job.is_finished,
            job.worker_name,
            job.started_at <= job.ended_at,
            [
                registry("default", connection=self.redis).get_job_ids(cleanup=False)
                for registry in (StartedJobRegistry, FinishedJobRegistry, FailedJobRegistry)
            ],
        )


@pytest.fixture(params=["steps", "exchange"])
def both(
    app: Cronq, store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Both:
    spec = store("invoices", mark=T - 1, kwargs={"month": "2026-01"}, result_ttl="7d", failure_ttl="30d")
    return Both(app, spec, redis, monkeypatch, request.param)


def good() -> Any:
    return {"sent": 3}


def bad() -> Any:
    raise ValueError("no paper")


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for key, (value, lasts) in theirs.items():
        mine, my_life = ours[key]
        if isinstance(value, dict):
            assert set(mine) == set(value), key
            assert {name: mine[name] for name in value} == value, key
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one, other in zip(mine, value, strict=True):
                assert set(one) == set(other), key
                for name in set(one) - {b"exc_string"}:  # RQ's has frames of its own
                    assert one[name] == other[name], name
        else:
            assert mine == value, key
        assert my_life == lasts, key


def without_needless(left: dict[str, Any]) -> dict[str, Any]:
    """What RQ left, without fields of its job that it takes for absent: four that are empty, and the last heartbeat."""
    found = dict(left)
    for key, (value, lasts) in left.items():
        if isinstance(value, dict):
            needed = {name: each for name, each in value.items() if each != b"" and name != b"last_heartbeat"}
            found[key] = needed, lasts
    assert sum(len(value) for value, _ in left.values()) == sum(len(value) for value, _ in found.values()) + 5
    return found


def told(result: Result | None) -> tuple[Any, ...]:
    """What RQ's tools show of a result, and whether its moments are in order."""
    assert result is not None
    assert result.execution_started_at is not None
    assert result.execution_ended_at is not None
    last_line = result.exc_string and result.exc_string.splitlines()[-1]
    return result.type, result.worker_name, last_line, result.execution_started_at <= result.execution_ended_at


@pytest.mark.parametrize("work", [good, bad], ids=["a value", "an exception"])
def test_a_run_that_works_and_has_ended_equals_what_rqs_worker_makes_of_it(both: Both, work: Callable[[], Any]) -> None:
    both.run(work)

    assert_same(both.works["ours"], both.works["rq's"])
    assert_same(both.after["ours"], without_needless(both.after["rq's"]))
    assert both.jobs["ours"] == both.jobs["rq's"]
    assert told(both.results["ours"]) == told(both.results["rq's"])
    assert both.records["ours"] == (both.records["rq's"] if both.way == "exchange" else [])


def test_a_run_without_a_value_equals_what_rqs_worker_makes_of_it_but_for_its_result(both: Both) -> None:
    both.run(lambda: None)

    assert_same(both.works["ours"], both.works["rq's"])
    left = without_needless(both.after["rq's"])
    assert left.pop(f"rq:results:{both.run_id}".encode())
    assert_same(both.after["ours"], left)
    assert both.jobs["ours"] == both.jobs["rq's"]
    assert both.results["ours"] is None


def test_a_run_without_a_value_leaves_no_error_of_an_earlier_attempt_as_the_last_word(
    app: Cronq, store: Store, redis: Redis
) -> None:
    store("invoices", mark=T - 1)
    run_id = app.enqueue("invoices")
    facts: dict[str, Any] = {"worker": WORKER, "host": "box", "pid": 1, "lease_s": 90, "now_s": T}
    for attempt, ended in enumerate((Settlement("failed", "no paper"), Settlement("succeeded", "it did")), 1):
        app.runs.start(app.runs.get(run_id), Start(execution=f"e{attempt}", **facts))
        app.runs.settle(app.runs.get(run_id), Ending(ended, by="w", now_s=T, attempt=attempt, execution=f"e{attempt}"))
        if attempt == 1:
            Job.fetch(run_id, connection=redis).requeue()

    latest = Job.fetch(run_id, connection=redis).latest_result()
    assert latest is not None
    assert (latest.type, latest.return_value) == (Result.Type.SUCCESSFUL, None)


def test_a_small_result_takes_a_small_stream(both: Both) -> None:
    both.run(good)

    assert both.streams["ours"] < both.streams["rq's"] / 4


def test_rq_gives_out_the_value_of_a_run_that_succeeded(both: Both) -> None:
    both.run(good)

    status, value, *_ = both.jobs["ours"]
    assert (status, value) == (JobStatus.FINISHED, {"sent": 3})


def test_rq_shows_the_users_traceback_of_a_run_that_failed(both: Both) -> None:
    both.run(bad)

    assert both.jobs["ours"][0] == JobStatus.FAILED
    assert told(both.results["ours"])[2] == "ValueError: no paper"


def test_nothing_of_the_execution_is_left_when_a_run_has_ended(both: Both) -> None:
    both.run(good)

    assert {key for key in both.works["ours"] if b"execution" in key or b"wip" in key} == {
        f"rq:execution:{both.run_id}:EXECUTION".encode(), f"rq:executions:{both.run_id}".encode(), b"rq:wip:default",
    }  # fmt: skip
    assert [key for key in both.after["ours"] if b"execution" in key or b"wip" in key] == []
