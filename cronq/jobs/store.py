"""Jobs in Redis: definitions, their state, the agenda, the epoch.

Only three write these keys: this module, `quarantine` for damaged ones, and the claim script, which moves a job's mark
and its agenda entry in the same step as it claims a tick.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError, TimeoutError

from cronq.db import scripts
from cronq.db.decode import moment, number, text, time_s
from cronq.db.faults import is_wrong_type
from cronq.db.keys import Keys
from cronq.db.layout import SCHEMA, check_layout
from cronq.errors import BadValue, Conflict, CronqError, SpecTooNew, UnknownJob
from cronq.jobs.change_notes import ChangeNote, read_notes
from cronq.jobs.graph import in_use, refused_cycle, refused_parent
from cronq.jobs.pause import Pause
from cronq.jobs.rq_template import fields_of
from cronq.jobs.skip import Skips, ticks_of, write_skips
from cronq.jobs.spec import SKIPS_LAYOUT, SPEC_LAYOUT, JobSpec
from cronq.jobs.stored import DueReading, StoredJob, read_due_job, read_family, stored_job

#: Jobs that are read in one round trip.
_AT_ONCE = 1_000


class JobStore:
    """Reads and writes jobs; every change is one atomic step, guarded by the job's version."""

    def __init__(self, client: Redis, keys: Keys, keep_events: int = 10_000, *, max_args: int = 1_000_000) -> None:
        self._client = client
        self._keys = keys
        self._keep_events = keep_events
        self._max_args = max_args
        self._read_due: Any = scripts.load(client, "jobs/read_due")
        self._save: Any = scripts.load(client, "jobs/save")
        self._set_pause: Any = scripts.load(client, "jobs/pause")
        self._reset: Any = scripts.load(client, "jobs/reset")
        self._set_skips: Any = scripts.load(client, "jobs/skip")
        self._remove: Any = scripts.load(client, "jobs/remove")

    # Reading

    def names(self) -> list[str]:
        """All jobs, sorted."""
        return sorted(text(name) for name in self._client.smembers(self._keys.jobs))

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
        with self._client.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.hgetall(self._keys.job(name))
                pipe.hgetall(self._keys.state(name))
                pipe.zscore(self._keys.agenda, name)
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
        return [text(name) for name in self._client.zrange(self._keys.agenda, 0, limit - 1)]

    def version_of(self, name: str) -> str:
        """The version of a job whose definition may be damaged; "" when there is none."""
        try:
            return text(self._client.hget(self._keys.job(name), "version") or b"")
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            return ""

    def mark_of(self, name: str) -> int | None:
        """The mark alone, of a job whose definition may be lost."""
        return moment(text(self._client.hget(self._keys.state(name), "mark") or b""))

    def notes_of(self, name: str) -> list[ChangeNote]:
        """The last changes of a job, the newest first; also of one that was removed within the last 30 days."""
        try:
            found: Any = self._client.lrange(self._keys.changes(name), 0, -1)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            return []
        return read_notes(found)

    def came_further(self, job: StoredJob) -> set[str]:
        """Of the jobs that *job* runs after, those that have succeeded since its last start; or ended, if that will do.

        As the script sees it that would start the job (`lua/parts/trigger`); one round trip.
        """
        which = 1 if job.spec.on_parent_failure == "run" else 0
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hget(self._keys.state(job.spec.name), "seen")
            for parent in job.spec.after:
                pipe.hmget(self._keys.state(parent), "successes", "endings")
            raw, *counts = pipe.execute(raise_on_error=False)
        seen = read_family(raw)
        found = set()
        for parent, count in zip(job.spec.after, counts, strict=True):
            before = seen.get(parent, [])
            reached = number(text(count[which] or b"0")) if isinstance(count, list) else 0
            if (reached or 0) != (number(str(before[which])) or 0 if len(before) > which else 0):
                found.add(parent)
        return found

    def is_listed(self, name: str) -> bool:
        """Return True if there is a job of this name, even if its definition is damaged or lost."""
        return bool(self._client.sismember(self._keys.jobs, name))

    def specs(self, names: Iterable[str]) -> dict[str, str]:
        """The spec texts of these jobs, without parsing them; one round trip."""
        wanted = list(names)
        with self._client.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.hget(self._keys.job(name), "spec")
            replies = pipe.execute(raise_on_error=False)
        return {name: text(reply) for name, reply in zip(wanted, replies, strict=True) if isinstance(reply, bytes)}

    def parents_of(self, names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        """For each of these jobs that exists its parents, by name the options that name them; what is damaged is none.

        One round trip for 1,000 of them.
        """
        found: dict[str, dict[str, list[str]]] = {}
        for part in _parts(names):
            with self._client.pipeline(transaction=False) as pipe:
                for name in part:
                    pipe.hget(self._keys.job(name), "parents")
                    pipe.sismember(self._keys.jobs, name)
                replies = pipe.execute(raise_on_error=False)
            for name, parents, listed in zip(part, replies[::2], replies[1::2], strict=True):
                if listed == 1:
                    found[name] = read_family(parents)
        return found

    def children_of(self, names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
        """For each of these jobs, which need not exist, the jobs that name it, and by which options.

        Two round trips for 1,000 of them: a job that no longer names it, or does not exist, is left out.
        """
        found: dict[str, dict[str, list[str]]] = {}
        for part in _parts(names):
            with self._client.pipeline(transaction=False) as pipe:
                for name in part:
                    pipe.hkeys(self._keys.children(name))
                replies = pipe.execute(raise_on_error=False)
            noted = [
                (name, [text(each) for each in reply] if isinstance(reply, list) else [])
                for name, reply in zip(part, replies, strict=True)
            ]
            parents = self.parents_of({child for _, children in noted for child in children})
            for name, children in noted:
                named = {child: parents.get(child, {}).get(name) for child in sorted(children)}
                found[name] = {child: options for child, options in named.items() if options}
        return found

    def read_due(
        self,
        limit: int,
        now_s: float | None = None,
        *,
        with_stores: bool = False,
        from_rank: int = 0,
        begin_at: float = 0.0,
    ) -> DueReading:
        """At most *limit* jobs whose next tick has come, the most overdue first; one round trip.

        Jobs that a newer cronq stored are counted and left out. The first *from_rank* entries of the agenda are
        skipped. Of jobs that are all due at the same time the list begins at the share *begin_at* (0 to 1) of them, and
        goes round. *now_s* replaces the server's time. With *with_stores* the answer also says when entries of the
        stores of scheduled jobs are due: rq-scheduler's store, and RQ's registries.
        """
        now = "" if now_s is None else repr(now_s)
        args = [self._keys.prefix, limit, now, "1" if with_stores else "", SPEC_LAYOUT, from_rank, begin_at]
        keys = [
            self._keys.agenda, self._keys.epoch, self._keys.calendars, self._keys.retries, self._keys.catchup,
            self._keys.beats,
        ]  # fmt: skip
        lines, facts = self._read_due(keys=keys, args=args)
        due = [read_due_job(line) for line in text(lines).split("\n")] if lines else []
        reply = json.loads(text(facts))
        first, following = reply["delayed"]
        first_retry, next_retry = reply["retries"]
        return DueReading(
            now_s=float(reply["time"]),
            server_s=float(reply["server"]),
            epoch=reply["epoch"],
            due=due,
            newer=reply["newer"],
            listed=reply["listed"],
            is_cut=reply["cut"],
            next_score=float(reply["next"]) if reply["next"] else None,
            first_stored_s=number(first),
            next_stored_s=number(following),
            calendars=reply["calendars"],
            first_retry_s=number(first_retry),
            next_retry_s=number(next_retry),
            held=reply["held"],
            beats=reply["beats"],
        )

    def dedup_holders(self, ticks: Iterable[tuple[str, int]]) -> list[str]:
        """The token in the dedup key of each (job, tick), "" where there is no key; one round trip."""
        found = self._client.mget([self._keys.dedup(name, tick) for name, tick in ticks])
        return ["" if value is None else text(value) for value in found]

    def server_now_s(self) -> float:
        """The server's time, epoch seconds; one round trip."""
        return time_s(self._client.time())

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
        tz_is_default: bool = False,
        note: ChangeNote | None = None,
    ) -> str:
        """Store *spec* if the job is still at version *expected* ("" when it must not exist); one atomic step.

        A *mark* is given when the schedule has changed: no tick up to it will fire, and the agenda
        says that the next one is due at *next_tick*.
        *instead_of* names an entry of rq-scheduler's store by id and score: the same step removes it, and stores
        nothing when it is no longer there. *tz_is_default* says that CRONQ_TZ decided the zone, *note* who does it.
        Returns `created`, `changed` or `same`. Raises Conflict when somebody else changed the job first, SpecTooNew
        for a job of a newer cronq, CronqError for a damaged key, and DefinitionError for arguments that are too large
        and for a cycle, UnknownParent for a new parent that there is not.
        """
        template = fields_of(self._client, spec, "template", spec.name, spec.args_for_run(None, self._max_args))
        document: dict[str, Any] = {
            "name": spec.name,
            "spec": spec.to_json(),
            "layout": spec.layout,
            "skips_layout": SKIPS_LAYOUT,
            "knows": SPEC_LAYOUT,
            "version": secrets.token_hex(6),
            "expected": expected,
            "origin": origin,
            "source": source,
            "events": self._keep_events,
        }
        document |= _given(
            default_tz=spec.tz if tz_is_default else None,
            **_for_scripts(spec),
            mark=mark,
            next=next_tick if mark is not None else None,
            instead=[instead_of[0], repr(instead_of[1])] if instead_of is not None else None,
            note=note.to_json() if note is not None else None,
        )
        keys = [*self._job_keys(spec.name), *self._ledger_keys(spec.name), self._keys.changes(spec.name)]
        answer = text(self._save(keys=keys, args=[json.dumps(document), *chain.from_iterable(template.items())]))
        return self._saved(answer, spec)

    def _saved(self, answer: str, spec: JobSpec) -> str:
        """The *answer* to saving *spec*, unless it stands for an error, which is raised."""
        _raise_for(answer, spec.name, "a beat moves it aside")
        word, _, told = answer.partition(" ")
        if word == "unknown":
            raise refused_parent(spec.name, told, spec.parents[told][0], self.names(), bad=())
        if word == "cycle":
            raise refused_cycle([(name, option) for name, option in json.loads(told)], spec.name)
        return answer

    def set_pause(
        self,
        job: StoredJob,
        pause: Pause | None,
        *,
        mark: int | None = None,
        next_tick: int | None = None,
        note: ChangeNote | None = None,
    ) -> None:
        """Pause *job*, or resume it when *pause* is None, if it is still at its version; one atomic step.

        *mark* and *next_tick* replace those of the job when it is resumed. *note* says who does it. Raises Conflict,
        and CronqError for a damaged key.
        """
        name = job.spec.name
        document: dict[str, Any] = {
            "name": name,
            "version": secrets.token_hex(6),
            "expected": job.version,
            "pause": "" if pause is None else json.dumps(pause.__dict__),
            "events": self._keep_events,
        }
        if mark is not None:
            document["mark"] = mark
        if next_tick is not None:
            document["next"] = next_tick
        if note is not None:
            document["note"] = note.to_json()
        keys = [self._keys.job(name), self._keys.state(name), self._keys.agenda, self._keys.events]
        keys.append(self._keys.changes(name))
        answer = text(self._set_pause(keys=keys, args=[json.dumps(document)]))
        _raise_for(answer, name, "a beat moves it aside, then try again")

    def reset(self, spec: JobSpec, note: ChangeNote) -> bool:
        """Forget streak, last run and last success of a job; one step. Return False when there was nothing to forget.

        One with `backfill` goes on behind a tick that did not succeed. Raises UnknownJob, and CronqError for a damaged
        key.
        """
        name, keys = spec.name, self._keys
        touched = [keys.job(name), keys.state(name), keys.events, keys.changes(name), keys.runs(name), keys.agenda]
        in_order = "1" if spec.backfill else ""
        args = [name, json.dumps(note.to_json()), self._keep_events, in_order, keys.prefix, repr(note.at_s)]
        answer = text(self._reset(keys=touched, args=args))
        if answer == "gone":
            raise UnknownJob(f"there is no job {name!r}; see `cronq list`")
        _raise_for(answer, name, "a beat moves it aside, then try again")
        return answer == "reset"

    def set_skips(self, job: StoredJob, skips: Skips, note: ChangeNote, *, is_undoing: bool = False) -> None:
        """Let the ticks of *skips* and no others be skipped, if *job* is still at its version; one atomic step.

        *note* says who does it. The event is another one when *is_undoing*. Raises Conflict, and CronqError for a
        damaged key.
        """
        name = job.spec.name
        document = {
            "name": name,
            "version": secrets.token_hex(6),
            "expected": job.version,
            "skips": write_skips(skips),
            "until": max(ticks_of(skips), default=0),
            "layout": max(job.spec.layout, SKIPS_LAYOUT) if skips else job.spec.layout,
            "undoing": is_undoing,
            "note": note.to_json(),
            "events": self._keep_events,
        }
        keys = [self._keys.job(name), self._keys.state(name), self._keys.events, self._keys.changes(name)]
        answer = text(self._set_skips(keys=keys, args=[json.dumps(document)]))
        _raise_for(answer, name, "a beat moves it aside, then try again")

    def remove(self, name: str, *, by: str, now_s: float, keep_rows_for_s: float, force: bool = False) -> None:
        """Remove a job; afterwards `BulkStop.finish_removal` stops its runs that have not begun.

        The script is called a second time when Redis did not answer in time: by the token in its record it recognises
        that the first call was carried out. Raises UnknownJob, Conflict while an earlier removal of that name is
        unfinished, and JobInUse when other jobs name it as a parent, unless *force* is given.
        """
        keys = self._keys
        touched = [
            *self._job_keys(name), *self._ledger_keys(name),
            keys.removals, keys.removed(name, "active"), keys.removed(name, "given"), keys.running,
            keys.behind(name), keys.children(name), keys.changes(name),
        ]  # fmt: skip
        record = json.dumps({"token": secrets.token_hex(8), "by": by, "at": now_s})
        args = [name, int(keep_rows_for_s), self._keep_events, record, "1" if force else ""]
        try:
            answer = text(self._remove(keys=touched, args=args))
        except TimeoutError:
            answer = text(self._remove(keys=touched, args=args))
        if answer == "none":
            raise UnknownJob(f"there is no job {name!r}; see `cronq list`")
        if answer == "unfinished":
            raise Conflict(f"runs of job {name!r} are still being stopped since it was removed before; try again")
        if answer.startswith("parent "):
            raise in_use(name, self.children_of([name])[name])

    def postpone(self, name: str, until_s: float) -> None:
        """Move the agenda entry of a job that cannot be claimed just now to *until_s*.

        Its mark stays, so none of its ticks is lost.
        """
        self._client.zadd(self._keys.agenda, {name: until_s}, xx=True)

    def reschedule(self, name: str, next_tick: int | None) -> None:
        """Put *next_tick* on the agenda, where something else stands than follows from the job's mark; None: remove."""
        if next_tick is None:
            self._client.zrem(self._keys.agenda, name)
        else:
            self._client.zadd(self._keys.agenda, {name: next_tick})

    def _job_keys(self, name: str) -> list[str]:
        keys = self._keys
        return [keys.jobs, keys.job(name), keys.state(name), keys.template(name), keys.agenda, keys.events]

    def _ledger_keys(self, name: str) -> list[str]:
        keys = self._keys
        return [keys.active(name), keys.runs(name), keys.manual(name), keys.given(name)]

    # Epoch and schema

    def open_epoch(self) -> tuple[str, bool]:
        """The epoch, and whether this call began it: a fresh or flushed Redis has none."""
        fresh = secrets.token_hex(8)
        epoch, schema = self._client.mget([self._keys.epoch, self._keys.schema])
        if epoch is None or schema is None:  # written only then: who may not write here still reads what is open
            with self._client.pipeline() as pipe:
                pipe.set(self._keys.epoch, fresh, nx=True)
                pipe.set(self._keys.schema, SCHEMA, nx=True)
                pipe.get(self._keys.epoch)
                pipe.get(self._keys.schema)
                _, _, epoch, schema = pipe.execute()
        check_layout(schema)
        return text(epoch), text(epoch) == fresh

    def require_known_layout(self) -> None:
        """Raise RedisUnfit when what a newer cronq keeps here has a layout that this one does not know.

        One round trip, which writes nothing: a Redis without the word is new, or served a cronq that wrote none.
        """
        (schema,) = self._client.mget([self._keys.schema])
        if schema is not None:
            check_layout(schema)


def _for_scripts(spec: JobSpec) -> dict[str, Any]:
    """What scripts have to know of *spec*; of a job with `after`, to claim a tick of it, as JSON text."""
    keys = ("after", "on_parent_failure", "queue", "overlap", "keep")
    trigger = json.dumps({key: getattr(spec, key) for key in keys}, sort_keys=True) if spec.after else None
    return {
        "scheduled": 0 if spec.schedule is None else 1,
        "keep": spec.keep,
        "counts": spec.repeat is not None,
        "parents": spec.parents,
        "trigger": trigger,
        "pause_after_failures": spec.pause_after_failures,
    }


def _parts(names: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(names)
    for first in range(0, len(wanted), _AT_ONCE):
        yield wanted[first : first + _AT_ONCE]


def _given(**facts: Any) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if fact is not None}


def _raise_for(answer: str, name: str, remedy: str) -> None:
    """Raise the error that *answer* stands for, where the script refused to change the job *name*.

    *remedy* says what becomes of a key of a wrong type.
    """
    if answer == "conflict":
        raise Conflict(f"job {name!r} was changed by somebody else just now; try again")
    if answer == "newer":
        raise SpecTooNew(name, f"in a layout newer than {SPEC_LAYOUT}")
    if answer.startswith("broken "):
        raise CronqError(f"job {name!r}: the key {answer[7:]} has a wrong type; {remedy}")
