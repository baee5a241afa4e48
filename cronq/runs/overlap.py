"""What the rules of `overlap` ask for: no Redis and no clock. The claim script carries them out."""

from __future__ import annotations

import re

#: Rules by which a tick may wait for an earlier run of its job.
_WAITING = ("queue", "latest", "replace")
#: Rules by which only the newest of several ticks is to run.
_NEWEST = ("latest", "replace")
#: A wish to stop as the claim script writes it for the rule `replace`; any other names only who asked.
_REPLACED = re.compile(r"(.*) \((replaced by the run [^ ()]+)\)")


def rule_of_tick(rule: str, trigger: str, catchup: str) -> str:
    """The rule that the claim of one tick goes by, of a job whose option says *rule*.

    Each caught-up tick of catchup="all" is asked for, so the ones before it do not push it out.
    """
    return "allow" if rule == "skip" and trigger == "catchup" and catchup == "all" else rule


def may_wait(rule: str) -> bool:
    """Return True if a tick waits under *rule* for what is in its way, instead of being skipped."""
    return rule in _WAITING


def keeps_newest(rule: str) -> bool:
    """Return True if under *rule* the newest of several ticks runs in place of all."""
    return rule in _NEWEST


def read_wish(wish: str) -> tuple[str, str]:
    """Who asked a run to stop, and why, from the *wish* that stands in Redis."""
    replaced = _REPLACED.fullmatch(wish)
    return (replaced[1], replaced[2]) if replaced is not None else (wish, f"{wish} asked for it")
