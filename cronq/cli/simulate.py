"""`simulate`: what would become of each tick, before it is time; or what would have become of it on a day that was."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from click.core import ParameterSource

from cronq.app.views import rehearsal_rows, simulation_rows
from cronq.cli.options import as_json, day_option, in_utc, instant_option, load_config, options_of_cronq
from cronq.cli.output import print_json_rows, print_lines, print_table, say, say_problems
from cronq.errors import DefinitionError
from cronq.timetext import format_duration, parse_duration_s

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.simulation_verbs import Outage
    from cronq.app.views import Rehearsal, Simulation

#: Of a plain simulation; a rehearsal takes what the ledger knows, else nothing.
_DURATION = "1s"


def _span(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_duration_s(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"--{parameter.name}") from None


@click.command("simulate")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--from", "start", metavar="TIME", help="The first moment (ISO 8601; UTC without offset).")
@click.option("--to", "end", metavar="TIME", help="The end; ticks before it are shown.")
@click.option("--rehearse", "day", metavar="DAY", help="Instead: a day that was, with its runs and outages.")
@click.option("--tz", default="UTC", show_default=True, metavar="ZONE", help="Where that DAY begins and ends.")
@click.option("--beats", metavar="N", default=1, show_default=True, type=click.IntRange(1, 1000), help="So many beats.")
@click.option("--skew", metavar="SPAN", default="0s", callback=_span, help="So wrong are the clocks of their hosts.")
@click.option("--outage", "outages", metavar="FROM/TO", multiple=True, help="No beat passes then. May be repeated.")
@click.option("--seed", metavar="N", default=0, show_default=True, type=int, help="Another draw of clocks and beats.")
@click.option("--duration", metavar="SPAN", callback=_span, help=f"Of each run of which nothing is known: {_DURATION}.")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def simulate_command(ctx: click.Context, /, modules: tuple[str, ...], json_: bool, **given: Any) -> int:
    """What becomes of each tick from --from to --to, of the jobs of MODULEs, else of those in Redis. Changes nothing.

    Each run begins at once, takes --duration and succeeds, unless its job's timeout ends it before.

    With --rehearse: what would have become of the ticks of that DAY, a date, `today` or `yesterday`. Runs take as long
    as the ledger says, beats are away as they were. A line for each job of which something is otherwise, or collides.

    Exit 78 when a definition is refused.
    """
    from cronq.app.app import Cronq

    _check_words(ctx, given)
    app = Cronq(config=load_config(ctx, jobs=modules))
    if not modules or given["day"]:
        app.check_url()
    problems = _rehearse(app, modules, given, json_) if given["day"] else _simulate(app, modules, given, json_)
    return DefinitionError.exit_code if problems else 0


def _check_words(ctx: click.Context, given: dict[str, Any]) -> None:
    """Raise UsageError unless either a span or a day is given, with the options that go with it."""
    span = given["start"] is not None, given["end"] is not None
    if given["day"] is None and not all(span):
        raise click.UsageError("give --from and --to, or --rehearse DAY")
    if given["day"] is not None and any(span):
        raise click.UsageError("--rehearse DAY says from when to when; leave --from and --to out")
    for option in ("tz",) if given["day"] is None else ("beats", "skew", "seed"):
        if ctx.get_parameter_source(option) is not ParameterSource.DEFAULT:
            words = "only goes with --rehearse" if given["day"] is None else "does not go with --rehearse"
            raise click.UsageError(f"--{option} {words}; leave it out")


def _simulate(app: Cronq, modules: tuple[str, ...], given: dict[str, Any], json_: bool) -> bool:
    from cronq.app.simulation_verbs import Scene

    begin_s, end_s = _whole(given["start"], "--from"), _whole(given["end"], "--to")
    if end_s <= begin_s:
        raise click.BadParameter(f"{given['end']!r} is not after --from", param_hint="--to")
    duration_s = given["duration"] if given["duration"] is not None else parse_duration_s(_DURATION)
    scene = Scene(
        begin_s, end_s, beats=given["beats"], skew_s=given["skew"], seed=given["seed"], duration_s=duration_s,
        outages=[_outage(words) for words in given["outages"]],
    )  # fmt: skip
    simulation, problems = app.simulate(modules, scene)
    if json_:
        print_json_rows(simulation_rows(simulation))
    else:
        print_lines(f"{row['tick']}  {row['outcome']:<9}  {row['job']}" for row in simulation_rows(simulation))
    say_problems(problems)
    _say_summary(simulation, given["skew"])
    return bool(problems)


def _whole(value: str, option: str) -> int:
    found = instant_option(value, option)
    assert found is not None
    return int(found)


def _outage(words: str) -> Outage:
    from cronq.app.simulation_verbs import Outage

    first, slash, last = words.partition("/")
    if not slash:
        raise click.BadParameter(f"{words!r} is not FROM/TO", param_hint="--outage")
    outage = Outage(_whole(first, "--outage"), _whole(last, "--outage"))
    if outage.end_s <= outage.start_s:
        raise click.BadParameter(f"{words!r} ends before it begins", param_hint="--outage")
    return outage


def _ticks(count: int) -> str:
    return f"{count:,} tick{'' if count == 1 else 's'}"


def _counts(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())


def _say_summary(simulation: Simulation, skew: float) -> None:
    told = _counts(simulation.outcomes())
    say(f"{_ticks(simulation.count)}{f': {told}' if told else ''}")
    if skew:
        for number, beat in enumerate(simulation.beats, 1):
            sign = "behind" if beat.clock_off_s < 0 else "ahead"
            off = format_duration(abs(beat.clock_off_s))
            say(f"beat {number}, its clock {off} {sign}: decided {_ticks(beat.taken)}, each by Redis' time")


def _rehearse(app: Cronq, modules: tuple[str, ...], given: dict[str, Any], json_: bool) -> bool:
    tz = given["tz"]
    day = day_option(app, given["day"], tz, "--rehearse")
    outages = [_outage(words) for words in given["outages"]]
    rehearsal, problems = app.rehearse(modules, day, tz=tz, outages=outages, duration_s=given["duration"] or 0.0)
    jobs = rehearsal.jobs()
    if json_:
        print_json_rows(rehearsal_rows(rehearsal))
    elif jobs:
        zone = ZoneInfo("UTC" if given["utc"] else tz)
        lines = [
            [
                each.job,
                _counts(each.was) or "-",
                _counts(each.now) or "-",
                f"{each.count:,}",
                f"{datetime.fromtimestamp(each.first, zone):%H:%M:%S}".removesuffix(":00"),
                each.text,
            ]
            for each in jobs
        ]
        head = ["JOB", "THAT DAY", "REHEARSED", "ODD", "FIRST", "HOW"]
        print_table(head, lines, cut=["THAT DAY", "REHEARSED"], below=True)
    say_problems(problems)
    _say_rehearsal(rehearsal)
    return bool(problems)


def _say_rehearsal(rehearsal: Rehearsal) -> None:
    now = Counter(each.outcome for each in rehearsal.ticks if each.outcome is not None)
    gone = sum(each.outcome is None for each in rehearsal.ticks)
    new = sum(each.recorded is None for each in rehearsal.ticks)
    other = sum(each.differs for each in rehearsal.ticks) - gone - new
    parts = [
        f"{other:,} otherwise than that day" if other else "",
        f"{new:,} without a row of that day" if new else "",
        f"{gone:,} no tick any more" if gone else "",
    ]
    say(f"{_ticks(now.total())}{f': {_counts(now)}' if now else ''}")
    say(", ".join(part for part in parts if part) or "all as that day")
    for note in rehearsal.notes:
        say(note)
