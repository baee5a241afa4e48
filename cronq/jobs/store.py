"""Jobs in Redis: definitions, their state, the agenda, the epoch. Owner of those keys; nobody else writes them.

The claim script moves `mark` and the agenda, because that has to happen together with the claim.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError, TimeoutError

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import Keys
from cronq.errors import BadValue, Conflict, CronqError, SpecTooNew, UnknownJob
from cronq.jobs.pause import Pause
from cronq.jobs.rq_template import fields_of
from cronq.jobs.spec import SPEC_LAYOUT, JobSpec
from cronq.jobs.stored import AuditedJob, DueJob, DueReading, StoredJob, due_job, moment, number, stored_job
from cronq.timetext import tick_stamp

#: Layout of the keys; a process that finds a newer one must not touch it.
SCHEMA = 1
#: A mark further ahead of the server's time silences its job; a beat sets it back.
MARK_AHEAD_S = 60
_QUARANTINE_S = 7 * 86400


class JobStore:
    """Reads and writes jobs; every change is one atomic step, guarded by the job's version."""

    def __init__(self, client: Redis, keys: Keys, keep_events: int = 10_000, *, max_args: int = 1_000_000) -> None:
        self.client = client
        self.keys = keys
        self.keep_events = keep_events
        self.max_args = max_args
        self._read_due: Any = scripts.load(client, "jobs/read_due")
        self._save: Any = scripts.load(client, "jobs/save")
        self._set_pause: Any = scripts.load(client, "jobs/pause")
        self._remove: Any = scripts.load(client, "jobs/remove")
        self._audit: Any = scripts.load(client, "jobs/audit")

    # Reading

    def names(self) -> list[str]:
        """All jobs, sorted."""
        return sorted(text(name) for name in self.client.smembers(self.keys.jobs))

    def get(self, name: str) -> StoredJob:
        """One job. Raises UnknownJob, with close matches, and SpecTooNew, DefinitionError for a damaged spec."""
        found = self.find([name])
        if name not in found:
            raise UnknownJob(f"there is no job {name!r}; see `cronq list`")
        job = found[name]
        if isinstance(job, CronqError):
            raise job
        return job

    def find(self, names: Iterable[str]) -> dict[str, StoredJob | CronqError]:
        """The jobs of these names that exist; a damaged one is the error it raised. One round trip."""
        wanted = list(names)
        with self.client.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.hgetall(self.keys.job(name))
                pipe.hgetall(self.keys.state(name))
                pipe.zscore(self.keys.agenda, name)
            replies = pipe.execute(raise_on_error=False)
        found: dict[str, StoredJob | CronqError] = {}
        for name, definition, state, score in zip(wanted, replies[::3], replies[1::3], replies[2::3], strict=True):
            if definition == {}:
                continue
            try:
                found[name] = stored_job(name, definition, state, score)
            except CronqError as error:
                found[name] = error
            except Exception as error:  # whatever stands there: it hides no other job
                found[name] = BadValue(f"job {name!r} cannot be read ({type(error).__name__}: {error}); add it again")
        return found

    def next_due(self, limit: int) -> list[str]:
        """The names of the jobs that are due next, at most *limit*, soonest first."""
        return [text(name) for name in self.client.zrange(self.keys.agenda, 0, limit - 1)]

    def version_of(self, name: str) -> str:
        """The version of a job whose definition may be damaged; "" when there is none."""
        try:
            return text(self.client.hget(self.keys.job(name), "version") or b"")
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return ""

    def specs(self, names: Iterable[str]) -> dict[str, str]:
        """The spec texts of these jobs, without parsing them; one round trip."""
        wanted = list(names)
        with self.client.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.hget(self.keys.job(name), "spec")
            replies = pipe.execute(raise_on_error=False)
        return {name: text(reply) for name, reply in zip(wanted, replies, strict=True) if isinstance(reply, bytes)}

    def read_due(
        self, limit: int, now_s: float | None = None, *, held_back: bool = False, from_rank: int = 0
    ) -> DueReading:
        """The jobs whose next tick has come, the most overdue first, those of a newer cronq passed by; one round trip.

        With *held_back* also when the first entry is due of what rq-scheduler and RQ hold back. The *from_rank* most
        overdue are not looked at.
        """
        now = "" if now_s is None else repr(now_s)
        args = [self.keys.prefix, limit, now, "1" if held_back else "", SPEC_LAYOUT, from_rank]
        reply = json.loads(text(self._read_due(keys=[self.keys.agenda, self.keys.epoch], args=args)))
        first, following = reply["delayed"]
        due = [_due_job(entry) for entry in reply.get("due", [])]
        return DueReading(
            now_s=float(reply["time"]),
            server_s=float(reply["server"]),
            epoch=reply["epoch"],
            due=due,
            newer=reply["newer"],
            listed=reply["listed"],
            is_cut=reply["cut"],
            next_score=float(reply["next"]) if reply["next"] else None,
            held_back=(number(first), number(following)),
        )

    def dedup_holders(self, ticks: Iterable[tuple[str, int]]) -> list[str]:
        """Whose token stands at each (job, tick), "" for nobody's; one round trip."""
        found = self.client.mget([self.keys.dedup(name, tick) for name, tick in ticks])
        return ["" if value is None else text(value) for value in found]

    # Writing

    def save(
        self,
        spec: JobSpec,
        *,
        source: str,
        origin: str,
        expected: str,
        mark: int | None = None,
        next_tick: int | None = None,
        instead_of: tuple[str, float] | None = None,
    ) -> str:
        """Store *spec* if the job is still at version *expected* ("" when it must not exist).

        *mark* is given when the ticks to come have changed: none up to it will fire. With *instead_of*, id and score of
        an entry of rq-scheduler's store, that entry goes in the same step, if it is still there. Returns `created`,
        `changed` or `same`. Raises Conflict when somebody else was first, SpecTooNew for a job
        of a newer cronq, CronqError for a damaged key, DefinitionError for arguments that are too large.
        """
        template = fields_of(self.client, spec, "template", spec.name, spec.args_for_run(None, self.max_args))
        document: dict[str, Any] = {
            "name": spec.name,
            "spec": spec.to_json(),
            "layout": spec.layout,
            "knows": SPEC_LAYOUT,
            "version": secrets.token_hex(6),
            "expected": expected,
            "origin": origin,
            "source": source,
            "scheduled": 0 if spec.schedule is None else 1,
            "events": self.keep_events,
            "keep": spec.keep,
        }
        if mark is not None:
            document["mark"] = mark
            if next_tick is not None:
                document["next"] = next_tick
        if instead_of is not None:
            document["instead"] = [instead_of[0], repr(instead_of[1])]
        flat = [part for pair in template.items() for part in pair]
        keys = [*self._job_keys(spec.name), *self._ledger_keys(spec.name)]
        answer = text(self._save(keys=keys, args=[json.dumps(document), *flat]))
        if answer == "conflict":
            raise Conflict(f"job {spec.name!r} was changed by somebody else just now; try again")
        if answer == "newer":
            raise SpecTooNew(spec.name, f"in a layout newer than {SPEC_LAYOUT}")
        if answer.startswith("broken "):
            raise CronqError(f"job {spec.name!r}: the key {answer[7:]} has a wrong type; a beat moves it aside")
        return answer

    def set_pause(
        self, job: StoredJob, pause: Pause | None, *, mark: int | None = None, next_tick: int | None = None
    ) -> None:
        """Pause or resume (None) a job that is still at its version. Raises Conflict."""
        name = job.spec.name
        document: dict[str, Any] = {
            "name": name,
            "version": secrets.token_hex(6),
            "expected": job.version,
            "pause": "" if pause is None else json.dumps(pause.__dict__),
            "events": self.keep_events,
        }
        if mark is not None:
            document["mark"] = mark
        if next_tick is not None:
            document["next"] = next_tick
        keys = [self.keys.job(name), self.keys.state(name), self.keys.agenda, self.keys.events]
        answer = text(self._set_pause(keys=keys, args=[json.dumps(document)]))
        if answer == "conflict":
            raise Conflict(f"job {name!r} was changed by somebody else just now; try again")
        if answer.startswith("broken "):
            raise CronqError(
                f"job {name!r}: the key {answer[7:]} has a wrong type; a beat moves it aside, then try again"
            )

    def remove(self, name: str, *, by: str, now_s: float, keep_rows_for_s: float) -> None:
        """Remove a job; its runs that have not begun are then for `BulkStop.finish_removal`.

        Sent again when Redis did not answer in time: the second call knows what the first has done. Raises UnknownJob,
        and Conflict while an earlier removal of that name is unfinished.
        """
        keys = self.keys
        touched = [
            *self._job_keys(name), *self._ledger_keys(name),
            keys.removals, keys.removed(name, "active"), keys.removed(name, "given"), keys.running,
        ]  # fmt: skip
        record = json.dumps({"token": secrets.token_hex(8), "by": by, "at": now_s})
        args = [name, int(keep_rows_for_s), self.keep_events, record]
        try:
            answer = text(self._remove(keys=touched, args=args))
        except TimeoutError:
            answer = text(self._remove(keys=touched, args=args))
        if answer == "none":
            raise UnknownJob(f"there is no job {name!r}; see `cronq list`")
        if answer == "unfinished":
            raise Conflict(f"runs of job {name!r} are still being stopped since it was removed before; try again")

    def postpone(self, name: str, until_s: float) -> None:
        """Look at a job that cannot be claimed again only at *until_s*; its mark, and so its ticks, stay."""
        self.client.zadd(self.keys.agenda, {name: until_s}, xx=True)

    def reschedule(self, name: str, next_tick: int | None) -> None:
        """Correct an agenda entry that does not follow from the job's mark."""
        if next_tick is None:
            self.client.zrem(self.keys.agenda, name)
        else:
            self.client.zadd(self.keys.agenda, {name: next_tick})

    def reschedule_all(self, next_ticks: Mapping[str, int]) -> None:
        """Put jobs on the agenda that are missing there or stand too late; one round trip."""
        if next_ticks:
            self.client.zadd(self.keys.agenda, dict(next_ticks))

    def _job_keys(self, name: str) -> list[str]:
        keys = self.keys
        return [keys.jobs, keys.job(name), keys.state(name), keys.template(name), keys.agenda, keys.events]

    def _ledger_keys(self, name: str) -> list[str]:
        keys = self.keys
        return [keys.active(name), keys.runs(name), keys.manual(name), keys.given(name)]

    # Epoch and schema

    def open_epoch(self) -> tuple[str, bool]:
        """The epoch, and whether this call began it: a fresh or flushed Redis has none."""
        fresh = secrets.token_hex(8)
        epoch, schema = self.client.mget([self.keys.epoch, self.keys.schema])
        if epoch is None or schema is None:  # written only then: who may not write here still reads what is open
            with self.client.pipeline() as pipe:
                pipe.set(self.keys.epoch, fresh, nx=True)
                pipe.set(self.keys.schema, SCHEMA, nx=True)
                pipe.get(self.keys.epoch)
                pipe.get(self.keys.schema)
                _, _, epoch, schema = pipe.execute()
        if not text(schema).isdigit() or int(schema) > SCHEMA:
            raise CronqError(f"Redis holds layout {text(schema)} of cronq, this version knows {SCHEMA}; upgrade cronq")
        return text(epoch), text(epoch) == fresh

    # Mending

    def audit(self, cursors: tuple[str, str], count: int) -> tuple[tuple[str, str], list[AuditedJob]]:
        """Look through about *count* jobs for damage: where to go on ("0" is the beginning), and what was seen."""
        args = [self.keys.prefix, *cursors, count, SPEC_LAYOUT]
        reply = json.loads(text(self._audit(keys=[self.keys.jobs, self.keys.agenda], args=args)))
        seen = [
            AuditedJob(name, what, moment(mark), number(score), spec)
            for name, what, mark, score, spec in reply.get("seen", [])
        ]
        return (str(reply["jobs"]), str(reply["agenda"])), seen

    def server_now_s(self) -> float:
        """The server's time, epoch seconds; one round trip."""
        seconds, micros = self.client.time()
        return seconds + micros / 1e6

    def quarantine_wrong_types(self, name: str | None, now_s: float) -> list[str]:
        """Move keys of a wrong type out of the way, for a week; their names.

        They would keep the job (or, without *name*, all jobs) from being claimed for ever. What they held
        is not ours to destroy.
        """
        keys = self.keys
        wanted = {
            keys.jobs: "set",
            keys.agenda: "zset",
            keys.events: "stream",
            keys.running: "zset",
            keys.epoch: "string",
        }
        if name is not None:
            wanted |= {
                keys.job(name): "hash",
                keys.state(name): "hash",
                keys.template(name): "hash",
                keys.active(name): "hash",
                keys.given(name): "hash",
                keys.runs(name): "zset",
                keys.manual(name): "zset",
                keys.waiting(name): "zset",
                keys.fence(name): "hash",
                keys.lock(name): "string",
            }
        return self._quarantine(wanted, now_s)

    def quarantine(self, key: str, kind: str, now_s: float) -> list[str]:
        """Move one key out of the way unless it is a *kind*."""
        return self._quarantine({key: kind}, now_s)

    def _quarantine(self, wanted: Mapping[str, str], now_s: float) -> list[str]:
        with self.client.pipeline(transaction=False) as pipe:
            for key in wanted:
                pipe.type(key)
            kinds = [text(kind) for kind in pipe.execute()]
        moved = []
        for (key, kind), found in zip(wanted.items(), kinds, strict=True):
            if found in ("none", kind):
                continue
            aside = self.keys.broken(key, tick_stamp(now_s))
            try:
                self.client.rename(key, aside)
                self.client.expire(aside, _QUARANTINE_S)
            except ResponseError:
                continue  # another beat moved it first
            moved.append(key)
        return moved

    def newest_recorded_tick(self, name: str) -> int | None:
        """The newest tick in the ledger: where a lost mark is taken up again."""
        found = self.client.zrange(self.keys.runs(name), -1, -1, withscores=True)
        return int(found[0][1]) if found else None

    def restore_mark(self, name: str, mark: int, next_tick: int | None) -> None:
        """Give a job whose mark was lost, unreadable or far ahead a mark and its place on the agenda.

        A mark that is set back fires no tick twice while the ledger has its row. Rows are trimmed and dedup keys end
        within the hour, so *mark* is never to lie before the newest tick in the ledger: trimming leaves that one.
        """
        with self.client.pipeline() as pipe:
            pipe.hset(self.keys.state(name), "mark", str(mark))
            if next_tick is not None:
                pipe.zadd(self.keys.agenda, {name: next_tick})
            pipe.execute()

    def mark_of(self, name: str) -> int | None:
        """The mark alone, of a job whose definition may be lost."""
        return moment(text(self.client.hget(self.keys.state(name), "mark") or b""))

    def agenda_score(self, name: str) -> float | None:
        """When the agenda says the job is due next."""
        return self.client.zscore(self.keys.agenda, name)

    def is_listed(self, name: str) -> bool:
        """Whether there is a job of this name, its definition damaged or lost as it may be."""
        return bool(self.client.sismember(self.keys.jobs, name))

    def drop_ghost(self, name: str) -> bool:
        """Take the agenda entry of a job that does not exist off; whether there was one."""
        return bool(self.client.zrem(self.keys.agenda, name))


def _due_job(entry: Any) -> DueJob:
    """One entry of what is due; one that cannot be read is a damaged job, and stops no other."""
    try:
        return due_job(*entry)
    except Exception:
        return DueJob(str(entry[0]), 0, "!", None, None, damaged=True)
