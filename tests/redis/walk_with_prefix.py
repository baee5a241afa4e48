"""Walks runs through every script that writes keys of RQ, in a process of its own where those begin with another word.

python -m tests.redis.walk_with_prefix URL PREFIX
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import rq
from rq.job import Job

NAME = "cronq.db.keys"


def with_prefix(prefix: str) -> ModuleType:
    """The module of keys with that one value changed, before anybody else has imported it."""
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    source = spec.loader.get_source(NAME)  # type: ignore[attr-defined]
    assert source.count('\nRQ = "rq:"\n') == 1
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    exec(compile(source.replace('\nRQ = "rq:"\n', f'\nRQ = "{prefix}"\n'), NAME, "exec"), module.__dict__)
    return module


def main(url: str, prefix: str) -> None:
    keys = with_prefix(prefix)
    # RQ's own code writes the RQ jobs that the scripts copy.
    rq.Queue.redis_queues_keys = keys.RQ_QUEUES
    rq.Queue.redis_queue_namespace_prefix = keys.rq_queue("")
    Job.redis_job_namespace_prefix = keys.rq_job("")

    from cronq.app.app import Cronq
    from cronq.beat.sweep import Sweep
    from cronq.config import Config
    from cronq.jobs.registry import Registry
    from cronq.jobs.spec import make_spec
    from cronq.runs.claim import TickClaim
    from cronq.runs.due import Decision
    from cronq.runs.exchange import Renewing
    from cronq.runs.run import Ending, Settlement, Start
    from cronq.runs.timing import Timing

    app = Cronq(config=Config(url=url, host_id="box"), registry=Registry())
    client, now = app.client, app.now_s()
    spec = make_spec("a", function="jobs:work", cron="* * * * *")
    tick = int(now) // 60 * 60
    app.jobs.save(spec, source="here:1", origin="test", expected="", mark=tick - 60, next_tick=tick)

    def begin(execution: str, run_id: str | None = None) -> object:
        popped = client.lmove(keys.rq_queue("default"), keys.rq_intermediate("default"), "LEFT", "RIGHT")
        run = app.runs.get(popped.decode() if run_id is None else run_id)
        start = Start(worker="w", host="box", pid=1, execution=execution, lease_s=90, now_s=now)
        assert app.runs.start(run, start).code == "started"
        return app.runs.get(run.run_id)

    decision = Decision(tick, None, "due", "schedule", tick + 60)
    (answer,) = app.claimer("beat").claim_due([TickClaim(spec, app.jobs.version_of("a"), decision)], "token", now)
    assert answer.detail == "queued", answer
    app.enqueue("a")
    app.enqueue_in("5m", "a")

    first = begin("e1")
    failed = Settlement("failed", "no paper", error="Traceback")
    assert app.runs.settle(first, Ending(failed, "worker", now, attempt=1, execution="e1"))
    second = begin("e2")
    app.desk.renew(Renewing(second, "e2"))
    lost = Ending(Settlement("lost", "its worker vanished"), "beat", now, attempt=1, execution="e2")
    assert app.runs.rerun(second, lost, 3) == "queued"
    client.lmove(keys.rq_queue("default"), keys.rq_intermediate("default"), "LEFT", "RIGHT")
    assert app.runs.park(app.runs.get(second.run_id), "a", now)
    assert app.runs.wake_waiter("a")
    client.rpush(keys.rq_intermediate("default"), "stray")
    app.runs.reject("stray", "default", "nobody knows it", by="w", now_s=now)
    app.scheduled_stores("beat").once(app.now_s() + 301)
    Sweep(client, app.keys, app.runs, by="beat", timing=Timing(30.0)).once()
    assert client.llen(keys.rq_queue("default")) == 2  # the one that was woken, and the one that was delayed


if __name__ == "__main__":
    main(*sys.argv[1:])
