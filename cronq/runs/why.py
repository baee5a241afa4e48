"""Why a tick ended as it did, or has not: facts in, one to three sentences and the next command out. No Redis here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cronq.jobs.change_notes import spec_at
from cronq.jobs.in_order import HALTING
from cronq.jobs.pause import LATE_S
from cronq.jobs.stored import StoredJob
from cronq.outcomes import BAD
from cronq.runs.cause import Cause, cause_in_words
from cronq.runs.facts import Answer, Facts, Gap, Told, when
from cronq.runs.run import Run
from cronq.runs.why_changes import (
    by_schedule_of_then,
    edited,
    forgotten,
    not_there,
    removed,
    since_last_good,
    tick_in,
)
from cronq.runs.why_parents import after_others, blocked, waits_for_parents
from cronq.timetext import format_duration, iso


def asked_tick(job: StoredJob, at_s: int) -> int | None:
    """The tick that somebody means who says *at_s*: the one in that second, or the last one in that minute."""
    return tick_in(job.spec, at_s)


def late_tick(job: StoredJob, now_s: float) -> int | None:
    """The tick that should have been taken by now and was not; None when there is none."""
    if job.held_tick is not None:
        return job.held_tick
    schedule, mark = job.spec.schedule, job.state.mark
    if schedule is None or mark is None or job.next_tick is None:
        return None
    tick = schedule.next_after(mark)
    return tick if tick is not None and max(tick, job.next_tick) < now_s - LATE_S else None


def explain(facts: Facts) -> Answer:
    """The true cause, in one to three sentences, and the next command to type."""
    run = facts.run
    cause, words, command = _told(facts)
    name = facts.job.spec.name
    known = _cause_of(run) if run is not None else _UNTOLD
    return Answer(
        job=name,
        tick=facts.tick,
        due=facts.tick is not None,
        outcome=run.outcome if run is not None else None,
        reason=run.reason if run is not None else None,
        cause=cause,
        words=words,
        next=command.replace("{name}", name),
        other=known.other,
        parents=facts.parents,
    )


def _told(facts: Facts) -> Told:
    run, removal = facts.run, facts.removal
    if removal is not None:
        if run is None or facts.at_s is None:
            return removed(facts, removal)
        cause, words, _ = _of_run(facts, run)
        return cause, f"{words}. The job was removed at {when(removal.at_s)}", _HISTORY
    if _is_kept_by_pause(facts):
        return _paused_now(facts)
    if run is not None and not _is_past(facts, run):
        return _of_run(facts, run)
    if facts.tick is not None and run is None:
        return not_there(facts) or _unrecorded(facts, facts.tick)
    return _not_due(facts)


def _of_run(facts: Facts, run: Run) -> Told:
    return _of_outcome(facts, run) if run.outcome is not None else _of_open(facts, run)


def _is_past(facts: Facts, run: Run) -> bool:
    """Return True if a job that runs after others has ended its last run, and some of them have come further since."""
    return facts.at_s is None and run.outcome is not None and any(parent.has_come for parent in facts.parents)


def _is_kept_by_pause(facts: Facts) -> bool:
    """Return True if somebody asks about the present, and a pause keeps the job from having another run."""
    pause, spec, run = facts.job.state.pause, facts.job.spec, facts.run
    if facts.at_s is not None or pause is None or not pause.covers(int(facts.now_s)):
        return False
    if run is None:
        return facts.tick is None and (spec.schedule is not None or bool(spec.after))
    return run.outcome not in (None, "paused") and (spec.schedule is not None or bool(spec.after))


def _paused_now(facts: Facts) -> Told:
    name, pause, run = facts.job.spec.name, facts.job.state.pause, facts.run
    assert pause is not None
    until = f" until {when(pause.until)}" if pause.until is not None else ""
    words = f"{name} is {pause.reason}{until}: its ticks are recorded, and do not run"
    if run is not None:
        words += f". Before that {run.run_id} was the last: {run.outcome}"
    return "paused", words, "cronq resume {name}"


_HISTORY, _NEXT = "cronq history {name}", "cronq next {name}"


# Ticks that the ledger does not have


def _not_due(facts: Facts) -> Told:
    spec = facts.job.spec
    if facts.at_s is not None and spec.schedule is not None:
        then, _ = spec_at(spec, facts.notes, facts.at_s)
        spec = then if then.schedule is not None else spec
    schedule = spec.schedule
    absent = not_there(facts)
    found = edited(facts) or (absent if schedule is None else None)
    if found is not None and facts.left_out is None:
        return found
    if spec.after:
        return after_others(facts)
    if schedule is None:
        return "no_schedule", f"{spec.name} has no schedule: it runs only when somebody asks for it", "cronq run {name}"
    if facts.at_s is None:
        none = facts.job.next_tick is None
        first = f"none is to come by {schedule}" if none else f"its first is at {when(facts.job.next_tick)}"
        return "never", f"{spec.name} has had no tick yet; {first}", _NEXT
    before, after = schedule.last_until(facts.at_s - 1), schedule.next_after(facts.at_s)
    around = f"its tick before was at {when(before)}, the one after is at {when(after)}"
    if facts.left_out is not None:
        what = f"{facts.left_out} does not exist in {spec.tz}: the clocks go forward over it"
        return (
            "dst_gap",
            f"{what}, and dst={spec.dst!r} says what becomes of ticks there. Of {spec.name} {around}",
            (f"cronq explain '{spec.cron}' --tz {spec.tz} --dst {spec.dst}" if spec.cron else _NEXT),
        )
    around += f". And {absent[1]}" if absent is not None else forgotten(facts, facts.at_s)
    return "not_due", f"{spec.name} ({schedule}, {spec.tz}) was not due at {when(facts.at_s)}: {around}", _NEXT


def _unrecorded(facts: Facts, tick: int) -> Told:
    name, mark = facts.job.spec.name, facts.job.state.mark
    if tick > facts.now_s:
        kept = f", but will not run then: {facts.excluded}" if facts.excluded is not None else ""
        return "not_yet", f"{name} is due at {when(tick)}, in {format_duration(tick - facts.now_s)}{kept}", _NEXT
    if mark is not None and tick <= mark:
        words = f"the ledger has no row of {name} for {when(tick)}: it is older than keep={facts.job.spec.keep} holds"
        unsure = ", or the job was made, changed or resumed after it" if not facts.notes else forgotten(facts, tick)
        return "not_kept", f"{words}{unsure}{by_schedule_of_then(facts, tick)}", _HISTORY
    if facts.awaited is not None and facts.awaited.outcome != "succeeded":
        return _early(facts, tick, facts.awaited)
    since = format_duration(facts.now_s - tick)
    if facts.place is not None:
        held = f"the tick of {name} at {when(tick)} is {since} late, and held by the catch-up rate"
        words = f"{held}: it is about number {facts.place} in line"
        if facts.beats == 0:
            return "held", f"{words}, but no beat is alive to let it through", "cronq beat"
        return "held", words, "cronq catchup"
    late = f"the tick of {name} at {when(tick)} has been due for {since} and no beat has taken it"
    gap = _gap_at(facts, facts.now_s)
    if facts.beats == 0:
        gone = f" since {when(gap.from_s)}" if gap is not None else ""
        return "no_beat", f"{late}: no beat is alive{gone}", "cronq beat"
    if gap is not None:
        check = {"clock_jumped": "clock", "stood_still": "beat", "no_beat": "beat"}.get(gap.cause, "redis")
        return gap.cause, f"{late}: {gap.words} since {when(gap.from_s)}", f"cronq check {check}"
    logs = "its log says why" if facts.beats == 1 else "their logs say why"
    return "pending", f"{late}, though {_beats(facts.beats)} alive: {logs}", "cronq check beat"


def _early(facts: Facts, tick: int, awaited: Run) -> Told:
    """A tick that waits for the one before it."""
    name, schedule, mark = facts.job.spec.name, facts.job.spec.schedule, facts.job.state.mark
    before = schedule.count(mark, tick) - 1 if schedule is not None and mark is not None else 0
    others = f", and so {'does' if before == 1 else 'do'} {before:,} before it" if before > 0 else ""
    words = f"the tick of {name} at {when(tick)} waits for {awaited.run_id}{others}: its ticks run in order"
    if awaited.outcome is None:
        _, behind, command = _of_open(facts, awaited)
        return "in_order", f"{words}. {behind}", command
    return "in_order", f"{words}, and that {_ended(awaited)}", f"cronq backfill {{name}} --tick {iso(awaited.tick)}"


def _ended(run: Run) -> str:
    words = {"timed_out": "timed out", "failed": "failed", "expired": "expired"}
    return f"{words.get(run.outcome or '', f'was {run.outcome}')}: {run.reason}"


def _beats(count: int) -> str:
    return "1 beat is" if count == 1 else f"{count} beats are"


def _gap_at(facts: Facts, moment_s: float) -> Gap | None:
    return next((g for g in facts.gaps if g.from_s < moment_s and (g.to_s is None or moment_s <= g.to_s)), None)


# Runs that have not ended


def _of_open(facts: Facts, run: Run) -> Told:
    told: dict[str, Callable[[Facts, Run], Told]] = {
        "queued": _queued, "waiting": _waiting, "running": _running, "retrying": _retrying,
    }  # fmt: skip
    return told.get(run.state, _of_newer)(facts, run)


def _queued(facts: Facts, run: Run) -> Told:
    since = f"{run.run_id} is queued since {when(run.queued_at)}"
    if facts.held_by is not None:
        command = f"cronq resume --queue {run.queue}" if facts.held_by.startswith("queue") else "cronq drain --list"
        return "queue_held", f"{since}: {facts.held_by}", command
    if not facts.is_served:
        return (
            "no_worker",
            f"{since}: no worker is alive that serves the queue {run.queue}",
            f"cronq worker {run.queue}",
        )
    return "queue_busy", f"{since}: the workers of the queue {run.queue} have not come to it yet", "cronq workers"


def _waiting(facts: Facts, run: Run) -> Told:
    reason, cause = run.reason or "", _cause_of(run)
    if cause.code == "waits_for_parents":
        return waits_for_parents(facts, run)
    if cause.code == "waits_for_run":
        behind = _behind(facts)
        return "waits_for_run", f"{run.run_id} {reason}{behind[0]}", behind[1] or "cronq show {name}"
    if cause.code == "waits_for_lock":
        held = f". The lock {cause.other} is held by {facts.lock_holder}" if facts.lock_holder is not None else ""
        return "waits_for_lock", f"{run.run_id} waits for a worker to begin it: {reason}{held}", "cronq show {name}"
    return "waits", f"{run.run_id} waits for its time{': ' if reason else ''}{reason}", "cronq delayed"


def _behind(facts: Facts) -> tuple[str, str]:
    """What the run in the way is at, and the next command to type; "" for one that is over or not known."""
    other = facts.other
    if other is None or other.outcome is not None or other.run_id == (facts.run.run_id if facts.run else None):
        return "", ""
    _, words, command = _of_open(replace(facts, run=other, other=None), other)
    return f". {words}", command


def _running(facts: Facts, run: Run) -> Told:
    took = format_duration(max(0.0, facts.now_s - (run.started_at or facts.now_s)))
    where = f" on {run.host}" if run.host else ""
    return "running", f"{run.run_id} is running since {when(run.started_at)}{where}, for {took}", "cronq show {name}"


def _retrying(facts: Facts, run: Run) -> Told:
    words = f"attempt {run.attempt} of {run.run_id} did not succeed ({run.reason})"
    return "retrying", f"{words}; the next is due at {when(run.retry_at)}", _HISTORY


def _of_newer(facts: Facts, run: Run) -> Told:
    return "unknown", f"{run.run_id} is {run.outcome or run.state}: {run.reason}", _HISTORY


# Runs and ticks that have ended


def _of_outcome(facts: Facts, run: Run) -> Told:
    told: dict[str, Callable[[Facts, Run], Told]] = {
        "succeeded": _succeeded, "failed": _failed, "timed_out": _timed_out, "stopped": _stopped, "lost": _lost,
        "skipped": _skipped, "missed": _missed, "coalesced": _coalesced, "expired": _expired, "paused": _paused,
        "blocked": blocked,
    }  # fmt: skip
    cause, words, command = told.get(run.outcome or "", _of_newer)(facts, run)
    if run.outcome in BAD and (since := since_last_good(facts, run)) is not None:
        cause, words = since[0], f"{words}. {since[1][:1].upper()}{since[1][1:]}"
    elif run.tick is not None:
        words += by_schedule_of_then(facts, run.tick)
    if run.outcome in HALTING and facts.job.spec.backfill and run.tick and run.tick == facts.job.state.mark:
        words = f"{words}. Its later ticks wait until it has succeeded"
        command = f"cronq backfill {{name}} --tick {iso(run.tick)}"
    return cause, words, command


def _succeeded(facts: Facts, run: Run) -> Told:
    if run.started_at is None:  # somebody said so
        return "succeeded", f"{run.run_id} succeeded: {run.reason}", _HISTORY
    late = f", {format_duration(run.lateness_s)} after its tick" if run.lateness_s is not None else ""
    late = f", by a backfill of {when(run.queued_at)}" if run.trigger == "backfill" else late
    took = f" and took {format_duration(run.duration_s)}" if run.duration_s is not None else ""
    return "succeeded", f"{run.run_id} succeeded: it began at {when(run.started_at)}{late}{took}", _HISTORY


def _failed(facts: Facts, run: Run) -> Told:
    attempt = f" in attempt {run.attempt}" if run.attempt > 1 else ""
    return "failed", f"{run.run_id} failed{attempt}: {run.reason}", "cronq history {name} --json"


def _timed_out(facts: Facts, run: Run) -> Told:
    took = f" after {format_duration(run.duration_s)}" if run.duration_s is not None else ""
    return "timed_out", f"{run.run_id} was ended{took}: {run.reason}", "cronq show {name}"


def _stopped(facts: Facts, run: Run) -> Told:
    return "stopped", f"{run.run_id} was stopped by {run.decided_by}: {run.reason}", "cronq run {name}"


def _lost(facts: Facts, run: Run) -> Told:
    where = f"; it was the worker {run.worker} on {run.host}" if run.worker else ""
    return "lost", f"{run.run_id} was lost: {run.reason}{where}", "cronq workers"


def _skipped(facts: Facts, run: Run) -> Told:
    reason, cause = run.reason or "", _cause_of(run).code
    if cause == "overlap":
        behind = _behind(facts)
        words = f"the tick at {when(run.tick)} was skipped, because {reason}{behind[0]}"
        return "overlap", words, behind[1] or "cronq show {name}"
    if cause == "skip":
        return "skip", f"the tick at {when(run.tick)} was {reason}", _NEXT
    if cause == "lock_busy":
        return "lock_busy", f"{run.run_id} was skipped: {reason}", _HISTORY
    if cause == "calendar":
        return "calendar", f"the tick at {when(run.tick)} was skipped: {reason}", "cronq calendar list"
    return "skipped", f"the tick at {when(run.tick)} was skipped: {reason}", _HISTORY


def _missed(facts: Facts, run: Run) -> Told:
    return _not_taken(facts, run, "was missed", "missed")


def _coalesced(facts: Facts, run: Run) -> Told:
    return _not_taken(facts, run, "did not run", "coalesced")


def _not_taken(facts: Facts, run: Run, what: str, otherwise: str) -> Told:
    """A tick that was not taken in time: the outage that it fell into is the cause, if one is known."""
    words = f"the tick at {when(run.tick)} {what}: {run.reason}"
    gap = _gap_at(facts, run.tick) if run.tick is not None else None
    if gap is None:
        return otherwise, words, _HISTORY
    span = f"from {when(gap.from_s)} to {when(gap.to_s)}" if gap.to_s is not None else f"since {when(gap.from_s)}"
    command = "cronq check redis" if gap.cause == "redis_away" else "cronq check beat --least 2"
    return gap.cause, f"{words}. {gap.words[:1].upper()}{gap.words[1:]} {span}", command


def _expired(facts: Facts, run: Run) -> Told:
    return "expired", f"{run.run_id} was not begun: {run.reason}", "cronq workers"


def _paused(facts: Facts, run: Run) -> Told:
    reason, cause = run.reason or "it was paused", _cause_of(run)
    if cause.code == "queue_paused":
        words = f"the tick at {when(run.tick)} did not run: {reason}"
        return "queue_paused", words, f"cronq resume --queue {cause.other}"
    words, pause = f"the tick at {when(run.tick)} did not run: the job was {reason}", facts.job.state.pause
    if pause is None or not pause.covers(int(facts.now_s)):
        return "paused", words, f"cronq run {{name}} --force --tick {iso(run.tick)}"
    return "paused", words, "cronq resume {name}"


_UNTOLD = Cause("")


def _cause_of(run: Run) -> Cause:
    """What the ledger says beside the outcome, or that the run waits."""
    if run.cause is not None:
        return run.cause
    return cause_in_words(run.reason or "", run.outcome, run.state) or _UNTOLD
