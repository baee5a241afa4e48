"""Jitter: how long after its time a tick is queued, so that jobs of one instant do not begin together."""

from __future__ import annotations

from hashlib import blake2b


def delay_s(name: str, tick: int, following: int | None, most_s: float) -> int:
    """Whole seconds from *tick* of the job *name* until it is queued: less than *most_s*, and before *following*.

    The same for every process and every time it is asked. *following* is the tick after it, None: there is none.
    """
    limit = int(most_s) if following is None else min(int(most_s), following - tick)
    if limit <= 1:
        return 0
    return int.from_bytes(blake2b(f"{name} {tick}".encode(), digest_size=8).digest()) % limit
