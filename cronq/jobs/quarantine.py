"""Damage among the jobs in Redis: where it is, how it is moved out of the way, and what is restored after it.

A beat's audit and repair decide what to do; here stands what each step reads and writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from cronq.db import scripts
from cronq.db.decode import moment, number, text, whole
from cronq.db.faults import is_wrong_type
from cronq.db.keys import Keys
from cronq.jobs.spec import SPEC_LAYOUT
from cronq.jobs.stored import AuditedJob
from cronq.timetext import DAY_S, tick_stamp

#: A mark further ahead of the server's time silences its job; a beat sets it back.
MARK_AHEAD_S = 60
_QUARANTINE_S = 7 * DAY_S


class Quarantine:
    """Finds damaged keys of jobs, moves them aside for a week, and restores marks and agenda entries."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._audit: Any = scripts.load(client, "jobs/audit")

    def audit(self, cursors: tuple[str, str], count: int) -> tuple[tuple[str, str], list[AuditedJob]]:
        """Look at about *count* jobs for damage, from *cursors* on; one round trip.

        Returns the cursors to go on with ("0" is the beginning), and what was seen of each job.
        """
        args = [self._keys.prefix, *cursors, count, SPEC_LAYOUT]
        keys = [self._keys.jobs, self._keys.agenda, self._keys.catchup]
        reply = json.loads(text(self._audit(keys=keys, args=args)))
        seen = [
            AuditedJob(name, what, moment(mark), number(score), spec, whole(ticks) or 0, moment(held), trigger)
            for name, what, mark, score, spec, ticks, held, trigger in reply.get("seen", [])
        ]
        return (str(reply["jobs"]), str(reply["agenda"])), seen

    def move_wrong_types(self, name: str | None, now_s: float) -> list[str]:
        """Move the keys of the job *name* that have a wrong type aside for a week. Returns their names.

        The keys that all jobs share are always among those looked at; without *name* only they are. Such a key would
        keep the job from being claimed for ever, and what it holds is not ours to destroy.
        """
        keys = self._keys
        wanted = {
            keys.jobs: "set",
            keys.agenda: "zset",
            keys.events: "stream",
            keys.running: "zset",
            keys.jobs_behind: "set",
            keys.gated_by: "set",
            keys.untriggered: "set",
            keys.catchup: "zset",
            keys.catchup_rate: "hash",
            keys.epoch: "string",
        }
        if name is not None:
            wanted |= {
                keys.job(name): "hash",
                keys.state(name): "hash",
                keys.changes(name): "list",
                keys.template(name): "hash",
                keys.active(name): "hash",
                keys.given(name): "hash",
                keys.runs(name): "zset",
                keys.manual(name): "zset",
                keys.waiting(name): "zset",
                keys.behind(name): "zset",
                keys.gated(name): "zset",
                keys.children(name): "hash",
                keys.fence(name): "hash",
                keys.lock(name): "string",
            }
        return self._move(wanted, now_s)

    def move(self, key: str, kind: str, now_s: float) -> list[str]:
        """Move one key aside for a week, unless its type is *kind*. Returns its name if it was moved."""
        return self._move({key: kind}, now_s)

    def is_ours(self, key: str) -> bool:
        """Return True if *key* is one of this installation."""
        return key.startswith(f"{self._keys.prefix}:")

    def _move(self, wanted: Mapping[str, str], now_s: float) -> list[str]:
        with self._client.pipeline(transaction=False) as pipe:
            for key in wanted:
                pipe.type(key)
            kinds = [text(kind) for kind in pipe.execute()]
        moved = []
        for (key, kind), found in zip(wanted.items(), kinds, strict=True):
            if found in ("none", kind):
                continue
            aside = self._keys.broken(key, tick_stamp(now_s))
            try:
                with self._client.pipeline() as pipe:  # in one step: what was moved must not stay for ever
                    pipe.rename(key, aside)
                    pipe.expire(aside, _QUARANTINE_S)
                    pipe.execute()
            except ResponseError as error:
                if "no such key" not in str(error):  # Redis refuses: the beat says so, and the key stays
                    raise
                continue  # another beat moved it first
            moved.append(key)
        return moved

    def agenda_score(self, name: str) -> float | None:
        """When the agenda says the job is due next; None when it does not say, or is damaged itself."""
        try:
            return self._client.zscore(self._keys.agenda, name)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            return None

    def newest_recorded_tick(self, name: str) -> int | None:
        """The newest tick in the ledger: where a lost mark is taken up again."""
        found = self._client.zrange(self._keys.runs(name), -1, -1, withscores=True)
        return int(found[0][1]) if found else None

    def decided_between(self, name: str, after: int, until: int) -> tuple[int, int] | None:
        """The first and the last of the ticks from *after* to *until* that the ledger has; None: it has none."""
        index = self._keys.runs(name)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zrangebyscore(index, f"({after}", until, 0, 1, withscores=True)
            pipe.zrevrangebyscore(index, until, f"({after}", 0, 1, withscores=True)
            oldest, newest = pipe.execute()
        if not oldest or not newest:
            return None
        first = moment(text(self._client.hget(self._keys.run(text(oldest[0][0])), "first") or b""))
        return first or int(oldest[0][1]), int(newest[0][1])

    def look_at_trigger(self, name: str) -> None:
        """Have a beat start a job that runs after others, if its parents have ended while it was damaged."""
        self._client.sadd(self._keys.untriggered, name)

    def restore_mark(self, name: str, mark: int, next_tick: int | None, decided: tuple[int, int] | None = None) -> None:
        """Give a job whose mark was lost, unreadable or far ahead a mark and its place on the agenda.

        A mark that is set back fires no tick twice while the ledger has its row. Rows are trimmed and dedup keys end
        within the hour, so *mark* is never to lie before the newest tick in the ledger: trimming leaves that one. Ticks
        from the first to the last *decided* one are not decided again, also those that share a row.
        """
        fields = ["mark", str(mark)]
        if decided is not None:
            fields += ["decided_from", str(decided[0]), "decided_to", str(decided[1])]
        with self._client.pipeline() as pipe:
            pipe.hset(self._keys.state(name), items=fields)
            if next_tick is not None:
                pipe.zadd(self._keys.agenda, {name: next_tick})
            pipe.execute()

    def reschedule_all(self, next_ticks: Mapping[str, int]) -> None:
        """Put jobs on the agenda that are missing there or stand too late; one round trip."""
        if next_ticks:
            self._client.zadd(self._keys.agenda, dict(next_ticks))

    def drop_ghost(self, name: str) -> bool:
        """Remove the agenda entry of a job that does not exist. Returns True if there was one."""
        return bool(self._client.zrem(self._keys.agenda, name))
