"""The jobs as Celery has them."""

from __future__ import annotations

import os

import stamp
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_URL"].replace("unix://", "redis+socket://"))
app.conf.worker_hijack_root_logger = False

noop = app.task(name="noop", ignore_result=True)(stamp.noop)
ten_ms = app.task(name="ten_ms", ignore_result=True)(stamp.ten_ms)
