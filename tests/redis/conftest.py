"""An application on the shared server, and jobs for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry
from cronq.jobs.spec import JobSpec, make_spec


def work(*args: Any, **kwargs: Any) -> Any:
    """What the jobs of these tests do."""
    return [list(args), kwargs]


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
