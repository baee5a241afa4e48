"""An application on the shared server, and jobs for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec, make_spec
from cronq.runs.exchange import Begun, Exchange, Renewing, Taken
from cronq.runs.run import Run
from cronq.runs.timing import Timing
from cronq.worker.dequeue import Dequeue
from cronq.worker.guardian import Guardian
from cronq.worker.settle import Settler


def work(*args: Any, **kwargs: Any) -> Any:
    """What the jobs of these tests do."""
    return [list(args), kwargs]


def dequeue_of(app: Cronq, worker: str = "box.1") -> Dequeue:
    """What takes runs for the worker of that name."""
    app.exact_now_s()  # a worker has read the server's clock before it takes anything
    return Dequeue(app.client, app.desk, Settler(app.runs, app.now_s, threading.Event()), worker)


def guardian_of(app: Cronq, **options: Any) -> Guardian:
    """A guardian that has no watchdog: what it executes is not to come so far."""
    nobody: Any = None
    runs = app.runs_through(app.prompt_client())
    now_s = options.pop("now_s", app.now_s)
    settler = Settler(runs, now_s, threading.Event())
    options = {"host": "box", "pid": 1, "timing": Timing(30.0), "lock_ttl_s": 30.0} | options
    return Guardian(runs, nobody, app.desk, settler, now_s, **options)


def id_of(found: Begun | Taken | None) -> bytes | None:
    """The id of what was taken."""
    if found is None:
        return None
    return found.run.run_id.encode() if isinstance(found, Begun) else found.raw_id


def exchange_of(app: Cronq) -> Exchange:
    """What asks Redis for a process of workers, on the client of *app*."""
    return Exchange(app.client, app.keys, app.runs, host="box", pid=1, no_commands=False, lock_ttl_s=30.0, lease_s=90)


def renewed(app: Cronq, run: Run, execution: str, now_s: float, *, slow: bool = False) -> str:
    """Renew *run* as its guardian does, and return the word for it; it counts as heard of at *now_s*."""
    (answer,) = exchange_of(app).renew([Renewing(run, execution, slow=slow)], now_s)
    if isinstance(answer.word, Exception):
        raise answer.word
    app.client.zadd(app.keys.running, {run.run_id: now_s}, xx=True)
    return answer.word


@pytest.fixture
def app(redis_url: str, redis: Redis) -> Cronq:
    return Cronq(config=Config(url=redis_url, host_id="box"), registry=Registry(), client=redis)


@pytest.fixture
def store(app: Cronq) -> Callable[..., JobSpec]:
    """Store a job whose mark is *mark*, as a beat would find it."""

    def _store(name: str, *, mark: int, **options: Any) -> JobSpec:
        options.setdefault("cron", "* * * * *")
        spec = make_spec(name, function=f"{work.__module__}:work", **options)
        assert spec.schedule is not None
        app.jobs.save(
            spec, source="here:1", origin="test", expected="", mark=mark, next_tick=spec.schedule.next_after(mark)
        )
        return spec

    return _store
