"""The jobs as dramatiq has them."""

from __future__ import annotations

import os

import dramatiq
import stamp
from dramatiq.brokers.redis import RedisBroker
from redis import ConnectionPool

dramatiq.set_broker(RedisBroker(connection_pool=ConnectionPool.from_url(os.environ["BENCH_URL"])))

noop = dramatiq.actor(stamp.noop)
ten_ms = dramatiq.actor(stamp.ten_ms)
