"""What lives for ever in a Redis, held against what the table of `keys.py` allows to."""

from __future__ import annotations

import re

from redis import Redis

from cronq.db.keys import RQ_CRONQ_PREFIX
from tests.test_keys import table

#: RQ's own: its queues and workers, what lists them and its registries, which the sweep tidies.
_OF_RQ = [
    re.compile(rf"rq:{name}")
    for name in ("queues", "workers", "cron_schedulers", r"workers:[^:]+", r"(finished|failed|canceled):[^:]+")
]  # fmt: skip
#: Work that is queued; nothing of it is left when all is settled.
_WORK_OF_RQ = [re.compile(r"rq:(queue:[^:]+(:intermediate)?|wip:[^:]+)")]
_WITH_A_JOB = ("with the job", "while any waits", "while any does")


def immortals(client: Redis, *, have_jobs: bool, have_work: bool = False, prefix: str = "cronq") -> list[str]:
    """Keys without a TTL that nobody has promised to be there: not even while there are jobs, or open work."""
    lives = ("permanent", *(_WITH_A_JOB if have_jobs else ()))
    of_jobs = ("job:", "agenda")
    allowed = [re.compile(RQ_CRONQ_PREFIX), *_OF_RQ, *(_WORK_OF_RQ if have_work else ())]
    for key, (_, _, _, life) in table().items():
        if life.startswith(lives) and (have_jobs or not key.startswith(of_jobs)):
            words = [re.escape(word) for word in re.split(r"\{[^}]*\}", key)]
            allowed.append(re.compile(f"{prefix}:" + "[^:]+".join(words)))
    mortal = {key.decode(errors="replace") for key in client.scan_iter("*", count=1000) if client.ttl(key) == -1}
    return sorted(key for key in mortal if not any(pattern.fullmatch(key) for pattern in allowed))
