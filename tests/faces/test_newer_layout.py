"""Processes that are older than the layout of what Redis holds end at once, with one line that names the upgrade."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from cronq.db.layout import SCHEMA
from tests.faces.conftest import Answer


@pytest.mark.parametrize("words", [("beat",), ("worker", "--burst"), ("run-due",)], ids=" ".join)
def test_they_refuse(shell: Callable[..., Answer], redis_url: str, redis: Redis, words: tuple[str, ...]) -> None:
    redis.set("cronq:schema", str(SCHEMA + 1))

    answer = shell(*words, "--url", redis_url)

    assert answer.code == 78
    last = answer.err.splitlines()[-1]
    assert f"layout {SCHEMA + 1} of cronq, this version knows {SCHEMA}; upgrade cronq" in last
    assert "Traceback" not in answer.err
    assert redis.keys("*") == [b"cronq:schema"]


def test_so_does_a_worker_that_rq_starts(bare: Path, redis_url: str, redis: Redis) -> None:
    redis.set("cronq:schema", str(SCHEMA + 1))

    rq = Path(sys.executable).parent / "rq"
    command = [str(rq), "worker", "--burst", "--worker-class", "cronq.Worker", "--url", redis_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode != 0
    assert "upgrade cronq" in done.stderr + done.stdout
