"""`backfill`: the past ticks of a job, run now."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from cronq.app.views import backfill_document
from cronq.cli.options import as_json, dated, open_app, options_of_cronq, suggesting, times_are_utc
from cronq.cli.output import counted, print_json, print_line, print_table, say
from cronq.timetext import format_duration, iso

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import Backfilling, BackfillTick

#: More runs than this are begun only when somebody says that it is meant.
_MANY = 100
#: Rows of a plan that are shown at its beginning and at its end.
_SHOWN = 20
_FAILED, _INTERRUPTED = 1, 130
#: What the plan says of a tick.
_WORDS = {
    "left": "to run", "open": "on its way", "before": "has succeeded", "once": "was begun, and may not be again",
    "excluded": "excluded",
}  # fmt: skip

_OF_SEVERAL = {"before": "have succeeded", "once": "were begun, and may not be again"}


@click.command("backfill")
@click.argument("name")
@click.option("--from", "start", metavar="TIME", help="The first moment (ISO 8601; of the job's zone without offset).")
@click.option("--to", "end", metavar="TIME", help="The end; ticks before it are run. Else now.")
@click.option("--tick", metavar="TIME", help="This one tick, in place of a span; 02:30 is the last one at that time.")
@click.option("--parallel", metavar="N", default=1, show_default=True, help="So many runs may be open at once.")
@click.option("--rate", metavar="R", type=float, help="Begin at most so many runs a second: 0.5 is one in 2 s.")
@click.option("--force", is_flag=True, help="Run those again that have succeeded.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help=f"Begin more than {_MANY} runs.")
@as_json
@times_are_utc
@options_of_cronq
@click.pass_context
def backfill_command(
    ctx: click.Context, name: str, start: str | None, end: str | None, tick: str | None, parallel: int,
    rate: float | None, force: bool, dry_run: bool, yes: bool, json_: bool,
) -> int:  # fmt: skip
    """Run the ticks of the job NAME from --from on and before --to, oldest first, and wait for them.

    A tick that has succeeded is left alone, so the same command does what is left when it was interrupted. After the
    first run that does not succeed no other begins; exit 1. Ctrl-C leaves what is on its way alone.
    """
    app = open_app(ctx)
    start, end, tick = (value if value is None else dated(app, name, value) for value in (start, end, tick))
    with suggesting(app, name):
        filling = _planned(app, name, start, end, tick, force)
    if dry_run:
        if json_:
            print_json(backfill_document(filling))
        else:
            _print_plan(filling)
        return 0
    todo = len(filling.those("left"))
    if todo > _MANY and not yes:
        raise click.UsageError(f"{todo:,} runs of {name} would begin; say --yes, or look at them with --dry-run")
    if todo and not app.is_served(filling.spec.queue):
        say(f"no `cronq worker` serves the queue {filling.spec.queue!r} at the moment; the runs wait for one")
    again = _words_again(name, end, tick, parallel, rate, force)
    over, wanted = 0, len(filling.those("left", "open"))
    try:
        for each in filling.steps(parallel, rate, lambda tick: say(app.why(name, str(iso(tick.tick))).text)):
            if each.is_now == "over" and not json_:
                over += 1
                _print_over(each, f"{over:,} of {wanted:,}")
    except KeyboardInterrupt:
        on_its_way = [each.run_id for each in filling.those("open")]
        if on_its_way:
            say(f"{_some(on_its_way)} {'goes' if len(on_its_way) == 1 else 'go'} on without us")
        _say_how_to_go_on(filling, again)
        return _INTERRUPTED
    except Exception:
        _say_how_to_go_on(filling, again)
        raise
    if json_:
        print_json(backfill_document(filling))
    _say_end(filling)
    if filling.failed is None:
        return 0
    _say_how_to_go_on(filling, again)
    return _FAILED


def _planned(
    app: Cronq, name: str, start: str | None, end: str | None, tick: str | None, force: bool
) -> Backfilling:  # fmt: skip
    if (tick is None) == (start is None):
        raise click.UsageError("say which ticks: --from TIME [--to TIME], or --tick TIME")
    if tick is not None and end is not None:
        raise click.UsageError("--tick is a single tick; leave out --to")
    try:
        if tick is not None:
            return app.plan_backfill_of(name, tick, force=force)
        return app.plan_backfill(name, str(start), end, force=force)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="TIME") from None


def _print_plan(filling: Backfilling) -> None:
    ticks = filling.ticks
    shown = ticks if len(ticks) <= 2 * _SHOWN else [*ticks[:_SHOWN], *ticks[-_SHOWN:]]
    rows = [[str(iso(each.tick)), _WORDS[each.is_now], each.outcome or "-", _why(each)] for each in shown]
    if len(shown) < len(ticks):
        rows.insert(_SHOWN, ["…", f"{len(ticks) - len(shown):,} more", "", ""])
    if rows:
        print_table(["TICK", "PLAN", "OUTCOME", "REASON"], rows, below=True)
    say(f"{counted(len(ticks), 'tick')} of {filling.spec.name}{_counts(filling)}; nothing was begun")


def _why(tick: BackfillTick) -> str:
    return "" if tick.is_now == "before" else tick.reason or ""


def _counts(filling: Backfilling) -> str:
    found = {word: len(filling.those(word)) for word in _WORDS}
    told = [
        f"{count:,} {_WORDS[word] if count == 1 else _OF_SEVERAL.get(word, _WORDS[word])}"
        for word, count in found.items()
        if count
    ]
    return f": {', '.join(told)}" if told else ""


def _print_over(tick: BackfillTick, place: str) -> None:
    took = tick.run.duration_s if tick.run is not None else None
    words = f" in {format_duration(took)}" if took is not None else ""
    why = f": {tick.reason}" if tick.outcome != "succeeded" else ""
    print_line(f"{iso(tick.tick)}  {tick.outcome or 'unknown'}{words} ({place}){why}")


def _say_end(filling: Backfilling) -> None:
    ran = [each for each in filling.ticks if each.is_now == "over"]
    good = sum(each.outcome == "succeeded" for each in ran)
    words = f"{filling.spec.name}: {good:,} of {counted(len(filling.ticks), 'tick')} ran and succeeded"
    others = [
        f"{count:,} {told}"
        for word, told in (("before", "had succeeded"), ("once", "may not begin again"), ("excluded", "are excluded"))
        if (count := len(filling.those(word)))
    ]
    say("; ".join([words, *others]))


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def _words_again(
    name: str, end: str | None, tick: str | None, parallel: int, rate: float | None, force: bool
) -> list[str]:  # fmt: skip
    """The command that does what is left, but for where it begins."""
    words = [name]
    words += ["--to", end] if end is not None else []
    words += ["--parallel", str(parallel)] if parallel != 1 else []
    words += ["--rate", f"{rate:g}"] if rate is not None else []
    return words + (["--force"] if force else [])


def _say_how_to_go_on(filling: Backfilling, again: list[str]) -> None:
    """Say what is left, and the command that does it: from the first tick that is left on, so with --force, too."""
    left = filling.unfinished
    if not left:
        return
    if filling.failed is not None:
        say(f"stopped at {filling.failed.run_id}: {filling.failed.outcome}; the cause is to be mended first")
    first = str(iso(left[0].tick))
    if len(filling.ticks) == 1:
        words = [again[0], "--tick", first, *(["--force"] if "--force" in again else [])]
    else:
        words = [again[0], "--from", first, *again[1:]]
    if len(left) > _MANY:
        words.append("--yes")
    say(f"{counted(len(left), 'tick')} left; go on with: cronq backfill {shlex.join(words)}")
