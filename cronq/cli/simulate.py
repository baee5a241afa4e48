"""`simulate`: what would become of each tick, before it is time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronq.app.views import simulation_rows
from cronq.cli.options import as_json, instant_option, load_config, options_of_cronq, times_are_utc
from cronq.cli.output import counted, print_json_rows, print_lines, say, say_problems
from cronq.errors import DefinitionError
from cronq.timetext import format_duration, parse_duration_s

if TYPE_CHECKING:
    from cronq.app.simulation import Outage, Simulation


def _span(_: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"--{parameter.name}") from None


@click.command("simulate")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--from", "start", metavar="TIME", required=True, help="The first moment (ISO 8601; UTC without offset).")
@click.option("--to", "end", metavar="TIME", required=True, help="The end; ticks before it are shown.")
@click.option("--beats", metavar="N", default=1, show_default=True, type=click.IntRange(1, 1000), help="So many beats.")
@click.option("--skew", metavar="SPAN", default="0s", callback=_span, help="So wrong are the clocks of their hosts.")
@click.option("--outage", "outages", metavar="FROM/TO", multiple=True, help="No beat passes then. May be repeated.")
@click.option("--seed", metavar="N", default=0, show_default=True, type=int, help="Another draw of clocks and beats.")
@click.option("--duration", metavar="SPAN", default="1s", show_default=True, callback=_span, help="Of each run.")
@as_json
@times_are_utc
@options_of_cronq
@click.pass_context
def simulate_command(
    ctx: click.Context, modules: tuple[str, ...], start: str, end: str, beats: int, skew: float,
    outages: tuple[str, ...], seed: int, duration: float, json_: bool,
) -> int:  # fmt: skip
    """What becomes of each tick from --from to --to, of the jobs of MODULEs, else of those in Redis. Changes nothing.

    Each run begins at once, takes --duration and succeeds, unless its job's timeout ends it before. Exit 78 when a
    definition is refused.
    """
    from cronq.app.app import Cronq
    from cronq.app.simulation import Scene, simulate_jobs

    begin_s, end_s = _whole(start, "--from"), _whole(end, "--to")
    if end_s <= begin_s:
        raise click.BadParameter(f"{end!r} is not after --from", param_hint="--to")
    scene = Scene(
        begin_s, end_s, beats=beats, skew_s=skew, outages=[_outage(words) for words in outages], seed=seed,
        duration_s=duration,
    )  # fmt: skip
    app = Cronq(config=load_config(ctx, jobs=modules))
    if not modules:
        app.check_url()
    simulation, problems = simulate_jobs(app, modules, scene)
    if json_:
        print_json_rows(simulation_rows(simulation))
    else:
        print_lines(f"{row['tick']}  {row['outcome']:<9}  {row['job']}" for row in simulation_rows(simulation))
    say_problems(problems)
    _say_summary(simulation, skew)
    return DefinitionError.exit_code if problems else 0


def _whole(value: str, option: str) -> int:
    found = instant_option(value, option)
    assert found is not None
    return int(found)


def _outage(words: str) -> Outage:
    from cronq.app.simulation import Outage

    first, slash, last = words.partition("/")
    if not slash:
        raise click.BadParameter(f"{words!r} is not FROM/TO", param_hint="--outage")
    outage = Outage(_whole(first, "--outage"), _whole(last, "--outage"))
    if outage.end_s <= outage.start_s:
        raise click.BadParameter(f"{words!r} ends before it begins", param_hint="--outage")
    return outage


def _say_summary(simulation: Simulation, skew: float) -> None:
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in simulation.outcomes().most_common())
    say(f"{simulation.count:,} tick{'' if simulation.count == 1 else 's'}{f': {told}' if told else ''}")
    if skew:
        for number, beat in enumerate(simulation.beats, 1):
            sign = "behind" if beat.clock_off_s < 0 else "ahead"
            off = format_duration(abs(beat.clock_off_s))
            say(f"beat {number}, its clock {off} {sign}: decided {counted(beat.taken, 'tick')}, each by Redis' time")
