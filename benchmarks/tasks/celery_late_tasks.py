"""The jobs as Celery has them when none may be lost: acknowledged after their end, their results kept in Redis."""

from __future__ import annotations

import os
import sys

import stamp
from celery import Celery

_URL = os.environ["BENCH_URL"].replace("unix://", "redis+socket://")
app = Celery("bench_late", broker=_URL)
app.conf.task_acks_late = True
app.conf.worker_hijack_root_logger = False
if "worker" in sys.argv:
    # Who only queues is not told of results: it would subscribe to each of them.
    app.conf.result_backend = _URL

noop = app.task(name="noop")(stamp.noop)
ten_ms = app.task(name="ten_ms")(stamp.ten_ms)
