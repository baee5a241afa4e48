"""The words for how a tick ends, and for what a run is before that."""

from __future__ import annotations

#: How a tick can end, with what each word says to a person.
OUTCOMES: dict[str, str] = {
    "succeeded": "it ran and returned",
    "failed": "it ran and raised, or the command exited non-zero",
    "timed_out": "it ran past its timeout and was ended",
    "stopped": "a person, or its host leaving the group, ended it",
    "lost": "its worker or its lock vanished",
    "skipped": "an earlier run was still there, or the lock was busy",
    "missed": "no beat took it within the catch-up window",
    "expired": "it was older than its ttl when a worker could start it",
    "paused": "the job was paused, or the queue in which its earlier run waits",
    "blocked": "a job it depends on had not succeeded",
    "coalesced": "a later tick was taken in its place",
}
#: Outcomes of runs that were executed; only these count for streaks and "last".
EXECUTED = ("succeeded", "failed", "timed_out", "stopped", "lost")
#: Outcomes that count as trouble.
BAD = ("failed", "timed_out", "lost")
