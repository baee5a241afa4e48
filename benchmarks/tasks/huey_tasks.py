"""The jobs as huey has them."""

from __future__ import annotations

import os

import stamp
from huey import RedisHuey
from redis import ConnectionPool

huey = RedisHuey("bench", connection_pool=ConnectionPool.from_url(os.environ["BENCH_URL"]))

noop = huey.task()(stamp.noop)
ten_ms = huey.task()(stamp.ten_ms)
