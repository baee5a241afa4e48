"""`plan`: what a sync would do, before a deploy does it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cronq.app.views import plan_document
from cronq.cli.options import as_json, in_utc, need_modules, open_app, options_of_cronq
from cronq.cli.output import counted, moment, print_json, print_line, say, say_no_job, say_problems
from cronq.errors import DefinitionError
from cronq.safetext import printable, shortened
from cronq.timetext import iso

if TYPE_CHECKING:
    from cronq.app.views import JobSpec, Plan, PlannedChange

_WIDTH = 80
#: Of one value: arguments may be as long as a book.
_LONGEST_VALUE = 500
_SIGNS = {"add": "+", "change": "~", "remove": "-"}


@click.command("plan")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--exit-code", is_flag=True, help="End with 1 when there is something to do, as git diff does.")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def plan_command(ctx: click.Context, modules: tuple[str, ...], exit_code: bool, json_: bool, utc: bool) -> int:
    """What `cronq sync` of MODULEs (default: CRONQ_JOBS) would do, and to which ticks. Changes nothing.

    + is added, ~ changed, - removed. Exit 78 when a definition is refused.
    """
    app = open_app(ctx, jobs=modules)
    need_modules(app.config, "plan")
    plan = app.plan()
    now_s = app.now_s()
    if json_:
        print_json(plan_document(plan))
    else:
        for change in plan.changes:
            for line in _lines(change, now_s, utc):
                print_line(line)
        for job, words in plan.warnings:
            for line in _folded(f"! {job}: {words}", "    "):
                print_line(line)
    say_problems(plan.problems)
    if app.registry.definitions or plan.problems or plan.changes:
        say(_summary(plan))
    else:
        say_no_job(app.config)
    if plan.problems:
        return DefinitionError.exit_code
    return 1 if exit_code and plan.changes else 0


def _summary(plan: Plan) -> str:
    counts = [
        f"{count} to {action}"
        for action in _SIGNS
        if (count := sum(change.action == action for change in plan.changes))
    ]
    same = f"{counted(len(plan.same), 'job')} {'is as it was' if len(plan.same) == 1 else 'are as they were'}"
    return "; ".join([*([", ".join(counts)] if counts else ["nothing to do"]), *([same] if plan.same else [])])


def _lines(change: PlannedChange, now_s: float, utc: bool) -> Iterator[str]:
    """What a person reads of one change: its job, then each fact in a line or more."""
    spec = change.spec
    words = f" {_schedule_text(spec)}" if change.action == "add" else ""
    yield from _folded(f"{_SIGNS[change.action]} {spec.name}{words} ({change.source})", "    ")
    for each in change.fields:
        yield from _folded(f"    {each.name}: {_value(each.name, each.old)} -> {_value(each.name, each.new)}", "      ")
    if change.next_before != change.next_after or change.action == "change":
        yield from _folded(f"    next: {_next_text(change, now_s, utc)}", "      ")
    if change.next_run not in (None, change.next_after):
        yield f"    runs next: {moment(change.next_run, spec.tz, now_s, force_utc=utc)}"
    if change.pending:
        yield f"    {counted(change.pending, 'tick')} that no beat has taken yet will not run"
    if change.renamed is not None:
        direction = "from" if change.action == "add" else "to"
        yield from _folded(
            f"    looks renamed {direction} {change.renamed}; the history stays with the old name", "      "
        )
    if change.tz_is_default:
        yield f"    zone {spec.tz} from CRONQ_TZ"
    for note in change.notes:
        yield from _folded(f"    {note}", "      ")


def _next_text(change: PlannedChange, now_s: float, utc: bool) -> str:
    before, after = (
        "none" if tick is None else moment(tick, change.spec.tz, now_s, force_utc=utc)
        for tick in (change.next_before, change.next_after)
    )
    if change.action == "add":
        return after
    return f"{before}, as it was" if before == after else f"{before} -> {after}"


def _schedule_text(spec: JobSpec) -> str:
    if spec.schedule is None:
        return f"after {', '.join(spec.after)}" if spec.after else "by hand"
    return f"{spec.schedule} {spec.tz}" + (f", depends on {', '.join(spec.depends_on)}" if spec.depends_on else "")


def _value(name: str, value: object) -> str:
    if name in ("start", "end") and isinstance(value, int):
        return str(iso(value))
    return shortened(value if isinstance(value, str) and value else json.dumps(value), _LONGEST_VALUE)


def _folded(line: str, indent: str) -> list[str]:
    """*line* in parts of at most 80 characters, the first indented as it is."""
    line = printable(line)
    if len(line) <= _WIDTH:
        return [line]
    return textwrap.wrap(line, _WIDTH, subsequent_indent=indent, drop_whitespace=True, break_on_hyphens=False)
