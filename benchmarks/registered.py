"""Very many jobs and ledger rows, stored as fast as Redis copies keys: each is a copy of one that cronq wrote."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis
from systems import HERE  # noqa: F401  makes cronq importable

from cronq.app.app import Cronq
from cronq.jobs.spec import make_spec
from cronq.timetext import tick_stamp

_AT_ONCE = 1000
#: Of all servers: a process that serves several has read none of these texts before.
_VERSIONS = itertools.count(1)

#: KEYS 1 jobs 2 agenda
#: ARGV 1 what a job's keys begin with, 2 the model, 3 version, 4 mark, then name, spec and next tick of each.
_COPY_JOBS = """
for i = 5, #ARGV, 3 do
    local model, copy = ARGV[1] .. ARGV[2], ARGV[1] .. ARGV[i]
    for _, key in ipairs({'', ':state', ':template'}) do redis.call('COPY', model .. key, copy .. key, 'REPLACE') end
    redis.call('HSET', copy, 'spec', ARGV[i + 1], 'version', ARGV[3])
    redis.call('HSET', copy .. ':state', 'mark', ARGV[4])
    redis.call('SADD', KEYS[1], ARGV[i])
    redis.call('ZADD', KEYS[2], ARGV[i + 2], ARGV[i])
end
"""

#: KEYS 1 the row to copy, 2 the job's index
#: ARGV 1 what the keys of rows begin with, then id and tick of each.
_COPY_ROWS = """
for i = 2, #ARGV, 2 do
    redis.call('COPY', KEYS[1], ARGV[1] .. ARGV[i], 'REPLACE')
    redis.call('HSET', ARGV[1] .. ARGV[i], 'tick', ARGV[i + 1])
    redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i])
end
"""


class ManyJobs:
    """Jobs on the server of *app*."""

    def __init__(self, app: Cronq) -> None:
        self.app = app
        self.client: Redis = app.client
        self._copy: Any = self.client.register_script(_COPY_JOBS)
        self._rows: Any = self.client.register_script(_COPY_ROWS)
        app.jobs.open_epoch()

    def store(self, names: Sequence[str], mark: int, *, crons: Sequence[str], **options: Any) -> None:
        """Store jobs of these *names*, with the *crons* in turn, whose ticks up to *mark* are past.

        cronq's own code stores the first of them, and the others are copies. Stored anew, they get a new version and
        a new text.
        """
        number = next(_VERSIONS)
        model, description = names[0], f"version {number} of all"
        specs = [make_spec(model, function="a:b", cron=cron, description=description, **options) for cron in crons]
        texts = [spec.to_json() for spec in specs]
        nexts = [(spec.schedule.next_after(mark) if spec.schedule is not None else None) or 0 for spec in specs]
        self.app.jobs.save(
            specs[0], source="benchmark", origin="cli", expected=self.app.jobs.version_of(model), mark=mark,
            next_tick=nexts[0],
        )  # fmt: skip
        keys, quoted, version = self.app.keys, json.dumps(model), f"v{number}"
        for first in range(0, len(names), _AT_ONCE):
            words: list[Any] = []
            for place in range(first, min(first + _AT_ONCE, len(names))):
                name, which = names[place], place % len(crons)
                if name != model:
                    words += (name, texts[which].replace(quoted, json.dumps(name), 1), nexts[which])
            self._copy(keys=[keys.jobs, keys.agenda], args=[keys.job(""), model, version, mark, *words])

    def add_rows(self, name: str, like: str, ticks: Iterable[int]) -> None:
        """Give the job *name* rows for these *ticks*, each like that of its run *like*."""
        keys = self.app.keys
        words = [word for tick in ticks for word in (f"{name}-{tick_stamp(tick)}", tick)]
        for first in range(0, len(words), 2 * _AT_ONCE):
            args = [keys.run(""), *words[first : first + 2 * _AT_ONCE]]
            self._rows(keys=[keys.run(like), keys.runs(name)], args=args)


def numbered(count: int, stem: str = "job") -> list[str]:
    """So many names of one length."""
    return [f"{stem}-{number:07d}" for number in range(count)]


def once_a_year(count: int = 1000) -> tuple[str, ...]:
    """So many schedules of one tick each on the first of January."""
    return tuple(f"{number % 60} {number // 60 % 24} 1 1 *" for number in range(count))
