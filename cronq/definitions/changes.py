"""Saving, pausing, resuming and removing jobs, so that no tick from before the change fires and none goes unrecorded.

Each change first records the ticks that are pending at that moment (because no beat was alive, say), then moves the
mark to that same moment. Ticks after it follow the changed job.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from cronq.db.decode import moment
from cronq.errors import Conflict, CronqError, DefinitionError, SpecTooNew, UnknownJob
from cronq.jobs.calendar import NO_CALENDARS
from cronq.jobs.calendars import CalendarStore
from cronq.jobs.change_notes import ChangeNote, note_of_edit
from cronq.jobs.graph import in_use
from cronq.jobs.pause import Pause, check_note
from cronq.jobs.skip import MOST_SKIPS, Skip, only_ticks, ticks_of
from cronq.jobs.spec import JobSpec
from cronq.jobs.store import JobStore
from cronq.jobs.stored import StoredJob
from cronq.runs.bulk_stop import BulkStop
from cronq.runs.claim import Claimer, TickClaim
from cronq.runs.due import Decision, decide_closed, due_until, ticks_to_run
from cronq.schedule.bounds import first_ticks
from cronq.timetext import iso

log = logging.getLogger("cronq.jobs")

T = TypeVar("T")
#: How often a change is tried again when somebody else changed the job in between.
_TRIES = 8
#: Excluded ticks that are looked at to find one that would run.
_MOST_LOOKED_AT = 10_000


def _check_end(name: str, until_s: float, now_s: float) -> None:
    """Raise DefinitionError unless *until_s* is a moment to come: milliseconds, say, lie beyond all calendars."""
    if moment(until_s) is None:
        problem = f"{until_s!r} is no moment before the year 9999 in epoch seconds; leave it out to pause without end"
        raise DefinitionError(problem, job=name, field="until")
    if until_s <= now_s:
        raise DefinitionError(f"{iso(until_s)} is past; give a moment to come", job=name, field="until")


class Changes:
    """Changes jobs. *now_s* returns server time."""

    def __init__(
        self,
        jobs: JobStore,
        claimer: Claimer,
        bulk_stop: BulkStop,
        calendars: CalendarStore,
        now_s: Callable[[], float],
        keep_rows_for_s: float,
    ) -> None:
        self.jobs = jobs
        self.bulk_stop = bulk_stop
        self.calendars = calendars
        self.claimer = claimer
        self.now_s = now_s
        self.keep_rows_for_s = keep_rows_for_s

    @property
    def by(self) -> str:
        """Who makes these changes, unless a call names somebody else."""
        return self.claimer.by

    def save(self, spec: JobSpec, *, source: str, origin: str, tz_is_default: bool = False) -> str:
        """Add or update a job. Returns `created`, `changed` or `same`.

        A changed schedule or catch-up rule holds from now on: pending ticks are recorded and do not run. Any other
        change leaves them alone, so that ticks that fell into a deploy are still caught up. *tz_is_default* says that
        CRONQ_TZ decided its zone. Raises SpecTooNew for a
        job of a newer cronq.
        """
        return self._retrying(lambda: self._save(spec, source, origin, tz_is_default))

    def _save(self, spec: JobSpec, source: str, origin: str, tz_is_default: bool) -> str:
        known = self.jobs.find([spec.name]).get(spec.name)
        now_s, ticks = self.now_s(), 0
        now, note = int(now_s), ChangeNote(now_s, self.by)
        if isinstance(known, StoredJob):
            note = note_of_edit(self.by, now_s, known.spec, spec)
        if isinstance(known, StoredJob) and known.state.mark is not None:
            if known.spec.when == spec.when:
                return self.jobs.save(
                    spec, source=source, origin=origin, expected=known.version, tz_is_default=tz_is_default, note=note
                )
            known = self._close(known, now, "the job was changed before a beat took it")
            expected, ticks = known.version, known.state.ticks
        elif known is None:
            expected = ""
        elif isinstance(known, SpecTooNew):
            raise known
        else:  # damaged: whatever was there is replaced
            expected = self.jobs.version_of(spec.name)
        following = spec.due_after(now, ticks)
        return self.jobs.save(
            spec, source=source, origin=origin, expected=expected, mark=now, next_tick=following,
            tz_is_default=tz_is_default, note=note,
        )  # fmt: skip

    def pause(self, name: str, *, by: str, note: str = "", until_s: float | None = None) -> Pause:
        """Have ticks from now on recorded `paused` instead of run, until *until_s* (epoch seconds) if that is given.

        Raises UnknownJob, and DefinitionError for a note that is too long or an end that is past or in no calendar.
        """
        check_note(note)

        def change() -> Pause:
            job = self.jobs.get(name)
            now = self.now_s()
            if until_s is not None:
                _check_end(name, until_s, now)
            pause = Pause(since=now, by=by, note=note, until=until_s)
            job = self._close(job, int(now), "the job was paused before a beat took it")
            self.jobs.set_pause(job, pause, note=ChangeNote(now, by, words=note))
            return pause

        return self._retrying(change)

    def resume(self, name: str) -> bool:
        """Let ticks from now on run again; those of the pause are recorded `paused`. Returns True if it was paused."""

        def change() -> bool:
            job = self.jobs.get(name)
            if job.state.pause is None:
                return False
            now_s = self.now_s()
            now = int(now_s)
            job = self._close(job, now, "the job was resumed only after it")
            following = job.spec.due_after(now, job.state.ticks)
            mark = max(now, job.state.mark or 0)
            if job.spec.repeat is not None and job.state.ticks >= job.spec.repeat and job.state.mark is not None:
                mark = job.state.mark  # its last tick stays its last, which children wait for
            self.jobs.set_pause(job, None, mark=mark, next_tick=following, note=ChangeNote(now_s, self.by))
            return True

        return self._retrying(change)

    def skip(self, name: str, count: int, *, by: str, note: str = "") -> list[int]:
        """Have the next *count* ticks that would run recorded `skipped`. Returns them, oldest first.

        Ticks that are skipped already are among them. Raises UnknownJob, and DefinitionError for a job without ticks to
        come, more than `MOST_SKIPS` of them, or a note that is too long.
        """
        check_note(note)
        if not 1 <= count <= MOST_SKIPS:
            raise DefinitionError(f"{count!r} is not a number from 1 to {MOST_SKIPS:,}", job=name, field="count")

        def change() -> list[int]:
            job = self.jobs.get(name)
            now = self.now_s()
            wanted = self._next_to_run(job, int(now), count)
            if not wanted:
                raise DefinitionError("no tick to come would run, so there is none to skip", job=name)
            kept = [tick for tick in ticks_of(job.state.skips) if tick > (job.state.mark or 0)]
            new = tuple(tick for tick in wanted if tick not in kept)
            if len(kept) + len(new) > MOST_SKIPS:
                raise DefinitionError(f"more than {MOST_SKIPS:,} of its ticks would be skipped; pause it", job=name)
            if new:
                skips = (*only_ticks(job.state.skips, kept), Skip(new, by, note, now))
                self.jobs.set_skips(job, skips, ChangeNote(now, by, words=note))
            return wanted

        return self._retrying(change)

    def _next_to_run(self, job: StoredJob, now: int, count: int) -> list[int]:
        """The next *count* ticks of *job* that neither a pause nor its calendars exclude, as far as they are near."""
        spec, mark = job.spec, job.state.mark or 0
        if spec.schedule is None:
            return []
        calendars = self.calendars.read_sound() if spec.calendars else NO_CALENDARS
        tick, most = max(due_until(spec, now), mark), count + _MOST_LOOKED_AT
        if spec.repeat is not None:
            left = max(0, spec.repeat - job.state.ticks)
            most = left - first_ticks(spec.schedule, mark, left, tick)[1]
        return ticks_to_run(spec, tick, count, job.state.pause, calendars, (), most)

    def undo_skip(self, name: str, *, by: str) -> list[int]:
        """Let all ticks to come run that `skip` named. Returns them. Raises UnknownJob."""

        def change() -> list[int]:
            job = self.jobs.get(name)
            now = self.now_s()
            skipped = ticks_of(job.state.skips)
            undone = [tick for tick in skipped if tick > max(now, job.state.mark or 0)]
            if undone:  # one that is past, though no beat has taken it yet, must not fire now
                past = [tick for tick in skipped if (job.state.mark or 0) < tick <= now]
                self.jobs.set_skips(job, only_ticks(job.state.skips, past), ChangeNote(now, by), is_undoing=True)
            return undone

        return self._retrying(change)

    def remove(self, name: str, *, by: str, force: bool = False) -> int:
        """Remove a job and stop its runs that have not begun. Returns how many were stopped.

        Raises UnknownJob, and JobInUse when other jobs name it as a parent, unless *force* is given.

        A job that a newer cronq stored can be removed too, which helps after a downgrade; its last ticks are not
        recorded. A removal that was interrupted is finished by the next call, for which the job need not exist.
        """
        unfinished: list[int] = []

        def change() -> None:
            now = self.now_s()
            stopped = self.bulk_stop.finish_removal(name, now)
            if stopped is not None:
                unfinished.append(stopped)
            job = self.jobs.find([name]).get(name)
            if job is not None and not force and (children := self.jobs.children_of([name])[name]):
                raise in_use(name, children)
            if isinstance(job, StoredJob):
                try:
                    self._close(job, int(now), "the job was removed before a beat took it")
                except Conflict:
                    raise
                except CronqError as error:  # damage must not keep a job that somebody wants to be rid of
                    log.warning("the last ticks of job %s are not recorded: %s", name, error)
            elif isinstance(job, SpecTooNew):
                log.warning("the last ticks of job %s are not recorded: a newer cronq stored it", name)
            self.jobs.remove(name, by=by, now_s=now, keep_rows_for_s=self.keep_rows_for_s, force=force)

        try:
            self._retrying(change)
        except UnknownJob:
            if not unfinished:
                raise
        return sum(unfinished) + (self.bulk_stop.finish_removal(name, self.now_s()) or 0)

    def drop_held(self, name: str, *, by: str, note: str = "") -> list[Decision]:
        """Record the late runs of a job that the catch-up rate holds as `missed`; it goes on with its next tick.

        Returns what was recorded, oldest first. Raises UnknownJob, and DefinitionError for a note that is too long.
        """
        check_note(note)
        words = f"held by the catch-up rate, and dropped by {by}" + (f": {note}" if note else "")
        dropped: list[Decision] = []

        def change() -> None:
            job = self.jobs.get(name)
            if job.held_tick is not None:
                self._close(job, job.state.held, words, asked=dropped)

        self._retrying(change)
        return dropped

    def _close(self, job: StoredJob, now: int, words: str, asked: list[Decision] | None = None) -> StoredJob:
        """Record every pending tick of *job*: `paused` if a pause covers it, `skipped` if its calendars exclude it,
        else `missed` with *words* as its reason.

        When a person asked for that, what was recorded is added to *asked*. Returns the job with its mark at the last
        of them. Raises Conflict.
        """
        if job.state.mark is None:
            return job
        calendars = self.calendars.read_sound() if job.spec.calendars else NO_CALENDARS
        apart: int | None = None
        for _ in range(1000):  # each turn takes one tick out of a range, which it has a row beside
            mark, pause = job.state.mark, job.state.pause
            assert mark is not None
            had, skips = job.state.ticks, job.state.skips
            decisions = decide_closed(job.spec, mark, pause, now, calendars, words, apart, had, skips)
            claims = [TickClaim(job.spec, job.version, each) for each in decisions]
            if not claims:
                break
            token, is_asked = secrets.token_hex(8), asked is not None
            answers = self.claimer.claim_due(claims, token, self.now_s(), is_asked=is_asked)
            for claim, answer in zip(claims, answers, strict=True):
                if answer.code in ("stale", "gone", "moved"):
                    raise Conflict(f"job {job.spec.name!r} was changed by somebody else just now; try again")
                if answer.code == "broken":
                    raise CronqError(f"job {job.spec.name!r}: {answer.detail}; a beat moves it aside, then try again")
                if answer.code == "apart":
                    apart = int(answer.detail)
                    break
                if asked is not None and answer.code == "won" and answer.detail == "missed":
                    asked.append(claim.decision)
                ticks = claim.decision.number or job.state.ticks
                job = replace(job, state=replace(job.state, mark=claim.decision.tick, ticks=ticks))
        return job

    def _retrying(self, change: Callable[[], T]) -> T:
        for attempt in range(_TRIES):
            try:
                return change()
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(random.uniform(0, 0.02 * (attempt + 1)))  # in step they would meet again and again
        raise AssertionError("unreachable")

    def restore(self, spec: JobSpec, *, source: str, origin: str, tz_is_default: bool = False) -> str:
        """Save a job that Redis has lost; one that is there stays as it is. Raises SpecTooNew."""
        try:
            self.jobs.get(spec.name)
            return "same"
        except UnknownJob:
            return self.save(spec, source=source, origin=origin, tz_is_default=tz_is_default)
        except SpecTooNew:
            raise
        except CronqError:
            return self.save(spec, source=source, origin=origin, tz_is_default=tz_is_default)
