"""The jobs as cronq has them."""

from __future__ import annotations

import stamp

from cronq import job

noop = job(name="noop", keep=1000)(stamp.noop)
ten_ms = job(name="ten_ms", keep=1000)(stamp.ten_ms)
