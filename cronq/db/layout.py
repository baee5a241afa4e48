"""The version of the layout of cronq's keys, and what a process makes of one that it does not know."""

from __future__ import annotations

from typing import Any

from cronq.db.decode import text
from cronq.errors import RedisUnfit

#: Of this release. An older process refuses to start on a newer one.
SCHEMA = 1


def check_layout(stored: Any) -> None:
    """Raise RedisUnfit when the version that is *stored* in Redis is not known to this release."""
    if not text(stored).isdecimal() or int(text(stored)) > SCHEMA:
        known = f"Redis holds layout {text(stored)} of cronq, this version knows {SCHEMA}"
        raise RedisUnfit(f"{known}; upgrade cronq on this host")
