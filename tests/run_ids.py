"""Ids of runs as the documentation promises them, told apart from the code that makes them."""

from __future__ import annotations

from datetime import UTC, datetime


def run_id_of(job: str, tick: int) -> str:
    """`invoices-20261121T070000Z`: the run of *job* for *tick*."""
    return f"{job}-{datetime.fromtimestamp(tick, UTC):%Y%m%dT%H%M%SZ}"
