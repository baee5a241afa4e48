"""A lock that is held, as faces show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cronq.timetext import iso

if TYPE_CHECKING:
    from cronq.locks.held import HeldLock


def lock_row(held: HeldLock) -> dict[str, Any]:
    """One row of `locks`."""
    return {
        "name": held.name,
        "host": held.host,
        "pid": held.pid,
        "run_id": held.run_id,
        "token": held.token,
        "since": iso(held.since),
        "expires_in_s": held.expires_in_s,
    }
