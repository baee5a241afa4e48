"""`config` and `check-config`: the settings, and whether the job modules are sound."""

from __future__ import annotations

from collections.abc import Callable

import click

from cronq.app.views import check_config_document, config_document, config_values
from cronq.cli.errors import words_and_code
from cronq.cli.options import as_json, call_state, load_config, need_modules, options_of_cronq
from cronq.cli.output import counted, print_json, print_line, print_table, say, say_no_job
from cronq.errors import CronqError, DefinitionError
from cronq.timetext import format_duration


@click.command("check-config")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@as_json
@options_of_cronq
@click.pass_context
def check_config_command(ctx: click.Context, modules: tuple[str, ...], json_: bool) -> int:
    """Check the settings and the jobs of MODULEs (default: CRONQ_JOBS), for CI. Needs no Redis: one is only asked for
    the calendars that jobs name, and for parents that no module defines, and need not answer.

    One line for each fault, with its place and the remedy; exit 78 when there are any.
    """
    from cronq.app.app import Cronq

    config = load_config(ctx, jobs=modules)
    need_modules(config, "check-config")
    app = Cronq(config=config)
    app.load_jobs()
    definitions = app.definitions()
    asked = [*_asked_for("parents", app.parent_problems_of_definitions, ctx)]
    refused = {problem.job for problem in asked}
    asked += _asked_for("calendars", app.calendar_problems_of_definitions, ctx)
    problems = [str(problem) for problem in [*definitions.problems(), *asked]]
    names = sorted(definitions.known().keys() - refused)
    if json_:
        print_json(check_config_document(names, problems))
        return DefinitionError.exit_code if problems else 0
    for problem in problems:
        print_line(problem)
    if names or problems:
        say(f"{counted(len(names), 'job')} sound, {counted(len(problems), 'fault')}")
    else:
        say_no_job(config)
    return DefinitionError.exit_code if problems else 0


def _asked_for(what: str, ask: Callable[[], list[DefinitionError]], ctx: click.Context) -> list[DefinitionError]:
    """Jobs that name calendars or parents that there are not, as far as a Redis answers."""
    from redis.exceptions import RedisError

    try:
        return ask()
    except (RedisError, OSError, CronqError) as error:
        words, _ = words_and_code(error, call_state(ctx))
        say(f"the {what} that jobs name were not looked for: {words}")
        return []


@click.command("config")
@as_json
@options_of_cronq
@click.pass_context
def config_command(ctx: click.Context, json_: bool) -> int:
    """The settings, and where each came from: command line, environment, cronq.toml, pyproject.toml or default."""
    config = load_config(ctx)
    if json_:
        print_json(config_document(config))
        return 0
    values = config_values(config) | {"host_id": config.host}
    variables = {name: "CRONQ_REDIS_URL" if name == "url" else f"CRONQ_{name.upper()}" for name in values}
    rows = [[name, _shown(name, value), config.origin(name), variables[name]] for name, value in values.items()]
    print_table(["SETTING", "VALUE", "FROM", "VARIABLE"], rows, spare=["VARIABLE"])
    return 0


def _shown(name: str, value: object) -> str:
    if name == "catchup_rate":
        return f"{value:g} a second" if value else "none"
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value) or "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_duration(value)
    return str(value)
