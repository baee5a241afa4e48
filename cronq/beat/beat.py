"""The beat: a process that turns due ticks into runs. Any number run at once, none is leader.

A beat keeps no truth in memory: every pass starts from the agenda and the marks in Redis, so a beat that is
killed, suspended, restarted or doubled changes nothing. It never ends because Redis is away.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from cronq.beat.chores import Chore, do_chores, say_once
from cronq.beat.claiming import Claiming
from cronq.beat.repair import Repair
from cronq.clock import ServerClock, rest
from cronq.db.faults import BACKOFF_S, Outage, is_general
from cronq.errors import CronqError, SpecTooNew
from cronq.jobs.quarantine import MARK_AHEAD_S
from cronq.jobs.spec import JobSpec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import DueJob, DueReading
from cronq.runs.claim import QUEUED, Answer, Claimer, TickClaim
from cronq.runs.due import decide
from cronq.timetext import iso

log = logging.getLogger("cronq.beat")

#: The longest a beat sleeps: a job saved meanwhile may be due.
LOOK_EVERY_S = 1.0
#: A job that cannot be claimed is looked at again after this, so that it does not crowd out the others.
_POSTPONE_S = 5.0
#: Jobs read in one pass; the rest follow at once in the next.
_MOST_JOBS = 2000
_CACHED_SPECS = 20_000
#: Ticks decided in one pass, more or less: after a long outage the heartbeat has to go out in between.
_MOST_TICKS = 20_000


@dataclass
class PassResult:
    """What one pass did."""

    codes: dict[str, int] = field(default_factory=dict)
    wait_s: float = LOOK_EVERY_S

    def count(self, code: str) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1


class _Sent(NamedTuple):
    """A batch whose answers are out."""

    answers: Future[list[Answer]]
    claims: Sequence[TickClaim]
    token: str


class Beat:
    """Looks at the agenda, decides by `due`, claims in batches, and does the chores."""

    def __init__(
        self,
        jobs: JobStore,
        claimer: Claimer,
        repair: Repair,
        clock: ServerClock,
        *,
        client: Redis,
        renew_epoch: Callable[[], str],
        chores: Sequence[Chore] = (),
        batch: int = 250,
    ) -> None:
        self.jobs = jobs
        self.claimer = claimer
        self.repair = repair
        self.clock = clock
        self.renew_epoch = renew_epoch
        self.chores = list(chores)
        self.audit: Chore | None = None  #: the one that looks for jobs that no claim would meet
        self.serving: Chore | None = None  #: the one that serves what rq-scheduler and RQ hold back
        self.batch = batch
        self.leave: Callable[[], None] = lambda: None
        self.epoch = ""
        self.won = 0
        self.last_pass_s: float | None = None
        self._id = secrets.token_hex(4)
        self._passes = 0
        self._phase_s = random.uniform(0, 0.02)  # beats that wake together only get in each other's way
        self._specs: OrderedDict[str, tuple[str, JobSpec | SpecTooNew]] = OrderedDict()
        self._newer = self._passed_by = 0  # due jobs of a newer cronq: in this pass, and in front of the next
        self._has_said_newer = False
        self._listed = 0  # jobs on the agenda at the last look
        self._broken: dict[str, str] = {}  # what was said of jobs that could not even be mended
        self._said_of_pass = ""
        self._unconfirmed: deque[_Sent] = deque()
        self._outage = Outage(log, client, "going on trying, ticks will be caught up by their jobs' rule")
        self._sender = Claiming(claimer)

    # The loop

    def run(self, stop: threading.Event) -> None:
        """Pass after pass until *stop* is set; errors are logged once each way and never end it."""
        wait_s = 0.0
        backoff_s = BACKOFF_S[0]
        while not rest(wait_s, stop):
            is_refused = False
            try:
                wait_s = self.pass_once().wait_s
                self._said_of_pass = ""
            except (RedisError, OSError) as error:
                is_refused = True
                self._troubled(error)
                wait_s, backoff_s = backoff_s, min(backoff_s * 2, BACKOFF_S[1])
                if is_general(error):
                    continue
            except Exception as error:  # a bug here must not silence every job, nor stop the chores
                self._said_of_pass = say_once(self._said_of_pass, "a pass", error)
                wait_s = LOOK_EVERY_S
            else:
                backoff_s = BACKOFF_S[0]
            if self.clock.offset_s is not None and self.do_chores():
                wait_s = 0.0
            if not is_refused and not any(chore.is_failing for chore in self.chores):
                self._outage.over()
        self._sender.close()
        try:
            self.leave()
        except (RedisError, OSError) as error:
            log.warning("left without saying good-bye to Redis: %s", error)

    def pass_once(self, now_s: float | None = None) -> PassResult:
        """Claim everything that is due; *now_s* replaces the server's time in tests."""
        result = PassResult()
        try:
            held_back = self.serving is not None
            reading = self.jobs.read_due(_MOST_JOBS, now_s, held_back=held_back, from_rank=self._passed_by)
            self._check_clock(reading)
            if self.clock.holding:
                return result
            if reading.epoch != self.epoch or not reading.epoch:
                self.epoch = self.renew_epoch()
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            moved = self.repair.repair("", "a key that all jobs share has a wrong type", self.jobs.server_now_s())
            return PassResult(wait_s=0.0 if moved else LOOK_EVERY_S)
        self._confirm(result)
        self._passes += 1
        nexts: list[float] = [] if reading.next_score is None else [reading.next_score]
        self._claim_all(reading, result, nexts)
        self._serve_soon(reading, nexts)
        self.last_pass_s = reading.now_s
        self._pass_by(reading)
        if self.audit is not None and reading.listed < self._listed / 2:  # the agenda was lost, or much of it
            self.audit.due_boot = 0.0
        self._listed = reading.listed
        if reading.is_cut:
            result.wait_s = 0.0
        elif nexts:
            passed = self.clock.now_s() - reading.server_s
            ahead = min(nexts) - reading.now_s - passed
            result.wait_s = min(LOOK_EVERY_S, max(0.0, ahead) + self._phase_s)
        return result

    def _pass_by(self, reading: DueReading) -> None:
        """Have the next pass begin behind the jobs of a newer cronq, which stay where they are, as long as more is due.

        There they are looked at once in a round, however many they are.
        """
        newer = reading.newer + self._newer
        self._passed_by = self._passed_by + newer if reading.is_cut else 0
        if newer and not self._has_said_newer:
            self._has_said_newer = True
            log.warning("LEFT to newer beats: due jobs that a newer cronq stored (now %d); upgrade this one", newer)

    def _serve_soon(self, reading: DueReading, nexts: list[float]) -> None:
        """Have what is held back elsewhere and due served right after this pass; wake for the next of it."""
        first, following = reading.held_back
        if self.serving is not None and first is not None and first <= reading.now_s:
            self.serving.due_boot = 0.0
        if following is not None:
            nexts.append(following)

    def _check_clock(self, reading: DueReading) -> None:
        note = self.clock.observe(reading.server_s)
        if note:
            log.warning("CLOCK %s", note)

    def facts(self) -> dict[str, Any]:
        """What this beat says of itself besides being alive."""
        offset = self.clock.offset_s
        return {
            "clock_offset_s": None if offset is None else round(offset, 3),
            "won": self.won,
            "last_pass": self.last_pass_s,
            "holding": self.clock.holding,
        }

    # Deciding

    def _claim_all(self, reading: DueReading, result: PassResult, nexts: list[float]) -> None:
        """Decide and claim, the next batch being decided while Redis works on the last one."""
        sent: deque[_Sent] = deque()
        last: Future[list[Answer]] | None = None
        damaged: set[str] = set()  # touched by the sender alone
        try:
            for claims in self._batches(reading, nexts):
                token = f"{self._id}-{self._passes}-{claims[0].spec.name}-{claims[0].decision.tick}"
                last = self._sender.send(last, damaged, claims, token, reading.now_s)
                sent.append(_Sent(last, claims, token))
                if len(sent) > 1:
                    self._take(sent, reading, result)
            while sent:
                self._take(sent, reading, result)
        except Exception:
            self._unconfirmed += sent
            raise

    def _batches(self, reading: DueReading, nexts: list[float]) -> Iterator[list[TickClaim]]:
        claims: list[TickClaim] = []
        specs = self._specs_of(reading.due)
        made = self._newer = 0
        for due in reading.due:
            if made >= _MOST_TICKS:
                nexts.append(0.0)  # the rest follows at once, after the chores
                break
            spec = specs.get(due.name)
            if isinstance(spec, SpecTooNew):
                self._newer += 1
                continue
            decided = self._decided_or_not(due, spec, reading, nexts)
            made += len(decided)
            claims += decided
            while len(claims) >= self.batch:
                yield claims[: self.batch]
                claims = claims[self.batch :]
        if claims:
            yield claims

    def _decided_or_not(
        self, due: DueJob, spec: JobSpec | None, reading: DueReading, nexts: list[float]
    ) -> list[TickClaim]:
        """Nothing about one job stops another: whatever is wrong, it is said once and the job looked at again later."""
        try:
            decided = self._decided(due, spec, reading, nexts)
        except Exception as error:
            self._cannot(due.name, error, reading)
            return []
        if decided:
            self._broken.pop(due.name, None)
        return decided

    def _decided(self, due: DueJob, spec: JobSpec | None, reading: DueReading, nexts: list[float]) -> list[TickClaim]:
        if spec is None or due.damaged or due.mark is None:
            self._mend(due.name, "its definition or state is missing or cannot be read", reading)
            return []
        if due.mark > reading.now_s + MARK_AHEAD_S:
            self._mend(due.name, "its mark is in the future", reading)
            return []
        try:
            decisions = decide(spec, due.mark, due.pause, reading.now_s)
        except CronqError as error:
            self._mend(due.name, str(error), reading)
            return []
        if not decisions:
            following = spec.schedule.next_after(due.mark) if spec.schedule is not None else None
            self.jobs.reschedule(due.name, following)
            return []
        last = decisions[-1].next_tick
        if last is not None:
            nexts.append(last)
        return [TickClaim(spec, due.version, decision) for decision in decisions]

    def _specs_of(self, due: Sequence[DueJob]) -> dict[str, JobSpec | SpecTooNew]:
        """The specs of these jobs; only those that changed since they were last read come from Redis."""
        found: dict[str, JobSpec | SpecTooNew] = {}
        spec: JobSpec | SpecTooNew
        wanted: dict[str, str] = {}
        for job in due:
            cached = self._specs.get(job.name)
            if cached is not None and cached[0] == job.version:
                found[job.name] = cached[1]
            elif not job.damaged:
                wanted[job.name] = job.version
        if wanted:
            for name, raw in self.jobs.specs(wanted).items():
                try:
                    spec = JobSpec.from_json(raw, name=name)
                except SpecTooNew as error:
                    spec = error
                except Exception as error:  # whatever stands there: that job is mended, the others go on
                    log.debug("job %s: %s", name, error)
                    continue
                found[name] = spec
                self._specs[name] = (wanted[name], spec)
            while len(self._specs) > _CACHED_SPECS:
                self._specs.popitem(last=False)
        return found

    # Claiming

    def _take(self, sent: deque[_Sent], reading: DueReading, result: PassResult) -> None:
        """The answers to the oldest of the batches *sent*; it stays there when they do not come."""
        answers = sent[0].answers.result()
        claims = sent.popleft().claims
        talkative = len(claims) <= 20
        if not talkative and answers.count(QUEUED) == len(answers):
            self.won += len(answers)
            result.codes["won"] = result.codes.get("won", 0) + len(answers)
            self.repair.forget(claim.spec.name for claim in claims)
            log.info("QUEUED %d due ticks", len(claims))
            return
        decided: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for claim, answer in zip(claims, answers, strict=True):
            result.count(answer.code)
            self._note(claim, answer, reading, talkative)
            if answer.code == "won" and answer.detail != "queued":
                decided.setdefault((claim.spec.name, answer.detail), []).append((claim.decision.tick, answer.key))
        for (name, outcome), ticks in decided.items():
            last, reason = ticks[-1]
            many = f"{len(ticks)} ticks from {iso(ticks[0][0])} to " if len(ticks) > 1 else ""
            log.info("%s job=%s tick=%s%s: %s", outcome.upper(), name, many, iso(last), reason)
        if not talkative:
            log.info("QUEUED %d of %d due ticks", sum(answer.detail == "queued" for answer in answers), len(claims))

    def _note(self, claim: TickClaim, answer: Answer, reading: DueReading, talkative: bool) -> None:
        name, tick = claim.spec.name, claim.decision.tick
        if answer.code in ("won", "mine"):
            self.won += 1
            self.repair.forget([name])
            if answer.code == "mine":
                log.info("WON job=%s tick=%s; the first reply was lost", name, iso(tick))
            elif answer.detail == "queued" and talkative:
                log.info(
                    "QUEUED job=%s tick=%s late=%.2fs%s", name, iso(tick), reading.now_s - tick,
                    f" ({claim.decision.reason})" if claim.decision.trigger == "catchup" else "",
                )  # fmt: skip
        elif answer.code == "broken":
            self._mend(name, answer.detail, reading, answer.key, answer.kind)
        elif answer.code == "future":
            log.error("REFUSED job=%s tick=%s is later than the server's time", name, iso(tick))
        else:
            log.debug("%s job=%s tick=%s %s", answer.code.upper(), name, iso(tick), answer.detail)

    def _mend(self, name: str, reason: str, reading: DueReading, key: str = "", kind: str = "") -> None:
        self._specs.pop(name, None)
        try:
            is_whole = self.repair.repair(name, reason, reading.now_s, key, kind)
        except Exception as error:
            self._cannot(name, error, reading)
            return
        if not is_whole:
            self.jobs.postpone(name, reading.now_s + _POSTPONE_S)

    def _cannot(self, name: str, error: Exception, reading: DueReading) -> None:
        """Postpone a job that can be neither claimed nor mended; raises what is no fault of the job."""
        if isinstance(error, RedisError | OSError) and is_general(error):
            raise error
        self._specs.pop(name, None)
        self._broken[name] = say_once(self._broken.get(name, ""), f"job={name}", error)
        self.jobs.postpone(name, reading.now_s + _POSTPONE_S)

    def _confirm(self, result: PassResult) -> None:
        """Find out what became of claims whose reply was lost with the connection."""
        while self._unconfirmed:
            answers, claims, token = self._unconfirmed[0]
            wait([answers])  # it may have been the second on its way, and still be
            held = self.jobs.dedup_holders([(claim.spec.name, claim.decision.tick) for claim in claims])
            self._unconfirmed.popleft()
            for claim, holder in zip(claims, held, strict=True):
                if holder == token:
                    self.won += 1
                    result.count("mine")
                    log.info("WON job=%s tick=%s; the reply was lost", claim.spec.name, iso(claim.decision.tick))

    # Chores and trouble

    def do_chores(self) -> bool:
        """Do the chores that are due; whether one has more to do at once."""
        return do_chores(self.chores, self.clock.now_s, self._troubled)

    def _troubled(self, error: Exception) -> None:
        if is_general(error):
            for chore in self.chores:
                chore.outage()
        self._outage.noticed(error)
