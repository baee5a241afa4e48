"""`history`: what became of the ticks and the runs of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronq.app.views import run_row
from cronq.cli.options import as_json, in_utc, open_app, options_of_cronq, past_option, suggesting
from cronq.cli.output import moment, print_json, print_table, say
from cronq.errors import UnknownJob
from cronq.outcomes import OUTCOMES
from cronq.timetext import format_duration

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import Run

#: What is shown of a run that has no tick, by its trigger.
_TRIGGERS = {"delayed": "delayed", "exec": "exec"}


@click.command("history")
@click.argument("name", required=False)
@click.option(
    "-n", "count", metavar="N", type=click.IntRange(1, 10_000), help="How many at most (20, or all of a period)."
)
@click.option("--since", metavar="TIME", help="From then on: a span ago (2h) or an ISO time.")
@click.option("--until", metavar="TIME", help="Up to then: a span ago (30m) or an ISO time.")
@click.option("--outcome", type=click.Choice(sorted(OUTCOMES)), metavar="WORD", help="Only what ended so.")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def history_command(
    ctx: click.Context,
    name: str | None,
    count: int | None,
    since: str | None,
    until: str | None,
    outcome: str | None,
    json_: bool,
    utc: bool,
) -> int:
    """What became of each tick of the job NAME, newest first, and of its runs by hand.

    A tick belongs to the period in which it was due, whenever its run began; a run without a tick to that in which it
    was queued.

    Without NAME those of all jobs, and the ids in queues that workers rejected because there is no run behind them.
    """
    app = open_app(ctx)
    period = _period(app, since, until)
    if name is None:
        rows = app.history_of_all(count, outcome, **period)
    else:
        with suggesting(app, name):
            rows = app.history(name, count, outcome, **period)
    if json_:
        print_json([run_row(run) for run in rows])
        return 0
    if not rows:
        of = "" if name is None else f" of {name}"
        what = f"nothing{of} that is kept {'ended ' + outcome if outcome is not None else 'lies'}"
        if period:
            say(f"{what} in that period")
        else:
            say(f"no tick{of} has come yet" if outcome is None else what)
        return 0
    now_s, zone = app.now_s(), "UTC" if name is None else _zone(app, name)
    head = ["TICK", "OUTCOME", "LATE", "TOOK", "HOST", "RUN", "REASON"]
    lines = [line for run in rows for line in _history_rows(run, zone, now_s, utc)]
    print_table(head, lines, spare=["LATE", "HOST"], below=True)
    return 0


def _period(app: Cronq, since: str | None, until: str | None) -> dict[str, float]:
    """What --since and --until say. Raises BadParameter."""
    given = {"since_s": (since, "--since"), "until_s": (until, "--until")}
    asked = {name: (words, option) for name, (words, option) in given.items() if words is not None}
    now_s = app.now_s() if asked else 0.0
    found = {name: past_option(words, now_s, option) for name, (words, option) in asked.items() if words is not None}
    if len(found) == 2 and found["since_s"] > found["until_s"]:
        raise click.BadParameter(f"{until!r} comes before {since!r}", param_hint="--until")
    return found


def _history_rows(run: Run, zone: str, now_s: float, force_utc: bool) -> list[list[str]]:
    """The row of a run, and below it one for each earlier attempt, newest first."""
    earlier = [
        [
            f"  attempt {each.attempt}",
            each.outcome or "-",
            "-",
            format_duration(each.duration_s) if each.duration_s is not None else "-",
            each.host or "-",
            "",
            each.reason or "",
        ]
        for each in reversed(run.attempts)
    ]
    return [_history_row(run, zone, now_s, force_utc), *earlier]


def _zone(app: Cronq, name: str) -> str:
    try:
        return app.read_job(name).spec.tz
    except UnknownJob:  # removed; its history lives on
        return "UTC"


def _history_row(run: Run, zone: str, now_s: float, force_utc: bool) -> list[str]:
    when = run.tick if run.tick is not None else run.queued_at
    manual = "" if run.tick is not None else f" ({_TRIGGERS.get(run.trigger, 'by hand')})"
    if not run.job:
        manual = " (set aside)"
    elif run.trigger == "backfill":
        manual = " (backfill)"
    return [
        moment(when, zone, now_s, force_utc=force_utc) + manual,
        run.outcome or run.state,
        format_duration(run.lateness_s) if run.lateness_s is not None else "-",
        format_duration(run.duration_s) if run.duration_s is not None else "-",
        run.host or "-",
        run.run_id,
        run.reason or "" if run.outcome not in ("succeeded", None) or run.state in ("waiting", "retrying") else "",
    ]
