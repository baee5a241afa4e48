"""Claims ticks: sends what `due` decided to the one script that carries it out, hundreds of ticks in a round trip."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from redis import Redis

from cronq.db import scripts
from cronq.db.decode import text
from cronq.db.keys import RQ_QUEUES, Keys, rq_job, rq_queue
from cronq.errors import CronqError, UnknownJob
from cronq.jobs.rq_template import fields_of
from cronq.jobs.spec import JobSpec
from cronq.runs.dependencies import Need
from cronq.runs.due import Decision
from cronq.runs.overlap import rule_of_tick
from cronq.runs.ranges import schedule_words
from cronq.runs.run import describe_run, manual_run_id
from cronq.timetext import rq_stamp, tick_stamp

log = logging.getLogger("cronq.beat")

#: Life of a dedup key, which tells a claim that is sent again from another beat's: that comes within minutes. After it
#: the mark keeps a tick from firing twice, and behind that the row. A longer life would cost memory for each tick.
DEDUP_LIFE_S = 3600


# Tuples, not dataclasses: a beat makes tens of thousands of these a second.


class TickClaim(NamedTuple):
    """One tick to claim: the job as the beat has read it, and what was decided."""

    spec: JobSpec
    version: str
    decision: Decision
    needs: tuple[Need, ...] = ()  #: what must have come to pass before it runs


class Answer(NamedTuple):
    """What became of one claim; the codes are explained in `lua/runs/claim.lua`."""

    code: str
    detail: str
    reason: str = ""  #: of `won`: why it waits, or got the outcome that *detail* names; of `early`: how that run stands
    key: str = ""  #: of `broken`: the key to look at
    kind: str = ""  #: of `broken`: the type it should have, "" when its value is wrong

    @classmethod
    def from_script(cls, code: str, detail: str, *more: str) -> Answer:
        """One answer as `lua/runs/claim.lua` writes it: what follows the detail depends on the code."""
        return cls(code, detail, "", *more) if code == "broken" else cls(code, detail, *more)


#: Answers after which the later ticks of the same job are `held`: they would move the mark past one without a row.
HOLD_BACK = frozenset({"broken", "moved", "apart", "early", "left"})

#: The everyday answer, one object for all.
QUEUED = Answer("won", "queued")


class _Tick(NamedTuple):
    """A tick, and how it stands in keys, ids and descriptions, behind the name of a job."""

    tick: str
    in_dedup: str
    in_id: str
    in_description: str


class _Kind(NamedTuple):
    """What many ticks of a batch have in common."""

    queue: str
    overlap: str
    keep: int
    trigger: str
    spares: bool  #: such a tick, itself late, leaves caught-up ones of its job waiting, it does not block them
    in_order: bool  #: such a tick waits until the one before it has succeeded
    blocks: bool  #: such a tick ends the waiting of earlier ones for their parents


@lru_cache(maxsize=512)
def _tick(tick: int) -> _Tick:
    return _Tick(str(tick), f":{tick}", f"-{tick_stamp(tick)}", describe_run("", tick, ""))


@lru_cache(maxsize=512)
def _kind(
    queue: str, overlap: str, keep: int, trigger: str, catchup: str, in_order: bool, is_late: bool, backfill: bool
) -> _Kind:
    rule, spares = rule_of_tick(overlap, trigger, catchup), catchup == "all" and (trigger == "catchup" or is_late)
    return _Kind(queue, rule, keep, trigger, spares, in_order, not backfill)


class _Batch:
    """Claims as `lua/runs/claim.lua` takes them: what many have in common stands there once, numbered from 1."""

    def __init__(self, claims: Iterable[TickClaim], now_s: float) -> None:
        self._ticks: dict[int, int] = {}
        self._kinds: dict[tuple[str, str, int, str, str, bool, bool, bool], int] = {}  #: by what `_kind` takes
        self.items: list[str] = []
        self.spans: list[list[int]] = []
        self.more: dict[int, tuple[object, ...]] = {}  #: by the number of the item
        alike: object = None  # what the items of a span have in common
        for number, (spec, version, decision, needs) in enumerate(claims, 1):
            following = decision.next_tick
            is_late = spec.catchup == "all" and following is not None and following <= now_s
            kind = (
                spec.queue, spec.overlap, spec.keep, decision.trigger, spec.catchup, decision.in_order, is_late,
                spec.backfill,
            )  # fmt: skip
            self.items += (spec.name, version, "" if following is None else str(following))
            if alike == (tick_and_kind := (decision.tick, kind)):
                self.spans[-1][0] += 1
            else:
                alike = tick_and_kind
                self.spans.append([1, _number(self._ticks, decision.tick), _number(self._kinds, kind)])
            if decision.outcome is not None or decision.trigger != "schedule" or needs or decision.number is not None:
                self.more[number] = _more(spec, decision, needs)

    def tables(self) -> dict[str, Any]:
        ticks, kinds = map(_tick, self._ticks), (_kind(*facts) for facts in self._kinds)
        made = {"ticks": [row._asdict() for row in ticks], "kinds": [row._asdict() for row in kinds]}
        return made | {"items": self.items, "spans": self.spans} | ({"more": self.more} if self.more else {})


def _number(known: dict[Any, int], thing: object) -> int:
    return known.setdefault(thing, len(known) + 1)


def _more(spec: JobSpec, decision: Decision, needs: tuple[Need, ...]) -> tuple[object, ...]:
    """Outcome, reason, a range, a count, needs, a cause; False where there is none."""
    first, number = decision.first, decision.number
    is_told = decision.outcome is not None or decision.trigger == "catchup"
    return (
        decision.outcome or False,
        decision.reason if is_told else False,
        False if first is None else (str(first), str(decision.ticks), decision.after, schedule_words(spec)),
        False if number is None else str(number),
        needs or False,
        decision.cause or False,
    )


class Given(NamedTuple):
    """What became of a run that was to be queued if its job is idle."""

    run_id: str  #: the new run, or one that was open
    is_new: bool


class Claimer:
    """Claims ticks and queues runs that have none, each in one atomic step."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        by: str,
        row_ttl_s: float,
        keep_events: int = 10_000,
        max_args: int = 1_000_000,
    ) -> None:
        self.client = client
        self.keys = keys
        self.by = by
        self.row_ttl_s = int(row_ttl_s)
        self.keep_events = keep_events
        self.max_args = max_args
        self._claim: Any = scripts.load(client, "runs/claim")
        self._enqueue: Any = scripts.load(client, "runs/enqueue")

    def claim_due(
        self, claims: Sequence[TickClaim], token: str, now_s: float, *, is_asked: bool = False
    ) -> list[Answer]:
        """Claim *claims* in order, in one round trip; one answer each.

        The events say who did it when it *is_asked* for by a person. Sending the same *token* twice is safe: what the
        first call claimed answers `mine`.
        """
        return self.claim_written(self.written(claims, token, now_s, is_asked=is_asked), len(claims))

    def written(
        self,
        claims: Sequence[TickClaim],
        token: str,
        now_s: float,
        *,
        is_asked: bool = False,
        leave_after: int | None = None,
    ) -> str:
        """What `claim_due` sends for *claims*: written ahead, it costs no time between two round trips.

        After *leave_after* claims in a row that others have won, the rest is left to them and answered `left`.
        """
        batch = _Batch(claims, now_s)
        document = {
            "prefix": self.keys.prefix,
            "token": token,
            "by": self.by,
            "now": repr(now_s),
            "stamp": rq_stamp(now_s),
            "row_ttl": str(self.row_ttl_s),
            "events": str(self.keep_events),
            "dedup_life": str(DEDUP_LIFE_S),
            **({"asked": True} if is_asked else {}),
            **({"leave_after": leave_after} if leave_after else {}),
            **batch.tables(),
        }
        return json.dumps(document, separators=(",", ":"))

    def claim_written(self, written: str, count: int) -> list[Answer]:
        """Send what was *written* for *count* claims; one answer each. As `claim_due` otherwise."""
        keys = [self.keys.agenda, self.keys.events, RQ_QUEUES]
        reply = text(self._claim(keys=keys, args=[written]))
        if reply == "queued":
            return [QUEUED] * count
        answers = json.loads(reply)
        if isinstance(answers, dict):
            for run_id, reason in answers["blocked"]:
                log.warning("BLOCKED %s: %s", run_id, reason)
            answers = answers["answers"]
        return [Answer.from_script(*entry) for entry in answers]

    def give(
        self,
        spec: JobSpec,
        now_s: float,
        *,
        run_id: str | None = None,
        trigger: str = "manual",
        args_json: str | None = None,
        reason: str | None = None,
    ) -> str:
        """Queue one run of *spec* that has no tick. Return its id.

        Raises UnknownJob, DefinitionError for arguments that are too large, CronqError for a damaged key.
        """
        run_id = run_id or manual_run_id(spec.name)
        facts = {"trigger": trigger, "args": args_json, "reason": reason}
        return self._give(spec, now_s, run_id, facts).run_id

    def give_if_idle(self, spec: JobSpec, now_s: float, *, args_json: str | None, reason: str) -> Given:
        """Queue one run of *spec* that has no tick, unless a run of it is open. Raises as `give` does."""
        facts = {"trigger": "manual", "args": args_json, "reason": reason, "if_idle": True}
        return self._give(spec, now_s, manual_run_id(spec.name), facts)

    def _give(self, spec: JobSpec, now_s: float, run_id: str, facts: dict[str, Any]) -> Given:
        """Queue the run *run_id*; *facts* are what `lua/runs/enqueue.lua` takes beside the job's, None: left out."""
        args_json = facts["args"]
        travelling = spec.args_for_run(args_json, self.max_args)
        description = describe_run(spec.name, None, run_id)
        fields = fields_of(self.client, spec, run_id, description, travelling)
        document: dict[str, Any] = {
            "prefix": self.keys.prefix,
            "name": spec.name,
            "run": run_id,
            "queue": spec.queue,
            "token": secrets.token_hex(8),
            "by": self.by,
            "now": repr(now_s),
            "events": self.keep_events,
            "keep": spec.keep,
        }
        document |= {key: value for key, value in facts.items() if value is not None}
        name, keys = spec.name, self.keys
        touched = [
            keys.run(run_id), keys.manual(name), keys.given(name), rq_job(run_id), rq_queue(spec.queue), RQ_QUEUES,
            keys.events,
        ]  # fmt: skip
        flat = [part for pair in fields.items() for part in pair]
        answer = text(self._enqueue(keys=touched, args=[json.dumps(document), *flat]))
        if answer == "gone":
            raise UnknownJob(f"there is no job {name!r} (any more); see `cronq list`")
        if answer.startswith("open "):
            return Given(answer.removeprefix("open "), is_new=False)
        if answer not in ("won", "mine"):
            raise CronqError(f"job {name!r}: cannot queue a run: {answer}; look at that key")
        return Given(run_id, is_new=True)
