"""`explain`: a cron expression in words, without Redis."""

from __future__ import annotations

import click

from cronq.app.views import schedule_document
from cronq.cli.options import as_json, in_utc, instant_option, load_config, open_app, options_of_cronq
from cronq.cli.output import moment, print_json, print_line
from cronq.clock import wall_s
from cronq.errors import ScheduleError
from cronq.timetext import iso


@click.command("explain")
@click.argument("expression", nargs=-1, required=True)
@click.option("--tz", metavar="ZONE", help="IANA name of the zone (CRONQ_TZ, else UTC).")
@click.option("--dst", default="debian", show_default=True, metavar="RULE", help="debian, skip or both.")
@click.option("--from", "start", metavar="TIME", help="Count from here (ISO 8601; UTC without an offset).")
@click.option(
    "-n", "count", metavar="N", default=5, show_default=True, type=click.IntRange(1, 1000), help="How many ticks."
)
@click.option("--name", default="", help="The job's name, which H depends on.")
@click.option("--only", multiple=True, metavar="CALENDAR", help="Mark ticks that this calendar does not hold.")
@click.option("--except", "except_", multiple=True, metavar="CALENDAR", help="Mark ticks that it holds.")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def explain_command(
    ctx: click.Context, expression: tuple[str, ...], tz: str | None, dst: str, start: str | None, count: int, name: str,
    only: tuple[str, ...], except_: tuple[str, ...], json_: bool, utc: bool,
) -> int:  # fmt: skip
    """Say in words when the cron EXPRESSION fires, and what it does when clocks change. Needs no Redis but for
    calendars.

    Quote it, because of the stars:

    \b
        cronq explain '30 2 * * *' --tz Europe/Berlin
    """
    from cronq.schedule.schedule import parse_schedule
    from cronq.schedule.surprises import warnings

    text = " ".join(expression)
    tz_is_default = tz is None
    tz = load_config(ctx).tz if tz is None else tz
    tz_is_default = tz_is_default and tz != "UTC"
    try:
        schedule = parse_schedule(cron=text, tz=tz, dst=dst, seed=name)
    except ScheduleError as error:
        if len(expression) > 1 and error.field == "cron":
            raise ScheduleError(f"{error.problem}; is it quoted? cronq explain '0 7 * * 1-5'", field="cron") from None
        raise
    now_s = wall_s()
    begin = instant_option(start, "--from")
    after = int(now_s if begin is None else begin)
    ticks, notes = schedule.next_ticks(after, count), warnings(schedule, after)
    excluded = open_app(ctx).excluded_ticks(ticks, schedule.tz, only=only, except_=except_) if only or except_ else {}
    if json_:
        print_json(schedule_document(text, schedule, ticks, notes, excluded, tz_is_default=tz_is_default))
        return 0
    print_line(f"{schedule.describe()}, {f'zone {tz} from CRONQ_TZ' if tz_is_default else tz}")
    for tick in ticks:
        why = f"  {excluded[tick]}" if tick in excluded else ""
        print_line(f"  {moment(tick, tz, now_s, force_utc=utc):<26} {iso(tick)}{why}")
    for note in notes:
        print_line(f"  note: {note}")
    return 0
