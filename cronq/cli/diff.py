"""`diff`: what went otherwise than on another day."""

from __future__ import annotations

import click

from cronq.app.views import difference_row
from cronq.cli.options import as_json, day_option, open_app, options_of_cronq
from cronq.cli.output import moment, print_json, print_table, say

_WORDS = {"not_run": "NOT RUN", "failed": "FAILED", "slower": "SLOWER", "moved": "MOVED"}


@click.command("diff")
@click.argument("before", metavar="DAY")
@click.argument("after", metavar="DAY")
@click.option("--tz", default="UTC", show_default=True, metavar="ZONE", help="Where those days begin and end.")
@as_json
@options_of_cronq
@click.pass_context
def diff_command(ctx: click.Context, before: str, after: str, tz: str, json_: bool) -> int:
    """What went otherwise on the second DAY than on the first, which is the one that went well.

    Days are dates, `today` or `yesterday`; of a day that is not over, as much as has passed is held against the same
    hours of the other:

    \b
        cronq diff 2026-11-20 2026-11-23
        cronq diff yesterday today --tz Europe/Berlin

    Listed are ticks that ran and now do not, new failures, runs that took three times as long (and a second more), and
    those on a host that was none of the job's before. Exit code 1 when there are any.
    """
    app = open_app(ctx)
    found = app.diff(day_option(app, before, tz), day_option(app, after, tz), tz=tz)
    if json_:
        print_json([difference_row(each) for each in found])
    elif found:
        now_s = app.now_s()
        lines = [
            [
                each.job,
                _WORDS[each.kind],
                str(each.count),
                moment(each.first, tz, now_s, force_utc=False) if each.first is not None else "-",
                each.text,
            ]
            for each in found
        ]
        print_table(["JOB", "WHAT", "TICKS", "FIRST", "HOW"], lines, below=True)
    else:
        say("nothing is worse")
    return 1 if found else 0
