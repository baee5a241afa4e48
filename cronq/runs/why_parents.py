"""What `why` says of parents: those that a run waits for, those that blocked it, those that start it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cronq.runs.facts import Facts, ParentFact, Told, when
from cronq.runs.run import Run
from cronq.timetext import format_duration, iso

#: So many parents are named.
_MOST_NAMED = 5
#: How a run stands now, and how it stood.
_NOW = {
    "succeeded": "has succeeded", "failed": "failed", "timed_out": "timed out", "stopped": "was stopped",
    "lost": "was lost", "skipped": "was skipped", "missed": "was missed", "expired": "expired",
    "paused": "did not run, for it was paused", "blocked": "was blocked", "coalesced": "did not run, a later one did",
    "queued": "is queued", "waiting": "is waiting", "running": "is running", "retrying": "is retrying",
}  # fmt: skip
_THEN = {
    "succeeded": "had succeeded", "failed": "had failed", "timed_out": "had timed out", "stopped": "had been stopped",
    "lost": "had been lost", "skipped": "had been skipped", "missed": "had been missed", "expired": "had expired",
    "paused": "had been paused", "blocked": "had been blocked", "coalesced": "had not run, a later one had",
    "queued": "was still queued", "waiting": "was still waiting", "running": "was still running",
    "retrying": "was still retrying",
}  # fmt: skip


def waits_for_parents(facts: Facts, run: Run) -> Told:
    """A run that waits until its parents have succeeded."""
    parents = facts.parents
    if not parents:
        return "waits_for_parents", f"{run.run_id} {run.reason}", "cronq graph {name}"
    first = parents[0]
    words = f"{run.run_id} waits for its parent{'s' if len(parents) > 1 else ''} {_named(parents, _now)}"
    if all(parent.state == "succeeded" and parent.tick is not None for parent in parents):
        return "waits_for_parents", f"{words}: a beat lets it go within seconds", "cronq beats"
    if first.behind is not None:
        words = f"{words}. {_sentence(first.behind.words)}"
    words += _ends(facts, run)
    if not first.is_job:
        return "no_parent", words, "cronq graph {name}"
    return "waits_for_parents", words, _command(first)


def blocked(facts: Facts, run: Run) -> Told:
    """A tick whose parents had not succeeded when the next tick of its job was due."""
    parents = facts.parents
    if not parents:
        return "blocked", f"the tick at {when(run.tick)} did not run: {run.reason}", "cronq show {name}"
    first = parents[0]
    kind = "parents had not succeeded:" if len(parents) > 1 else "parent"
    words = f"the tick at {when(run.tick)} did not run: when its next tick fell due, its {kind} "
    words += _named(parents, _then)
    if first.behind is not None:
        words = f"{words}. {_sentence(first.behind.words)}"
    if not first.is_job:
        return "blocked", f"{words}. {first.name} is no job{_removed(first)}", "cronq graph {name}"
    return "blocked", words, _why(first)


def after_others(facts: Facts) -> Told:
    """A job that runs after others, and has not been started."""
    spec, parents = facts.job.spec, facts.parents
    name, last = spec.name, facts.run if facts.run is not None else facts.around[0]
    verb = "ended" if spec.on_parent_failure == "run" else "succeeded"
    which = f"{name} runs after {_list(spec.after)}"
    which += f", when {'each of them' if len(spec.after) > 1 else 'that'} has {verb} since "
    if facts.at_s is not None:
        told = f"{name} was not started at {when(facts.at_s)}: it {which.removeprefix(f'{name} ')}its own last start"
        return "after", f"{told}. {_around(facts)}", "cronq history {name}"
    which += f"its own last start at {when(last.tick)}" if last is not None else "it was made"
    missing = [parent for parent in parents if not parent.has_come]
    come = [parent.name for parent in parents if parent.has_come]
    has = f"{_list(come)} {'have' if len(come) > 1 else 'has'}, but " if come else ""
    if not missing:
        return "after", f"{which}. All of them have: a beat starts it within seconds", "cronq beats"
    words = f"{which}. {has}" + _named(missing, lambda each: _not_come(each, verb))
    first = missing[0]
    if first.behind is not None:
        words = f"{words}. {_sentence(first.behind.words)}"
    return ("after", words, _why(first)) if first.is_job else ("no_parent", words, "cronq graph {name}")


def in_order_of_trouble(parent: ParentFact) -> tuple[int, str]:
    """Sorts parents: first what will never come by itself, last what is at work."""
    if not parent.is_job:
        return 0, parent.name
    state = parent.run.state if parent.run is not None else None
    place = {"done": 1, None: 2, "retrying": 3, "waiting": 4, "queued": 5, "running": 6}
    return place.get(state, 2), parent.name


def _named(parents: Sequence[ParentFact], told: Callable[[ParentFact], str]) -> str:
    words = [told(parent) for parent in parents[:_MOST_NAMED]]
    more = len(parents) - len(words)
    return "; ".join(words) + (f"; and {more:,} more" if more else "")


def _now(parent: ParentFact) -> str:
    if not parent.is_job:
        return f"{parent.name}, which is no job{_removed(parent)}"
    if parent.tick is None:
        return f"{parent.name}, which has not succeeded since"
    state = parent.state
    return f"{parent.label}, which {'has no run yet' if state is None else _NOW.get(state, f'is {state}')}"


def _then(parent: ParentFact) -> str:
    if parent.then is None:
        return f"{parent.label} had {'not run' if parent.tick is not None else 'not succeeded since'}"
    return f"{parent.label} {_THEN.get(parent.then, f'was {parent.then}')}"


def _not_come(parent: ParentFact, verb: str) -> str:
    if not parent.is_job:
        return f"{parent.name} is no job{_removed(parent)}"
    return f"{parent.name} has not {verb} since"


def _removed(parent: ParentFact) -> str:
    note = parent.removal
    return "" if note is None else f" (removed at {when(note.at_s)}{f' by {note.by}' if note.by else ''})"


def _ends(facts: Facts, run: Run) -> str:
    """What becomes of a run that waits for too long."""
    schedule = facts.job.spec.schedule
    following = schedule.next_after(run.tick) if schedule is not None and run.tick is not None else None
    if following is None or facts.job.spec.backfill:
        return ""
    left = f", in {format_duration(following - facts.now_s)}" if following > facts.now_s else ""
    return f". Its next tick blocks it at {when(following)}{left}"


def _command(parent: ParentFact) -> str:
    """What lets the runs go that wait for *parent*."""
    is_over = parent.run is not None and parent.run.outcome not in (None, "succeeded")
    if is_over and parent.tick is not None:
        return f"cronq backfill {parent.name} --tick {iso(parent.tick)}"
    return parent.behind.next if parent.behind is not None else _why(parent)


def _why(parent: ParentFact) -> str:
    at = f" --at {iso(parent.tick)}" if parent.tick is not None else ""
    return f"cronq why {parent.name}{at}"


def _around(facts: Facts) -> str:
    """When a job that runs after others was started before the moment in question, and when after it."""
    before, after = facts.around
    if before is None and after is None:
        return "It has not been started yet"
    told = f"Before that it was started at {when(before.tick)}" if before is not None else "Before that it never was"
    return f"{told}, then {f'at {when(after.tick)}' if after is not None else 'not again'}"


def _list(names: Sequence[str]) -> str:
    few, more = names[:_MOST_NAMED], len(names) - _MOST_NAMED
    if more > 0:
        return f"{', '.join(few)} and {more:,} more"
    return " and ".join([", ".join(few[:-1]), few[-1]] if len(few) > 1 else few)


def _sentence(words: str) -> str:
    """*words* as they begin a sentence; an id stays as it is."""
    return f"The {words[4:]}" if words.startswith("the ") else words
