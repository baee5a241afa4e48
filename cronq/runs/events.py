"""The stream of events: everything that changes a run or a job appends one entry. Owner of the `events` key.

An entry has the fields `type` (a word of `Event`), `job` (or `lock`, or `group`) and, when it is about a run, `run`.
What somebody asked for, and each change of a job, has `by`, too: who, and from which host. It is appended by the script
that makes the change, in the same step, so that there is one entry whoever asked for the change and however often that
was sent. The stream keeps about the newest `keep_events` entries.
"""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """What happened, with the scripts in `lua/` that say so."""

    # A run, before it ends
    #: it is queued: runs/claim, enqueue, enqueue_many, backfill, reopen, readmit, reconcile, check_delayed, retry,
    #: settle, settle_and_take, mark_success, trigger; interop/serve
    QUEUED = "queued"
    #: it was made, and waits for its time: runs/delay
    DELAYED = "delayed"
    #: it waits for another time: runs/reschedule
    RESCHEDULED = "rescheduled"
    #: a worker began it, or `cronq exec`: runs/start, settle_and_take, begin
    STARTED = "started"
    #: it takes longer than its job's `warn_after`: runs/renew
    SLOW = "slow"
    #: its lock is busy, or an earlier run of its job is open, and it waits for that: runs/park, claim,
    #: settle, settle_and_take, mark_success, trigger
    PARKED = "parked"
    #: it is on its queue after it waited: runs/wake_waiter, settle, settle_and_take, undo_start, give_back_lock,
    #: stop_queued, take_turns, mark_success, open_gates, release_lock
    WOKEN = "woken"
    #: its worker vanished, and it is on its queue again as its next attempt: runs/rerun
    RERUN = "rerun"
    #: its attempt failed, timed out or snoozed, and the next one waits for its time: runs/settle, settle_and_take
    RETRYING = "retrying"
    #: a worker took its id and rejected it; the stream `refused` has the reason: queue/reject
    REFUSED = "refused"

    # The outcome of a run: runs/settle and settle_and_take for one that was open, runs/claim for a tick that does not
    # run, runs/stop_all and stop_queued
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    LOST = "lost"
    SKIPPED = "skipped"
    MISSED = "missed"
    EXPIRED = "expired"
    PAUSED = "paused"
    BLOCKED = "blocked"
    COALESCED = "coalesced"

    # A job
    #: it is new: jobs/save
    JOB_CREATED = "job_created"
    #: its spec is another: jobs/save
    JOB_CHANGED = "job_changed"
    #: its ticks do not run: jobs/pause, runs/settle, settle_and_take
    JOB_PAUSED = "job_paused"
    #: its ticks run again: jobs/pause
    JOB_RESUMED = "job_resumed"
    #: some of its ticks are to be skipped: jobs/skip
    JOB_SKIPS = "job_skips"
    #: these ticks run again: jobs/skip
    JOB_SKIPS_UNDONE = "job_skips_undone"
    #: how its runs did is forgotten: jobs/reset
    JOB_RESET = "job_reset"
    #: it is gone: jobs/remove
    JOB_REMOVED = "job_removed"

    # A group of hosts
    #: it is new, or has other hosts: hosts/set_groups
    GROUP_SET = "group_set"
    #: it is gone: hosts/set_groups
    GROUP_REMOVED = "group_removed"

    # A lock
    #: a person has taken it from its holder: runs/release_lock
    LOCK_RELEASED = "lock_released"
