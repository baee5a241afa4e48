"""`Cronq(client=…)`: whatever the client's settings, the application works."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.config import Config
from cronq.jobs.registry import Registry


@pytest.mark.parametrize("settings", [{"decode_responses": True}, {"decode_responses": True, "protocol": 3}])
def test_a_decoding_client_is_as_good_as_any(redis: Redis, redis_url: str, settings: dict[str, Any]) -> None:
    with Redis.from_url(redis_url, **settings) as client:
        app = Cronq(config=Config(url=redis_url, host_id="box"), registry=Registry(), client=client)
        app.add("tick", every="1s", command=["true"], overlap="allow")
        app.enqueue_in("1s", "tick")
        now_s = app.now_s()
        beat = app.beat()

        beat.pass_once(now_s=now_s + 3)
        for chore in beat.chores:
            chore.work(now_s + 3)

        assert {run.trigger for run in app.history("tick")} == {"schedule", "delayed"}
        assert len(app.beats()[0]) == 1
        assert app.held_back() == []
